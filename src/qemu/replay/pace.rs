//! How fast a capture is played: as fast as it goes, or as it was recorded.

use crate::error::CaptureError;
use crate::qemu::capture::{Inspection, Times};
use crate::time::Nanos;

/// How fast a capture is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// As fast as the destination takes it.
    #[default]
    Full,
    /// No byte before the time at which it came when it was recorded.
    Recorded,
}

impl Pace {
    /// As the command line and the report have it.
    pub fn name(self) -> &'static str {
        match self {
            Pace::Full => "full",
            Pace::Recorded => "recorded",
        }
    }
}

/// The recorded times of every connection.
#[derive(Debug)]
pub(super) struct Recording {
    connections: Vec<Times>,
}

impl Recording {
    /// Opens and checks the times that were recorded with a capture.
    pub(super) fn open(inspection: &Inspection) -> Result<Recording, CaptureError> {
        let times = inspection.connections.iter().map(|connection| {
            // all of them once: what is wrong is found before anything is sent
            let mut times = Times::open(connection)?;
            times.reached(Nanos::MAX)?;
            Times::open(connection)
        });
        Ok(Recording { connections: times.collect::<Result<_, _>>()? })
    }

    /// So much of a connection had come after so long.
    pub(super) fn reached(&mut self, connection: usize, elapsed: Nanos) -> Result<u64, CaptureError> {
        self.connections[connection].reached(elapsed)
    }

    /// When more of it came.
    pub(super) fn next(&self, connection: usize) -> Option<Nanos> {
        self.connections[connection].next()
    }
}

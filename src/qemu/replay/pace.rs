//! How fast a capture is replayed: at full speed, or with the recorded timing.

use crate::error::CaptureError;
use crate::numbers::ConnectionIdx;
use crate::qemu::capture::{Inspection, Times};
use crate::time::Nanos;

/// How fast a capture is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// As fast as the destination takes it.
    #[default]
    Full,
    /// No byte earlier than it arrived in the recording.
    Recorded,
}

impl Pace {
    /// The name in the command line and in the report.
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
    /// Opens and checks the times recorded with a capture.
    pub(super) fn open(inspection: &Inspection) -> Result<Recording, CaptureError> {
        let times = inspection.connections.iter().map(|connection| {
            // read all of them once, so that any error is found before anything is sent
            let mut times = Times::open(connection)?;
            times.reached(Nanos::MAX)?;
            Times::open(connection)
        });
        Ok(Recording { connections: times.collect::<Result<_, _>>()? })
    }

    /// How much of a connection had come after `elapsed`.
    pub(super) fn reached(&mut self, connection: ConnectionIdx, elapsed: Nanos) -> Result<u64, CaptureError> {
        self.connections[connection.index()].reached(elapsed)
    }

    /// When the next bytes of it came.
    pub(super) fn next(&self, connection: ConnectionIdx) -> Option<Nanos> {
        self.connections[connection.index()].next()
    }
}

//! The caller of a transfer: receives its events, may cancel it, may set a deadline.

use std::net::SocketAddr;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::error::Error;
use crate::limits::PROGRESS_INTERVAL;
use crate::phase::Phase;
use crate::time::Nanos;
use crate::time::nanos;

/// Something that happened during a transfer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// Every connection of the session is there.
    Connected {
        /// The other end, if it has an address.
        peer: Option<SocketAddr>,
        /// Data connections.
        channels: u16,
    },
    /// Another phase began.
    Phase(Phase),
    /// Bytes moved; reported about ten times a second.
    Progress {
        /// Payload bytes so far: read by the sender, written by the receiver.
        bytes: u64,
        /// Bytes that the devices expect, when all of them know.
        estimate: Option<u64>,
        /// Since the agreement on settings.
        elapsed: Duration,
    },
    /// A connection that does not belong to a session was rejected (receiver).
    Rejected {
        /// From where.
        peer: Option<SocketAddr>,
        /// What was wrong with it.
        error: Error,
    },
}

/// Hears of events.
pub(crate) type OnEvent = Box<dyn FnMut(&Event) + Send>;

/// The one who asked for the transfer.
pub(crate) struct Caller {
    pub(crate) cancel: Cancel,
    pub(crate) deadline: Option<Nanos>,
    pub(crate) on_event: Option<OnEvent>,
    pub(crate) told_at: Nanos,
}

impl Caller {
    pub(crate) fn new(cancel: Cancel, on_event: Option<OnEvent>) -> Caller {
        Caller { cancel, deadline: None, on_event, told_at: 0 }
    }

    pub(crate) fn tell(&mut self, event: &Event) {
        if let Some(on_event) = &mut self.on_event {
            on_event(event);
        }
    }

    /// Tells progress if it is time.
    pub(crate) fn progress(
        &mut self,
        now: Nanos,
        started: Nanos,
        count: impl FnOnce() -> (u64, Option<u64>),
    ) {
        if self.on_event.is_none() || now < self.told_at + nanos(PROGRESS_INTERVAL) {
            return;
        }
        self.told_at = now;
        let (bytes, estimate) = count();
        self.tell(&Event::Progress {
            bytes,
            estimate,
            elapsed: Duration::from_nanos(now.saturating_sub(started)),
        });
    }

    /// Lets the next progress be reported whenever it comes: the last bytes of a phase must be reported, too.
    pub(crate) fn hasten(&mut self) {
        self.told_at = 0;
    }

    /// Whether the caller wants it to end now.
    pub(crate) fn check(&self, now: Nanos) -> Result<(), Error> {
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return Err(Error::Deadline);
        }
        Ok(())
    }
}

//! The only glue: it brings sources, sinks, sessions, channels and rings together, and has threads and a clock.
//!
//! [`Sender`] and [`Receiver`] mirror each other. Each runs one transfer on the thread that calls `run`: one worker, with
//! one ring, that owns every channel and device of its side. What blocks (a device's state changes) runs beside it.

mod account;
mod carrier;
mod duty;
mod ending;
mod link;
mod loader;
mod loading;
mod owner;
pub mod qemu;
mod receive;
mod receiver;
mod rendezvous;
mod send;
mod sender;
#[cfg(test)]
mod simulation;
mod socket;
mod step;

pub use owner::{Cancel, Event, Phase};
pub use receiver::{Receiver, ReceiverBuilder};
pub use rendezvous::Listener;
pub use sender::{Sender, SenderBuilder};

pub use crate::channel::ZeroCopy;
pub use crate::session::handover::Outcome;

use std::fmt;

use crate::error::{DeviceError, Error};
use crate::source::Source;
use crate::stats::{Histograms, Report};

/// How a transfer ended, on one side.
#[derive(Debug)]
pub struct Finished {
    /// Which side runs the devices now.
    pub outcome: Outcome,
    /// Why it did not end complete.
    pub error: Option<Error>,
    /// The figures.
    pub report: Report,
    /// The figures' distributions.
    pub histograms: Histograms,
    /// In doubt: the devices, stopped and with their state intact. Dropping one closes it, and the kernel may reset it
    /// then, so keep them until somebody has looked at the destination.
    pub parked: Vec<Parked>,
}

/// A device of a transfer that is in doubt.
pub struct Parked {
    /// Its name in the session.
    pub name: Box<str>,
    source: Box<dyn Source>,
}

impl Parked {
    /// The destination does not run it and never will: it goes back to where it was.
    pub fn take_back(mut self) -> Result<(), DeviceError> {
        self.source.rollback()
    }

    /// The destination runs it: it is not needed any more.
    pub fn release(mut self) -> Result<(), DeviceError> {
        self.source.release()
    }
}

impl fmt::Debug for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Parked").field(&self.name).finish()
    }
}

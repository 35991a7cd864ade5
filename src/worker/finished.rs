//! How a transfer ended, and the devices that are in doubt.

use std::fmt;

use crate::error::{DeviceError, Error};
use crate::report::{Histograms, Report};
use crate::session::handover::Outcome;
use crate::source::Source;
use crate::worker::hook::HookPanic;

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
    /// The first panic of the caller's own code. Before Commit it aborts the transfer; afterwards it changes nothing.
    pub panic: Option<HookPanic>,
}

/// A device of a transfer that is in doubt.
pub struct Parked {
    /// Its name in the session.
    pub name: Box<str>,
    pub(crate) source: Box<dyn Source>,
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

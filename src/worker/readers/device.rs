//! A device at the source, as a builder gives it to a worker. It must not know how it is read.

use crate::source::Source;
use crate::worker::guard::{Guarded, unless_panicked};

/// A device at the source.
pub(crate) struct Device {
    pub(crate) name: Box<str>,
    pub(crate) instance: u32,
    pub(crate) source: Guarded<Box<dyn Source>>,
}

impl Device {
    pub(crate) fn new(name: impl Into<Box<str>>, instance: u32, source: Box<dyn Source>) -> Device {
        Device { name: name.into(), instance, source: Guarded::new(source) }
    }

    /// Whether its state is made up; one that panics when it is asked is not.
    pub(crate) fn is_simulated(&self) -> bool {
        unless_panicked(|| Ok(self.source.is_simulated())).unwrap_or(false)
    }
}

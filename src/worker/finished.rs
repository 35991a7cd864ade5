//! How a transfer ended, what became of each device, and the devices that are in doubt.

use std::any::Any;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::error::{DeviceError, Error};
use crate::report::trace::Trace;
use crate::report::{Histograms, Report};
use crate::session::handover::Outcome;
use crate::source::Source;
use crate::worker::guard::unless_panicked;
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
    /// What became of each packet and when, if the builder was told to keep it and a worker began.
    pub trace: Option<Trace>,
    /// What became of each device.
    pub devices: Vec<DeviceEnd>,
    /// In doubt: the devices, stopped and with their state intact. Dropping one closes it, and the kernel may reset it
    /// then, so keep them until somebody has looked at the destination.
    pub parked: Vec<Parked>,
    /// The first panic of the caller's own code. Before Commit it aborts the transfer; afterwards it changes nothing.
    pub panic: Option<HookPanic>,
}

/// What became of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceEnd {
    /// Its name in the session.
    pub name: Box<str>,
    /// Tells devices of one name apart.
    pub instance: u32,
    /// Where it is now.
    pub end: EndState,
}

/// Where a device is after a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndState {
    /// Nothing was done with it.
    Untouched,
    /// A source: the destination runs it, and it is stopped here.
    Released,
    /// A source that went back to what it did before; a sink that is as it was before, like a file.
    Back,
    /// A source in doubt: stopped with its state, in [`Finished::parked`].
    Parked,
    /// A sink: it runs what was loaded.
    Runs,
    /// A sink that was reset and runs with nothing in it: whoever uses it has to set up its interrupts and registers
    /// again.
    Reset,
    /// It could not be brought to where it belongs, for this reason.
    Unknown(DeviceError),
}

/// A device of a transfer that is in doubt.
///
/// ```no_run
/// # fn decide(finished: ringlift::Finished, runs_there: bool) {
/// for mut parked in finished.parked {
///     let result = if runs_there { parked.release() } else { parked.take_back() };
///     if let Err(error) = result {
///         // it is still in there, with its state: this can be tried again
///         eprintln!("{}: {error}", parked.name);
///     }
/// }
/// # }
/// ```
pub struct Parked {
    /// Its name in the session.
    pub name: Box<str>,
    /// Tells devices of one name apart.
    pub instance: u32,
    // a source need not be Sync
    source: Mutex<Box<dyn Source>>,
}

impl Parked {
    pub(crate) fn new(name: Box<str>, instance: u32, source: Box<dyn Source>) -> Parked {
        Parked { name, instance, source: Mutex::new(source) }
    }

    /// The destination does not run it and never will: it goes back to where it was. When that fails, the device is still
    /// here, and this can be called again.
    pub fn take_back(&mut self) -> Result<(), DeviceError> {
        let source = self.source();
        unless_panicked(|| source.rollback())
    }

    /// The destination runs it: it is not needed any more. When that fails, the device is still here, and this can be
    /// called again.
    pub fn release(&mut self) -> Result<(), DeviceError> {
        let source = self.source();
        unless_panicked(|| source.release())
    }

    /// The device itself, as it is now.
    pub fn into_source(self) -> Box<dyn Source> {
        self.source.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device itself, as the type that it was given as; everything as it was if it is another.
    ///
    /// ```no_run
    /// use ringlift::source::VfioSource;
    ///
    /// # fn inspect(parked: ringlift::Parked) {
    /// match parked.downcast::<VfioSource>() {
    ///     Ok(source) => println!("still in {}", source.device().state()),
    ///     Err(parked) => println!("{} is no VFIO device", parked.name),
    /// }
    /// # }
    /// ```
    pub fn downcast<T: Source>(self) -> Result<T, Parked> {
        let Parked { name, instance, source } = self;
        let source = source.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !(&*source as &dyn Any).is::<T>() {
            return Err(Parked::new(name, instance, source));
        }
        let source: Box<dyn Any> = source;
        Ok(*source.downcast().expect("its type was compared"))
    }

    fn source(&mut self) -> &mut dyn Source {
        &mut **self.source.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parked")
            .field("name", &self.name)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

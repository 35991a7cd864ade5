//! Panics of the caller's own code: kept until the transfer has ended, and then given back. It must not know what a hook
//! is for. The invariant: the first panic is kept, with its payload.

use std::fmt;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::guard::{Payload, forget};
use crate::error::{Error, Hook};

/// A panic of the caller's own code, caught so that the devices could be brought to where they belong.
///
/// ```no_run
/// # fn wait(sender: ringlift::Sender) {
/// let finished = sender.run();
/// // first what became of the devices, and only then the panic
/// println!("{:?}, {:?}", finished.outcome, finished.devices);
/// if let Some(panic) = finished.panic {
///     panic.resume();
/// }
/// # }
/// ```
pub struct HookPanic {
    hook: Hook,
    message: Box<str>,
    // a payload need not be Sync
    payload: Mutex<Payload>,
}

impl HookPanic {
    fn new(hook: Hook, payload: Payload) -> HookPanic {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        HookPanic { hook, message: text.unwrap_or("it gave no text").into(), payload: Mutex::new(payload) }
    }

    /// Which code panicked.
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// What it said, if it was a text.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What it panicked with.
    pub fn into_payload(self) -> Box<dyn std::any::Any + Send> {
        self.payload.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on with the panic where it was caught.
    pub fn resume(self) -> ! {
        resume_unwind(self.into_payload())
    }
}

impl fmt::Debug for HookPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookPanic")
            .field("hook", &self.hook)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

/// The first panic of the caller's code, once there was one. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Panics(Arc<Mutex<Option<HookPanic>>>);

impl Panics {
    /// Keeps a panic, unless there is one already. Gives the error of this one.
    pub(crate) fn keep(&self, hook: Hook, payload: Payload) -> Error {
        let panic = HookPanic::new(hook, payload);
        let error = panic.error();
        let mut first = self.first();
        if first.is_none() {
            *first = Some(panic);
        } else {
            forget(panic.into_payload());
        }
        error
    }

    /// Fails once there was a panic.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.first().as_ref().map_or(Ok(()), |panic| Err(panic.error()))
    }

    /// The panic, at the end.
    pub(crate) fn take(&self) -> Option<HookPanic> {
        self.first().take()
    }

    fn first(&self) -> MutexGuard<'_, Option<HookPanic>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HookPanic {
    fn error(&self) -> Error {
        Error::HookPanicked { hook: self.hook, message: self.message.clone() }
    }
}

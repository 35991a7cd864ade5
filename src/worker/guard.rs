//! The caller's own code, called so that a panic in it is a value. It must not know what the code is for. The invariant:
//! whatever a worker was given by its caller is called, and dropped, through here, so no panic of it unwinds a worker.

use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::DeviceError;

/// What a panic carries.
pub(crate) type Payload = Box<dyn Any + Send>;

/// What the code gives, or what it panicked with.
pub(crate) fn caught<T>(code: impl FnOnce() -> T) -> Result<T, Payload> {
    catch_unwind(AssertUnwindSafe(code))
}

/// Gives up a payload. Its own drop is the caller's code, too, and there is no one left who could want a second panic.
pub(crate) fn forget(payload: Payload) {
    std::mem::forget(payload);
}

/// An embedder's device may panic; it is brought back anyway.
pub(crate) fn unless_panicked<T>(step: impl FnOnce() -> Result<T, DeviceError>) -> Result<T, DeviceError> {
    caught(step).unwrap_or_else(|payload| {
        forget(payload);
        Err(DeviceError::Panicked)
    })
}

/// Something that the caller made. A panic while it is dropped ends here: it must not cost the outcome of a transfer.
#[derive(Debug)]
pub(crate) struct Guarded<T>(Option<T>);

impl<T> Guarded<T> {
    pub(crate) fn new(value: T) -> Guarded<T> {
        Guarded(Some(value))
    }

    /// The value, no longer guarded.
    pub(crate) fn into_inner(mut self) -> T {
        self.0.take().expect("it is there until it is taken or dropped")
    }
}

impl<T> Deref for Guarded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is there until it is taken or dropped")
    }
}

impl<T> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("it is there until it is taken or dropped")
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        caught(move || drop(value)).unwrap_or_else(forget);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_while_something_of_the_callers_is_dropped_ends_there() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                std::panic::resume_unwind(Box::new(Bomb));
            }
        }
        drop(Guarded::new(Bomb));
        std::mem::forget(Guarded::new(Bomb).into_inner());
    }

    #[test]
    fn a_device_that_panics_has_failed() {
        let panics = || -> Result<(), DeviceError> { std::panic::resume_unwind(Box::new("as told")) };
        assert_eq!(unless_panicked(panics), Err(DeviceError::Panicked));
    }
}

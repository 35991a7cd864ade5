//! Cancelling a transfer, from any thread.
//!
//! Knows nothing of what it cancels: a waiter attaches a [`Wake`]. A waiter that was dropped is forgotten; nothing here
//! keeps it alive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Cancels transfers from any thread. Every transfer that was given a clone rolls back, unless it has committed.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    state: Arc<CancelState>,
}

#[derive(Debug, Default)]
struct CancelState {
    cancelled: AtomicBool,
    waiters: Mutex<Vec<Weak<dyn Wake>>>,
}

/// A waiter, which checks the [`Cancel`] that it was attached to when it is woken.
pub(crate) trait Wake: std::fmt::Debug + Send + Sync {
    /// Ends the wait.
    fn wake(&self);
}

impl Cancel {
    /// Not cancelled yet.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Cancels. Returns immediately; the transfer ends when its devices are back where they were.
    pub fn cancel(&self) {
        self.state.cancelled.store(true, Ordering::SeqCst);
        self.waiters().iter().filter_map(Weak::upgrade).for_each(|waiter| waiter.wake());
    }

    /// Whether [`cancel`](Cancel::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.state.cancelled.load(Ordering::SeqCst)
    }

    /// Wakes `waiter` on cancelling, until it is dropped.
    pub(crate) fn attach(&self, waiter: Weak<dyn Wake>) {
        let mut waiters = self.waiters();
        waiters.retain(|waiter| waiter.strong_count() > 0);
        waiters.push(waiter);
    }

    fn waiters(&self) -> std::sync::MutexGuard<'_, Vec<Weak<dyn Wake>>> {
        self.state.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Debug, Default)]
    struct Waiter(AtomicUsize);

    impl Wake for Waiter {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn attached(cancel: &Cancel) -> Arc<Waiter> {
        let waiter = Arc::new(Waiter::default());
        let seen: Weak<Waiter> = Arc::downgrade(&waiter);
        cancel.attach(seen);
        waiter
    }

    #[test]
    fn wakes_every_waiter_that_is_still_there() {
        let cancel = Cancel::new();
        let (stays, leaves) = (attached(&cancel), attached(&cancel));
        drop(leaves);
        let late = attached(&cancel.clone());
        cancel.cancel();
        assert!(cancel.is_cancelled());
        assert_eq!([&stays, &late].map(|waiter| waiter.0.load(Ordering::SeqCst)), [1, 1]);
        assert_eq!(cancel.waiters().len(), 2, "the one that left is forgotten");
    }
}

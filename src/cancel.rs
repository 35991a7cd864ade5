//! Cancelling a transfer, and ending its pre-copy, from any thread.
//!
//! Knows nothing of what it cancels or holds: a waiter attaches a [`Wake`]. A waiter that was dropped is forgotten;
//! nothing here keeps it alive.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Cancels transfers from any thread. Every transfer that was given a clone rolls back, unless it has committed.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    signal: Arc<Signal>,
}

/// Something that is said once, from any thread, and that waiters are woken for.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: AtomicBool,
    waiters: Mutex<Vec<Weak<dyn Wake>>>,
}

/// A waiter, which checks the signal that it was attached to when it is woken.
pub(crate) trait Wake: std::fmt::Debug + Send + Sync {
    /// Ends the wait.
    fn wake(&self);
}

impl Signal {
    fn raise(&self) {
        self.raised.store(true, Ordering::SeqCst);
        self.waiters().iter().filter_map(Weak::upgrade).for_each(|waiter| waiter.wake());
    }

    fn is_raised(&self) -> bool {
        self.raised.load(Ordering::SeqCst)
    }

    /// Wakes `waiter` when the signal is raised, until it is dropped.
    pub(crate) fn attach(&self, waiter: Weak<dyn Wake>) {
        let mut waiters = self.waiters();
        waiters.retain(|waiter| waiter.strong_count() > 0);
        waiters.push(waiter);
    }

    fn waiters(&self) -> std::sync::MutexGuard<'_, Vec<Weak<dyn Wake>>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cancel {
    /// Not cancelled yet.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Cancels. Returns immediately; the transfer ends when its devices are back where they were.
    pub fn cancel(&self) {
        self.signal.raise();
    }

    /// Whether [`cancel`](Cancel::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.signal.is_raised()
    }

    pub(crate) fn signal(&self) -> &Signal {
        &self.signal
    }
}

/// Holds a sender in pre-copy until the caller releases it, from any thread: until the memory of its virtual machine has
/// converged, for example. [`SenderBuilder::hold_pre_copy`](crate::SenderBuilder::hold_pre_copy) has more. Clones are
/// the same hold.
///
/// ```no_run
/// use ringlift::{PreCopyHold, Sender, source::VfioSource};
///
/// # fn memory_has_converged() -> bool { true }
/// let hold = PreCopyHold::new();
/// let source = VfioSource::open("0000:41:00.1").unwrap();
/// let sender = Sender::builder().device("net0", source).connect("192.0.2.1:4321".parse().unwrap());
/// let sender = sender.hold_pre_copy(&hold).build().unwrap();
/// let sending = std::thread::spawn(|| sender.run());
/// while !(memory_has_converged() && hold.remaining().is_some_and(|bytes| bytes < 16 << 20)) {
///     std::thread::sleep(std::time::Duration::from_millis(100));
/// }
/// hold.release();
/// sending.join().unwrap();
/// ```
#[derive(Debug, Clone, Default)]
pub struct PreCopyHold {
    state: Arc<HoldState>,
}

#[derive(Debug)]
struct HoldState {
    released: Signal,
    /// [`UNKNOWN`] until it was asked.
    remaining: AtomicU64,
}

const UNKNOWN: u64 = u64::MAX;

impl Default for HoldState {
    fn default() -> HoldState {
        HoldState { released: Signal::default(), remaining: AtomicU64::new(UNKNOWN) }
    }
}

impl PreCopyHold {
    /// Not released yet.
    pub fn new() -> PreCopyHold {
        PreCopyHold::default()
    }

    /// Lets the switchover begin, at once. Returns immediately. A hold that is released before pre-copy begins holds
    /// nothing, and there is no pre-copy.
    pub fn release(&self) {
        self.state.released.raise();
    }

    /// Whether [`release`](PreCopyHold::release) was called.
    pub fn is_released(&self) -> bool {
        self.state.released.is_raised()
    }

    /// Bytes that all devices in pre-copy together could still read, as last asked. None before pre-copy, and when no device
    /// has pre-copy or one of them cannot tell.
    pub fn remaining(&self) -> Option<u64> {
        Some(self.state.remaining.load(Ordering::Relaxed)).filter(|&bytes| bytes != UNKNOWN)
    }

    pub(crate) fn set_remaining(&self, bytes: Option<u64>) {
        self.state.remaining.store(bytes.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    pub(crate) fn signal(&self) -> &Signal {
        &self.state.released
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
        cancel.signal().attach(seen);
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
        assert_eq!(cancel.signal().waiters().len(), 2, "the one that left is forgotten");
    }

    #[test]
    fn a_hold_says_what_is_left_when_it_was_asked() {
        let hold = PreCopyHold::new();
        assert_eq!((hold.remaining(), hold.is_released()), (None, false));
        hold.clone().set_remaining(Some(7));
        hold.clone().release();
        assert_eq!((hold.remaining(), hold.is_released()), (Some(7), true));
        hold.set_remaining(None);
        assert_eq!(hold.remaining(), None);
    }
}

//! Cancelling a transfer, from any thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ring::waker::Waker;

/// Cancels transfers from any thread. Every transfer that was given a clone of it rolls back, unless it has committed.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    state: Arc<CancelState>,
}

#[derive(Debug, Default)]
struct CancelState {
    cancelled: AtomicBool,
    wakers: Mutex<Vec<Arc<Waker>>>,
}

impl Cancel {
    /// One that nobody has cancelled yet.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Cancels. Returns at once; the transfer ends when its devices are back where they were.
    pub fn cancel(&self) {
        self.state.cancelled.store(true, Ordering::SeqCst);
        self.wakers().iter().for_each(|waker| waker.wake());
    }

    /// Whether [`cancel`](Cancel::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.state.cancelled.load(Ordering::SeqCst)
    }

    /// Calls `waker` on cancelling, until it is dropped everywhere else.
    pub(crate) fn attach(&self, waker: Arc<Waker>) {
        let mut wakers = self.wakers();
        wakers.retain(|waker| Arc::strong_count(waker) > 1);
        wakers.push(waker);
    }

    fn wakers(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Waker>>> {
        self.state.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Wakes a ring from outside the kernel: on a cancel, or when a job beside the loop has ended.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::Tag;
use crate::cancel::Wake;
use crate::error::{KernelError, KernelOperation};

/// Wakes one ring up, from any thread.
#[derive(Debug)]
pub(crate) struct Waker {
    event: EventFd,
    done: Mutex<VecDeque<Tag>>,
}

impl Waker {
    pub(super) fn new() -> Result<Waker, KernelError> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| KernelError::new(KernelOperation::EventFd, errno))?;
        Ok(Waker { event, done: Mutex::default() })
    }

    /// The descriptor that the ring watches.
    pub(super) fn fd(&self) -> RawFd {
        self.event.as_fd().as_raw_fd()
    }

    /// Forgets the wake-ups so far.
    pub(super) fn calm(&self) {
        // nothing to read: an earlier call has read it already
        let _ = self.event.read();
    }

    /// Reports the end of a job when it is dropped.
    pub(super) fn job_end(self: &Arc<Waker>, tag: Tag) -> JobEnd {
        JobEnd { waker: Arc::clone(self), tag }
    }

    pub(super) fn has_done(&self) -> bool {
        !self.done().is_empty()
    }

    /// The next job that has ended.
    pub(super) fn take_done(&self) -> Option<Tag> {
        self.done().pop_front()
    }

    fn done(&self) -> MutexGuard<'_, VecDeque<Tag>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Waker {
    fn wake(&self) {
        // a full counter wakes the ring just as well
        let _ = self.event.write(1);
    }
}

/// Reports a job's end, also when it panicked.
#[derive(Debug)]
pub(super) struct JobEnd {
    waker: Arc<Waker>,
    tag: Tag,
}

impl Drop for JobEnd {
    fn drop(&mut self) {
        self.waker.done().push_back(self.tag);
        self.waker.wake();
    }
}

//! The one who asked for the transfer: hears of it, may cancel it, may set a deadline.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::Error;
use crate::limits::PROGRESS_INTERVAL;
use crate::ring::Nanos;
use crate::ring::waker::Waker;
use crate::session::liveness::nanos;
use crate::wire::qemu::Reply;

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
    pub(super) fn attach(&self, waker: Arc<Waker>) {
        let mut wakers = self.wakers();
        wakers.retain(|waker| Arc::strong_count(waker) > 1);
        wakers.push(waker);
    }

    fn wakers(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Waker>>> {
        self.state.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a side is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Waiting for the connections.
    Connecting,
    /// Agreeing on settings, getting devices ready.
    Settings,
    /// Moving state of devices that still run.
    PreCopy,
    /// Stopping the devices.
    Switchover,
    /// Moving the rest of the state of stopped devices.
    StopCopy,
    /// The destination takes the state in.
    Loading,
    /// The devices change hands.
    Commit,
    /// Bringing the devices back to where they were.
    RollingBack,
    /// Over.
    Done,
}

impl Phase {
    /// In words that follow "the peer closed the control connection".
    pub(super) fn during(self) -> &'static str {
        match self {
            Phase::Connecting => "while connecting",
            Phase::Settings => "while agreeing on settings",
            Phase::PreCopy => "in pre-copy",
            Phase::Switchover => "while the devices stopped",
            Phase::StopCopy => "in the middle of the state",
            Phase::Loading => "while the devices loaded",
            Phase::Commit => "after commit",
            Phase::RollingBack => "while rolling back",
            Phase::Done => "after the end",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Connecting => "connecting",
            Phase::Settings => "agreeing on settings",
            Phase::PreCopy => "pre-copy",
            Phase::Switchover => "stopping the devices",
            Phase::StopCopy => "stop-copy",
            Phase::Loading => "loading",
            Phase::Commit => "commit",
            Phase::RollingBack => "rolling back",
            Phase::Done => "done",
        })
    }
}

/// Something that happened during a transfer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// Every connection of the session is there.
    Connected {
        /// The other end, if it has an address.
        peer: Option<SocketAddr>,
        /// Data connections.
        channels: u16,
    },
    /// Another phase began.
    Phase(Phase),
    /// Bytes moved; told about ten times a second.
    Progress {
        /// Payload bytes so far: read by the sender, written by the receiver.
        bytes: u64,
        /// Bytes that the devices expect, when all of them know.
        estimate: Option<u64>,
        /// Since the agreement on settings.
        elapsed: Duration,
    },
    /// The destination of a replay answered.
    Answer {
        /// What.
        reply: Reply,
        /// Since the connections were there.
        since: Duration,
    },
    /// Somebody who does not belong to a session connected and was turned away (receiver).
    Stray {
        /// Who.
        peer: Option<SocketAddr>,
        /// What was wrong with them.
        error: Error,
    },
}

/// Hears of events.
pub(super) type OnEvent = Box<dyn FnMut(&Event) + Send>;

/// The one who asked for the transfer.
pub(super) struct Owner {
    pub(super) cancel: Cancel,
    pub(super) deadline: Option<Nanos>,
    pub(super) on_event: Option<OnEvent>,
    pub(super) told_at: Nanos,
}

impl Owner {
    pub(super) fn new(cancel: Cancel, on_event: Option<OnEvent>) -> Owner {
        Owner { cancel, deadline: None, on_event, told_at: 0 }
    }

    pub(super) fn tell(&mut self, event: &Event) {
        if let Some(on_event) = &mut self.on_event {
            on_event(event);
        }
    }

    /// Tells progress if it is time.
    pub(super) fn progress(
        &mut self,
        now: Nanos,
        started: Nanos,
        count: impl FnOnce() -> (u64, Option<u64>),
    ) {
        if self.on_event.is_none() || now < self.told_at + nanos(PROGRESS_INTERVAL) {
            return;
        }
        self.told_at = now;
        let (bytes, estimate) = count();
        self.tell(&Event::Progress {
            bytes,
            estimate,
            elapsed: Duration::from_nanos(now.saturating_sub(started)),
        });
    }

    /// Lets the next progress be told whenever it comes: the last bytes of a phase must not go untold.
    pub(super) fn hasten(&mut self) {
        self.told_at = 0;
    }

    /// Whether the owner wants it to end now.
    pub(super) fn check(&self, now: Nanos) -> Result<(), Error> {
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return Err(Error::Deadline);
        }
        Ok(())
    }
}

//! Bytes of a slot on their way into a socket. A send may end early; the next one continues where it stopped, until the
//! socket has taken all of them.
//!
//! Knows nothing of what the bytes mean. The slot comes out again only when no operation reads it any more.

use std::ops::Range;
use std::os::fd::RawFd;

use crate::buffer::{InFlight, Lease, Slot};
use crate::error::Errno;
use crate::ring::{Ring, Tag};

/// Bytes on their way into a socket, by one send at a time.
#[derive(Debug)]
pub(crate) struct Outgoing {
    flight: InFlight,
    /// What the socket has not taken yet.
    rest: Range<usize>,
}

/// What the end of a send meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Some bytes are left: the next send takes them.
    Part,
    /// The socket has taken all of them.
    All,
}

impl Outgoing {
    /// A range of a slot, none of it sent yet.
    pub(crate) fn new(slot: Slot, range: Range<usize>) -> Outgoing {
        Outgoing { flight: slot.into_flight(), rest: range }
    }

    /// What the socket has not taken yet.
    pub(crate) fn rest(&self) -> Range<usize> {
        self.rest.clone()
    }

    /// Sends what is left; the kernel copies it.
    pub(crate) fn send(&mut self, ring: &mut impl Ring, tag: Tag, fd: RawFd) {
        ring.send(tag, fd, self.flight.lease(), self.rest(), false);
    }

    /// Sends what is left, or at most its first `bytes_max` bytes, without a copy.
    pub(crate) fn send_zero_copy(&mut self, ring: &mut impl Ring, tag: Tag, fd: RawFd, bytes_max: usize) {
        let end = self.rest.end.min(self.rest.start.saturating_add(bytes_max));
        ring.send(tag, fd, self.flight.lease(), self.rest.start..end, true);
    }

    /// A send ended, and the kernel does not read the bytes any more.
    pub(crate) fn on_sent(&mut self, lease: Lease, result: Result<usize, Errno>) -> Result<Progress, Errno> {
        self.give_back(lease);
        self.advance(result)
    }

    /// Whether an operation reads these bytes under `lease`.
    pub(crate) fn holds(&self, lease: &Lease) -> bool {
        self.flight.holds(lease)
    }

    /// An operation does not read the bytes any more.
    pub(crate) fn give_back(&mut self, lease: Lease) {
        self.flight.give_back(lease);
    }

    /// How far a send went.
    pub(crate) fn advance(&mut self, result: Result<usize, Errno>) -> Result<Progress, Errno> {
        match result {
            Ok(0) => return Err(Errno::from_raw(nix::libc::EPIPE)),
            Ok(sent) => self.rest.start += sent,
            Err(errno) if errno.is_retryable() => {}
            Err(errno) => return Err(errno),
        }
        Ok(if self.rest.is_empty() { Progress::All } else { Progress::Part })
    }

    /// The slot again, when no operation reads it any more.
    pub(crate) fn land(self) -> Result<Slot, Outgoing> {
        let rest = self.rest;
        self.flight.land().map_err(|flight| Outgoing { flight, rest })
    }
}

//! Stations 1, 4, 6 and 8: the kernel, behind a few verbs.
//!
//! [`Ring`] is all that the workers know of the outside world: bytes in and out, time, and work done beside the loop.
//! There are two: `uring::Uring` is the kernel's io_uring, and `sim::SimRing` its seeded, faulty twin for tests.
//! [`open()`] makes one. A ring knows bytes and slots, never packets' numbers or phases.

mod open;
mod position;
mod probe;
#[cfg(test)]
pub(crate) mod sim;
mod threads;
mod token;
mod uring;
mod waker;

use std::ops::Range;
use std::os::fd::RawFd;

#[cfg(feature = "listener")]
pub(crate) use open::check;
pub(crate) use open::{HostRing, open, wake_on};

use crate::buffer::{Lease, Pool, Slot};
use crate::error::{Errno, KernelError};
use crate::time::Nanos;

/// What an operation was for, encoded by its submitter; comes back with its completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag(pub(crate) u64);

/// Work to be done beside the loop: it may block.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// How a read or a write is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IoMode {
    /// By the ring: it ends at any time, and others proceed meanwhile. The kernel tries it at once, without waiting, and
    /// goes on when the descriptor is ready. Only for descriptors that it knows not to wait for.
    Ring,
    /// By one of the ring's own threads in the kernel: for descriptors that may wait whatever they were asked, and for those
    /// that call themselves ready and are not (a device's).
    Thread,
    /// By this thread, now: nothing else proceeds meanwhile, but the bytes stay in this processor's cache. Only for
    /// descriptors that never wait.
    Inline,
}

/// Which directions of a socket are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Directions {
    /// Nothing more is sent.
    Sending,
    /// Nothing more is sent or received.
    Both,
}

/// The end of an operation, or of a part of one.
#[derive(Debug)]
pub(crate) enum Completion {
    /// A read, write or receive ended.
    Moved { tag: Tag, slot: Slot, result: Result<usize, Errno> },
    /// A send ended. Without a lease the kernel still reads the bytes, and `Released` follows.
    Sent { tag: Tag, lease: Option<Lease>, result: Result<usize, Errno> },
    /// The kernel has finished with the bytes of a zero-copy send.
    Released { tag: Tag, lease: Lease, copied: bool },
    /// A job ended.
    Done { tag: Tag },
}

/// A source of completions. Every operation that was begun ends in a completion; none is lost, whatever fails.
///
/// The caller that begins an operation keeps its descriptor open until it has ended; the ring keeps its memory.
///
/// The clock, a socket's state and jobs beside the loop are not part of io_uring. They are here because the simulated
/// ring provides them, too: it has its own clock and sockets, and it decides when a job ends.
pub(crate) trait Ring {
    /// The current time.
    fn now(&self) -> Nanos;

    /// Reads from `fd` at its current position into a range of the slot.
    fn read(&mut self, tag: Tag, fd: RawFd, slot: Slot, range: Range<usize>, io_mode: IoMode);

    /// Writes a range of the slot to `fd` at its current position.
    fn write(&mut self, tag: Tag, fd: RawFd, slot: Slot, range: Range<usize>, io_mode: IoMode);

    /// Receives from a socket into a range of the slot; ends as soon as any bytes are there.
    fn receive(&mut self, tag: Tag, fd: RawFd, slot: Slot, range: Range<usize>);

    /// Sends a range of the leased slot.
    fn send(&mut self, tag: Tag, fd: RawFd, lease: Lease, range: Range<usize>, zero_copy: bool);

    /// Pins a pool's memory once, so that operations need not.
    fn register(&mut self, pool: &Pool) -> Result<(), KernelError>;

    /// Whether sends can be zero-copy here.
    fn can_zero_copy(&self) -> bool;

    /// Bytes that were sent but that the peer's kernel has not acknowledged yet.
    fn unconfirmed(&self, fd: RawFd) -> Result<usize, KernelError>;

    /// Fills `info` with what the kernel knows of a TCP connection (`struct tcp_info`), as far as there is room, and gives the
    /// number of bytes that it filled. `None` when the socket is not TCP.
    fn tcp_info(&self, fd: RawFd, info: &mut [u8]) -> Option<usize>;

    /// How often the kernel was entered for operations so far.
    fn enters(&self) -> u64;

    /// Closes these directions of a socket for all its users; operations on it end.
    fn shut_down(&mut self, fd: RawFd, directions: Directions);

    /// Makes the threads that `count` jobs at once need. What cannot be had is an error now, not in the middle of a job.
    fn reserve_threads(&mut self, count: usize) -> Result<(), KernelError>;

    /// Runs a job beside the loop. It begins at once if a thread was reserved for it.
    fn spawn(&mut self, tag: Tag, job: Job);

    /// Completes a job that the caller has carried out itself.
    fn complete(&mut self, tag: Tag);

    /// Ends the operations with this tag: they complete soon, most of them with ECANCELED.
    fn cancel(&mut self, tag: Tag);

    /// Waits until there is a completion, until `deadline`, or until the waker is called.
    fn wait(&mut self, deadline: Option<Nanos>) -> Result<(), KernelError>;

    /// The next completion, if there is one.
    fn next(&mut self) -> Option<Completion>;
}

//! The kernel's io_uring. The unsafe half of `ring`.
//!
//! Why the kernel's use of memory is sound: an operation's bytes belong to a [`Slot`] or [`Lease`] that stays in the
//! table of operations until the operation's last completion (a zero-copy send has two), and the table outlives them:
//! when the ring is dropped, operations are cancelled and waited for, and the memory of those that do not end is
//! leaked, never freed.
//!
//! Descriptors are not owned that way: an operation names a file by its number, which the kernel looks up when it takes
//! the entry, in the next [`wait`](Ring::wait) at the latest; from then on it holds the file itself. Memory stays sound
//! whatever file a number refers to. But a number that is closed before the lookup and reused refers to another file,
//! whose bytes would be moved. So the code that begins an operation keeps the descriptor's owner (a `net::Connection`,
//! a file, a device) open until the operation has ended, or was taken by the kernel and then cancelled. Workers uphold
//! this: connections and files stay open until the worker is dropped, a device takes no step while it is read or written
//! unless that was cancelled and did not end, from when on nothing is begun on it any more, and a worker's ring is the
//! first of its fields to be dropped.

#![expect(
    unsafe_code,
    reason = "hands addresses to the kernel; each block argues from the table of operations"
)]

use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use nix::libc;

use self::moving::{Direction, Moving};
use self::registered::Registered;
use super::position::Position;
use super::probe::{self, Abilities};
use super::threads::JobThreads;
use super::token::{Table, Token};
use super::waker::Waker;
use super::{Completion, Directions, IoMode, Job, Ring, Tag};
use crate::buffer::{Lease, Pool, RegionId, Slot};
use crate::error::{Errno, KernelError, KernelOperation};
use crate::limits;
use crate::time::{Nanos, now};

mod entry;
mod moving;
mod registered;
mod setup;

use self::entry::{is_passing, length};

/// Entries of the submission queue: more than one iteration of the loop submits, with an operation on every device and
/// channel.
const ENTRIES: u32 = 1024;
const _: () = assert!(ENTRIES as usize > limits::DEVICES_MAX + 2 * limits::CHANNELS_MAX + 16);
/// Entries of the completion queue. The kernel keeps any further completions and delivers them later.
const COMPLETIONS: u32 = 4096;
/// How long a dropped ring waits for operations that it has cancelled.
const DROP_PATIENCE: Nanos = 5_000_000_000;

// Constants of the kernel's interface that the io-uring crate does not export.
const IORING_SEND_ZC_REPORT_USAGE: u16 = 1 << 3;
const IORING_NOTIF_USAGE_ZC_COPIED: u32 = 1 << 31;

/// What the table keeps alive for the kernel.
#[derive(Debug)]
enum Operation {
    /// `again` is what goes on when its file is not ready; nothing does once it is cancelled.
    Move {
        tag: Tag,
        slot: Slot,
        file: Option<Position>,
        again: Option<Moving>,
    },
    Send {
        tag: Tag,
        lease: Lease,
    },
    Wake,
    Cancel,
}

/// An io_uring. Belongs to the thread that made it.
pub(crate) struct Uring {
    /// `Drop` ends operations first, before their memory is freed.
    ring: IoUring,
    operations: Table<Operation>,
    /// Completions that did not come from the kernel: of reads and writes that this thread carried out.
    ready: VecDeque<Completion>,
    waker: Arc<Waker>,
    threads: JobThreads,
    abilities: Abilities,
    registered: Option<Registered>,
    /// Calls of io_uring_enter.
    enters: u64,
}

impl Uring {
    pub(super) fn new() -> Result<Uring, KernelError> {
        let ring = setup::build().map_err(|error| probe::setup_failed(&error))?;
        let abilities = probe::judge(&setup::facts(&ring)?)?;
        let waker = Arc::new(Waker::new()?);
        let mut uring = Uring {
            ring,
            operations: Table::with_capacity(ENTRIES as usize),
            ready: VecDeque::with_capacity(ENTRIES as usize),
            waker,
            threads: JobThreads::default(),
            abilities,
            registered: None,
            enters: 0,
        };
        uring.watch();
        Ok(uring)
    }

    /// Ends its waits from another thread.
    pub(super) fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }

    /// The registered buffer that contains a slot.
    fn buffer_index(&self, region: RegionId, offset: usize) -> Option<u16> {
        self.registered.and_then(|registered| registered.buffer(region, offset))
    }

    /// Submits an operation whose memory is in the table already.
    fn push(&mut self, token: Token, entry: squeue::Entry) {
        let entry = entry.user_data(token.pack());
        for _ in 0..2 {
            // SAFETY: the entry's address and length lie within the slot or lease that the table holds under `token`
            // until the operation's last completion, or within a constant of this program. Its descriptor is the caller's, who keeps it open until then (see
            // the head of this file); the waker's is a field of this ring.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            // Full only when the kernel did not take the last iteration's entries: it gets one more chance.
            self.submit();
        }
        self.fail(token, Errno::from_raw(libc::EBUSY));
    }

    /// Submits the next entry of a read or write.
    fn begin(&mut self, tag: Tag, slot: Slot, file: Option<Position>, moving: Moving) {
        let entry = moving.entry(&slot, self.buffer_index(slot.region(), slot.region_offset()));
        let token = self.operations.insert(Operation::Move { tag, slot, file, again: Some(moving) });
        self.push(token, entry);
    }

    /// Ends an operation that the kernel never saw.
    fn fail(&mut self, token: Token, errno: Errno) {
        let completion = match self.operations.remove(token) {
            Some(Operation::Move { tag, slot, .. }) => Completion::Moved { tag, slot, result: Err(errno) },
            Some(Operation::Send { tag, lease }) => {
                Completion::Sent { tag, lease: Some(lease), result: Err(errno) }
            }
            Some(Operation::Wake | Operation::Cancel) | None => return,
        };
        self.ready.push_back(completion);
    }

    /// Requests a completion for when the waker is called.
    fn watch(&mut self) {
        let token = self.operations.insert(Operation::Wake);
        let event = Fd(self.waker.fd());
        self.push(token, opcode::PollAdd::new(event, libc::POLLIN.unsigned_abs().into()).build());
    }

    /// Translates a completion from the kernel; `None` for the ring's internal ones.
    fn translate(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let token = Token::unpack(entry.user_data());
        let result =
            usize::try_from(entry.result()).map_err(|_| Errno::from_raw(entry.result().wrapping_neg()));
        if cqueue::notif(entry.flags()) {
            let Some(Operation::Send { tag, lease }) = self.operations.remove(token) else { return None };
            let copied = entry.result().cast_unsigned() & IORING_NOTIF_USAGE_ZC_COPIED != 0;
            return Some(Completion::Released { tag, lease, copied });
        }
        if cqueue::more(entry.flags()) {
            let Some(Operation::Send { tag, .. }) = self.operations.find(token) else { return None };
            return Some(Completion::Sent { tag: *tag, lease: None, result });
        }
        match self.operations.remove(token)? {
            Operation::Move { tag, slot, file, again } => {
                if let Some(next) = again.and_then(|moving| moving.after(result)) {
                    self.begin(tag, slot, file, next);
                    return None;
                }
                let pass = |file: Position| file.pass(borrowed(file.fd()), result?);
                Some(Completion::Moved { tag, slot, result: file.map_or(result, pass) })
            }
            Operation::Send { tag, lease } => Some(Completion::Sent { tag, lease: Some(lease), result }),
            Operation::Wake => {
                self.waker.calm();
                self.watch();
                None
            }
            Operation::Cancel => None,
        }
    }

    /// Nothing goes on behind an operation, and its file is not looked at again: whoever cancels it may give the file up
    /// before it has ended.
    fn end_at_next_completion(&mut self, token: Token) {
        if let Some(Operation::Move { file, again, .. }) = self.operations.find(token) {
            (*file, *again) = (None, None);
        }
    }

    fn done(&self) -> Option<Completion> {
        self.waker.take_done().map(|tag| Completion::Done { tag })
    }

    /// Lets the kernel begin queued operations before this thread does something long.
    fn submit_first(&mut self) {
        if !self.ring.submission().is_empty() {
            self.submit();
        }
    }

    /// Entries that the kernel does not take now it takes at the next wait.
    fn submit(&mut self) {
        self.enters += 1;
        let _ = self.ring.submit();
    }

    /// Completes a read or write that this thread carried out.
    fn carry_out(&mut self, tag: Tag, slot: Slot, result: nix::Result<usize>) {
        self.ready.push_back(Completion::Moved { tag, slot, result: result.map_err(Errno::from) });
    }
}

impl Ring for Uring {
    fn now(&self) -> Nanos {
        now()
    }

    fn read(&mut self, tag: Tag, fd: RawFd, mut slot: Slot, range: Range<usize>, io_mode: IoMode) {
        if io_mode == IoMode::Inline {
            self.submit_first();
            let result = nix::unistd::read(borrowed(fd), slot.bytes_mut(range));
            return self.carry_out(tag, slot, result);
        }
        let file = Position::of(borrowed(fd), range.len());
        self.begin(tag, slot, file, Moving::new(fd, Direction::Read, range, io_mode));
    }

    fn write(&mut self, tag: Tag, fd: RawFd, slot: Slot, range: Range<usize>, io_mode: IoMode) {
        if io_mode == IoMode::Inline {
            self.submit_first();
            let result = nix::unistd::write(borrowed(fd), slot.bytes(range));
            return self.carry_out(tag, slot, result);
        }
        let file = Position::of(borrowed(fd), range.len());
        self.begin(tag, slot, file, Moving::new(fd, Direction::Write, range, io_mode));
    }

    fn receive(&mut self, tag: Tag, fd: RawFd, slot: Slot, range: Range<usize>) {
        let entry = opcode::Recv::new(Fd(fd), slot.address(&range), length(&range)).build();
        let token = self.operations.insert(Operation::Move { tag, slot, file: None, again: None });
        self.push(token, entry);
    }

    fn send(&mut self, tag: Tag, fd: RawFd, lease: Lease, range: Range<usize>, zero_copy: bool) {
        let (address, len) = (lease.address(&range), length(&range));
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let entry = if zero_copy {
            let buffer = self.buffer_index(lease.region(), lease.region_offset());
            opcode::SendZc::new(Fd(fd), address, len)
                .buf_index(buffer)
                .flags(flags)
                .zc_flags(IORING_SEND_ZC_REPORT_USAGE)
                .build()
        } else {
            opcode::Send::new(Fd(fd), address, len).flags(flags).build()
        };
        let token = self.operations.insert(Operation::Send { tag, lease });
        self.push(token, entry);
    }

    fn register(&mut self, pool: &Pool) -> Result<(), KernelError> {
        let slot = pool.sample().expect("a pool is registered before any slot is taken");
        let (registered, buffers) = Registered::region_of(slot);
        // SAFETY: the buffers are a mapping that stays until the ring is gone: the pool's slots keep it, and those that
        // operations hold are in the table.
        let pinned = unsafe { self.ring.submitter().register_buffers(&buffers) };
        pinned.map_err(|error| KernelError::new(KernelOperation::RegisterPool, error))?;
        self.registered = Some(registered);
        Ok(())
    }

    fn can_zero_copy(&self) -> bool {
        self.abilities.zero_copy
    }

    fn unconfirmed(&self, fd: RawFd) -> Result<usize, KernelError> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: for TIOCOUTQ on a socket the kernel writes one int, into `bytes`, which outlives the call. The caller
        // keeps the socket open (see the head of this file).
        let done = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut bytes) };
        nix::errno::Errno::result(done)
            .map_err(|errno| KernelError::new(KernelOperation::Unconfirmed, errno))?;
        Ok(usize::try_from(bytes).unwrap_or(0))
    }

    fn tcp_info(&self, fd: RawFd, info: &mut [u8]) -> Option<usize> {
        let mut len = libc::socklen_t::try_from(info.len()).ok()?;
        // SAFETY: the kernel writes at most `len` bytes to the begin of `info`, which has as many and outlives the call, and
        // how many it wrote to `len`. The caller keeps the socket open (see the head of this file).
        let done = unsafe {
            libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut len)
        };
        (done == 0).then(|| usize::try_from(len).ok().filter(|&len| len <= info.len())).flatten()
    }

    fn enters(&self) -> u64 {
        self.enters
    }

    fn shut_down(&mut self, fd: RawFd, directions: Directions) {
        let how = match directions {
            Directions::Sending => nix::sys::socket::Shutdown::Write,
            Directions::Both => nix::sys::socket::Shutdown::Both,
        };
        // a connection that is gone already needs no shutdown
        let _ = nix::sys::socket::shutdown(fd, how);
    }

    fn reserve_threads(&mut self, count: usize) -> Result<(), KernelError> {
        self.threads.reserve(count)
    }

    fn spawn(&mut self, tag: Tag, job: Job) {
        self.threads.give(job, self.waker.job_end(tag));
    }

    fn complete(&mut self, tag: Tag) {
        self.ready.push_back(Completion::Done { tag });
    }

    fn cancel(&mut self, tag: Tag) {
        let is_meant = |operation: &Operation| matches!(operation, Operation::Move { tag: own, .. } | Operation::Send { tag: own, .. } if *own == tag);
        let meant: Vec<Token> =
            self.operations.tokens().filter(|(_, value)| is_meant(value)).map(|(token, _)| token).collect();
        for token in meant {
            self.end_at_next_completion(token);
            let cancel = self.operations.insert(Operation::Cancel);
            self.push(cancel, opcode::AsyncCancel::new(token.pack()).build());
        }
    }

    fn wait(&mut self, deadline: Option<Nanos>) -> Result<(), KernelError> {
        let idle = self.ready.is_empty() && !self.waker.has_done() && self.ring.completion().is_empty();
        let (waits, owed) = {
            let queue = self.ring.submission();
            (!queue.is_empty(), queue.taskrun() || queue.cq_overflow())
        };
        if !(idle || waits || owed) {
            return Ok(());
        }
        self.enters += 1;
        let submitted = match deadline {
            Some(deadline) if idle => {
                let timeout = Timespec::from(std::time::Duration::from_nanos(deadline.saturating_sub(now())));
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout))
            }
            None if idle => self.ring.submit_and_wait(1),
            Some(_) | None => self.ring.submit(),
        };
        match submitted {
            Err(error) if !is_passing(&error) => Err(KernelError::new(KernelOperation::RingEnter, error)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn next(&mut self) -> Option<Completion> {
        if let Some(completion) = self.ready.pop_front() {
            return Some(completion);
        }
        loop {
            let Some(entry) = self.ring.completion().next() else { return self.done() };
            if let Some(completion) = self.translate(&entry) {
                return Some(completion);
            }
        }
    }
}

impl Drop for Uring {
    /// Ends operations first; then the fields are dropped, the ring before the remaining memory. The memory of
    /// operations that do not end in time is leaked: the kernel may still write to it.
    fn drop(&mut self) {
        self.ready.clear();
        let all: Vec<Token> = self.operations.tokens().map(|(token, _)| token).collect();
        all.into_iter().for_each(|token| self.end_at_next_completion(token));
        let deadline = now() + DROP_PATIENCE;
        let token = self.operations.insert(Operation::Cancel);
        self.push(token, opcode::AsyncCancel2::new(CancelBuilder::any()).build());
        // the watch on the waker is not waited for: its completion sets it up again
        let watched = |operation: &Operation| matches!(operation, Operation::Wake);
        while self.operations.tokens().any(|(_, operation)| !watched(operation)) && now() < deadline {
            let waited = self.wait(Some(deadline));
            while self.next().is_some() {}
            if waited.is_err() {
                break;
            }
        }
        self.operations.drain().for_each(std::mem::forget);
    }
}

/// A file, for calls within the operation that names it.
fn borrowed<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: the caller of the operation keeps `fd` open until the operation has ended or was cancelled (see the head of
    // this file), and a cancelled one forgets its file.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

#[cfg(test)]
mod tests;

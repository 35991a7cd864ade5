//! Reads a data file to its end, discards what comes, and notes how its driver behaves. It knows neither states nor
//! devices. The invariant: every wait ends when the caller cancels, except inside a driver's own read.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use hdrhistogram::Histogram;
use nix::errno::Errno as Raw;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent};

use crate::cancel::Cancel;
use crate::error::{DeviceError, DeviceOperation, Errno};
use crate::report::{ProbedEnd, ProbedReads, Quantiles};
use crate::time::{Nanos, now};

/// Sizes that are told apart: more than any driver has, and a bound.
const SIZES_MAX: usize = 4096;
/// A read with `O_NONBLOCK` that takes longer has waited: more than the copy of any packet takes.
const WAITED: Nanos = 20_000_000;
/// How long a wait lasts before it looks whether the caller has cancelled.
const PATIENCE_MS: u16 = 50;

/// A data file, as this module needs it. Tests have one without a kernel.
pub(super) trait Data {
    fn read(&self, buffer: &mut [u8]) -> Result<usize, Raw>;
    fn set_nonblocking(&self, on: bool) -> Result<(), Raw>;
    /// Whether it can be polled at all.
    fn is_pollable(&self) -> bool;
    /// Waits until it is ready, or for a while, and says whether it is.
    fn is_ready(&self, wait_ms: u16) -> bool;
}

impl Data for BorrowedFd<'_> {
    fn read(&self, buffer: &mut [u8]) -> Result<usize, Raw> {
        nix::unistd::read(self, buffer)
    }

    fn set_nonblocking(&self, on: bool) -> Result<(), Raw> {
        let mut flags = OFlag::from_bits_retain(fcntl(self, FcntlArg::F_GETFL)?);
        flags.set(OFlag::O_NONBLOCK, on);
        fcntl(self, FcntlArg::F_SETFL(flags)).map(drop)
    }

    /// The kernel refuses to add a file without `.poll` to an epoll instance.
    fn is_pollable(&self) -> bool {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
        epoll.and_then(|epoll| epoll.add(self.as_fd(), EpollEvent::empty())).is_ok()
    }

    fn is_ready(&self, wait_ms: u16) -> bool {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(wait_ms)).is_ok_and(|ready| ready > 0)
    }
}

/// How far to read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    /// While the device runs: at most this many bytes, and until this time.
    Nothing { bytes: u64, time: Nanos },
    /// To the end of what a stopped device has.
    End,
}

/// Why reading went no further.
#[derive(Debug)]
pub(super) enum Stopped {
    Cancelled,
    Failed(DeviceError),
}

/// An empty histogram of the durations of reads: up to an hour, which none takes.
pub(super) fn read_times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("constants that it takes")
}

/// Reads, and what is known of them so far.
pub(super) struct Reading<'a> {
    pub(super) found: ProbedReads,
    sizes: BTreeMap<u64, u64>,
    times: &'a mut Histogram<u64>,
    own: Histogram<u64>,
    /// `O_NONBLOCK` is set.
    nonblocking: bool,
    began: Nanos,
}

impl<'a> Reading<'a> {
    /// `times` gets the duration of each read that brings bytes.
    pub(super) fn begin(data: &impl Data, asked: usize, times: &'a mut Histogram<u64>) -> Reading<'a> {
        let found = ProbedReads {
            asked: asked as u64,
            pollable: data.is_pollable(),
            ready_at_begin: data.is_ready(0),
            ..ProbedReads::default()
        };
        let nonblocking = data.set_nonblocking(true).is_ok();
        let own = read_times();
        Reading { found, sizes: BTreeMap::new(), times, own, nonblocking, began: now() }
    }

    /// Reads until there is nothing; while the device runs, more may come later.
    pub(super) fn run(
        &mut self,
        data: &impl Data,
        buffer: &mut [u8],
        until: Until,
        cancel: &Cancel,
    ) -> Result<(), Stopped> {
        self.found.end = ProbedEnd::Failed;
        loop {
            if cancel.is_cancelled() {
                return Err(Stopped::Cancelled);
            }
            if let Until::Nothing { bytes, time } = until
                && (self.found.bytes >= bytes || now() >= time)
            {
                self.found.end = ProbedEnd::More;
                return Ok(());
            }
            let before = now();
            match self.read(data, buffer, cancel)? {
                Ok(0) => {
                    self.found.end = ProbedEnd::Zero;
                    return Ok(());
                }
                Ok(read) => self.note(read as u64, now() - before),
                Err(Raw::ENOMSG) if matches!(until, Until::Nothing { .. }) => {
                    self.found.end = ProbedEnd::Enomsg;
                    return Ok(());
                }
                Err(errno) => return Err(Stopped::Failed(failure(errno))),
            }
        }
    }

    /// One read, however often it has to be begun. A read that would have to wait waits here.
    fn read(
        &mut self,
        data: &impl Data,
        buffer: &mut [u8],
        cancel: &Cancel,
    ) -> Result<Result<usize, Raw>, Stopped> {
        loop {
            let before = now();
            let result = data.read(buffer);
            if result != Err(Raw::EAGAIN) {
                if self.nonblocking && now() - before > WAITED && self.found.nonblocking.is_none() {
                    self.found.nonblocking = Some(false);
                }
                return Ok(result);
            }
            self.found.nonblocking = Some(true);
            // a file that cannot say when it is ready is read as a transfer reads it
            if !self.found.pollable && std::mem::take(&mut self.nonblocking) {
                data.set_nonblocking(false).map_err(|errno| Stopped::Failed(failure(errno)))?;
                continue;
            }
            while !data.is_ready(PATIENCE_MS) {
                if cancel.is_cancelled() {
                    return Err(Stopped::Cancelled);
                }
            }
        }
    }

    /// What a read behind the end of a stopped device's state returns.
    pub(super) fn look_behind_end(&mut self, data: &impl Data, buffer: &mut [u8]) {
        self.found.behind_end = Some(match data.read(buffer) {
            Ok(0) => ProbedEnd::Zero,
            Ok(_) => ProbedEnd::More,
            Err(Raw::ENOMSG) => ProbedEnd::Enomsg,
            Err(_) => ProbedEnd::Failed,
        });
    }

    fn note(&mut self, bytes: u64, time: Nanos) {
        let found = &mut self.found;
        found.shortest = if found.reads == 0 { bytes } else { found.shortest.min(bytes) };
        found.longest = found.longest.max(bytes);
        found.bytes += bytes;
        found.reads += 1;
        if self.sizes.len() < SIZES_MAX || self.sizes.contains_key(&bytes) {
            *self.sizes.entry(bytes).or_default() += 1;
        }
        self.own.saturating_record(time);
        self.times.saturating_record(time);
    }

    /// What was found; the file is left as it was.
    pub(super) fn end(mut self, data: &impl Data) -> ProbedReads {
        if self.nonblocking {
            // it is closed next, with or without the flag
            let _ = data.set_nonblocking(false);
        }
        // of sizes that are equally frequent, the largest
        if let Some((size, reads)) = self.sizes.into_iter().max_by_key(|(_, reads)| *reads) {
            (self.found.most_frequent, self.found.most_frequent_reads) = (size, reads);
        }
        self.found.latency_ns = Quantiles::of(&self.own);
        self.found.time_ns = now() - self.began;
        self.found
    }
}

fn failure(errno: Raw) -> DeviceError {
    match errno {
        Raw::EINTR => DeviceError::CutShort { operation: DeviceOperation::Read },
        errno => DeviceError::Io { operation: DeviceOperation::Read, errno: Errno::from(errno) },
    }
}

#[cfg(test)]
mod tests;

//! The internals that the benches need, behind the feature `internals`. Not part of the library's stable interface.
//!
//! Each type wraps one of the crate's own and forwards calls. Nothing here gives out memory or descriptors, so its
//! users can break no more than the crate itself can.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::numbers::{DeviceIdx, PacketIdx};
use crate::report::Stage;
use crate::ring::{Completion, HostRing, IoMode, Ring, Tag};
use crate::session::{credit, reorder};
use crate::{buffer, error, limits, report};

/// Order and completeness of one device's packets; a handle is a number.
#[derive(Debug)]
pub struct Reorder(reorder::Reorder<u32>);

impl Reorder {
    /// For packets that are less than `window` ahead of the next one.
    pub fn new(window: usize) -> Reorder {
        Reorder(reorder::Reorder::new(window))
    }

    /// A packet's header arrived. False when the packet is not wanted.
    #[inline]
    pub fn claim(&mut self, idx: u64, limit: u64) -> bool {
        self.0.claim(PacketIdx(idx), false, PacketIdx(limit)).is_ok()
    }

    /// A claimed packet is complete.
    #[inline]
    pub fn fill(&mut self, idx: u64, handle: u32) {
        self.0.fill(PacketIdx(idx), handle);
    }

    /// The next packet, if it is here.
    #[inline]
    pub fn pop(&mut self) -> Option<(u64, u32)> {
        self.0.pop().map(|(idx, handle)| (idx.0, handle))
    }
}

/// A pool of slots.
#[derive(Debug)]
pub struct Pool(buffer::Pool);

/// An opaque slot.
#[derive(Debug)]
pub struct Slot(buffer::Slot);

impl Pool {
    /// Maps `count` slots with `capacity` bytes of payload each.
    pub fn new(count: u32, capacity: u32) -> Result<Pool, error::KernelError> {
        buffer::Pool::new(count, capacity).map(Pool)
    }

    /// Takes the slot that was given back last.
    #[inline]
    pub fn take(&mut self) -> Option<Slot> {
        self.0.take().map(Slot)
    }

    /// Gives a slot back.
    #[inline]
    pub fn put(&mut self, slot: Slot) {
        self.0.put(slot.0);
    }
}

/// The receiver's half of credit, of one device.
#[derive(Debug)]
pub struct Credit(credit::Credit);

impl Credit {
    /// A pool of `slots` packets, at least one.
    pub fn new(slots: u32) -> Credit {
        Credit(credit::Credit::new(slots, std::iter::once(None)).expect("there is a slot for the device"))
    }

    /// One more packet came, and left its slot.
    #[inline]
    pub fn written(&mut self, idx: u64) {
        self.0.arrived(DeviceIdx(0), PacketIdx(idx), false);
        self.0.written(DeviceIdx(0));
    }

    /// A new limit, when it is worth a message.
    #[inline]
    pub fn announce(&mut self) -> Option<u64> {
        self.0.announce(DeviceIdx(0)).map(|limit| limit.0)
    }
}

/// The sender's half of credit.
#[derive(Debug, Default)]
pub struct Allowance(credit::Allowance);

impl Allowance {
    /// Applies a new limit. False when it shrinks.
    #[inline]
    pub fn raise(&mut self, limit: u64) -> bool {
        self.0.raise(PacketIdx(limit)).is_ok()
    }

    /// Whether a packet may be sent.
    #[inline]
    pub fn allows(&self, idx: u64) -> bool {
        self.0.allows(PacketIdx(idx))
    }
}

/// One side's histograms and stopwatches.
#[derive(Debug, Default)]
pub struct Recorder(report::Recorder);

impl Recorder {
    /// Records what both sides together record for one packet: six stages, and a look at each stopwatch. `times` are
    /// the clock readings at the ends of the stages.
    #[inline]
    pub fn packet(&mut self, times: &[u64; 7], credit_stalls: bool, pool_stalls: bool) {
        let stages = [Stage::Read, Stage::Queue, Stage::Send, Stage::Reorder, Stage::Write];
        for (stage, ends) in stages.into_iter().zip(times.windows(2)) {
            self.0.record(stage, ends[0], ends[1]);
        }
        self.0.record(Stage::EndToEnd, times[0], times[6]);
        self.0.see_credit_stall(credit_stalls, times[2]);
        self.0.see_pool_stall(pool_stalls, times[3]);
    }

    /// Packets recorded.
    pub fn count(&self) -> u64 {
        self.0.histograms.latency().end_to_end.count
    }
}

/// Who carries out a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The kernel tries it on the submitting thread first.
    Ring,
    /// One of the ring's threads in the kernel.
    Thread,
}

/// A ring, and one slot to read into.
pub struct Reads {
    ring: HostRing,
    pool: buffer::Pool,
}

impl Reads {
    /// For reads of at most `size` bytes.
    pub fn new(size: u32) -> Result<Reads, error::Error> {
        let ring = crate::ring::open(&crate::Cancel::new())?;
        Ok(Reads { ring, pool: buffer::Pool::new(1, size)? })
    }

    /// One read of `size` bytes, from its submission to its completion; returns how many bytes came.
    pub fn read(&mut self, fd: BorrowedFd<'_>, size: usize, by: By) -> Result<usize, error::Errno> {
        let io_mode = match by {
            By::Ring => IoMode::Ring,
            By::Thread => IoMode::Thread,
        };
        let slot = self.pool.take().expect("the slot comes back with every completion");
        let range = limits::HEADER_ROOM..limits::HEADER_ROOM + size;
        self.ring.read(Tag(0), fd.as_raw_fd(), slot, range, io_mode);
        loop {
            // a ring that cannot wait has a completion all the same, or this is no host to measure on
            self.ring.wait(None).expect("io_uring works here");
            if let Some(Completion::Moved { slot, result, .. }) = self.ring.next() {
                self.pool.put(slot);
                return result;
            }
        }
    }
}

/// The clock used for recording, in nanoseconds.
#[inline]
pub fn now() -> u64 {
    crate::time::now()
}

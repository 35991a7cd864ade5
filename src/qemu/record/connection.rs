//! One connection that is recorded: receives into slots, and writes them to a file in the order in which they came.
//!
//! At most one receive and one write are under way. While the file is being written, what comes fills slots up; a
//! connection that holds its share of them receives no more, and its socket holds the source back.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use crate::buffer::{Pool, Slot};
use crate::descriptor::kind_of;
use crate::error::Errno;
use crate::limits::{HEADER_ROOM, PAGE_SIZE};
use crate::net::Connection;
use crate::numbers::ConnectionIdx;
use crate::ring::{Directions, IoMode, Ring};
use crate::worker::io_mode::{self, Direction};
use crate::worker::operation::Operation;

/// A slot with less room than this is not received into any more: the next one is.
const ROOM_MIN: usize = PAGE_SIZE;

/// A connection that is recorded.
pub(super) struct ConnectionRecorder {
    idx: ConnectionIdx,
    connection: Connection,
    outlet: Option<Outlet>,
    /// Slots that it may hold, and those that it does.
    share: u32,
    held: u32,
    /// Bytes in the slot that is received into, and those that were written or left.
    filled: usize,
    begin: usize,
    receiving: bool,
    ended: bool,
}

struct Outlet {
    file: RawFd,
    io_mode: IoMode,
    /// Of the slot that is being written.
    writing: Option<Range<usize>>,
    waiting: VecDeque<(Slot, Range<usize>)>,
}

/// What the end of a receive meant.
pub(super) enum Came {
    Bytes,
    Nothing,
    End,
    Failed(Errno),
}

impl ConnectionRecorder {
    /// A connection into a file, if there is one, which outlives this.
    pub(super) fn new(
        idx: ConnectionIdx,
        connection: Connection,
        file: Option<&File>,
        share: u32,
    ) -> ConnectionRecorder {
        let outlet = file.map(|file| Outlet {
            file: file.as_raw_fd(),
            io_mode: io_mode::of(file.as_fd(), kind_of(file.as_fd()), Direction::Write),
            writing: None,
            waiting: VecDeque::with_capacity(share as usize),
        });
        ConnectionRecorder {
            idx,
            connection,
            outlet,
            share,
            held: 0,
            filled: 0,
            begin: 0,
            receiving: false,
            ended: false,
        }
    }

    /// Whether nothing more comes.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the kernel has nothing to do for it.
    pub(super) fn is_idle(&self) -> bool {
        !self.receiving && self.outlet.as_ref().is_none_or(|outlet| outlet.writing.is_none())
    }

    /// Ends it from this side. What came is written all the same.
    pub(super) fn shut_down(&mut self, ring: &mut impl Ring) {
        self.connection.shut_down(ring, Directions::Both);
    }

    /// Receives on, if it does not and may take another slot.
    pub(super) fn go_on(&mut self, ring: &mut impl Ring, pool: &mut Pool) {
        if self.receiving || self.ended || self.held >= self.share {
            return;
        }
        let Some(slot) = pool.take() else { return };
        self.held += 1;
        (self.begin, self.filled) = (0, 0);
        self.receive(ring, slot);
    }

    fn receive(&mut self, ring: &mut impl Ring, slot: Slot) {
        let range = HEADER_ROOM + self.filled..HEADER_ROOM + slot.capacity() as usize;
        ring.receive(
            Operation::ConnectionReceive { connection: self.idx }.tag(),
            self.connection.fd(),
            slot,
            range,
        );
        self.receiving = true;
    }

    /// A receive ended: `take` sees the bytes that came.
    pub(super) fn on_received(
        &mut self,
        ring: &mut impl Ring,
        pool: &mut Pool,
        slot: Slot,
        result: Result<usize, Errno>,
        take: impl FnOnce(&[u8]),
    ) -> Came {
        self.receiving = false;
        let count = match result {
            Ok(0) => {
                self.end(ring, pool, slot);
                return Came::End;
            }
            Ok(count) => count,
            Err(errno) if errno.is_retryable() => {
                self.receive(ring, slot);
                return Came::Nothing;
            }
            Err(errno) => {
                self.end(ring, pool, slot);
                return Came::Failed(errno);
            }
        };
        take(slot.bytes(HEADER_ROOM + self.filled..HEADER_ROOM + self.filled + count));
        self.filled += count;
        self.pass_on(ring, pool, slot);
        Came::Bytes
    }

    /// A slot has something in it: it is written, filled up, or used again when nothing is kept.
    fn pass_on(&mut self, ring: &mut impl Ring, pool: &mut Pool, slot: Slot) {
        let room = slot.capacity() as usize - self.filled;
        match &mut self.outlet {
            None => {
                self.filled = 0;
                self.receive(ring, slot);
            }
            Some(outlet) if outlet.writing.is_some() && room >= ROOM_MIN => self.receive(ring, slot),
            Some(outlet) => {
                outlet.give(ring, self.idx, slot, self.begin..self.filled);
                self.go_on(ring, pool);
            }
        }
    }

    fn end(&mut self, ring: &mut impl Ring, pool: &mut Pool, slot: Slot) {
        self.ended = true;
        match &mut self.outlet {
            Some(outlet) if self.begin < self.filled => {
                outlet.give(ring, self.idx, slot, self.begin..self.filled);
            }
            _ => {
                self.held -= 1;
                pool.put(slot);
            }
        }
    }

    /// A write ended.
    pub(super) fn on_written(
        &mut self,
        ring: &mut impl Ring,
        pool: &mut Pool,
        slot: Slot,
        result: Result<usize, Errno>,
    ) -> Result<(), Errno> {
        let Some(outlet) = &mut self.outlet else { return Ok(()) };
        let Some(mut range) = outlet.writing.take() else { return Ok(()) };
        let written = match result {
            Ok(0) => Err(Errno::from_raw(nix::libc::ENOSPC)),
            Err(errno) if errno.is_retryable() => Ok(0),
            other => other,
        };
        match written {
            Ok(count) if count < range.len() => {
                range.start += count;
                outlet.write(ring, self.idx, slot, range);
                return Ok(());
            }
            Ok(_) => {}
            Err(errno) => {
                // nothing can be written behind a gap: from now on it keeps nothing
                outlet.waiting.drain(..).for_each(|(slot, _)| pool.put(slot));
                pool.put(slot);
                self.outlet = None;
                return Err(errno);
            }
        }
        self.held -= 1;
        pool.put(slot);
        if let Some((slot, range)) = outlet.waiting.pop_front() {
            outlet.write(ring, self.idx, slot, range);
        }
        self.go_on(ring, pool);
        Ok(())
    }
}

impl Outlet {
    /// Writes a part of a slot when it is its turn.
    fn give(&mut self, ring: &mut impl Ring, idx: ConnectionIdx, slot: Slot, range: Range<usize>) {
        match self.writing {
            None => self.write(ring, idx, slot, range),
            Some(_) => self.waiting.push_back((slot, range)),
        }
    }

    fn write(&mut self, ring: &mut impl Ring, idx: ConnectionIdx, slot: Slot, range: Range<usize>) {
        let bytes = HEADER_ROOM + range.start..HEADER_ROOM + range.end;
        ring.write(Operation::ConnectionFile { connection: idx }.tag(), self.file, slot, bytes, self.io_mode);
        self.writing = Some(range);
    }
}

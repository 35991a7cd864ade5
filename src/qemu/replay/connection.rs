//! One connection of a capture: read from its file ahead of need, sent as far as it may go.
//!
//! It keeps these: one read and one send at a time, so that bytes stay in order; a slot is being read into, filled, or
//! being sent; at most [`SLOTS`] are in use.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};

use crate::buffer::{Lease, Pool, Slot};
use crate::channel::{Outgoing, Progress};
use crate::descriptor::kind_of;
use crate::error::{Errno, Place};
use crate::limits::HEADER_ROOM;
use crate::net::Connection;
use crate::numbers::ConnectionIdx;
use crate::ring::{Directions, IoMode, Ring};
use crate::worker::io_mode::{self, Direction};
use crate::worker::operation::Operation;

/// Slots of each connection: one is sent, one is read into, and two keep both going when one of them is slow.
pub(super) const SLOTS: usize = 4;

/// A connection of a capture.
pub(super) struct ConnectionReplay {
    pub(super) place: Place,
    number: ConnectionIdx,
    file: File,
    connection: Connection,
    /// Bytes of the file that are still to be read.
    unread: u64,
    io_mode: IoMode,
    reading: bool,
    filled: VecDeque<Piece>,
    sending: Option<Sending>,
    in_use: usize,
}

/// Bytes that were read and not sent.
struct Piece {
    slot: Slot,
    range: Range<usize>,
}

struct Sending {
    outgoing: Outgoing,
    /// Where the bytes end that were read, of which it may be allowed to send less.
    end: usize,
}

impl ConnectionReplay {
    /// `file` stands where the first byte is that is sent, and has `unread` of them.
    pub(super) fn new(
        place: Place,
        number: ConnectionIdx,
        file: File,
        unread: u64,
        connection: Connection,
    ) -> ConnectionReplay {
        let io_mode = io_mode::of(file.as_fd(), kind_of(file.as_fd()), Direction::Read);
        let filled = VecDeque::with_capacity(SLOTS);
        ConnectionReplay {
            place,
            number,
            file,
            connection,
            unread,
            io_mode,
            reading: false,
            filled,
            sending: None,
            in_use: 0,
        }
    }

    /// Whether an operation is under way that the kernel or the destination has to end.
    pub(super) fn is_busy(&self) -> bool {
        self.reading || self.sending.is_some()
    }

    /// Reads on while there is room.
    pub(super) fn read_ahead(&mut self, ring: &mut impl Ring, pool: &mut Pool) {
        if self.reading || self.unread == 0 || self.in_use >= SLOTS {
            return;
        }
        let Some(slot) = pool.take() else { return };
        let len = self.unread.min(slot.capacity().into());
        let end = HEADER_ROOM + usize::try_from(len).expect("not more than a slot holds");
        self.in_use += 1;
        self.reading = true;
        let tag = Operation::ConnectionFile { connection: self.number }.tag();
        ring.read(tag, self.file.as_raw_fd(), slot, HEADER_ROOM..end, self.io_mode);
    }

    /// A read ended. `Ok(false)`: the file has become shorter than it was.
    pub(super) fn on_read(
        &mut self,
        pool: &mut Pool,
        slot: Slot,
        result: Result<usize, Errno>,
    ) -> Result<bool, Errno> {
        self.reading = false;
        let count = match result {
            Ok(count) if count > 0 => count,
            ended => {
                self.in_use -= 1;
                pool.put(slot);
                return match ended {
                    Err(errno) if !errno.is_retryable() => Err(errno),
                    Err(_) => Ok(true),
                    Ok(_) => Ok(false),
                };
            }
        };
        self.unread = self.unread.saturating_sub(count as u64);
        self.filled.push_back(Piece { slot, range: HEADER_ROOM..HEADER_ROOM + count });
        Ok(true)
    }

    /// Sends what was read, at most so many bytes, unless it sends already. Whether it began to.
    pub(super) fn send(&mut self, ring: &mut impl Ring, allowed: u64) -> bool {
        if self.sending.is_some() || allowed == 0 {
            return false;
        }
        let Some(Piece { slot, range }) = self.filled.pop_front() else { return false };
        let len = usize::try_from(allowed).unwrap_or(usize::MAX).min(range.len());
        let outgoing = Outgoing::new(slot, range.start..range.start + len);
        self.go_on(ring, Sending { outgoing, end: range.end });
        true
    }

    fn go_on(&mut self, ring: &mut impl Ring, mut sending: Sending) {
        let tag = Operation::ConnectionSend { connection: self.number }.tag();
        // copied by the kernel: a slot is free again when its send ends, and few of them are enough
        sending.outgoing.send(ring, tag, self.connection.fd());
        self.sending = Some(sending);
    }

    /// A send ended: how many bytes the socket took.
    pub(super) fn on_sent(
        &mut self,
        ring: &mut impl Ring,
        pool: &mut Pool,
        lease: Option<Lease>,
        result: Result<usize, Errno>,
    ) -> Result<u64, Errno> {
        let Some(mut sending) = self.sending.take() else { return Ok(0) };
        let before = sending.outgoing.rest().start;
        let progress = sending.outgoing.on_sent(lease.expect("it is sent as a copy"), result);
        let count = sending.outgoing.rest().start - before;
        match progress {
            Ok(Progress::Part) => self.go_on(ring, sending),
            Ok(Progress::All) | Err(_) => self.land(pool, sending),
        }
        progress.map(|_| count as u64)
    }

    fn land(&mut self, pool: &mut Pool, sending: Sending) {
        let range = sending.outgoing.rest().start..sending.end;
        let Ok(slot) = sending.outgoing.land() else { return };
        if range.is_empty() {
            self.in_use -= 1;
            pool.put(slot);
        } else {
            self.filled.push_front(Piece { slot, range });
        }
    }

    pub(super) fn shut_down(&self, ring: &mut impl Ring, directions: Directions) {
        self.connection.shut_down(ring, directions);
    }
}

//! What comes back on a connection of a replay: answers on the main one, and the end of any.

use std::os::fd::RawFd;

use crate::buffer::Slot;
use crate::channel::is_retryable;
use crate::error::Errno;
use crate::limits::{HEADER_ROOM, PAGE_SIZE, QEMU_REPLY_MAX};
use crate::ring::Ring;
use crate::wire::Malformed;
use crate::wire::qemu::Reply;
use crate::worker::operation::Duty;

/// Bytes of the buffer: more than the longest message.
pub(super) const LINE: usize = PAGE_SIZE;
const _: () = assert!(LINE > QEMU_REPLY_MAX as usize + 4);

/// Listens on one connection, as long as it is open.
pub(super) struct Ear {
    number: usize,
    socket: RawFd,
    /// Away while the kernel fills it.
    line: Option<Slot>,
    /// Bytes that came and were not taken yet.
    filled: usize,
    is_open: bool,
}

impl Ear {
    pub(super) fn new(number: usize, socket: RawFd, line: Slot) -> Ear {
        Ear { number, socket, line: Some(line), filled: 0, is_open: true }
    }

    /// Whether the destination has not closed.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether bytes came that are not taken.
    pub(super) fn has_heard(&self) -> bool {
        self.filled > 0
    }

    /// Waits for more, unless it does already or there is no more.
    pub(super) fn listen(&mut self, ring: &mut impl Ring) {
        if !self.is_open {
            return;
        }
        let Some(line) = self.line.take() else { return };
        let tag = Duty::Listen { connection: self.number }.tag();
        ring.receive(tag, self.socket, line, HEADER_ROOM + self.filled..HEADER_ROOM + LINE);
    }

    /// A receive ended. `Ok(false)`: the destination closed.
    pub(super) fn on_received(&mut self, line: Slot, result: Result<usize, Errno>) -> Result<bool, Errno> {
        self.line = Some(line);
        match result {
            Ok(0) => self.is_open = false,
            Ok(came) => self.filled += came,
            Err(errno) if is_retryable(errno) => {}
            Err(errno) => {
                self.is_open = false;
                return Err(errno);
            }
        }
        Ok(self.is_open)
    }

    /// The next message of those that came.
    pub(super) fn next(&mut self) -> Result<Option<Reply>, Malformed> {
        let Some(line) = &mut self.line else { return Ok(None) };
        let Some((len, reply)) = Reply::decode(line.payload(self.filled))? else { return Ok(None) };
        line.payload_mut().copy_within(len..self.filled, 0);
        self.filled -= len;
        Ok(Some(reply))
    }
}

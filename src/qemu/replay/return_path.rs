//! Receives what comes back on a connection of a replay: answers on the main one, and the end of any.

use std::os::fd::RawFd;

use crate::buffer::Slot;
use crate::channel::MessageRx;
use crate::error::Errno;
use crate::limits::{PAGE_SIZE, QEMU_REPLY_MAX};
use crate::numbers::ConnectionIdx;
use crate::ring::Ring;
use crate::wire::Malformed;
use crate::wire::qemu::Reply;
use crate::worker::operation::Operation;

/// The size of the buffer in bytes: more than the longest message.
pub(super) const BUFFER_LEN: usize = PAGE_SIZE;
const _: () = assert!(BUFFER_LEN > QEMU_REPLY_MAX as usize + 4);

/// Receives on one connection for as long as it is open.
pub(super) struct ReturnPathReader {
    /// The connection's descriptor; its owner keeps it open for as long as this exists.
    fd: RawFd,
    messages: MessageRx,
}

impl ReturnPathReader {
    pub(super) fn new(connection: ConnectionIdx, fd: RawFd, buffer: Slot) -> ReturnPathReader {
        ReturnPathReader {
            fd,
            messages: MessageRx::new(Operation::ConnectionReceive { connection }.tag(), buffer),
        }
    }

    /// Whether the destination has not closed.
    pub(super) fn is_open(&self) -> bool {
        !self.messages.is_closed()
    }

    /// Whether bytes came that were not taken.
    pub(super) fn has_received(&self) -> bool {
        self.messages.has_rest()
    }

    /// Starts a receive, unless one is under way or the destination has closed.
    pub(super) fn listen(&mut self, ring: &mut impl Ring) {
        self.messages.resume(ring, self.fd);
    }

    /// A receive ended. `Ok(false)`: the destination closed.
    pub(super) fn on_received(&mut self, buffer: Slot, result: Result<usize, Errno>) -> Result<bool, Errno> {
        self.messages.on_received(buffer, result)
    }

    /// The next complete message.
    pub(super) fn next(&mut self) -> Result<Option<Reply>, Malformed> {
        self.messages.next(Reply::decode)
    }
}

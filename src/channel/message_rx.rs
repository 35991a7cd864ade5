//! The receiving end of a connection that carries messages: bytes accumulate in one buffer until a message is whole.
//!
//! Knows no message: the caller passes in the decoder. A buffer is longer than the longest message, so there is always
//! room for the rest of one.

use std::ops::Range;
use std::os::fd::RawFd;

use crate::buffer::Slot;
use crate::error::Errno;
use crate::limits::HEADER_ROOM;
use crate::ring::{Ring, Tag};
use crate::wire::Malformed;

/// Receives messages.
#[derive(Debug)]
pub(crate) struct MessageRx {
    tag: Tag,
    /// `None` while the kernel fills it.
    buffer: Option<Slot>,
    /// Bytes of the buffer that were received and not taken yet.
    filled: Range<usize>,
    /// The peer closed.
    closed: bool,
}

impl MessageRx {
    pub(crate) fn new(tag: Tag, buffer: Slot) -> MessageRx {
        MessageRx { tag, buffer: Some(buffer), filled: 0..0, closed: false }
    }

    /// One for which these bytes were received before.
    pub(crate) fn after(mut self, received: &[u8]) -> MessageRx {
        let buffer = self.buffer.as_mut().expect("nothing is being received yet");
        buffer.payload_mut()[..received.len()].copy_from_slice(received);
        self.filled = 0..received.len();
        self
    }

    /// Whether the peer has closed, or the connection has failed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether received bytes are left: of a message that is not whole, or of one that was not taken.
    pub(crate) fn has_rest(&self) -> bool {
        !self.filled.is_empty()
    }

    /// Receives more from `fd`, unless a receive is under way or the peer has closed.
    pub(crate) fn resume(&mut self, ring: &mut impl Ring, fd: RawFd) {
        if self.closed {
            return;
        }
        let Some(mut buffer) = self.buffer.take() else { return };
        buffer.payload_mut().copy_within(self.filled.clone(), 0);
        self.filled = 0..self.filled.len();
        let room = HEADER_ROOM + self.filled.end..HEADER_ROOM + buffer.capacity() as usize;
        ring.receive(self.tag, fd, buffer, room);
    }

    /// A receive ended. `Ok(false)`: the peer closed.
    pub(crate) fn on_received(&mut self, buffer: Slot, result: Result<usize, Errno>) -> Result<bool, Errno> {
        self.buffer = Some(buffer);
        match result {
            Ok(0) => self.closed = true,
            Ok(came) => self.filled.end += came,
            Err(errno) if errno.is_retryable() => {}
            Err(errno) => {
                self.closed = true;
                return Err(errno);
            }
        }
        Ok(!self.closed)
    }

    /// Takes the next message that came. `decode` returns its length and the message, or `None` while it is not whole.
    pub(crate) fn next<T>(
        &mut self,
        decode: impl FnOnce(&[u8]) -> Result<Option<(usize, T)>, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        let Some(buffer) = &self.buffer else { return Ok(None) };
        let Some((len, message)) = decode(&buffer.payload(self.filled.end)[self.filled.start..])? else {
            return Ok(None);
        };
        self.filled.start += len;
        Ok(Some(message))
    }
}

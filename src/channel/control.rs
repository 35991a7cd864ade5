//! The two directions of the control connection: messages in, messages out, each through one buffer.

use std::os::fd::RawFd;

use super::{MessageRx, Outgoing, Progress};
use crate::buffer::{Lease, Slot};
use crate::error::Errno;
use crate::limits::{CONTROL_BODY_MAX, HEADER_ROOM};
use crate::ring::{Ring, Tag};
use crate::wire::{CONTROL_HEADER_LEN, Control, ControlHeader, Malformed};

/// Receives messages.
#[derive(Debug)]
pub(crate) struct ControlRx(MessageRx);

impl ControlRx {
    /// `received` came before.
    pub(crate) fn new(tag: Tag, buffer: Slot, received: &[u8]) -> ControlRx {
        ControlRx(MessageRx::new(tag, buffer).after(received))
    }

    /// Receives more from `fd`, unless a receive is under way or the peer has closed.
    pub(crate) fn resume(&mut self, ring: &mut impl Ring, fd: RawFd) {
        self.0.resume(ring, fd);
    }

    /// A receive ended. `Ok(false)`: the peer closed.
    pub(crate) fn on_received(&mut self, buffer: Slot, result: Result<usize, Errno>) -> Result<bool, Errno> {
        self.0.on_received(buffer, result)
    }

    /// Whether the peer closed in the middle of a message.
    pub(crate) fn is_cut(&self) -> bool {
        self.0.is_closed() && self.0.has_rest()
    }

    /// The next message that came, if it is whole.
    pub(crate) fn message(&mut self) -> Result<Option<Control>, Malformed> {
        self.0.next(decode)
    }
}

/// The message at the beginning of `bytes`, with its length, if it is complete.
fn decode(bytes: &[u8]) -> Result<Option<(usize, Control)>, Malformed> {
    let Some((head, rest)) = bytes.split_first_chunk::<CONTROL_HEADER_LEN>() else { return Ok(None) };
    let header = ControlHeader::decode(head)?;
    let Some(body) = rest.get(..header.len as usize) else { return Ok(None) };
    let message = Control::decode(&header, body)?;
    Ok(Some((CONTROL_HEADER_LEN + body.len(), message)))
}

/// Sends messages.
#[derive(Debug)]
pub(crate) struct ControlTx {
    tag: Tag,
    /// `None` while the kernel reads it.
    buffer: Option<Slot>,
    sending: Option<Outgoing>,
}

impl ControlTx {
    pub(crate) fn new(tag: Tag, buffer: Slot) -> ControlTx {
        ControlTx { tag, buffer: Some(buffer), sending: None }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.sending.is_none()
    }

    /// Sends messages from `next` to `fd`, as many as fit in the buffer.
    pub(crate) fn send(
        &mut self,
        ring: &mut impl Ring,
        fd: RawFd,
        mut next: impl FnMut() -> Option<Control>,
    ) {
        let Some(mut buffer) = self.buffer.take() else { return };
        let bytes = buffer.payload_mut();
        let mut filled = 0;
        while bytes.len() - filled >= CONTROL_HEADER_LEN + CONTROL_BODY_MAX {
            let Some(message) = next() else { break };
            filled += message.encode(&mut bytes[filled..]);
        }
        if filled == 0 {
            self.buffer = Some(buffer);
            return;
        }
        let outgoing = Outgoing::new(buffer, HEADER_ROOM..HEADER_ROOM + filled);
        self.sending.insert(outgoing).send(ring, self.tag, fd);
    }

    /// A send ended.
    pub(crate) fn on_sent(
        &mut self,
        ring: &mut impl Ring,
        fd: RawFd,
        lease: Option<Lease>,
        result: Result<usize, Errno>,
    ) -> Result<(), Errno> {
        let mut sending = self.sending.take().expect("a send ends once");
        match sending.on_sent(lease.expect("control messages are never sent zero-copy"), result)? {
            Progress::All => self.buffer = sending.land().ok(),
            Progress::Part => self.sending.insert(sending).send(ring, self.tag, fd),
        }
        Ok(())
    }
}

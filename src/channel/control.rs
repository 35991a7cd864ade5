//! The two directions of the control connection: messages in, messages out, each through one line.

use std::ops::Range;
use std::os::fd::RawFd;

use super::is_retryable;
use crate::buffer::{InFlight, Lease, Slot};
use crate::error::Errno;
use crate::limits::{CONTROL_BODY_MAX, HEADER_ROOM, LINE_SIZE};
use crate::ring::{Ring, Tag};
use crate::wire::{CONTROL_HEADER_LEN, Control, ControlHeader, Malformed};

/// Receives messages.
#[derive(Debug)]
pub(crate) struct ControlRx {
    fd: RawFd,
    tag: Tag,
    /// Away while the kernel fills it.
    line: Option<Slot>,
    /// Bytes of the line that came and were not taken yet.
    filled: Range<usize>,
    /// The peer closed.
    closed: bool,
}

impl ControlRx {
    pub(crate) fn new(fd: RawFd, tag: Tag, line: Slot) -> ControlRx {
        ControlRx { fd, tag, line: Some(line), filled: 0..0, closed: false }
    }

    /// Waits for more bytes, unless it does already or the peer has closed.
    pub(crate) fn resume(&mut self, ring: &mut impl Ring) {
        if self.closed {
            return;
        }
        let Some(mut line) = self.line.take() else { return };
        line.bytes_mut(HEADER_ROOM..HEADER_ROOM + LINE_SIZE).copy_within(self.filled.clone(), 0);
        self.filled = 0..self.filled.len();
        ring.receive(self.tag, self.fd, line, HEADER_ROOM + self.filled.end..HEADER_ROOM + LINE_SIZE);
    }

    /// A receive ended. `Ok(false)`: the peer closed.
    pub(crate) fn on_received(&mut self, line: Slot, result: Result<usize, Errno>) -> Result<bool, Errno> {
        self.line = Some(line);
        match result {
            Ok(0) => self.closed = true,
            Ok(came) => self.filled.end += came,
            Err(errno) if is_retryable(errno) => {}
            Err(errno) => {
                self.closed = true;
                return Err(errno);
            }
        }
        Ok(!self.closed)
    }

    /// Whether the peer closed in the middle of a message.
    pub(crate) fn is_cut(&self) -> bool {
        self.closed && !self.filled.is_empty()
    }

    /// The next message of those that came.
    pub(crate) fn message(&mut self) -> Result<Option<Control>, Malformed> {
        let Some(line) = &self.line else { return Ok(None) };
        let bytes = &line.payload(self.filled.end)[self.filled.start..];
        let Some((head, rest)) = bytes.split_first_chunk::<CONTROL_HEADER_LEN>() else { return Ok(None) };
        let header = ControlHeader::decode(head)?;
        let Some(body) = rest.get(..header.len as usize) else { return Ok(None) };
        let message = Control::decode(&header, body)?;
        self.filled.start += CONTROL_HEADER_LEN + body.len();
        Ok(Some(message))
    }
}

/// Sends messages.
#[derive(Debug)]
pub(crate) struct ControlTx {
    fd: RawFd,
    tag: Tag,
    /// Away while the kernel reads it.
    line: Option<Slot>,
    sending: Option<(InFlight, Range<usize>)>,
}

impl ControlTx {
    pub(crate) fn new(fd: RawFd, tag: Tag, line: Slot) -> ControlTx {
        ControlTx { fd, tag, line: Some(line), sending: None }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.sending.is_none()
    }

    /// Sends what `next` gives, as many messages as fit.
    pub(crate) fn send(&mut self, ring: &mut impl Ring, mut next: impl FnMut() -> Option<Control>) {
        let Some(mut line) = self.line.take() else { return };
        let buffer = line.payload_mut();
        let mut filled = 0;
        while buffer.len() - filled >= CONTROL_HEADER_LEN + CONTROL_BODY_MAX {
            let Some(message) = next() else { break };
            filled += message.encode(&mut buffer[filled..]);
        }
        if filled == 0 {
            self.line = Some(line);
            return;
        }
        self.go_on(ring, line.into_flight(), HEADER_ROOM..HEADER_ROOM + filled);
    }

    fn go_on(&mut self, ring: &mut impl Ring, mut flight: InFlight, range: Range<usize>) {
        ring.send(self.tag, self.fd, flight.lease(), range.clone(), false);
        self.sending = Some((flight, range));
    }

    /// A send ended.
    pub(crate) fn on_sent(
        &mut self,
        ring: &mut impl Ring,
        lease: Option<Lease>,
        result: Result<usize, Errno>,
    ) -> Result<(), Errno> {
        let (mut flight, mut range) = self.sending.take().expect("a send ends once");
        flight.give_back(lease.expect("control messages are never sent zero-copy"));
        match result {
            Ok(0) => return Err(Errno::from_raw(nix::libc::EPIPE)),
            Ok(sent) => range.start += sent,
            Err(errno) if is_retryable(errno) => {}
            Err(errno) => return Err(errno),
        }
        if range.is_empty() {
            self.line = flight.land().ok();
        } else {
            self.go_on(ring, flight, range);
        }
        Ok(())
    }
}

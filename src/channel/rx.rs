//! The receiving end of a data connection: a header, then its payload straight into a slot.
//!
//! The invariant: not one byte of payload is received before its header was found good and the session said where it
//! goes, so no byte is ever moved afterwards. How headers look is a [`Framing`]'s business.

use std::fmt::Debug;
use std::os::fd::{AsRawFd, OwnedFd};

use super::is_retryable;
use crate::buffer::Slot;
use crate::error::Errno;
use crate::limits::HEADER_ROOM;
use crate::ring::{Ring, Tag};
use crate::wire::Malformed;

/// How packets follow one another on a connection.
pub(crate) trait Framing {
    /// What stands in front of a packet's payload.
    type Header: Copy + Debug;
    /// Bytes of it.
    const LEN: usize;

    /// Reads a header; `bytes` are as many as it has.
    fn decode(&self, bytes: &[u8]) -> Result<Self::Header, Malformed>;

    /// What comes after it.
    fn rest(header: &Self::Header) -> Rest;

    /// Goes on with the sum of a payload, over bytes that just came.
    fn sum(&self, so_far: u32, fresh: &[u8]) -> u32;
}

/// What comes after a header, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// A payload that belongs in a slot.
    Payload(u32),
    /// Bytes that nobody wants.
    Unwanted(u32),
}

/// What an operation's end meant.
#[derive(Debug)]
pub(crate) enum RxEvent<H> {
    /// More has to come first.
    Pending,
    /// A good header: [`Rx::accept`] or give up.
    Header(H),
    /// A packet is complete; `crc32c` is that of its payload (0 when payloads are not checked).
    Packet { header: H, slot: Slot, crc32c: u32 },
    /// A good header of a packet that nobody wants. What follows it is dropped, nothing has to be done.
    Unwanted(H),
    /// The peer closed between two packets.
    Closed,
    /// The peer closed within a packet.
    Cut,
    /// The connection is of no use any more.
    Failed(Errno),
    /// The bytes are no header.
    Malformed(Malformed),
}

#[derive(Debug, Clone, Copy)]
enum Phase<H> {
    Header { filled: usize },
    Payload { header: H, len: u32, filled: usize, crc32c: u32 },
    Unwanted { left: u32 },
}

/// The receiving end of a data connection.
#[derive(Debug)]
pub(crate) struct Rx<F: Framing> {
    socket: OwnedFd,
    tag: Tag,
    framing: F,
    /// Where headers are received, and what nobody wants; away while the kernel fills it.
    line: Option<Slot>,
    phase: Phase<F::Header>,
    /// Bytes of everything received, and of that what came before the current packet.
    received: u64,
    packet_offset: u64,
    /// Payload bytes received into slots.
    pub(crate) bytes: u64,
    /// Packets received into slots.
    pub(crate) packets: u64,
}

impl<F: Framing> Rx<F> {
    pub(crate) fn new(socket: OwnedFd, tag: Tag, line: Slot, framing: F) -> Rx<F> {
        let phase = Phase::Header { filled: 0 };
        Rx {
            socket,
            tag,
            framing,
            line: Some(line),
            phase,
            received: 0,
            packet_offset: 0,
            bytes: 0,
            packets: 0,
        }
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// How many bytes came before the current packet.
    pub(crate) fn packet_offset(&self) -> u64 {
        self.packet_offset
    }

    /// Begins to wait for the next header.
    pub(crate) fn begin(&mut self, ring: &mut impl Ring) {
        self.phase = Phase::Header { filled: 0 };
        self.packet_offset = self.received;
        let line = self.line.take().expect("the line is here between headers");
        self.receive(ring, line, 0, F::LEN);
    }

    fn receive(&self, ring: &mut impl Ring, slot: Slot, filled: usize, end: usize) {
        ring.receive(self.tag, self.socket.as_raw_fd(), slot, HEADER_ROOM + filled..HEADER_ROOM + end);
    }

    /// Receives the payload of the header that just came into `slot`. A packet without payload is complete at once.
    pub(crate) fn accept(
        &mut self,
        ring: &mut impl Ring,
        header: F::Header,
        slot: Slot,
    ) -> RxEvent<F::Header> {
        let (Rest::Payload(len) | Rest::Unwanted(len)) = F::rest(&header);
        assert!(len <= slot.capacity(), "the session accepts what fits");
        if len == 0 {
            return self.complete(ring, header, slot, 0, 0);
        }
        self.phase = Phase::Payload { header, len, filled: 0, crc32c: 0 };
        self.receive(ring, slot, 0, len as usize);
        RxEvent::Pending
    }

    /// A receive ended.
    pub(crate) fn on_received(
        &mut self,
        ring: &mut impl Ring,
        slot: Slot,
        result: Result<usize, Errno>,
    ) -> RxEvent<F::Header> {
        let came = match result {
            Ok(0) if matches!(self.phase, Phase::Header { filled: 0 }) => return RxEvent::Closed,
            Ok(0) => return RxEvent::Cut,
            Ok(came) => came,
            Err(errno) if is_retryable(errno) => 0,
            Err(errno) => return RxEvent::Failed(errno),
        };
        self.received += came as u64;
        match self.phase {
            Phase::Header { filled } => self.on_header(ring, slot, filled + came),
            Phase::Payload { header, len, filled, crc32c } => {
                // summed up as they come, while they are in this processor's cache
                let fresh = slot.bytes(HEADER_ROOM + filled..HEADER_ROOM + filled + came);
                let (filled, crc32c) = (filled + came, self.framing.sum(crc32c, fresh));
                if filled == len as usize {
                    return self.complete(ring, header, slot, len, crc32c);
                }
                self.phase = Phase::Payload { header, len, filled, crc32c };
                self.receive(ring, slot, filled, len as usize);
                RxEvent::Pending
            }
            Phase::Unwanted { left } => {
                let came = u32::try_from(came).expect("no more came than was asked for");
                self.line = Some(slot);
                self.pass_over(ring, left - came);
                RxEvent::Pending
            }
        }
    }

    fn on_header(&mut self, ring: &mut impl Ring, line: Slot, filled: usize) -> RxEvent<F::Header> {
        if filled < F::LEN {
            self.phase = Phase::Header { filled };
            self.receive(ring, line, filled, F::LEN);
            return RxEvent::Pending;
        }
        let header = self.framing.decode(line.payload(F::LEN));
        self.line = Some(line);
        match header.map(|header| (header, F::rest(&header))) {
            Ok((header, Rest::Payload(_))) => RxEvent::Header(header),
            Ok((header, Rest::Unwanted(len))) => {
                self.pass_over(ring, len);
                RxEvent::Unwanted(header)
            }
            Err(what) => RxEvent::Malformed(what),
        }
    }

    /// Receives what nobody wants, one line after the other.
    fn pass_over(&mut self, ring: &mut impl Ring, left: u32) {
        if left == 0 {
            return self.begin(ring);
        }
        self.phase = Phase::Unwanted { left };
        let line = self.line.take().expect("the line is here between receives into it");
        let end = left.min(line.capacity()) as usize;
        self.receive(ring, line, 0, end);
    }

    fn complete(
        &mut self,
        ring: &mut impl Ring,
        header: F::Header,
        slot: Slot,
        len: u32,
        crc32c: u32,
    ) -> RxEvent<F::Header> {
        self.bytes += u64::from(len);
        self.packets += 1;
        self.begin(ring);
        RxEvent::Packet { header, slot, crc32c }
    }
}

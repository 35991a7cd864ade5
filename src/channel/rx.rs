//! The receiving end of a data connection: a header, then its payload straight into a slot.
//!
//! The invariant: not one byte of payload is received before its header was checked and the session has provided a
//! place, so no byte is ever moved afterwards. A [`Framing`] defines the headers.

use std::fmt::Debug;

use crate::buffer::Slot;
use crate::error::Errno;
use crate::limits::HEADER_ROOM;
use crate::net::Connection;
use crate::ring::{Directions, Ring, Tag};
use crate::wire::Malformed;

/// How packets follow one another on a connection.
pub(crate) trait Framing {
    /// The header in front of a packet's payload.
    type Header: Copy + Debug;
    /// What is known of a skipped packet.
    type Skipped: Copy + Debug;
    /// Length of the header in front of every packet, of either kind.
    const LEN: usize;

    /// Reads the header in front of a packet; `bytes` has the length [`LEN`](Framing::LEN).
    fn decode(&mut self, bytes: &[u8]) -> Result<Frame<Self::Header, Self::Skipped>, Malformed>;

    /// Bytes of payload after a header.
    fn payload_len(header: &Self::Header) -> u32;

    /// Continues the sum of a payload over bytes that just came.
    fn sum(&self, so_far: u32, fresh: &[u8]) -> u32;
}

/// What comes next on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame<H, S> {
    /// A packet whose payload belongs in a slot.
    Packet(H),
    /// A packet that is skipped: `len` bytes are received and dropped.
    Skipped { what: S, len: u32 },
}

/// What an operation's end meant.
#[derive(Debug)]
pub(crate) enum RxEvent<H> {
    /// More has to come first.
    Pending,
    /// A valid header: call [`Rx::accept`] or give up.
    Header(H),
    /// A packet is complete; `crc32c` is that of its payload (0 when payloads are not checked).
    Packet { header: H, slot: Slot, crc32c: u32 },
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
enum Phase<H, S> {
    Header { filled: usize },
    Payload { header: H, len: u32, filled: usize, crc32c: u32 },
    Skipping { what: S, left: u32 },
}

/// The receiving end of a data connection.
#[derive(Debug)]
pub(crate) struct Rx<F: Framing> {
    connection: Connection,
    tag: Tag,
    framing: F,
    /// Receives headers and skipped packets; `None` while the kernel fills it.
    buffer: Option<Slot>,
    phase: Phase<F::Header, F::Skipped>,
    /// All bytes received, and how many of them came before the current packet.
    received: u64,
    packet_offset: u64,
    /// Payload bytes received into slots.
    pub(crate) bytes: u64,
    /// Packets received into slots.
    pub(crate) packets: u64,
}

impl<F: Framing> Rx<F> {
    pub(crate) fn new(connection: Connection, tag: Tag, buffer: Slot, framing: F) -> Rx<F> {
        let phase = Phase::Header { filled: 0 };
        Rx {
            connection,
            tag,
            framing,
            buffer: Some(buffer),
            phase,
            received: 0,
            packet_offset: 0,
            bytes: 0,
            packets: 0,
        }
    }

    /// Shuts the connection down: operations under way on it end.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn shut_down(&self, ring: &mut impl Ring) {
        self.connection.shut_down(ring, Directions::Both);
    }

    /// How many bytes came before the current packet.
    pub(crate) fn packet_offset(&self) -> u64 {
        self.packet_offset
    }

    /// Begins to receive the next header.
    pub(crate) fn begin(&mut self, ring: &mut impl Ring) {
        self.phase = Phase::Header { filled: 0 };
        self.packet_offset = self.received;
        let buffer = self.buffer.take().expect("the buffer is here between headers");
        self.receive(ring, buffer, 0, F::LEN);
    }

    fn receive(&self, ring: &mut impl Ring, slot: Slot, filled: usize, end: usize) {
        ring.receive(self.tag, self.connection.fd(), slot, HEADER_ROOM + filled..HEADER_ROOM + end);
    }

    /// Receives the payload of the header that just came into `slot`. A packet without payload is complete immediately.
    pub(crate) fn accept(
        &mut self,
        ring: &mut impl Ring,
        header: F::Header,
        slot: Slot,
    ) -> RxEvent<F::Header> {
        let len = F::payload_len(&header);
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
            Err(errno) if errno.is_retryable() => 0,
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
            Phase::Skipping { what, left } => {
                let came = u32::try_from(came).expect("no more came than was asked for");
                self.buffer = Some(slot);
                self.skip(ring, what, left - came)
            }
        }
    }

    fn on_header(&mut self, ring: &mut impl Ring, buffer: Slot, filled: usize) -> RxEvent<F::Header> {
        if filled < F::LEN {
            self.phase = Phase::Header { filled };
            self.receive(ring, buffer, filled, F::LEN);
            return RxEvent::Pending;
        }
        let frame = self.framing.decode(buffer.payload(F::LEN));
        self.buffer = Some(buffer);
        match frame {
            Ok(Frame::Packet(header)) => RxEvent::Header(header),
            Ok(Frame::Skipped { what, len }) => self.skip(ring, what, len),
            Err(what) => RxEvent::Malformed(what),
        }
    }

    /// Receives the rest of a skipped packet, one buffer after the other, and then the next header.
    fn skip(&mut self, ring: &mut impl Ring, what: F::Skipped, left: u32) -> RxEvent<F::Header> {
        if left == 0 {
            self.begin(ring);
            return RxEvent::Pending;
        }
        self.phase = Phase::Skipping { what, left };
        let buffer = self.buffer.take().expect("the buffer is here between receives into it");
        let end = left.min(buffer.capacity()) as usize;
        self.receive(ring, buffer, 0, end);
        RxEvent::Pending
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

//! The receiving end of a data connection: a header, then its payload straight into a slot.
//!
//! The invariant: not one byte of payload is received before its header was found good and the session said where it
//! goes, so no byte is ever moved afterwards.

use std::os::fd::{AsRawFd, OwnedFd};

use super::is_retryable;
use crate::buffer::Slot;
use crate::error::Errno;
use crate::limits::HEADER_ROOM;
use crate::ring::{Ring, Tag};
use crate::wire::{self, Checksum, DATA_HEADER_LEN, DataHeader, Malformed};

/// What an operation's end meant.
#[derive(Debug)]
pub(crate) enum RxEvent {
    /// More has to come first.
    Pending,
    /// A good header: [`Rx::accept`] or give up.
    Header(DataHeader),
    /// A packet is complete; `crc32c` is that of its payload (0 when payloads are not checked).
    Packet { header: DataHeader, slot: Slot, crc32c: u32 },
    /// The peer closed between two packets.
    Closed,
    /// The peer closed within a packet.
    Cut,
    /// The connection is of no use any more.
    Failed(Errno),
    /// The bytes are no header.
    Malformed(Malformed),
}

#[derive(Debug)]
enum Phase {
    Header { filled: usize },
    Payload { header: DataHeader, filled: usize, crc32c: u32 },
}

/// The receiving end of a data connection.
#[derive(Debug)]
pub(crate) struct Rx {
    socket: OwnedFd,
    tag: Tag,
    checksum: Checksum,
    /// Where headers are received; away while the kernel fills it.
    line: Option<Slot>,
    phase: Phase,
    /// Payload bytes received.
    pub(crate) bytes: u64,
    /// Packets received.
    pub(crate) packets: u64,
}

impl Rx {
    pub(crate) fn new(socket: OwnedFd, tag: Tag, line: Slot, checksum: Checksum) -> Rx {
        let phase = Phase::Header { filled: 0 };
        Rx { socket, tag, checksum, line: Some(line), phase, bytes: 0, packets: 0 }
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Begins to wait for the next header.
    pub(crate) fn begin(&mut self, ring: &mut impl Ring) {
        self.phase = Phase::Header { filled: 0 };
        let line = self.line.take().expect("the line is here between headers");
        ring.receive(self.tag, self.socket.as_raw_fd(), line, HEADER_ROOM..HEADER_ROOM + DATA_HEADER_LEN);
    }

    /// Receives the payload of the header that just came into `slot`. A packet without payload is complete at once.
    pub(crate) fn accept(&mut self, ring: &mut impl Ring, header: DataHeader, slot: Slot) -> RxEvent {
        assert!(header.len <= slot.capacity(), "the session accepts what fits");
        if header.len == 0 {
            return self.complete(ring, header, slot, 0);
        }
        let range = HEADER_ROOM..HEADER_ROOM + header.len as usize;
        self.phase = Phase::Payload { header, filled: 0, crc32c: 0 };
        ring.receive(self.tag, self.socket.as_raw_fd(), slot, range);
        RxEvent::Pending
    }

    /// A receive ended.
    pub(crate) fn on_received(
        &mut self,
        ring: &mut impl Ring,
        slot: Slot,
        result: Result<usize, Errno>,
    ) -> RxEvent {
        match self.phase {
            Phase::Header { filled } => self.on_header(ring, slot, result, filled),
            Phase::Payload { header, filled, crc32c } => {
                self.on_payload(ring, slot, result, header, filled, crc32c)
            }
        }
    }

    fn on_header(
        &mut self,
        ring: &mut impl Ring,
        line: Slot,
        result: Result<usize, Errno>,
        filled: usize,
    ) -> RxEvent {
        let filled = match result {
            Ok(0) if filled == 0 => return RxEvent::Closed,
            Ok(0) => return RxEvent::Cut,
            Ok(came) => filled + came,
            Err(errno) if is_retryable(errno) => filled,
            Err(errno) => return RxEvent::Failed(errno),
        };
        if filled < DATA_HEADER_LEN {
            self.phase = Phase::Header { filled };
            let rest = HEADER_ROOM + filled..HEADER_ROOM + DATA_HEADER_LEN;
            ring.receive(self.tag, self.socket.as_raw_fd(), line, rest);
            return RxEvent::Pending;
        }
        let bytes = line.payload(DATA_HEADER_LEN).try_into().expect("as long as a header");
        let header = DataHeader::decode(bytes);
        self.line = Some(line);
        header.map_or_else(RxEvent::Malformed, RxEvent::Header)
    }

    fn on_payload(
        &mut self,
        ring: &mut impl Ring,
        slot: Slot,
        result: Result<usize, Errno>,
        header: DataHeader,
        filled: usize,
        crc32c: u32,
    ) -> RxEvent {
        let came = match result {
            Ok(0) => return RxEvent::Cut,
            Ok(came) => came,
            Err(errno) if is_retryable(errno) => 0,
            Err(errno) => return RxEvent::Failed(errno),
        };
        // checked as they come, while they are in this processor's cache
        let fresh = slot.bytes(HEADER_ROOM + filled..HEADER_ROOM + filled + came);
        let crc32c = match self.checksum {
            Checksum::Crc32c => wire::crc32c(crc32c, fresh),
            Checksum::None => 0,
        };
        let filled = filled + came;
        if filled < header.len as usize {
            self.phase = Phase::Payload { header, filled, crc32c };
            let rest = HEADER_ROOM + filled..HEADER_ROOM + header.len as usize;
            ring.receive(self.tag, self.socket.as_raw_fd(), slot, rest);
            return RxEvent::Pending;
        }
        self.complete(ring, header, slot, crc32c)
    }

    fn complete(&mut self, ring: &mut impl Ring, header: DataHeader, slot: Slot, crc32c: u32) -> RxEvent {
        self.bytes += u64::from(header.len);
        self.packets += 1;
        self.begin(ring);
        RxEvent::Packet { header, slot, crc32c }
    }
}

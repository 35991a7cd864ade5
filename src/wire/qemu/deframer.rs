//! An incremental walk over the bytes of one multifd connection, in pieces of any size. It keeps none of the packets'
//! contents; callers that want them use the offsets.

use super::{INIT_LEN, Init, PREFIX_LEN, Packet, PageSize};
use crate::wire::Malformed;

/// What the walk finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation for each packet")]
pub enum Frame {
    /// The connection's first 64 bytes.
    Init(Init),
    /// The beginning of a packet at `offset`; its rest follows.
    Begin {
        /// The packet.
        packet: Packet,
        /// Where it begins on this connection.
        offset: u64,
    },
    /// The packet that began last is complete.
    End,
}

/// Walks over a multifd connection.
#[derive(Debug, Clone)]
pub struct Deframer {
    state: State,
    page_size: PageSize,
    buffer: [u8; PREFIX_LEN],
    filled: usize,
    offset: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Init,
    Prefix,
    Rest { remaining: u32 },
}

impl Deframer {
    /// At the beginning of a connection.
    pub fn new(page_size: PageSize) -> Deframer {
        Deframer { state: State::Init, page_size, buffer: [0; PREFIX_LEN], filled: 0, offset: 0 }
    }

    /// Behind the init, which the caller has already read.
    pub fn after_init(page_size: PageSize) -> Deframer {
        Deframer { state: State::Prefix, offset: INIT_LEN as u64, ..Deframer::new(page_size) }
    }

    /// Takes from `bytes`: returns how many it took, and the frame that they completed. Without a frame it took all of
    /// them.
    ///
    /// After an error the connection cannot be followed any further; [`offset`](Deframer::offset) is the end of the
    /// invalid bytes.
    pub fn next(&mut self, bytes: &[u8]) -> Result<(usize, Option<Frame>), Malformed> {
        let wanted = match self.state {
            State::Rest { remaining } => return Ok(self.skip(bytes, remaining)),
            State::Init => INIT_LEN,
            State::Prefix => PREFIX_LEN,
        };
        let taken = (wanted - self.filled).min(bytes.len());
        self.buffer[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        self.offset += taken as u64;
        if self.filled < wanted {
            return Ok((taken, None));
        }
        // an invalid prefix stays in the buffer: no boundary
        let frame = self.decode()?;
        self.filled = 0;
        Ok((taken, Some(frame)))
    }

    fn skip(&mut self, bytes: &[u8], remaining: u32) -> (usize, Option<Frame>) {
        let skipped = remaining.min(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.offset += u64::from(skipped);
        if skipped < remaining {
            self.state = State::Rest { remaining: remaining - skipped };
            return (skipped as usize, None);
        }
        self.state = State::Prefix;
        (skipped as usize, Some(Frame::End))
    }

    fn decode(&mut self) -> Result<Frame, Malformed> {
        if let State::Init = self.state {
            let init = Init::decode(self.buffer.first_chunk().expect("the buffer is longer"))?;
            self.state = State::Prefix;
            return Ok(Frame::Init(init));
        }
        let packet = Packet::decode(&self.buffer, self.page_size)?;
        self.state = State::Rest { remaining: packet.rest() };
        Ok(Frame::Begin { packet, offset: self.offset - PREFIX_LEN as u64 })
    }

    /// Bytes walked over.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the connection may end here: behind the init, and not within a packet.
    pub fn is_at_boundary(&self) -> bool {
        matches!(self.state, State::Prefix) && self.filled == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::qemu::{DevicePacket, Idstr, RamPacket, SyncPacket};

    const INIT: Init = Init { uuid: [7; 16], id: 1 };

    fn packets() -> [Packet; 4] {
        let page_size = PageSize::default();
        let idstr = Idstr::new(b"0000:00:01.0/vfio").unwrap();
        let device = DevicePacket { idstr, instance: 0, idx: 0, config: false, len: 72 };
        [
            Packet::Sync(SyncPacket::new(0, page_size)),
            Packet::Ram(RamPacket::new(1, 2, 0, page_size)),
            Packet::Device(device),
            Packet::Device(DevicePacket { len: 0, idx: 1, ..device }),
        ]
    }

    fn stream() -> Vec<u8> {
        let mut bytes = vec![0; INIT_LEN];
        INIT.encode(bytes.as_mut_slice().try_into().unwrap());
        for packet in packets() {
            let mut prefix = [0; PREFIX_LEN];
            packet.encode(&mut prefix, PageSize::default());
            bytes.extend(prefix);
            bytes.extend(vec![0xee; packet.rest() as usize]);
        }
        bytes
    }

    fn walk(pieces: &[&[u8]]) -> (Vec<Frame>, Deframer) {
        let (mut frames, mut deframer) = (Vec::new(), Deframer::new(PageSize::default()));
        for piece in pieces {
            let mut rest = *piece;
            loop {
                let (taken, frame) = deframer.next(rest).unwrap();
                rest = &rest[taken..];
                let Some(frame) = frame else { break };
                frames.push(frame);
            }
            assert!(rest.is_empty());
        }
        (frames, deframer)
    }

    #[test]
    fn finds_every_packet_where_it_begins() {
        let bytes = stream();
        let (frames, deframer) = walk(&[&bytes]);
        assert_eq!(frames[0], Frame::Init(INIT));
        let mut offset = INIT_LEN as u64;
        for (packet, frames) in packets().into_iter().zip(frames[1..].chunks(2)) {
            assert_eq!(frames, [Frame::Begin { packet, offset }, Frame::End]);
            offset += PREFIX_LEN as u64 + u64::from(packet.rest());
        }
        assert_eq!(offset, deframer.offset());
        assert!(deframer.is_at_boundary());
    }

    #[test]
    fn a_connection_ends_between_packets_alone() {
        let bytes = stream();
        for end in 0..bytes.len() {
            let (frames, deframer) = walk(&[&bytes[..end]]);
            let ended = frames.last().is_some_and(|frame| !matches!(frame, Frame::Begin { .. }));
            let mut begun = frames.iter().filter(|frame| matches!(frame, Frame::Begin { .. }));
            let last = begun.next_back().map_or(INIT_LEN as u64, |frame| match frame {
                Frame::Begin { packet, offset } => offset + PREFIX_LEN as u64 + u64::from(packet.rest()),
                _ => 0,
            });
            assert_eq!(deframer.is_at_boundary(), ended && last == end as u64, "cut at {end}");
        }
    }

    #[test]
    fn what_is_no_packet_is_refused_where_it_stands() {
        let mut bytes = stream();
        let at = INIT_LEN + 1344;
        bytes[at] = 0x12;
        let mut deframer = Deframer::after_init(PageSize::default());
        let mut rest = &bytes[INIT_LEN..];
        let error = loop {
            match deframer.next(rest) {
                Ok((taken, _)) => rest = &rest[taken..],
                Err(error) => break error,
            }
        };
        assert_eq!(error, Malformed::Magic { found: 0x1222_3344 });
        assert_eq!(deframer.offset(), (at + PREFIX_LEN) as u64);
        // a connection that closes now did not end well
        assert!(!deframer.is_at_boundary());
        assert_eq!(deframer.next(rest), Err(error));
    }

    proptest! {
        #[test]
        fn the_size_of_pieces_makes_no_difference(size in 1_usize..3000) {
            let bytes = stream();
            let whole = walk(&[&bytes]).0;
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            prop_assert_eq!(walk(&pieces).0, whole);
        }
    }
}

//! The framing of our own protocol: 64 bytes in front of every payload.

use std::convert::Infallible;

use super::rx::{Frame, Framing};
use crate::wire;
use crate::wire::{Checksum, DATA_HEADER_LEN, DataHeader, Malformed};

/// Our own framing, with payloads checked as this session has agreed.
#[derive(Debug)]
pub(crate) struct Native(pub(crate) Checksum);

impl Framing for Native {
    type Header = DataHeader;
    /// Every packet goes into a slot.
    type Skipped = Infallible;
    const LEN: usize = DATA_HEADER_LEN;

    fn decode(&self, bytes: &[u8]) -> Result<Frame<DataHeader, Infallible>, Malformed> {
        DataHeader::decode(bytes.try_into().map_err(|_| Malformed::Truncated)?).map(Frame::Packet)
    }

    fn payload_len(header: &DataHeader) -> u32 {
        header.len
    }

    fn sum(&self, so_far: u32, fresh: &[u8]) -> u32 {
        match self.0 {
            Checksum::Crc32c => wire::crc32c(so_far, fresh),
            Checksum::None => 0,
        }
    }
}

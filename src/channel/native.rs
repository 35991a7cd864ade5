//! The framing of our own protocol: 64 bytes in front of every payload. It drops what only warms the connection up, and the
//! invariant is that this is no more than was granted.

use super::rx::{Frame, Framing};
use crate::wire;
use crate::wire::{Checksum, DATA_HEADER_LEN, DataHeader, Malformed, WarmUp};

/// Our own framing, with payloads checked as this session has agreed.
#[derive(Debug)]
pub(crate) struct Native {
    checksum: Checksum,
    /// Bytes that may still come to warm the connection up.
    warm_up_left: u64,
}

impl Native {
    pub(crate) fn new(checksum: Checksum, warm_up_left: u64) -> Native {
        Native { checksum, warm_up_left }
    }
}

impl Framing for Native {
    type Header = DataHeader;
    /// What warms the connection up.
    type Skipped = ();
    const LEN: usize = DATA_HEADER_LEN;

    fn decode(&mut self, bytes: &[u8]) -> Result<Frame<DataHeader, ()>, Malformed> {
        let bytes = bytes.try_into().map_err(|_| Malformed::Truncated)?;
        let Some(WarmUp { len }) = WarmUp::decode(bytes)? else {
            return DataHeader::decode(bytes).map(Frame::Packet);
        };
        // P-46
        let (found, max) = (len.into(), self.warm_up_left);
        let left = max.checked_sub(found).ok_or(Malformed::TooLong { field: "warm-up", found, max })?;
        self.warm_up_left = left;
        Ok(Frame::Skipped { what: (), len })
    }

    fn payload_len(header: &DataHeader) -> u32 {
        header.len
    }

    fn sum(&self, so_far: u32, fresh: &[u8]) -> u32 {
        match self.checksum {
            Checksum::Crc32c => wire::crc32c(so_far, fresh),
            Checksum::None => 0,
        }
    }
}

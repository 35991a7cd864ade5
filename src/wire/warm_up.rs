//! The header in front of bytes that only warm a data connection up: the receiver drops them. Knows nothing of how many
//! there may be. A decoded header is one that a sender of this version can have written.

use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::data::DATA_HEADER_LEN;
use super::{Malformed, VERSION, crc32c, reserved_is_zero};
use crate::limits::PACKET_SIZE_MAX;

/// The feature bit of an offer (P-13) with which a sender asks how many bytes it may warm the data connections up with.
pub const FEATURE_WARM_UP: u64 = 1 << 33;

const MAGIC: u32 = u32::from_be_bytes(*b"RLwu");
const CHECK_AT: usize = DATA_HEADER_LEN - size_of::<u32>();

/// The header in front of bytes that the receiver drops. It is as long as that of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmUp {
    /// Bytes that follow.
    pub len: u32,
}

/// The bytes, as `docs/PROTOCOL.md` draws them.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    magic: U32,
    version: U16,
    reserved_1: [u8; 6],
    len: U32,
    reserved_2: [u8; 44],
    check: U32,
}

impl WarmUp {
    /// Writes the header.
    pub fn encode(&self, out: &mut [u8; DATA_HEADER_LEN]) {
        let layout = Layout {
            magic: U32::new(MAGIC),
            version: U16::new(VERSION),
            reserved_1: [0; 6],
            len: U32::new(self.len),
            reserved_2: [0; 44],
            check: U32::ZERO,
        };
        *out = zerocopy::transmute!(layout);
        let check = crc32c(0, &out[..CHECK_AT]);
        out[CHECK_AT..].copy_from_slice(&check.to_be_bytes());
    }

    /// Reads a header; `None` when it is that of something else.
    pub fn decode(bytes: &[u8; DATA_HEADER_LEN]) -> Result<Option<WarmUp>, Malformed> {
        let layout: &Layout = zerocopy::transmute_ref!(bytes);
        // P-14
        if layout.magic.get() != MAGIC {
            return Ok(None);
        }
        if layout.version.get() != VERSION {
            return Err(Malformed::Version { found: layout.version.get() });
        }
        if layout.check.get() != crc32c(0, &bytes[..CHECK_AT]) {
            return Err(Malformed::Check);
        }
        reserved_is_zero(&layout.reserved_1)?;
        reserved_is_zero(&layout.reserved_2)?;
        // P-46
        match layout.len.get() {
            0 => Err(Malformed::Value { field: "warm-up length", found: 0 }),
            len if len > PACKET_SIZE_MAX => {
                Err(Malformed::TooLong { field: "warm-up", found: len.into(), max: PACKET_SIZE_MAX.into() })
            }
            len => Ok(Some(WarmUp { len })),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::DataHeader;
    use crate::wire::golden::unhex;

    fn encoded(len: u32) -> [u8; DATA_HEADER_LEN] {
        let mut bytes = [0xff; DATA_HEADER_LEN];
        WarmUp { len }.encode(&mut bytes);
        bytes
    }

    #[test]
    fn the_header_has_the_bytes_of_the_drawing() {
        let golden: [u8; DATA_HEADER_LEN] = unhex(
            "524c7775 0001 000000000000 0000abcd 0000000000000000000000 0000000000000000000000 0000000000000000000000 \
             0000000000000000000000 8ae39355",
        );
        assert_eq!(encoded(0xabcd), golden);
        assert_eq!(WarmUp::decode(&golden), Ok(Some(WarmUp { len: 0xabcd })));
    }

    #[test]
    fn it_is_no_packet_and_a_packet_is_none() {
        let header =
            DataHeader { device: 0, idx: 0, config: false, len: 1, crc32c: 0, read_at_ns: 0, sent_at_ns: 0 };
        let mut packet = [0; DATA_HEADER_LEN];
        header.encode(&mut packet);
        assert_eq!(WarmUp::decode(&packet), Ok(None));
        assert!(matches!(DataHeader::decode(&encoded(1)), Err(Malformed::Magic { .. })));
    }

    #[test]
    fn every_single_byte_corruption_is_noticed() {
        for at in 0..DATA_HEADER_LEN {
            for flip in 1..=255 {
                let mut bytes = encoded(4096);
                bytes[at] ^= flip;
                assert!(
                    !matches!(WarmUp::decode(&bytes), Ok(Some(_))),
                    "byte {at} ^ {flip:#04x} was accepted"
                );
            }
        }
    }

    #[test]
    fn its_length_is_bounded_and_reserved_bytes_are_zero() {
        assert!(WarmUp::decode(&encoded(PACKET_SIZE_MAX)).is_ok());
        assert!(matches!(WarmUp::decode(&encoded(PACKET_SIZE_MAX + 1)), Err(Malformed::TooLong { .. })));
        assert!(matches!(WarmUp::decode(&encoded(0)), Err(Malformed::Value { .. })));
        for at in [6, 11, 16, 59] {
            let mut bytes = encoded(7);
            bytes[at] = 1;
            let check = crc32c(0, &bytes[..CHECK_AT]);
            bytes[CHECK_AT..].copy_from_slice(&check.to_be_bytes());
            let found = Malformed::Value { field: "reserved byte", found: 1 };
            assert_eq!(WarmUp::decode(&bytes), Err(found), "{at}");
        }
    }

    proptest! {
        #[test]
        fn decoding_never_panics(first: [u8; 32], second: [u8; 32]) {
            let mut bytes = [0; DATA_HEADER_LEN];
            bytes[..32].copy_from_slice(&first);
            bytes[32..].copy_from_slice(&second);
            prop_assert!(!matches!(WarmUp::decode(&bytes), Ok(Some(_))));
        }
    }
}

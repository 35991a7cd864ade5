//! The header in front of every packet's payload on a data connection. Knows nothing of devices, order or credit. A
//! decoded header is one that a sender of this version can have written.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Malformed, VERSION, crc32c, reserved_is_zero};
use crate::limits::{CONFIG_SIZE_MAX, PACKET_SIZE_MAX};

/// Bytes of an encoded [`DataHeader`].
pub const DATA_HEADER_LEN: usize = 64;

const MAGIC: u32 = u32::from_be_bytes(*b"RLdp");
const FLAG_CONFIG: u16 = 1;
const CHECK_AT: usize = DATA_HEADER_LEN - size_of::<u32>();

/// The header in front of a payload. A decoded one is valid in itself (P-14); the session checks whether its numbers
/// fit the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataHeader {
    /// The device's number in this session: its index in the settings.
    pub device: u16,
    /// The packet's number within the device's state: 0, 1, 2 … without gaps.
    pub idx: u64,
    /// The last packet of the device: its payload is the config state.
    pub config: bool,
    /// Bytes of payload that follow.
    pub len: u32,
    /// CRC32C of the payload; 0 when payloads are not checked.
    pub crc32c: u32,
    /// The sender's monotonic clock when the read of the payload's first byte began, in nanoseconds.
    pub read_at_ns: u64,
    /// The sender's monotonic clock when the packet was handed to the socket, in nanoseconds.
    pub sent_at_ns: u64,
}

/// The bytes, as `docs/PROTOCOL.md` draws them.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    magic: U32,
    version: U16,
    flags: U16,
    device: U16,
    reserved_1: [u8; 2],
    len: U32,
    idx: U64,
    read_at_ns: U64,
    sent_at_ns: U64,
    crc32c: U32,
    reserved_2: [u8; 16],
    check: U32,
}

impl DataHeader {
    /// Writes the header. The sender upholds the bound of `len`: it never reads more than that into a slot.
    pub fn encode(&self, out: &mut [u8; DATA_HEADER_LEN]) {
        let layout = Layout {
            magic: U32::new(MAGIC),
            version: U16::new(VERSION),
            flags: U16::new(if self.config { FLAG_CONFIG } else { 0 }),
            device: U16::new(self.device),
            reserved_1: [0; 2],
            len: U32::new(self.len),
            idx: U64::new(self.idx),
            read_at_ns: U64::new(self.read_at_ns),
            sent_at_ns: U64::new(self.sent_at_ns),
            crc32c: U32::new(self.crc32c),
            reserved_2: [0; 16],
            check: U32::ZERO,
        };
        *out = zerocopy::transmute!(layout);
        let check = crc32c(0, &out[..CHECK_AT]);
        out[CHECK_AT..].copy_from_slice(&check.to_be_bytes());
    }

    /// Reads a header, and checks its payload's length before a byte of the payload is read.
    pub fn decode(bytes: &[u8; DATA_HEADER_LEN]) -> Result<DataHeader, Malformed> {
        let layout: &Layout = zerocopy::transmute_ref!(bytes);
        // P-14: identity first, then integrity, and only then meaning.
        if layout.magic.get() != MAGIC {
            return Err(Malformed::Magic { found: layout.magic.get() });
        }
        if layout.version.get() != VERSION {
            return Err(Malformed::Version { found: layout.version.get() });
        }
        if layout.check.get() != crc32c(0, &bytes[..CHECK_AT]) {
            return Err(Malformed::Check);
        }
        let flags = layout.flags.get();
        if flags & !FLAG_CONFIG != 0 {
            return Err(Malformed::Value { field: "flags", found: flags.into() });
        }
        reserved_is_zero(&layout.reserved_1)?;
        reserved_is_zero(&layout.reserved_2)?;
        let config = flags & FLAG_CONFIG != 0;
        let len = layout.len.get();
        // P-15
        let len_max = if config { CONFIG_SIZE_MAX as u64 } else { PACKET_SIZE_MAX.into() };
        if u64::from(len) > len_max {
            return Err(Malformed::TooLong { field: "payload", found: len.into(), max: len_max });
        }
        if len == 0 && !config {
            return Err(Malformed::Value { field: "payload length", found: 0 });
        }
        Ok(DataHeader {
            device: layout.device.get(),
            idx: layout.idx.get(),
            config,
            len,
            crc32c: layout.crc32c.get(),
            read_at_ns: layout.read_at_ns.get(),
            sent_at_ns: layout.sent_at_ns.get(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::golden::unhex;

    const EXAMPLE: DataHeader = DataHeader {
        device: 0x0102,
        idx: 0x1112_1314_1516_1718,
        config: true,
        len: 0xabcd,
        crc32c: 0xdead_beef,
        read_at_ns: 0x2122_2324_2526_2728,
        sent_at_ns: 0x3132_3334_3536_3738,
    };

    fn encoded(header: &DataHeader) -> [u8; DATA_HEADER_LEN] {
        let mut bytes = [0xff; DATA_HEADER_LEN];
        header.encode(&mut bytes);
        bytes
    }

    /// The example with `value` at `offset` and a matching check.
    fn with(offset: usize, value: &[u8]) -> [u8; DATA_HEADER_LEN] {
        let mut bytes = encoded(&EXAMPLE);
        bytes[offset..offset + value.len()].copy_from_slice(value);
        let check = crc32c(0, &bytes[..CHECK_AT]);
        bytes[CHECK_AT..].copy_from_slice(&check.to_be_bytes());
        bytes
    }

    #[test]
    fn the_header_has_the_bytes_of_the_drawing() {
        let golden: [u8; DATA_HEADER_LEN] = unhex(
            "524c6470 0001 0001 0102 0000 0000abcd 1112131415161718 2122232425262728 3132333435363738 \
             deadbeef 00000000000000000000000000000000 f889d83b",
        );
        assert_eq!(encoded(&EXAMPLE), golden);
        assert_eq!(DataHeader::decode(&golden), Ok(EXAMPLE));
    }

    #[test]
    fn every_single_byte_corruption_is_rejected() {
        for at in 0..DATA_HEADER_LEN {
            for flip in 1..=255 {
                let mut bytes = encoded(&EXAMPLE);
                bytes[at] ^= flip;
                assert!(DataHeader::decode(&bytes).is_err(), "byte {at} ^ {flip:#04x} was accepted");
            }
        }
    }

    #[test]
    fn another_magic_is_told_from_another_version() {
        assert_eq!(
            DataHeader::decode(&with(0, b"HTTP")),
            Err(Malformed::Magic { found: u32::from_be_bytes(*b"HTTP") })
        );
        assert_eq!(DataHeader::decode(&with(4, &[0, 2])), Err(Malformed::Version { found: 2 }));
    }

    #[test]
    fn unknown_flags_and_used_reserved_bytes_are_rejected() {
        assert_eq!(DataHeader::decode(&with(6, &[0, 3])), Err(Malformed::Value { field: "flags", found: 3 }));
        for at in [10, 11, 44, 59] {
            assert_eq!(
                DataHeader::decode(&with(at, &[7])),
                Err(Malformed::Value { field: "reserved byte", found: 7 })
            );
        }
    }

    #[test]
    fn payload_length_is_bounded_by_the_kind_of_packet() {
        let decode = |config, len| DataHeader::decode(&encoded(&DataHeader { config, len, ..EXAMPLE }));
        let config_max = u32::try_from(CONFIG_SIZE_MAX).expect("64 KiB");

        assert!(decode(false, PACKET_SIZE_MAX).is_ok());
        assert!(decode(false, 1).is_ok());
        assert!(decode(true, config_max).is_ok());
        assert!(decode(true, 0).is_ok());

        assert!(matches!(decode(false, PACKET_SIZE_MAX + 1), Err(Malformed::TooLong { .. })));
        assert!(matches!(decode(true, config_max + 1), Err(Malformed::TooLong { .. })));
        assert!(matches!(decode(false, u32::MAX), Err(Malformed::TooLong { .. })));
        assert!(matches!(decode(false, 0), Err(Malformed::Value { .. })));
    }

    #[test]
    fn encoding_and_decoding_allocate_nothing() {
        let mut bytes = [0; DATA_HEADER_LEN];
        let counted = allocation_counter::measure(|| {
            EXAMPLE.encode(&mut bytes);
            assert!(DataHeader::decode(&bytes).is_ok());
        });
        assert_eq!(counted.count_total, 0);
    }

    proptest! {
        #[test]
        fn decoding_gives_back_what_was_encoded(
            device: u16, idx: u64, config: bool, crc32c: u32, read_at_ns: u64, sent_at_ns: u64,
            len in 1..=PACKET_SIZE_MAX,
        ) {
            let len = if config { len % (64 << 10) } else { len };
            let header = DataHeader { device, idx, config, len, crc32c, read_at_ns, sent_at_ns };
            prop_assert_eq!(DataHeader::decode(&encoded(&header)), Ok(header));
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(noise: [u8; 32], at in 4usize..32) {
            // Noise with a valid magic, version and check: only the meaning is left to be rejected.
            let bytes = with(at, &noise[..CHECK_AT - at.max(28)]);
            if let Ok(header) = DataHeader::decode(&bytes) {
                prop_assert_eq!(encoded(&header), bytes);
            }
        }

        #[test]
        fn decoding_never_panics(first: [u8; 32], second: [u8; 32]) {
            let mut bytes = [0; DATA_HEADER_LEN];
            bytes[..32].copy_from_slice(&first);
            bytes[32..].copy_from_slice(&second);
            prop_assert!(DataHeader::decode(&bytes).is_err());
        }
    }
}

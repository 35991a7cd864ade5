//! The headers of a data connection, of a payload and of what warms the connection up: what is accepted is within its bounds and is written back byte by byte.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringlift::limits::{CONFIG_SIZE_MAX, PACKET_SIZE_MAX};
use ringlift::wire::{DATA_HEADER_LEN, DataHeader, WarmUp, crc32c};
use ringlift_fuzz::{accepted, seed, without_allocation};

fn seeds() {
    let mut bytes = [0; DATA_HEADER_LEN];
    for (name, config) in [("data", false), ("config", true)] {
        let header =
            DataHeader { device: 1, idx: 2, config, len: 4096, crc32c: 5, read_at_ns: 6, sent_at_ns: 7 };
        header.encode(&mut bytes);
        seed(name, &bytes);
    }
    WarmUp { len: 4096 }.encode(&mut bytes);
    seed("warm_up", &bytes);
}

/// The same bytes with a matching check, which a fuzzer does not guess.
fn mended(bytes: &[u8; DATA_HEADER_LEN]) -> [u8; DATA_HEADER_LEN] {
    let mut mended = *bytes;
    let (checked, check) = mended.split_last_chunk_mut::<4>().expect("64 bytes");
    *check = crc32c(0, checked).to_be_bytes();
    mended
}

fn check(bytes: &[u8; DATA_HEADER_LEN]) {
    check_packet(bytes);
    if let Some(Some(warm_up)) = accepted(without_allocation(|| WarmUp::decode(bytes))) {
        assert!((1..=PACKET_SIZE_MAX).contains(&warm_up.len));
        let mut again = [0; DATA_HEADER_LEN];
        warm_up.encode(&mut again);
        assert_eq!(&again, bytes);
    }
}

fn check_packet(bytes: &[u8; DATA_HEADER_LEN]) {
    let Some(header) = accepted(without_allocation(|| DataHeader::decode(bytes))) else { return };
    let len = header.len as usize;
    assert!(if header.config {
        len <= CONFIG_SIZE_MAX
    } else {
        (1..=PACKET_SIZE_MAX as usize).contains(&len)
    });
    let mut again = [0; DATA_HEADER_LEN];
    header.encode(&mut again);
    assert_eq!(&again, bytes);
}

fuzz_target!(init: seeds(), |input: &[u8]| {
    let Some(bytes) = input.first_chunk() else { return };
    check(bytes);
    check(&mended(bytes));
});

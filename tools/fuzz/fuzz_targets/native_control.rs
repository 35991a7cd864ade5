//! A message on the control connection: what is accepted is written back byte by byte, and takes no more memory than the
//! longest message can need.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringlift::limits::{CONTROL_BODY_MAX, CONTROL_BUFFER_SIZE, DEVICES_MAX, NAME_MAX};
use ringlift::wire::{CONTROL_HEADER_LEN, Control, ControlHeader, DeviceOffer, crc32c};
use ringlift_fuzz::{accepted, seed, within_memory, without_allocation};

const MEMORY_MAX: usize = DEVICES_MAX * (size_of::<DeviceOffer>() + NAME_MAX);

fn seeds() {
    for message in [
        Control::Accept,
        Control::Refuse { code: 3, text: "no such device: net0".into() },
        Control::Ready,
        Control::Credit { device: 1, limit: 64 },
        Control::Switchover,
        Control::Loaded { device: 1, packets: 3, bytes: 4096, crc32c: 5 },
        Control::Commit,
        Control::Committed,
        Control::Abort { code: 1, text: "größer".into() },
        Control::Cancel,
        Control::Heartbeat,
        Control::Ping { at: 7 },
        Control::Pong { at: 7, received_at: 8, sent_at: 9 },
        Control::Report { total: 4, offset: 2, bytes: (*b"{}").into() },
        Control::WarmUp { bytes: 7 },
    ] {
        let mut bytes = [0; CONTROL_BUFFER_SIZE];
        let len = message.encode(&mut bytes);
        seed(message.name(), &bytes[..len]);
    }
}

fn check(header: &ControlHeader, body: &[u8]) {
    let Some(message) = accepted(within_memory(MEMORY_MAX, || Control::decode(header, body))) else { return };
    let mut again = [0; CONTROL_BUFFER_SIZE];
    let len = message.encode(&mut again);
    let mut header_bytes = [0; CONTROL_HEADER_LEN];
    header.encode(&mut header_bytes);
    assert_eq!(again[..len], [&header_bytes, body].concat());
}

fuzz_target!(init: seeds(), |input: &[u8]| {
    let Some((bytes, body)) = input.split_first_chunk::<CONTROL_HEADER_LEN>() else { return };
    let Some(header) = accepted(without_allocation(|| ControlHeader::decode(bytes))) else { return };
    assert!(header.len as usize <= CONTROL_BODY_MAX);
    check(&header, body);
    // and again with a matching length and check, which a fuzzer does not guess
    let mut mended = ControlHeader { len: u32::try_from(body.len()).expect("short"), ..header };
    let mut mended_bytes = [0; CONTROL_HEADER_LEN];
    mended.encode(&mut mended_bytes);
    if ControlHeader::decode(&mended_bytes).is_ok() {
        mended.crc32c = crc32c(crc32c(0, &mended_bytes[..CONTROL_HEADER_LEN - 4]), body);
        check(&mended, body);
    }
});

//! The beginning of a multifd packet: an accepted packet is within its bounds and is written back byte by byte, as far as it
//! is interpreted; and whatever can be written is read back unchanged.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringlift::limits::{CONFIG_SIZE_MAX, QEMU_STATE_MAX};
use ringlift::wire::qemu::{DevicePacket, Idstr, PREFIX_LEN, Packet, PageSize, RamPacket, SyncPacket};
use ringlift_fuzz::{Input, accepted, input, seed, without_allocation};

/// The most bytes that can follow the prefix of a RAM packet: its header with 512 pages of 1 KiB, and the pages.
const RAM_REST_MAX: u32 = 320 + 8 * 512 + (512 << 10);
/// In a RAM packet, the name of the memory block begins here. ringlift does not use it.
const RAM_NAME_AT: usize = 64;

fn seeds() {
    let idstr = Idstr::new(b"0000:00:01.0/vfio").expect("a name");
    let page_size = PageSize::default();
    let device = DevicePacket { idstr, instance: 0, idx: 0, config: false, len: 72 };
    for (name, packet) in [
        ("data", Packet::Device(device)),
        ("config", Packet::Device(DevicePacket { idx: 1, config: true, len: 4132, ..device })),
        ("ram", Packet::Ram(RamPacket::new(1, 2, 3, page_size))),
        ("sync", Packet::Sync(SyncPacket::new(4, page_size))),
    ] {
        let mut bytes = [0; PREFIX_LEN];
        packet.encode(&mut bytes, page_size);
        seed(name, &input(&bytes));
    }
}

fn read(bytes: &[u8; PREFIX_LEN], page_size: PageSize) {
    let Some(packet) = accepted(without_allocation(|| Packet::decode(bytes, page_size))) else { return };
    let mut again = [0; PREFIX_LEN];
    packet.encode(&mut again, page_size);
    match packet {
        Packet::Device(device) => {
            let max = if device.config { CONFIG_SIZE_MAX } else { QEMU_STATE_MAX as usize };
            assert!(device.len as usize <= max && device.idx != u32::MAX);
            assert_eq!(again[..], bytes[..]);
        }
        Packet::Ram(ram) => {
            assert!(ram.rest <= RAM_REST_MAX && ram.normal_pages + ram.zero_pages <= 512);
            assert_eq!(again[..RAM_NAME_AT], bytes[..RAM_NAME_AT]);
        }
        Packet::Sync(sync) => {
            assert!(sync.rest <= RAM_REST_MAX);
            // bytes 12 to 15, the number of pages there is room for, may hold the same as in a RAM packet
            assert_eq!((&again[..12], &again[16..RAM_NAME_AT]), (&bytes[..12], &bytes[16..RAM_NAME_AT]));
        }
    }
    assert_eq!(Packet::decode(&again, page_size), Ok(packet));
}

/// Bytes 0 to 31 are a packet's numbers, those from 32 on are a name.
fn write(bytes: &[u8; PREFIX_LEN], page_size: PageSize) {
    let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let pages_max = (512 << 10) / page_size.bytes();
    let normal_pages = number(0) % (pages_max + 1);
    let zero_pages = number(4) % (pages_max - normal_pages + 1);
    let mut packets = vec![
        Packet::Ram(RamPacket::new(number(8).into(), normal_pages, zero_pages, page_size)),
        Packet::Sync(SyncPacket::new(u64::MAX - u64::from(number(8)), page_size)),
    ];
    let name_len = usize::from(bytes[12]);
    if let Some(idstr) = accepted(Idstr::new(&bytes[32..32 + name_len])) {
        let (instance, idx, config) = (number(16), number(20).min(u32::MAX - 1), bytes[13] & 1 == 1);
        let max = if config { CONFIG_SIZE_MAX - 1 } else { QEMU_STATE_MAX as usize };
        let len = number(24) % (u32::try_from(max).expect("some MiB") + 1) + u32::from(config);
        packets.push(Packet::Device(DevicePacket { idstr, instance, idx, config, len }));
    }
    for packet in packets {
        let mut written = [0; PREFIX_LEN];
        packet.encode(&mut written, page_size);
        assert_eq!(Packet::decode(&written, page_size), Ok(packet));
    }
}

fuzz_target!(init: seeds(), |input: &[u8]| {
    let Some(input) = Input::new(input) else { return };
    let Some(bytes) = input.bytes.first_chunk() else { return };
    let page_size = accepted(PageSize::new(input.choice().into())).unwrap_or_default();
    read(bytes, page_size);
    write(bytes, page_size);
});

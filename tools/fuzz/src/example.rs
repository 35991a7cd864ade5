//! A small migration as QEMU sends it: the source of the targets' seeds.

use ringlift::vfio::config_state::{CONFIG_STATE_TAG, END_OF_STATE_TAG};
use ringlift::wire::qemu::{
    DevicePacket, INIT_LEN, Idstr, Init, PREFIX_LEN, Packet, PageSize, RamPacket, SyncPacket,
};

/// The only device.
pub const DEVICE: &[u8] = b"0000:00:01.0/vfio";

fn vfio(word: u8) -> [u8; 8] {
    [0xff, 0xff, 0xff, 0xff, 0xef, 0x10, 0x00, word]
}

fn footer(id: u8) -> [u8; 5] {
    [0x7e, 0, 0, 0, id]
}

/// The main connection up to and including the device's setup, with a bit of everything in it.
pub fn main_setup() -> Vec<u8> {
    let mut bytes = b"QEVM\0\0\0\x03\x07\0\0\0\x0bpc-q35-10.0".to_vec();
    bytes.extend(b"\x05\x1econfiguration/target-page-bits\0\0\0\x01\0\0\0\x0c");
    bytes.extend(b"\x05\x1aconfiguration/capabilities\0\0\0\x01\0\0\0\x01\x07multifd");
    bytes.extend(b"\x05\x12configuration/uuid\0\0\0\x010123456789abcdef");
    bytes.extend(b"\x08\0\x01\0\0\x08\0\x02\0\x04\0\0\0\x01");
    bytes.extend(b"\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\x20\x04\x06pc.ram\0\0\0\0\0\0\x20\0");
    bytes.extend(b"\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\x10");
    bytes.extend(footer(2));
    bytes.extend([b"\x01\0\0\0\x28\x11", DEVICE, b"\0\0\0\0\0\0\0\x01", &vfio(3), &vfio(1)].concat());
    bytes.extend(footer(0x28));
    bytes
}

/// The main connection up to its first full section, with five bytes of a device's state in it.
pub fn main_live() -> Vec<u8> {
    let mut bytes = main_setup();
    bytes.extend([&b"\x02\0\0\0\x28"[..], &vfio(4), b"\0\0\0\0\0\0\0\x05state", &vfio(5)].concat());
    bytes.extend(footer(0x28));
    bytes.extend(b"\x02\0\0\0\x02\0\0\0\0\0\0\x10\x02\x06pc.ram\0\0\0\0\0\0\0\0\x22\0\0\0\0\0\0\0\0\x10");
    bytes.extend(footer(2));
    bytes.extend(b"\x08\0\x0b\0\0");
    bytes.extend(b"\x03\0\0\0\x02\0\0\0\0\0\0\0\x10");
    bytes.extend(footer(2));
    bytes.extend([&b"\x03\0\0\0\x28"[..], &vfio(1)].concat());
    bytes.extend(footer(0x28));
    bytes
}

/// The last footer, the end, and a description.
pub fn close(json: &[u8]) -> Vec<u8> {
    let len = u32::try_from(json.len()).expect("short");
    [b"\x7e\0\0\0\x2a\0\x06".as_slice(), &len.to_be_bytes(), json].concat()
}

/// The whole main connection.
pub fn main_connection() -> Vec<u8> {
    let json = br#"{"page_size": 4096, "devices": [
        {"name": "timer", "instance_id": 0, "version": 2, "fields": [{"name": "a", "array_len": 2, "size": 4},
            {"name": "b", "struct": {"fields": [{"size": 1}], "subsections": []}}],
         "subsections": [{"vmsd_name": "timer/x", "version": 1, "fields": [{"size": 2}]}]},
        {"name": "0000:00:01.0/vfio", "instance_id": 0, "vmsd_name": "vfio", "fields": [{"name": "data", "size": 8}]}]}"#;
    let mut bytes = main_live();
    bytes.extend(b"\x04\0\0\0\x03\x05timer\0\0\0\0\0\0\0\x02aaaabbbbb\x05\x07timer/x\0\0\0\x01yy");
    bytes.extend(footer(3));
    bytes.extend([b"\x04\0\0\0\x2a\x11", DEVICE, b"\0\0\0\0\0\0\0\x01", &vfio(1)].concat());
    bytes.extend(close(json));
    bytes
}

/// The device's config state, that of a plain PCI function.
pub fn config_state() -> Vec<u8> {
    let (tag, end) = (CONFIG_STATE_TAG.to_be_bytes(), END_OF_STATE_TAG.to_be_bytes());
    [&tag[..], &[0, 0, 0, 2], &[0; 256 + 16], &end].concat()
}

/// The offsets where a multifd connection's packets end, and its bytes: channel 0 has the device's first packet, channel 1
/// the others.
pub fn channel(id: u8) -> (Vec<usize>, Vec<u8>) {
    let page_size = PageSize::default();
    let idstr = Idstr::new(DEVICE).expect("a name");
    let device = DevicePacket { idstr, instance: 0, idx: 0, config: false, len: 72 };
    let config = config_state();
    let len = u32::try_from(config.len()).expect("short");
    let sync = Packet::Sync(SyncPacket::new(id.into(), page_size));
    let packets = match id {
        0 => vec![Packet::Device(device), Packet::Ram(RamPacket::new(2, 1, 2, page_size)), sync],
        _ => vec![
            sync,
            Packet::Device(DevicePacket { idx: 1, len: 0, ..device }),
            Packet::Device(DevicePacket { idx: 2, config: true, len, ..device }),
        ],
    };
    let mut bytes = vec![0; INIT_LEN];
    Init { uuid: *b"0123456789abcdef", id }.encode(bytes.first_chunk_mut().expect("64 bytes"));
    let mut ends = Vec::new();
    for packet in packets {
        let mut prefix = [0; PREFIX_LEN];
        packet.encode(&mut prefix, page_size);
        bytes.extend(prefix);
        match packet {
            Packet::Device(DevicePacket { config: true, .. }) => bytes.extend(&config),
            _ => bytes.resize(bytes.len() + packet.rest() as usize, 0),
        }
        ends.push(bytes.len());
    }
    (ends, bytes)
}

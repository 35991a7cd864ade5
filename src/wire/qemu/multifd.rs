//! What travels on a multifd connection: one [`Init`], then [`Packet`]s.
//!
//! Every packet begins with at least [`PREFIX_LEN`] bytes that describe it completely, so a receiver reads that many,
//! decides, and only then takes the rest: a device's state goes straight into its place, and the rest of a RAM packet
//! is dropped.

use super::{Idstr, MULTIFD_MAGIC};
use crate::limits::{CONFIG_SIZE_MAX, QEMU_STATE_MAX};
use crate::wire::cursor::{array, be32, be64};
use crate::wire::{Malformed, reserved_is_zero};

/// Bytes of an [`Init`].
pub const INIT_LEN: usize = 64;
/// Bytes of a device packet in front of its state: the packet's own 276 and the VFIO header's 12. No packet is shorter.
pub const PREFIX_LEN: usize = 288;

const VERSION: u32 = 1;
const FLAG_SYNC: u32 = 0x01;
const COMPRESSION_MASK: u32 = 0x3e;
const FLAG_DEVICE_STATE: u32 = 0x40;
const VFIO_FLAG_CONFIG: u32 = 1;
const VFIO_HEADER_LEN: u32 = 12;
/// Bytes of a RAM packet before its array of page offsets.
const RAM_FIXED_LEN: u32 = 320;
/// Bytes of guest memory that one RAM packet can carry, whatever the page size.
const RAM_PACKET_PAGES_LEN: u32 = 512 << 10;

/// The first 64 bytes of a multifd connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Init {
    /// The virtual machine's UUID; zeros when it has none.
    pub uuid: [u8; 16],
    /// The channel's number, 0 to N-1, independent of the order in which connections arrive.
    pub id: u8,
}

impl Init {
    /// Writes the init.
    pub fn encode(&self, out: &mut [u8; INIT_LEN]) {
        out.fill(0);
        out[..4].copy_from_slice(&MULTIFD_MAGIC.to_be_bytes());
        out[4..8].copy_from_slice(&VERSION.to_be_bytes());
        out[8..24].copy_from_slice(&self.uuid);
        out[24] = self.id;
    }

    /// Reads an init. The caller checks whether the number fits the session.
    pub fn decode(bytes: &[u8; INIT_LEN]) -> Result<Init, Malformed> {
        check_magic_and_version(bytes)?;
        reserved_is_zero(&bytes[25..])?;
        Ok(Init { uuid: array(bytes, 8), id: bytes[24] })
    }
}

/// The size of a guest's memory pages. The length of a RAM packet's header depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize {
    bits: u32,
}

impl PageSize {
    /// From the number of bits in a page offset, as the configuration section names it: 10 (1 KiB) to 16 (64 KiB).
    pub fn new(bits: u32) -> Result<PageSize, Malformed> {
        match bits {
            10..=16 => Ok(PageSize { bits }),
            _ => Err(Malformed::Value { field: "page size in bits", found: bits.into() }),
        }
    }

    /// In bytes.
    pub fn bytes(self) -> u32 {
        1 << self.bits
    }

    /// Pages that one RAM packet has room for.
    fn per_packet(self) -> u32 {
        RAM_PACKET_PAGES_LEN >> self.bits
    }
}

impl Default for PageSize {
    /// 4 KiB, which QEMU's stream does not mention.
    fn default() -> PageSize {
        PageSize { bits: 12 }
    }
}

/// One packet, as its first [`PREFIX_LEN`] bytes describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation for each packet")]
pub enum Packet {
    /// A piece of a device's state.
    Device(DevicePacket),
    /// Pages of guest memory.
    Ram(RamPacket),
    /// A barrier: what follows it on this connection waits until all connections and the main one have reached it.
    Sync(SyncPacket),
}

/// A piece of a device's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DevicePacket {
    /// The device's name.
    pub idstr: Idstr,
    /// Its instance.
    pub instance: u32,
    /// The packet's number within the device's state: 0, 1, 2 … without gaps.
    pub idx: u32,
    /// The last packet of the device: its bytes are the config state.
    pub config: bool,
    /// Bytes of state that follow the prefix.
    pub len: u32,
}

/// Pages of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RamPacket {
    /// Counts RAM and SYNC packets over all connections.
    pub packet_num: u64,
    /// Pages whose bytes follow.
    pub normal_pages: u32,
    /// Pages that are zero, for which only the offset is sent.
    pub zero_pages: u32,
    /// Bytes that follow the prefix: the rest of the header, and the pages.
    pub rest: u32,
}

/// A barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncPacket {
    /// Counts RAM and SYNC packets over all connections.
    pub packet_num: u64,
    /// Bytes that follow the prefix: the rest of an empty header.
    pub rest: u32,
}

impl Packet {
    /// Bytes that follow the prefix.
    pub fn rest(&self) -> u32 {
        match self {
            Packet::Device(packet) => packet.len,
            Packet::Ram(packet) => packet.rest,
            Packet::Sync(packet) => packet.rest,
        }
    }

    /// Reads the beginning of a packet, and checks the length of its rest before a byte of that is read.
    pub fn decode(bytes: &[u8; PREFIX_LEN], page_size: PageSize) -> Result<Packet, Malformed> {
        check_magic_and_version(bytes)?;
        let flags = be32(bytes, 8);
        match flags {
            FLAG_DEVICE_STATE => device(bytes).map(Packet::Device),
            0 => ram(bytes, page_size).map(Packet::Ram),
            FLAG_SYNC => sync(bytes, page_size).map(Packet::Sync),
            _ if flags & !COMPRESSION_MASK == 0 => {
                Err(Malformed::Unsupported { what: "multifd compression" })
            }
            _ => Err(Malformed::Value { field: "flags", found: flags.into() }),
        }
    }

    /// Writes the prefix. After that of a RAM or SYNC packet follow zeros (names and offsets), then pages.
    pub fn encode(&self, out: &mut [u8; PREFIX_LEN], page_size: PageSize) {
        out.fill(0);
        out[..4].copy_from_slice(&MULTIFD_MAGIC.to_be_bytes());
        out[4..8].copy_from_slice(&VERSION.to_be_bytes());
        let mut put = |at: usize, value: u32| out[at..at + 4].copy_from_slice(&value.to_be_bytes());
        match self {
            Packet::Device(packet) => {
                put(8, FLAG_DEVICE_STATE);
                put(268, packet.instance);
                put(272, packet.len + VFIO_HEADER_LEN);
                put(280, packet.idx);
                put(284, if packet.config { VFIO_FLAG_CONFIG } else { 0 });
                let name = packet.idstr.as_bytes();
                out[12..12 + name.len()].copy_from_slice(name);
            }
            Packet::Ram(packet) => {
                put(12, page_size.per_packet());
                put(16, packet.normal_pages);
                put(20, packet.normal_pages << page_size.bits);
                put(32, packet.zero_pages);
                out[24..32].copy_from_slice(&packet.packet_num.to_be_bytes());
            }
            Packet::Sync(packet) => {
                put(8, FLAG_SYNC);
                out[24..32].copy_from_slice(&packet.packet_num.to_be_bytes());
            }
        }
    }
}

impl RamPacket {
    /// A packet with these numbers of pages, which must fit in one packet.
    pub fn new(packet_num: u64, normal_pages: u32, zero_pages: u32, page_size: PageSize) -> RamPacket {
        let rest = rest_of_header(page_size) + (normal_pages << page_size.bits);
        RamPacket { packet_num, normal_pages, zero_pages, rest }
    }
}

impl SyncPacket {
    /// The `packet_num`-th packet, a barrier.
    pub fn new(packet_num: u64, page_size: PageSize) -> SyncPacket {
        SyncPacket { packet_num, rest: rest_of_header(page_size) }
    }
}

fn check_magic_and_version(bytes: &[u8]) -> Result<(), Malformed> {
    let (magic, version) = (be32(bytes, 0), be32(bytes, 4));
    if magic != MULTIFD_MAGIC {
        return Err(Malformed::Magic { found: magic });
    }
    if version != VERSION {
        return Err(Malformed::Value { field: "version", found: version.into() });
    }
    Ok(())
}

fn device(bytes: &[u8; PREFIX_LEN]) -> Result<DevicePacket, Malformed> {
    let idstr = Idstr::padded(&bytes[12..268])?;
    let (instance, size) = (be32(bytes, 268), be32(bytes, 272));
    // the length first: the VFIO header is present only if the length covers it
    let len = size
        .checked_sub(VFIO_HEADER_LEN)
        .ok_or(Malformed::Value { field: "packet size", found: size.into() })?;
    let (version, idx, flags) = (be32(bytes, 276), be32(bytes, 280), be32(bytes, 284));
    if version != 0 {
        return Err(Malformed::Value { field: "VFIO packet version", found: version.into() });
    }
    if flags & !VFIO_FLAG_CONFIG != 0 {
        return Err(Malformed::Value { field: "VFIO flags", found: flags.into() });
    }
    if idx == u32::MAX {
        return Err(Malformed::Value { field: "idx", found: idx.into() });
    }
    let config = flags & VFIO_FLAG_CONFIG != 0;
    let max = if config { CONFIG_SIZE_MAX as u64 } else { QEMU_STATE_MAX.into() };
    if u64::from(len) > max {
        return Err(Malformed::TooLong { field: "state", found: len.into(), max });
    }
    if len == 0 && config {
        return Err(Malformed::Value { field: "config state length", found: 0 });
    }
    Ok(DevicePacket { idstr, instance, idx, config, len })
}

/// Bytes of a RAM packet's header behind the prefix.
fn rest_of_header(page_size: PageSize) -> u32 {
    RAM_FIXED_LEN + 8 * page_size.per_packet() - u32::try_from(PREFIX_LEN).expect("a few hundred bytes")
}

fn ram(bytes: &[u8; PREFIX_LEN], page_size: PageSize) -> Result<RamPacket, Malformed> {
    let (alloc, normal_pages, size) = (be32(bytes, 12), be32(bytes, 16), be32(bytes, 20));
    let zero_pages = be32(bytes, 32);
    let max = page_size.per_packet();
    if alloc != max {
        return Err(Malformed::Value { field: "count of pages with room", found: alloc.into() });
    }
    let pages = u64::from(normal_pages) + u64::from(zero_pages);
    if pages > max.into() {
        return Err(Malformed::Value { field: "count of pages", found: pages });
    }
    if size != normal_pages << page_size.bits {
        return Err(Malformed::Value { field: "packet size", found: size.into() });
    }
    check_unused(bytes)?;
    Ok(RamPacket::new(be64(bytes, 24), normal_pages, zero_pages, page_size))
}

fn sync(bytes: &[u8; PREFIX_LEN], page_size: PageSize) -> Result<SyncPacket, Malformed> {
    let alloc = be32(bytes, 12);
    if alloc != 0 && alloc != page_size.per_packet() {
        return Err(Malformed::Value { field: "count of pages with room", found: alloc.into() });
    }
    for (field, at) in [("normal pages", 16), ("packet size", 20), ("zero pages", 32)] {
        let found = be32(bytes, at);
        if found != 0 {
            return Err(Malformed::Value { field, found: found.into() });
        }
    }
    check_unused(bytes)?;
    Ok(SyncPacket::new(be64(bytes, 24), page_size))
}

fn check_unused(bytes: &[u8; PREFIX_LEN]) -> Result<(), Malformed> {
    reserved_is_zero(&bytes[36..64])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::golden::unhex;

    fn device_packet() -> DevicePacket {
        let idstr = Idstr::new(b"0000:00:01.0/vfio").unwrap();
        DevicePacket { idstr, instance: 0, idx: 1, config: true, len: 4132 }
    }

    fn encoded(packet: &Packet) -> [u8; PREFIX_LEN] {
        let mut bytes = [0xff; PREFIX_LEN];
        packet.encode(&mut bytes, PageSize::default());
        bytes
    }

    fn decoded(bytes: &[u8; PREFIX_LEN]) -> Result<Packet, Malformed> {
        Packet::decode(bytes, PageSize::default())
    }

    fn patched(packet: &Packet, at: usize, value: u32) -> Result<Packet, Malformed> {
        let mut bytes = encoded(packet);
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        decoded(&bytes)
    }

    #[test]
    fn an_init_has_the_bytes_that_qemu_sends() {
        let mut bytes = [0xff; INIT_LEN];
        Init { uuid: *b"sixteen bytes id", id: 3 }.encode(&mut bytes);
        let golden: [u8; INIT_LEN] = unhex(
            "11223344 00000001 7369787465656e206279746573206964 03 00000000000000
             0000000000000000 0000000000000000 0000000000000000 0000000000000000",
        );
        assert_eq!(bytes, golden);
        assert_eq!(Init::decode(&bytes), Ok(Init { uuid: *b"sixteen bytes id", id: 3 }));
    }

    #[test]
    fn an_init_that_qemu_cannot_have_sent_is_refused() {
        let mut bytes = [0; INIT_LEN];
        assert_eq!(Init::decode(&bytes), Err(Malformed::Magic { found: 0 }));
        Init { uuid: [0; 16], id: 0 }.encode(&mut bytes);
        bytes[7] = 2;
        assert_eq!(Init::decode(&bytes), Err(Malformed::Value { field: "version", found: 2 }));
        bytes[7] = 1;
        bytes[63] = 9;
        assert_eq!(Init::decode(&bytes), Err(Malformed::Value { field: "reserved byte", found: 9 }));
    }

    #[test]
    fn a_device_packet_has_the_bytes_that_qemu_sends() {
        let bytes = encoded(&Packet::Device(device_packet()));
        assert_eq!(bytes[..12], unhex::<12>("11223344 00000001 00000040"));
        assert_eq!(&bytes[12..29], b"0000:00:01.0/vfio");
        assert_eq!(bytes[29..268], [0; 239]);
        // 4132 bytes of config state and the VFIO header's 12, which is packet 1 with the config flag
        assert_eq!(bytes[268..], unhex::<20>("00000000 00001030 00000000 00000001 00000001"));
        assert_eq!(decoded(&bytes), Ok(Packet::Device(device_packet())));
    }

    #[test]
    fn a_device_packet_that_qemu_cannot_have_sent_is_refused() {
        let packet = Packet::Device(device_packet());
        let value = |field, found| Err(Malformed::Value { field, found });
        assert_eq!(patched(&packet, 8, 0x41), value("flags", 0x41));
        assert_eq!(patched(&packet, 272, 0), value("packet size", 0));
        assert_eq!(patched(&packet, 272, 11), value("packet size", 11));
        assert_eq!(patched(&packet, 276, 1), value("VFIO packet version", 1));
        assert_eq!(patched(&packet, 280, u32::MAX), value("idx", u32::MAX.into()));
        assert_eq!(patched(&packet, 284, 2), value("VFIO flags", 2));
        let long = patched(&packet, 272, u32::MAX);
        let max = CONFIG_SIZE_MAX as u64;
        assert_eq!(long, Err(Malformed::TooLong { field: "state", found: 0xffff_fff3, max }));
    }

    #[test]
    fn a_packet_of_pages_says_how_much_follows() {
        let ram = Packet::Ram(RamPacket::new(7, 3, 2, PageSize::default()));
        assert_eq!(ram.rest(), 1344 - 288 + 3 * 4096);
        assert_eq!(decoded(&encoded(&ram)), Ok(ram));
        let sync = Packet::Sync(SyncPacket::new(8, PageSize::default()));
        assert_eq!(sync.rest(), 1344 - 288);
        assert_eq!(decoded(&encoded(&sync)), Ok(sync));
        let large = PageSize::new(16).unwrap();
        assert_eq!(RamPacket::new(0, 1, 0, large).rest, 320 + 8 * 8 - 288 + 65536);
    }

    #[test]
    fn a_packet_of_pages_that_does_not_add_up_is_refused() {
        let ram = Packet::Ram(RamPacket::new(7, 3, 2, PageSize::default()));
        let value = |field, found| Err(Malformed::Value { field, found });
        assert_eq!(patched(&ram, 12, 129), value("count of pages with room", 129));
        assert_eq!(patched(&ram, 16, u32::MAX), value("count of pages", u64::from(u32::MAX) + 2));
        assert_eq!(patched(&ram, 20, u32::MAX), value("packet size", u32::MAX.into()));
        assert_eq!(patched(&ram, 32, 126), value("count of pages", 129));
        assert_eq!(patched(&ram, 40, 1), value("reserved byte", 1));
        assert_eq!(patched(&ram, 8, 4), Err(Malformed::Unsupported { what: "multifd compression" }));
        let sync = Packet::Sync(SyncPacket::new(8, PageSize::default()));
        assert_eq!(patched(&sync, 16, 1), value("normal pages", 1));
        assert_eq!(patched(&sync, 20, 1), value("packet size", 1));
    }

    proptest! {
        /// Every accepted packet encodes to the same bytes, and the length of its rest is within its bound.
        #[test]
        fn what_is_accepted_is_bounded(at in 0_usize..PREFIX_LEN - 4, value: u32, kind in 0..3) {
            let page_size = PageSize::default();
            let packet = match kind {
                0 => Packet::Device(device_packet()),
                1 => Packet::Ram(RamPacket::new(1, 2, 3, page_size)),
                _ => Packet::Sync(SyncPacket::new(1, page_size)),
            };
            let mut bytes = encoded(&packet);
            bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
            if let Ok(packet) = decoded(&bytes) {
                prop_assert!(packet.rest() <= QEMU_STATE_MAX.max(RAM_FIXED_LEN + 8 * 512 + RAM_PACKET_PAGES_LEN));
                let mut again = [0; PREFIX_LEN];
                packet.encode(&mut again, page_size);
                prop_assert_eq!(decoded(&again), Ok(packet));
            }
        }
    }
}

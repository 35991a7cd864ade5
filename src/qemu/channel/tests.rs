//! QEMU's connections on a ring that does nothing by itself: the test plays the kernel.

use proptest::prelude::*;

use super::*;
use crate::buffer::Pool;
use crate::channel::tests::{Kernel, TAG, connection};
use crate::channel::{Rx, RxEvent};
use crate::limits::CONTROL_BUFFER_SIZE;

/// A main connection with one piece of one device's state.
fn main_stream(piece: &[u8]) -> Vec<u8> {
    let mut bytes = b"QEVM\0\0\0\x03\x07\0\0\0\x03q35".to_vec();
    bytes.extend(b"\x01\0\0\0\x1e\x11" as &[u8]);
    bytes.extend(b"0000:00:01.0/vfio\0\0\0\0\0\0\0\x01" as &[u8]);
    bytes.extend(0xffff_ffff_ef10_0004_u64.to_be_bytes());
    bytes.extend((piece.len() as u64).to_be_bytes());
    bytes.extend(piece);
    bytes.extend(0xffff_ffff_ef10_0001_u64.to_be_bytes());
    bytes.extend(b"\x7e\0\0\0\x1e" as &[u8]);
    bytes
}

proptest! {
    /// Oracle: the piece that was sent, however the connection cuts it.
    #[test]
    fn a_piece_of_state_on_a_main_connection_comes_out_whole(
        len in 1_usize..60_000, cuts in prop::collection::vec(1_usize..20_000, 1..30)
    ) {
        let (mut kernel, mut pool) = (Kernel::default(), Pool::new(1, 64 << 10).unwrap());
        let mut buffers = Pool::new(1, u32::try_from(CONTROL_BUFFER_SIZE).unwrap()).unwrap();
        let mut rx = MainRx::new(connection(), TAG, buffers.take().unwrap());
        let piece: Vec<u8> = (0..len).map(|at| at.to_le_bytes()[at % 2]).collect();
        let stream = main_stream(&piece);
        let (mut rest, mut cuts) = (&stream[..], cuts.into_iter().cycle());
        let (mut events, mut found) = (Vec::new(), Vec::new());
        loop {
            match rx.next().unwrap() {
                MainStep::Event(event, _) => events.push(format!("{event:?}")),
                MainStep::Wants => rx.accept(pool.take().unwrap()),
                MainStep::State { slot, len } => {
                    found.push(slot.payload(len).to_vec());
                    pool.put(slot);
                }
                MainStep::Tail(_) => prop_assert!(false, "it has no tail"),
                MainStep::Taken if rest.is_empty() => break,
                MainStep::Taken => {
                    rx.resume(&mut kernel);
                    prop_assert!(matches!(rx.next(), Ok(MainStep::Taken)), "nothing before something came");
                    let count = cuts.next().unwrap().min(rest.len());
                    let (slot, count) = kernel.deliver(&rest[..count]);
                    rest = &rest[count..];
                    prop_assert_eq!(rx.on_received(slot, Ok(count)), Ok(Some(count)));
                }
            }
        }
        prop_assert_eq!(found, [piece]);
        prop_assert_eq!(rx.follower().offset(), stream.len() as u64);
        prop_assert!(events.last().unwrap().starts_with("Footer"), "{:?}", events);
    }
}

#[test]
fn an_abandoned_main_connection_is_read_to_its_end_and_yields_nothing() {
    let (mut kernel, mut buffers) =
        (Kernel::default(), Pool::new(1, u32::try_from(CONTROL_BUFFER_SIZE).unwrap()).unwrap());
    let mut rx = MainRx::new(connection(), TAG, buffers.take().unwrap());
    rx.resume(&mut kernel);
    rx.abandon(&mut kernel);
    for _ in 0..2 {
        let (slot, count) = kernel.deliver(b"garbage");
        assert_eq!(rx.on_received(slot, Ok(count)), Ok(Some(7)));
        assert!(matches!(rx.next(), Ok(MainStep::Taken)));
        rx.resume(&mut kernel);
    }
    let (slot, _) = kernel.deliver(b"");
    assert_eq!(rx.on_received(slot, Ok(0)), Ok(None));
    assert!(rx.is_closed() && !rx.has_ended());
}

#[test]
fn guest_memory_between_device_packets_is_skipped() {
    use crate::wire::qemu::{DevicePacket, Idstr, PREFIX_LEN, Packet, PageSize, RamPacket, SyncPacket};
    let page_size = PageSize::default();
    let idstr = Idstr::try_from("0000:00:01.0/vfio").unwrap();
    let device = DevicePacket { idstr, instance: 0, idx: 5, config: false, len: 6 };
    let ram = Packet::Ram(RamPacket::new(1, 128, 0, page_size));
    let sync = Packet::Sync(SyncPacket::new(2, page_size));
    let mut stream = Vec::new();
    for packet in [ram, sync, Packet::Device(device)] {
        let mut prefix = [0; PREFIX_LEN];
        packet.encode(&mut prefix, page_size);
        stream.extend(prefix);
        stream.extend(vec![7; packet.rest() as usize]);
    }
    let (mut kernel, mut pool) = (Kernel::default(), Pool::new(1, 4096).unwrap());
    let mut buffers = Pool::new(1, 4096).unwrap();
    let mut rx = Rx::new(connection(), TAG, buffers.take().unwrap(), Multifd(page_size));
    rx.begin(&mut kernel);
    let mut rest = &stream[..];
    loop {
        let (slot, count) = kernel.deliver(rest);
        rest = &rest[count..];
        match rx.on_received(&mut kernel, slot, Ok(count)) {
            RxEvent::Pending => {}
            RxEvent::Header(packet) => {
                assert_eq!(packet, device);
                assert_eq!(rx.packet_offset(), (stream.len() - PREFIX_LEN - 6) as u64);
                assert!(matches!(rx.accept(&mut kernel, packet, pool.take().unwrap()), RxEvent::Pending));
            }
            RxEvent::Packet { slot, .. } => {
                assert_eq!(slot.payload(6), [7; 6]);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((rx.packets, rx.bytes), (1, 6));
}

//! That one packet is work for one device, however many there are, and that devices take turns.

use super::*;
use crate::buffer::Pool;
use crate::cancel::Cancel;
use crate::limits::DEVICES_MAX;
use crate::numbers::DeviceIdx;
use crate::ring::sim::{SimRing, World};
use crate::source::Flow;
use crate::worker::caller::Caller;

/// A device whose state has no end.
struct Endless;

impl Source for Endless {
    fn start(&mut self) -> Result<Flow, DeviceError> {
        Ok(Flow::StopCopyOnly)
    }
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        Ok(buffer.len())
    }
    fn stop(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
    fn release(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
    fn rollback(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

fn readers(slots: u32) -> (Worker<SimRing>, Readers) {
    let mut worker = Worker::new(World::new(1).ring(0), Caller::new(Cancel::new(), None), DEVICES_MAX);
    worker.adopt_unreported(Pool::new(slots, 4096).unwrap());
    let device = |number| Device::new(format!("dev{number}"), 0, Box::new(Endless));
    let devices = (0..DEVICES_MAX).map(device).collect();
    let mut readers = Readers::new(devices, PacketSize::MIN, Checksum::None).unwrap();
    readers.switch_over();
    readers.begin_stop_copy().unwrap();
    (worker, readers)
}

fn read(worker: &mut Worker<SimRing>, readers: &mut Readers, idle: usize) -> Option<ReadPacket<Slot>> {
    match readers.begin(worker, idle).unwrap() {
        Begun::Filled(packet) => packet,
        Begun::UnderWay => None,
    }
}

#[test]
fn one_packet_that_leaves_makes_one_device_of_256_ready() {
    let (mut worker, mut readers) = readers(u32::try_from(DEVICES_MAX).unwrap() + 1);
    let packets: Vec<_> = std::iter::from_fn(|| read(&mut worker, &mut readers, DEVICES_MAX)).collect();
    assert!(
        packets.iter().map(|packet| packet.device).eq(DeviceIdx::below(DEVICES_MAX)),
        "each has one packet, in turn"
    );
    assert!(readers.ready.is_empty() && readers.ready_inline.is_empty());
    readers.on_popped(DeviceIdx(7));
    assert!(readers.ready_inline.iter().eq([DeviceIdx(7)]));
    assert_eq!(read(&mut worker, &mut readers, DEVICES_MAX).unwrap().device, DeviceIdx(7));
}

#[test]
fn this_thread_reads_only_what_a_channel_wants() {
    let (mut worker, mut readers) = readers(4);
    assert_eq!(read(&mut worker, &mut readers, 1).unwrap().device, DeviceIdx(0));
    assert!(read(&mut worker, &mut readers, 1).is_none());
    readers.on_popped(DeviceIdx(0));
    assert_eq!(read(&mut worker, &mut readers, 1).unwrap().device, DeviceIdx(1));
}

#[test]
fn a_read_that_finds_no_slot_begins_when_there_is_one() {
    let (mut worker, mut readers) = readers(1);
    let packet = read(&mut worker, &mut readers, 8).unwrap();
    assert!(read(&mut worker, &mut readers, 8).is_none());
    worker.put(packet.handle);
    assert_eq!(read(&mut worker, &mut readers, 8).unwrap().device, DeviceIdx(1));
}

//! That one packet is work for one device, however many there are.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use super::*;
use crate::buffer::Pool;
use crate::cancel::Cancel;
use crate::limits::DEVICES_MAX;
use crate::numbers::DeviceIdx;
use crate::ring::sim::{SimRing, World};
use crate::sink::{Discard, FdKind};
use crate::worker::caller::Caller;

/// A queue that notes which devices it was asked for.
#[derive(Default)]
struct Counting {
    packets: VecDeque<(DeviceIdx, NextPacket<Slot>)>,
    asked: Vec<DeviceIdx>,
    written: Vec<DeviceIdx>,
}

impl PacketQueue<Slot> for Counting {
    fn pop(&mut self, device: DeviceIdx) -> Option<NextPacket<Slot>> {
        self.asked.push(device);
        let at = self.packets.iter().position(|(of, _)| *of == device)?;
        self.packets.remove(at).map(|(_, packet)| packet)
    }

    fn written(&mut self, device: DeviceIdx, _: Nanos) {
        self.written.push(device);
    }

    fn loaded(&mut self, _: DeviceIdx) {}
}

fn writers() -> (Worker<SimRing>, Writers) {
    let mut worker = Worker::new(World::new(1).ring(0), Caller::new(Cancel::new(), None), DEVICES_MAX);
    worker.adopt_unreported(Pool::new(4, 4096).unwrap());
    let device = |number| Device::new(format!("dev{number}"), 0, Box::new(Discard));
    (worker, Writers::new((0..DEVICES_MAX).map(device).collect(), false))
}

#[test]
fn one_packet_among_256_devices_touches_one_device() {
    let (mut worker, mut writers) = writers();
    let mut queue = Counting::default();
    for device in [200, 7].map(DeviceIdx) {
        let handle = worker.take().unwrap();
        let packet = NextPacket { handle, len: 100, config: false, read_at: 0, arrived_at: 0 };
        queue.packets.push_back((device, packet));
        writers.mark_ready(device);
        writers.begin(&mut worker, &mut queue).unwrap();
        assert!(
            queue.asked.len() <= 3 && queue.asked.iter().all(|&asked| asked == device),
            "{:?}",
            queue.asked
        );
        queue.asked.clear();
    }
    assert_eq!(queue.written, [200, 7].map(DeviceIdx));
}

#[test]
fn nobody_is_asked_when_nothing_came() {
    let (mut worker, mut writers) = writers();
    let mut queue = Counting::default();
    writers.begin(&mut worker, &mut queue).unwrap();
    assert!(queue.asked.is_empty());
    writers.mark_all_ready();
    writers.begin(&mut worker, &mut queue).unwrap();
    assert_eq!(queue.asked, DeviceIdx::below(DEVICES_MAX).collect::<Vec<_>>());
}

#[test]
fn a_write_that_comes_back_when_its_device_is_about_to_be_reset_is_not_repeated() {
    for result in [Ok(10), Err(Errno::from_raw(nix::libc::EAGAIN)), Err(Errno::from_raw(nix::libc::EINTR))] {
        let (mut worker, mut writers) = writers();
        let device = DeviceIdx(3);
        let null = std::fs::File::open("/dev/null").unwrap();
        writers.all[device.index()].fd = Some(DeviceFd::new(null.as_fd(), FdKind::Waits, Direction::Write));
        let mut queue = Counting::default();
        let handle = worker.take().unwrap();
        let packet = NextPacket { handle, len: 100, config: false, read_at: 0, arrived_at: 0 };
        queue.packets.push_back((device, packet));
        writers.mark_ready(device);
        writers.begin(&mut worker, &mut queue).unwrap();
        assert!(writers.is_any_under_way());

        writers.cancel(&mut worker.ring);
        let slot = worker.take().unwrap();
        writers.on_write_end(&mut worker, &mut queue, device, slot, result).unwrap();
        assert!(!writers.is_any_under_way(), "{result:?}");
        assert!(queue.written.is_empty());
    }
}

//! Steps that the loop carries out itself, beside others that run on threads: the same devices end in the same way, and no
//! thread is taken.

use super::*;
use crate::phase::DeviceStep;
use crate::sink::Discard;
use crate::source::Null;
use crate::time::Nanos;
use crate::worker::operation::Operation;

/// A device some of whose steps are instant.
pub(super) struct Instant<D> {
    device: D,
    /// A bit for each of them.
    steps: u64,
}

impl<D> Instant<D> {
    pub(super) fn new(device: D, steps: u64) -> Instant<D> {
        Instant { device, steps }
    }

    fn is_meant(&self, step: DeviceStep) -> bool {
        self.steps & (1 << step as u64) != 0
    }
}

/// Half of the steps, or all of them.
pub(super) fn some(seed: u64, device: usize) -> u64 {
    match Dice(seed * 100 + device as u64).next() {
        all if all.is_multiple_of(4) => u64::MAX,
        some => some >> 2,
    }
}

impl<S: Source> Source for Instant<S> {
    fn estimate(&self) -> Option<u64> {
        self.device.estimate()
    }
    fn start(&mut self) -> Result<Flow, DeviceError> {
        self.device.start()
    }
    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        self.device.fd()
    }
    fn quiesce(&mut self) -> Result<(), DeviceError> {
        self.device.quiesce()
    }
    fn stop(&mut self) -> Result<(), DeviceError> {
        self.device.stop()
    }
    fn config(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        self.device.config(buffer)
    }
    fn release(&mut self) -> Result<(), DeviceError> {
        self.device.release()
    }
    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.device.rollback()
    }
    fn park(&mut self) -> Result<(), DeviceError> {
        self.device.park()
    }
    fn is_instant(&self, step: DeviceStep) -> bool {
        self.is_meant(step)
    }
}

impl<S: Sink> Sink for Instant<S> {
    fn prepare(&mut self) -> Result<(), DeviceError> {
        self.device.prepare()
    }
    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        self.device.fd()
    }
    fn config(&mut self, blob: &[u8]) -> Result<(), DeviceError> {
        self.device.config(blob)
    }
    fn seal(&mut self) -> Result<(), DeviceError> {
        self.device.seal()
    }
    fn pre_run(&mut self) -> Result<(), DeviceError> {
        self.device.pre_run()
    }
    fn run(&mut self) -> Result<(), DeviceError> {
        self.device.run()
    }
    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.device.rollback()
    }
    fn is_instant(&self, step: DeviceStep) -> bool {
        self.is_meant(step)
    }
}

fn instant(seed: u64) -> Scenario {
    Scenario { is_instant: true, ..scenario(seed) }
}

#[test]
fn every_transfer_with_instant_steps_arrives_whatever_the_order_of_completions() {
    for seed in seeds(60) {
        let mut dice = Dice(seed);
        let scenario = Scenario {
            devices: 1 + dice.below(4),
            size: [0, 1, 8192, 50_000][dice.below(4)],
            slots: 4 + u32::try_from(dice.below(9)).unwrap(),
            flow: if dice.chance(50) { Flow::PreCopy } else { Flow::StopCopyOnly },
            ..instant(seed)
        };
        let result = simulate(&scenario);
        check(&scenario, &result);
        assert_eq!(result.sender.outcome, Outcome::Complete, "{scenario:?}: {:?}", result.sender.error);
        for (source, sink) in result.sources.iter().zip(&result.sinks) {
            assert_eq!(*source, ["start", "quiesce", "stop", "config", "release"], "{scenario:?}");
            assert_eq!(*sink, ["prepare", "config", "seal", "pre_run", "run"], "{scenario:?}");
        }
    }
}

#[test]
fn a_cut_leaves_exactly_one_owner_of_devices_with_instant_steps() {
    for seed in seeds(80) {
        let whole = instant(seed);
        let undisturbed = simulate(&whole);
        let mut dice = Dice(seed);
        let (link, side) = [(Link::Control, 0), (Link::Control, 1), (Link::Data, 0)][dice.below(3)];
        let sent = if link == Link::Data { undisturbed.data.len() } else { undisturbed.control[side].len() };
        let scenario = Scenario { cut: Some((link, side, dice.below(sent + 1))), ..whole };
        check(&scenario, &simulate(&scenario));
    }
}

#[test]
fn a_device_that_fails_in_an_instant_step_leaves_exactly_one_owner() {
    for seed in seeds(12) {
        for step in ["start", "quiesce", "stop", "config"] {
            let scenario = Scenario { source_fails: Some(step), flow: Flow::PreCopy, ..instant(seed) };
            let result = simulate(&scenario);
            check(&scenario, &result);
            assert!(matches!(result.sender.error, Some(Error::Device { .. })), "{:?}", result.sender.error);
        }
        for step in ["prepare", "config", "seal", "pre_run", "run"] {
            let scenario = Scenario { sink_fails: Some(step), ..instant(seed) };
            let result = simulate(&scenario);
            check(&scenario, &result);
            assert!(
                matches!(result.receiver.error, Some(Error::Device { .. })),
                "{:?}",
                result.receiver.error
            );
        }
    }
}

#[test]
fn devices_whose_steps_are_all_instant_take_no_thread_and_others_one_each() {
    let world = World::new(1);
    let (mut sending, mut receiving) = one_device(&world, Null::new(100), Discard);
    for name in ["dev1", "dev2"] {
        sending.devices.push(send::Device::new(name, 0, Box::new(Null::new(100))));
        receiving.devices.push(Device::new(name, 0, Box::new(Discard)));
    }
    let (sender, receiver) = run(&world, sending, receiving);
    assert_eq!((sender.outcome, receiver.outcome), (Outcome::Complete, Outcome::Complete));
    // the pool of each side is made by a job
    assert_eq!([0, 1].map(|side| world.threads_and_jobs(side)), [(1, 1), (1, 1)]);

    let world = World::new(1);
    let from = descriptor();
    world.add_file(from.as_raw_fd(), SimFile::default());
    let source = FakeSource { fd: from, flow: Flow::StopCopyOnly, log: Log::default(), fails: None };
    let sink = FakeSink { fd: descriptor(), log: Log::default(), fails: None, config: b"config".to_vec() };
    let (sending, receiving) = one_device(&world, source, sink);
    let (sender, receiver) = run(&world, sending, receiving);
    assert_eq!((sender.outcome, receiver.outcome), (Outcome::Complete, Outcome::Complete));
    assert_eq!([0, 1].map(|side| world.threads_and_jobs(side)), [(2, 6), (2, 5)], "all steps, and the pool");
}

#[test]
fn a_device_that_takes_long_beside_instant_ones_stops_no_heartbeats() {
    const SECOND: Nanos = 1_000_000_000;
    let (world, log) = (World::new(3), Log::default());
    let from = descriptor();
    world.add_file(from.as_raw_fd(), SimFile::default());
    let source = FakeSource { fd: from, flow: Flow::StopCopyOnly, log: Arc::clone(&log), fails: None };
    let sink = FakeSink { fd: descriptor(), log: Log::default(), fails: None, config: b"config".to_vec() };
    let (mut sending, mut receiving) = one_device(&world, source, sink);
    sending.devices.push(send::Device::new("tiny", 0, Box::new(Null::new(100))));
    receiving.devices.push(Device::new("tiny", 0, Box::new(Discard)));
    // after its start and its quiesce: it takes longer to stop than a peer may be silent
    let slow = Operation::DeviceStep { device: crate::numbers::DeviceIdx(0) }.tag();
    world.slow_down_after(0, slow, 2, 25 * SECOND);
    let (sender, receiver) = run(&world, sending, receiving);
    let errors = (&sender.error, &receiver.error);
    assert_eq!((sender.outcome, receiver.outcome), (Outcome::Complete, Outcome::Complete), "{errors:?}");
    let times = sender.report.device_times();
    assert!(times[0].stop_ns >= Some(25 * SECOND), "{times:?}");
    assert!(
        times[1].stop_ns.is_some_and(|took| took < SECOND),
        "its own time, and not the other's: {times:?}"
    );
}

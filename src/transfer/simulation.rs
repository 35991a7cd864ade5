//! Whole transfers over the seeded, faulty ring: the real engines on both sides, an unreal world between them.
//!
//! A failing run names its seed; `RINGLIFT_SEED=n cargo test simulation` runs that one alone.

mod bounds;
mod credit;
mod early;
mod hooks;
mod instant;
mod intervals;
mod offered;
mod precopy;
mod prediction;
mod timeline;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{receive, send};
use crate::buffer::Pool;
use crate::cancel::Cancel;
use crate::channel::ZeroCopy;
use crate::error::{DeviceError, DeviceOperation, Errno, Error, PeerError};
use crate::limits::{DOWNTIME_LIMIT_DEFAULT, DOWNTIME_MAX_DEFAULT, LINGER_MAX};
use crate::net::Connection;
use crate::numbers::PacketSize;
use crate::ring::sim::{Cut, Dice, Hang, SimFile, SimRing, World};
use crate::session::handover::Outcome;
use crate::sink::{FdKind, Sink};
use crate::source::{Flow, PreCopyInfo, Source};
use crate::wire::{CONTROL_HEADER_LEN, Checksum, ControlHeader};
use crate::worker::caller::Caller;
use crate::worker::finished::Finished;
use crate::worker::slot_size;
use crate::worker::writers::Device;

/// What a device was told to do, in order.
pub(crate) type Log = Arc<Mutex<Vec<&'static str>>>;

pub(crate) fn descriptor() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

/// A device at the source, with as much pre-copy as `precopy` reads of nothing allow.
struct FakeSource {
    fd: OwnedFd,
    flow: Flow,
    log: Log,
    fails: Option<&'static str>,
}

/// A device at the destination.
pub(crate) struct FakeSink {
    pub(crate) fd: OwnedFd,
    pub(crate) log: Log,
    pub(crate) fails: Option<&'static str>,
    /// The config state that belongs to it.
    pub(crate) config: Vec<u8>,
}

fn step(log: &Log, fails: Option<&'static str>, name: &'static str) -> Result<(), DeviceError> {
    log.lock().unwrap().push(name);
    if fails == Some(name) {
        return Err(DeviceError::Io {
            operation: DeviceOperation::Custom(name),
            errno: Errno::from_raw(nix::libc::EIO),
        });
    }
    Ok(())
}

impl Source for FakeSource {
    fn start(&mut self) -> Result<Flow, DeviceError> {
        step(&self.log, self.fails, "start").map(|()| self.flow)
    }
    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        Some((self.fd.as_fd(), FdKind::Waits))
    }
    fn quiesce(&mut self) -> Result<(), DeviceError> {
        step(&self.log, self.fails, "quiesce")
    }
    fn stop(&mut self) -> Result<(), DeviceError> {
        step(&self.log, self.fails, "stop")
    }
    fn config(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        buffer[..6].copy_from_slice(b"config");
        step(&self.log, self.fails, "config").map(|()| 6)
    }
    fn release(&mut self) -> Result<(), DeviceError> {
        step(&self.log, self.fails, "release")
    }
    fn rollback(&mut self) -> Result<(), DeviceError> {
        step(&self.log, self.fails, "rollback")
    }
    fn park(&mut self) -> Result<(), DeviceError> {
        step(&self.log, self.fails, "park")
    }
}

impl Sink for FakeSink {
    fn prepare(&mut self) -> Result<(), DeviceError> {
        step(&self.log, self.fails, "prepare")
    }
    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        Some((self.fd.as_fd(), FdKind::Waits))
    }
    fn config(&mut self, blob: &[u8]) -> Result<(), DeviceError> {
        assert_eq!(blob, self.config);
        step(&self.log, self.fails, "config")
    }
    fn seal(&mut self) -> Result<(), DeviceError> {
        step(&self.log, self.fails, "seal")
    }
    fn pre_run(&mut self) -> Result<(), DeviceError> {
        step(&self.log, self.fails, "pre_run")
    }
    fn run(&mut self) -> Result<(), DeviceError> {
        step(&self.log, self.fails, "run")
    }
    fn rollback(&mut self) -> Result<(), DeviceError> {
        step(&self.log, self.fails, "rollback")
    }
}

/// What to simulate.
#[derive(Debug, Clone)]
struct Scenario {
    seed: u64,
    devices: usize,
    channels: usize,
    size: usize,
    /// What is different from one device to another; then there are as many devices, and `size` is not used.
    shapes: Vec<credit::Shape>,
    slots: u32,
    flow: Flow,
    source_fails: Option<&'static str>,
    sink_fails: Option<&'static str>,
    read_fails_at: Option<usize>,
    write_fails_at: Option<usize>,
    /// Hooks of both sides are set, and pre-copy is held until this many were asked; one of them may refuse or panic.
    hooks: Option<hooks::Plan>,
    /// Cut after so many bytes that one side sent, on the control connection or on channel 0.
    cut: Option<(Link, usize, usize)>,
    /// Some of the devices' steps are instant.
    is_instant: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Control,
    Data,
}

/// What came of it.
struct Played {
    sender: Finished,
    receiver: Finished,
    sources: Vec<Vec<&'static str>>,
    sinks: Vec<Vec<&'static str>>,
    intact: Vec<bool>,
    /// Bytes that each side sent on the control connection, and the sender on channel 0.
    control: [Vec<u8>; 2],
    data: Vec<u8>,
}

fn scenario(seed: u64) -> Scenario {
    Scenario {
        seed,
        devices: 2,
        channels: 2,
        size: 60_000,
        shapes: Vec::new(),
        slots: 4,
        flow: Flow::StopCopyOnly,
        source_fails: None,
        sink_fails: None,
        read_fails_at: None,
        write_fails_at: None,
        hooks: None,
        cut: None,
        is_instant: false,
    }
}

const PACKET_SIZE: PacketSize = PacketSize::new(8192).unwrap();

fn simulate(scenario: &Scenario) -> Played {
    let world = World::new(scenario.seed);
    let mut dice = Dice(scenario.seed ^ 0x5eed);
    let sockets: Vec<[OwnedFd; 2]> = (0..=scenario.channels).map(|_| [descriptor(), descriptor()]).collect();
    sockets.iter().for_each(|pair| world.connect([pair[0].as_raw_fd(), pair[1].as_raw_fd()]));
    let numbers: Vec<RawFd> = sockets.iter().map(|pair| pair[0].as_raw_fd()).collect();
    if let Some((link, side, after)) = scenario.cut {
        let socket = numbers[usize::from(link == Link::Data)];
        world.cut(Cut { socket, side, after });
    }
    let log = || (0..scenario.devices).map(|_| Log::default()).collect::<Vec<Log>>();
    let (source_logs, sink_logs) = (log(), log());
    let (mut sources, mut sinks, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for device in 0..scenario.devices {
        let shape = scenario.shapes.get(device);
        let random = scenario.size + dice.below(20_000) * usize::from(scenario.size > 0);
        let size = shape.map_or(random, |shape| shape.size);
        let content: Vec<u8> = (0..size).map(|_| dice.next().to_le_bytes()[0]).collect();
        let (from, to) = (descriptor(), descriptor());
        let to_number = to.as_raw_fd();
        let source_file = SimFile { content, at: 0, fails_at: scenario.read_fails_at };
        world.add_file(from.as_raw_fd(), source_file);
        world.add_file(to.as_raw_fd(), SimFile { fails_at: scenario.write_fails_at, ..SimFile::default() });
        files.push((from.as_raw_fd(), to.as_raw_fd()));
        let name: Box<str> = format!("dev{device}").into();
        let first = |fails: Option<&'static str>| fails.filter(|_| device == 0);
        let source = FakeSource {
            fd: from,
            flow: scenario.flow,
            log: Arc::clone(&source_logs[device]),
            fails: first(scenario.source_fails),
        };
        let sink = FakeSink {
            fd: to,
            log: Arc::clone(&sink_logs[device]),
            fails: first(scenario.sink_fails),
            config: b"config".to_vec(),
        };
        if shape.is_some_and(|shape| shape.is_stuck) {
            world.hang(to_number, Hang::UntilCancelled);
        }
        let source = credit::Estimating { source, estimate: shape.and_then(|shape| shape.estimate) };
        let steps = if scenario.is_instant { instant::some(scenario.seed, device) } else { 0 };
        let (source, sink) = (instant::Instant::new(source, steps), instant::Instant::new(sink, steps));
        sources.push(send::Device::new(name.clone(), 0, Box::new(source)));
        sinks.insert(0, Device::new(name, 0, Box::new(sink)));
    }
    let (mut near, mut far): (Vec<OwnedFd>, Vec<OwnedFd>) =
        sockets.into_iter().map(<(OwnedFd, OwnedFd)>::from).unzip();
    let pool_size = Pool::bytes_for(scenario.slots.into(), slot_size(PACKET_SIZE));
    let sending = send::Parts {
        control: near.remove(0).into(),
        data: near.into_iter().map(Connection::from).collect(),
        devices: sources,
        packet_size: PACKET_SIZE,
        pool_size,
        checksum: Checksum::Crc32c,
        zero_copy: if scenario.seed.is_multiple_of(2) { ZeroCopy::On } else { ZeroCopy::Off },
        downtime_max: DOWNTIME_MAX_DEFAULT,
        downtime_limit: DOWNTIME_LIMIT_DEFAULT,
        warms_up: false,
        is_dry_run: false,
        hooks: hooks::of_sender(scenario.hooks),
        caller: Caller::new(Cancel::new(), None),
    };
    let receiving = receive::Parts {
        opening: Vec::new(),
        control: far.remove(0).into(),
        data: far.into_iter().map(Connection::from).collect(),
        devices: sinks,
        devices_by: None,
        busy: None,
        pool_max: 1 << 30,
        before_run: hooks::of_receiver(scenario.hooks),
        same_clock: true,
        caller: Caller::new(Cancel::new(), None),
    };
    let (sender, receiver) = run(&world, sending, receiving);
    let intact = files.iter().map(|&(from, to)| world.file(from).content == world.file(to).content).collect();
    let taken = |logs: &[Log]| logs.iter().map(|log| log.lock().unwrap().clone()).collect();
    Played {
        sender,
        receiver,
        sources: taken(&source_logs),
        sinks: taken(&sink_logs),
        intact,
        control: [world.tape(numbers[0], 0), world.tape(numbers[0], 1)],
        data: world.tape(numbers[1], 0),
    }
}

/// Both sides of a transfer of one device over one channel.
fn one_device(
    world: &Arc<World>,
    source: impl Source + 'static,
    sink: impl Sink + 'static,
) -> (send::Parts, receive::Parts) {
    let sockets: Vec<[OwnedFd; 2]> = (0..2).map(|_| [descriptor(), descriptor()]).collect();
    sockets.iter().for_each(|pair| world.connect([pair[0].as_raw_fd(), pair[1].as_raw_fd()]));
    let (mut near, mut far): (Vec<OwnedFd>, Vec<OwnedFd>) =
        sockets.into_iter().map(<(OwnedFd, OwnedFd)>::from).unzip();
    let sending = send::Parts {
        control: near.remove(0).into(),
        data: near.into_iter().map(Connection::from).collect(),
        devices: vec![send::Device::new("dev", 0, Box::new(source))],
        packet_size: PACKET_SIZE,
        pool_size: 1 << 20,
        checksum: Checksum::Crc32c,
        zero_copy: ZeroCopy::Off,
        downtime_max: DOWNTIME_MAX_DEFAULT,
        downtime_limit: DOWNTIME_LIMIT_DEFAULT,
        warms_up: false,
        is_dry_run: false,
        hooks: send::Hooks::default(),
        caller: Caller::new(Cancel::new(), None),
    };
    let receiving = receive::Parts {
        opening: Vec::new(),
        control: far.remove(0).into(),
        data: far.into_iter().map(Connection::from).collect(),
        devices: vec![Device::new("dev", 0, Box::new(sink))],
        devices_by: None,
        pool_max: 1 << 30,
        before_run: None,
        same_clock: true,
        busy: None,
        caller: Caller::new(Cancel::new(), None),
    };
    (sending, receiving)
}

fn run(world: &Arc<World>, sending: send::Parts, receiving: receive::Parts) -> (Finished, Finished) {
    thread::scope(|scope| {
        let begin = |side: usize| -> SimRing { world.ring(side) };
        let (near, far) = (begin(0), begin(1));
        let receiver = scope.spawn(move || {
            far.arrive();
            receive::Receiving::new(far, receiving).unwrap().run()
        });
        let sender = send::Sending::new(near, sending).unwrap().run();
        (sender, receiver.join().unwrap())
    })
}

/// What must hold whatever happened.
fn check(scenario: &Scenario, result: &Played) {
    let told = format!(
        "{scenario:?}\n sender {:?} {:?}\n receiver {:?} {:?}\n sources {:?}\n sinks {:?}",
        result.sender.outcome,
        result.sender.error,
        result.receiver.outcome,
        result.receiver.error,
        result.sources,
        result.sinks
    );
    for (source, sink) in result.sources.iter().zip(&result.sinks) {
        let count = |log: &[&str], names: &[&str]| log.iter().filter(|step| names.contains(step)).count();
        let has_run = sink.contains(&"run") && !sink.contains(&"rollback");
        let ends = count(source, &["release", "rollback", "park"]);
        assert_eq!(ends, 1, "a source device ends in exactly one way\n{told}");
        let source_runs = source.contains(&"rollback");
        assert!(!(source_runs && has_run), "both sides run\n{told}");
        assert!(has_run || !source.contains(&"release"), "nobody has the state\n{told}");
        match result.sender.outcome {
            Outcome::Complete => assert!(source.contains(&"release") && has_run, "{told}"),
            Outcome::Aborted => assert!(source_runs, "{told}"),
            Outcome::InDoubt => assert!(source.contains(&"park"), "{told}"),
        }
        assert_eq!(result.receiver.outcome == Outcome::Complete, has_run, "{told}");
        assert!(
            has_run || sink.is_empty() || sink.contains(&"rollback"),
            "the destination is left half loaded\n{told}"
        );
        if let Some(run) = sink.iter().position(|&step| step == "run") {
            assert!(sink[..run].contains(&"seal") && sink[..run].contains(&"pre_run"), "{told}");
        }
    }
    if result.receiver.outcome == Outcome::Complete {
        assert!(result.intact.iter().all(|&intact| intact), "the state changed on the way\n{told}");
    }
    for side in [&result.sender, &result.receiver] {
        assert_eq!(side.outcome == Outcome::Complete, side.error.is_none(), "{told}");
    }
}

/// The seeds of a test: many, or the one that is asked for.
pub(crate) fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let asked = std::env::var("RINGLIFT_SEED").ok().and_then(|seed| seed.parse().ok());
    asked.map_or(0..count, |seed: u64| seed..seed + 1)
}

#[test]
fn every_transfer_arrives_whatever_the_order_of_completions() {
    for seed in seeds(60) {
        let mut dice = Dice(seed);
        let scenario = Scenario {
            devices: 1 + dice.below(4),
            channels: 1 + dice.below(5),
            size: [0, 1, 8192, 50_000, 200_000][dice.below(5)],
            slots: 4 + u32::try_from(dice.below(9)).unwrap(),
            flow: if dice.chance(50) { Flow::PreCopy } else { Flow::StopCopyOnly },
            ..scenario(seed)
        };
        let result = simulate(&scenario);
        check(&scenario, &result);
        assert_eq!(result.sender.outcome, Outcome::Complete, "{scenario:?}: {:?}", result.sender.error);
        assert_eq!(result.receiver.outcome, Outcome::Complete, "{scenario:?}: {:?}", result.receiver.error);
        assert_eq!(result.sender.report.devices.len(), scenario.devices);
        for (sent, taken) in result.sender.report.devices.iter().zip(&result.receiver.report.devices) {
            assert_eq!((&sent.name, sent.bytes, &sent.crc32c), (&taken.name, taken.bytes, &taken.crc32c));
        }
    }
}

/// Where each message of a control connection ends, in bytes from its beginning.
fn boundaries(tape: &[u8]) -> Vec<usize> {
    let mut ends = vec![0];
    while let Some(head) = tape[*ends.last().unwrap()..].first_chunk::<CONTROL_HEADER_LEN>() {
        let header = ControlHeader::decode(head).unwrap();
        ends.push(ends.last().unwrap() + CONTROL_HEADER_LEN + header.len as usize);
    }
    ends
}

#[test]
fn a_cut_after_any_message_leaves_exactly_one_owner() {
    for seed in seeds(4) {
        for flow in [Flow::StopCopyOnly, Flow::PreCopy] {
            let whole = Scenario { flow, ..scenario(seed) };
            let undisturbed = simulate(&whole);
            assert_eq!(undisturbed.sender.outcome, Outcome::Complete);
            let mut outcomes = Vec::new();
            for side in 0..2 {
                for after in boundaries(&undisturbed.control[side]) {
                    let scenario = Scenario { cut: Some((Link::Control, side, after)), ..whole.clone() };
                    let result = simulate(&scenario);
                    check(&scenario, &result);
                    outcomes.push(result.sender.outcome);
                }
            }
            let seen = |outcome| outcomes.contains(&outcome);
            assert!(
                seen(Outcome::Aborted) && seen(Outcome::InDoubt),
                "every way out was taken: {outcomes:?}"
            );
        }
    }
}

#[test]
fn a_cut_in_the_middle_of_messages_and_packets_leaves_exactly_one_owner() {
    for seed in seeds(80) {
        let whole = scenario(seed);
        let undisturbed = simulate(&whole);
        let mut dice = Dice(seed);
        let (link, side) = [(Link::Control, 0), (Link::Control, 1), (Link::Data, 0)][dice.below(3)];
        let sent = if link == Link::Data { undisturbed.data.len() } else { undisturbed.control[side].len() };
        let scenario = Scenario { cut: Some((link, side, dice.below(sent + 1))), ..whole };
        check(&scenario, &simulate(&scenario));
    }
}

#[test]
fn a_device_that_fails_at_any_step_leaves_exactly_one_owner() {
    for seed in seeds(6) {
        for step in ["start", "quiesce", "stop", "config"] {
            let scenario = Scenario { source_fails: Some(step), flow: Flow::PreCopy, ..scenario(seed) };
            let result = simulate(&scenario);
            check(&scenario, &result);
            assert!(matches!(result.sender.error, Some(Error::Device { .. })), "{:?}", result.sender.error);
            let told = matches!(result.receiver.error, Some(Error::Peer(PeerError::Aborted { .. })));
            assert!(told, "{step}: {:?}", result.receiver.error);
        }
        for step in ["prepare", "config", "seal", "pre_run", "run"] {
            let scenario = Scenario { sink_fails: Some(step), ..scenario(seed) };
            let result = simulate(&scenario);
            check(&scenario, &result);
            assert!(
                matches!(result.receiver.error, Some(Error::Device { .. })),
                "{:?}",
                result.receiver.error
            );
            assert_eq!(result.sender.outcome, Outcome::Aborted, "{step}");
            let told = matches!(
                result.sender.error,
                Some(Error::Peer(PeerError::Aborted { .. }) | Error::Refused { .. })
            );
            assert!(told, "{step}: {:?}", result.sender.error);
        }
    }
}

#[test]
fn a_destination_that_cannot_be_reset_after_commit_leaves_the_sender_in_doubt() {
    // "run" fails, and so does the rollback: nobody can promise that the device does not run
    struct Stubborn(FakeSink);
    impl Sink for Stubborn {
        fn prepare(&mut self) -> Result<(), DeviceError> {
            self.0.prepare()
        }
        fn seal(&mut self) -> Result<(), DeviceError> {
            self.0.seal()
        }
        fn run(&mut self) -> Result<(), DeviceError> {
            step(&self.0.log, Some("run"), "run")
        }
        fn rollback(&mut self) -> Result<(), DeviceError> {
            step(&self.0.log, Some("rollback"), "rollback")
        }
    }
    let world = World::new(7);
    let log = Log::default();
    let from = descriptor();
    world.add_file(from.as_raw_fd(), SimFile::default());
    let source = FakeSource { fd: from, flow: Flow::StopCopyOnly, log: Arc::clone(&log), fails: None };
    let sink =
        Stubborn(FakeSink { fd: descriptor(), log: Log::default(), fails: None, config: b"config".to_vec() });
    let (sending, receiving) = one_device(&world, source, sink);
    let (sender, receiver) = run(&world, sending, receiving);
    assert_eq!(receiver.outcome, Outcome::Aborted);
    assert_eq!(sender.outcome, Outcome::InDoubt, "{:?}", sender.error);
    assert_eq!(log.lock().unwrap().last(), Some(&"park"));
}

#[test]
fn a_source_that_cannot_be_read_in_the_middle_is_named_on_both_sides() {
    for seed in seeds(10) {
        let scenario = Scenario { read_fails_at: Some(30_000), ..scenario(seed) };
        let result = simulate(&scenario);
        check(&scenario, &result);
        let text = result.sender.error.unwrap().to_string();
        assert!(
            text.starts_with("device dev") && text.ends_with("reading its state failed: EIO (I/O error)"),
            "{text}"
        );
        assert!(result.receiver.error.unwrap().to_string().contains(&text));
    }
}

#[test]
fn a_sink_that_refuses_to_write_is_named_on_both_sides() {
    for seed in seeds(10) {
        let scenario = Scenario { write_fails_at: Some(30_000), ..scenario(seed) };
        let result = simulate(&scenario);
        check(&scenario, &result);
        let text = result.receiver.error.unwrap().to_string();
        assert!(text.ends_with("writing its state failed: EIO (I/O error)"), "{text}");
        assert!(result.sender.error.unwrap().to_string().contains(&text));
    }
}

#[test]
fn nobody_waits_for_a_peer_that_has_said_its_last_word_and_left() {
    for (read_fails_at, write_fails_at) in [(Some(30_000), None), (None, Some(30_000))] {
        let result = simulate(&Scenario { read_fails_at, write_fails_at, ..scenario(1) });
        for side in [&result.sender, &result.receiver] {
            assert!(u128::from(side.report.duration_ns) < LINGER_MAX.as_nanos(), "{:?}", side.report);
        }
    }
}

#[test]
fn pre_copy_is_quiesced_and_stopped_before_the_rest_is_read() {
    let result = simulate(&Scenario { flow: Flow::PreCopy, ..scenario(1) });
    assert_eq!(result.sources[0], ["start", "quiesce", "stop", "config", "release"]);
    assert_eq!(result.sinks[0], ["prepare", "config", "seal", "pre_run", "run"]);
    assert!(result.sender.report.devices[0].precopy_bytes > 0);
}

#[test]
fn a_cancel_that_comes_with_the_last_loaded_is_still_in_time() {
    // The sender looks at its caller at the beginning of a turn; the last "loaded" ends a turn. What came in between
    // was looked at nowhere but directly before commit.
    struct Late {
        sink: FakeSink,
        cancel: Cancel,
    }
    impl Sink for Late {
        fn prepare(&mut self) -> Result<(), DeviceError> {
            self.sink.prepare()
        }
        fn seal(&mut self) -> Result<(), DeviceError> {
            self.cancel.cancel();
            self.sink.seal()
        }
        fn run(&mut self) -> Result<(), DeviceError> {
            self.sink.run()
        }
        fn rollback(&mut self) -> Result<(), DeviceError> {
            self.sink.rollback()
        }
    }
    for seed in seeds(20) {
        let world = World::new(seed);
        let (source_log, sink_log, cancel) = (Log::default(), Log::default(), Cancel::new());
        let from = descriptor();
        world.add_file(from.as_raw_fd(), SimFile::default());
        let source =
            FakeSource { fd: from, flow: Flow::StopCopyOnly, log: Arc::clone(&source_log), fails: None };
        let sink = FakeSink {
            fd: descriptor(),
            log: Arc::clone(&sink_log),
            fails: None,
            config: b"config".to_vec(),
        };
        let (mut sending, receiving) = one_device(&world, source, Late { sink, cancel: cancel.clone() });
        sending.caller = Caller::new(cancel, None);
        let (sender, receiver) = run(&world, sending, receiving);
        assert!(matches!(sender.error, Some(Error::Cancelled)), "seed {seed}: {:?}", sender.error);
        assert_eq!((sender.outcome, receiver.outcome), (Outcome::Aborted, Outcome::Aborted), "seed {seed}");
        assert_eq!(source_log.lock().unwrap().last(), Some(&"rollback"), "seed {seed}");
        assert!(!sink_log.lock().unwrap().contains(&"run"), "seed {seed}");
    }
}

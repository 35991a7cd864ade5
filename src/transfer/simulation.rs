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
mod owners;
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

/// Where each message of a control connection ends, in bytes from its beginning.
fn boundaries(tape: &[u8]) -> Vec<usize> {
    let mut ends = vec![0];
    while let Some(head) = tape[*ends.last().unwrap()..].first_chunk::<CONTROL_HEADER_LEN>() {
        let header = ControlHeader::decode(head).unwrap();
        ends.push(ends.last().unwrap() + CONTROL_HEADER_LEN + header.len as usize);
    }
    ends
}

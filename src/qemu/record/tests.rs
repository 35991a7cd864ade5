//! Recordings over the seeded, faulty ring: the real engine, and a source that sends what a real QEMU sent.
//!
//! A failing run names its seed; `RINGLIFT_SEED=n cargo test capture` runs only that one.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use super::files::Folder;
use super::recording::{Parts, Recording};
use crate::buffer::{InFlight, Pool};
use crate::cancel::Cancel;
use crate::error::{Error, PeerError, Place, QemuError};
use crate::limits::HEADER_ROOM;
use crate::net::Connection;
use crate::ring::sim::{Cut, SimFile, SimRing, World};
use crate::ring::{Completion, Directions, Ring, Tag};
use crate::wire::qemu::{Deframer, Frame, INIT_LEN, Init, PREFIX_LEN, Packet, PageSize};
use crate::worker::caller::Caller;

const MAIN: usize = 0;
const PIECE: usize = 8192;

/// The streams of a fixture: main first, then the others without their inits.
fn streams(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qemu").join(name);
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let mut streams = vec![read("main.bin")];
    streams.extend((0..2).map(|id| read(&format!("multifd-{id}.bin"))[INIT_LEN..].to_vec()));
    streams
}

/// What to simulate.
struct Scenario {
    seed: u64,
    streams: Vec<Vec<u8>>,
    slots: u32,
    /// The source sends nothing more but does not close.
    stays: bool,
    /// Everything is cut after this many bytes of this connection.
    cut: Option<(usize, usize)>,
    /// Only this many bytes of the main connection can be written.
    room: Option<usize>,
}

/// What came of it.
struct Played {
    error: Option<Error>,
    files: Vec<Vec<u8>>,
    received: Vec<u8>,
    took_ns: u64,
}

fn scenario(seed: u64, name: &str) -> Scenario {
    Scenario { seed, streams: streams(name), slots: 3, stays: false, cut: None, room: None }
}

fn simulate(scenario: &Scenario) -> Played {
    let world = World::new(scenario.seed);
    let socket = || -> OwnedFd { File::open("/dev/null").unwrap().into() };
    let sockets: Vec<[OwnedFd; 2]> = scenario.streams.iter().map(|_| [socket(), socket()]).collect();
    sockets.iter().for_each(|pair| world.connect([pair[0].as_raw_fd(), pair[1].as_raw_fd()]));
    let (near, mut far): (Vec<OwnedFd>, Vec<OwnedFd>) = sockets.into_iter().map(<(_, _)>::from).unzip();
    if let Some((connection, after)) = scenario.cut {
        world.cut(Cut { socket: near[connection].as_raw_fd(), side: 0, after });
    }
    let temp = tempfile::tempdir().unwrap();
    let folder = Folder::make(temp.path()).unwrap();
    let mut files = vec![folder.main().unwrap()];
    files.extend((0..2).map(|id| folder.multifd(&Init { uuid: [0; 16], id }).unwrap()));
    let numbers: Vec<RawFd> = files.iter().map(|files| files.bytes.as_raw_fd()).collect();
    for (connection, &fd) in numbers.iter().enumerate() {
        let fails_at = scenario.room.filter(|_| connection == MAIN);
        world.add_file(fd, SimFile { fails_at, ..SimFile::default() });
    }
    let share = scenario.slots;
    // called on the recording's thread: a pool stays on the thread where it is made
    let parts = move || Parts {
        main: far.remove(0).into(),
        multifd: far.into_iter().map(Connection::from).collect(),
        record: Some((folder, files)),
        pool: Pool::new(share * 3, u32::try_from(PIECE).unwrap()).unwrap(),
        share,
        caller: Caller::new(Cancel::new(), None),
    };
    let (error, received, took_ns) = run(&world, parts, &near, scenario);
    let files = numbers.iter().map(|&fd| world.file(fd).content).collect();
    Played { error, files, received, took_ns }
}

fn run(
    world: &Arc<World>,
    parts: impl FnOnce() -> Parts + Send,
    near: &[OwnedFd],
    scenario: &Scenario,
) -> (Option<Error>, Vec<u8>, u64) {
    thread::scope(|scope| {
        let (source, here) = (world.ring(0), world.ring(1));
        let recording = scope.spawn(move || {
            here.arrive();
            let begun = here.now();
            let mut recording = Recording::new(here, parts()).unwrap();
            let result = recording.record();
            let error = recording.conclude(result);
            (error, recording.now() - begun)
        });
        let received = play(source, near, scenario);
        let (error, took_ns) = recording.join().unwrap();
        (error, received, took_ns)
    })
}

/// A connection that the source sends on.
struct SourceConnection<'a> {
    socket: RawFd,
    stream: &'a [u8],
    sent: usize,
    flight: Option<InFlight>,
}

impl SourceConnection<'_> {
    fn send(&mut self, ring: &mut SimRing, pool: &mut Pool, tag: Tag) {
        let rest = &self.stream[self.sent..];
        if rest.is_empty() {
            return;
        }
        let len = rest.len().min(PIECE);
        let mut slot = pool.take().unwrap();
        slot.payload_mut()[..len].copy_from_slice(&rest[..len]);
        let mut flight = slot.into_flight();
        ring.send(tag, self.socket, flight.lease(), HEADER_ROOM..HEADER_ROOM + len, false);
        self.flight = Some(flight);
    }
}

/// The source: sends everything, waits for SHUT if it has opened the return path, and closes. Returns what it received.
fn play(mut ring: SimRing, sockets: &[OwnedFd], scenario: &Scenario) -> Vec<u8> {
    let mut pool = Pool::new(8, u32::try_from(PIECE).unwrap()).unwrap();
    let streams = sockets.iter().zip(&scenario.streams);
    let mut connections: Vec<SourceConnection<'_>> = streams
        .map(|(socket, stream)| SourceConnection {
            socket: socket.as_raw_fd(),
            stream,
            sent: 0,
            flight: None,
        })
        .collect();
    for (number, connection) in connections.iter_mut().enumerate() {
        connection.send(&mut ring, &mut pool, Tag(number as u64));
    }
    let return_path = Tag(99);
    ring.receive(return_path, connections[MAIN].socket, pool.take().unwrap(), HEADER_ROOM..HEADER_ROOM + 8);
    let listens = scenario.streams[MAIN][24..29] == [8, 0, 1, 0, 0];
    let (mut received, mut closed) = (Vec::new(), false);
    let is_shut = |received: &[u8]| received.windows(8).any(|bytes| bytes.starts_with(&[0, 1, 0, 4]));
    loop {
        let all_sent = connections.iter().all(|connection| connection.flight.is_none());
        let is_over = if listens { is_shut(&received) } else { all_sent };
        if closed || (is_over && !scenario.stays) {
            break;
        }
        ring.wait(None).unwrap();
        while let Some(completion) = ring.next() {
            match completion {
                Completion::Sent { tag, lease, result } => {
                    let connection = &mut connections[usize::try_from(tag.0).unwrap()];
                    let mut flight = connection.flight.take().unwrap();
                    flight.give_back(lease.unwrap());
                    pool.put(flight.land().unwrap());
                    // the other side may have given up
                    if let Ok(sent) = result {
                        connection.sent += sent;
                        connection.send(&mut ring, &mut pool, tag);
                    }
                }
                Completion::Moved { slot, result, .. } => match result {
                    Ok(0) | Err(_) => closed = true,
                    Ok(count) => {
                        received.extend_from_slice(slot.payload(count));
                        ring.receive(
                            return_path,
                            connections[MAIN].socket,
                            slot,
                            HEADER_ROOM..HEADER_ROOM + 8,
                        );
                    }
                },
                _ => {}
            }
        }
    }
    for connection in &connections {
        ring.shut_down(connection.socket, Directions::Sending);
    }
    received
}

fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let asked = std::env::var("RINGLIFT_SEED").ok().and_then(|seed| seed.parse().ok());
    asked.map_or(0..count, |seed: u64| seed..seed + 1)
}

/// Whatever the outcome, each file holds a prefix of what was sent.
fn assert_prefixes(scenario: &Scenario, played: &Played) {
    for (file, stream) in played.files.iter().zip(&scenario.streams) {
        assert!(stream.starts_with(file), "seed {}: {:?}", scenario.seed, played.error);
    }
}

fn qemu_error(played: &Played) -> &QemuError {
    match &played.error {
        Some(Error::Peer(PeerError::Qemu(error))) => error,
        other => panic!("{other:?}"),
    }
}

/// `streams` without the last SYNC of the last channel.
fn without_a_sync(mut streams: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let stream = streams.last_mut().unwrap();
    let (mut deframer, mut rest, mut found) = (Deframer::after_init(PageSize::default()), &stream[..], None);
    while let (taken, Some(frame)) = deframer.next(rest).unwrap() {
        rest = &rest[taken..];
        if let Frame::Begin { packet: packet @ Packet::Sync(_), offset } = frame {
            let begin = usize::try_from(offset).unwrap() - INIT_LEN;
            found = Some(begin..begin + PREFIX_LEN + packet.rest() as usize);
        }
    }
    stream.drain(found.unwrap());
    streams
}

#[test]
fn every_migration_is_recorded_whatever_the_order_of_completions() {
    for seed in seeds(40) {
        let name = if seed % 8 == 0 { "device-on-channels-ack" } else { "device-on-channels" };
        let scenario = Scenario { slots: 2 + u32::try_from(seed % 3).unwrap(), ..scenario(seed, name) };
        let played = simulate(&scenario);
        assert!(played.error.is_none(), "seed {seed}: {:?}", played.error);
        assert_eq!(played.files, scenario.streams, "seed {seed}");
        assert_eq!(played.received.ends_with(&[0, 1, 0, 4, 0, 0, 0, 0]), seed % 8 == 0, "seed {seed}");
    }
}

#[test]
fn a_migration_that_is_cut_anywhere_ends_with_an_error_and_keeps_what_came() {
    for seed in seeds(60) {
        let scenario = scenario(seed, "device-on-channels");
        let connection = usize::try_from(seed % 3).unwrap();
        let len = scenario.streams[connection].len();
        let after = len * usize::try_from(seed % 60).unwrap() / 60;
        let scenario = Scenario { cut: Some((connection, after.max(1))), ..scenario };
        let played = simulate(&scenario);
        assert!(matches!(played.error, Some(Error::Peer(_))), "seed {seed}: {:?}", played.error);
        assert_prefixes(&scenario, &played);
    }
}

#[test]
fn a_file_that_cannot_be_written_is_named_and_the_source_is_told() {
    for seed in seeds(10) {
        let scenario = Scenario { room: Some(40_000), ..scenario(seed, "device-on-channels-ack") };
        let played = simulate(&scenario);
        let Some(Error::File { path, .. }) = &played.error else { panic!("seed {seed}: {:?}", played.error) };
        assert!(path.ends_with("main.bin"), "seed {seed}: {path}");
        assert!(played.received.ends_with(&[0, 1, 0, 4, 0, 0, 0, 1]), "seed {seed}: {:?}", played.received);
        assert_prefixes(&scenario, &played);
    }
}

#[test]
fn a_source_that_falls_silent_is_given_up() {
    for seed in seeds(5) {
        let mut scenario = Scenario { stays: true, ..scenario(seed, "device-on-channels-ack") };
        scenario.streams[MAIN].truncate(20_000);
        let played = simulate(&scenario);
        let is_standstill = matches!(played.error, Some(Error::Peer(PeerError::Standstill { .. })));
        assert!(is_standstill, "seed {seed}: {:?}", played.error);
        assert!((60_000_000_000..65_000_000_000).contains(&played.took_ns), "seed {seed}");
        assert_eq!(played.files, scenario.streams, "what came is written, seed {seed}");
    }
}

#[test]
fn a_sync_that_never_comes_is_not_waited_for_long() {
    for seed in seeds(5) {
        let scenario = Scenario { stays: true, ..scenario(seed, "device-on-channels-ack") };
        let scenario = Scenario { streams: without_a_sync(scenario.streams.clone()), ..scenario };
        let played = simulate(&scenario);
        let QemuError::Sync { place, .. } = qemu_error(&played) else { panic!("{:?}", played.error) };
        assert_eq!(*place, Place::Multifd(1), "seed {seed}");
        assert!((10_000_000_000..15_000_000_000).contains(&played.took_ns), "seed {seed}");
        assert!(played.received.ends_with(&[0, 1, 0, 4, 0, 0, 0, 1]), "seed {seed}: {:?}", played.received);
    }
}

//! Replays over the seeded, faulty ring: the real worker, and a destination that reads whatever comes.
//!
//! A failing run names its seed; `RINGLIFT_SEED=n cargo test replay` runs only that one.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use super::*;
use crate::buffer::{InFlight, Lease};
use crate::error::{Errno, QemuError};
use crate::limits::{HEADER_ROOM, QEMU_PIECE_MIN, SILENCE_MAX};
use crate::ring::sim::{Cut, Dice, SimFile, SimRing, World};
use crate::ring::{Completion, Directions, Tag};

const SHUT: [u8; 8] = [0, 1, 0, 4, 0, 0, 0, 0];

/// What to simulate.
#[derive(Debug, Clone, Copy, Default)]
struct Scenario {
    seed: u64,
    /// Everything is cut after this many bytes of this connection.
    cut: Option<(usize, usize)>,
    /// This connection's file cannot be read beyond this many bytes.
    fails_at: Option<(usize, usize)>,
    /// This connection's file has shrunk to this many bytes.
    short: Option<(usize, usize)>,
    /// The destination reads everything and sends nothing.
    silent: bool,
}

struct Played {
    error: Option<Error>,
    unacknowledged: bool,
    /// What was sent on each connection, after the inits.
    sent: Vec<Vec<u8>>,
    captured: Vec<Vec<u8>>,
    took_ns: Nanos,
}

fn simulate(scenario: Scenario) -> Played {
    let world = World::new(scenario.seed);
    let capture = fixture();
    let captured: Vec<Vec<u8>> = capture
        .connections
        .iter()
        .map(|connection| {
            fs::read(&connection.path).unwrap()[usize::try_from(begin(connection)).unwrap()..].to_vec()
        })
        .collect();
    let socket = || -> OwnedFd { File::open("/dev/null").unwrap().into() };
    let pairs: Vec<[OwnedFd; 2]> = captured.iter().map(|_| [socket(), socket()]).collect();
    pairs.iter().for_each(|pair| world.connect([pair[0].as_raw_fd(), pair[1].as_raw_fd()]));
    let (near, far): (Vec<OwnedFd>, Vec<OwnedFd>) = pairs.into_iter().map(<(_, _)>::from).unzip();
    let numbers: Vec<RawFd> = near.iter().map(AsRawFd::as_raw_fd).collect();
    if let Some((connection, after)) = scenario.cut {
        world.cut(Cut { socket: numbers[connection], side: 0, after });
    }
    let lens: Vec<usize> = captured.iter().map(Vec::len).collect();
    let (error, unacknowledged, took_ns) = thread::scope(|scope| {
        let (source, destination) = (world.ring(0), world.ring(1));
        let (files, there) = (captured.clone(), far.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>());
        scope.spawn(move || read(destination, &there, &lens, scenario));
        let replay = Replay::builder(capture, ([127, 0, 0, 1], 1).into()).build();
        let script = replay.script().unwrap();
        add_files(&world, &script, files, scenario);
        let pool = Pool::new(12, QEMU_PIECE_MIN / (1 + u32::try_from(scenario.seed % 8).unwrap())).unwrap();
        let begun = source.now();
        let caller = Caller::new(Cancel::new(), None);
        let mut worker =
            replay.worker(source, pool, script, near.into_iter().map(net::Connection::from), caller).unwrap();
        let error = worker.run().err();
        (error, worker.unacknowledged, worker.ring.now() - begun)
    });
    let sent = numbers.iter().map(|&socket| world.tape(socket, 0)).collect();
    Played { error, unacknowledged, sent, captured, took_ns }
}

fn add_files(world: &Arc<World>, script: &Script, contents: Vec<Vec<u8>>, scenario: Scenario) {
    let limit =
        |asked: Option<(usize, usize)>, number| asked.filter(|(one, _)| *one == number).map(|(_, at)| at);
    for (number, (file, mut content)) in script.files.iter().zip(contents).enumerate() {
        content.truncate(limit(scenario.short, number).unwrap_or(usize::MAX));
        let fails_at = limit(scenario.fails_at, number);
        world.add_file(file.as_raw_fd(), SimFile { content, at: 0, fails_at });
    }
}

/// Sends the destination's replies: one send at a time, which may end early.
struct ReplySender {
    unsent: Vec<u8>,
    sending: Option<InFlight>,
}

impl ReplySender {
    fn go_on(&mut self, ring: &mut SimRing, pool: &mut Pool, socket: RawFd) {
        if self.sending.is_some() || self.unsent.is_empty() {
            return;
        }
        let mut slot = pool.take().unwrap();
        slot.payload_mut()[..self.unsent.len()].copy_from_slice(&self.unsent);
        let flight = self.sending.insert(slot.into_flight());
        ring.send(Tag(99), socket, flight.lease(), HEADER_ROOM..HEADER_ROOM + self.unsent.len(), false);
    }

    fn on_sent(&mut self, pool: &mut Pool, lease: Option<Lease>, result: Result<usize, Errno>) {
        let mut flight = self.sending.take().unwrap();
        flight.give_back(lease.unwrap());
        pool.put(flight.land().unwrap());
        // when the connection is gone, drop the rest
        self.unsent.drain(..result.unwrap_or(self.unsent.len()));
    }
}

/// The destination: reads every connection, acknowledges, sends SHUT 0 once it has `lens`, and closes.
fn read(mut ring: SimRing, sockets: &[RawFd], lens: &[usize], scenario: Scenario) {
    ring.arrive();
    let mut pool = Pool::new(8, 4096).unwrap();
    let listen = |ring: &mut SimRing, number: usize, slot| {
        ring.receive(Tag(number as u64), sockets[number], slot, HEADER_ROOM..HEADER_ROOM + 4096);
    };
    (0..sockets.len()).for_each(|number| listen(&mut ring, number, pool.take().unwrap()));
    let mut replies =
        ReplySender { unsent: if scenario.silent { vec![] } else { vec![0, 7, 0, 0] }, sending: None };
    let (mut came, mut open, mut silent) = (vec![0; sockets.len()], sockets.len(), scenario.silent);
    while open > 0 {
        replies.go_on(&mut ring, &mut pool, sockets[0]);
        ring.wait(None).unwrap();
        while let Some(completion) = ring.next() {
            match completion {
                Completion::Sent { lease, result, .. } => replies.on_sent(&mut pool, lease, result),
                Completion::Moved { tag, slot, result: Ok(count) } if count > 0 => {
                    let number = usize::try_from(tag.0).unwrap();
                    came[number] += count;
                    listen(&mut ring, number, slot);
                }
                _ => open -= 1,
            }
        }
        if came == lens && !silent {
            silent = true;
            replies.unsent.extend(SHUT);
        }
    }
    sockets.iter().for_each(|&socket| ring.shut_down(socket, Directions::Sending));
}

fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let asked = std::env::var("RINGLIFT_SEED").ok().and_then(|seed| seed.parse().ok());
    asked.map_or(0..count, |seed: u64| seed..seed + 1)
}

/// What was sent is the beginning of what was captured.
fn assert_prefixes(played: &Played, seed: u64) {
    for (sent, captured) in played.sent.iter().zip(&played.captured) {
        assert!(captured.starts_with(sent), "seed {seed}: {:?}", played.error);
    }
}

#[test]
fn every_byte_is_sent_whatever_the_order_of_completions() {
    for seed in seeds(20) {
        let played = simulate(Scenario { seed, ..Scenario::default() });
        assert!(played.error.is_none(), "seed {seed}: {:?}", played.error);
        assert!(played.sent == played.captured && !played.unacknowledged, "seed {seed}");
    }
}

#[test]
fn a_replay_that_is_cut_anywhere_ends_with_an_error() {
    for seed in seeds(40) {
        let mut dice = Dice(seed);
        let connection = dice.below(3);
        let after = 1 + dice.below([77_143, 284_164, 468_456][connection] - 1);
        let played = simulate(Scenario { seed, cut: Some((connection, after)), ..Scenario::default() });
        let is_left =
            matches!(played.error, Some(Error::Peer(PeerError::Qemu(QemuError::DestinationLeft { .. }))));
        assert!(is_left, "seed {seed}: {:?}", played.error);
        assert_prefixes(&played, seed);
    }
}

#[test]
fn a_file_that_cannot_be_read_any_more_is_named() {
    for seed in seeds(10) {
        let failing = simulate(Scenario { seed, fails_at: Some((2, 100_000)), ..Scenario::default() });
        let shorter = simulate(Scenario { seed, short: Some((2, 100_000)), ..Scenario::default() });
        for played in [failing, shorter] {
            let Some(Error::Capture(error)) = &played.error else {
                panic!("seed {seed}: {:?}", played.error)
            };
            assert_eq!(&*error.file, "multifd-1.bin", "seed {seed}");
            assert_prefixes(&played, seed);
        }
    }
}

#[test]
fn a_silent_destination_gets_everything_and_is_given_up() {
    for seed in seeds(5) {
        let played = simulate(Scenario { seed, silent: true, ..Scenario::default() });
        let is_standstill = matches!(played.error, Some(Error::Peer(PeerError::Standstill { .. })));
        assert!(is_standstill && played.unacknowledged, "seed {seed}: {:?}", played.error);
        assert_eq!(played.sent, played.captured, "seed {seed}");
        let patience = nanos(SILENCE_MAX) + nanos(STANDSTILL_MAX);
        assert!(
            (patience..patience + 5_000_000_000).contains(&played.took_ns),
            "seed {seed}: {}",
            played.took_ns
        );
    }
}

//! Whole migrations over the seeded, faulty ring: the real receiver, and a source that is played by hand.
//!
//! A failing run names its seed; `RINGLIFT_SEED=n cargo test simulation` runs that one alone.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::thread;

use self::handmade::Migration;
use super::{Parts, Receiving, pool_for};
use crate::buffer::{InFlight, Pool};
use crate::cancel::Cancel;
use crate::error::{Error, PeerError};
use crate::limits::{HEADER_ROOM, QEMU_LEFTOVERS_MAX};
use crate::net::Connection;
use crate::report::{Report, Role, TimelineWhat as What};
use crate::ring::sim::{Cut, Dice, SimFile, SimRing, World};
use crate::ring::{Completion, Directions, Ring, Tag};
use crate::session::handover::Outcome;
use crate::transfer::simulation::{FakeSink, Log, descriptor, seeds};
use crate::wire::qemu::INIT_LEN;
use crate::worker::caller::Caller;
use crate::worker::finished::Finished;
use crate::worker::writers::Device;

#[path = "../../../tests/common/handmade.rs"]
mod handmade;

/// Bytes that the source hands to a connection at once.
const PORTION: u32 = 8192;
/// The source's connections are numbered, the main one 0; what it receives has this tag.
const HEARING: Tag = Tag(u64::MAX);

/// A connection of the source: what is left to send.
struct SourceConnection {
    socket: OwnedFd,
    bytes: Vec<u8>,
    sent: usize,
    flight: Option<(InFlight, usize)>,
}

/// The source: sends everything, waits for the final message if it asked for one, and closes. One connection may end as
/// soon as all is sent on it. Returns what it received.
fn play(
    mut ring: SimRing,
    connections: Vec<(OwnedFd, Vec<u8>)>,
    return_path: bool,
    ends: Option<usize>,
) -> Vec<u8> {
    let mut pool = Pool::new(u32::try_from(connections.len()).unwrap() + 1, PORTION).unwrap();
    let connection = |(socket, bytes)| SourceConnection { socket, bytes, sent: 0, flight: None };
    let mut connections: Vec<SourceConnection> = connections.into_iter().map(connection).collect();
    let main = connections[0].socket.as_raw_fd();
    ring.receive(HEARING, main, pool.take().unwrap(), HEADER_ROOM..HEADER_ROOM + PORTION as usize);
    let (mut received, mut gone) = (Vec::new(), false);
    loop {
        for (tag, connection) in
            (0..).zip(&mut connections).filter(|(_, connection)| connection.flight.is_none())
        {
            let count = (connection.bytes.len() - connection.sent).min(PORTION as usize);
            if count == 0 || gone {
                continue;
            }
            let mut slot = pool.take().unwrap();
            slot.payload_mut()[..count]
                .copy_from_slice(&connection.bytes[connection.sent..connection.sent + count]);
            let mut flight = slot.into_flight();
            let lease = flight.lease();
            connection.flight = Some((flight, count));
            ring.send(
                Tag(tag),
                connection.socket.as_raw_fd(),
                lease,
                HEADER_ROOM..HEADER_ROOM + count,
                false,
            );
        }
        let is_sent = connections.iter().all(|connection| connection.sent == connection.bytes.len());
        let is_told = !return_path || received.windows(8).any(|frame| frame.starts_with(&[0, 1, 0, 4]));
        if gone || (is_sent && is_told) {
            break;
        }
        ring.wait(None).unwrap();
        while let Some(completion) = ring.next() {
            match completion {
                Completion::Sent { tag, lease, result } => {
                    let connection = &mut connections[usize::try_from(tag.0).unwrap()];
                    let (mut flight, _) = connection.flight.take().unwrap();
                    flight.give_back(lease.unwrap());
                    pool.put(flight.land().unwrap());
                    result.map_or_else(|_| gone = true, |sent| connection.sent += sent);
                    if connection.sent == connection.bytes.len() && ends == usize::try_from(tag.0).ok() {
                        ring.shut_down(connection.socket.as_raw_fd(), Directions::Sending);
                    }
                }
                Completion::Moved { slot, result: Ok(came @ 1..), .. } => {
                    received.extend_from_slice(slot.payload(came));
                    ring.receive(HEARING, main, slot, HEADER_ROOM..HEADER_ROOM + PORTION as usize);
                }
                Completion::Moved { .. } => gone = true,
                _ => {}
            }
        }
    }
    connections.iter().for_each(|connection| ring.shut_down(connection.socket.as_raw_fd(), Directions::Both));
    received
}

/// What to simulate.
#[derive(Clone)]
struct Scenario {
    seed: u64,
    migration: Migration,
    /// Slots beyond the fewest.
    spare: u64,
    sink_fails: Option<&'static str>,
    write_fails_at: Option<usize>,
    /// Everything is cut after so many bytes on the connection with this number, of the source (0) or to it (1); the
    /// main one is 0.
    cut: Option<(usize, usize, usize)>,
    /// This connection of the source ends when all is sent on it, the others stay open.
    ends: Option<usize>,
}

/// What came of it.
struct Played {
    finished: Finished,
    sinks: Vec<Vec<&'static str>>,
    intact: bool,
    /// What the source received.
    received: Vec<u8>,
}

fn scenario(seed: u64) -> Scenario {
    let mut dice = Dice(seed ^ 0x5eed);
    let devices = 1 + u8::try_from(dice.below(3)).unwrap();
    let channels = 1 + dice.below(3);
    let mut device = |number| {
        let pieces = dice.below(6);
        handmade::Device::new(number, pieces, 1 + dice.below(9000))
    };
    let devices = (1..=devices).map(&mut device).collect();
    let choices = (0..40).map(|_| dice.below(channels)).collect();
    let return_path = dice.chance(60);
    Scenario {
        seed,
        migration: Migration { return_path, choices, ..Migration::new(devices, channels) },
        spare: dice.next() % 3,
        sink_fails: None,
        write_fails_at: None,
        cut: None,
        ends: None,
    }
}

fn simulate(scenario: &Scenario) -> Played {
    let streams = [vec![scenario.migration.main()], scenario.migration.multifd()].concat();
    play_streams(scenario, streams)
}

/// The streams, the main one first.
fn play_streams(scenario: &Scenario, mut streams: Vec<Vec<u8>>) -> Played {
    let world = World::new(scenario.seed);
    let migration = &scenario.migration;
    // inits have been read by the code that identified the connections
    streams[1..].iter_mut().for_each(|stream| drop(stream.drain(..INIT_LEN)));
    let sockets: Vec<[OwnedFd; 2]> = streams.iter().map(|_| [descriptor(), descriptor()]).collect();
    sockets.iter().for_each(|pair| world.connect([pair[0].as_raw_fd(), pair[1].as_raw_fd()]));
    let numbers: Vec<RawFd> = sockets.iter().map(|pair| pair[0].as_raw_fd()).collect();
    if let Some((connection, side, after)) = scenario.cut {
        world.cut(Cut { socket: numbers[connection], side, after });
    }
    let (mut devices, mut logs, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for device in &migration.devices {
        let (fd, log) = (descriptor(), Log::default());
        world.add_file(fd.as_raw_fd(), SimFile { fails_at: scenario.write_fails_at, ..SimFile::default() });
        files.push(fd.as_raw_fd());
        logs.push(Arc::clone(&log));
        let sink = FakeSink { fd, log, fails: scenario.sink_fails, config: device.config.clone() };
        devices.push(Device::new(device.name.as_str(), 0, Box::new(sink)));
    }
    let (near, mut far): (Vec<OwnedFd>, Vec<OwnedFd>) =
        sockets.into_iter().map(<(OwnedFd, OwnedFd)>::from).unzip();
    let parts = Parts {
        main: far.remove(0).into(),
        multifd: far.into_iter().map(Connection::from).collect(),
        pool_size: pool_for(devices.len() + usize::try_from(scenario.spare).unwrap()),
        before_run: None,
        devices,
        caller: Caller::new(Cancel::new(), None),
    };
    let (finished, received) = thread::scope(|scope| {
        let (source, receiver) = (world.ring(0), world.ring(1));
        let receiving = scope.spawn(move || {
            receiver.arrive();
            Receiving::new(receiver, parts).unwrap().run()
        });
        let connections = near.into_iter().zip(streams).collect();
        let received = play(source, connections, migration.return_path, scenario.ends);
        (receiving.join().unwrap(), received)
    });
    let intact = migration
        .devices
        .iter()
        .zip(&files)
        .all(|(device, &file)| world.file(file).content == device.content());
    let sinks = logs.iter().map(|log| log.lock().unwrap().clone()).collect();
    Played { finished, sinks, intact, received }
}

/// What must hold whatever happened.
fn check(scenario: &Scenario, played: &Played) {
    let told = format!(
        "seed {} {:?} {:?}\n {:?} {:?}\n {:?}",
        scenario.seed,
        scenario.cut,
        played.finished.outcome,
        played.finished.error,
        played.received,
        played.sinks
    );
    let let_go = played.received.ends_with(&[0, 1, 0, 4, 0, 0, 0, 0]);
    let is_complete = played.finished.outcome == Outcome::Complete;
    assert_eq!(is_complete, played.finished.error.is_none(), "{told}");
    for sink in &played.sinks {
        let has_run = sink.contains(&"run") && !sink.contains(&"rollback");
        assert_eq!(has_run, is_complete, "{told}");
        assert!(has_run || sink.contains(&"rollback"), "the device is left half loaded\n{told}");
        if sink.contains(&"pre_run") {
            assert!(let_go || !scenario.migration.return_path, "the source runs its devices, too\n{told}");
            assert!(played.sinks.iter().all(|sink| sink.contains(&"seal")), "{told}");
        }
    }
    assert!(!is_complete || played.intact, "the state changed on the way\n{told}");
}

#[test]
fn every_migration_arrives_whatever_the_order_of_completions() {
    for seed in seeds(80) {
        let mut scenario = scenario(seed);
        scenario.migration.on_channels = !seed.is_multiple_of(4);
        let played = simulate(&scenario);
        check(&scenario, &played);
        assert_eq!(played.finished.outcome, Outcome::Complete, "seed {seed}: {:?}", played.finished.error);
        for (device, report) in scenario.migration.devices.iter().zip(&played.finished.report.devices) {
            let len = device.content().len() + device.config.len();
            assert_eq!((&report.name, report.bytes), (&device.name, len as u64), "seed {seed}");
        }
        check_timeline(&played.finished.report, &scenario.migration);
    }
}

/// The receiver has its part of the timeline: what it wrote, loaded and let run.
fn check_timeline(report: &Report, migration: &Migration) {
    for (idx, device) in (0..).zip(&migration.devices) {
        let of = |what| report.timeline.iter().filter(move |it| (it.device, it.what) == (Some(idx), what));
        let writes = usize::from(!device.content().is_empty());
        for (what, count) in
            [(What::FirstWrite, writes), (What::LastWrite, writes), (What::Load, 1), (What::Run, 1)]
        {
            assert_eq!(of(what).count(), count, "{what} of {idx}: {:?}", report.timeline);
        }
        let ends =
            [What::LastWrite, What::Load, What::Run].map(|what| of(what).next().map(|entry| entry.end_ns));
        assert!(ends.is_sorted() && ends[2] <= Some(report.duration_ns), "{:?}", report.timeline);
    }
    assert!(report.timeline.iter().all(|entry| entry.side == Role::Receiver));
}

#[test]
fn a_cut_anywhere_resets_the_devices_or_comes_too_late() {
    for seed in seeds(120) {
        let whole = scenario(seed);
        let streams = [vec![whole.migration.main()], whole.migration.multifd()].concat();
        let mut dice = Dice(seed);
        let connection = dice.below(streams.len());
        let len = streams[connection].len() - if connection > 0 { INIT_LEN } else { 0 };
        let scenario = Scenario { cut: Some((connection, 0, dice.below(len + 1))), ..whole };
        check(&scenario, &simulate(&scenario));
    }
}

/// Both used to run when the connection died with the final message on its way.
#[test]
fn nothing_runs_unless_the_last_word_arrives() {
    for seed in seeds(10) {
        let mut whole = scenario(seed);
        whole.migration.return_path = true;
        let told = simulate(&whole).received.len();
        for after in 0..=told {
            let scenario = Scenario { cut: Some((0, 1, after)), ..whole.clone() };
            let played = simulate(&scenario);
            check(&scenario, &played);
            let is_complete = played.finished.outcome == Outcome::Complete;
            assert!(!is_complete || after == told, "seed {seed}, {after} of {told}");
        }
    }
}

#[test]
fn a_device_that_fails_at_any_step_leaves_nothing_running() {
    for seed in seeds(6) {
        for step in ["prepare", "config", "seal", "pre_run", "run"] {
            let scenario = Scenario { sink_fails: Some(step), ..scenario(seed) };
            let played = simulate(&scenario);
            check(&scenario, &played);
            assert!(matches!(played.finished.error, Some(Error::Device { .. })), "{step}");
        }
        let mut scenario = Scenario { write_fails_at: Some(1000), ..scenario(seed) };
        scenario.migration.devices[0] = handmade::Device::new(1, 3, 600);
        let played = simulate(&scenario);
        check(&scenario, &played);
        let text = played.finished.error.unwrap().to_string();
        assert!(text.ends_with("writing its state failed: EIO (I/O error)"), "{text}");
    }
}

/// The last packet that a source hands out comes first on each channel: no slot is kept back for it.
fn turned_around(migration: &Migration) -> Vec<Vec<u8>> {
    let mut streams = migration.multifd();
    for (stream, mut packets) in streams.iter_mut().zip(migration.packets()) {
        packets.reverse();
        stream.truncate(INIT_LEN);
        stream.extend(packets.concat());
    }
    [vec![migration.main()], streams].concat()
}

#[test]
fn a_source_without_order_is_an_error_at_once_and_names_what_is_missing() {
    for seed in seeds(20) {
        let mut scenario = Scenario { spare: 0, ..scenario(seed) };
        scenario.migration =
            Migration { choices: vec![0], ..Migration::new(vec![handmade::Device::new(1, 5, 100)], 1) };
        let played = play_streams(&scenario, turned_around(&scenario.migration));
        check(&scenario, &played);
        let expected = "device 0000:00:01.0/vfio: packet 0 is behind later ones on every multifd channel, \
                        and they wait for it";
        assert_eq!(played.finished.error.unwrap().to_string(), expected, "seed {seed}");
        assert!(u128::from(played.finished.report.duration_ns) < 5_000_000_000, "seed {seed}");
    }
}

/// One device on two channels; the second of them brings nothing but its first packet.
fn half() -> (Migration, Vec<Vec<u8>>) {
    let migration = Migration::new(vec![handmade::Device::new(1, 5, 100)], 2);
    let mut streams = [vec![migration.main()], migration.multifd()].concat();
    streams[2].truncate(INIT_LEN + migration.packets()[1][0].len());
    (migration, streams)
}

#[test]
fn a_source_that_falls_silent_is_given_up() {
    for seed in seeds(10) {
        let (migration, streams) = half();
        let scenario = Scenario { migration, ..scenario(seed) };
        let played = play_streams(&scenario, streams);
        check(&scenario, &played);
        let standstill = matches!(played.finished.error, Some(Error::Peer(PeerError::Standstill { .. })));
        assert!(standstill, "seed {seed}: {:?}", played.finished.error);
    }
}

#[test]
fn devices_that_are_loaded_do_not_run_while_the_main_connection_lacks_its_end() {
    for seed in seeds(10) {
        let scenario = scenario(seed);
        let mut streams = [vec![scenario.migration.main()], scenario.migration.multifd()].concat();
        streams[0].pop();
        let played = play_streams(&scenario, streams);
        check(&scenario, &played);
        assert_eq!(played.finished.outcome, Outcome::Aborted, "seed {seed}");
        assert!(!played.received.ends_with(&[0, 1, 0, 4, 0, 0, 0, 0]), "seed {seed}: {:?}", played.received);
    }
}

#[test]
fn a_channel_that_ended_early_is_named_soon() {
    for seed in seeds(10) {
        let (migration, streams) = half();
        let scenario = Scenario { migration, spare: 8, ends: Some(2), ..scenario(seed) };
        let played = play_streams(&scenario, streams);
        check(&scenario, &played);
        let text = played.finished.error.unwrap().to_string();
        assert_eq!(text, "the peer closed multifd channel 1 in the middle of the state", "seed {seed}");
        let took = u128::from(played.finished.report.duration_ns);
        assert!(took < 2 * QEMU_LEFTOVERS_MAX.as_nanos(), "seed {seed}: {took}");
    }
}

//! Replays of captures to destinations that wait where QEMU waits: complete ones, and ones that go wrong.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::destination::{Destination, Manners, Taken};
use common::migration::grown;
use common::source::Streams;
use common::{Running, loopback};
use ringlift::Cancel;
use ringlift::error::{CaptureProblem, Error, PeerError, Place, QemuError};
use ringlift::qemu::capture::inspect;
use ringlift::qemu::{Capture, Listener, Pace, Replay, ReplayBuilder, Replayed};
use ringlift::report::{Answer, StreamOutcome};
use ringlift::wire::qemu::{PREFIX_LEN, Packet, Reply};

fn replay(folder: &Path, to: SocketAddr) -> ReplayBuilder {
    let capture = inspect(&[folder.to_owned()]);
    assert!(capture.is_ok(), "{:?}", capture.errors);
    Replay::builder(capture, to)
}

fn start(builder: ReplayBuilder) -> Running<Replayed> {
    let replay = builder.build();
    Running::start(move || replay.run())
}

/// Replays streams to a destination.
fn play(streams: &Streams, manners: Manners) -> (Replayed, Taken) {
    let folder = tempfile::tempdir().unwrap();
    streams.write_to(folder.path());
    let destination = Destination::listen(streams.multifd.len());
    let replaying = start(replay(folder.path(), destination.addr()));
    let taking = Running::start(move || destination.take(manners));
    (replaying.finish(), taking.finish())
}

fn assert_taken(taken: &Taken, streams: &Streams) {
    assert!(taken.main == streams.main, "main differs");
    for (id, (came, sent)) in taken.multifd.iter().zip(&streams.multifd).enumerate() {
        assert!(came == sent, "channel {id} differs: {} of {} bytes", came.len(), sent.len());
    }
}

fn error_of(replayed: &Replayed) -> &QemuError {
    match replayed.error.as_ref() {
        Some(Error::Peer(PeerError::Qemu(error))) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_real_qemu_sent_arrives_as_it_was_sent() {
    for name in ["device-on-channels", "device-on-channels-ack", "device-on-main", "one-connection"] {
        let streams = Streams::of(name);
        let awaits_packets = name.starts_with("device-on-channels");
        let (replayed, taken) = play(&streams, Manners { awaits_packets, ..Manners::default() });
        assert!(replayed.error.is_none(), "{name}: {replayed:?}");
        assert_taken(&taken, &streams);
        let report = replayed.report;
        assert_eq!((report.outcome, report.bytes), (StreamOutcome::Complete, streams.len() as u64));
        assert_eq!(report.channels.len(), streams.multifd.len());
    }
}

#[test]
fn barriers_are_found_where_they_end() {
    let folder = tempfile::tempdir().unwrap();
    let streams = grown(2, 5, 3);
    streams.write_to(folder.path());
    let capture = inspect(&[folder.path().to_owned()]);
    let [main, channels @ ..] = &capture.connections[..] else { panic!("no main connection") };
    let flush =
        |end: &u64| streams.main[usize::try_from(*end).unwrap() - 8..][..8] == 0x200_u64.to_be_bytes();
    assert!(main.barriers.len() as u64 == main.syncs && main.barriers.iter().all(flush));
    for (id, channel) in channels.iter().enumerate() {
        let packets = streams.packets(id).into_iter();
        let end = |(begin, packet): (usize, Packet)| match packet {
            Packet::Sync(sync) => Some((begin + PREFIX_LEN) as u64 + u64::from(sync.rest)),
            _ => None,
        };
        assert_eq!(channel.barriers, packets.filter_map(end).collect::<Vec<_>>());
        assert_eq!(channel.barriers.len(), main.barriers.len());
    }
}

#[test]
fn a_destination_that_stops_at_barriers_is_never_brought_to_a_stop() {
    for channels in [2, 4] {
        let streams = grown(channels, 40, 60);
        let (replayed, taken) = play(&streams, Manners::default());
        assert!(replayed.error.is_none(), "{channels}: {replayed:?}");
        assert_taken(&taken, &streams);
        let device = &replayed.report.devices[0];
        assert_eq!((device.packets, device.data_bytes, device.config_bytes), (61, 60 << 18, 4132));
        assert!(device.switchover_ns.is_some() && device.switchover_ns == replayed.report.switchover_ns);
        assert!(replayed.report.shut_ns > replayed.report.switchover_ns);
    }
}

#[test]
fn what_the_destination_answers_is_told_as_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    Streams::of("device-on-channels-ack").write_to(folder.path());
    let destination = Destination::listen(2);
    let (tell, told) = mpsc::channel();
    let builder =
        replay(folder.path(), destination.addr()).on_answer(move |answer| tell.send(answer.reply).unwrap());
    let replaying = start(builder);
    destination.take(Manners::default());
    let replayed = replaying.finish();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [Reply::Pong(1), Reply::SwitchoverAck, Reply::Shut(0)]);
    let answers: Vec<_> =
        replayed.report.answers.iter().map(|answer| (answer.message, answer.value)).collect();
    assert_eq!(answers, [(Answer::Pong, Some(1)), (Answer::SwitchoverAck, None), (Answer::Shut, Some(0))]);
}

#[test]
fn a_replay_that_is_captured_gives_the_same_capture() {
    let streams = grown(3, 10, 20);
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    streams.write_to(folder.path());
    let listener = Listener::bind(loopback()).unwrap();
    let addr = listener.local_addr();
    let capture = Capture::builder().listener(listener).channels(3).folder(copy.path()).build().unwrap();
    let capturing = Running::start(move || capture.run());
    let replayed = start(replay(folder.path(), addr)).finish();
    let captured = capturing.finish();
    assert!(replayed.error.is_none() && captured.error.is_none(), "{replayed:?} {captured:?}");
    for name in ["main.bin", "multifd-0.bin", "multifd-1.bin", "multifd-2.bin"] {
        assert!(
            fs::read(folder.path().join(name)).unwrap() == fs::read(copy.path().join(name)).unwrap(),
            "{name}"
        );
    }
    let (sent, came) = (replayed.report, captured.report);
    assert_eq!(sent.machine, came.machine);
    assert_eq!(sent.uuid, came.uuid);
    assert_eq!(sent.main.bytes, came.main.bytes);
    assert_eq!(sent.main.sync, came.main.flushes);
    for (sent, came) in sent.channels.iter().zip(&came.channels) {
        assert_eq!(
            (sent.id, sent.device_packets, sent.sync),
            (Some(came.id), came.device_packets, came.sync)
        );
    }
    for (sent, came) in sent.devices.iter().zip(&came.devices) {
        assert_eq!((&sent.idstr, sent.packets), (&came.idstr, came.packets));
        assert_eq!((sent.data_bytes, sent.config_bytes), (came.data_bytes, came.config_bytes));
        assert_eq!((sent.precopy_bytes, sent.stopcopy_bytes), (came.precopy_bytes, came.stopcopy_bytes));
    }
    let words = |answers: &[ringlift::report::AnswerReport]| -> Vec<_> {
        answers.iter().map(|answer| (answer.message, answer.value)).collect()
    };
    assert_eq!(words(&sent.answers), words(&came.answers));
    // and what was captured can be played at the pace at which it came
    let destination = Destination::listen(3);
    let replaying = start(replay(copy.path(), destination.addr()).pace(Pace::Recorded));
    let taken = destination.take(Manners::default());
    assert!(replaying.finish().error.is_none());
    assert_taken(&taken, &streams);
}

#[test]
fn a_recorded_pause_is_kept() {
    const PAUSE: Duration = Duration::from_millis(400);
    let streams = Streams::of("device-on-channels-ack");
    let folder = tempfile::tempdir().unwrap();
    streams.write_to(folder.path());
    let times = |name: &str, records: &[(u64, Duration)]| {
        let numbers =
            records.iter().flat_map(|(offset, at)| [*offset, u64::try_from(at.as_nanos()).unwrap()]);
        let bytes: Vec<u8> = numbers.flat_map(u64::to_be_bytes).collect();
        fs::write(folder.path().join(name), bytes).unwrap();
    };
    times("main.times", &[(100, Duration::ZERO), (streams.main.len() as u64, PAUSE)]);
    for (id, bytes) in streams.multifd.iter().enumerate() {
        times(&format!("multifd-{id}.times"), &[(64, Duration::ZERO), (bytes.len() as u64, PAUSE / 2)]);
    }
    let destination = Destination::listen(2);
    let replaying = start(replay(folder.path(), destination.addr()).pace(Pace::Recorded));
    let taken = destination.take(Manners::default());
    let replayed = replaying.finish();
    assert!(replayed.error.is_none(), "{replayed:?}");
    assert_taken(&taken, &streams);
    let at = |bytes: usize| -> Instant { taken.times[bytes - 1].1 };
    assert!(at(101) - at(1) >= PAUSE - Duration::from_millis(20), "{:?}", at(101) - at(1));
    assert!(at(100) - at(1) < PAUSE / 2, "what arrived together leaves together");
    assert_eq!(replayed.report.settings.pace, Pace::Recorded.into());
}

#[test]
fn without_recorded_times_there_is_no_recorded_pace() {
    let folder = tempfile::tempdir().unwrap();
    Streams::of("device-on-channels").write_to(folder.path());
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    let replay = replay(folder.path(), listener.local_addr().unwrap()).pace(Pace::Recorded).build();
    let error = replay.run().error.unwrap();
    assert!(matches!(&error, Error::Capture(error) if error.problem == CaptureProblem::NoTimes), "{error}");
    assert!(error.hint().unwrap().contains("full speed"));
}

#[test]
fn a_broken_capture_opens_no_connection() {
    let folder = tempfile::tempdir().unwrap();
    let mut streams = Streams::of("device-on-channels");
    let (channel, at) = streams.device_packet();
    streams.overwrite(channel, at, b"oh");
    streams.write_to(folder.path());
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let capture = inspect(&[folder.path().to_owned()]);
    let expected = capture.errors[0].to_string();
    let replayed = Replay::builder(capture, listener.local_addr().unwrap()).build().run();
    assert_eq!(replayed.error.unwrap().to_string(), expected);
    assert_eq!((replayed.report.outcome, replayed.report.bytes), (StreamOutcome::Failed, 0));
    assert!(listener.accept().is_err(), "nothing connected");
}

#[test]
fn a_capture_whose_connections_wait_for_each_other_is_refused() {
    let mut streams = grown(1, 1, 1);
    let (_, device) = streams.device_packet();
    let packets = streams.packets(0);
    let end = packets.iter().map(|(offset, _)| *offset).find(|offset| *offset > device).unwrap();
    let packet: Vec<u8> = streams.multifd[0].drain(device..end).collect();
    streams.multifd[0].splice(64..64, packet);
    let folder = tempfile::tempdir().unwrap();
    streams.write_to(folder.path());
    let error = replay(folder.path(), loopback()).build().run().error.unwrap();
    assert!(matches!(&error, Error::Capture(error) if error.problem == CaptureProblem::Circle), "{error}");
}

#[test]
fn a_destination_that_cannot_load_says_so() {
    let streams = Streams::of("device-on-channels-ack");
    let (replayed, taken) = play(&streams, Manners { shut: Some(1), ..Manners::default() });
    assert_taken(&taken, &streams);
    let total = streams.len() as u64;
    assert_eq!(*error_of(&replayed), QemuError::DestinationShut { value: 1, sent: total, total });
    assert!(replayed.error.as_ref().unwrap().hint().unwrap().contains("destination's log"));
    assert_eq!(replayed.report.answers.last().unwrap().value, Some(1));
}

#[test]
fn a_destination_that_gives_up_in_the_middle_is_reported() {
    let streams = grown(2, 40, 60);
    let manners = Manners { leaves: Some((0, 500)), shut: Some(1), ..Manners::default() };
    let (replayed, _) = play(&streams, manners);
    let error = error_of(&replayed);
    assert!(matches!(error, QemuError::DestinationShut { value: 1, sent, total } if sent < total), "{error}");
}

#[test]
fn a_connection_that_the_destination_closes_is_named() {
    let streams = grown(2, 40, 60);
    let sizes = streams.multifd.iter().map(Vec::len).collect::<Vec<_>>();
    for (connection, place, after) in
        [(0, Place::Main, 300), (2, Place::Multifd(1), 100_000), (1, Place::Multifd(0), sizes[0] - 1)]
    {
        let manners = Manners { leaves: Some((connection, after)), shut: None, ..Manners::default() };
        let (replayed, _) = play(&streams, manners);
        match error_of(&replayed) {
            QemuError::DestinationLeft { place: left, .. } => {
                assert!(*left == place || *left == Place::Main, "{left}")
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_final_message_that_comes_too_early_is_an_error() {
    let streams = grown(2, 40, 60);
    let manners = Manners { leaves: Some((0, 500)), shut: Some(0), ..Manners::default() };
    let (replayed, _) = play(&streams, manners);
    let error = error_of(&replayed);
    assert!(matches!(error, QemuError::DestinationShut { value: 0, .. }), "{error}");
}

#[test]
fn a_destination_that_is_not_there_is_asked_for() {
    let addr = std::net::TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    Streams::of("device-on-channels").write_to(folder.path());
    let replayed = replay(folder.path(), addr).build().run();
    let error = replayed.error.unwrap();
    assert!(
        error.to_string().contains("ECONNREFUSED") && error.hint().unwrap().contains("-incoming"),
        "{error}"
    );
}

#[test]
fn a_replay_that_nobody_reads_ends_with_a_cancel() {
    let folder = tempfile::tempdir().unwrap();
    grown(2, 40, 60).write_to(folder.path());
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    let cancel = Cancel::new();
    let replaying = start(replay(folder.path(), listener.local_addr().unwrap()).cancel(&cancel));
    let _streams: Vec<_> = (0..3).map(|_| listener.accept().unwrap().0).collect();
    cancel.cancel();
    let replayed = replaying.finish();
    assert!(matches!(replayed.error, Some(Error::Cancelled)), "{replayed:?}");
    assert_eq!(replayed.report.outcome, StreamOutcome::Cancelled);
}

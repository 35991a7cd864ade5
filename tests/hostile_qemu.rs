//! What a real QEMU sent, damaged anywhere, over real connections: the receiving side ends immediately, reports what is
//! wrong, and never reports an incomplete migration as complete.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "checks that nothing takes long")]

mod common;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use common::damage::{Damage, damage};
use common::device::{Journal, TestSink};
use common::source::{Source, Streams};
use common::{Running, loopback};
use proptest::prelude::*;
use ringlift::error::{CaptureError, CaptureProblem, DeviceProblem, Error};
use ringlift::limits::QEMU_ANSWERS_MAX;
use ringlift::qemu::capture::{self, Inspection, Piece};
use ringlift::qemu::{Capture, Captured, Listener, Receiver, Replay, Replayed};
use ringlift::wire::qemu::{INIT_LEN, REPLY_LEN_MAX, Reply};
use ringlift::{Finished, Outcome};

const DEVICE: &str = "0000:00:01.0/vfio";
/// Nothing may wait once the source has closed: a run that takes longer than this has waited.
const AT_ONCE: Duration = Duration::from_secs(4);

fn damaged(name: &str, all: &[Damage]) -> Streams {
    let mut streams = Streams::of(name);
    for damage in all {
        match damage.stream(streams.multifd.len() + 1) {
            // the bytes that identify a connection are not damaged here: other tests cover strangers
            0 => damage.happen(&mut streams.main, 4),
            channel => damage.happen(&mut streams.multifd[channel - 1], INIT_LEN),
        }
    }
    streams
}

/// What `inspect` reports about the same bytes.
fn inspected(streams: &Streams) -> Inspection {
    let folder = tempfile::tempdir().unwrap();
    streams.write_to(folder.path());
    capture::inspect(&[folder.path().to_owned()])
}

/// Sends everything, and reads until the end. It closes first, unless it is a source that waits for a final message.
fn play(addr: SocketAddr, streams: &Streams, found: &Inspection) {
    let mut source = Source::connect(addr, streams);
    source.send(streams);
    if !found.is_ok() || found.stream.return_path_at.is_none() {
        source.close_all();
    }
    source.read_replies();
}

/// Receives its device live.
fn received(streams: &Streams, found: &Inspection) -> (Finished, Journal) {
    let listener = Listener::bind(loopback()).unwrap();
    let (addr, channels) = (listener.local_addr(), streams.multifd.len());
    let (sink, journal) = TestSink::new();
    let running = Running::start(move || {
        let receiver = Receiver::builder().device(DEVICE, sink).listener(&listener).channels(channels);
        receiver.pool_size(8 << 20).build().unwrap().run()
    });
    play(addr, streams, found);
    (running.finish(), journal)
}

/// The device's state in a capture, in order, and its config state.
fn state(streams: &Streams, found: &Inspection) -> (Vec<u8>, Option<Vec<u8>>) {
    let of = |piece: Piece| {
        let connection = &found.connections[usize::from(piece.connection)];
        let bytes = connection.id.map_or(&streams.main, |id| &streams.multifd[usize::from(id)]);
        bytes[usize::try_from(piece.offset).unwrap()..][..piece.len as usize].to_vec()
    };
    let device = found.device(DEVICE, 0).unwrap();
    assert!(device.packets.iter().zip(0..).all(|(packet, idx)| packet.idx == idx), "no packet is missing");
    (device.state().flat_map(of).collect(), device.config().map(of))
}

/// Captures the migration.
fn captured(streams: &Streams, found: &Inspection) -> Captured {
    let listener = Listener::bind(loopback()).unwrap();
    let addr = listener.local_addr();
    let capture = Capture::builder().listener(listener).channels(streams.multifd.len()).pool_size(8 << 20);
    let capture = capture.build().unwrap();
    let running = Running::start(move || capture.run());
    play(addr, streams, found);
    running.finish()
}

/// Replays it to a destination that accepts everything and sends `says` on the main connection.
fn replayed(streams: &Streams, says: &[u8]) -> Replayed {
    let folder = tempfile::tempdir().unwrap();
    streams.write_to(folder.path());
    let listener = TcpListener::bind(loopback()).unwrap();
    let capture = capture::inspect(&[folder.path().to_owned()]);
    let replay = Replay::builder(capture, listener.local_addr().unwrap()).build();
    let running = Running::start(move || replay.run());
    thread::scope(|scope| {
        for _ in 0..=streams.multifd.len() {
            let (mut stream, _) = listener.accept().unwrap();
            scope.spawn(move || {
                let mut first = [0];
                if stream.peek(&mut first).is_ok() && first == *b"Q" {
                    let mut mouth = stream.try_clone().unwrap();
                    scope.spawn(move || mouth.write_all(says));
                    // everything, and then it closes
                    let _ = stream.read_exact(&mut vec![0; streams.main.len()]);
                    let _ = stream.shutdown(Shutdown::Both);
                } else {
                    let _ = io::copy(&mut stream, &mut io::sink());
                }
            });
        }
    });
    running.finish()
}

fn said(replies: &[Reply]) -> Vec<u8> {
    let mut bytes = [0; REPLY_LEN_MAX];
    replies
        .iter()
        .flat_map(|reply| {
            let len = reply.encode(&mut bytes);
            bytes[..len].to_vec()
        })
        .collect()
}

#[test]
fn answers_without_end_are_heard_and_not_kept() {
    let streams = Streams::of("device-on-channels-ack");
    let pongs = said(&[Reply::Pong(7)]).repeat(200_000);
    let replayed = replayed(&streams, &[said(&[Reply::SwitchoverAck]), pongs].concat());
    // only the final message was missing
    assert_is_told(replayed.error.as_ref().unwrap());
    assert_eq!(replayed.report.bytes, streams.len() as u64);
    assert_eq!(replayed.report.answers.len(), QEMU_ANSWERS_MAX);
}

fn assert_is_told(error: &Error) {
    let words = error.to_string();
    assert!(!words.contains(char::is_control) && words.len() < 1000, "{words:?}");
    assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{words}");
}

fn is_about_config_state(error: &CaptureError) -> bool {
    matches!(&error.problem, CaptureProblem::Device { problem: DeviceProblem::Config { .. }, .. })
}

fn is_about_full_sections(error: &CaptureError) -> bool {
    matches!(error.problem, CaptureProblem::Tail { .. } | CaptureProblem::Description { .. })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_capture_ends_whatever_came_and_is_complete_when_all_is_there(
        all in prop::collection::vec(damage(), 1..3),
        answers: bool,
    ) {
        let streams = damaged(if answers { "device-on-channels-ack" } else { "device-on-channels" }, &all);
        let began = Instant::now();
        let found = inspected(&streams);
        let captured = captured(&streams, &found);
        prop_assert!(began.elapsed() < AT_ONCE, "{:?}", captured.error);
        match &captured.error {
            Some(error) => {
                assert_is_told(error);
                prop_assert!(!found.is_ok(), "{error}");
            }
            // full sections are not parsed while they arrive
            None => prop_assert!(found.errors.iter().all(is_about_full_sections), "{:?}", found.errors),
        }
    }

    #[test]
    fn a_device_gets_all_of_its_state_in_order_or_is_reset(
        all in prop::collection::vec(damage(), 0..3),
        name in prop::sample::select(&["device-on-channels", "device-on-channels-ack", "device-on-main"][..]),
    ) {
        let streams = damaged(name, &all);
        let began = Instant::now();
        let found = inspected(&streams);
        let (finished, journal) = received(&streams, &found);
        prop_assert!(began.elapsed() < AT_ONCE, "{:?}", finished.error);
        match &finished.error {
            Some(error) => {
                assert_is_told(error);
                prop_assert!(!found.is_ok(), "{error}");
                prop_assert_eq!(finished.outcome, Outcome::Aborted);
                let touched = journal.did("prepare");
                prop_assert!(!journal.did("run") && journal.did("rollback") == touched, "{error}");
            }
            None => {
                // the fault then is in the memory of the machine, or behind the last of the device's state
                prop_assert_eq!(finished.outcome, Outcome::Complete);
                let (bytes, blob) = state(&streams, &found);
                prop_assert_eq!(journal.bytes(), bytes);
                // the inspection looks into the config state, which a live receiver leaves to the device
                if !found.errors.iter().any(is_about_config_state) {
                    prop_assert_eq!(journal.blob(), blob);
                }
                prop_assert!(journal.did("run"));
            }
        }
    }

    #[test]
    fn a_replay_ends_whatever_the_destination_says(
        says in prop::collection::vec(any::<u8>(), 0..40),
        damaged in prop::option::of(damage()),
    ) {
        let mut words = said(&[Reply::Pong(1), Reply::SwitchoverAck, Reply::Shut(0)]);
        damaged.iter().for_each(|damage| damage.happen(&mut words, 0));
        let streams = Streams::of("device-on-channels-ack");
        let began = Instant::now();
        let replayed = replayed(&streams, &[said(&[Reply::SwitchoverAck]), says, words].concat());
        prop_assert!(began.elapsed() < AT_ONCE, "{:?}", replayed.error);
        replayed.error.iter().for_each(assert_is_told);
    }
}

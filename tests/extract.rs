//! Captured device state, loaded into sinks: in order and complete, or not at all.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "lets a write begin before cancelling it")]

mod common;

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use common::captures::{Capture, DEVICE};
use common::device::{Journal, TestSink, Trouble};
use common::{Running, content};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use ringlift::error::{CaptureProblem, DeviceError, Error};
use ringlift::qemu::capture::{self, Inspection};
use ringlift::sink::{FdSink, FileSink, Sink};
use ringlift::{Cancel, Finished, Outcome, Phase, qemu};

const STEPS: [&str; 7] = ["prepare", "drain", "drain", "config", "seal", "pre_run", "run"];

fn extract(inspection: &Inspection, sink: Box<dyn Sink>) -> Finished {
    let device = inspection.device(DEVICE, 0).expect("the capture has it");
    qemu::Extract::new(inspection, device, sink).run()
}

/// A capture on disk for as long as the folder is kept.
fn inspected(capture: &Capture) -> (tempfile::TempDir, Inspection) {
    let folder = capture.written();
    let inspection = capture::inspect(&[folder.path().to_owned()]);
    (folder, inspection)
}

#[test]
fn state_and_config_state_come_in_order_from_wherever_they_are() {
    let mut found = Vec::new();
    for name in ["device-on-channels-ack", "device-on-channels", "device-on-main", "one-connection"] {
        let inspection = capture::inspect(&[common::captures::fixture(name)]);
        let (sink, journal) = TestSink::new();

        let finished = extract(&inspection, Box::new(sink));

        assert_eq!(finished.outcome, Outcome::Complete, "{name}: {:?}", finished.error);
        assert_eq!(journal.steps(), STEPS, "{name}");
        let report = &finished.report.devices[0];
        assert_eq!(
            (report.bytes, report.precopy_bytes, report.config_bytes, report.packets),
            (4228, 24, 4132, 3)
        );
        found.push((journal.bytes(), journal.blob()));
    }
    // the same device in the same state, whichever way its state travelled; it contains what the guest did to it
    let (bytes, blob) = &found[0];
    assert_eq!(bytes.len(), 96);
    assert!(bytes.windows(5).any(|window| window == b"VFIO!"));
    assert_eq!(blob.as_ref().unwrap().len(), 4132);
    assert!(found.iter().all(|other| other.0 == *bytes));
}

#[test]
fn packets_are_written_by_idx_in_pieces_that_the_sink_takes() {
    let state = content(700_000);
    let pieces: Vec<&[u8]> = state.chunks(9001).collect();
    let (_folder, inspection) = inspected(&Capture::of_state(&pieces));
    let (mut sink, journal) = TestSink::new();
    sink.piece = 1000;

    let finished = extract(&inspection, Box::new(sink));

    assert_eq!(finished.outcome, Outcome::Complete, "{:?}", finished.error);
    assert_eq!(journal.bytes()[24..], state);
}

#[test]
fn a_file_takes_its_name_when_everything_is_in_it() {
    let state = content(3 << 20);
    let pieces: Vec<&[u8]> = state.chunks(1 << 20).collect();
    let (folder, inspection) = inspected(&Capture::of_state(&pieces));
    let path = folder.path().join("state");

    let finished = extract(&inspection, Box::new(FileSink::create(&path).unwrap()));

    assert_eq!(finished.outcome, Outcome::Complete, "{:?}", finished.error);
    assert_eq!(fs::read(&path).unwrap()[24..], state);
}

#[test]
fn a_sink_that_fails_in_any_step_is_rolled_back() {
    for step in ["prepare", "drain", "config", "seal", "pre_run", "run"] {
        for trouble in [Trouble::Fail, Trouble::Panic] {
            let inspection = capture::inspect(&[common::captures::fixture("device-on-channels")]);
            let (sink, journal) = TestSink::new();
            journal.expect(step, trouble);

            let finished = extract(&inspection, Box::new(sink));

            assert_eq!(finished.outcome, Outcome::Aborted, "{step}");
            assert!(matches!(finished.error, Some(Error::Device { .. })), "{step}: {:?}", finished.error);
            assert_eq!(journal.steps().last(), Some(&"rollback"), "{step}");
        }
    }
}

#[test]
fn a_sink_that_is_full_says_where() {
    let inspection = capture::inspect(&[common::captures::fixture("device-on-channels")]);
    let (mut sink, _) = TestSink::new();
    sink.room = 30;

    let finished = extract(&inspection, Box::new(sink));

    let Some(Error::Device { error, .. }) = finished.error else { unreachable!("{:?}", finished.error) };
    assert_eq!(error, DeviceError::Full { offset: 30 });
}

#[test]
fn a_capture_that_is_not_whole_touches_no_sink() {
    let (_folder, inspection) =
        inspected(&Capture::of("device-on-channels").with("main.bin", |bytes| bytes.push(0)));
    let (sink, journal) = TestSink::new();

    let finished = extract(&inspection, Box::new(sink));

    let error = finished.error.unwrap();
    assert!(
        matches!(&error, Error::Capture(error) if error.problem == CaptureProblem::Trailing { bytes: 1 }),
        "{error}"
    );
    assert_eq!(journal.steps(), Vec::<&str>::new());
}

#[test]
fn a_file_that_is_gone_by_then_is_told_and_the_sink_rolled_back() {
    let (folder, inspection) = inspected(&Capture::of("device-on-channels"));
    fs::remove_file(folder.path().join("multifd-1.bin")).unwrap();
    let (sink, journal) = TestSink::new();

    let finished = extract(&inspection, Box::new(sink));

    let text = finished.error.unwrap().to_string();
    assert_eq!(text, "multifd-1.bin, byte 7072: open failed: ENOENT (No such file or directory)");
    assert_eq!(journal.steps().last(), Some(&"rollback"));
}

// ── cancelling ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// A pipe that is full.
fn full_pipe() -> (std::io::PipeReader, OwnedFd) {
    let (rx, mut tx) = std::io::pipe().unwrap();
    fcntl(tx.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    loop {
        match tx.write(&[0; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => unreachable!("{error}"),
        }
    }
    (rx, tx.into())
}

#[test]
fn cancelling_ends_a_write_that_nobody_takes() {
    let inspection = capture::inspect(&[common::captures::fixture("device-on-main")]);
    let (_rx, tx) = full_pipe();
    let cancel = Cancel::new();
    let stop = cancel.clone();

    let running = Running::start(move || {
        let device = inspection.device(DEVICE, 0).unwrap();
        qemu::Extract::new(&inspection, device, Box::new(FdSink::new(tx))).cancel(&cancel).run()
    });
    // long enough for the write to begin; if it has not, cancelling works anyway
    std::thread::sleep(Duration::from_millis(100));
    stop.cancel();

    let finished = running.finish();
    assert!(matches!(finished.error, Some(Error::Cancelled)), "{:?}", finished.error);
    assert_eq!(finished.outcome, Outcome::Aborted);
}

#[test]
fn cancelling_is_too_late_when_the_device_has_everything() {
    let inspection = capture::inspect(&[common::captures::fixture("device-on-main")]);
    let (sink, journal) = TestSink::new();
    journal.expect("run", Trouble::Wait);
    let cancel = Cancel::new();
    let (stop, watched): (Cancel, Journal) = (cancel.clone(), journal.clone());

    let running = Running::start(move || {
        let device = inspection.device(DEVICE, 0).unwrap();
        qemu::Extract::new(&inspection, device, Box::new(sink)).cancel(&cancel).run()
    });
    watched.await_step("run");
    stop.cancel();
    watched.let_go("run");

    assert_eq!(running.finish().outcome, Outcome::Complete);
    assert!(!journal.did("rollback"));
}

#[test]
fn phases_are_told() {
    let inspection = capture::inspect(&[common::captures::fixture("device-on-main")]);
    let device = inspection.device(DEVICE, 0).unwrap();
    let (tell, told) = std::sync::mpsc::channel();

    let (sink, _) = TestSink::new();
    qemu::Extract::new(&inspection, device, Box::new(sink))
        .on_event(move |event| {
            if let ringlift::Event::Phase(phase) = event {
                tell.send(*phase).unwrap();
            }
        })
        .run();

    assert_eq!(told.iter().collect::<Vec<_>>(), [Phase::Loading, Phase::Commit, Phase::Done]);
}

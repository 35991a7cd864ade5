//! How each side ends when a transfer is cancelled, late, or goes wrong in the middle.

mod common;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use common::device::{TestSink, TestSource, Trouble, failure};
use common::outcome::{assert_aborted, assert_complete};
use common::{content, listen, pair, receive, run, send, socket_pairs};
use ringlift::error::{DeviceError, Error, Misuse, PeerError, Refusal, Side};
use ringlift::report::WarningCode;
use ringlift::sink::{Discard, FdSink, FileSink, Verify};
use ringlift::source::{FdSource, Null, Synthetic};
use ringlift::wire::Control;
use ringlift::{Cancel, Event, Outcome, Phase, Receiver, Sender};

/// Cancels a transfer on the sender while `step` of one of the devices is under way, and checks how it ends.
fn cancelled_by_the_sender(step: &'static str, at_the_source: bool) {
    let (mut source, from) = TestSource::new(content(300_000));
    source.early = 100_000;
    let (sink, to) = TestSink::new();
    let held = if at_the_source { from.clone() } else { to.clone() };
    held.expect(step, Trouble::Wait);
    let (listener, cancel) = (listen(), Cancel::new());
    let (sender, receiver) = pair(&listener, source, sink);
    let receiving = receive(receiver);
    let sending = send(sender.cancel(&cancel));
    held.await_step(step);
    cancel.cancel();
    held.let_go(step);
    let (sent, received) = (sending.finish(), receiving.finish());
    assert!(matches!(assert_aborted(&sent), Error::Cancelled), "{step}: {:?}", sent.error);
    let error = assert_aborted(&received);
    assert!(matches!(error, Error::Peer(PeerError::Cancelled)), "{step}: {error}");
    assert_eq!(from.steps().last(), Some(&"rollback"), "{step}: {:?}", from.steps());
    assert_eq!(to.steps().last(), Some(&"rollback"), "{step}: {:?}", to.steps());
    assert!(!to.did("run") && !to.did("pre_run") && !from.did("release"));
}

#[test]
fn a_sender_that_is_cancelled_rolls_both_sides_back_at_any_moment() {
    for step in ["start", "quiesce", "stop", "config"] {
        cancelled_by_the_sender(step, true);
    }
    for step in ["prepare", "config", "seal"] {
        cancelled_by_the_sender(step, false);
    }
}

/// Cancels a transfer on the receiver while `step` of one of the devices is under way, and checks how it ends.
fn cancelled_by_the_receiver(step: &'static str, at_the_source: bool) {
    let (source, from) = TestSource::new(content(300_000));
    let (sink, to) = TestSink::new();
    let held = if at_the_source { from.clone() } else { to.clone() };
    held.expect(step, Trouble::Wait);
    let (listener, cancel) = (listen(), Cancel::new());
    let (sender, receiver) = pair(&listener, source, sink);
    let receiving = receive(receiver.cancel(&cancel));
    let sending = send(sender);
    held.await_step(step);
    cancel.cancel();
    held.let_go(step);
    let (sent, received) = (sending.finish(), receiving.finish());
    assert!(matches!(assert_aborted(&received), Error::Cancelled), "{step}: {:?}", received.error);
    let error = assert_aborted(&sent);
    assert!(matches!(error, Error::Peer(PeerError::Cancelled)), "{step}: {error}");
    assert_eq!(to.steps().last(), Some(&"rollback"), "{step}: {:?}", to.steps());
    assert_eq!(from.steps().last(), Some(&"rollback"), "{step}: {:?}", from.steps());
    assert!(!to.did("run") && !to.did("pre_run") && !from.did("release"));
}

#[test]
fn a_receiver_that_is_cancelled_rolls_both_sides_back_at_any_moment() {
    for step in ["start", "quiesce", "stop", "config"] {
        cancelled_by_the_receiver(step, true);
    }
    for step in ["prepare", "config", "seal"] {
        cancelled_by_the_receiver(step, false);
    }
}

#[test]
fn a_receiver_that_is_cancelled_after_commit_goes_through() {
    let (sink, to) = TestSink::new();
    to.expect("pre_run", Trouble::Wait);
    let (listener, cancel) = (listen(), Cancel::new());
    let (sender, receiver) = pair(&listener, Synthetic::new(1000), sink);
    let receiving = receive(receiver.cancel(&cancel));
    let sending = send(sender.cancel(&cancel));
    to.await_step("pre_run");
    cancel.cancel();
    to.let_go("pre_run");
    assert_complete(&sending.finish(), &receiving.finish());
}

#[test]
fn both_sides_are_cancelled_at_once_and_both_roll_back() {
    let (source, from) = TestSource::new(content(300_000));
    let (sink, to) = TestSink::new();
    to.expect("seal", Trouble::Wait);
    let (listener, cancel) = (listen(), Cancel::new());
    let (sender, receiver) = pair(&listener, source, sink);
    let receiving = receive(receiver.cancel(&cancel));
    let sending = send(sender.cancel(&cancel));
    to.await_step("seal");
    cancel.cancel();
    to.let_go("seal");
    for finished in [sending.finish(), receiving.finish()] {
        let error = assert_aborted(&finished);
        assert!(matches!(error, Error::Cancelled | Error::Peer(PeerError::Cancelled)), "{error}");
    }
    assert_eq!((from.steps().last(), to.steps().last()), (Some(&"rollback"), Some(&"rollback")));
}

#[test]
fn a_receiver_that_waits_for_a_peer_can_be_cancelled() {
    let (sink, to) = TestSink::new();
    let (listener, cancel) = (listen(), Cancel::new());
    let (_, receiver) = pair(&listener, Null::new(1), sink);
    let receiving = receive(receiver.cancel(&cancel));
    cancel.cancel();
    let received = receiving.finish();
    assert!(matches!(assert_aborted(&received), Error::Cancelled));
    assert_eq!(to.steps(), [""; 0], "an untouched device is left alone");
}

#[test]
fn what_was_cancelled_before_it_began_does_not_begin() {
    let (source, from) = TestSource::new(content(10));
    let (listener, cancel) = (listen(), Cancel::new());
    cancel.cancel();
    let sender = Sender::builder().device("net0", source).connect(listener.local_addr()).cancel(&cancel);
    let sent = send(sender).finish();
    assert!(matches!(assert_aborted(&sent), Error::Cancelled));
    assert!(!from.did("start"));
}

#[test]
fn a_source_that_waits_for_ever_can_be_cancelled() {
    let (from, _writer) = std::io::pipe().expect("a pipe");
    let (sink, to) = TestSink::new();
    let (listener, cancel) = (listen(), Cancel::new());
    let (sender, receiver) = pair(&listener, FdSource::new(from.into()), sink);
    let receiving = receive(receiver);
    let reading = cancel.clone();
    let sending = send(sender.cancel(&cancel).on_event(move |event| {
        if matches!(event, Event::Phase(Phase::StopCopy)) {
            reading.cancel();
        }
    }));
    assert!(matches!(assert_aborted(&sending.finish()), Error::Cancelled));
    assert!(matches!(assert_aborted(&receiving.finish()), Error::Peer(PeerError::Cancelled)));
    assert_eq!(to.steps().last(), Some(&"rollback"));
}

#[test]
fn a_sink_that_takes_nothing_more_can_be_cancelled_and_keeps_what_it_took() {
    let (reader, to) = std::io::pipe().expect("a pipe");
    let (listener, cancel) = (listen(), Cancel::new());
    let (sender, receiver) = pair(&listener, Synthetic::new(4_000_000), FdSink::new(to.into()));
    let receiving = receive(receiver.cancel(&cancel));
    let sending = send(sender);
    // a pipe that has bytes has taken some, and 4 MB are more than it takes
    let mut first = [0; 1];
    (&reader).read_exact(&mut first).expect("a byte");
    cancel.cancel();
    let received = receiving.finish();
    assert!(matches!(assert_aborted(&received), Error::Cancelled));
    assert!(matches!(assert_aborted(&sending.finish()), Error::Peer(PeerError::Cancelled)));
    drop(reader);
    // whether a partial write counts is up to the kernel; that no rollback is claimed is up to us
    assert_eq!(received.report.outcome, ringlift::report::TransferOutcome::Aborted);
}

#[test]
fn what_takes_longer_than_its_deadline_is_rolled_back() {
    let (source, from) = TestSource::new(content(300_000));
    let (sink, to) = TestSink::new();
    to.expect("seal", Trouble::Wait);
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, sink);
    let receiving = receive(receiver);
    let sent = send(sender.deadline(Duration::from_millis(200))).finish();
    let error = assert_aborted(&sent);
    assert_eq!(error.to_string(), "the deadline passed before every device was loaded");
    to.let_go("seal");
    let received = receiving.finish();
    let error = assert_aborted(&received);
    assert!(
        matches!(error, Error::Peer(PeerError::Aborted { text, .. }) if text.contains("deadline")),
        "{error}"
    );
    assert_eq!(from.steps().last(), Some(&"rollback"));
    assert_eq!(to.steps().last(), Some(&"rollback"));
}

#[test]
fn a_receiver_whose_sender_takes_too_long_resets_its_devices() {
    let (sink, journal) = TestSink::new();
    let listener = listen();
    let receiver = Receiver::builder().device("net0", sink).listener(&listener);
    let receiving = receive(receiver.deadline(Duration::from_millis(1500)));
    // the deadline counts from when the sender has come
    let mut peer = common::peer::greet_and_agree(listener.local_addr(), 1, &["net0"]);
    while common::peer::read_message(&mut peer.control).is_ok_and(|message| message == Control::Heartbeat) {}
    let received = receiving.finish();
    assert!(matches!(received.error, Some(Error::Deadline)), "{:?}", received.error);
    assert_eq!(received.outcome, Outcome::Aborted);
    assert_eq!(journal.steps().last(), Some(&"rollback"));
}

#[test]
fn a_deadline_that_passes_while_connecting_is_a_deadline() {
    let (source, from) = TestSource::new(content(10));
    // it listens and never answers
    let door = TcpListener::bind(common::loopback()).expect("a free port");
    let addr = door.local_addr().expect("bound");
    let sender = Sender::builder().device("net0", source).connect(addr).deadline(Duration::from_millis(50));
    let sent = send(sender).finish();
    assert!(matches!(assert_aborted(&sent), Error::Deadline), "{:?}", sent.error);
    assert!(!from.did("start"));
}

#[test]
fn a_transfer_that_is_done_in_time_does_not_care_for_its_deadline() {
    let listener = listen();
    let (sender, receiver) = pair(&listener, Synthetic::new(1000), Verify::new());
    let (sent, received) = run(sender.deadline(Duration::from_secs(30)), receiver);
    assert_complete(&sent, &received);
}

/// Checks what each side reports when a step of the source fails or panics.
fn trouble_at_the_source(step: &'static str, trouble: Trouble) {
    for is_instant in [false, true] {
        trouble_at_this_source(step, trouble, is_instant);
    }
}

fn trouble_at_this_source(step: &'static str, trouble: Trouble, is_instant: bool) {
    let (mut source, from) = TestSource::new(content(300_000));
    source.is_instant = is_instant;
    source.trouble_at = 100_000;
    from.expect(step, trouble);
    let (sink, to) = TestSink::new();
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, sink);
    let (sent, received) = run(sender.packet_size(64 << 10), receiver);
    let expected = if trouble == Trouble::Fail { failure() } else { DeviceError::Panicked };
    let error = assert_aborted(&sent);
    assert_eq!(error.to_string(), format!("device net0: {expected}"), "{step}");
    assert!(error.hint().is_some());
    let error = assert_aborted(&received);
    assert!(
        matches!(error, Error::Peer(PeerError::Aborted { text, .. }) if text.contains("net0")),
        "{step}: {error}"
    );
    assert_eq!(from.steps().last(), Some(&"rollback"), "{step}: {:?}", from.steps());
    assert_eq!(to.steps().last(), Some(&"rollback"), "{step}: {:?}", to.steps());
    assert!(!to.did("run"));
    // and the same listener serves the next transfer
    let (sender, receiver) = pair(&listener, Synthetic::new(1000), Verify::new());
    let (sent, received) = run(sender, receiver);
    assert_complete(&sent, &received);
}

#[test]
fn a_source_that_fails_in_any_step_rolls_both_sides_back() {
    for step in ["start", "quiesce", "stop", "fill", "config"] {
        trouble_at_the_source(step, Trouble::Fail);
    }
}

#[test]
fn a_source_whose_steps_panic_is_an_error_and_no_crash() {
    for step in ["start", "quiesce", "stop", "config"] {
        trouble_at_the_source(step, Trouble::Panic);
    }
}

#[test]
fn a_source_that_panics_while_it_is_read_is_an_error_and_no_crash() {
    trouble_at_the_source("fill", Trouble::Panic);
}

/// Checks what each side reports when a step of the sink fails or panics.
fn trouble_at_the_sink(step: &'static str, trouble: Trouble) {
    for is_instant in [false, true] {
        trouble_at_this_sink(step, trouble, is_instant);
    }
}

fn trouble_at_this_sink(step: &'static str, trouble: Trouble, is_instant: bool) {
    let (source, from) = TestSource::new(content(300_000));
    let (mut sink, to) = TestSink::new();
    sink.is_instant = is_instant;
    to.expect(step, trouble);
    let (neighbour, beside) = TestSink::new();
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, sink);
    let sender = sender.device("net1", Synthetic::new(10));
    let (sent, received) = run(sender.packet_size(64 << 10), receiver.device("net1", neighbour));
    let expected = if trouble == Trouble::Fail { failure() } else { DeviceError::Panicked };
    let error = assert_aborted(&received);
    assert_eq!(error.to_string(), format!("device net0: {expected}"), "{step}");
    let error = assert_aborted(&sent);
    match error {
        Error::Refused { by: Side::Receiver, reason: Refusal::NotReady { text } } if step == "prepare" => {
            assert!(text.contains("net0"), "{text}");
        }
        Error::Peer(PeerError::Aborted { text, .. }) => assert!(text.contains("net0"), "{text}"),
        other => unreachable!("{step}: {other}"),
    }
    for journal in [&to, &beside, &from] {
        assert_eq!(journal.steps().last(), Some(&"rollback"), "{step}: {:?}", journal.steps());
    }
    assert!(!from.did("release"));
}

#[test]
fn a_sink_that_fails_in_any_step_rolls_both_sides_back_even_after_commit() {
    for step in ["prepare", "drain", "config", "seal", "pre_run", "run"] {
        trouble_at_the_sink(step, Trouble::Fail);
    }
}

#[test]
fn a_sink_whose_steps_panic_is_an_error_and_no_crash() {
    for step in ["prepare", "config", "seal", "pre_run", "run"] {
        trouble_at_the_sink(step, Trouble::Panic);
    }
}

#[test]
fn a_sink_that_panics_while_it_is_written_is_an_error_and_no_crash() {
    trouble_at_the_sink("drain", Trouble::Panic);
}

#[test]
fn a_sink_that_cannot_be_reset_after_commit_leaves_the_sender_in_doubt() {
    let (source, from) = TestSource::new(content(1000));
    let (sink, to) = TestSink::new();
    to.expect("run", Trouble::Fail);
    to.expect("rollback", Trouble::Fail);
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, sink);
    let (sent, received) = run(sender, receiver);
    assert_eq!(sent.outcome, Outcome::InDoubt);
    assert!(matches!(sent.error, Some(Error::InDoubt { .. })));
    assert_eq!(from.steps().last(), Some(&"park"));
    assert!(received.report.warnings.iter().any(|one| one.code == WarningCode::RollbackFailed));
}

#[test]
fn a_source_that_cannot_be_read_is_named_with_its_errno() {
    let (sink, to) = TestSink::new();
    let folder = File::open("/").expect("a folder");
    let listener = listen();
    let (sender, receiver) = pair(&listener, FdSource::new(folder.into()), sink);
    let (sent, received) = run(sender, receiver);
    let error = assert_aborted(&sent);
    assert_eq!(error.to_string(), "device net0: reading its state failed: EISDIR (Is a directory)");
    assert_aborted(&received);
    assert_eq!(to.steps().last(), Some(&"rollback"));
}

#[test]
fn a_full_disk_is_named_with_its_errno() {
    let full = File::options().write(true).open("/dev/full").expect("every Linux has it");
    let listener = listen();
    let (sender, receiver) = pair(&listener, Synthetic::new(3_000_000), FdSink::new(full.into()));
    let (sent, received) = run(sender, receiver);
    let error = assert_aborted(&received);
    assert_eq!(error.to_string(), "device net0: writing its state failed: ENOSPC (No space left on device)");
    assert_aborted(&sent);
}

#[test]
fn a_sink_that_is_open_for_reading_alone_is_refused_before_anything_moves() {
    let (source, from) = TestSource::new(content(1000));
    let sink = FdSink::new(File::open("/dev/null").expect("every Linux has it").into());
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, sink);
    let (sent, received) = run(sender, receiver);
    let error = assert_aborted(&received);
    assert_eq!(error.to_string(), "device net0: write to descriptor failed: EBADF (Bad file number)");
    let error = assert_aborted(&sent);
    assert!(matches!(error, Error::Refused { reason: Refusal::NotReady { .. }, .. }), "{error}");
    assert!(!from.did("start") && !from.did("stop"), "the source was never stopped");
}

#[test]
fn a_sink_that_is_full_is_an_error_that_says_where() {
    let (mut sink, to) = TestSink::new();
    sink.room = 100_000;
    let listener = listen();
    let (sender, receiver) = pair(&listener, Synthetic::new(300_000), sink);
    let (sent, received) = run(sender.packet_size(64 << 10), receiver);
    let error = assert_aborted(&received);
    assert_eq!(error.to_string(), "device net0: the device took no more bytes at byte 100000 of its state");
    assert_aborted(&sent);
    assert_eq!(to.steps().last(), Some(&"rollback"));
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn an_aborted_transfer_leaves_no_file_and_an_old_one_unharmed() {
    for old in [None, Some(b"old state".as_slice())] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        if let Some(old) = old {
            std::fs::write(&path, old).expect("written");
        }
        let (source, from) = TestSource::new(content(300_000));
        from.expect("config", Trouble::Fail);
        let listener = listen();
        let (sender, receiver) = pair(&listener, source, FileSink::create(&path).expect("writable"));
        let (sent, received) = run(sender, receiver);
        assert_aborted(&sent);
        assert_aborted(&received);
        match old {
            None => assert_eq!(names_in(folder.path()), [""; 0]),
            Some(old) => {
                assert_eq!(names_in(folder.path()), ["state"]);
                assert_eq!(std::fs::read(&path).expect("there"), old);
            }
        }
    }
}

#[test]
fn a_file_that_took_its_name_gives_it_back_when_another_device_cannot_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    std::fs::write(&path, b"old state").expect("written");
    let (sink, to) = TestSink::new();
    to.expect("run", Trouble::Fail);
    let listener = listen();
    let (sender, receiver) =
        pair(&listener, Synthetic::new(1000), FileSink::create(&path).expect("writable"));
    let (sent, received) = run(sender.device("net1", Null::new(1)), receiver.device("net1", sink));
    assert_aborted(&sent);
    assert_aborted(&received);
    assert_eq!(std::fs::read(&path).expect("there"), b"old state");
    assert_eq!(names_in(folder.path()), ["state"]);
}

#[test]
fn a_source_is_left_where_it_was_when_a_transfer_is_aborted() {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&content(100_000)).expect("written");
    file.seek(std::io::SeekFrom::Start(1000)).expect("there");
    let given: OwnedFd = file.try_clone().expect("a second descriptor").into();
    let (sink, to) = TestSink::new();
    to.expect("seal", Trouble::Fail);
    let listener = listen();
    let (sender, receiver) = pair(&listener, FdSource::new(given), sink);
    let (sent, received) = run(sender, receiver);
    assert_aborted(&sent);
    assert_aborted(&received);
    assert_eq!(file.stream_position().expect("a file"), 1000);
}

#[test]
fn devices_that_are_on_one_side_only_are_named_by_both() {
    for (theirs, named) in [(vec!["disk0"], "net0"), (vec!["net0", "disk0"], "disk0")] {
        let (source, from) = TestSource::new(content(1000));
        let listener = listen();
        let mut receiver = Receiver::builder().listener(&listener);
        for name in theirs {
            receiver = receiver.device(name, Discard);
        }
        let sender = Sender::builder().device("net0", source).connect(listener.local_addr());
        let (sent, received) = run(sender, receiver);
        for finished in [&sent, &received] {
            let error = assert_aborted(finished);
            let text = format!("refused by the receiver: device {named} is on one side only");
            assert_eq!(error.to_string(), text);
            assert!(error.hint().expect("a hint").contains("same device names"));
        }
        assert!(!from.did("start"));
    }
}

#[test]
fn a_pool_beyond_what_the_receiver_allows_is_refused() {
    let listener = listen();
    let (sender, receiver) = pair(&listener, Null::new(1), Discard);
    let (sent, received) = run(sender.pool_size(64 << 20), receiver.pool_max(32 << 20));
    for finished in [&sent, &received] {
        let error = assert_aborted(finished);
        assert!(matches!(error, Error::Refused { reason: Refusal::Settings { .. }, .. }), "{error}");
        assert!(error.to_string().contains("67108864"), "{error}");
    }
}

#[test]
fn a_port_in_use_is_an_error_with_a_hint() {
    let listener = listen();
    let error = ringlift::Listener::bind(listener.local_addr()).expect_err("one at a time");
    assert!(matches!(error, Error::Kernel(_)), "{error}");
    assert!(error.to_string().contains("EADDRINUSE"), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn a_port_where_nobody_listens_is_an_error_with_a_hint() {
    let addr = listen().local_addr();
    let (source, from) = TestSource::new(content(10));
    let sent = send(Sender::builder().device("net0", source).connect(addr)).finish();
    let error = assert_aborted(&sent);
    assert!(error.to_string().contains("ECONNREFUSED"), "{error}");
    assert!(error.hint().expect("a hint").contains("a receiver is listening"), "{:?}", error.hint());
    assert!(!from.did("start"));
}

#[test]
fn a_second_sender_is_told_that_the_receiver_is_busy_and_the_first_goes_on() {
    let (sink, to) = TestSink::new();
    to.expect("seal", Trouble::Wait);
    let listener = listen();
    let (sender, receiver) = pair(&listener, Synthetic::new(1000), sink);
    let receiving = receive(receiver);
    let sending = send(sender);
    to.await_step("seal");
    let second = Sender::builder().device("net0", Null::new(1)).connect(listener.local_addr());
    let error = send(second).finish().error.expect("one at a time");
    assert!(matches!(error, Error::Refused { reason: Refusal::Busy, .. }), "{error}");
    to.let_go("seal");
    assert_complete(&sending.finish(), &receiving.finish());
}

#[test]
fn no_sockets_at_all_are_misuse() {
    let (mut ours, _theirs) = socket_pairs(1);
    let control = ours.remove(0);
    let sender = Sender::builder().device("net0", Null::new(1)).sockets(control, Vec::new());
    assert_eq!(sender.build().err(), Some(Misuse::BadChannels { given: 0 }));
}

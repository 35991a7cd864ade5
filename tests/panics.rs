//! The caller's own code inside a transfer panics, and the devices end where they belong anyway.

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::BorrowedFd;

use common::device::{TestSink, TestSource, Trouble};
use common::outcome::{assert_aborted, assert_complete};
use common::{content, listen, pair, receive, run, send};
use ringlift::error::{DeviceError, Error, Hook, PeerError};
use ringlift::sink::Sink;
use ringlift::source::{FdKind, Flow, PreCopyInfo, Source};
use ringlift::{Cancel, DeviceStep, Event, Finished, Outcome, Phase};

const TOLD: &str = "a deliberate panic";

/// The panic that a transfer gives back.
fn assert_panicked(finished: &Finished, hook: Hook) {
    let panic = finished.panic.as_ref().expect("the panic is given back");
    assert_eq!((panic.hook(), panic.message()), (hook, TOLD));
}

fn assert_ended_by_panic(finished: &Finished, hook: Hook) {
    let error = assert_aborted(finished);
    let is_it = |by: Hook, message: &str| (by, message) == (hook, TOLD);
    assert!(matches!(error, Error::HookPanicked { hook, message } if is_it(*hook, message)), "{error}");
    assert_panicked(finished, hook);
}

/// Panics at the first event that `meant` means.
fn panicking(meant: impl Fn(&Event) -> bool + Send + 'static) -> impl FnMut(&Event) + Send + 'static {
    let mut calls_left = true;
    move |event| {
        assert!(calls_left, "a handler that panicked is not called again");
        if meant(event) {
            calls_left = false;
            std::panic::resume_unwind(Box::new(TOLD.to_owned()));
        }
    }
}

type Meant = Box<dyn Fn(&Event) -> bool + Send>;

fn is_phase(phase: Phase) -> impl Fn(&Event) -> bool + Send + 'static {
    move |event| matches!(event, Event::Phase(now) if *now == phase)
}

#[test]
fn an_event_handler_of_a_sender_that_panics_before_commit_ends_the_transfer_and_the_devices_come_back() {
    let meant: [(&str, Meant); 4] = [
        ("connected", Box::new(|event| matches!(event, Event::Connected { .. }))),
        ("settings", Box::new(is_phase(Phase::Settings))),
        ("stop-copy", Box::new(is_phase(Phase::StopCopy))),
        ("commit", Box::new(is_phase(Phase::Commit))),
    ];
    for (when, meant) in meant {
        let (source, from) = TestSource::new(content(300_000));
        let (sink, to) = TestSink::new();
        let listener = listen();
        let (sender, receiver) = pair(&listener, source, sink);
        let cancel = Cancel::new();
        let receiving = receive(receiver.cancel(&cancel));
        let sent = send(sender.on_event(panicking(meant))).finish();
        assert_ended_by_panic(&sent, Hook::OnEvent);
        if matches!(when, "connected" | "settings") {
            // a sender that leaves before its offer may be gone before anybody took its session
            cancel.cancel();
            assert_aborted(&receiving.finish());
            continue;
        }
        let received = receiving.finish();
        let told = matches!(assert_aborted(&received), Error::Peer(PeerError::Aborted { text, .. }) if text.contains(TOLD));
        assert!(told, "{when}: {:?}", received.error);
        assert!(received.panic.is_none());
        assert_eq!((from.steps().last(), to.did("run")), (Some(&"rollback"), false), "{when}");
    }
}

#[test]
fn an_event_handler_of_a_receiver_that_panics_before_commit_ends_the_transfer_and_the_devices_are_reset() {
    for phase in [Phase::Settings, Phase::StopCopy, Phase::Loading] {
        let (source, from) = TestSource::new(content(300_000));
        let (sink, to) = TestSink::new();
        let listener = listen();
        let (sender, receiver) = pair(&listener, source, sink);
        let (sent, received) = run(sender, receiver.on_event(panicking(is_phase(phase))));
        if received.outcome == Outcome::Complete {
            // Commit came in the same turn: it goes through
            assert_complete(&sent, &received);
            assert_panicked(&received, Hook::OnEvent);
            continue;
        }
        assert_ended_by_panic(&received, Hook::OnEvent);
        assert_aborted(&sent);
        let last = (from.steps().last().copied(), to.steps().last().copied());
        assert_eq!(last, (Some("rollback"), Some("rollback")), "{phase:?}");
    }
}

#[test]
fn a_receiver_whose_event_handler_panics_while_it_waits_for_a_sender_waits_no_longer() {
    let (sink, to) = TestSink::new();
    let listener = listen();
    let (_, receiver) = pair(&listener, TestSource::new(content(1)).0, sink);
    let receiving = receive(receiver.on_event(panicking(|event| matches!(event, Event::Rejected { .. }))));
    let mut unmatched = TcpStream::connect(listener.local_addr()).expect("the listener listens");
    unmatched.write_all(&[b'x'; 64]).expect("the socket takes it");
    let received = receiving.finish();
    assert_ended_by_panic(&received, Hook::OnEvent);
    assert!(to.steps().is_empty());
}

#[test]
fn an_event_handler_that_panics_after_commit_changes_nothing_but_is_reported() {
    for phase in [Phase::Commit, Phase::Done] {
        let (sink, to) = TestSink::new();
        let (source, from) = TestSource::new(content(300_000));
        to.expect("run", Trouble::Wait);
        let (held, mut committed) = (to.clone(), false);
        let on_event = move |event: &Event| {
            committed |= is_phase(Phase::Commit)(event);
            let meant = match phase {
                // the first progress after Commit
                Phase::Commit => committed && matches!(event, Event::Progress { .. }),
                phase => is_phase(phase)(event),
            };
            if committed && matches!(event, Event::Progress { .. }) {
                held.let_go("run");
            }
            assert!(!meant, "{TOLD}");
        };
        let listener = listen();
        let (sender, receiver) = pair(&listener, source, sink);
        let (sent, received) = run(sender.on_event(on_event), receiver);
        assert_complete(&sent, &received);
        assert_panicked(&sent, Hook::OnEvent);
        assert_eq!((from.steps().last(), to.steps().last()), (Some(&"release"), Some(&"run")));
    }
}

#[test]
fn a_panic_that_was_given_back_goes_on_when_the_caller_says_so() {
    let listener = listen();
    let (sender, receiver) = pair(&listener, TestSource::new(content(10)).0, TestSink::new().0);
    let (sent, _) = run(sender.on_event(panicking(is_phase(Phase::Done))), receiver);
    let panic = sent.panic.expect("the panic is given back");
    fn is_sync(_: &(impl Send + Sync)) {}
    is_sync(&panic);
    let resumed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| panic.resume()));
    let payload = resumed.expect_err("it goes on");
    assert_eq!(payload.downcast_ref::<String>().map(String::as_str), Some(TOLD));
}

/// A device that panics in one of the methods that a worker calls itself.
struct Fragile<D> {
    device: D,
    panics_in: &'static str,
}

impl<D> Fragile<D> {
    fn new(device: D, panics_in: &'static str) -> Fragile<D> {
        Fragile { device, panics_in }
    }

    fn at(&self, method: &'static str) {
        assert!(self.panics_in != method, "{TOLD}");
    }
}

impl<D> Drop for Fragile<D> {
    fn drop(&mut self) {
        self.at("drop");
    }
}

impl Source for Fragile<TestSource> {
    fn estimate(&self) -> Option<u64> {
        self.at("estimate");
        self.device.estimate()
    }
    fn start(&mut self) -> Result<Flow, DeviceError> {
        self.device.start()
    }
    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        self.at("fd");
        None
    }
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        self.device.fill(buffer)
    }
    fn precopy_info(&mut self) -> Result<Option<PreCopyInfo>, DeviceError> {
        self.at("precopy_info");
        self.device.precopy_info()
    }
    fn stop(&mut self) -> Result<(), DeviceError> {
        self.device.stop()
    }
    fn release(&mut self) -> Result<(), DeviceError> {
        self.device.release()
    }
    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.device.rollback()
    }
    fn is_instant(&self, step: DeviceStep) -> bool {
        self.at("is_instant");
        self.device.is_instant(step)
    }
}

impl Sink for Fragile<TestSink> {
    fn prepare(&mut self) -> Result<(), DeviceError> {
        self.device.prepare()
    }
    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        self.at("fd");
        None
    }
    fn drain(&mut self, bytes: &[u8]) -> Result<usize, DeviceError> {
        self.at("drain");
        self.device.drain(bytes)
    }
    fn seal(&mut self) -> Result<(), DeviceError> {
        self.device.seal()
    }
    fn run(&mut self) -> Result<(), DeviceError> {
        self.device.run()
    }
    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.device.rollback()
    }
    fn keeps_written(&self) -> bool {
        self.at("keeps_written");
        false
    }
    fn is_instant(&self, step: DeviceStep) -> bool {
        self.at("is_instant");
        self.device.is_instant(step)
    }
}

fn has_panicked(finished: &Finished) -> bool {
    matches!(finished.error, Some(Error::Device { error: DeviceError::Panicked, .. }))
}

#[test]
fn a_source_whose_own_code_panics_has_failed_and_is_brought_back() {
    for method in ["fd", "precopy_info"] {
        let (mut source, from) = TestSource::new(content(300_000));
        source.early = 1000;
        let (sink, to) = TestSink::new();
        let listener = listen();
        let (sender, receiver) = pair(&listener, Fragile::new(source, method), sink);
        let (sent, received) = run(sender, receiver);
        assert!(has_panicked(&sent), "{method}: {:?}", sent.error);
        assert_aborted(&received);
        assert!(!to.did("run"));
        assert_eq!(from.steps().last(), Some(&"rollback"), "{method}");
    }
}

#[test]
fn a_source_that_panics_when_it_is_asked_for_its_size_is_not_touched_and_offered_to_nobody() {
    let (source, from) = TestSource::new(content(1000));
    let (listener, cancel) = (listen(), Cancel::new());
    let (sender, receiver) = pair(&listener, Fragile::new(source, "estimate"), TestSink::new().0);
    let receiving = receive(receiver.cancel(&cancel));
    let sent = send(sender).finish();
    assert!(has_panicked(&sent), "{:?}", sent.error);
    assert!(from.steps().is_empty());
    // a peer that leaves before its offer is a stranger: the receiver waits for another one
    cancel.cancel();
    assert!(matches!(receiving.finish().error, Some(Error::Cancelled)));
}

#[test]
fn a_sink_whose_own_code_panics_has_failed_and_is_reset() {
    let (sink, to) = TestSink::new();
    let (source, from) = TestSource::new(content(1000));
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, Fragile::new(sink, "fd"));
    let (sent, received) = run(sender, receiver);
    assert!(has_panicked(&received), "{:?}", received.error);
    assert_aborted(&sent);
    assert_eq!((from.steps().last(), to.steps().last()), (Some(&"rollback"), Some(&"rollback")));

    // asked when it is over: the reset has happened, and the outcome stays
    let (sink, to) = TestSink::new();
    to.expect("seal", Trouble::Fail);
    let listener = listen();
    let (sender, receiver) =
        pair(&listener, TestSource::new(content(1000)).0, Fragile::new(sink, "keeps_written"));
    let (_, received) = run(sender, receiver);
    assert_aborted(&received);
    assert_eq!(to.steps().last(), Some(&"rollback"));
}

#[test]
fn devices_that_panic_when_they_are_asked_which_steps_are_instant_have_none() {
    let (source, from) = TestSource::new(content(1000));
    let (sink, to) = TestSink::new();
    let listener = listen();
    let (source, sink) = (Fragile::new(source, "is_instant"), Fragile::new(sink, "is_instant"));
    let (sender, receiver) = pair(&listener, source, sink);
    let (sent, received) = run(sender, receiver);
    assert_complete(&sent, &received);
    assert!(from.did("release") && to.did("run"));
}

#[test]
fn devices_that_panic_while_they_are_dropped_change_no_outcome() {
    let (source, from) = TestSource::new(content(1000));
    let (sink, to) = TestSink::new();
    let listener = listen();
    let (sender, receiver) = pair(&listener, Fragile::new(source, "drop"), Fragile::new(sink, "drop"));
    let (sent, received) = run(sender, receiver);
    assert_complete(&sent, &received);
    assert!(from.did("release") && to.did("run"));

    // and where there never was a worker
    let (sender, receiver) =
        pair(&listener, Fragile::new(TestSource::new(content(1)).0, "drop"), TestSink::new().0);
    let cancel = Cancel::new();
    cancel.cancel();
    drop(receiver);
    let sent = send(sender.cancel(&cancel)).finish();
    assert!(matches!(assert_aborted(&sent), Error::Cancelled), "{:?}", sent.error);
    let receiver = ringlift::Receiver::builder().listener(&listener);
    let receiver = receiver.device("net0", Fragile::new(TestSink::new().0, "drop")).cancel(&cancel);
    assert!(matches!(assert_aborted(&receive(receiver).finish()), Error::Cancelled));
}

//! The caller's say: hooks that agree, refuse, take long or are cancelled, pre-copy that is held, and what is told of it.

#![expect(
    clippy::disallowed_methods,
    reason = "hooks that take their time, and a clock beside the library's"
)]

mod common;

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::device::{Journal, TestSink, TestSource};
use common::outcome::{assert_aborted, assert_complete};
use common::{PATIENCE, content, listen, pair, receive, run, send};
use ringlift::error::{Error, Hook, PeerError};
use ringlift::sink::Verify;
use ringlift::source::{Null, Synthetic};
use ringlift::{
    Cancel, DeviceMoment, DeviceStep, Event, Finished, Listener, Phase, PreCopyHold, ReceiverBuilder,
    SenderBuilder,
};

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("no memory for {0} pages")]
struct NoMemory(u32);

type Outcome = Result<(), NoMemory>;

/// Sets one of the hooks of either side.
fn set(
    (sender, receiver): (SenderBuilder, ReceiverBuilder),
    which: Hook,
    hook: impl FnOnce() -> Outcome + Send + 'static,
) -> (SenderBuilder, ReceiverBuilder) {
    match which {
        Hook::BeforeSwitchover => (sender.before_switchover(hook), receiver),
        Hook::BeforeCommit => (sender.before_commit(hook), receiver),
        _ => (sender, receiver.before_run(hook)),
    }
}

const HOOKS: [Hook; 3] = [Hook::BeforeSwitchover, Hook::BeforeCommit, Hook::BeforeRun];

fn transfer(listener: &Listener) -> ((SenderBuilder, ReceiverBuilder), Journal, Journal) {
    let (source, from) = TestSource::new(content(300_000));
    let (sink, to) = TestSink::new();
    (pair(listener, source, sink), from, to)
}

/// The end of the side that has the hook, and of the other.
fn sides(which: Hook, (sent, received): (Finished, Finished)) -> (Finished, Finished) {
    if which == Hook::BeforeRun { (received, sent) } else { (sent, received) }
}

#[test]
fn a_hook_that_refuses_brings_the_devices_back_and_its_error_arrives_as_it_is() {
    for which in HOOKS {
        let listener = listen();
        let (builders, from, to) = transfer(&listener);
        let (sender, receiver) = set(builders, which, || Err(NoMemory(7)));
        let (own, other) = sides(which, run(sender, receiver));
        let error = assert_aborted(&own);
        assert_eq!(error.to_string(), format!("{which} refused: no memory for 7 pages"));
        let Error::HookRefused { hook, error } = error else { unreachable!("{error}") };
        assert_eq!((*hook, error.downcast_ref()), (which, Some(&NoMemory(7))));
        let told = matches!(assert_aborted(&other), Error::Peer(PeerError::Aborted { text, .. }) if text.contains("7 pages"));
        assert!(told, "{which}: {:?}", other.error);
        assert_eq!((from.steps().last(), to.steps().last()), (Some(&"rollback"), Some(&"rollback")));
        assert!(own.panic.is_none() && !to.did("run"));
    }
}

#[test]
fn a_hook_that_panics_brings_the_devices_back_and_the_panic_is_given_back() {
    for which in HOOKS {
        let listener = listen();
        let (builders, from, to) = transfer(&listener);
        let (sender, receiver) = set(builders, which, || std::panic::resume_unwind(Box::new("as told")));
        let (own, other) = sides(which, run(sender, receiver));
        let error = assert_aborted(&own);
        assert!(matches!(error, Error::HookPanicked { hook, .. } if *hook == which), "{error}");
        let panic = own.panic.as_ref().expect("it is given back");
        assert_eq!((panic.hook(), panic.message()), (which, "as told"));
        assert_aborted(&other);
        assert_eq!((from.steps().last(), to.did("run")), (Some(&"rollback"), false));
    }
}

#[test]
fn a_transfer_that_is_cancelled_during_a_hook_waits_for_it_before_it_touches_a_device() {
    for which in HOOKS {
        let listener = listen();
        let (builders, from, to) = transfer(&listener);
        let own = if which == Hook::BeforeRun { to.clone() } else { from.clone() };
        let cancel = Cancel::new();
        let (tell, begun) = mpsc::channel();
        let (watched, seen) = (cancel.clone(), own.clone());
        let hook = move || {
            tell.send(()).expect("the test waits");
            // a hook that watches the cancel of its own transfer, and takes a while to react
            while !watched.is_cancelled() {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(300));
            assert!(!seen.did("rollback"), "no device is touched while a hook runs");
            Ok(())
        };
        let (sender, receiver) = set(builders, which, hook);
        let receiving = receive(if which == Hook::BeforeRun { receiver.cancel(&cancel) } else { receiver });
        let sending = send(if which == Hook::BeforeRun { sender } else { sender.cancel(&cancel) });
        begun.recv_timeout(PATIENCE).expect("the hook is called");
        cancel.cancel();
        let (own_end, other) = sides(which, (sending.finish(), receiving.finish()));
        assert!(matches!(assert_aborted(&own_end), Error::Cancelled), "{which}: {:?}", own_end.error);
        assert!(own_end.panic.is_none(), "{which}: {:?}", own_end.panic);
        assert!(matches!(assert_aborted(&other), Error::Peer(PeerError::Cancelled)), "{which}");
        assert_eq!(own.steps().last(), Some(&"rollback"), "{which}");
        assert!(!to.did("run"));
    }
}

/// Longer than a peer may be silent: heartbeats go on during a hook.
#[test]
fn hooks_of_12_seconds_on_both_sides_complete() {
    let listener = listen();
    let (sender, receiver) = pair(&listener, Synthetic::new(100_000), Verify::new());
    let wait = || -> Outcome {
        std::thread::sleep(Duration::from_secs(12));
        Ok(())
    };
    let (sent, received) = run(sender.before_switchover(wait), receiver.before_run(wait));
    assert_complete(&sent, &received);
}

#[test]
fn the_receivers_machine_has_agreed_when_the_sender_is_asked_before_commit() {
    let listener = listen();
    let (builders, from, to) = transfer(&listener);
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = |name: &'static str, own: &Journal| {
        let (order, own) = (Arc::clone(&order), own.clone());
        move || -> Outcome {
            let mut order = order.lock().expect("no thread panics while holding it");
            order.push((name, own.steps().last().copied()));
            Ok(())
        }
    };
    let (before_switchover, before_run) = (note("before_switchover", &from), note("before_run", &to));
    let before_commit = note("before_commit", &to);
    let sender = builders.0.before_switchover(before_switchover).before_commit(before_commit);
    let (sent, received) = run(sender, builders.1.before_run(before_run));
    assert_complete(&sent, &received);
    assert_eq!(
        *order.lock().expect("no thread panics while holding it"),
        [("before_switchover", Some("start")), ("before_run", Some("seal")), ("before_commit", Some("seal"))]
    );
}

#[test]
fn pre_copy_is_held_until_the_caller_lets_go() {
    for early in [100_000, 0] {
        let (mut source, from) = TestSource::new(content(300_000));
        source.early = early;
        let listener = listen();
        let (sender, receiver) = pair(&listener, source, TestSink::new().0);
        let hold = PreCopyHold::new();
        let receiving = receive(receiver);
        let sending = send(sender.hold_pre_copy(&hold));
        from.await_step("start");
        std::thread::sleep(Duration::from_millis(400));
        assert!(!from.did("quiesce") && !from.did("stop"), "{:?}", from.steps());
        assert_eq!(hold.remaining(), (early > 0).then_some(0), "everything was read");
        let before = std::time::Instant::now();
        hold.release();
        from.await_step("stop");
        assert!(before.elapsed() < Duration::from_millis(500), "it is woken, and waits for no heartbeat");
        let (sent, received) = (sending.finish(), receiving.finish());
        assert_complete(&sent, &received);
        assert_eq!(sent.report.devices[0].precopy_bytes, early as u64);
    }
}

#[test]
fn a_transfer_that_is_held_in_pre_copy_can_be_cancelled() {
    let listener = listen();
    let (sender, receiver) = pair(&listener, Null::new(1000), Verify::new());
    let (cancel, hold) = (Cancel::new(), PreCopyHold::new());
    let (tell, told) = mpsc::channel();
    let on_event = move |event: &Event| {
        if matches!(event, Event::Phase(Phase::PreCopy)) {
            tell.send(()).expect("the test waits");
        }
    };
    let receiving = receive(receiver);
    let sending = send(sender.cancel(&cancel).hold_pre_copy(&hold).on_event(on_event));
    told.recv_timeout(PATIENCE).expect("it is held in pre-copy");
    cancel.cancel();
    assert!(matches!(assert_aborted(&sending.finish()), Error::Cancelled));
    assert!(matches!(assert_aborted(&receiving.finish()), Error::Peer(PeerError::Cancelled)));
}

/// Phases and moments of one side, in order.
type Told = Arc<Mutex<Vec<String>>>;

fn listening(told: &Told) -> impl FnMut(&Event) + Send + 'static {
    let told = Arc::clone(told);
    move |event| {
        let line = match event {
            Event::Phase(phase) => format!("{phase:?}"),
            Event::Stopped => "stopped".to_owned(),
            Event::Device { device, instance: 0, moment } => match moment {
                // how often it is asked depends on the clock
                DeviceMoment::PreCopy { .. }
                | DeviceMoment::Begins(DeviceStep::PreCopyInfo)
                | DeviceMoment::Ends(DeviceStep::PreCopyInfo) => return,
                DeviceMoment::Begins(step) => format!("{device} begins {step:?}"),
                DeviceMoment::Ends(step) => format!("{device} ends {step:?}"),
                other => format!("{device} {other:?}"),
            },
            _ => return,
        };
        told.lock().expect("no thread panics while holding it").push(line);
    }
}

#[test]
fn events_tell_of_each_device_in_order() {
    let listener = listen();
    let (mut source, _) = TestSource::new(content(300_000));
    source.early = 100_000;
    let (sender, receiver) = pair(&listener, source, TestSink::new().0);
    let (near, far) = (Told::default(), Told::default());
    let (sent, received) = run(sender.on_event(listening(&near)), receiver.on_event(listening(&far)));
    assert_complete(&sent, &received);
    let told = |told: &Told| told.lock().expect("no thread panics while holding it").join(", ");
    assert_eq!(
        told(&near),
        "Connecting, Settings, net0 begins Start, net0 ends Start, PreCopy, net0 FirstByte, Switchover, net0 begins Quiesce, net0 ends Quiesce, \
         net0 begins Stop, net0 ends Stop, stopped, StopCopy, net0 LastByte, net0 begins Config, \
         net0 ends Config, Loading, Commit, net0 begins Release, net0 ends Release, Done"
    );
    let far = told(&far);
    let steps = far.split(", ").filter(|line| line.starts_with("net0")).collect::<Vec<_>>().join(", ");
    assert_eq!(
        steps,
        "net0 begins Prepare, net0 ends Prepare, net0 FirstByte, net0 LastByte, net0 begins Load, net0 ends Load, \
         net0 begins PreRun, net0 ends PreRun, net0 begins Run, net0 ends Run"
    );
    let end = "Loading, Commit, net0 begins PreRun, net0 ends PreRun, net0 begins Run, net0 ends Run, Done";
    assert!(far.ends_with(end), "{far}");
}

//! Hooks on both sides: whatever they do, and whatever happens while they run, each device has exactly one owner.

use super::*;
use crate::cancel::PreCopyHold;
use crate::error::Hook;
use crate::limits::{HOOK_MAX, LINGER_MAX};
use crate::time::{Nanos, nanos};
use crate::worker::hook::{Code, code};
use crate::worker::operation::Operation;

const SECOND: Nanos = 1_000_000_000;

/// What the hooks of a scenario do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Which of them does something else than agree.
    bad: Option<(Hook, Bad)>,
}

#[derive(Debug, Clone, Copy)]
enum Bad {
    Refuses,
    Panics,
}

const AGREE: Plan = Plan { bad: None };

fn hook(plan: Plan, hook: Hook) -> Option<Code> {
    let bad = plan.bad.filter(|(bad, _)| *bad == hook).map(|(_, bad)| bad);
    Some(code(move || match bad {
        None => Ok(()),
        Some(Bad::Refuses) => Err("not today"),
        Some(Bad::Panics) => std::panic::resume_unwind(Box::new("as told")),
    }))
}

pub(super) fn of_sender(plan: Option<Plan>) -> send::Hooks {
    let Some(plan) = plan else { return send::Hooks::default() };
    let [before_switchover, before_commit] =
        [Hook::BeforeSwitchover, Hook::BeforeCommit].map(|which| hook(plan, which));
    send::Hooks { hold_pre_copy: None, before_switchover, before_commit }
}

pub(super) fn of_receiver(plan: Option<Plan>) -> Option<Code> {
    plan.and_then(|plan| hook(plan, Hook::BeforeRun))
}

#[test]
fn transfers_whose_hooks_agree_arrive_whatever_the_order_of_completions() {
    for seed in seeds(30) {
        let scenario = Scenario { hooks: Some(AGREE), flow: Flow::PreCopy, ..scenario(seed) };
        let result = simulate(&scenario);
        check(&scenario, &result);
        assert_eq!(result.sender.outcome, Outcome::Complete, "{scenario:?}: {:?}", result.sender.error);
    }
}

#[test]
fn a_hook_that_refuses_or_panics_brings_every_device_back() {
    for seed in seeds(10) {
        for hook in [Hook::BeforeSwitchover, Hook::BeforeCommit, Hook::BeforeRun] {
            for bad in [Bad::Refuses, Bad::Panics] {
                let plan = Plan { bad: Some((hook, bad)) };
                let scenario = Scenario { hooks: Some(plan), ..scenario(seed) };
                let result = simulate(&scenario);
                check(&scenario, &result);
                let (own, other) = match hook {
                    Hook::BeforeRun => (&result.receiver, &result.sender),
                    _ => (&result.sender, &result.receiver),
                };
                let is_it = match bad {
                    Bad::Refuses => {
                        matches!(own.error, Some(Error::HookRefused { hook: by, .. }) if by == hook)
                    }
                    Bad::Panics => {
                        matches!(own.error, Some(Error::HookPanicked { hook: by, .. }) if by == hook)
                    }
                };
                assert!(is_it, "{scenario:?}: {:?}", own.error);
                assert_eq!(own.panic.is_some(), matches!(bad, Bad::Panics));
                let text = own.error.as_ref().unwrap().to_string();
                let told = matches!(&other.error, Some(Error::Peer(PeerError::Aborted { text: told, .. })) if **told == *text);
                assert!(told, "{scenario:?}: {:?}", other.error);
                assert!(result.sources.iter().all(|log| log.last() == Some(&"rollback")));
            }
        }
    }
}

#[test]
fn a_cut_at_any_message_leaves_exactly_one_owner_with_hooks_too() {
    for seed in seeds(3) {
        let whole = Scenario { hooks: Some(AGREE), ..scenario(seed) };
        let undisturbed = simulate(&whole);
        for side in 0..2 {
            for after in boundaries(&undisturbed.control[side]) {
                let scenario = Scenario { cut: Some((Link::Control, side, after)), ..whole.clone() };
                check(&scenario, &simulate(&scenario));
            }
        }
    }
}

/// A transfer of one device whose hooks agree, and whose hook on `side` takes this long.
fn with_slow_hook(which: Hook, time: Nanos, cancel_at: Option<Nanos>) -> (Finished, Finished, [Log; 2]) {
    let world = World::new(7);
    let from = descriptor();
    world.add_file(from.as_raw_fd(), SimFile { content: vec![7; 20_000], ..SimFile::default() });
    let to = descriptor();
    world.add_file(to.as_raw_fd(), SimFile::default());
    let logs = [Log::default(), Log::default()];
    let source = FakeSource { fd: from, flow: Flow::StopCopyOnly, log: Arc::clone(&logs[0]), fails: None };
    let sink = FakeSink { fd: to, log: Arc::clone(&logs[1]), fails: None, config: b"config".to_vec() };
    let (mut sending, mut receiving) = one_device(&world, source, sink);
    // it bounds the receiver's hook, and no other
    if which == Hook::BeforeRun {
        sending.downtime_max = 3 * HOOK_MAX;
    }
    let own = logs[usize::from(which == Hook::BeforeRun)].clone();
    let noted = code(move || {
        own.lock().unwrap().push("hook");
        Ok::<_, DeviceError>(())
    });
    match which {
        Hook::BeforeSwitchover => sending.hooks.before_switchover = Some(noted),
        Hook::BeforeCommit => sending.hooks.before_commit = Some(noted),
        _ => receiving.before_run = Some(noted),
    }
    let side = usize::from(which == Hook::BeforeRun);
    world.slow_down(side, Operation::Hook.tag(), time);
    let caller = if side == 0 { &mut sending.caller } else { &mut receiving.caller };
    caller.deadline = cancel_at.map(|after| world.now() + after);
    let (sender, receiver) = run(&world, sending, receiving);
    (sender, receiver, logs)
}

const HOOKS: [Hook; 3] = [Hook::BeforeSwitchover, Hook::BeforeCommit, Hook::BeforeRun];

#[test]
fn a_hook_may_take_longer_than_any_standstill() {
    for which in HOOKS {
        for time in [12 * SECOND, 1800 * SECOND] {
            let (sender, receiver, _) = with_slow_hook(which, time, None);
            assert_eq!(sender.outcome, Outcome::Complete, "{which}: {:?}", sender.error);
            assert_eq!(receiver.outcome, Outcome::Complete, "{which}: {:?}", receiver.error);
            assert!(sender.report.duration_ns >= time, "{which}");
        }
    }
}

#[test]
fn a_hook_that_takes_longer_than_a_peer_waits_is_over_before_a_device_is_touched() {
    for which in HOOKS {
        let (sender, receiver, logs) = with_slow_hook(which, 2 * nanos(HOOK_MAX), None);
        let (own, other) = if which == Hook::BeforeRun { (receiver, sender) } else { (sender, receiver) };
        let is_it = matches!(other.error, Some(Error::Peer(PeerError::Standstill { .. })));
        assert!(is_it, "{which}: {:?}", other.error);
        assert!(
            matches!(own.error, Some(Error::Peer(PeerError::Aborted { .. }))),
            "{which}: {:?}",
            own.error
        );
        assert!(
            (nanos(HOOK_MAX)..nanos(HOOK_MAX) + nanos(LINGER_MAX) + 2 * SECOND)
                .contains(&other.report.duration_ns)
        );
        assert_rolled_back_after_the_hook(which, &logs);
    }
}

#[test]
fn a_transfer_that_ends_during_a_hook_tells_its_peer_immediately_and_waits_for_the_hook() {
    for which in HOOKS {
        let (sender, receiver, logs) = with_slow_hook(which, 300 * SECOND, Some(2 * SECOND));
        let (own, other) = if which == Hook::BeforeRun { (receiver, sender) } else { (sender, receiver) };
        assert!(matches!(own.error, Some(Error::Deadline)), "{which}: {:?}", own.error);
        assert!(
            matches!(other.error, Some(Error::Peer(PeerError::Aborted { .. }))),
            "{which}: {:?}",
            other.error
        );
        assert!(
            other.report.duration_ns < 2 * SECOND + nanos(LINGER_MAX) + SECOND,
            "{which}: {:?}",
            other.report
        );
        assert!(own.report.duration_ns >= 290 * SECOND, "{which}: {:?}", own.report);
        assert_rolled_back_after_the_hook(which, &logs);
    }
}

fn assert_rolled_back_after_the_hook(which: Hook, logs: &[Log; 2]) {
    let own = logs[usize::from(which == Hook::BeforeRun)].lock().unwrap().clone();
    assert!(own.ends_with(&["hook", "rollback"]), "{which}: {own:?}");
    assert!(!logs[1].lock().unwrap().contains(&"run"), "{which}");
}

/// A device in pre-copy that is asked again and again what it still has, and whose caller lets go after a while.
struct Asked {
    source: FakeSource,
    hold: PreCopyHold,
    asked: u64,
    until: u64,
}

impl Source for Asked {
    fn start(&mut self) -> Result<Flow, DeviceError> {
        self.source.start()
    }
    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        self.source.fd()
    }
    fn precopy_info(&mut self) -> Result<Option<PreCopyInfo>, DeviceError> {
        assert!(self.asked == 0 || self.hold.remaining().is_some());
        self.asked += 1;
        if self.asked == self.until {
            self.hold.release();
        }
        Ok(Some(PreCopyInfo { initial: 0, dirty: self.asked }))
    }
    fn stop(&mut self) -> Result<(), DeviceError> {
        self.source.stop()
    }
    fn config(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        self.source.config(buffer)
    }
    fn release(&mut self) -> Result<(), DeviceError> {
        self.source.release()
    }
    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.source.rollback()
    }
}

/// Holds a transfer in pre-copy until it was asked so often, or its deadline.
fn held(until: u64, flow: Flow, deadline: Option<Nanos>) -> (Finished, Finished, PreCopyHold) {
    let world = World::new(3);
    let hold = PreCopyHold::new();
    let (from, to) = (descriptor(), descriptor());
    world.add_file(from.as_raw_fd(), SimFile { content: vec![7; 20_000], ..SimFile::default() });
    world.add_file(to.as_raw_fd(), SimFile::default());
    let source = FakeSource { fd: from, flow, log: Log::default(), fails: None };
    let sink = FakeSink { fd: to, log: Log::default(), fails: None, config: b"config".to_vec() };
    let source = Asked { source, hold: hold.clone(), asked: 0, until };
    let (mut sending, receiving) = one_device(&world, source, sink);
    sending.hooks.hold_pre_copy = Some(hold.clone());
    sending.caller.deadline = deadline.map(|after| world.now() + after);
    let (sender, receiver) = run(&world, sending, receiving);
    (sender, receiver, hold)
}

#[test]
fn pre_copy_goes_on_until_the_caller_lets_go_however_little_is_left_and_however_long_it_takes() {
    // asked once a second: for two minutes
    let (sender, receiver, hold) = held(120, Flow::PreCopy, None);
    assert_eq!(sender.outcome, Outcome::Complete, "{:?}", sender.error);
    assert_eq!(receiver.outcome, Outcome::Complete, "{:?}", receiver.error);
    assert!(sender.report.duration_ns > 100 * SECOND, "{:?}", sender.report);
    assert_eq!(sender.report.devices[0].precopy_bytes, 20_000);
    assert!(hold.remaining().is_some_and(|left| left >= 119));
}

#[test]
fn a_hold_without_pre_copy_waits_and_ends_with_the_deadline() {
    for flow in [Flow::StopCopyOnly, Flow::PreCopy] {
        let (sender, receiver, _) = held(u64::MAX, flow, Some(600 * SECOND));
        assert!(matches!(sender.error, Some(Error::Deadline)), "{:?}", sender.error);
        assert_eq!((sender.outcome, receiver.outcome), (Outcome::Aborted, Outcome::Aborted));
        assert!(sender.report.duration_ns > 590 * SECOND);
    }
}

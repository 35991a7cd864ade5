//! Processes are killed, stopped and disconnected around the commit. Knows when each message of the control connection
//! passes, to the byte. Whatever happens, no device runs on both sides, and none is lost.

use std::io;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use ringlift::limits::{FINAL_MESSAGE_MAX, LINGER_MAX, REASON_PATIENCE, SILENCE_MAX};
use ringlift::wire::{CONTROL_HEADER_LEN, ControlHeader, ControlKind, HELLO_LEN, Role, WELCOME_LEN};

use crate::arena::{Arena, ringlift};
use crate::dice::Dice;
use crate::outcome::Outcome;
use crate::proxy::{Cut, Direction, Links, Pipe, Proxy, Tap};
use crate::runs::{self, Ran};
use crate::side::{Ended, Fate, Process, START_MAX, Side};

/// For a host that is busy with other runs.
const SLACK: Duration = Duration::from_secs(20);
/// Longer than a peer may be silent.
const LONG: Duration = SILENCE_MAX.saturating_add(Duration::from_secs(1));

/// The longest that a side takes after its peer, or the connection to it, is gone.
fn bound() -> Duration {
    LONG + SILENCE_MAX + REASON_PATIENCE + FINAL_MESSAGE_MAX + LINGER_MAX + SLACK
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Sender,
    Receiver,
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Signal(Who, Signal),
    Freeze(Who, Duration),
    CutAll(Cut),
    CutControl(Cut),
}

/// What is done, and when.
#[derive(Debug, Clone)]
struct Plan {
    devices: usize,
    channels: usize,
    /// The message at which it is done, and how many of its kind pass before.
    kind: ControlKind,
    nth: usize,
    /// How many bytes of the message are forwarded before; more than it has means all of it.
    offset: usize,
    /// How long after these bytes.
    delay: Duration,
    action: Action,
}

impl Plan {
    fn of(dice: &mut Dice) -> Plan {
        let devices = if dice.chance(30) { 1 } else { 2 + dice.below(23) };
        let kinds =
            [ControlKind::Commit, ControlKind::Committed, ControlKind::Loaded, ControlKind::Switchover];
        let kind = dice.pick(&[0, 0, 0, 0, 1, 1, 1, 2, 2, 3].map(|choice: usize| kinds[choice]));
        let nth = if kind == ControlKind::Loaded { dice.below(devices) } else { 0 };
        // mostly the whole message passes, because that is when a receiver renames its files
        let offset = if dice.chance(70) { usize::MAX } else { dice.below(CONTROL_HEADER_LEN + 1) };
        let delay_us = match dice.below(10) {
            0..2 => 0,
            2..7 => dice.below(2_000),
            7..9 => dice.below(6_000),
            _ => dice.below(40_000),
        };
        let who = dice.pick(&[Who::Receiver, Who::Receiver, Who::Sender]);
        let cut = dice.pick(&[Cut::Close, Cut::Reset]);
        let action = match dice.below(20) {
            0..10 => Action::Signal(who, Signal::SIGKILL),
            10..13 => Action::Signal(who, Signal::SIGTERM),
            13 if dice.chance(20) => Action::Freeze(who, LONG),
            13..16 => Action::Freeze(who, Duration::from_millis(50 + dice.below(800) as u64)),
            16..18 => Action::CutAll(cut),
            _ => Action::CutControl(cut),
        };
        let channels = 1 + dice.below(3);
        Plan { devices, channels, kind, nth, offset, delay: Duration::from_micros(delay_us as u64), action }
    }

    /// The signal that a side may die of.
    fn signal_of(&self, who: Who) -> Option<Signal> {
        match self.action {
            Action::Signal(target, signal) if target == who => Some(signal),
            _ => None,
        }
    }
}

/// Those that the plan is about.
#[derive(Default)]
struct Targets {
    links: Links,
    receiver: OnceLock<Process>,
    sender: OnceLock<Process>,
}

impl Targets {
    fn process(&self, who: Who) -> Process {
        match who {
            Who::Sender => self.sender.wait().clone(),
            Who::Receiver => self.receiver.wait().clone(),
        }
    }
}

/// Reads along on the control connection, and strikes once.
struct Watch {
    /// Bytes of the hello or welcome that are still to pass.
    greeting: usize,
    rest: Vec<u8>,
    passed: usize,
    plan: Plan,
    targets: Arc<Targets>,
}

/// Everything passes.
struct Open;

impl Tap for Open {
    fn pass(&mut self, bytes: &[u8], pipe: &mut Pipe) -> io::Result<()> {
        pipe.send(bytes)
    }
}

impl Tap for Watch {
    fn pass(&mut self, bytes: &[u8], pipe: &mut Pipe) -> io::Result<()> {
        let (greeting, bytes) = bytes.split_at(self.greeting.min(bytes.len()));
        self.greeting -= greeting.len();
        pipe.send(greeting)?;
        self.rest.extend_from_slice(bytes);
        while let Some((kind, len)) = message(&self.rest) {
            let message: Vec<u8> = self.rest.drain(..len).collect();
            if kind == self.plan.kind.code() {
                self.passed += 1;
                if self.passed == self.plan.nth + 1 {
                    self.strike(&message, pipe)?;
                    continue;
                }
            }
            pipe.send(&message)?;
        }
        Ok(())
    }
}

/// The kind and the length of the first message, once all of it is there.
fn message(bytes: &[u8]) -> Option<(u16, usize)> {
    let header = ControlHeader::decode(bytes.first_chunk()?).expect("ringlift writes good headers");
    let len = CONTROL_HEADER_LEN + header.len as usize;
    (bytes.len() >= len).then_some((header.kind, len))
}

impl Watch {
    fn strike(&self, message: &[u8], pipe: &mut Pipe) -> io::Result<()> {
        let (before, after) = message.split_at(self.plan.offset.min(message.len()));
        pipe.send(before)?;
        thread::sleep(self.plan.delay);
        match self.plan.action {
            Action::Signal(who, signal) => self.targets.process(who).signal(signal),
            Action::Freeze(who, how_long) => {
                let process = self.targets.process(who);
                process.signal(Signal::SIGSTOP);
                thread::spawn(move || {
                    thread::sleep(how_long);
                    process.signal(Signal::SIGCONT);
                });
            }
            Action::CutAll(cut) => {
                self.targets.links.cut(cut);
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Action::CutControl(cut) => return Err(pipe.cut(cut)),
        }
        pipe.send(after)
    }
}

fn watch(plan: &Plan, targets: &Arc<Targets>, role: Role, direction: Direction) -> Box<dyn Tap> {
    let comes = match plan.kind {
        ControlKind::Commit | ControlKind::Switchover => Direction::ToReceiver,
        _ => Direction::ToSender,
    };
    if !matches!(role, Role::Control { .. }) || direction != comes {
        return Box::new(Open);
    }
    let greeting = if comes == Direction::ToReceiver { HELLO_LEN } else { WELCOME_LEN };
    let (plan, targets) = (plan.clone(), Arc::clone(targets));
    Box::new(Watch { greeting, rest: Vec::new(), passed: 0, plan, targets })
}

fn run(seed: u64) -> Ran {
    let mut dice = Dice(seed);
    let plan = Plan::of(&mut dice);
    let arena = Arena::new(&mut dice, plan.devices, 32 << 10);
    let targets = Arc::new(Targets::default());
    let receiver = Side::start(ringlift(&arena.recv()));
    let address = receiver.address(START_MAX).ok_or("the receiver does not listen")?;
    let _ = targets.receiver.set(receiver.process());
    let (planned, aims) = (plan.clone(), Arc::clone(&targets));
    let taps = Box::new(move |role, direction| watch(&planned, &aims, role, direction));
    let proxy = Proxy::start(address, &targets.links, taps);
    let channels = plan.channels.to_string();
    let sender = Side::start(ringlift(&arena.send(proxy.addr(), &["--channels", &channels])));
    let _ = targets.sender.set(sender.process());
    let sender = Fate::new(sender.end(bound()), plan.signal_of(Who::Sender));
    let receiver = Fate::new(receiver.end(bound()), plan.signal_of(Who::Receiver));
    drop(proxy);
    let mut outcome = Outcome::of(&arena, sender, receiver);
    let mut faults = outcome.faults();
    if outcome.receiver_was_killed() {
        faults.extend(restart(&arena));
        faults.extend(outcome.faults_after_restart(&arena));
    }
    outcome.verdict(&faults, &format!("{plan:?}"))
}

/// Starts a receiver for the same files and stops it again.
fn restart(arena: &Arena) -> Option<String> {
    let receiver = Side::start(ringlift(&arena.recv()));
    let listens = receiver.address(START_MAX).is_some();
    receiver.process().signal(Signal::SIGTERM);
    let end = receiver.end(bound());
    let is_right = listens && end.ended == Ended::Status(130);
    (!is_right).then(|| format!("the next start ended with {:?}: {}", end.ended, end.words))
}

/// A few at each message; `tools/attack` makes hundreds.
#[test]
fn whoever_dies_around_commit_no_device_runs_on_both_sides_and_none_is_lost() {
    runs::attack("kills", 20, run);
}

//! The network between the two is damaged: late, in pieces, cut, reset, flipped, repeated, lost, stalled, silent. What is
//! reported complete is identical to the source byte by byte, and no side waits longer than its bounds.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ringlift::limits::{
    FINAL_MESSAGE_MAX, GATHER_TIMEOUT, HELLO_TIMEOUT, LINGER_MAX, REASON_PATIENCE, SILENCE_MAX,
    STANDSTILL_MAX,
};
use ringlift::wire::Role;

use crate::arena::{Arena, ringlift};
use crate::dice::Dice;
use crate::outcome::Outcome;
use crate::proxy::{Cut, Direction, Links, Pipe, Proxy, Tap};
use crate::runs::{self, Ran};
use crate::side::{Fate, START_MAX, Side};

/// For what a damaged network delays, and for a host that is busy with other runs.
const SLACK: Duration = Duration::from_secs(25);
/// The pause that most runs allow, so that a black hole does not take a minute.
const DOWNTIME_MAX: Duration = Duration::from_secs(3);
/// The largest state.
const SIZE_MAX: usize = 400 << 10;

/// One defect, of one direction of one connection.
#[derive(Debug, Clone)]
struct Fault {
    /// The data connection, or the control connection.
    channel: Option<u16>,
    direction: Direction,
    /// Bytes that pass before.
    at: usize,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Flip(u8),
    Repeat(usize),
    Lose(usize),
    Insert(usize),
    Cut(Cut),
    Stall(Duration),
    Hole,
}

/// A bad network.
#[derive(Debug, Clone)]
struct Plan {
    devices: usize,
    channels: usize,
    faults: Vec<Fault>,
    /// Bytes are forwarded in pieces of at most this size…
    piece_max: usize,
    /// … after up to this time each, in microseconds.
    delay_us: usize,
    /// Connections reach the receiver up to this late, and so in another order.
    late_ms: usize,
    downtime_max: Duration,
}

impl Plan {
    fn of(dice: &mut Dice) -> Plan {
        let (devices, channels) = (1 + dice.below(4), 1 + dice.below(4));
        let faults = dice.pick(&[0, 1, 1, 1, 1, 2, 3]);
        let (piece_max, delay_us) = match dice.below(5) {
            0 => (1 + dice.below(64), 0),
            1 => (1 << 14, 2_000),
            _ => (1 << 16, 0),
        };
        Plan {
            devices,
            channels,
            faults: (0..faults).map(|_| Fault::of(dice, channels)).collect(),
            piece_max,
            delay_us,
            late_ms: if dice.chance(30) { 300 } else { 0 },
            downtime_max: if dice.chance(4) { STANDSTILL_MAX } else { DOWNTIME_MAX },
        }
    }

    /// The longest that a transfer over this network takes.
    fn bound(&self) -> Duration {
        let stalls = self.faults.iter().map(|fault| match fault.what {
            What::Stall(how_long) => how_long,
            _ => Duration::ZERO,
        });
        let ending = FINAL_MESSAGE_MAX + LINGER_MAX + REASON_PATIENCE;
        let bounds = HELLO_TIMEOUT + GATHER_TIMEOUT + SILENCE_MAX + self.downtime_max + ending;
        bounds + stalls.sum::<Duration>() + SLACK
    }
}

impl Fault {
    fn of(dice: &mut Dice, channels: usize) -> Fault {
        let channel = (!dice.chance(50)).then(|| u16::try_from(dice.below(channels)).expect("few"));
        // nothing but its welcome comes back on a data connection
        let direction = match channel {
            Some(_) if dice.chance(90) => Direction::ToReceiver,
            _ => dice.pick(&[Direction::ToReceiver, Direction::ToSender]),
        };
        let at = match (channel, dice.below(3)) {
            (None, _) => dice.below(350),
            (Some(_), 0) => dice.below(200),
            (Some(_), _) => dice.below(SIZE_MAX),
        };
        let what = match dice.below(20) {
            0..5 => What::Flip(1 << dice.below(8)),
            5..7 => What::Repeat(1 + dice.below(300)),
            7..9 => What::Lose(1 + dice.below(300)),
            9..11 => What::Insert(1 + dice.below(300)),
            11..13 => What::Cut(Cut::Close),
            13..15 => What::Cut(Cut::Reset),
            15..18 => What::Stall(Duration::from_millis(dice.below(1500) as u64)),
            18 => What::Stall(SILENCE_MAX + Duration::from_secs(1)),
            _ => What::Hole,
        };
        Fault { channel, direction, at, what }
    }
}

/// One direction of one connection of a bad network.
struct Bad {
    /// What is still to happen, in order.
    faults: Vec<Fault>,
    passed: usize,
    piece_max: usize,
    delay_us: usize,
    dice: Dice,
}

impl Tap for Bad {
    fn pass(&mut self, mut bytes: &[u8], pipe: &mut Pipe) -> io::Result<()> {
        while let Some(fault) = self.faults.first().filter(|fault| fault.at < self.passed + bytes.len()) {
            let what = fault.what;
            let (before, after) = bytes.split_at(fault.at.saturating_sub(self.passed));
            self.faults.remove(0);
            self.forward(before, pipe)?;
            bytes = self.strike(what, after, pipe)?;
        }
        self.forward(bytes, pipe)
    }
}

impl Bad {
    /// Damages `bytes`, and returns those that are forwarded as they are.
    fn strike<'a>(&mut self, what: What, bytes: &'a [u8], pipe: &mut Pipe) -> io::Result<&'a [u8]> {
        match what {
            What::Flip(bit) => {
                self.forward(&[bytes[0] ^ bit], pipe)?;
                return Ok(&bytes[1..]);
            }
            What::Repeat(len) => pipe.send(&bytes[..len.min(bytes.len())])?,
            What::Lose(len) => {
                let (lost, rest) = bytes.split_at(len.min(bytes.len()));
                self.passed += lost.len();
                return Ok(rest);
            }
            What::Insert(len) => pipe.send(&self.dice.bytes(len))?,
            What::Cut(how) => return Err(pipe.cut(how)),
            What::Stall(how_long) => thread::sleep(how_long),
            What::Hole => pipe.swallow(),
        }
        Ok(bytes)
    }

    fn forward(&mut self, bytes: &[u8], pipe: &mut Pipe) -> io::Result<()> {
        self.passed += bytes.len();
        for piece in bytes.chunks(self.piece_max) {
            if self.delay_us > 0 {
                thread::sleep(Duration::from_micros(self.dice.below(self.delay_us) as u64));
            }
            pipe.send(piece)?;
        }
        Ok(())
    }
}

fn tap(plan: &Plan, dice: &Mutex<Dice>, role: Role, direction: Direction) -> Box<dyn Tap> {
    let channel = match role {
        Role::Control { .. } => None,
        Role::Data { channel } => Some(channel),
    };
    let mut dice = Dice(dice.lock().unwrap().roll());
    let is_here = |fault: &&Fault| fault.channel == channel && fault.direction == direction;
    let mut faults: Vec<_> = plan.faults.iter().filter(is_here).cloned().collect();
    faults.sort_by_key(|fault| fault.at);
    if plan.late_ms > 0 && direction == Direction::ToReceiver {
        thread::sleep(Duration::from_millis(dice.below(plan.late_ms) as u64));
    }
    Box::new(Bad { faults, passed: 0, piece_max: plan.piece_max, delay_us: plan.delay_us, dice })
}

fn run(seed: u64) -> Ran {
    let mut dice = Dice(seed);
    let plan = Arc::new(Plan::of(&mut dice));
    let arena = Arena::new(&mut dice, plan.devices, SIZE_MAX);
    let receiver = Side::start(ringlift(&arena.recv()));
    let address = receiver.address(START_MAX).ok_or("the receiver does not listen")?;
    let (planned, dice) = (Arc::clone(&plan), Mutex::new(dice));
    let taps = Box::new(move |role, direction| tap(&planned, &dice, role, direction));
    let proxy = Proxy::start(address, &Links::default(), taps);
    let (channels, downtime) = (plan.channels.to_string(), format!("{}s", plan.downtime_max.as_secs()));
    let options = ["--channels", &channels, "--downtime-max", &downtime];
    let sender = Side::start(ringlift(&arena.send(proxy.addr(), &options)));
    let sender = Fate::new(sender.end(plan.bound()), None);
    let receiver = receiver.end_or_stop(plan.bound());
    drop(proxy);
    let outcome = Outcome::of(&arena, sender, receiver);
    outcome.verdict(&outcome.faults(), &format!("{plan:?}"))
}

/// A few; `tools/attack` makes hundreds.
#[test]
fn whatever_a_network_does_a_complete_state_is_identical_and_no_side_hangs() {
    runs::attack("chaos", 15, run);
}

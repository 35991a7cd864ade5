//! What to measure next, given what was measured: a state machine without a clock, a network or output.
//!
//! Settings are searched one after the other: the congestion control, the channels (doubled until two steps bring hardly
//! anything), zero-copy, the packet size. The best few then run in turns, and what won must beat the defaults in a duel. In
//! every stage the settings take turns, in random order inside each round. Invariants: nothing begins after the budget,
//! and what is not clearly faster is not taken.

mod finals;
mod found;
#[cfg(test)]
mod simulation;
mod sizing;
mod steps;
mod trials;

use std::time::Duration;

use ringlift::limits;

use self::found::is_certain;
pub(super) use self::found::{Found, Verdict};
pub(super) use self::sizing::{in_flight, pool};
use self::trials::Matrix;
pub(super) use self::trials::{Sample, Trial};
use super::setting::Setting;
use crate::args::ZeroCopyWhen;
use crate::random::Random;

/// Below this a gain is not worth an option: 3 %, as a logarithm.
pub(super) const STEP: f64 = 0.029_56;
/// Doubling ends after as many steps that brought less.
const FLAT_STEPS: u8 = 2;
/// Of its link, what a transfer has at most: headers take the rest.
pub(super) const LINK_FULL: f64 = 0.9;
/// For the search, in per cent of the budget; the rest is for the duel.
const SEARCH_PERCENT: u32 = 60;
/// Rounds of a stage, as the time allows for about as many points.
const STAGE_ROUNDS: (usize, usize) = (3, 4);
const POINTS: u32 = 36;
/// What takes turns at the end of the search, the defaults among them: at first, and when it is over.
const FINALISTS: (usize, usize) = (8, 3);
/// After as many rounds, a third of them leaves.
const HEAT: usize = 6;
const PROBES_MAX: u8 = 8;
/// Congestion controls that are worth a try.
const CONGESTION: [&str; 2] = ["cubic", "bbr"];
const PACKETS: [u32; 4] = [256 << 10, 512 << 10, 2 << 20, 4 << 20];
/// The trial of the defaults.
const DEFAULT: usize = 0;

/// What a setting is tried for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Probe,
    Congestion,
    Channels,
    ZeroCopy,
    Packet,
    Finals,
    Duel,
}

/// What bounds the search.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub(super) budget: Duration,
    pub(super) devices: u16,
    /// State of each device, if it is not chosen here.
    pub(super) size: Option<u64>,
    pub(super) pool_max: u64,
}

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) stage: Stage,
    pub(super) setting: Setting,
    /// State of each device.
    pub(super) size: u64,
}

/// The whole search.
pub(super) struct Search {
    bounds: Bounds,
    random: Random,
    stage: Stage,
    over: bool,
    trials: Vec<Trial>,
    /// What the settings of the stage differ from in one thing.
    best: usize,
    matrix: Matrix,
    /// Of the round, what is still to be measured, last first; and what was.
    order: Vec<usize>,
    round: Vec<(usize, f64)>,
    stage_rounds: usize,
    /// What a transfer takes, with all that belongs to it.
    cost: Duration,
    size: u64,
    probe: Sample,
    probes: u8,
    flat_steps: u8,
    finals: Matrix,
    /// What was not tried, and why.
    pub(super) skipped: Vec<(String, String)>,
}

impl Search {
    pub(super) fn new(bounds: Bounds, random: Random) -> Search {
        let default = Trial::new(Setting::default_for(bounds.devices), Stage::Probe);
        Search {
            size: bounds.size.unwrap_or(sizing::FIRST),
            bounds,
            random,
            stage: Stage::Probe,
            over: false,
            trials: vec![default],
            best: DEFAULT,
            matrix: Matrix::default(),
            order: vec![DEFAULT],
            round: Vec::new(),
            stage_rounds: STAGE_ROUNDS.0,
            cost: Duration::ZERO,
            probe: Sample::default(),
            probes: 0,
            flat_steps: 0,
            finals: Matrix::default(),
            skipped: Vec::new(),
        }
    }

    /// What to measure after this time; none when it is over.
    pub(super) fn next(&mut self, elapsed: Duration) -> Option<Next> {
        while !self.over {
            let limit = match self.stage {
                Stage::Duel => self.bounds.budget,
                _ => self.bounds.budget * SEARCH_PERCENT / 100,
            };
            if self.order.is_empty() {
                self.advance(limit.saturating_sub(elapsed));
                continue;
            }
            let begins = self.round.is_empty();
            let needed = if begins { self.cost * as_u32(self.order.len()) } else { Duration::ZERO };
            if elapsed + needed >= limit {
                self.time_is_over();
                continue;
            }
            let trial = *self.order.last()?;
            let setting = self.trials[trial].setting.clone();
            return Some(Next { stage: self.stage, setting, size: self.size });
        }
        None
    }

    /// What came of it, and how long it took.
    pub(super) fn measured(&mut self, result: Result<Sample, String>, took: Duration) {
        let Some(trial) = self.order.pop() else { return };
        self.cost = if self.cost.is_zero() { took } else { (self.cost * 7 + took * 3) / 10 };
        match result {
            Ok(sample) => {
                self.round.push((trial, sample.bytes_per_s.max(f64::MIN_POSITIVE)));
                self.trials[trial].samples.push(sample);
            }
            Err(why) => {
                self.skipped.push((self.trials[trial].setting.to_string(), why.clone()));
                self.trials[trial].failed = Some(why);
                self.matrix.drop_arm(trial);
            }
        }
        if self.order.is_empty() && self.stage != Stage::Probe && !self.matrix.arms.is_empty() {
            let rate = |arm: &usize| self.round.iter().find(|(trial, _)| trial == arm).map(|(_, rate)| *rate);
            let rates: Option<Vec<f64>> = self.matrix.arms.iter().map(rate).collect();
            rates.into_iter().for_each(|rates| self.matrix.push(rates));
        }
    }

    /// Whether without this setting there is nothing to compare with.
    pub(super) fn is_needed(&self, next: &Next) -> bool {
        next.setting == self.trials[DEFAULT].setting || next.stage == Stage::Probe
    }

    /// Everything that was measured at least once, or failed.
    pub(super) fn trials(&self) -> impl Iterator<Item = &Trial> {
        self.trials.iter().filter(|trial| !trial.samples.is_empty() || trial.failed.is_some())
    }

    /// The state of each device in the transfers that were compared last.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// What can be said.
    pub(super) fn found(&self) -> Found<'_> {
        found::found(self)
    }

    fn begin_round(&mut self) {
        self.round.clear();
        self.order = self.matrix.arms.clone();
        self.random.shuffle(&mut self.order);
    }

    /// A round is complete.
    fn advance(&mut self, left: Duration) {
        // of channels there is a curve with intervals, which need six values
        let rounds = if self.stage == Stage::Channels { 2 * self.stage_rounds } else { self.stage_rounds };
        let enough = self.matrix.len() >= rounds || self.matrix.arms.len() < 2;
        match self.stage {
            Stage::Probe => self.after_probe(left),
            Stage::Finals if self.matrix.arms.len() < 2 => self.decide(),
            Stage::Duel if self.matrix.arms.len() < 2 || is_certain(&self.matrix) => self.over = true,
            Stage::Finals => {
                self.narrow();
                self.begin_round();
            }
            Stage::Duel => self.begin_round(),
            _ if !enough => self.begin_round(),
            Stage::Channels => self.after_channels(),
            Stage::Congestion => self.conclude(Stage::Channels),
            Stage::ZeroCopy => self.conclude(Stage::Packet),
            Stage::Packet => self.conclude(Stage::Finals),
        }
    }

    /// What the complete rounds say is used; the rest is given up.
    fn time_is_over(&mut self) {
        self.order.clear();
        match self.stage {
            Stage::Probe | Stage::Duel => self.over = true,
            Stage::Finals => self.decide(),
            Stage::Channels => {
                self.best = self.climb();
                self.decide();
            }
            Stage::Congestion | Stage::ZeroCopy | Stage::Packet => {
                self.best = self.strongest();
                self.decide();
            }
        }
    }

    /// Larger until it takes long enough, with a pool that holds what is on its way.
    fn after_probe(&mut self, left: Duration) {
        let devices = self.bounds.devices;
        let Some(sample) = self.trials[self.best].last().cloned() else {
            self.over = true;
            return;
        };
        let rtt = sample.rtt_us.map(|rtt| rtt as f64);
        let target = sizing::target(self.bounds.budget, rtt);
        let size =
            self.bounds.size.unwrap_or_else(|| sizing::size(sample.bytes_per_s, target, devices, self.size));
        let roomy = self.roomy(self.trials[self.best].setting.clone(), sample.bytes_per_s, rtt);
        let settled = size < 2 * self.size && roomy == self.trials[self.best].setting;
        self.probes += 1;
        self.probe = sample;
        self.best = self.trial(roomy, Stage::Probe);
        if !settled && self.probes < PROBES_MAX {
            self.size = size;
            self.order = vec![self.best];
            self.round.clear();
            return;
        }
        // all but the last were of other sizes
        self.trials.iter_mut().for_each(|trial| trial.samples.clear());
        if settled {
            self.trials[self.best].samples.push(self.probe.clone());
        }
        let fits = left.as_secs_f64() / (self.cost * POINTS).as_secs_f64().max(1e-9);
        let (least, most) = STAGE_ROUNDS;
        self.stage_rounds =
            (least..most).rev().find(|&rounds| fits > rounds as f64).map_or(least, |rounds| rounds + 1);
        self.enter(Stage::Congestion);
    }

    /// The setting with a pool that this rate needs.
    fn roomy(&self, setting: Setting, rate: f64, rtt_us: Option<f64>) -> Setting {
        let needed = pool(in_flight(rate, rtt_us), self.bounds.pool_max);
        Setting { pool: setting.pool.max(needed), ..setting }
    }

    /// The trial of a setting; there is one for each.
    fn trial(&mut self, setting: Setting, stage: Stage) -> usize {
        let setting = setting.with_room_for(self.bounds.devices);
        let known = self.trials.iter().position(|trial| trial.setting == setting);
        known.unwrap_or_else(|| {
            self.trials.push(Trial::new(setting, stage));
            self.trials.len() - 1
        })
    }

    fn conclude(&mut self, next: Stage) {
        self.best = self.strongest();
        self.enter(next);
    }

    fn after_channels(&mut self) {
        let top = self.climb();
        let tried = self.trials.iter().filter(|trial| trial.stage == Stage::Channels);
        let failed = tried.clone().any(|trial| trial.failed.is_some());
        let most = self.matrix.arms.iter().map(|&arm| self.trials[arm].setting.channels).max().unwrap_or(0);
        let next = most.saturating_mul(2);
        self.best = top;
        if self.flat_steps >= FLAT_STEPS
            || failed
            || usize::from(next) > limits::CHANNELS_MAX
            || self.is_full()
        {
            return self.enter(Stage::ZeroCopy);
        }
        let roomy = self.roomy_best();
        let wider = Setting { channels: next, ..roomy.clone() };
        self.compare(Stage::Channels, [roomy, wider]);
    }

    fn roomy_best(&self) -> Setting {
        let best = &self.trials[self.best];
        match best.samples.is_empty() {
            true => best.setting.clone(),
            false => self.roomy(best.setting.clone(), best.rate(), best.rtt_us()),
        }
    }

    fn is_full(&self) -> bool {
        let best = &self.trials[self.best];
        let link = best.last().and_then(|sample| sample.link_bytes_per_s);
        link.is_some_and(|link| best.rate() >= LINK_FULL * link)
    }

    /// The next stage that has something to compare.
    fn enter(&mut self, stage: Stage) {
        if self.is_full() {
            return self.decide();
        }
        let best = self.roomy_best();
        self.grow();
        match stage {
            Stage::Congestion => {
                let others = CONGESTION.into_iter().filter(|name| *name != self.probe.congestion);
                let others: Vec<_> = others
                    .map(|name| Setting { congestion: Some(name.to_owned()), ..best.clone() })
                    .collect();
                self.compare(stage, std::iter::once(best).chain(others));
            }
            Stage::Channels => {
                self.flat_steps = 0;
                self.compare(stage, [1, 2, 4].map(|channels| Setting { channels, ..best.clone() }));
            }
            Stage::ZeroCopy if self.trials[self.best].last().unwrap_or(&self.probe).copies => {
                let why = "the kernel copies on this path anyway".to_owned();
                self.skipped.push(("zero-copy".to_owned(), why));
                self.enter(Stage::Packet);
            }
            Stage::ZeroCopy => {
                let others = [ZeroCopyWhen::Auto, ZeroCopyWhen::On, ZeroCopyWhen::Off];
                self.compare(stage, others.map(|zero_copy| Setting { zero_copy, ..best.clone() }));
            }
            Stage::Packet => {
                let others = PACKETS.map(|packet_size| Setting { packet_size, ..best.clone() });
                self.compare(stage, std::iter::once(best).chain(others));
            }
            Stage::Finals => {
                let finalists = self.finalists();
                self.compare(stage, finalists);
            }
            Stage::Probe | Stage::Duel => {}
        }
    }

    /// What a much faster setting moves in the time that a transfer should take is more.
    fn grow(&mut self) {
        let best = &self.trials[self.best];
        let target = sizing::target(self.bounds.budget, best.rtt_us());
        let size = sizing::size(best.rate(), target, self.bounds.devices, self.size);
        if self.bounds.size.is_none() && size >= 2 * self.size {
            self.size = size;
        }
    }

    fn compare(&mut self, stage: Stage, settings: impl IntoIterator<Item = Setting>) {
        let arms: Vec<usize> = settings.into_iter().map(|setting| self.trial(setting, stage)).collect();
        let mut usable: Vec<usize> = Vec::new();
        for arm in arms {
            if self.trials[arm].failed.is_none() && !usable.contains(&arm) {
                usable.push(arm);
            }
        }
        self.stage = stage;
        self.matrix = Matrix::of(usable);
        self.begin_round();
    }
}

fn as_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

//! What was measured of each setting, and how two of them compare. Pure: it must not know why a setting was tried.

use ringlift::compare::{Rounds, series};

use super::super::setting::Setting;
use super::Stage;

/// What one transfer showed.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in super::super) struct Sample {
    pub(in super::super) bytes_per_s: f64,
    /// Smoothed round trip under this load.
    pub(in super::super) rtt_us: Option<u64>,
    /// The rate of the slower network card.
    pub(in super::super) link_bytes_per_s: Option<f64>,
    /// The congestion control in effect.
    pub(in super::super) congestion: String,
    /// Sends without a copy are copied after all, or do not exist.
    pub(in super::super) copies: bool,
}

/// One setting.
#[derive(Debug, Clone)]
pub(in super::super) struct Trial {
    pub(in super::super) setting: Setting,
    /// What it was tried for first.
    pub(in super::super) stage: Stage,
    pub(in super::super) samples: Vec<Sample>,
    /// Why it cannot be used.
    pub(in super::super) failed: Option<String>,
}

impl Trial {
    pub(super) fn new(setting: Setting, stage: Stage) -> Trial {
        Trial { setting, stage, samples: Vec::new(), failed: None }
    }

    pub(in super::super) fn rates(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.bytes_per_s).collect()
    }

    pub(in super::super) fn rate(&self) -> f64 {
        series::median(&self.rates())
    }

    pub(in super::super) fn rtt_us(&self) -> Option<f64> {
        let rtts: Vec<f64> =
            self.samples.iter().filter_map(|sample| sample.rtt_us).map(|rtt| rtt as f64).collect();
        (!rtts.is_empty()).then(|| series::median(&rtts))
    }

    pub(super) fn last(&self) -> Option<&Sample> {
        self.samples.last()
    }
}

/// Complete rounds of some settings: one rate of each.
#[derive(Debug, Clone, Default)]
pub(super) struct Matrix {
    /// The settings, by their trials.
    pub(super) arms: Vec<usize>,
    rounds: Vec<Vec<f64>>,
}

impl Matrix {
    pub(super) fn of(arms: Vec<usize>) -> Matrix {
        Matrix { arms, rounds: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.rounds.len()
    }

    /// One rate of each arm, in their order.
    pub(super) fn push(&mut self, rates: Vec<f64>) {
        self.rounds.push(rates);
    }

    /// An arm that cannot be used has no place.
    pub(super) fn drop_arm(&mut self, trial: usize) {
        let Some(at) = self.arms.iter().position(|&arm| arm == trial) else { return };
        self.arms.remove(at);
        for round in &mut self.rounds {
            round.remove(at);
        }
    }

    /// The times of `new` against those of `base`, round by round: faster is below 0.
    pub(super) fn compared(&self, base: usize, new: usize) -> Rounds {
        let place = |trial| self.arms.iter().position(|&arm| arm == trial);
        let (Some(base), Some(new)) = (place(base), place(new)) else { return Rounds::new([]) };
        Rounds::new(self.rounds.iter().map(|rates| (-rates[base].ln(), -rates[new].ln())))
    }

    /// How much faster `new` is, as a logarithm: the best guess.
    pub(super) fn gain(&self, base: usize, new: usize) -> f64 {
        -self.compared(base, new).estimate()
    }
}

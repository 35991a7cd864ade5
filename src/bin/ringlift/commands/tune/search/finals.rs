//! The end of a search: the best few in turns, and what of them is worth a duel. Pure.

use super::found::{Z_NEAR, is_faster};
use super::{DEFAULT, FINALISTS, HEAT, STEP, Search, Stage};
use crate::commands::tune::setting::Setting;

impl Search {
    /// The defaults, the best, the same with half its channels, and what had the highest rates.
    pub(super) fn finalists(&self) -> Vec<Setting> {
        let usable = |trial: &usize| {
            let trial = &self.trials[*trial];
            trial.failed.is_none() && trial.samples.len() >= 2
        };
        let mut ranked: Vec<usize> = (0..self.trials.len()).filter(usable).collect();
        ranked.sort_by(|&one, &other| self.trials[other].rate().total_cmp(&self.trials[one].rate()));
        let best = &self.trials[self.best].setting;
        let half = Setting { channels: (best.channels / 2).max(1), ..best.clone() };
        let mut chosen = vec![self.trials[DEFAULT].setting.clone()];
        let ranked = ranked.into_iter().map(|trial| self.trials[trial].setting.clone());
        for setting in [best.clone(), half].into_iter().chain(ranked) {
            if chosen.len() < FINALISTS.0 && !chosen.contains(&setting) {
                chosen.push(setting);
            }
        }
        chosen
    }

    /// After each heat the slowest leave, so that there are more rounds of the others. What would win now stays.
    pub(super) fn narrow(&mut self) {
        let rounds = self.matrix.len();
        if rounds == 0 || !rounds.is_multiple_of(HEAT) {
            return;
        }
        let mut ranked = self.gains();
        ranked.retain(|(arm, _)| *arm != DEFAULT);
        let winner = self.winner();
        ranked.sort_by(|one, other| {
            (other.0 == winner).cmp(&(one.0 == winner)).then(other.1.total_cmp(&one.1))
        });
        let stay = (self.matrix.arms.len() * 2).div_ceil(3).max(FINALISTS.1) - 1;
        ranked.into_iter().skip(stay).for_each(|(arm, _)| self.matrix.drop_arm(arm));
    }

    /// Whether something is worth a duel with the defaults.
    pub(super) fn decide(&mut self) {
        if self.stage == Stage::Finals {
            self.best = self.winner();
            self.finals = std::mem::take(&mut self.matrix);
        } else if self.trials[self.best].rate() < self.trials[DEFAULT].rate() {
            // there was no time for the finals
            let measured = (0..self.trials.len()).filter(|&trial| self.trials[trial].samples.len() >= 2);
            let rate = |trial: usize| self.trials[trial].rate();
            self.best = measured.max_by(|&one, &other| rate(one).total_cmp(&rate(other))).unwrap_or(DEFAULT);
        }
        if self.best == DEFAULT || self.trials[self.best].failed.is_some() {
            self.order.clear();
            self.over = true;
            return;
        }
        let settings = [DEFAULT, self.best].map(|trial| self.trials[trial].setting.clone());
        self.compare(Stage::Duel, settings);
    }

    /// Of the finalists that are faster than the defaults, the one with the fewest channels, and then the fewest options,
    /// that is within the noise of the fastest; the defaults, if none is faster.
    fn winner(&self) -> usize {
        let faster = self.gains().into_iter().filter(|(_, gain)| *gain >= STEP);
        let Some((fastest, _)) = faster.clone().max_by(|one, other| one.1.total_cmp(&other.1)) else {
            return DEFAULT;
        };
        let near = faster.filter(|(arm, _)| {
            let rounds = self.matrix.compared(*arm, fastest);
            -rounds.estimate() < STEP || !is_faster(&rounds, Z_NEAR)
        });
        let cost = |trial: usize| {
            let setting = &self.trials[trial].setting;
            (setting.channels, setting.options().len())
        };
        let fewest =
            near.min_by(|one, other| cost(one.0).cmp(&cost(other.0)).then(other.1.total_cmp(&one.1)));
        fewest.map_or(fastest, |(arm, _)| arm)
    }

    /// Of each arm against the defaults.
    fn gains(&self) -> Vec<(usize, f64)> {
        self.matrix.arms.iter().map(|&arm| (arm, self.matrix.gain(DEFAULT, arm))).collect()
    }
}

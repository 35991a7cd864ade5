//! From one setting to a better one. Pure. What is not clearly faster is no step.

use super::found::{Z_MOVE, is_faster};
use super::{STEP, Search};

impl Search {
    /// The first arm, or the one that is clearly faster than it.
    pub(super) fn strongest(&self) -> usize {
        let arms = &self.matrix.arms;
        let Some(&first) = arms.first().filter(|_| self.matrix.len() > 0) else { return self.best };
        let gains = arms.iter().map(|&arm| (arm, self.matrix.gain(first, arm)));
        let strongest = gains.max_by(|one, other| one.1.total_cmp(&other.1));
        strongest.filter(|(arm, _)| self.is_step(first, *arm)).map_or(first, |(arm, _)| arm)
    }

    /// Whether `new` brings something.
    fn is_step(&self, base: usize, new: usize) -> bool {
        let rounds = self.matrix.compared(base, new);
        -rounds.estimate() >= STEP && is_faster(&rounds, Z_MOVE)
    }

    /// Of ever more channels, the fewest that no step improves on. Counts the steps that did not.
    pub(super) fn climb(&mut self) -> usize {
        let arms = self.matrix.arms.clone();
        let Some(&first) = arms.first().filter(|_| self.matrix.len() > 0) else { return self.best };
        arms[1..].iter().fold(first, |top, &arm| match self.is_step(top, arm) {
            true => {
                self.flat_steps = 0;
                arm
            }
            false => {
                self.flat_steps += 1;
                top
            }
        })
    }
}

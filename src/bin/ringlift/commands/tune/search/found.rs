//! What a search can say at its end, or where it was cut short. Pure.

use ringlift::compare::{Interval, Rounds, Z};

use super::super::setting::Setting;
use super::trials::Matrix;
use super::{DEFAULT, Search, Stage};

/// A winner beats the defaults with this certainty: 95 %, on one side.
const Z_BETTER: f64 = 1.645;
/// The search goes on from a setting that is faster with this certainty: 90 %. What is not is not lost: it may be among
/// the finalists.
pub(super) const Z_MOVE: f64 = 1.28;
/// What is slower with less certainty than this, 84 %, is as good: within the noise.
pub(super) const Z_NEAR: f64 = 1.0;
/// Fewer rounds decide nothing.
const ROUNDS_MIN: usize = 8;
/// Beyond this there is no doubt, however often one looks.
const Z_CERTAIN: f64 = 3.5;
/// When one looks first; then after half as many rounds again.
const LOOK_FIRST: usize = 16;

/// What to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Verdict {
    /// Something else than the defaults.
    Tuned,
    /// The defaults: nothing beat them.
    Defaults,
    /// The defaults, for lack of time to find out.
    Undecided,
}

/// The winner against the defaults.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Duel {
    pub(in super::super) contender: Setting,
    pub(in super::super) rounds: usize,
    /// Of its rate to that of the defaults.
    pub(in super::super) ratio: f64,
    /// Where that lies, with a certainty of 95 %; none where there are too few rounds.
    pub(in super::super) low: Option<f64>,
    pub(in super::super) high: Option<f64>,
}

/// The result.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Found<'a> {
    pub(in super::super) verdict: Verdict,
    pub(in super::super) setting: &'a Setting,
    pub(in super::super) duel: Option<Duel>,
    /// A gain over the defaults, as a share, that might have been overlooked; none where there are too few rounds.
    pub(in super::super) overlooked: Option<f64>,
}

pub(super) fn found(search: &Search) -> Found<'_> {
    let default = &search.trials[DEFAULT].setting;
    let (duel, overlooked, better) = match search.stage {
        Stage::Duel => of_duel(search),
        _ => (None, overlooked_in_finals(search), false),
    };
    let full = search.over && search.best == DEFAULT && search.is_full();
    let verdict = match better {
        true => Verdict::Tuned,
        false if search.over && (full || overlooked.is_some()) => Verdict::Defaults,
        false => Verdict::Undecided,
    };
    let setting = if better { &search.trials[search.best].setting } else { default };
    Found { verdict, setting, duel, overlooked }
}

fn of_duel(search: &Search) -> (Option<Duel>, Option<f64>, bool) {
    let rounds = search.matrix.compared(DEFAULT, search.best);
    let Interval { low, high } = rounds.interval(Z);
    let contender = search.trials[search.best].setting.clone();
    let factor = |shift: f64| shift.is_finite().then(|| (-shift).exp());
    let ratio = (-rounds.estimate()).exp();
    let enough = rounds.len() >= ROUNDS_MIN;
    let duel = Duel { contender, rounds: rounds.len(), ratio, low: factor(high), high: factor(low) };
    let better = enough && is_faster(&rounds, Z_BETTER);
    (Some(duel).filter(|duel| duel.rounds > 0), overlooked(&rounds), better)
}

fn overlooked_in_finals(search: &Search) -> Option<f64> {
    let rivals = search.finals.arms.iter().filter(|&&arm| arm != DEFAULT);
    let gains = rivals.map(|&arm| overlooked(&search.finals.compared(DEFAULT, arm)));
    gains.reduce(|one, other| Some(one?.max(other?))).flatten()
}

/// Whether new is faster than base with this certainty.
pub(super) fn is_faster(rounds: &Rounds, z: f64) -> bool {
    rounds.interval(z).high < 0.0
}

/// The largest gain that these rounds do not exclude.
fn overlooked(rounds: &Rounds) -> Option<f64> {
    let low = rounds.interval(Z_BETTER).low;
    (rounds.len() >= ROUNDS_MIN && low.is_finite()).then(|| (-low).exp_m1().max(0.0))
}

/// Whether the two arms of a duel differ beyond doubt. One looks now and then, and not after every round.
pub(super) fn is_certain(matrix: &Matrix) -> bool {
    let &[base, new] = matrix.arms.as_slice() else { return false };
    let rounds = matrix.len();
    let looks = std::iter::successors(Some(LOOK_FIRST), |look| Some(look + look / 2));
    if !looks.take_while(|look| *look <= rounds).any(|look| look == rounds) {
        return false;
    }
    let Interval { low, high } = matrix.compared(base, new).interval(Z_CERTAIN);
    low > 0.0 || high < 0.0
}

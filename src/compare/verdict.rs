//! From intervals to verdicts. It must not know where the rounds come from. Invariant: *worse* takes both that a change
//! for the worse is certain and that it is as large as the bar, so that noise alone hardly ever gates.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::rounds::{Interval, ROUNDS_MAX, Rounds};

/// How far from 0 z must be: twice the deviation, because up to five looks are taken.
pub const Z: f64 = 2.0;
/// Fewer rounds decide nothing.
pub const ROUNDS_MIN: usize = 10;

/// What is called worse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// The bar: 0.05 is 5 %.
    pub max_regression: f64,
    /// Calls worse only what is certain to lie above the bar, instead of what is estimated to.
    pub confident: bool,
}

impl Default for Rule {
    fn default() -> Rule {
        Rule { max_regression: 0.05, confident: false }
    }
}

/// What can be said of new against base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is certainly slower, and by at least the bar.
    Worse,
    /// It is certainly not slower by the bar.
    NoChange,
    /// It is certainly faster.
    Better,
    /// There are too few rounds for this much noise.
    CannotTell,
}

impl Verdict {
    /// The verdict over several metrics that gate: any that is worse decides, then any that cannot be told.
    pub fn of_all(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
        let verdicts: Vec<Verdict> = verdicts.into_iter().collect();
        let any = |wanted| verdicts.contains(&wanted);
        match () {
            () if any(Verdict::Worse) => Verdict::Worse,
            () if any(Verdict::CannotTell) || verdicts.is_empty() => Verdict::CannotTell,
            () if any(Verdict::Better) => Verdict::Better,
            () => Verdict::NoChange,
        }
    }

    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Worse => "worse",
            Verdict::NoChange => "no change",
            Verdict::Better => "better",
            Verdict::CannotTell => "cannot tell",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One metric, judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// The shift of new against base, as a logarithm: larger is worse.
    pub estimate: f64,
    /// Where that shift lies, at [`Z`].
    pub interval: Interval,
    /// About how many rounds in all would decide it; none when it is decided, or would take more than
    /// [`ROUNDS_MAX`].
    pub rounds_to_decide: Option<u64>,
}

/// Judges metrics that gate together. With several of them *worse* needs more evidence (Holm): otherwise each would add
/// its own false alarms.
pub fn judge(metrics: &[Rounds], rule: Rule) -> Vec<Judged> {
    let bar = rule.max_regression.ln_1p();
    let excluded = if rule.confident { bar } else { 0.0 };
    let evidence: Vec<f64> = metrics.iter().map(|rounds| rounds.evidence_above(excluded)).collect();
    let certain = holm(&evidence);
    metrics.iter().zip(certain).map(|(rounds, certain)| judge_one(rounds, rule, bar, certain)).collect()
}

fn judge_one(rounds: &Rounds, rule: Rule, bar: f64, certain: bool) -> Judged {
    let (estimate, interval) = (rounds.estimate(), rounds.interval(Z));
    let verdict = match rounds.len() >= ROUNDS_MIN {
        true if certain && estimate >= bar => Verdict::Worse,
        true if interval.high < 0.0 => Verdict::Better,
        true if interval.high < bar => Verdict::NoChange,
        _ => Verdict::CannotTell,
    };
    let undecided = verdict == Verdict::CannotTell;
    let rounds_to_decide = undecided.then(|| to_decide(rounds, rule, bar, interval)).flatten();
    Judged { verdict, estimate, interval, rounds_to_decide }
}

/// The interval shrinks with the square root of the rounds: where its end has to be decides how many are needed.
fn to_decide(rounds: &Rounds, rule: Rule, bar: f64, interval: Interval) -> Option<u64> {
    let estimate = rounds.estimate();
    let (is, needed) = match estimate >= bar {
        true => (estimate - interval.low, if rule.confident { estimate - bar } else { estimate }),
        false => (interval.high - estimate, bar - estimate),
    };
    let rounds_now = rounds.len() as f64;
    let needed = (rounds_now * (is / needed).powi(2)).ceil().max(rounds_now + 1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within the bound, and positive"
    )]
    (needed <= ROUNDS_MAX as f64).then_some((needed as u64).max(ROUNDS_MIN as u64))
}

/// Of several z, those that are certain together: the strongest must hold against all of them, the next one against one
/// fewer, and so on; the first that does not hold ends it.
pub(super) fn holm(evidence: &[f64]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..evidence.len()).collect();
    order.sort_by(|&one, &other| evidence[other].total_cmp(&evidence[one]));
    let mut certain = vec![false; evidence.len()];
    for (place, &metric) in order.iter().enumerate() {
        let among = (evidence.len() - place) as f64;
        if upper_tail(evidence[metric]) * among >= upper_tail(Z) {
            break;
        }
        certain[metric] = true;
    }
    certain
}

/// The probability that a standard normal value is larger than `z`: half, less the integral of the density, by Simpson's
/// rule.
pub(super) fn upper_tail(z: f64) -> f64 {
    const STEPS: u32 = 400;
    if z < 0.0 {
        return 1.0 - upper_tail(-z);
    }
    let end = z.min(8.0);
    let width = end / f64::from(STEPS);
    let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let weight = |step: u32| match step {
        0 | STEPS => 1.0,
        odd if odd % 2 == 1 => 4.0,
        _ => 2.0,
    };
    let sum: f64 = (0..=STEPS).map(|step| weight(step) * density(width * f64::from(step))).sum();
    (0.5 - sum * width / 3.0).max(0.0)
}

/// After how many rounds to look, of at most `rounds`: a quarter of them, three eighths, half, three quarters and all, and
/// never before [`ROUNDS_MIN`]. At 40: after 10, 15, 20, 30 and 40.
pub fn looks(rounds: usize) -> Vec<usize> {
    let rounds = rounds.max(ROUNDS_MIN);
    let mut looks: Vec<usize> =
        [2, 3, 4, 6, 8].iter().map(|eighths| (rounds * eighths).div_ceil(8)).collect();
    looks.iter_mut().for_each(|look| *look = (*look).max(ROUNDS_MIN));
    looks.dedup();
    looks
}

//! One metric over the rounds: ranks of all runs together, with the labels exchanged within rounds (*swap-rank*).
//!
//! All 2n values are ranked together, and T is the sum over the rounds of (rank of new − rank of base). If nothing
//! changed, the two labels of a round might as well be swapped, so z = T / √(sum of the squared differences within
//! rounds) is about normal. That keeps what pairing gains when the machine drifts, and what ranks gain when it has modes
//! and outliers. It must not know what the values mean; larger is worse.

/// The most rounds that are compared: the work grows with their square.
pub const ROUNDS_MAX: usize = 1000;

/// Two arms, round by round. Their values are logarithms: a difference is a ratio.
#[derive(Debug, Clone, PartialEq)]
pub struct Rounds {
    len: usize,
    /// At every shift where the order of a value of new and a value of base changes, ascending.
    curve: Vec<Point>,
    estimate: f64,
}

/// z when new is shifted by this much against base: it changes at these points alone.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    shift: f64,
    before: f64,
    at: f64,
    after: f64,
}

/// Shifts of new against base that the rounds do not contradict.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The smallest; −∞ where there are too few rounds to exclude any.
    pub low: f64,
    /// The largest; +∞ where there are too few rounds to exclude any.
    pub high: f64,
}

impl Rounds {
    /// Takes a pair (base, new) of finite logarithms for each round, and of these the first [`ROUNDS_MAX`].
    pub fn new(pairs: impl IntoIterator<Item = (f64, f64)>) -> Rounds {
        let (base, new): (Vec<f64>, Vec<f64>) = pairs.into_iter().take(ROUNDS_MAX).unzip();
        let crossings = crossings(&base, &new);
        let estimate = median_of_sorted(crossings.iter().map(|crossing| crossing.shift));
        let curve = curve(&base, &new, &crossings);
        Rounds { len: base.len(), curve, estimate }
    }

    /// How many rounds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The shift of new against base: the median of all n² differences (Hodges-Lehmann). 0 without rounds.
    pub fn estimate(&self) -> f64 {
        self.estimate
    }

    /// All shifts at which |z| ≤ `z`, and those between them.
    pub fn interval(&self, z: f64) -> Interval {
        let low = match self.curve.first() {
            Some(first) if first.before > z => {
                self.curve.iter().find(|point| point.at <= z || point.after <= z).map(|point| point.shift)
            }
            _ => None,
        };
        let high = match self.curve.last() {
            Some(last) if last.after < -z => {
                self.curve.iter().rfind(|point| point.at >= -z || point.before >= -z).map(|point| point.shift)
            }
            _ => None,
        };
        Interval { low: low.unwrap_or(f64::NEG_INFINITY), high: high.unwrap_or(f64::INFINITY) }
    }

    /// What speaks against every shift up to `shift`: the least z at any of them. It is above `z` where `interval(z)`
    /// begins above `shift`.
    pub fn evidence_above(&self, shift: f64) -> f64 {
        let Some(first) = self.curve.first() else { return 0.0 };
        let mut least = first.before;
        for point in self.curve.iter().take_while(|point| point.shift <= shift) {
            least = least.min(point.at);
            if point.shift < shift {
                least = least.min(point.after);
            }
        }
        least
    }
}

/// A shift at which the value `new` of new passes the value `base` of base, both by their rounds.
#[derive(Debug, Clone, Copy)]
struct Crossing {
    shift: f64,
    base: usize,
    new: usize,
}

fn crossings(base: &[f64], new: &[f64]) -> Vec<Crossing> {
    let pairs = (0..base.len()).flat_map(|one| (0..new.len()).map(move |other| (one, other)));
    let crossing =
        |(one, other): (usize, usize)| Crossing { shift: new[other] - base[one], base: one, new: other };
    let mut found: Vec<Crossing> = pairs.map(crossing).collect();
    found.sort_by(|one, other| one.shift.total_cmp(&other.shift));
    found
}

/// From far below, where all of new ranks above all of base, to far above. A value of new that passes one of base goes
/// down a rank, and the other goes up: each by half when they meet, and by half when they part.
fn curve(base: &[f64], new: &[f64], crossings: &[Crossing]) -> Vec<Point> {
    let mut state = Ranks::with_new_on_top(base, new);
    let meeting = crossings.chunk_by(|one, other| one.shift == other.shift);
    let step = |group: &[Crossing]| {
        let before = state.z();
        group.iter().for_each(|crossing| state.pass_half(crossing));
        let at = state.z();
        group.iter().for_each(|crossing| state.pass_half(crossing));
        Point { shift: group[0].shift, before, at, after: state.z() }
    };
    meeting.map(step).collect()
}

/// The differences of ranks within rounds, their sum, and the sum of their squares. All are multiples of a quarter, so
/// sums are exact.
struct Ranks {
    within: Vec<f64>,
    sum: f64,
    squares: f64,
}

impl Ranks {
    fn with_new_on_top(base: &[f64], new: &[f64]) -> Ranks {
        let n = base.len() as f64;
        let within: Vec<f64> = ranks(base).iter().zip(ranks(new)).map(|(base, new)| n + new - base).collect();
        let (sum, squares) = (within.iter().sum(), within.iter().map(|one| one * one).sum());
        Ranks { within, sum, squares }
    }

    fn pass_half(&mut self, crossing: &Crossing) {
        for round in [crossing.base, crossing.new] {
            let was = self.within[round];
            let is = was - 0.5;
            self.within[round] = is;
            self.sum -= 0.5;
            self.squares += is * is - was * was;
        }
    }

    fn z(&self) -> f64 {
        if self.squares > 0.0 { self.sum / self.squares.sqrt() } else { 0.0 }
    }
}

/// The rank of each value among them, from 1; equal values share the mean of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&one, &other| values[one].total_cmp(&values[other]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for equal in order.chunk_by(|&one, &other| values[one] == values[other]) {
        let rank = below as f64 + (equal.len() + 1) as f64 / 2.0;
        equal.iter().for_each(|&at| ranks[at] = rank);
        below += equal.len();
    }
    ranks
}

fn median_of_sorted(mut sorted: impl ExactSizeIterator<Item = f64>) -> f64 {
    let len = sorted.len();
    if len == 0 {
        return 0.0;
    }
    let upper = sorted.nth((len - 1) / 2);
    let (lower, odd) = (upper.unwrap_or_default(), len % 2 == 1);
    if odd { lower } else { (lower + sorted.next().unwrap_or(lower)) / 2.0 }
}

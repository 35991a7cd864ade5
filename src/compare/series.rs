//! One arm by itself: where its values lie, how noisy they are, whether they drift, whether they have two modes. It must
//! not know what the values mean; a series with nothing to say gives 0.

use crate::report::BenchFigure;

/// Above this the machine drifts: a slow run is followed by slow ones.
pub const DRIFT: f64 = 0.3;

/// The middle value, and the mean of both when there are two.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Half the distance between the quartiles, relative to the median.
pub fn spread(values: &[f64]) -> f64 {
    let median = median(values);
    if median == 0.0 { 0.0 } else { (quantile(values, 0.75) - quantile(values, 0.25)) / 2.0 / median }
}

/// The interval that holds the true median with a certainty of 95 % or more, whatever the distribution: the narrowest pair
/// of order statistics, equally far from both ends, of which a binomial distribution says so. Fewer than six values say
/// nothing.
pub fn median_interval(values: &[f64]) -> Option<(f64, f64)> {
    let sorted = sorted(values);
    let len = sorted.len();
    // the probability that fewer than `cut` values lie below the median is the sum of the first `cut` terms
    let mut term = 0.5_f64.powi(i32::try_from(len).ok()?);
    let (mut tail, mut cut) = (0.0, 0);
    while cut < len / 2 && tail + term <= 0.025 {
        tail += term;
        term *= (len - cut) as f64 / (cut + 1) as f64;
        cut += 1;
    }
    let low = cut.checked_sub(1)?;
    Some((*sorted.get(low)?, *sorted.get(len - cut)?))
}

/// Values with their median, its interval and their spread.
pub fn figure(values: Vec<f64>) -> BenchFigure {
    let interval = median_interval(&values);
    BenchFigure {
        median: median(&values),
        spread: spread(&values),
        low: interval.map(|(low, _)| low),
        high: interval.map(|(_, high)| high),
        values,
    }
}

/// Between neighbours in order it is interpolated.
fn quantile(values: &[f64], quantile: f64) -> f64 {
    let sorted = sorted(values);
    let place = quantile * sorted.len().saturating_sub(1) as f64;
    let below = sorted.get(floor(place)).copied().unwrap_or_default();
    let above = sorted.get(floor(place) + 1).copied().unwrap_or(below);
    below + (above - below) * place.fract()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a list, rounded down"
)]
fn floor(place: f64) -> usize {
    place as usize
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// The sum of the squared distances from the mean.
fn squares(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum()
}

/// The noise of one run: the standard deviation of logarithms.
pub fn noise(logs: &[f64]) -> f64 {
    if logs.len() < 2 { 0.0 } else { (squares(logs) / (logs.len() - 1) as f64).sqrt() }
}

/// The smallest change, as a logarithm, that `rounds` rounds can see where a run has this `noise`.
pub fn smallest_visible(noise: f64, rounds: usize) -> f64 {
    if rounds == 0 { f64::INFINITY } else { 3.3 * noise * (2.0 / rounds as f64).sqrt() }
}

/// How much a run tells of the next one (the autocorrelation at lag 1): above [`DRIFT`] the machine drifts.
pub fn autocorrelation(values: &[f64]) -> f64 {
    let (mean, squares) = (mean(values), squares(values));
    let products: f64 = values.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    if squares > 0.0 { products / squares } else { 0.0 }
}

/// Two modes that a series has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Modes {
    /// The mean of the lower ones.
    pub low: f64,
    /// The mean of the upper ones.
    pub high: f64,
    /// How many of the values are upper ones: 0 to 1.
    pub high_share: f64,
}

/// What is left of the variance at most when two modes are split. A normal distribution keeps 36 %, a uniform one 25 %.
/// Simulated: of 20 values of a normal distribution 0.1 % seem to have two modes, of a uniform one 2 %, of a drifting one
/// 0.3 %, while of two modes that are 25 % apart, with a deviation of 3 % inside each, 90 % are found.
const LEFT_OF_VARIANCE: f64 = 0.12;
/// A mode has at least this many per cent of the values, and at least [`MODE_MIN`] of them: fewer are outliers.
const MODE_PERCENT: usize = 15;
const MODE_MIN: usize = 3;

/// The two modes of a series, if it has more than one: if it can be split in two so that hardly any variance is left
/// inside the parts (the split that is best, as by Otsu). Says nothing of fewer than ten values.
pub fn modes(values: &[f64]) -> Option<Modes> {
    let sorted = sorted(values);
    let (len, all) = (sorted.len(), squares(&sorted));
    let least = (len * MODE_PERCENT).div_ceil(100).max(MODE_MIN);
    if len < super::ROUNDS_MIN || all <= 0.0 {
        return None;
    }
    let left = |at: usize| (squares(&sorted[..at]) + squares(&sorted[at..])) / all;
    let (at, left) =
        (least..=len - least).map(|at| (at, left(at))).min_by(|one, other| one.1.total_cmp(&other.1))?;
    let (low, high) = sorted.split_at(at);
    let modes = Modes { low: mean(low), high: mean(high), high_share: high.len() as f64 / len as f64 };
    (left < LEFT_OF_VARIANCE).then_some(modes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranks(len: u32) -> Vec<f64> {
        (1..=len).map(f64::from).collect()
    }

    #[test]
    fn the_interval_of_a_median_has_the_ranks_of_the_tables() {
        assert_eq!(median_interval(&[]), None);
        assert_eq!(median_interval(&ranks(5)), None, "even both ends are too little");
        for (len, low, high) in
            [(6, 1.0, 6.0), (8, 1.0, 8.0), (9, 2.0, 8.0), (10, 2.0, 9.0), (20, 6.0, 15.0), (40, 14.0, 27.0)]
        {
            assert_eq!(median_interval(&ranks(len)), Some((low, high)), "{len}");
        }
    }
}

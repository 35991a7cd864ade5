//! Axes: which values get a tick, and where a value lies. Pure numbers; it must not know how an axis is drawn.
//!
//! Ticks are 1, 2 or 5 times a power of ten, so that a reader can count with them.

use crate::show::units;

/// A linear axis from zero.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Linear {
    max: f64,
    ticks: Vec<f64>,
}

impl Linear {
    /// An axis whose last tick is at or above `max`, with about `most` ticks above zero.
    pub(crate) fn covering(max: f64, most: u32) -> Linear {
        let step = step(max, most);
        let last = (max / step - 1e-9).ceil().max(1.0) * step;
        Linear { max: last, ticks: ticks(step, last) }
    }

    /// An axis that ends at `max`, whether or not there is a tick.
    pub(crate) fn until(max: f64, most: u32) -> Linear {
        let max = if max > 0.0 { max } else { 1.0 };
        Linear { max, ticks: ticks(step(max, most), max) }
    }

    pub(crate) fn ticks(&self) -> &[f64] {
        &self.ticks
    }

    /// Where a value lies, from 0 to 1.
    pub(crate) fn at(&self, value: f64) -> f64 {
        (value / self.max).clamp(0.0, 1.0)
    }
}

/// The smallest nice step with which at most `most` steps reach `max`.
fn step(max: f64, most: u32) -> f64 {
    if max <= 0.0 {
        return 1.0;
    }
    let least = max / f64::from(most.max(1));
    let decade = 10f64.powf(least.log10().floor());
    // as a whole multiple, because 0.1 * 3.0 is not 0.3
    let nice = [1.0, 2.0, 5.0, 10.0].into_iter().find(|nice| nice * decade >= least * (1.0 - 1e-9));
    nice.unwrap_or(10.0) * decade
}

fn ticks(step: f64, max: f64) -> Vec<f64> {
    const MOST: u32 = 100;
    let all = (0..=MOST).map(|number| f64::from(number) * step);
    all.take_while(|tick| *tick <= max * (1.0 + 1e-9)).collect()
}

/// A logarithmic axis from a power of ten to another.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Log {
    low: f64,
    high: f64,
}

impl Log {
    /// The decades that hold all of `low` to `high`, at least one. Values below 1 count as 1.
    pub(crate) fn covering(low: f64, high: f64) -> Log {
        let (low, high) = (low.max(1.0), high.max(1.0));
        let from = low.log10().floor();
        Log { low: from, high: high.log10().ceil().max(from + 1.0) }
    }

    /// Powers of ten, at most about `most`; where there is only one decade, its fifth and its half as well.
    pub(crate) fn ticks(&self, most: u32) -> Vec<f64> {
        let decades = self.high - self.low;
        let within: &[f64] = if decades <= 1.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let every = (decades / f64::from(most.max(1))).ceil().max(1.0);
        let mut ticks = Vec::new();
        let mut decade = self.low;
        while decade <= self.high {
            ticks.extend(within.iter().map(|nice| nice * 10f64.powf(decade)));
            decade += every;
        }
        ticks.retain(|tick| tick.log10() <= self.high + 1e-9);
        ticks
    }

    /// Where a value lies, from 0 to 1.
    pub(crate) fn at(&self, value: f64) -> f64 {
        ((value.max(1.0).log10() - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

/// The axis of quantiles: every further nine has the same width.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Nines {
    most: u32,
}

impl Nines {
    const NAMES: [&'static str; 8] =
        ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %"];

    /// An axis on which the largest of `count` values has its place.
    pub(crate) fn covering(count: u64) -> Nines {
        let most = count.max(2).ilog10() + u32::from(!is_power_of_ten(count));
        Nines { most: most.clamp(1, 7) }
    }

    /// The quantiles with a tick, and how they are written.
    pub(crate) fn ticks(&self) -> Vec<(f64, &'static str)> {
        let names = Nines::NAMES.into_iter().zip(0..=self.most);
        names.map(|(name, nines)| (f64::from(nines) / f64::from(self.most), name)).collect()
    }

    /// Where a quantile of `count` values lies, from 0 to 1; the largest value is at one in `count`.
    pub(crate) fn at(&self, quantile: f64, count: u64) -> f64 {
        let beyond = (1.0 - quantile).max(1.0 / (count.max(1) as f64));
        (-beyond.log10() / f64::from(self.most)).clamp(0.0, 1.0)
    }
}

fn is_power_of_ten(count: u64) -> bool {
    count > 1 && 10u64.checked_pow(count.ilog10()) == Some(count)
}

/// A tick of times: `20 ms`, never `20.0 ms`.
pub(crate) fn time_tick(ns: f64) -> String {
    if ns <= 0.0 { "0".to_owned() } else { short(&units::time(whole(ns))) }
}

/// A tick of rates.
pub(crate) fn rate_tick(bytes_per_s: f64) -> String {
    if bytes_per_s <= 0.0 { "0".to_owned() } else { short(&units::rate(bytes_per_s)) }
}

/// A figure without zeros that say nothing.
pub(crate) fn short(figure: &str) -> String {
    let (number, unit) = figure.split_once(' ').unwrap_or((figure, ""));
    let number = match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => number,
    };
    format!("{number} {unit}").trim_end().to_owned()
}

/// The nearest whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are positive, and `as` saturates"
)]
pub(crate) fn whole(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn linear_ticks_are_nice_numbers() {
        for (max, expected) in [
            (1.0, vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
            (3.86e9, vec![0.0, 1e9, 2e9, 3e9, 4e9]),
            (278e6, vec![0.0, 1e8, 2e8, 3e8]),
            (7.0, vec![0.0, 2.0, 4.0, 6.0, 8.0]),
            (0.0, vec![0.0, 1.0]),
        ] {
            let found = Linear::covering(max, 5);
            assert_eq!(found.ticks().len(), expected.len(), "{max}: {found:?}");
            for (found, expected) in found.ticks().iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6 * (1.0 + expected), "{found} {expected}");
            }
        }
    }

    #[test]
    fn an_axis_that_ends_with_the_data_has_no_tick_beyond_it() {
        let axis = Linear::until(278e6, 5);
        assert_eq!(axis.ticks(), [0.0, 1e8, 2e8]);
        assert!((axis.at(139e6) - 0.5).abs() < 1e-9);
        assert!(Linear::until(0.0, 5).at(0.0).abs() < 1e-9);
    }

    #[test]
    fn decades_hold_their_values() {
        let axis = Log::covering(43_900.0, 4_000_000.0);
        assert_eq!(axis.ticks(6), [1e4, 1e5, 1e6, 1e7]);
        assert_eq!((axis.at(1e4), axis.at(1e7)), (0.0, 1.0));
        assert_eq!(Log::covering(0.0, 0.0).ticks(6), [1.0, 2.0, 5.0, 10.0]);
        assert!(Log::covering(1.0, 3.6e12).ticks(6).len() <= 7);
    }

    #[test]
    fn every_nine_is_as_wide_as_the_one_before() {
        let axis = Nines::covering(1024);
        let names: Vec<_> = axis.ticks().into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
        for (quantile, at) in [(0.0, 0.0), (0.9, 0.25), (0.99, 0.5), (0.999, 0.75)] {
            assert!((axis.at(quantile, 1024) - at).abs() < 1e-9);
        }
        let largest = axis.at(1.0, 1024);
        assert!(largest > 0.75 && largest < 1.0, "{largest}");
        assert_eq!(Nines::covering(1000).ticks().len(), 4);
        assert_eq!(Nines::covering(0).ticks().len(), 2);
    }

    #[test]
    fn ticks_have_no_zeros_that_say_nothing() {
        assert_eq!(time_tick(2e7), "20 ms");
        assert_eq!(time_tick(2.5e9), "2.5 s");
        assert_eq!(time_tick(0.0), "0");
        assert_eq!(rate_tick(4e9), "4 GB/s");
        assert_eq!(short("100 ms"), "100 ms");
        assert_eq!(short("10.00 GB/s"), "10 GB/s");
    }

    proptest! {
        #[test]
        fn a_linear_axis_has_few_ticks_and_covers_its_values(max in 1e-3f64..1e18, most in 1u32..12) {
            let axis = Linear::covering(max, most);
            prop_assert!(axis.ticks().len() <= most as usize + 2, "{axis:?}");
            prop_assert!(axis.ticks().len() >= 2);
            prop_assert!(axis.max >= max * (1.0 - 1e-9));
        }

        #[test]
        fn every_value_has_a_place_on_every_axis(value in any::<f64>(), low in any::<u64>(), high in any::<u64>()) {
            let places = [
                Linear::covering(high as f64, 5).at(value),
                Log::covering(low as f64, high as f64).at(value),
                Nines::covering(high).at(value, low),
            ];
            for place in places {
                prop_assert!(value.is_nan() || (0.0..=1.0).contains(&place), "{place}");
            }
            prop_assert!(Log::covering(low as f64, high as f64).ticks(6).len() <= 9);
        }
    }
}

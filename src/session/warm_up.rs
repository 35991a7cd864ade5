//! What bytes that only warm the connections up tell about the path. Pure: counts and points in time are handed in.
//!
//! Its first half pays for slow start and fills the receiver's buffers, so the second half is what counts. The invariant: the
//! number of samples is bounded, however many packets there are.

use crate::limits::WARM_UP_MAX;
use crate::session::rate::per_second;
use crate::time::Nanos;

/// Bytes between two samples, at least.
const STEP: u64 = WARM_UP_MAX / 64;

/// How fast the bytes arrived at the other side.
#[derive(Debug)]
pub(crate) struct WarmUpRate {
    /// When how many had arrived, the last look apart.
    samples: Vec<(Nanos, u64)>,
    last: (Nanos, u64),
}

impl WarmUpRate {
    /// The bytes go now, after which `arrived` had arrived before.
    pub(crate) fn new(now: Nanos, arrived: u64) -> WarmUpRate {
        WarmUpRate { samples: vec![(now, arrived)], last: (now, arrived) }
    }

    /// So many have `arrived` by now.
    pub(crate) fn observe(&mut self, now: Nanos, arrived: u64) {
        if arrived <= self.last.1 {
            return;
        }
        self.last = (now, arrived);
        if self.samples.last().is_some_and(|sample| arrived >= sample.1.saturating_add(STEP)) {
            self.samples.push(self.last);
        }
    }

    /// Bytes a second of the second half; `None` when nothing arrived, or all in no time.
    pub(crate) fn bytes_per_s(&self) -> Option<u64> {
        let (begin, end) = (self.samples.first()?, self.last);
        let half = begin.1 + (end.1 - begin.1) / 2;
        let middle = self.samples.iter().rev().find(|sample| sample.1 <= half)?;
        let (bytes, took) = (end.1 - middle.1, end.0.saturating_sub(middle.0));
        (bytes > 0 && took > 0).then(|| per_second(bytes, took))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn the_second_half_counts() {
        let mut rate = WarmUpRate::new(0, 1000);
        assert_eq!(rate.bytes_per_s(), None);
        // slow start: half of it takes nine times as long as the other half
        let half = WARM_UP_MAX / 2;
        (1..=9).for_each(|part| rate.observe(part * 10 * MS, 1000 + half * part / 9));
        (1..=9).for_each(|part| rate.observe(90 * MS + part * MS, 1000 + half + half * part / 9));
        let (found, expected) = (rate.bytes_per_s().unwrap(), per_second(half, 9 * MS));
        assert!(found.abs_diff(expected) < expected / 50, "{found} and {expected}");
    }

    #[test]
    fn few_bytes_count_as_a_whole_and_samples_are_few() {
        let mut rate = WarmUpRate::new(5, 0);
        rate.observe(5 + 10 * MS, 100);
        rate.observe(5 + 20 * MS, 100);
        assert_eq!(rate.bytes_per_s(), Some(10_000), "the time after the last one is none of theirs");
        for at in 0..WARM_UP_MAX / 4096 {
            rate.observe(30 * MS + at, at * 4096);
        }
        assert!(rate.samples.len() <= 65, "{}", rate.samples.len());
        rate.observe(Nanos::MAX, u64::MAX);
        rate.observe(0, 0);
        assert!(rate.bytes_per_s().is_some());
    }
}

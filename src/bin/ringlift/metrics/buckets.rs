//! Times counted in the buckets that every histogram of the metrics has. It must not know what was measured.
//!
//! Invariant: counts only grow, so that Prometheus can take their differences.

use hdrhistogram::Histogram;

/// Upper bounds, in nanoseconds: 1 µs to 10 s. A time that is a bound is counted below it.
pub(super) const BOUNDS_NS: [u64; 22] = bounds();

const fn bounds() -> [u64; 22] {
    let mut bounds = [0; 22];
    let (mut idx, mut decade) = (0, 1_000);
    while idx < bounds.len() {
        bounds[idx] = match idx % 3 {
            0 => decade,
            1 => decade * 5 / 2,
            _ => decade * 5,
        };
        idx += 1;
        if idx.is_multiple_of(3) {
            decade *= 10;
        }
    }
    bounds
}

/// How many times fell below which bound, and their sum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Buckets {
    /// Of each bound alone, not of the bounds before it.
    counts: [u64; BOUNDS_NS.len()],
    /// Above all bounds.
    longer: u64,
    sum_ns: u64,
}

impl Buckets {
    /// Counts one time.
    pub(super) fn observe(&mut self, ns: u64) {
        self.record(ns, 1);
        self.sum_ns = self.sum_ns.saturating_add(ns);
    }

    /// Counts all times of a histogram of nanoseconds, as precisely as it knows them.
    pub(super) fn add(&mut self, histogram: &Histogram<u64>) {
        for found in histogram.iter_recorded() {
            let (value, count) = (found.value_iterated_to(), found.count_at_value());
            // of a time that is a bound, too, the histogram knows only which of its own steps it was on
            self.record(histogram.lowest_equivalent(value), count);
            let sum = histogram.median_equivalent(value).saturating_mul(count);
            self.sum_ns = self.sum_ns.saturating_add(sum);
        }
    }

    fn record(&mut self, ns: u64, count: u64) {
        let idx = BOUNDS_NS.partition_point(|bound| *bound < ns);
        match self.counts.get_mut(idx) {
            Some(found) => *found += count,
            None => self.longer += count,
        }
    }

    /// Of each bound, how many were not longer.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        })
    }

    /// All of them.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.longer
    }

    pub(super) fn sum_ns(&self) -> u64 {
        self.sum_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_go_from_a_microsecond_to_ten_seconds() {
        assert_eq!(BOUNDS_NS[..5], [1_000, 2_500, 5_000, 10_000, 25_000]);
        assert_eq!(BOUNDS_NS[21], 10_000_000_000);
        assert!(BOUNDS_NS.is_sorted());
    }

    #[test]
    fn a_time_is_counted_below_its_bound_by_either_way() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 3_600_000_000_000, 3).unwrap();
        let (mut one, mut all) = (Buckets::default(), Buckets::default());
        for ns in BOUNDS_NS.into_iter().chain([1, 1_010, 30_000_000_000]) {
            histogram.record(ns).unwrap();
            one.observe(ns);
        }
        all.add(&histogram);
        assert_eq!((all.counts, all.longer), (one.counts, one.longer));
        assert_eq!((one.counts[0], one.counts[1], one.longer), (2, 2, 1));
        assert_eq!(all.count(), histogram.len());
        assert_eq!(all.cumulative().last(), Some(24));
        let off = all.sum_ns().abs_diff(one.sum_ns());
        assert!(off < one.sum_ns() / 1000, "{off}");
    }

    #[test]
    fn the_most_that_can_be_recorded_is_counted() {
        let mut buckets = Buckets::default();
        buckets.observe(u64::MAX);
        buckets.observe(u64::MAX);
        assert_eq!((buckets.longer, buckets.sum_ns()), (2, u64::MAX));
    }
}

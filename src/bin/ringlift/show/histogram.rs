//! A histogram of times or sizes drawn in characters: one row for each third of a decade, a bar for its share.

use hdrhistogram::Histogram;

use crate::show::units::{bytes, time};

/// Columns of the longest bar.
const BAR_MAX: usize = 48;

/// Draws the nanoseconds in `histogram`; an empty string if there are none.
pub(crate) fn draw(title: &str, histogram: &Histogram<u64>, unicode: bool) -> String {
    draw_in(&TIMES, title, histogram, unicode)
}

/// Draws the nanoseconds that reads took; an empty string if there are none.
pub(crate) fn draw_reads(title: &str, histogram: &Histogram<u64>, unicode: bool) -> String {
    draw_in(&READS, title, histogram, unicode)
}

/// Draws the bytes in `histogram`; an empty string if there are none.
pub(crate) fn draw_sizes(title: &str, histogram: &Histogram<u64>, unicode: bool) -> String {
    draw_in(&SIZES, title, histogram, unicode)
}

/// How values are written: the units of bucket bounds, the largest first, and of the figures between them.
struct Scale {
    bounds: [(u64, &'static str); 4],
    figure: fn(u64) -> String,
    /// What is counted.
    what: &'static str,
}

const TIMES: Scale = Scale {
    bounds: [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"), (1, "ns")],
    figure: time,
    what: "packets",
};
const READS: Scale = Scale { what: "reads", ..TIMES };
const SIZES: Scale = Scale {
    bounds: [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB"), (1, "B")],
    figure: bytes,
    what: "packets",
};

fn draw_in(scale: &Scale, title: &str, histogram: &Histogram<u64>, unicode: bool) -> String {
    let buckets = buckets(histogram);
    let Some(most) = buckets.iter().map(|bucket| bucket.count).max() else {
        return String::new();
    };
    let total = histogram.len();
    let mut text = format!("{title}: {total} {}\n", scale.what);
    for bucket in &buckets {
        let bar = bar(bucket.count, most, unicode);
        let share = bucket.count as f64 * 100.0 / total as f64;
        let (low, high) = (scale.bound(bucket.low), scale.bound(bucket.high));
        let row = format!("{low:>6} .. {high:>6}  {:>9} {share:>5.1} %  {bar}", bucket.count);
        text += row.trim_end();
        text.push('\n');
    }
    let at = |quantile| (scale.figure)(histogram.value_at_quantile(quantile));
    let (p50, p90, p99, p999) = (at(0.5), at(0.9), at(0.99), at(0.999));
    text + &format!(
        "p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {}\n",
        (scale.figure)(histogram.max())
    )
}

impl Scale {
    /// A bucket's bound: never a fraction.
    fn bound(&self, value: u64) -> String {
        let [.., smallest] = self.bounds;
        let (unit, name) = self.bounds.into_iter().find(|(unit, _)| value >= *unit).unwrap_or(smallest);
        format!("{} {name}", value / unit)
    }
}

/// From `low` to just below `high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket {
    low: u64,
    high: u64,
    count: u64,
}

/// From the first non-empty bucket to the last, including those in between.
fn buckets(histogram: &Histogram<u64>) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    for recorded in histogram.iter_recorded() {
        let value = histogram.lowest_equivalent(recorded.value_iterated_to());
        let mut bucket = buckets.pop().unwrap_or_else(|| around(value));
        while value >= bucket.high {
            buckets.push(bucket);
            bucket = around(bucket.high);
        }
        bucket.count += recorded.count_at_value();
        buckets.push(bucket);
    }
    buckets
}

/// The empty bucket that holds `value`: its bounds are 1, 2 and 5 times a power of ten.
fn around(value: u64) -> Bucket {
    let mut decade = 1u64;
    while value / decade >= 10 {
        decade *= 10;
    }
    let (low, high) = match value / decade {
        0 | 1 => (1, 2),
        2..=4 => (2, 5),
        _ => (5, 10),
    };
    let low = if value == 0 { 0 } else { decade * low };
    Bucket { low, high: decade.saturating_mul(high), count: 0 }
}

/// Its length is proportional to the share of the largest bucket; never empty for a non-empty bucket.
fn bar(count: u64, most: u64, unicode: bool) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let scaled = |steps: usize| {
        let steps = u128::from(count) * steps as u128 / u128::from(most.max(1));
        usize::try_from(steps).unwrap_or(BAR_MAX).max(usize::from(count > 0))
    };
    if !unicode {
        return "#".repeat(scaled(BAR_MAX));
    }
    let eighths = scaled(BAR_MAX * 8);
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histogram(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, ringlift::limits::LATENCY_NS_MAX, 3).unwrap();
        for value in values {
            histogram.saturating_record(*value);
        }
        histogram
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert_eq!(draw("write", &histogram(&[]), true), "");
    }

    #[test]
    fn a_row_for_each_bucket_with_empty_ones_between() {
        let drawn = draw("write", &histogram(&[1500, 1600, 1700, 1800, 12_000]), false);
        assert_eq!(
            drawn,
            "write: 5 packets
  1 us ..   2 us          4  80.0 %  ################################################
  2 us ..   5 us          0   0.0 %
  5 us ..  10 us          0   0.0 %
 10 us ..  20 us          1  20.0 %  ############
p50 1.70 us, p90 12.0 us, p99 12.0 us, p99.9 12.0 us, max 12.0 us\n"
        );
    }

    #[test]
    fn the_smallest_share_is_still_seen() {
        assert_eq!(bar(1, u64::MAX, false), "#");
        assert_eq!(bar(1, u64::MAX, true), "▏");
        assert_eq!(bar(0, 10, true), "");
        assert_eq!(bar(10, 10, true), "█".repeat(BAR_MAX));
        assert_eq!(bar(5, 10, true), "█".repeat(BAR_MAX / 2));
    }

    proptest! {
        #[test]
        fn every_packet_is_in_one_row_and_rows_join(
            values in prop::collection::vec(0..=ringlift::limits::LATENCY_NS_MAX, 1..200)
        ) {
            let buckets = buckets(&histogram(&values));
            prop_assert_eq!(buckets.iter().map(|bucket| bucket.count).sum::<u64>(), values.len() as u64);
            for pair in buckets.windows(2) {
                prop_assert_eq!(pair[0].high, pair[1].low);
            }
            prop_assert!(buckets.len() <= 40);
        }

        #[test]
        fn a_bucket_holds_its_value(value: u64) {
            let bucket = around(value);
            prop_assert!(bucket.low <= value && (value < bucket.high || bucket.high == u64::MAX));
        }
    }
}

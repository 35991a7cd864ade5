//! How long packets took: each stage as a few numbers, and whole, so that histograms of several runs can be added. It must
//! not know what was measured.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use super::quantiles::Quantiles;
use crate::limits::LATENCY_NS_MAX;

/// How long packets took, stage by stage. A side that has no part in a stage counts 0 there.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Latency {
    /// Reading a packet from the device.
    pub read: Distribution,
    /// From the end of its read until it is handed to a socket.
    pub queue: Distribution,
    /// From being handed to the socket until the socket has taken it.
    pub send: Distribution,
    /// From its arrival until it is the next packet of its device.
    pub reorder: Distribution,
    /// Writing a packet into the device.
    pub write: Distribution,
    /// From the start of the read at the source to the end of the write at the destination; counted by the receiver
    /// when both sides share a clock.
    pub end_to_end: Distribution,
}

/// A histogram of nanoseconds: in numbers, and whole. All of them are 0 when it is empty.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Distribution {
    /// Number of values.
    pub count: u64,
    /// The smallest.
    pub min: u64,
    /// The median.
    pub p50: u64,
    /// 90 % of the values are at most this.
    pub p90: u64,
    /// 99 % of the values are at most this.
    pub p99: u64,
    /// 99.9 % of the values are at most this.
    pub p999: u64,
    /// The largest.
    pub max: u64,
    /// The arithmetic mean, as precise as the histogram.
    #[serde(default)]
    pub mean: f64,
    /// The histogram itself: HdrHistogram's format V2, deflated, in base64. Absent when it is empty.
    #[serde(default)]
    pub histogram: Option<String>,
}

impl Distribution {
    pub(super) fn of(histogram: &Histogram<u64>) -> Distribution {
        // each of the looks below would search all of its 33,000 places for nothing
        if histogram.is_empty() {
            return Distribution::default();
        }
        let Quantiles { count, min, p50, p90, p99, p999, max } = Quantiles::of(histogram);
        let mean = histogram.mean();
        Distribution { count, min, p50, p90, p99, p999, max, mean, histogram: encoded(histogram) }
    }

    /// Of single values. One that is longer than a histogram holds counts as the longest.
    pub fn of_values(values: impl IntoIterator<Item = u64>) -> Distribution {
        let mut histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)
            .expect("the bounds are constants that fit together");
        values.into_iter().for_each(|value| histogram.saturating_record(value));
        Distribution::of(&histogram)
    }

    /// Of all their values together. What is no histogram is left out.
    pub(super) fn merged<'a>(parts: impl Iterator<Item = &'a Distribution>) -> Distribution {
        let mut histograms = parts.filter_map(Distribution::decode);
        let Some(mut sum) = histograms.next() else { return Distribution::default() };
        for histogram in histograms {
            // Fails only for values beyond the bounds, which are the same for all histograms of a report.
            let _ = sum.add(histogram);
        }
        Distribution::of(&sum)
    }

    /// The histogram, to be added to others. `None` when it is empty, or is none.
    pub fn decode(&self) -> Option<Histogram<u64>> {
        let bytes = STANDARD.decode(self.histogram.as_deref()?).ok()?;
        Deserializer::new().deserialize(&mut &*bytes).ok()
    }
}

fn encoded(histogram: &Histogram<u64>) -> Option<String> {
    let mut bytes = Vec::new();
    let written = V2DeflateSerializer::new().serialize(histogram, &mut bytes);
    written.ok().map(|_| STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).unwrap();
        values.into_iter().for_each(|value| histogram.saturating_record(value));
        histogram
    }

    #[test]
    fn an_empty_histogram_is_zeros_and_no_text() {
        assert_eq!(Distribution::of(&histogram([])), Distribution::default());
        assert!(Distribution::default().decode().is_none());
    }

    #[test]
    fn histograms_of_two_runs_are_added_to_that_of_both() {
        let (one, other) = (1_000..2_000, 50_000..51_500);
        let mut added = Distribution::of(&histogram(one.clone())).decode().unwrap();
        added.add(Distribution::of(&histogram(other.clone())).decode().unwrap()).unwrap();
        assert_eq!(Distribution::of(&added), Distribution::of(&histogram(one.chain(other))));
    }

    #[test]
    fn the_mean_is_that_of_the_values() {
        let found = Distribution::of(&histogram([100, 200, 600])).mean;
        assert!((found - 300.0).abs() < 1.0, "{found}");
    }

    #[test]
    fn what_is_no_histogram_is_not_taken_for_one() {
        for text in ["", "x", "AAAA", "////////////"] {
            let damaged = Distribution { histogram: Some(text.to_owned()), ..Distribution::default() };
            assert!(damaged.decode().is_none(), "{text}");
        }
    }
}

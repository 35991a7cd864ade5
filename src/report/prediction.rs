//! How long the devices were expected to stand still. It must not know how that is measured.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The downtime that the sender expected directly before its devices stopped.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Prediction {
    /// All of it that was known.
    pub downtime_ns: u64,
    /// Its parts, by name. They add up to it.
    pub made_of: BTreeMap<String, u64>,
    /// What the downtime also contains and nothing told beforehand, by name: it is not in `downtime_ns`.
    #[serde(default)]
    pub unknown: Vec<String>,
    /// Bytes that were to be moved while the devices stand still.
    #[serde(default)]
    pub left_bytes: u64,
    /// How fast they were expected to move.
    #[serde(default)]
    pub rate_bytes_per_s: u64,
    /// Where that rate is from.
    #[serde(default)]
    pub rate_from: RateFrom,
    /// There and back.
    #[serde(default)]
    pub round_trip_ns: u64,
    /// Whether the downtime was within a quarter of it; absent when the transfer did not complete.
    pub came_true: Option<bool>,
}

/// What was measured to know a path's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateFrom {
    /// The state that pre-copy moved: reading and writing it included.
    #[default]
    PreCopy,
    /// Bytes that warmed the connections up and were dropped: the network alone.
    WarmUp,
}

/// What a prediction follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Basis {
    /// Bytes that are left.
    pub(crate) left: u64,
    /// Bytes a second.
    pub(crate) rate: u64,
    pub(crate) from: RateFrom,
    pub(crate) round_trip_ns: u64,
}

/// What no one can tell before it happens.
const UNKNOWN: [&str; 2] = ["stop_ns", "load_ns"];

impl Prediction {
    /// The bytes move at that rate, and the two messages go there and back that follow: loaded, and commit and committed.
    /// What the devices need to stop and to load is not known before.
    pub(crate) fn of(Basis { left, rate, from, round_trip_ns }: Basis) -> Prediction {
        let transfer = u128::from(left) * 1_000_000_000 / u128::from(rate.max(1));
        let transfer = u64::try_from(transfer).unwrap_or(u64::MAX);
        let messages = round_trip_ns.saturating_mul(2);
        let made_of = [("transfer_ns", transfer), ("round_trips_ns", messages)];
        Prediction {
            downtime_ns: transfer.saturating_add(messages),
            made_of: made_of.map(|(name, ns)| (name.to_owned(), ns)).into(),
            unknown: UNKNOWN.map(str::to_owned).into(),
            left_bytes: left,
            rate_bytes_per_s: rate,
            rate_from: from,
            round_trip_ns,
            came_true: None,
        }
    }

    /// Compared with the downtime, if the transfer completed.
    pub(crate) fn judged(self, downtime_ns: Option<u64>) -> Prediction {
        let is_close = |downtime: u64| downtime.abs_diff(self.downtime_ns) <= self.downtime_ns / 4;
        Prediction { came_true: downtime_ns.map(is_close), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASIS: Basis =
        Basis { left: 3_000_000, rate: 1_000_000_000, from: RateFrom::WarmUp, round_trip_ns: 250_000 };

    #[test]
    fn its_parts_add_up_and_it_is_true_within_a_quarter() {
        let prediction = Prediction::of(BASIS);
        assert_eq!(prediction.downtime_ns, 3_000_000 + 500_000);
        assert_eq!(prediction.made_of.values().sum::<u64>(), prediction.downtime_ns);
        for (downtime, came_true) in
            [(2_625_000, true), (4_375_000, true), (2_624_999, false), (4_375_001, false)]
        {
            assert_eq!(prediction.clone().judged(Some(downtime)).came_true, Some(came_true), "{downtime}");
        }
        assert_eq!(prediction.judged(None).came_true, None);
    }

    #[test]
    fn no_rate_and_no_amount_overflows() {
        let most = Basis { left: u64::MAX, rate: 0, round_trip_ns: u64::MAX, ..BASIS };
        assert_eq!(Prediction::of(most).downtime_ns, u64::MAX);
    }

    #[test]
    fn one_that_an_earlier_version_wrote_can_be_read() {
        let earlier = r#"{"downtime_ns":7,"made_of":{"transfer_ns":7},"came_true":true}"#;
        let read: Prediction = serde_json::from_str(earlier).unwrap();
        assert_eq!((read.downtime_ns, read.came_true, read.rate_from), (7, Some(true), RateFrom::PreCopy));
    }
}

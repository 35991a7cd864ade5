//! How long the devices were expected to stand still. It must not know how that is estimated.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The downtime that the sender expected directly before its devices stopped.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Prediction {
    /// All of it.
    pub downtime_ns: u64,
    /// Its parts, by name. They add up to it.
    pub made_of: BTreeMap<String, u64>,
    /// Whether the downtime was within a quarter of it; absent when the transfer did not complete.
    pub came_true: Option<bool>,
}

impl Prediction {
    /// That `left` bytes move at `rate` bytes per second, and the two messages go there and back that follow: loaded, and
    /// commit and committed. What the devices need to stop and to load is not known before.
    pub(crate) fn of(left: u64, rate: u64, round_trip_us: u64) -> Prediction {
        let transfer = u128::from(left) * 1_000_000_000 / u128::from(rate.max(1));
        let transfer = u64::try_from(transfer).unwrap_or(u64::MAX);
        let messages = round_trip_us.saturating_mul(2 * 1000);
        let made_of = [("transfer_ns", transfer), ("round_trips_ns", messages)];
        Prediction {
            downtime_ns: transfer.saturating_add(messages),
            made_of: made_of.map(|(name, ns)| (name.to_owned(), ns)).into(),
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

    #[test]
    fn its_parts_add_up_and_it_is_true_within_a_quarter() {
        let prediction = Prediction::of(3_000_000, 1_000_000_000, 250);
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
        assert_eq!(Prediction::of(u64::MAX, 0, u64::MAX).downtime_ns, u64::MAX);
    }
}

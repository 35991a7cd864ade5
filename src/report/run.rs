//! What a report belongs to: the run of an experiment, the other side, and how the two clocks relate. It must not know who
//! measures what.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::since_1970;

/// Which run of an experiment a report belongs to. All of it is the caller's: nothing here changes a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunInfo {
    /// Names the run.
    pub id: String,
    /// Which of the variants that are compared.
    pub arm: Option<String>,
    /// Which repetition.
    pub round: Option<u64>,
    /// Whatever else describes it.
    pub note: BTreeMap<String, String>,
    /// When it began, in UTC: `2026-01-31T12:34:56.789Z`. The time when `run` was called where the caller sets none.
    pub started_at: String,
    /// The command as it was typed, program first; empty where there was none.
    pub command_line: Vec<String>,
}

impl RunInfo {
    /// It begins now, unless it has begun.
    pub fn begin(&mut self) {
        if self.started_at.is_empty() {
            self.started_at = rfc3339(since_1970());
        }
    }
}

/// The other side.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PeerReport {
    /// Its address and port; absent where a socket has none.
    pub address: Option<String>,
}

/// How the other side's monotonic clock relates to this side's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClockOffset {
    /// The other side's clock minus this side's.
    pub offset_ns: i64,
    /// By how much that may be wrong, either way: half the shortest round trip that was seen.
    pub error_ns: u64,
}

/// A time as RFC 3339 writes it, with milliseconds, from the nanoseconds since 1970.
fn rfc3339(since_1970_ns: u64) -> String {
    const DAY: u64 = 86_400;
    let (seconds, millis) = (since_1970_ns / 1_000_000_000, since_1970_ns / 1_000_000 % 1000);
    let (mut day, second) = (seconds / DAY, seconds % DAY);
    let is_leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z", month + 1, day + 1)
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times_are_those_that_date_prints() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.789Z"),
            (951_782_399, "2000-02-28T23:59:59.789Z"),
            (951_868_799, "2000-02-29T23:59:59.789Z"),
            (951_868_800, "2000-03-01T00:00:00.789Z"),
            (1_769_862_896, "2026-01-31T12:34:56.789Z"),
            (4_107_542_399, "2100-02-28T23:59:59.789Z"),
            (4_107_542_400, "2100-03-01T00:00:00.789Z"),
            (18_446_744_072, "2554-07-21T23:34:32.789Z"),
        ] {
            assert_eq!(rfc3339(seconds * 1_000_000_000 + 789_999_999), text);
        }
    }
}

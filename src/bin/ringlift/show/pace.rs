//! How far a transfer has come, as a line every now and then for a log that has no bar. Must not print or read a clock: it gets the
//! times from events. Between two lines of a transfer lies at least [`EVERY`].

use std::time::Duration;

use crate::show::units::{bytes, rate, time};

/// From one line to the next.
pub(crate) const EVERY: Duration = Duration::from_secs(10);

/// What the last line of a transfer told.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    at: Duration,
    moved: u64,
}

impl Pace {
    /// The line for `moved` bytes after `elapsed`, if one is due. `phase` is empty when none has begun.
    pub(crate) fn line(
        &mut self,
        elapsed: Duration,
        phase: &str,
        moved: u64,
        of: Option<u64>,
    ) -> Option<String> {
        let took = elapsed.checked_sub(self.at).filter(|took| *took >= EVERY)?;
        // A transfer that begins anew has moved less than the one before.
        let speed = moved.saturating_sub(self.moved) as f64 / took.as_secs_f64();
        *self = Pace { at: elapsed, moved };
        let after = time(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
        // An estimate that proved too low says nothing.
        let of = of.filter(|of| *of >= moved).map_or_else(String::new, |of| format!(" of {}", bytes(of)));
        let phase = if phase.is_empty() { String::new() } else { format!("{phase}, ") };
        Some(format!("after {after}: {phase}{}{of}, {}", bytes(moved), rate(speed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_line_is_due_only_when_the_interval_is_over() {
        let mut pace = Pace::default();
        assert_eq!(pace.line(s(9), "stop-copy", GIB, None), None);
        assert!(pace.line(s(10), "stop-copy", GIB, None).is_some());
        assert_eq!(pace.line(s(19), "stop-copy", 2 * GIB, None), None);
        assert!(pace.line(s(21), "stop-copy", 2 * GIB, None).is_some());
    }

    #[test]
    fn the_rate_is_that_of_the_interval_and_not_of_the_whole_transfer() {
        let mut pace = Pace::default();
        let first = pace.line(s(10), "stop-copy", 10_000_000_000, None).unwrap();
        assert_eq!(first, "after 10.0 s: stop-copy, 9.31 GiB, 1.00 GB/s");
        let second = pace.line(s(20), "stop-copy", 10_000_000_000, None).unwrap();
        assert_eq!(second, "after 20.0 s: stop-copy, 9.31 GiB, 0.00 kB/s");
    }

    #[test]
    fn an_estimate_is_told_until_it_proves_too_low() {
        let mut pace = Pace::default();
        assert!(
            pace.line(s(10), "", GIB, Some(2 * GIB))
                .unwrap()
                .starts_with("after 10.0 s: 1.00 GiB of 2.00 GiB, ")
        );
        assert!(pace.line(s(20), "", 3 * GIB, Some(2 * GIB)).unwrap().contains(": 3.00 GiB, "));
    }
}

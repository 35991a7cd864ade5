//! What a receiver tells of transfers that are many, short and discarded: counts, in place of tables. It must not know
//! what was moved. The invariant: a log gets a line every [`EVERY`] at most for those that came to their end, and three of a
//! kind for those that failed; all of them are in the totals.

use std::time::{Duration, Instant};

use ringlift::error::{Error, ErrorCode};
use ringlift::{Finished, Outcome};

use crate::show::pace::EVERY;
use crate::show::repeats::Repeats;
use crate::show::units::{bytes, time};
use crate::show::{output, warnings};

/// Transfers so far.
pub(crate) struct Tally {
    began: Instant,
    failures: Repeats,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    complete: u64,
    failed: u64,
    bytes: u64,
    told_at: Option<Duration>,
}

impl Tally {
    #[expect(clippy::disallowed_methods, reason = "the command has no ring that has the clock")]
    pub(crate) fn new() -> Tally {
        Tally { began: Instant::now(), failures: Repeats::default(), counts: Counts::default() }
    }

    /// Counts a transfer, and tells what is due.
    pub(crate) fn count(&mut self, finished: &Finished) {
        if matches!(finished.error, Some(Error::Cancelled)) && finished.report.peer.is_none() {
            // nobody came
            return;
        }
        let now = self.began.elapsed();
        self.failures.ended(now);
        if let Some(error) = &finished.error
            && self.failures.admits(ErrorCode::from(error), now)
        {
            warnings::error(error);
        }
        self.counts.add(finished.outcome, finished.report.bytes);
        self.counts.line(now).iter().for_each(|line| output::say(line));
    }

    /// What it all came to.
    pub(crate) fn totals(&self) -> String {
        self.counts.totals(self.began.elapsed())
    }
}

impl Counts {
    fn add(&mut self, outcome: Outcome, moved: u64) {
        self.bytes += moved;
        match outcome {
            Outcome::Complete => self.complete += 1,
            _ => self.failed += 1,
        }
    }

    /// The first transfer is told of immediately: whoever watches sees that it works.
    fn line(&mut self, now: Duration) -> Option<String> {
        if self.complete == 0 || self.told_at.is_some_and(|told_at| now < told_at + EVERY) {
            return None;
        }
        self.told_at = Some(now);
        Some(self.totals(now))
    }

    fn totals(&self, now: Duration) -> String {
        let Counts { complete, failed, .. } = self;
        let plural = if *complete == 1 { "" } else { "s" };
        let after = time(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        format!(
            "after {after}: {complete} transfer{plural}, {} discarded; {failed} failed",
            bytes(self.bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_transfer_is_told_of_and_then_all_of_ten_seconds_together() {
        let mut counts = Counts::default();
        assert_eq!(counts.line(s(1)), None, "there is nothing to tell");
        counts.add(Outcome::Complete, 1 << 30);
        let first = counts.line(s(2)).expect("it is the first");
        assert_eq!(first, "after 2.00 s: 1 transfer, 1.00 GiB discarded; 0 failed");
        (0..100).for_each(|_| counts.add(Outcome::Complete, 1 << 30));
        counts.add(Outcome::Aborted, 0);
        assert_eq!(counts.line(s(11)), None);
        let second = counts.line(s(12)).expect("ten seconds are over");
        assert_eq!(second, "after 12.0 s: 101 transfers, 101.00 GiB discarded; 1 failed");
    }

    #[test]
    fn a_receiver_that_only_fails_is_silent_until_its_totals() {
        let mut counts = Counts::default();
        counts.add(Outcome::Aborted, 0);
        assert_eq!(counts.line(s(60)), None);
        assert_eq!(counts.totals(s(60)), "after 60.0 s: 0 transfers, 0 B discarded; 1 failed");
    }
}

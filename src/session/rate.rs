//! How fast a link is, measured while it had something to carry. Pure: counts and points in time are handed in.
//!
//! It must not know what a byte counts as: whoever measures counts what has arrived at the other side, so that a burst into
//! the sockets' buffers is none. The invariant: time in which nothing was there to be carried never makes a link slower
//! that was measured while it was full.

use std::collections::VecDeque;

use crate::time::Nanos;

/// Length of one sample.
const SAMPLE: Nanos = 100_000_000;
/// Samples that count: about a second of being full.
const SAMPLES_MAX: usize = 10;

/// The rate of a link.
#[derive(Debug, Default)]
pub(crate) struct LinkRate {
    current: Option<Current>,
    /// Bytes and time of the last samples in which there was always something to carry.
    full: VecDeque<(u64, Nanos)>,
    /// The same of those in which there was not: the link is at least so fast.
    partial: VecDeque<(u64, Nanos)>,
}

/// The sample that is being taken.
#[derive(Debug, Clone, Copy)]
struct Current {
    since: Nanos,
    /// Bytes that had arrived by then.
    arrived: u64,
    /// There was always something to carry.
    is_full: bool,
}

impl LinkRate {
    /// Something is on its way or waits to be sent, or nothing `is_busy`. Asks how much has `arrived` in all only where a
    /// sample begins or ends. True when there is a new one.
    pub(crate) fn observe(&mut self, now: Nanos, is_busy: bool, arrived: impl FnOnce() -> u64) -> bool {
        match &mut self.current {
            None if is_busy => {
                self.current = Some(Current { since: now, arrived: arrived(), is_full: true });
                false
            }
            None => false,
            Some(current) => {
                current.is_full &= is_busy;
                let (sample, took) = (*current, now.saturating_sub(current.since));
                if took < SAMPLE {
                    return false;
                }
                let arrived = arrived().max(sample.arrived);
                let kept = if sample.is_full { &mut self.full } else { &mut self.partial };
                if kept.len() == SAMPLES_MAX {
                    kept.pop_front();
                }
                kept.push_back((arrived - sample.arrived, took));
                self.current = is_busy.then_some(Current { since: now, arrived, is_full: true });
                true
            }
        }
    }

    /// Bytes a second; 0 while nothing was measured.
    pub(crate) fn bytes_per_s(&self) -> u64 {
        let sum = self.full.iter().fold((0, 0), |(bytes, time), sample| (bytes + sample.0, time + sample.1));
        match sum {
            (_, 0) => self.partial.iter().map(|&(bytes, time)| per_second(bytes, time)).max().unwrap_or(0),
            (bytes, time) => per_second(bytes, time),
        }
    }

    /// Bytes that the link carries in `time`.
    pub(crate) fn bytes_in(&self, time: Nanos) -> u64 {
        share(self.bytes_per_s(), time, 1_000_000_000)
    }
}

/// Bytes a second.
pub(crate) fn per_second(bytes: u64, time: Nanos) -> u64 {
    share(bytes, 1_000_000_000, time.max(1))
}

/// `value * part / whole`, at most as much as a number holds.
fn share(value: u64, part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(value) * u128::from(part) / u128::from(whole)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    /// Lets time pass in steps of a millisecond, with so many bytes in each.
    fn run(rate: &mut LinkRate, clock: &mut (Nanos, u64), ms: u64, bytes: u64, is_busy: bool) {
        for _ in 0..ms {
            clock.0 += MS;
            clock.1 += bytes;
            rate.observe(clock.0, is_busy, || clock.1);
        }
    }

    #[test]
    fn a_full_link_is_as_fast_as_it_was_in_about_the_last_second() {
        let (mut link, mut clock) = (LinkRate::default(), (0, 0));
        assert_eq!((link.bytes_per_s(), link.bytes_in(1)), (0, 0));
        run(&mut link, &mut clock, 1001, 500, true);
        assert_eq!(link.bytes_per_s(), 500_000);
        assert_eq!(link.bytes_in(300 * MS), 150_000);
        run(&mut link, &mut clock, 500, 1500, true);
        assert!((900_000..1_100_000).contains(&link.bytes_per_s()), "{}", link.bytes_per_s());
        run(&mut link, &mut clock, 600, 1500, true);
        assert_eq!(link.bytes_per_s(), 1_500_000);
    }

    #[test]
    fn idle_time_does_not_make_a_link_slower() {
        let (mut link, mut clock) = (LinkRate::default(), (0, 0));
        run(&mut link, &mut clock, 400, 1000, true);
        run(&mut link, &mut clock, 60_000, 0, false);
        assert_eq!(link.bytes_per_s(), 1_000_000);
        // a device that gives little
        for _ in 0..100 {
            run(&mut link, &mut clock, 1, 1000, true);
            run(&mut link, &mut clock, 999, 0, false);
        }
        assert_eq!(link.bytes_per_s(), 1_000_000);
    }

    #[test]
    fn a_link_that_was_never_full_is_at_least_as_fast_as_it_was_once() {
        let (mut link, mut clock) = (LinkRate::default(), (0, 0));
        for bytes in [1000, 5000, 2000] {
            run(&mut link, &mut clock, 20, bytes, true);
            run(&mut link, &mut clock, 300, 0, false);
        }
        // 100,000 bytes in a tenth of a second, but for the first step, which begins a sample
        assert!((900_000..1_000_000).contains(&link.bytes_per_s()), "{}", link.bytes_per_s());
        run(&mut link, &mut clock, 101, 300, true);
        assert_eq!(link.bytes_per_s(), 300_000, "what was measured counts for more");
    }

    #[test]
    fn a_burst_that_has_not_arrived_is_no_rate() {
        let (mut link, mut clock) = (LinkRate::default(), (0, 0));
        // the sockets take a hundred times as much, of which this arrives
        run(&mut link, &mut clock, 101, 10, true);
        assert_eq!(link.bytes_per_s(), 10_000);
    }

    #[test]
    fn any_numbers_are_a_rate() {
        let mut link = LinkRate::default();
        link.observe(0, true, || 7);
        link.observe(SAMPLE, true, || 3);
        assert_eq!(link.bytes_per_s(), 0, "what was counted cannot become less");
        link.observe(Nanos::MAX, true, || u64::MAX);
        assert!(link.bytes_in(Nanos::MAX) > 0);
    }
}

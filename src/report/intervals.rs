//! What moved when, in a bounded number of intervals. Pure: it is told what was counted so far, and keeps the differences.
//!
//! Memory is taken once. When all places are full, neighbours become one and the intervals twice as long, so that a
//! transfer of an hour has as many as one of a minute.

use super::interval::Interval;
use super::open_interval::{Closed, Counted, OpenInterval};
use crate::limits::{INTERVAL, INTERVALS_MAX};
use crate::time::{Nanos, nanos};

/// The intervals of one side of one transfer.
#[derive(Debug)]
pub(crate) struct Intervals {
    width: Nanos,
    open: OpenInterval,
    closed: Vec<Closed>,
    /// Of each interval, the bytes of its devices and then those of its channels.
    bytes: Vec<u64>,
}

impl Default for Intervals {
    /// None: nothing is counted yet.
    fn default() -> Intervals {
        Intervals {
            width: nanos(INTERVAL),
            open: OpenInterval::default(),
            closed: Vec::new(),
            bytes: Vec::new(),
        }
    }
}

impl Intervals {
    /// The first one begins.
    pub(crate) fn begin(&mut self, now: Nanos, devices: usize, channels: usize, counted: Counted) {
        *self = Intervals {
            open: OpenInterval::begin(now, devices, channels, counted),
            closed: Vec::with_capacity(INTERVALS_MAX),
            bytes: Vec::with_capacity(INTERVALS_MAX * (devices + channels)),
            ..Intervals::default()
        };
    }

    /// Whether the open one has lasted long enough.
    pub(crate) fn is_due(&self, now: Nanos) -> bool {
        now >= self.open.begun().saturating_add(self.width)
    }

    /// The open one ends, and the next begins: `bytes` is what each device and then each channel has moved so far.
    pub(crate) fn close(&mut self, now: Nanos, counted: Counted, bytes: impl Iterator<Item = u64>) {
        if self.closed.len() == INTERVALS_MAX && now > self.open.begun() {
            self.merge();
        }
        let Intervals { open, closed, bytes: kept, .. } = self;
        closed.extend(open.close(now, counted, bytes, |moved| kept.push(moved)));
    }

    /// Each two neighbours become one.
    fn merge(&mut self) {
        let (_, columns) = self.open.columns();
        for pair in 0..self.closed.len() / 2 {
            let (one, other) = (self.closed[2 * pair], self.closed[2 * pair + 1]);
            self.closed[pair] =
                Closed { begin: one.begin, end: other.end, counted: both(one.counted, other.counted) };
            for column in 0..columns {
                let at = |interval: usize| interval * columns + column;
                self.bytes[at(pair)] = self.bytes[at(2 * pair)] + self.bytes[at(2 * pair + 1)];
            }
        }
        self.closed.truncate(self.closed.len() / 2);
        self.bytes.truncate(self.closed.len() * columns);
        self.width *= 2;
    }

    /// The most bytes per second that all channels moved in an interval of a tenth of the usual length or more; `None` when
    /// nothing moved yet.
    pub(crate) fn best_rate(&self) -> Option<u64> {
        let (devices, columns) = self.open.columns();
        let rate = |(closed, bytes): (&Closed, &[u64])| {
            let took = closed.end - closed.begin;
            let moved: u64 = bytes[devices..].iter().sum();
            let rate = u128::from(moved) * 1_000_000_000 / u128::from(took);
            (took >= nanos(INTERVAL) / 10 && moved > 0).then(|| u64::try_from(rate).unwrap_or(u64::MAX))
        };
        self.closed.iter().zip(self.bytes.chunks_exact(columns.max(1))).filter_map(rate).max()
    }

    /// As the report has them, counted from `started_at`.
    pub(crate) fn take(&mut self, started_at: Nanos) -> Vec<Interval> {
        let Intervals { closed, open, bytes, .. } = std::mem::take(self);
        let (devices, columns) = open.columns();
        let rows = bytes.chunks_exact(columns.max(1));
        closed.iter().zip(rows).map(|(closed, bytes)| closed.interval(bytes, devices, started_at)).collect()
    }
}

/// What two neighbours come to.
fn both(one: Counted, other: Counted) -> Counted {
    Counted {
        credit_stall_ns: one.credit_stall_ns + other.credit_stall_ns,
        pool_stall_ns: one.pool_stall_ns + other.pool_stall_ns,
        cpu_ns: one.cpu_ns + other.cpu_ns,
        retransmits: one.retransmits + other.retransmits,
        in_flight_bytes: one.in_flight_bytes.max(other.in_flight_bytes),
        reorder_depth: one.reorder_depth.max(other.reorder_depth),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDTH: Nanos = 100_000_000;

    #[test]
    fn nothing_is_due_before_the_first_one_begins() {
        let mut intervals = Intervals::default();
        assert!(!intervals.is_due(Nanos::MAX - 1));
        intervals.close(7, Counted::default(), std::iter::empty());
        assert_eq!(intervals.take(0), []);
        assert_eq!(intervals.best_rate(), None);
    }

    #[test]
    fn an_interval_has_what_was_counted_since_the_one_before() {
        let mut intervals = Intervals::default();
        intervals.begin(1000, 1, 2, Counted { cpu_ns: 5, ..Counted::default() });
        assert!(!intervals.is_due(1000 + WIDTH - 1) && intervals.is_due(1000 + WIDTH));
        intervals.close(
            1000 + WIDTH,
            Counted { cpu_ns: 9, reorder_depth: 3, ..Counted::default() },
            [7, 3, 4].into_iter(),
        );
        intervals.close(
            1000 + 2 * WIDTH,
            Counted { cpu_ns: 9, ..Counted::default() },
            [10, 4, 6].into_iter(),
        );
        assert_eq!(intervals.best_rate(), Some(70));
        let found = intervals.take(1000);
        assert_eq!((found[0].begin_ns, found[0].end_ns, found[1].end_ns), (0, WIDTH, 2 * WIDTH));
        assert_eq!((&found[0].device_bytes[..], &found[0].channel_bytes[..]), (&[7][..], &[3, 4][..]));
        assert_eq!((&found[1].device_bytes[..], &found[1].channel_bytes[..]), (&[3][..], &[1, 2][..]));
        assert_eq!(
            (found[0].cpu_ns, found[1].cpu_ns, found[0].reorder_depth, found[1].reorder_depth),
            (4, 0, 3, 0)
        );
    }

    proptest! {
        /// However long it takes, intervals follow one another without gaps, are few, and lose nothing.
        #[test]
        fn neighbours_become_one_and_nothing_is_lost(closes in 1_u64..5000) {
            let mut intervals = Intervals::default();
            intervals.begin(0, 1, 1, Counted::default());
            let (mut now, mut places) = (0, 0);
            for number in 1..=closes {
                now += WIDTH * (1 + number % 3);
                if intervals.is_due(now) {
                    places = places.max(intervals.bytes.capacity());
                    let counted = Counted { cpu_ns: 3 * now, retransmits: number, reorder_depth: number, ..Counted::default() };
                    intervals.close(now, counted, [5 * now, 7 * now].into_iter());
                }
            }
            let counted = Counted { cpu_ns: 3 * now, retransmits: closes, reorder_depth: closes, ..Counted::default() };
            intervals.close(now, counted, [5 * now, 7 * now].into_iter());
            prop_assert_eq!(intervals.bytes.capacity(), 2 * INTERVALS_MAX, "no memory is taken later");
            let found = intervals.take(0);
            prop_assert!(found.len() <= INTERVALS_MAX && (closes < 600 || found.len() >= INTERVALS_MAX / 3));
            prop_assert!(found.windows(2).all(|pair| pair[0].end_ns == pair[1].begin_ns));
            prop_assert_eq!((found[0].begin_ns, found[found.len() - 1].end_ns), (0, now));
            let sum = |count: fn(&Interval) -> u64| found.iter().map(count).sum::<u64>();
            prop_assert_eq!(sum(|interval| interval.device_bytes[0]), 5 * now);
            prop_assert_eq!(sum(|interval| interval.channel_bytes[0]), 7 * now);
            prop_assert_eq!((sum(|interval| interval.cpu_ns), sum(|interval| interval.retransmits)), (3 * now, closes));
            prop_assert_eq!(found.iter().map(|interval| interval.reorder_depth).max(), Some(closes));
        }
    }
}

//! When the transfers of an open loop start, and how late they were. Pure: the clock is a parameter.
//!
//! Invariant: a transfer's response counts from when it was due, and a transfer that is due is carried out, however late.

use std::time::Duration;

/// Time since the schedule began, and waiting.
pub(super) trait Clock {
    /// Why a wait ended early.
    type Ended;

    fn now(&self) -> Duration;

    fn wait(&self, until: Duration) -> Result<(), Self::Ended>;
}

/// Transfers at a steady rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    per_s: f64,
    rounds: u16,
    until: Option<Duration>,
}

/// One transfer, since the schedule began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) due: Duration,
    pub(super) begun: Duration,
    pub(super) ended: Duration,
}

/// The transfers of a schedule, as many as there were.
#[derive(Debug, Clone, Copy)]
pub(super) struct Followed<'a> {
    per_s: f64,
    times: &'a [Times],
}

impl Schedule {
    /// At most `rounds` transfers, of which those after the first are due before `until`.
    pub(super) fn new(per_s: f64, rounds: u16, until: Option<Duration>) -> Schedule {
        Schedule { per_s, rounds, until }
    }

    /// Each counted from the begin, so that no error adds up.
    fn due(self) -> impl Iterator<Item = Duration> {
        let due = move |k: u16| Duration::from_secs_f64(f64::from(k) / self.per_s);
        let is_wanted = move |due: &Duration| due.is_zero() || self.until.is_none_or(|until| *due < until);
        (0..self.rounds).map(due).take_while(is_wanted)
    }

    /// Carries out one transfer after the other: each when it is due, or when the one before it has ended, if that is
    /// later. What was carried out until the end, or until one failed.
    pub(super) fn follow<C: Clock>(
        self,
        clock: &C,
        mut transfer: impl FnMut() -> Result<(), C::Ended>,
    ) -> (Vec<Times>, Result<(), C::Ended>) {
        let mut times = Vec::new();
        for due in self.due() {
            if let Err(ended) = clock.wait(due) {
                return (times, Err(ended));
            }
            let begun = clock.now();
            if let Err(ended) = transfer() {
                return (times, Err(ended));
            }
            times.push(Times { due, begun, ended: clock.now() });
        }
        (times, Ok(()))
    }
}

impl Times {
    /// From when it was due to its end.
    pub(super) fn response(self) -> Duration {
        self.ended.saturating_sub(self.due)
    }

    /// From its start to its end.
    pub(super) fn service(self) -> Duration {
        self.ended.saturating_sub(self.begun)
    }
}

impl<'a> Followed<'a> {
    pub(super) fn new(per_s: f64, times: &'a [Times]) -> Followed<'a> {
        Followed { per_s, times }
    }

    /// Starts per second. One transfer has no rate.
    pub(super) fn achieved_per_s(self) -> Option<f64> {
        let (first, last) = (self.times.first()?, self.times.last()?);
        let took = last.begun.saturating_sub(first.begun).as_secs_f64();
        (took > 0.0).then(|| (self.times.len() - 1) as f64 / took)
    }

    /// Whether the last one began before another one would have been due: lateness that is made up for is no failure.
    pub(super) fn is_kept(self) -> bool {
        self.times
            .last()
            .is_none_or(|last| last.begun.saturating_sub(last.due).as_secs_f64() * self.per_s < 1.0)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Time passes in transfers and while waiting, and nowhere else.
    #[derive(Default)]
    struct Virtual(Cell<Duration>);

    impl Clock for Virtual {
        type Ended = ();

        fn now(&self) -> Duration {
            self.0.get()
        }

        fn wait(&self, until: Duration) -> Result<(), ()> {
            self.0.set(self.now().max(until));
            Ok(())
        }
    }

    /// What became of transfers that take as long as `service` says of each.
    fn followed(schedule: Schedule, service: impl Fn(usize) -> Duration) -> Vec<Times> {
        let (clock, mut count) = (Virtual::default(), 0);
        let (times, ended) = schedule.follow(&clock, || {
            clock.0.set(clock.now() + service(count));
            count += 1;
            Ok(())
        });
        assert_eq!(ended, Ok(()));
        times
    }

    #[test]
    fn transfers_that_are_fast_enough_start_when_they_are_due() {
        let times = followed(Schedule::new(10.0, 50, None), |_| 30 * MS);
        assert_eq!(times.len(), 50);
        for (time, k) in times.iter().zip(0..) {
            assert_eq!((time.due, time.begun), (k * 100 * MS, k * 100 * MS));
            assert_eq!((time.response(), time.service()), (30 * MS, 30 * MS));
        }
        let followed = Followed::new(10.0, &times);
        assert!(followed.is_kept() && (followed.achieved_per_s().unwrap() - 10.0).abs() < 1e-9);
    }

    #[test]
    fn a_stall_of_two_seconds_shows_in_the_response_of_those_that_follow_and_not_in_their_service() {
        let stall = |k| if k == 10 { 2000 * MS } else { 10 * MS };
        let times = followed(Schedule::new(10.0, 100, None), stall);
        assert_eq!(times[10].response(), 2000 * MS);
        // 19 are due while it lasts; each that is caught up saves 90 ms of 1.9 s, so 21 of them are late
        for (late, time) in (0..).zip(&times[11..=31]) {
            assert_eq!(time.service(), 10 * MS);
            assert_eq!(time.response(), 1910 * MS - late * 90 * MS, "{late}");
        }
        for time in times[..10].iter().chain(&times[33..]) {
            assert_eq!((time.response(), time.service()), (10 * MS, 10 * MS));
        }
        assert!(Followed::new(10.0, &times).is_kept(), "it was made up for");
    }

    #[test]
    fn a_rate_that_is_too_high_is_not_kept_and_no_transfer_is_left_out() {
        let times = followed(Schedule::new(20.0, 100, None), |_| 100 * MS);
        assert_eq!(times.len(), 100);
        assert_eq!(times[99].response(), 99 * 50 * MS + 100 * MS, "it falls behind by 50 ms each time");
        let followed = Followed::new(20.0, &times);
        assert!(!followed.is_kept() && (followed.achieved_per_s().unwrap() - 10.0).abs() < 1e-9);
    }

    #[test]
    fn the_time_limit_bounds_what_is_due_and_never_what_is_late() {
        let limited = |until| Schedule::new(10.0, 100, Some(until));
        assert_eq!(followed(limited(500 * MS), |_| 300 * MS).len(), 5, "0 to 400 ms");
        assert_eq!(followed(limited(Duration::ZERO), |_| MS).len(), 1, "the first is always due");
    }

    #[test]
    fn what_ended_before_a_failure_is_kept() {
        let (clock, mut count) = (Virtual::default(), 0);
        let (times, ended) = Schedule::new(10.0, 9, None).follow(&clock, || {
            count += 1;
            if count == 4 { Err(()) } else { Ok(()) }
        });
        assert_eq!((times.len(), ended), (3, Err(())));
        assert_eq!(Followed::new(10.0, &[]).achieved_per_s(), None);
    }
}

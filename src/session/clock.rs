//! How the receiver's clock relates to the sender's, from questions and answers. Pure: the times are handed in.
//!
//! An answer bounds the offset from both sides: the question cannot have come before it was sent, nor the answer before it
//! left. Of some answers the narrowest bounds are kept.

use crate::limits::PINGS;
use crate::time::Nanos;

/// The receiver's clock minus the sender's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offset {
    pub(crate) offset_ns: i64,
    /// By how much it may be wrong, either way.
    pub(crate) error_ns: u64,
}

/// The sender's questions.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// Questions that are still to be asked.
    left: u8,
    asked_at: Option<Nanos>,
    best: Option<Offset>,
}

impl Clock {
    /// The receiver answers from now on.
    pub(crate) fn begin(&mut self) {
        self.left = PINGS;
    }

    /// Asks no more.
    pub(crate) fn stop(&mut self) {
        self.left = 0;
    }

    /// The time to ask with, if it is time: one question at a time.
    pub(crate) fn ask(&mut self, now: Nanos) -> Option<Nanos> {
        if self.left == 0 || self.asked_at.is_some() {
            return None;
        }
        self.left -= 1;
        self.asked_at = Some(now);
        Some(now)
    }

    /// An answer came. False when it answers no question.
    pub(crate) fn answered(&mut self, at: Nanos, received_at: Nanos, sent_at: Nanos, now: Nanos) -> bool {
        if self.asked_at.take_if(|asked_at| *asked_at == at).is_none() {
            return false;
        }
        let (most, least) = (since(received_at, at), since(sent_at, now));
        // a receiver whose times contradict each other has no clock to speak of
        if let (Ok(offset_ns), Ok(error_ns)) =
            (i64::try_from((most + least) / 2), u64::try_from((most - least) / 2))
        {
            let found = Offset { offset_ns, error_ns };
            let is_better = self.best.is_none_or(|best| found.error_ns < best.error_ns);
            self.best = if is_better { Some(found) } else { self.best };
        }
        true
    }

    /// Whether every question that there is has been answered.
    pub(crate) fn is_done(&self) -> bool {
        self.left == 0 && self.asked_at.is_none()
    }

    pub(crate) fn offset(&self) -> Option<Offset> {
        self.best
    }
}

fn since(one: Nanos, other: Nanos) -> i128 {
    i128::from(one) - i128::from(other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn asks_a_few_times_and_never_twice_at_once() {
        let mut clock = Clock::default();
        assert_eq!(clock.ask(1), None);
        clock.begin();
        for at in 0..u64::from(PINGS) {
            assert_eq!((clock.ask(at), clock.ask(at)), (Some(at), None));
            assert!(clock.answered(at, 0, 0, at) && !clock.answered(at, 0, 0, at));
        }
        assert_eq!(clock.ask(99), None);
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let mut clock = Clock::default();
        clock.begin();
        clock.ask(5);
        assert!(!clock.answered(6, 0, 0, 7) && clock.answered(5, 0, 0, 7));
    }

    proptest! {
        /// Whatever the delays, the true offset is within the error that is said, and arbitrary times do no harm.
        #[test]
        fn the_true_offset_is_within_its_error(
            ahead in 0_u64..1 << 60, trips in prop::collection::vec((0_u64..1 << 40, 0_u64..1 << 40, 0_u64..1 << 40), 1..8),
        ) {
            let (mut clock, mut now) = (Clock::default(), 1 << 50);
            clock.begin();
            for (there, thinks, back) in trips {
                let at = clock.ask(now).unwrap();
                let received_at = now + there + ahead;
                now += there + thinks + back;
                prop_assert!(clock.answered(at, received_at, received_at + thinks, now));
            }
            let Offset { offset_ns, error_ns } = clock.offset().unwrap();
            prop_assert!(i64::try_from(ahead).unwrap().abs_diff(offset_ns) <= error_ns + 1);
        }

        #[test]
        fn arbitrary_times_do_no_harm(at: u64, received_at: u64, sent_at: u64, now: u64) {
            let mut clock = Clock::default();
            clock.begin();
            clock.ask(at);
            prop_assert!(clock.answered(at, received_at, sent_at, now));
        }
    }
}

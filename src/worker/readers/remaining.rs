//! What one device in pre-copy has left, by its own word, and when it is asked again. Pure: it knows no device, and points
//! in time are handed in.
//!
//! The invariant: only an answer ends pre-copy of a device that can tell. A read of nothing makes it be asked, and what was
//! read since an answer only makes the next question come earlier.

use crate::limits::{PRECOPY_ASK_INTERVAL, PRECOPY_FACTOR_MAX, PRECOPY_POLL};
use crate::source::PreCopyInfo;
use crate::time::{Nanos, nanos};

/// What a device has left of pre-copy.
#[derive(Debug)]
pub(super) struct Remaining {
    /// Its last answer; none before the first.
    answer: Option<Answer>,
    /// It is being asked.
    asking: bool,
    /// When its last answer came.
    answered_at: Nanos,
    /// When it is asked next, unless it is being asked.
    due: Nanos,
    /// Bytes that were read since its last answer.
    read: u64,
    /// Bytes that were read in pre-copy.
    pub(super) bytes: u64,
    /// Bytes that it expects to have in all; where it never said, the most that it had at once.
    expected: Result<u64, u64>,
    /// The next pause after a read of nothing.
    pause: Nanos,
    /// It has once had nothing.
    has_run_dry: bool,
    /// It has given more than it ever expected to.
    is_endless: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It cannot tell.
    Unknown,
    Left(PreCopyInfo),
}

/// Whether pre-copy of a device has done what it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No.
    Open,
    /// Its initial bytes have been read, and so many are dirty.
    Dirty(u64),
    /// It gives more than it ever expected to.
    Endless,
}

impl Remaining {
    /// A device that expects so many bytes in all, if it knows, and at least one packet.
    pub(super) fn new(estimate: Option<u64>, packet_size: u64) -> Remaining {
        Remaining {
            answer: None,
            asking: false,
            answered_at: 0,
            due: Nanos::MAX,
            read: 0,
            bytes: 0,
            expected: estimate.map_or(Err(packet_size), |bytes| Ok(bytes.max(packet_size))),
            pause: nanos(PRECOPY_POLL),
            has_run_dry: false,
            is_endless: false,
        }
    }

    /// When it has to be asked.
    pub(super) fn due(&self) -> Nanos {
        if self.asking { Nanos::MAX } else { self.due }
    }

    pub(super) fn is_asking(&self) -> bool {
        self.asking
    }

    /// It has to be asked at this time at the latest.
    pub(super) fn ask_by(&mut self, at: Nanos) {
        self.due = self.due.min(at);
    }

    /// It is not asked again.
    pub(super) fn stop_asking(&mut self) {
        self.due = Nanos::MAX;
    }

    pub(super) fn ask(&mut self) {
        (self.asking, self.due) = (true, Nanos::MAX);
    }

    /// The question was not answered.
    pub(super) fn fail(&mut self) {
        self.asking = false;
    }

    /// The answer has come, or that it cannot tell. What was read while it was asked may be in it or not, so that does not
    /// count as read.
    pub(super) fn answer(&mut self, info: Option<PreCopyInfo>, now: Nanos) {
        self.asking = false;
        self.answered_at = now;
        self.due = now + nanos(PRECOPY_ASK_INTERVAL);
        self.read = 0;
        self.answer = Some(info.map_or(Answer::Unknown, Answer::Left));
        self.expected = self.expected.map_err(|most| most.max(info.map_or(0, PreCopyInfo::total)));
    }

    /// Bytes of it were read. It is asked where that may have changed its answer: no more than `enough` can be left where it
    /// was more, or no initial bytes where there were some.
    pub(super) fn read(&mut self, bytes: u64, enough: u64) {
        self.pause = nanos(PRECOPY_POLL);
        self.bytes = self.bytes.saturating_add(bytes);
        let expected = self.expected.unwrap_or_else(|most| most);
        self.is_endless |= self.bytes >= expected.saturating_mul(PRECOPY_FACTOR_MAX);
        self.read = self.read.saturating_add(bytes);
        let has_changed = |info: PreCopyInfo| {
            let is_little = info.total() > enough && info.total().saturating_sub(self.read) <= enough;
            is_little || info.initial > 0 && info.initial <= self.read
        };
        if self.info().is_some_and(has_changed) {
            self.ask_by(self.answered_at + nanos(PRECOPY_POLL));
        }
    }

    /// A read gave nothing: it is asked soon, and less soon each time until it gives something.
    pub(super) fn nothing(&mut self, now: Nanos) {
        self.has_run_dry = true;
        self.ask_by(now + self.pause);
        self.pause = (2 * self.pause).min(nanos(PRECOPY_ASK_INTERVAL));
    }

    /// Bytes that can still be left of its last answer, if it can tell.
    pub(super) fn left(&self) -> Option<u64> {
        self.info().map(|info| info.total().saturating_sub(self.read))
    }

    /// Initial bytes that can still be left of its last answer. They come first.
    pub(super) fn initial_left(&self) -> u64 {
        self.info().map_or(0, |info| info.initial.saturating_sub(self.read))
    }

    /// Whether its last word is that there are no initial bytes.
    pub(super) fn has_no_initial(&self) -> bool {
        self.info().is_some_and(|info| info.initial == 0)
    }

    fn info(&self) -> Option<PreCopyInfo> {
        match self.answer {
            Some(Answer::Left(info)) => Some(info),
            Some(Answer::Unknown) | None => None,
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        match self.answer {
            Some(Answer::Unknown) if self.has_run_dry => Verdict::Dirty(0),
            _ if self.is_endless => Verdict::Endless,
            Some(Answer::Left(PreCopyInfo { initial: 0, dirty })) => Verdict::Dirty(dirty),
            _ => Verdict::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Nanos = nanos(PRECOPY_POLL);
    const INTERVAL: Nanos = nanos(PRECOPY_ASK_INTERVAL);

    fn left(initial: u64, dirty: u64) -> Option<PreCopyInfo> {
        Some(PreCopyInfo { initial, dirty })
    }

    fn answered(initial: u64, dirty: u64) -> Remaining {
        let mut remaining = Remaining::new(Some(1 << 40), 1);
        remaining.ask();
        remaining.answer(left(initial, dirty), 0);
        remaining
    }

    #[test]
    fn only_an_answer_without_initial_bytes_ends_it() {
        let mut remaining = Remaining::new(Some(1 << 40), 1);
        remaining.nothing(0);
        assert_eq!(remaining.verdict(), Verdict::Open, "nothing now is no end");
        remaining.answer(left(100, 5), 0);
        remaining.read(200, 0);
        remaining.nothing(0);
        assert_eq!((remaining.left(), remaining.verdict()), (Some(0), Verdict::Open), "reading is no word");
        remaining.answer(left(0, 7), 0);
        assert_eq!(remaining.verdict(), Verdict::Dirty(7));
        remaining.answer(left(9, 0), 0);
        assert_eq!(remaining.verdict(), Verdict::Open, "the initial bytes have begun anew");
        assert_eq!(remaining.initial_left(), 9);
    }

    #[test]
    fn one_that_cannot_tell_ends_when_it_has_nothing_or_gives_too_much() {
        let mut dry = Remaining::new(Some(1000), 1);
        dry.answer(None, 0);
        assert_eq!(dry.verdict(), Verdict::Open);
        dry.read(10, 0);
        assert_eq!((dry.verdict(), dry.left()), (Verdict::Open, None));
        dry.nothing(0);
        assert_eq!(dry.verdict(), Verdict::Dirty(0));

        let mut endless = Remaining::new(Some(1000), 1);
        endless.answer(None, 0);
        endless.read(1000 * PRECOPY_FACTOR_MAX, 0);
        assert_eq!(endless.verdict(), Verdict::Endless);
    }

    #[test]
    fn one_that_gives_too_much_of_what_it_told_is_endless() {
        let mut remaining = Remaining::new(None, 10);
        remaining.answer(left(1000, 0), 0);
        remaining.read(40, 0);
        assert_eq!(remaining.verdict(), Verdict::Open, "it told of more than a packet");
        remaining.read(4000, 0);
        remaining.answer(left(0, 3000), 0);
        assert_eq!(remaining.verdict(), Verdict::Endless);

        let mut liar = Remaining::new(Some(1000), 10);
        liar.answer(left(0, u64::MAX), 0);
        liar.read(4000, 0);
        assert_eq!(liar.verdict(), Verdict::Endless, "its estimate counts where it has one");
    }

    #[test]
    fn it_is_asked_once_a_second_and_when_what_it_told_has_almost_been_read() {
        let mut remaining = answered(0, 1000);
        assert_eq!(remaining.due(), INTERVAL);
        remaining.read(899, 100);
        assert_eq!(remaining.due(), INTERVAL);
        remaining.read(1, 100);
        assert_eq!(remaining.due(), POLL, "and not more often than it is polled");
        remaining.ask();
        assert_eq!(remaining.due(), Nanos::MAX);
        remaining.answer(left(0, 90), 5 * POLL);
        remaining.read(80, 100);
        assert_eq!(remaining.due(), 5 * POLL + INTERVAL, "it was no more than enough");
        remaining.answer(left(0, 200), 0);
        remaining.read(80, 100);
        assert_eq!(remaining.due(), INTERVAL);
        remaining.read(1, 150);
        assert_eq!(remaining.due(), POLL, "more is enough now");
        remaining.answer(left(50, 0), 0);
        remaining.read(49, 100);
        assert_eq!(remaining.due(), INTERVAL);
        remaining.read(1, 100);
        assert_eq!(remaining.due(), POLL, "the initial bytes have been read");
    }

    #[test]
    fn one_that_has_nothing_is_asked_soon_and_less_soon_each_time() {
        let mut remaining = answered(0, 0);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            remaining.nothing(0);
            pauses.push(remaining.due());
            remaining.ask();
            remaining.answer(left(0, 0), 0);
        }
        assert_eq!(pauses[..4], [POLL, 2 * POLL, 4 * POLL, 8 * POLL]);
        assert_eq!(pauses[8], INTERVAL);
        remaining.read(1, 0);
        remaining.nothing(0);
        assert_eq!(remaining.due(), POLL);
    }

    #[test]
    fn what_is_read_while_it_is_asked_does_not_count_as_read() {
        let mut remaining = answered(0, 1000);
        remaining.ask();
        remaining.read(600, 0);
        remaining.answer(left(0, 1000), 1);
        assert_eq!(remaining.left(), Some(1000), "the answer may be older than the read");
    }
}

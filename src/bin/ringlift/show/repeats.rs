//! Which of many messages of a kind are written, and how many are only counted: strangers must not fill a log. Pure:
//! `now` is a parameter.

use std::time::Duration;

use ringlift::error::ErrorCode;

/// Messages of a kind that are written in an interval; further ones are counted.
const WRITTEN_MAX: u64 = 3;
/// How long messages of a kind are counted together.
const INTERVAL: Duration = Duration::from_secs(10);

/// The kinds of which something was written or counted lately.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    /// At most one for each code.
    kinds: Vec<Kind>,
}

#[derive(Debug)]
struct Kind {
    code: ErrorCode,
    began: Duration,
    count: u64,
}

impl Repeats {
    /// Counts a message; whether it is one of the first, which are written.
    pub(crate) fn admits(&mut self, code: ErrorCode, now: Duration) -> bool {
        let known = self.kinds.iter().position(|kind| kind.code == code);
        let at = known.unwrap_or_else(|| {
            self.kinds.push(Kind { code, began: now, count: 0 });
            self.kinds.len() - 1
        });
        let kind = &mut self.kinds[at];
        kind.count += 1;
        kind.count <= WRITTEN_MAX
    }

    /// Ends the intervals that are over at `now`: which kinds were only counted, and how many of each.
    pub(crate) fn ended(&mut self, now: Duration) -> Vec<(ErrorCode, u64)> {
        let ended = self.kinds.extract_if(.., |kind| now.saturating_sub(kind.began) >= INTERVAL);
        ended.filter_map(Kind::withheld).collect()
    }

    /// Ends every interval.
    pub(crate) fn end(&mut self) -> Vec<(ErrorCode, u64)> {
        self.kinds.drain(..).filter_map(Kind::withheld).collect()
    }
}

impl Kind {
    fn withheld(self) -> Option<(ErrorCode, u64)> {
        self.count
            .checked_sub(WRITTEN_MAX)
            .filter(|&withheld| withheld > 0)
            .map(|withheld| (self.code, withheld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: ErrorCode = ErrorCode::PeerMalformed;
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_of_a_kind_are_written_and_the_rest_is_counted() {
        let mut repeats = Repeats::default();
        let written = (0..3000).filter(|_| repeats.admits(CODE, SECOND)).count();
        assert_eq!(written, 3);
        assert!(repeats.admits(ErrorCode::PeerClosed, SECOND), "another kind is counted by itself");
        assert_eq!(repeats.ended(INTERVAL), []);
        assert_eq!(repeats.ended(INTERVAL + SECOND), [(CODE, 2997)]);
        assert!(repeats.admits(CODE, INTERVAL + SECOND), "the next interval begins anew");
    }

    #[test]
    fn what_was_written_is_not_counted_again() {
        let mut repeats = Repeats::default();
        assert!((0..3).all(|_| repeats.admits(CODE, SECOND)));
        assert_eq!(repeats.end(), []);
    }
}

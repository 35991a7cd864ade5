//! A report that comes in parts. It must not know what is in it. What does not fit together is dropped as a whole, and is
//! never an error: it comes when everything is decided.

use crate::limits::{REPORT_MAX, REPORT_PIECE_MAX};
use crate::wire::Control;

/// The parts so far.
#[derive(Debug, Default)]
pub(crate) struct OtherSide {
    bytes: Vec<u8>,
    total: usize,
    is_broken: bool,
}

impl OtherSide {
    /// The next part came.
    pub(crate) fn take(&mut self, total: u32, offset: u32, bytes: &[u8]) {
        let (total, offset) = (total as usize, offset as usize);
        let is_first = self.bytes.is_empty();
        let fits = total <= REPORT_MAX
            && offset == self.bytes.len()
            && (is_first || total == self.total)
            && offset + bytes.len() <= total;
        if !fits || self.is_broken || self.bytes.try_reserve(bytes.len()).is_err() {
            *self = OtherSide { is_broken: true, ..OtherSide::default() };
            return;
        }
        self.total = total;
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether nothing more is to be waited for.
    pub(crate) fn is_over(&self) -> bool {
        self.is_broken || (!self.bytes.is_empty() && self.bytes.len() == self.total)
    }

    /// The whole report.
    pub(crate) fn whole(&mut self) -> Option<Vec<u8>> {
        let is_whole = self.is_over() && !self.is_broken;
        is_whole.then(|| std::mem::take(&mut self.bytes))
    }
}

/// The messages of a report; none when it is longer than one may be.
pub(crate) fn parts(report: &[u8]) -> impl Iterator<Item = Control> {
    let total = u32::try_from(report.len()).ok().filter(|_| report.len() <= REPORT_MAX);
    let parts = report.chunks(REPORT_PIECE_MAX).zip((0..).step_by(REPORT_PIECE_MAX));
    parts.map_while(move |(bytes, offset)| {
        Some(Control::Report { total: total?, offset, bytes: bytes.into() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(parts: impl IntoIterator<Item = Control>) -> OtherSide {
        let mut other = OtherSide::default();
        for part in parts {
            assert!(!other.is_over());
            let Control::Report { total, offset, bytes } = part else { panic!("{part:?}") };
            other.take(total, offset, &bytes);
        }
        other
    }

    #[test]
    fn a_report_of_any_length_arrives_whole() {
        for len in [1, REPORT_PIECE_MAX, REPORT_PIECE_MAX + 1, REPORT_MAX] {
            let report: Vec<u8> = (0_u8..=250).cycle().take(len).collect();
            let mut other = taken(parts(&report));
            assert!(other.is_over());
            assert_eq!(other.whole(), Some(report));
        }
        assert_eq!(parts(&vec![0; REPORT_MAX + 1]).count(), 0);
        assert_eq!(parts(&[]).count(), 0);
    }

    #[test]
    fn parts_that_do_not_fit_together_are_no_report() {
        let broken: [&[(u32, u32, &[u8])]; 5] = [
            &[(4, 1, b"x")],
            &[(4, 0, b"ab"), (4, 3, b"c")],
            &[(4, 0, b"ab"), (3, 2, b"c")],
            &[(4, 0, b"abc"), (4, 3, b"de")],
            &[(u32::MAX, 0, b"a")],
        ];
        for parts in broken {
            let mut other = OtherSide::default();
            parts.iter().for_each(|&(total, offset, bytes)| other.take(total, offset, bytes));
            assert!(other.is_over(), "{parts:?}");
            assert_eq!(other.whole(), None);
            other.take(1, 0, b"x");
            assert_eq!(other.whole(), None, "it stays broken");
        }
    }
}

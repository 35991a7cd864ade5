//! An interval of a transfer as a line of a table that grows, 80 columns wide at most. Must not print or read a clock.

use ringlift::Phase;
use ringlift::report::Interval;

use crate::show::units::bytes;
use crate::show::words::word;

/// Lines between one header and the next: a screen.
const HEADER_EVERY: u64 = 24;

/// The lines of one transfer.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    written: u64,
}

impl Lines {
    /// The line of an interval that ends in `phase`, behind a header where one is due.
    pub(crate) fn line(&mut self, phase: Phase, interval: &Interval) -> String {
        let header = (self.written.is_multiple_of(HEADER_EVERY)).then(header).unwrap_or_default();
        self.written += 1;
        header + &line(phase, interval)
    }
}

fn header() -> String {
    format!(
        "{:>9} {:<12} {:>10} {:>7} {:>6} {:>5} {:>10} {:>7}\n",
        "elapsed", "phase", "bytes", "GB/s", "credit", "pool", "in flight", "reorder"
    )
}

fn line(phase: Phase, interval: &Interval) -> String {
    let took = interval.end_ns.saturating_sub(interval.begin_ns).max(1);
    let moved: u64 = interval.device_bytes.iter().sum();
    let share = |ns: u64| format!("{:.0}%", 100.0 * ns as f64 / took as f64);
    format!(
        "{:>9} {:<12} {:>10} {:>7.3} {:>6} {:>5} {:>10} {:>7}",
        format!("{:.1} s", interval.end_ns as f64 / 1e9),
        word(phase).replace('_', "-"),
        bytes(moved),
        // bytes a nanosecond are gigabytes a second
        moved as f64 / took as f64,
        share(interval.credit_stall_ns),
        share(interval.pool_stall_ns),
        bytes(interval.in_flight_bytes),
        interval.reorder_depth,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval() -> Interval {
        Interval {
            begin_ns: 1_000_000_000,
            end_ns: 2_000_000_000,
            device_bytes: vec![1_000_000_000, 250_000_000],
            credit_stall_ns: 120_000_000,
            in_flight_bytes: 4 << 20,
            ..Interval::default()
        }
    }

    #[test]
    fn columns_stand_below_their_header_and_fit_a_terminal() {
        let text = Lines::default().line(Phase::StopCopy, &interval());
        let expected = concat!(
            "  elapsed phase             bytes    GB/s credit  pool  in flight reorder\n",
            "    2.0 s stop-copy      1.16 GiB   1.250    12%    0%   4.00 MiB       0",
        );
        assert_eq!(text, expected);
        let most = Interval {
            end_ns: 86_400_000_000_000,
            device_bytes: vec![1023 << 30],
            in_flight_bytes: 1023 << 20,
            reorder_depth: 16384,
            ..interval()
        };
        let text = Lines::default().line(Phase::RollingBack, &most);
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }

    #[test]
    fn a_stall_is_told_and_an_interval_without_length_divides_by_nothing() {
        let still = Interval { device_bytes: vec![0], credit_stall_ns: 1_000_000_000, ..interval() };
        assert!(line(Phase::StopCopy, &still).contains("0 B   0.000   100%    0%"));
        assert!(line(Phase::Commit, &Interval::default()).contains(" 0.000 "));
    }

    #[test]
    fn the_header_comes_again_after_a_screen() {
        let mut lines = Lines::default();
        let texts = (0..50).map(|_| lines.line(Phase::PreCopy, &interval()));
        let with_header: Vec<_> = texts
            .enumerate()
            .filter(|(_, text)| text.contains("elapsed"))
            .map(|(number, _)| number)
            .collect();
        assert_eq!(with_header, [0, 24, 48]);
    }
}

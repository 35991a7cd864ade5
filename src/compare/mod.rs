//! Whether one version is slower than another: the statistics of `ringlift compare`.
//!
//! Two arms, *base* and *new*, run in rounds: each round runs both once, in random order. [`Rounds`] holds one metric as
//! logarithms, turned so that larger is worse; [`Rounds::interval`] is what can be said of the shift between the arms,
//! and [`judge`] makes verdicts of it. [`series`] describes one arm: its noise, whether it drifts, whether it has two
//! modes. No distribution is assumed, and no run is ever left out.
//!
//! ```
//! use ringlift::compare::{Rounds, Rule, Verdict, judge};
//!
//! let base = [100.0, 104.0, 99.0, 101.0, 107.0, 98.0, 102.0, 100.5, 103.0, 99.5];
//! let rounds = Rounds::new(base.map(|ms: f64| (ms.ln(), (ms * 1.2).ln())));
//! let judged = judge(&[rounds], Rule::default());
//! assert_eq!(judged[0].verdict, Verdict::Worse);
//! ```
//!
//! This module must not know what was measured, by whom or when: it takes numbers.

mod report;
mod rounds;
pub mod series;
#[cfg(test)]
mod tests;
mod verdict;

pub use report::{
    ArmReport, ChangeReport, CompanionReport, CompareReport, DifferenceReport, MetricReport, ModesReport,
    NoteCode, NoteReport, SeriesReport,
};
pub use rounds::{Interval, ROUNDS_MAX, Rounds};
pub use verdict::{Judged, ROUNDS_MIN, Rule, Verdict, Z, judge, looks};

//! The report of a comparison: one object, schema `ringlift.compare.v1` (`docs/compare.schema.json`). Units are beside
//! the values or in the names. It must not know how it is printed.

use serde::{Deserialize, Serialize};

use super::verdict::Verdict;
use crate::report::{Document, Schema};

/// A comparison of two arms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompareReport {
    /// Always `ringlift.compare.v1`.
    pub schema: Schema<CompareReport>,
    /// Over all metrics that gate.
    pub verdict: Verdict,
    /// What is compared with.
    pub base: ArmReport,
    /// What is judged.
    pub new: ArmReport,
    /// Both arms are the same program: what is measured is the noise.
    pub calibration: bool,
    /// The run that all reports belong to; none when they have none, or several.
    pub run_id: Option<String>,
    /// What the order inside the rounds was drawn from; none when the comparison did not run the rounds itself.
    pub seed: Option<u64>,
    /// Rounds, each with one run of both arms.
    pub rounds: u64,
    /// Whether the arms ran in turns. Otherwise a difference may be one of the times at which they ran.
    pub interleaved: bool,
    /// The bar: 0.05 is 5 %.
    pub max_regression: f64,
    /// Whether *worse* was said only of what is certain to lie above the bar.
    pub confident: bool,
    /// The z at which intervals end.
    pub z: f64,
    /// Those that gate first.
    pub metrics: Vec<MetricReport>,
    /// Counts that need no statistics.
    pub companions: Vec<CompanionReport>,
    /// What the arms do not have in common.
    pub differences: Vec<DifferenceReport>,
    /// What a reader of the numbers must know.
    pub notes: Vec<NoteReport>,
}

impl Document for CompareReport {
    const SCHEMA: &'static str = "ringlift.compare.v1";
}

/// One of the two arms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmReport {
    /// The program, or the arm that the reports name.
    pub name: String,
    /// The version of ringlift that its reports name.
    pub ringlift: Option<String>,
}

/// One metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricReport {
    /// Its name, as `--metric` takes it.
    pub name: String,
    /// The unit of all its values: `ns`, `bytes/s`, `ns/GiB` or `count`.
    pub unit: String,
    /// Whether a smaller value is better.
    pub smaller_is_better: bool,
    /// Whether it is part of the verdict over all.
    pub gates: bool,
    /// Its own verdict.
    pub verdict: Verdict,
    /// The values of base.
    pub base: SeriesReport,
    /// The values of new.
    pub new: SeriesReport,
    /// new against base.
    pub change: ChangeReport,
    /// The smallest change, as a share, that this many rounds can see at the noise of base.
    pub smallest_visible: f64,
    /// About how many rounds would decide it; none when it is decided, or would take more than 1000.
    pub rounds_to_decide: Option<u64>,
}

/// How new differs from base, as a share of base: 0.1 is 10 % more of the metric, be that better or worse.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ChangeReport {
    /// The best guess.
    pub estimate: f64,
    /// Where the interval begins; none where there are too few rounds to exclude anything.
    pub low: Option<f64>,
    /// Where the interval ends; none likewise.
    pub high: Option<f64>,
}

/// The values of one arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesReport {
    /// The middle value.
    pub median: f64,
    /// Half the distance between the quartiles, as a share of the median.
    pub spread: f64,
    /// The standard deviation of the logarithms: about the noise of one run, as a share.
    pub noise: f64,
    /// How much a run tells of the next one: −1 to 1. Above 0.3 the machine drifts.
    pub autocorrelation: f64,
    /// Its two modes, if it has more than one.
    pub modes: Option<ModesReport>,
    /// Round by round.
    pub values: Vec<f64>,
}

/// Two modes of a series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ModesReport {
    /// The middle of the lower values.
    pub low: f64,
    /// The middle of the upper values.
    pub high: f64,
    /// The share of the upper values.
    pub high_share: f64,
}

/// A count that hardly varies, compared as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompanionReport {
    /// Its name.
    pub name: String,
    /// The median of base.
    pub base: f64,
    /// The median of new.
    pub new: f64,
    /// By how much new may differ, as a share of base.
    pub tolerance: f64,
    /// Whether it differs by more.
    pub differs: bool,
}

/// Something that the arms do not have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferenceReport {
    /// What: the path of a property, such as `settings.congestion`.
    pub what: String,
    /// What base has.
    pub base: String,
    /// What new has.
    pub new: String,
}

/// A remark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteReport {
    /// Its kind.
    pub code: NoteCode,
    /// As it is printed.
    pub text: String,
}

/// What a remark is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteCode {
    /// The arms did not run in turns.
    NotInterleaved,
    /// The arms differ in something that may explain the figures.
    Incomparable,
    /// A slow run is followed by slow ones.
    Drift,
    /// An arm has more than one mode.
    Modes,
    /// How noisy the runs are, and what that hides.
    Noise,
    /// There are fewer rounds than any verdict needs.
    FewRounds,
    /// A companion differs.
    Companion,
}

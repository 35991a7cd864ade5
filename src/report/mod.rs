//! Counters, a histogram for each stage, and the reports, which are written as JSON and read back.
//!
//! Reports consist of owned types that serialise and deserialise. A [`Report`] is read only from a document whose
//! `schema` is `ringlift.report.v2` or the earlier `ringlift.report.v1`, and the others likewise. Properties that a later version adds are ignored.
//!
//! ```
//! # let json = include_str!("../../tests/fixtures/reports/sender.json");
//! use ringlift::report::{Report, Role, TransferOutcome};
//!
//! let report: Report = serde_json::from_str(json)?;
//! assert_eq!((report.role, report.outcome), (Role::Sender, TransferOutcome::Complete));
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! This module must not know where the figures come from: it counts, and holds what the workers fill in.

mod account;
mod bench;
mod capture;
mod cost;
mod header;
mod host;
mod inspect;
mod interval;
mod intervals;
mod latency;
mod open_interval;
mod prediction;
mod probe;
mod quantiles;
mod recorder;
mod replay;
mod run;
mod schema;
mod stream;
mod tcp;
mod timeline;
pub mod trace;
mod transfer;
mod tune;

pub use account::{DeviceTimes, DowntimePhase, PhaseAccount, SlowestArc, SlowestDevice};
pub use bench::{BenchCell, BenchFigure, BenchOpenLoop, BenchReport, BenchSource};
pub use capture::{
    CaptureReport, CaptureSettings, MainReport, MultifdReport, PacketHistograms, PacketReport, PacketsReport,
};
pub use cost::Cost;
pub use header::{ErrorReport, Host, HugePages, Role, Warning, WarningCode};
pub use host::{HostDetails, Nic};
pub use inspect::{
    ConnectionKind, InspectReport, InspectedConnection, InspectedDevice, InspectedError, InspectedPiece,
    PieceKind,
};
pub use interval::Interval;
pub(crate) use intervals::Intervals;
pub use latency::{Distribution, Latency};
pub(crate) use open_interval::{Counted, OpenInterval};
pub(crate) use prediction::Basis;
pub use prediction::{Prediction, RateFrom};
pub use probe::{ProbeOutcome, ProbeReport, ProbedArc, ProbedEnd, ProbedInfo, ProbedReads};
pub use quantiles::Quantiles;
pub use recorder::Histograms;
pub(crate) use recorder::{Recorder, Stage};
pub use replay::{ReplayPace, ReplayReport, ReplaySettings, ReplayedConnection};
pub use run::{ClockOffset, PeerReport, RunInfo};
pub use schema::{Document, Schema};
pub use stream::{Answer, AnswerReport, CapturedDevice, StreamOutcome};
pub use tcp::TcpReport;
pub use timeline::{TimelineEntry, TimelineWhat};
pub use transfer::{
    Backpressure, ChannelReport, Checksum, DeviceReport, Downtime, PreCopyEnd, PreCopyReport, Report,
    Settings, TransferOutcome, ZeroCopy,
};
pub use tune::{
    TuneBound, TuneBoundKind, TuneDuel, TuneReport, TuneSkipped, TuneStage, TuneTrial, TuneVerdict,
    TunedPool, TunedSettings,
};

//! Counters, a histogram for each stage, and the report.

mod capture;
mod recorder;
mod replay;
mod transfer;

pub use capture::{
    AnswerReport, CaptureReport, CaptureSettings, CapturedDevice, MainReport, MultifdReport,
    PacketHistograms, PacketReport, PacketsReport,
};
pub use recorder::Histograms;
pub(crate) use recorder::{Recorder, Stage};
pub use replay::{ReplayReport, ReplaySettings, ReplayedConnection};
pub use transfer::{
    Backpressure, ChannelReport, DeviceReport, Downtime, ErrorReport, Host, Latency, Report, Settings,
    StageLatency, Warning, WarningCode,
};

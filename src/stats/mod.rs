//! Counters, a histogram for each stage, and the report.

mod capture;
mod recorder;
mod report;

pub use capture::{
    AnswerReport, CaptureReport, CaptureSettings, CapturedDevice, MainReport, MultifdReport,
    PacketHistograms, PacketReport, PacketsReport,
};
pub use recorder::Histograms;
pub(crate) use recorder::{Recorder, Stage};
pub use report::{
    Backpressure, ChannelReport, DeviceReport, Downtime, ErrorReport, Host, Latency, Report, Settings,
    StageLatency, Warning, WarningCode,
};

//! Counters, a histogram for each stage, and the report.

mod recorder;
mod report;

pub use recorder::Histograms;
pub(crate) use recorder::{Recorder, Stage};
pub use report::{
    Backpressure, ChannelReport, DeviceReport, Downtime, ErrorReport, Host, Latency, Report, Settings,
    StageLatency, Warning, WarningCode,
};

//! Counters, a histogram for each stage, and the report.

mod report;

pub use report::{
    Backpressure, ChannelReport, DeviceReport, Downtime, ErrorReport, Host, Latency, Report, Settings,
    StageLatency, Warning, WarningCode,
};

//! The figures of a report that the tables show, whichever side they come from: this process, or another's JSON.

use ringlift::report::Report;
use serde::Deserialize;

/// A part of `ringlift.report.v1`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Figures {
    pub(crate) role: String,
    pub(crate) outcome: String,
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) duration_ns: u64,
    pub(crate) throughput_bytes_per_s: f64,
    pub(crate) settings: Settings,
    pub(crate) devices: Vec<Device>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) latency_ns: Latency,
    pub(crate) backpressure: Backpressure,
    pub(crate) downtime: Downtime,
    pub(crate) warnings: Vec<Warning>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Settings {
    pub(crate) channels: u64,
    pub(crate) packet_size: u64,
    pub(crate) pool: u64,
    pub(crate) checksum: String,
    pub(crate) zero_copy: String,
    pub(crate) congestion: String,
    pub(crate) huge_pages: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) config_bytes: u64,
    pub(crate) precopy_bytes: u64,
    pub(crate) crc32c: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Channel {
    pub(crate) zero_copy_sent: u64,
    pub(crate) zero_copy_copied: u64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Latency {
    pub(crate) read: Stage,
    pub(crate) queue: Stage,
    pub(crate) send: Stage,
    pub(crate) reorder: Stage,
    pub(crate) write: Stage,
    pub(crate) end_to_end: Stage,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Stage {
    pub(crate) count: u64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Backpressure {
    pub(crate) credit_stalls: u64,
    pub(crate) pool_stalls: u64,
    pub(crate) stalled_ns: u64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Downtime {
    pub(crate) total_ns: u64,
    pub(crate) stop_ns: u64,
    pub(crate) transfer_ns: u64,
    pub(crate) load_ns: u64,
    pub(crate) commit_ns: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Warning {
    pub(crate) text: String,
    pub(crate) hint: String,
}

impl Figures {
    /// Of this process. By way of the report's own names, so that both ways stay the same.
    pub(crate) fn of(report: &Report) -> serde_json::Result<Figures> {
        serde_json::from_value(serde_json::to_value(report)?)
    }

    /// Of another process.
    pub(crate) fn parse(json: &str) -> serde_json::Result<Figures> {
        serde_json::from_str(json)
    }

    /// Of these bytes, those that are not config state.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.devices.iter().map(|device| device.bytes.saturating_sub(device.config_bytes)).sum()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use ringlift::report;

    use super::*;

    /// A report in which every figure is another.
    pub(crate) fn report() -> Report {
        let stage = |base| report::StageLatency {
            count: 257,
            min: base,
            p50: base + 1000,
            p90: base + 20_000,
            p99: base + 300_000,
            p999: base + 4_000_000,
            max: base + 5_000_000,
        };
        Report {
            schema: "ringlift.report.v1",
            role: "sender",
            outcome: "complete",
            error: None,
            bytes: 268_435_480,
            packets: 257,
            duration_ns: 107_374_182,
            throughput_bytes_per_s: 2.5e9,
            settings: report::Settings {
                channels: 2,
                packet_size: 1 << 20,
                pool: 64 << 20,
                checksum: "crc32c",
                zero_copy: "auto",
                congestion: "cubic".to_owned(),
                huge_pages: "none",
                ..Default::default()
            },
            host: report::Host::default(),
            devices: vec![report::DeviceReport {
                name: "net0".to_owned(),
                bytes: 268_435_480,
                packets: 257,
                config_bytes: 24,
                crc32c: Some("0badcafe".to_owned()),
                ..Default::default()
            }],
            channels: vec![report::ChannelReport { id: 0, zero_copy_sent: 10, ..Default::default() }],
            latency_ns: report::Latency { read: stage(1), send: stage(2), ..Default::default() },
            backpressure: report::Backpressure { credit_stalls: 3, pool_stalls: 4, stalled_ns: 5_000_000 },
            downtime: report::Downtime { total_ns: 107_000_000, stop_ns: 1000, ..Default::default() },
            warnings: Vec::new(),
        }
    }

    #[test]
    fn every_name_is_in_the_report() {
        let figures = Figures::of(&report()).unwrap();
        assert_eq!(figures.data_bytes(), 256 << 20);
        assert_eq!(figures.latency_ns.send.p50, 1002);
    }

    #[test]
    fn what_is_no_report_is_refused() {
        assert!(Figures::parse("{}").is_err());
        assert!(Figures::parse("").is_err());
    }
}

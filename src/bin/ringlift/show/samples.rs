//! A report for the tests of the output.

use ringlift::report::{
    Backpressure, ChannelReport, Checksum, DeviceReport, Distribution, Downtime, HostDetails, Latency,
    Report, Role, Schema, Settings, TransferOutcome, ZeroCopy,
};

/// A report in which every figure is different.
pub(crate) fn report() -> Report {
    let stage = |base| Distribution {
        count: 257,
        min: base,
        p50: base + 1000,
        p90: base + 20_000,
        p99: base + 300_000,
        p999: base + 4_000_000,
        max: base + 5_000_000,
        ..Default::default()
    };
    Report {
        schema: Schema::default(),
        run: None,
        session: None,
        peer: None,
        role: Role::Sender,
        outcome: TransferOutcome::Complete,
        error: None,
        bytes: 268_435_480,
        packets: 257,
        duration_ns: 107_374_182,
        throughput_bytes_per_s: 2.5e9,
        settings: Settings {
            channels: 2,
            packet_size: 1 << 20,
            pool: 64 << 20,
            checksum: Checksum::Crc32c,
            zero_copy: Some(ZeroCopy::Auto),
            congestion: "cubic".to_owned(),
            ..Default::default()
        },
        host: HostDetails::default(),
        cost: None,
        devices: vec![DeviceReport {
            name: "net0".to_owned(),
            bytes: 268_435_480,
            packets: 257,
            config_bytes: 24,
            crc32c: Some("0badcafe".to_owned()),
            ..Default::default()
        }],
        channels: vec![ChannelReport { id: 0, zero_copy_sent: 10, ..Default::default() }],
        latency_ns: Latency { read: stage(1), send: stage(2), ..Default::default() },
        backpressure: Backpressure {
            credit_stalls: 3,
            pool_stalls: 4,
            stalled_ns: 5_000_000,
            ..Default::default()
        },
        downtime: Downtime { total_ns: 107_000_000, stop_ns: 1000, ..Default::default() },
        prediction: None,
        intervals: Vec::new(),
        clock: None,
        other_side: None,
        timeline: Vec::new(),
        warnings: Vec::new(),
    }
}

//! A report for the tests of the output.

use ringlift::compare::{
    ArmReport, ChangeReport, CompareReport, MetricReport, NoteCode, NoteReport, SeriesReport, Verdict,
};
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
        precopy: None,
        prediction: None,
        intervals: Vec::new(),
        clock: None,
        started_ns: None,
        other_side: None,
        timeline: Vec::new(),
        warnings: Vec::new(),
    }
}

/// A comparison with a metric that counts and one that does not.
pub(crate) fn comparison() -> CompareReport {
    let series = |median| SeriesReport {
        median,
        spread: 0.09,
        noise: 0.1,
        autocorrelation: 0.0,
        modes: None,
        values: vec![median],
    };
    let metric = |name: &str, gates, high| MetricReport {
        name: name.to_owned(),
        unit: "ns".to_owned(),
        smaller_is_better: true,
        gates,
        verdict: Verdict::Worse,
        base: series(110e6),
        new: series(147e6),
        change: ChangeReport { estimate: 0.338, low: Some(0.261), high },
        smallest_visible: 0.15,
        rounds_to_decide: None,
    };
    CompareReport {
        schema: Schema::default(),
        verdict: Verdict::Worse,
        base: ArmReport { name: "old/ringlift".to_owned(), ringlift: Some("0.1.0".to_owned()) },
        new: ArmReport { name: "new/ringlift".to_owned(), ringlift: None },
        calibration: false,
        run_id: None,
        seed: None,
        rounds: 10,
        interleaved: true,
        max_regression: 0.05,
        confident: false,
        z: 2.0,
        metrics: vec![metric("downtime", true, Some(0.411)), metric("send.p99", false, None)],
        companions: Vec::new(),
        differences: Vec::new(),
        notes: vec![NoteReport { code: NoteCode::Drift, text: "it drifts".to_owned() }],
    }
}

//! Documents in which nothing is empty, one of each kind. They know nothing of schemas.

use crate::common::captures::Capture;
use crate::common::destination::Manners;
use crate::common::source::Streams;
use ringlift::compare::{
    ArmReport, ChangeReport, CompanionReport, CompareReport, DifferenceReport, MetricReport, ModesReport,
    NoteCode, NoteReport, SeriesReport, Verdict,
};
use ringlift::report::{
    self, Backpressure, BenchCell, BenchFigure, BenchOpenLoop, BenchReport, BenchSource, CaptureReport,
    ChannelReport, ClockOffset, Cost, DeviceReport, Distribution, Downtime, ErrorReport, HostDetails,
    InspectReport, Interval, Latency, Nic, PeerReport, PreCopyEnd, PreCopyReport, Prediction, ProbeReport,
    ProbedArc, ProbedEnd, ProbedInfo, ProbedReads, ReplayReport, Report, Role, RunInfo, Schema, Settings,
    StreamOutcome, TcpReport, TimelineEntry, TimelineWhat, TransferOutcome, TuneBound, TuneBoundKind,
    TuneDuel, TuneReport, TuneSkipped, TuneStage, TuneTrial, TuneVerdict, TunedPool, TunedSettings, Warning,
    WarningCode,
};
use ringlift::vfio::State;

use crate::{capture, replay};

pub(super) fn an_error() -> ErrorReport {
    ErrorReport { text: "cancelled".to_owned(), hint: Some("do not".to_owned()) }
}

pub(super) fn a_warning() -> Warning {
    let (text, hint) = ("the pool lies on ordinary pages".to_owned(), "reserve huge pages".to_owned());
    Warning { code: WarningCode::NoHugePages, text, hint }
}

/// A transfer's report in which nothing is empty.
pub(super) fn full_transfer() -> Report {
    Report {
        schema: Schema::default(),
        run: Some(RunInfo { arm: Some("a".to_owned()), round: Some(1), ..RunInfo::default() }),
        session: Some("0123456789abcdef0123456789abcdef".to_owned()),
        peer: Some(PeerReport { address: Some("192.0.2.1:4321".to_owned()) }),
        role: Role::Sender,
        outcome: TransferOutcome::Aborted,
        error: Some(an_error()),
        bytes: 1,
        packets: 1,
        duration_ns: 1,
        throughput_bytes_per_s: 1e9,
        settings: Settings {
            dialect: "qemu".to_owned(),
            checksum: report::Checksum::Crc32c,
            zero_copy: Some(report::ZeroCopy::Auto),
            ..Settings::default()
        },
        host: HostDetails { nic: Some(Nic::default()), ..HostDetails::default() },
        cost: Some(Cost::default()),
        devices: vec![DeviceReport { crc32c: Some("0123abcd".to_owned()), ..DeviceReport::default() }],
        channels: vec![ChannelReport { tcp: Some(TcpReport::default()), ..ChannelReport::default() }],
        latency_ns: Latency {
            read: Distribution {
                mean: 1.5,
                histogram: Some("HISTFAA=".to_owned()),
                ..Distribution::default()
            },
            ..Latency::default()
        },
        backpressure: Backpressure::default(),
        downtime: Downtime { rollback_ns: 1, simulated: true, ..Downtime::default() },
        precopy: Some(PreCopyReport {
            duration_ns: 1,
            bytes: 1,
            left_bytes: Some(1),
            limit_bytes: 1,
            rate_bytes_per_s: 1,
            asked: 1,
            end: PreCopyEnd::Converged,
        }),
        prediction: Some(Prediction {
            unknown: vec!["stop_ns".to_owned()],
            came_true: Some(true),
            ..Prediction::default()
        }),
        intervals: vec![Interval { device_bytes: vec![1], channel_bytes: vec![2], ..Interval::default() }],
        started_ns: Some(1),
        clock: Some(ClockOffset { offset_ns: -1, error_ns: 1 }),
        other_side: None,
        timeline: vec![an_arc()],
        warnings: vec![a_warning()],
    }
}

pub(super) fn an_arc() -> TimelineEntry {
    TimelineEntry {
        side: Role::Sender,
        device: Some(0),
        channel: Some(0),
        what: TimelineWhat::Arc,
        from: Some(State::RunningP2p),
        to: Some(State::Stop),
        begin_ns: 1,
        end_ns: 2,
    }
}

pub(super) fn full_capture() -> CaptureReport {
    let report = capture(&Streams::of("device-on-channels-ack"), 2).report;
    assert_eq!(report.outcome, StreamOutcome::Complete);
    CaptureReport { error: Some(an_error()), warnings: vec![a_warning()], ..report }
}

pub(super) fn full_replay() -> ReplayReport {
    let report = replay(&Streams::of("device-on-channels-ack"), Manners::default()).report;
    assert_eq!(report.outcome, StreamOutcome::Complete);
    ReplayReport { error: Some(an_error()), warnings: vec![a_warning()], ..report }
}

pub(super) fn full_bench() -> BenchReport {
    let transfer = full_transfer();
    let figure =
        || BenchFigure { median: 2.5, spread: 0.1, low: Some(2.0), high: Some(3.0), values: vec![2.5] };
    let cell = BenchCell {
        devices: 1,
        channels: 2,
        packet_size: 4096,
        checksum: report::Checksum::None,
        zero_copy: report::ZeroCopy::On,
        congestion: Some("cubic".to_owned()),
        throughput_bytes_per_s: figure(),
        duration_ns: figure(),
        sender_cpu_ns_per_gib: Some(figure()),
        receiver_cpu_ns_per_gib: Some(figure()),
        sender_peak_rss_bytes: Some(1),
        receiver_peak_rss_bytes: Some(1),
        credit_stalls: 1,
        pool_stalls: 2,
        open_loop: Some(BenchOpenLoop {
            achieved_per_s: Some(2.5),
            kept: true,
            service_ns: transfer.latency_ns.send.clone(),
            response_ns: transfer.latency_ns.send.clone(),
        }),
        latency_ns: transfer.latency_ns,
    };
    BenchReport {
        schema: Schema::default(),
        seed: 7,
        rounds: 1,
        complete: true,
        size: 4096,
        source: BenchSource::Null,
        to: "loopback".to_owned(),
        rate_per_s: Some(2.5),
        host: transfer.host,
        cells: vec![cell],
    }
}

pub(super) fn full_tune() -> TuneReport {
    let settings = || TunedSettings {
        channels: 2,
        packet_size: 4096,
        zero_copy: report::ZeroCopy::Off,
        congestion: Some("cubic".to_owned()),
        pool: 1,
    };
    let bench = full_bench();
    TuneReport {
        schema: Schema::default(),
        seed: 7,
        budget_ns: 2,
        duration_ns: 1,
        complete: true,
        to: "192.0.2.1:4321".to_owned(),
        devices: 1,
        size: 4096,
        transfers: 1,
        host: bench.host.clone(),
        peer_host: Some(bench.host),
        verdict: TuneVerdict::Tuned,
        settings: settings(),
        send_command: "ringlift send".to_owned(),
        recv_command: "ringlift recv".to_owned(),
        duel: Some(TuneDuel { contender: settings(), rounds: 8, ratio: 1.1, low: Some(1.05), high: None }),
        overlooked: Some(0.2),
        pool: TunedPool {
            rate_bytes_per_s: 1e9,
            rtt_us: Some(100.5),
            in_flight_bytes: 1,
            bytes: 2,
            bounded_by: Some(3),
        },
        bound: TuneBound {
            kind: TuneBoundKind::Link,
            text: "the link".to_owned(),
            sender_busy: Some(0.5),
            receiver_busy: Some(0.5),
            link_bytes_per_s: Some(1.25e9),
        },
        trials: vec![TuneTrial {
            stage: TuneStage::Channels,
            settings: settings(),
            throughput_bytes_per_s: bench.cells[0].throughput_bytes_per_s.clone(),
            failed: Some("ENOBUFS".to_owned()),
        }],
        skipped: vec![TuneSkipped { what: "zero-copy".to_owned(), why: "it copies".to_owned() }],
    }
}

pub(super) fn full_comparison() -> CompareReport {
    let text = || "text".to_owned();
    let arm = || ArmReport { name: text(), ringlift: Some(text()) };
    let series = || SeriesReport {
        median: 100.5,
        spread: 0.1,
        noise: 0.1,
        autocorrelation: -0.5,
        modes: Some(ModesReport { low: 90.0, high: 120.0, high_share: 0.3 }),
        values: vec![100.0, 101.0],
    };
    let metric = MetricReport {
        name: text(),
        unit: "ns/GiB".to_owned(),
        smaller_is_better: true,
        gates: true,
        verdict: Verdict::CannotTell,
        base: series(),
        new: series(),
        change: ChangeReport { estimate: 0.01, low: None, high: Some(0.2) },
        smallest_visible: 0.1,
        rounds_to_decide: Some(100),
    };
    CompareReport {
        schema: Schema::default(),
        verdict: Verdict::NoChange,
        base: arm(),
        new: arm(),
        calibration: true,
        run_id: Some(text()),
        seed: Some(1),
        rounds: 2,
        interleaved: true,
        max_regression: 0.05,
        confident: false,
        z: 2.0,
        metrics: vec![metric],
        companions: vec![CompanionReport {
            name: text(),
            base: 1.0,
            new: 2.0,
            tolerance: 0.1,
            differs: true,
        }],
        differences: vec![DifferenceReport { what: text(), base: text(), new: text() }],
        notes: vec![NoteReport { code: NoteCode::Noise, text: text() }],
    }
}

pub(super) fn full_inspect() -> InspectReport {
    let capture =
        Capture::of("device-on-channels").with("multifd-1.bin", |bytes| bytes.truncate(bytes.len() - 1));
    let report = capture.inspect().report();
    assert!(!report.ok);
    report
}

/// A probe in which nothing is empty.
pub(super) fn full_probe() -> ProbeReport {
    let found = || ProbedReads { behind_end: Some(ProbedEnd::Zero), ..ProbedReads::default() };
    ProbeReport {
        error: Some(an_error()),
        features: vec!["STOP_COPY".to_owned()],
        arcs: vec![ProbedArc::default()],
        pre_copy: Some(found()),
        pre_copy_info: vec![ProbedInfo::default()],
        stop_copy: Some(found()),
        ..ProbeReport::default()
    }
}

// ── types and schemas ────────────────────────────────────────────────────────────────────────────────────────────────

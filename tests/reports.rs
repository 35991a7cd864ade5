//! Every report agrees with its schema in `docs/`, and what was written is read back: neither can drift away from the
//! other, nor a version of the code from earlier ones.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "reports/samples.rs"]
mod samples;

use std::fmt::Debug;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use common::captures::fixture;
use common::destination::{Destination, Manners};
use common::schema::{assert_same_properties, faults, schema_words, type_words, valid};
use common::source::{Streams, migrate};
use common::{Running, loopback};
use ringlift::compare::{NoteCode, Verdict};
use ringlift::qemu::capture::inspect;
use ringlift::qemu::{self, Captured, Replay, Replayed};
use ringlift::report::{
    self, Answer, BenchSource, CaptureReport, ChannelReport, ConnectionKind, HugePages, InspectReport,
    Interval, PieceKind, PreCopyEnd, ProbeOutcome, ProbedEnd, RateFrom, ReplayPace, ReplayReport, Report,
    Role, RunInfo, StreamOutcome, TcpReport, TimelineWhat, TransferOutcome, TuneBoundKind, TuneStage,
    TuneVerdict, WarningCode,
};
use ringlift::sink::{Discard, Verify};
use ringlift::source::Synthetic;
use ringlift::vfio::State;
use ringlift::{Checksum, Finished, Listener, Outcome, Receiver, Sender, ZeroCopy};
use samples::{
    full_bench, full_capture, full_comparison, full_inspect, full_probe, full_replay, full_transfer,
    full_tune,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const TRANSFER: &str = include_str!("../docs/report.schema.json");
const CAPTURE: &str = include_str!("../docs/capture.schema.json");
const REPLAY: &str = include_str!("../docs/replay.schema.json");
const PROBE: &str = include_str!("../docs/probe.schema.json");
const INSPECT: &str = include_str!("../docs/inspect.schema.json");
const COMPARE: &str = include_str!("../docs/compare.schema.json");
const BENCH: &str = include_str!("../docs/bench.schema.json");
const TUNE: &str = include_str!("../docs/tune.schema.json");

fn parsed(schema: &str) -> Value {
    serde_json::from_str(schema).unwrap()
}

/// A small transfer between two threads; returns the results of the sender and the receiver.
fn transfer(checksum: Checksum, seed: u64) -> (Finished, Finished) {
    let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
    let (near, far): (Vec<OwnedFd>, Vec<OwnedFd>) =
        pairs.into_iter().map(|(near, far)| (near.into(), far.into())).unzip();
    let take = |mut sockets: Vec<OwnedFd>| (sockets.remove(0), sockets);
    let ((control, data), (far_control, far_data)) = (take(near), take(far));
    let receiver = Receiver::builder()
        .device("a", Verify::new())
        .device("b", Verify::new())
        .sockets(far_control, far_data)
        .build()
        .unwrap();
    let receiving = std::thread::spawn(move || receiver.run());
    let sender = Sender::builder()
        .device("a", Synthetic::new(3 << 20))
        .device("b", Synthetic::new(1000).seed(seed))
        .sockets(control, data)
        .packet_size(64 << 10)
        .pool_size(4 << 20)
        .checksum(checksum)
        .build()
        .unwrap();
    let sent = sender.run();
    (sent, receiving.join().unwrap())
}

const SEED_OF_THE_SINK: u64 = 0x7269_6e67_6c69_6674;

fn capture(streams: &Streams, channels: usize) -> Captured {
    let listener = qemu::Listener::bind(loopback()).unwrap();
    let addr = listener.local_addr();
    let capture = qemu::Capture::builder().listener(listener).channels(channels).build().unwrap();
    let running = Running::start(move || capture.run());
    migrate(addr, streams, true);
    running.finish()
}

fn replay(streams: &Streams, manners: Manners) -> Replayed {
    let folder = tempfile::tempdir().unwrap();
    streams.write_to(folder.path());
    let destination = Destination::listen(streams.multifd.len());
    let replay = Replay::builder(inspect(&[folder.path().to_owned()]), destination.addr()).build();
    let running = Running::start(move || replay.run());
    destination.take(manners);
    running.finish()
}

#[test]
fn every_report_has_every_property_of_its_schema_and_no_other() {
    fn check<R: Serialize + DeserializeOwned + PartialEq + Debug>(schema: &str, full: &R, least: usize) {
        let schema = parsed(schema);
        assert_same_properties(&schema, &valid(&schema, full), least);
    }
    check(TRANSFER, &full_transfer(), 120);
    check(CAPTURE, &full_capture(), 60);
    check(REPLAY, &full_replay(), 50);
    check(INSPECT, &full_inspect(), 35);
    check(PROBE, &full_probe(), 45);
    check(COMPARE, &full_comparison(), 50);
    check(BENCH, &full_bench(), 60);
    check(TUNE, &full_tune(), 60);
}

#[test]
fn the_schemas_have_the_words_that_the_types_have() {
    let same = |schema: &str, words: &[(&str, std::collections::BTreeSet<String>)]| {
        let drawn = schema_words(&parsed(schema));
        let typed = words.iter().map(|(pointer, words)| ((*pointer).to_owned(), words.clone())).collect();
        assert_eq!(drawn, typed);
    };
    let dialects = ["native", "qemu"].map(str::to_owned).into();
    let warning = "/properties/warnings/items/properties/code";
    let huge_pages = "/properties/settings/properties/huge_pages";
    let answer = "/properties/answers/items/properties/message";
    same(
        TRANSFER,
        &[
            ("/properties/role", type_words::<Role>()),
            ("/properties/outcome", type_words::<TransferOutcome>()),
            ("/$defs/precopy/properties/end", type_words::<PreCopyEnd>()),
            ("/$defs/prediction/properties/rate_from", type_words::<RateFrom>()),
            ("/properties/settings/properties/dialect", dialects),
            ("/properties/settings/properties/checksum", type_words::<report::Checksum>()),
            ("/properties/settings/properties/zero_copy", type_words::<report::ZeroCopy>()),
            (huge_pages, type_words::<HugePages>()),
            ("/properties/timeline/items/properties/side", type_words::<Role>()),
            ("/properties/timeline/items/properties/what", type_words::<TimelineWhat>()),
            ("/properties/timeline/items/properties/from", type_words::<State>()),
            ("/properties/timeline/items/properties/to", type_words::<State>()),
            (warning, type_words::<WarningCode>()),
        ],
    );
    same(
        CAPTURE,
        &[
            ("/properties/outcome", type_words::<StreamOutcome>()),
            (answer, type_words::<Answer>()),
            (huge_pages, type_words::<HugePages>()),
            (warning, type_words::<WarningCode>()),
        ],
    );
    same(
        REPLAY,
        &[
            ("/properties/outcome", type_words::<StreamOutcome>()),
            (answer, type_words::<Answer>()),
            ("/properties/settings/properties/pace", type_words::<ReplayPace>()),
            (huge_pages, type_words::<HugePages>()),
            (warning, type_words::<WarningCode>()),
        ],
    );
    let units = ["ns", "ns/GiB", "bytes/s", "bytes", "count"].map(str::to_owned).into();
    same(
        BENCH,
        &[
            ("/properties/source", type_words::<BenchSource>()),
            ("/$defs/cell/properties/checksum", type_words::<report::Checksum>()),
            ("/$defs/cell/properties/zero_copy", type_words::<report::ZeroCopy>()),
        ],
    );
    same(
        TUNE,
        &[
            ("/properties/verdict", type_words::<TuneVerdict>()),
            ("/properties/bound/properties/kind", type_words::<TuneBoundKind>()),
            ("/$defs/settings/properties/zero_copy", type_words::<report::ZeroCopy>()),
            ("/$defs/trial/properties/stage", type_words::<TuneStage>()),
        ],
    );
    same(
        COMPARE,
        &[
            ("/properties/verdict", type_words::<Verdict>()),
            ("/$defs/metric/properties/verdict", type_words::<Verdict>()),
            ("/$defs/metric/properties/unit", units),
            ("/$defs/note/properties/code", type_words::<NoteCode>()),
        ],
    );
    same(
        PROBE,
        &[("/properties/outcome", type_words::<ProbeOutcome>()), ("/$defs/end", type_words::<ProbedEnd>())],
    );
    same(
        INSPECT,
        &[
            ("/properties/connections/items/properties/kind", type_words::<ConnectionKind>()),
            ("/properties/devices/items/properties/pieces/items/properties/kind", type_words::<PieceKind>()),
        ],
    );
}

#[test]
fn a_report_has_the_words_that_the_library_has() {
    for outcome in [Outcome::Complete, Outcome::Aborted, Outcome::InDoubt] {
        assert_eq!(TransferOutcome::from(outcome).to_string(), outcome.name());
    }
    for zero_copy in [ZeroCopy::Auto, ZeroCopy::On, ZeroCopy::Off] {
        assert_eq!(report::ZeroCopy::from(zero_copy).to_string(), zero_copy.name());
    }
    for pace in [qemu::Pace::Full, qemu::Pace::Recorded] {
        assert_eq!(ReplayPace::from(pace).to_string(), pace.name());
    }
}

#[test]
fn the_validator_finds_what_is_wrong() {
    let schema = parsed(TRANSFER);
    let broken: [fn(&mut Value); 7] = [
        |report| report["bytes"] = "many".into(),
        |report| report["bytes"] = (-1).into(),
        |report| report["outcome"] = "fine".into(),
        |report| report["error"]["more"] = 1.into(),
        |report| drop(report["host"].as_object_mut().unwrap().remove("cpus")),
        |report| report["devices"][0]["crc32c"] = "0123".into(),
        |report| report["latency_ns"]["read"]["p50"] = Value::Null,
    ];
    for (number, breaks) in broken.into_iter().enumerate() {
        let mut report = valid(&schema, &full_transfer());
        breaks(&mut report);
        assert!(!faults(&schema, &schema, &report, "report").is_empty(), "case {number}");
    }
}

// ── real reports are valid, and are read back as they were ───────────────────────────────────────────────────────────

#[test]
fn reports_of_transfers_that_complete_are_valid() {
    for checksum in [Checksum::Crc32c, Checksum::None] {
        let (sent, received) = transfer(checksum, SEED_OF_THE_SINK);
        assert_eq!((sent.outcome, received.outcome), (Outcome::Complete, Outcome::Complete), "{received:?}");
        valid(&parsed(TRANSFER), &sent.report);
        valid(&parsed(TRANSFER), &received.report);
        assert_eq!(sent.report.devices[0].crc32c.is_some(), checksum == Checksum::Crc32c);
        assert_eq!(sent.report.settings.checksum, checksum.into());
        assert!(!sent.report.timeline.is_empty() && !received.report.timeline.is_empty());
    }
}

/// A transfer over TCP, whose run is named.
fn transfer_over_tcp(run: &RunInfo) -> (Finished, Finished) {
    let listener = Listener::bind(loopback()).unwrap();
    let receiver = Receiver::builder().device("a", Verify::new()).listener(&listener).run(run.clone());
    let receiver = receiver.build().unwrap();
    let receiving = std::thread::spawn(move || receiver.run());
    let sender = Sender::builder().device("a", Synthetic::new(64 << 20)).connect(listener.local_addr());
    let sent = sender.run(run.clone()).build().unwrap().run();
    (sent, receiving.join().unwrap())
}

#[test]
fn a_senders_report_has_the_run_the_receivers_report_and_what_tcp_did() {
    let note = [("kernel".to_owned(), "patched".to_owned())].into();
    let run = RunInfo { id: "7".to_owned(), arm: Some("b".to_owned()), note, ..RunInfo::default() };
    let (sent, received) = transfer_over_tcp(&run);
    assert_eq!((sent.outcome, received.outcome), (Outcome::Complete, Outcome::Complete), "{sent:?}");
    valid(&parsed(TRANSFER), &sent.report);
    valid(&parsed(TRANSFER), &received.report);
    let (sent, received) = (sent.report, received.report);
    let written = sent.run.clone().unwrap();
    assert!(written.started_at.starts_with("20") && written.started_at.ends_with('Z'), "{written:?}");
    assert_eq!(RunInfo { started_at: String::new(), ..written }, run);

    assert_eq!(sent.other_side.as_deref(), Some(&received), "the whole of it");
    assert!(received.other_side.is_none());
    assert!(sent.session.is_some() && sent.session == received.session);
    assert!(received.peer.unwrap().address.unwrap().starts_with("127.0.0.1:"));
    let clock = sent.clock.expect("a receiver of the same version answers");
    assert!(clock.offset_ns.unsigned_abs() <= clock.error_ns, "one host has one clock: {clock:?}");

    let (tx, rx) = (&sent.channels, &received.channels);
    let tcp = |side: &[ChannelReport], figure: fn(&TcpReport) -> Option<u64>| -> u64 {
        side.iter().map(|channel| figure(channel.tcp.as_ref().unwrap()).unwrap()).sum()
    };
    let on_the_wire = sent.bytes + 64 * sent.packets;
    let hellos = 2 * 64;
    assert_eq!(tcp(tx, |tcp| tcp.bytes_sent) - tcp(tx, |tcp| tcp.bytes_retransmitted), on_the_wire + hellos);
    assert_eq!(tcp(rx, |tcp| tcp.bytes_received), on_the_wire + hellos);
    assert!(tcp(tx, |tcp| tcp.mss) > 0 && tcp(tx, |tcp| tcp.busy_us) > 0);
    assert_eq!(sent.devices[0].estimate, Some(64 << 20));
    assert_eq!(received.devices[0].estimate, Some(64 << 20), "what the offer said");
}

#[test]
fn intervals_add_up_to_the_transfer() {
    let (sent, received) = transfer_over_tcp(&RunInfo::default());
    for report in [sent.report, received.report] {
        let intervals = &report.intervals;
        let sum = |count: fn(&Interval) -> u64| intervals.iter().map(count).sum::<u64>();
        assert_eq!(sum(|interval| interval.device_bytes.iter().sum()), report.bytes, "{:?}", report.role);
        assert_eq!(sum(|interval| interval.channel_bytes.iter().sum()), report.bytes, "{:?}", report.role);
        assert_eq!(sum(|interval| interval.credit_stall_ns), report.backpressure.credit_stalled_ns);
        assert_eq!((intervals[0].begin_ns, intervals.last().unwrap().end_ns), (0, report.duration_ns));
        assert!(intervals.windows(2).all(|pair| pair[0].end_ns == pair[1].begin_ns));
        let cost = report.cost.unwrap();
        assert!(
            sum(|interval| interval.cpu_ns) <= cost.user_ns + cost.system_ns && cost.enters > 0,
            "{cost:?}"
        );
        let host = &report.host;
        assert_eq!(host.name, fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
        assert_eq!(host.nic.as_ref().map(|nic| nic.name.as_str()), Some("lo"));
    }
}

#[test]
fn histograms_of_two_runs_add_up() {
    let runs = [transfer(Checksum::None, SEED_OF_THE_SINK).0, transfer(Checksum::Crc32c, SEED_OF_THE_SINK).0];
    let mut added = runs[0].report.latency_ns.send.decode().unwrap();
    added.add(runs[1].report.latency_ns.send.decode().unwrap()).unwrap();
    let mut truth = runs[0].histograms.send.clone();
    truth.add(&runs[1].histograms.send).unwrap();
    assert_eq!(added, truth);
    for quantile in [0.5, 0.9, 0.99, 0.999] {
        assert_eq!(added.value_at_quantile(quantile), truth.value_at_quantile(quantile));
    }
}

#[test]
fn reports_of_transfers_that_fail_are_valid() {
    let (sent, received) = transfer(Checksum::Crc32c, SEED_OF_THE_SINK + 1);
    assert_eq!((sent.outcome, received.outcome), (Outcome::Aborted, Outcome::Aborted));
    assert!(sent.report.error.is_some() && received.report.error.is_some());
    valid(&parsed(TRANSFER), &sent.report);
    valid(&parsed(TRANSFER), &received.report);
}

#[test]
fn the_report_of_a_migration_from_a_qemu_is_valid() {
    for (channels, outcome) in [(2, Outcome::Complete), (1, Outcome::Aborted)] {
        let streams = Streams::of("device-on-channels");
        let listener = qemu::Listener::bind(loopback()).unwrap();
        let receiver = qemu::Receiver::builder().listener(&listener).channels(channels);
        let receiver = receiver.device("0000:00:01.0/vfio", Discard).build().unwrap();
        let running = Running::start(move || receiver.run());
        migrate(listener.local_addr(), &streams, false);
        let finished = running.finish();
        assert_eq!((finished.outcome, finished.report.settings.dialect.as_str()), (outcome, "qemu"));
        let report = &finished.report;
        let moved = report.intervals.iter().flat_map(|interval| &interval.device_bytes).sum::<u64>();
        assert_eq!((moved, report.intervals.is_empty()), (report.bytes, outcome != Outcome::Complete));
        assert!((&report.clock, &report.other_side) == (&None, &None), "QEMU has neither pings nor a report");
        valid(&parsed(TRANSFER), &finished.report);
    }
}

#[test]
fn reports_of_captures_that_fail_are_valid() {
    let streams = Streams::of("device-on-channels-ack");
    let strange = capture(&streams, 1);
    assert!(strange.report.error.is_some() && strange.report.channels.is_empty());
    valid(&parsed(CAPTURE), &strange.report);
    let mut cut = streams;
    cut.main.truncate(300);
    cut.main[30] = 0xff;
    let cut = capture(&cut, 2);
    assert!(cut.error.is_some() && cut.report.channels.len() == 2);
    valid(&parsed(CAPTURE), &cut.report);
}

#[test]
fn reports_of_replays_that_fail_are_valid() {
    let streams = Streams::of("device-on-channels-ack");
    let left = replay(&streams, Manners { leaves: Some((0, 200)), ..Manners::default() });
    assert!(left.error.is_some() && left.report.bytes > 0);
    valid(&parsed(REPLAY), &left.report);
    let refused = Replay::builder(inspect(&["/nowhere".into()]), "127.0.0.1:1".parse().unwrap());
    let refused = refused.build().run();
    assert!(refused.error.is_some() && refused.report.channels.is_empty());
    valid(&parsed(REPLAY), &refused.report);
}

#[test]
fn reports_of_whatever_is_inspected_are_valid() {
    for name in ["device-on-channels", "device-on-channels-ack", "device-on-main", "one-connection"] {
        valid(&parsed(INSPECT), &inspect(&[fixture(name)]).report());
    }
    valid(&parsed(INSPECT), &inspect(&["/nowhere".into()]).report());
}

// ── reports of other versions ────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn reports_of_the_first_version_are_read_and_written_again_byte_for_byte() {
    fn check<R: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, schema: &str) -> R {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reports");
        let written = fs::read_to_string(folder.join(name)).unwrap();
        let report: R = serde_json::from_str(&written).unwrap();
        assert_eq!(serde_json::to_string_pretty(&report).unwrap() + "\n", written, "{name}");
        valid(&parsed(schema), &report);
        report
    }
    let captured: CaptureReport = check("capture.json", CAPTURE);
    let replayed: ReplayReport = check("replay.json", REPLAY);
    assert_eq!((captured.outcome, replayed.outcome), (StreamOutcome::Complete, StreamOutcome::Complete));
    assert_eq!(captured.answers.last().unwrap().message, Answer::Shut);
    let inspected: InspectReport = check("inspect.json", INSPECT);
    let broken: InspectReport = check("inspect-broken.json", INSPECT);
    assert!(inspected.ok && !broken.ok && broken.errors[0].file == "multifd-1.bin");
}

#[test]
fn reports_of_transfers_of_the_first_version_are_read_and_written_as_the_second() {
    fn check(name: &str) -> Report {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reports");
        let first: Value = serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap();
        let report: Report = serde_json::from_value(first.clone()).unwrap();
        let second = valid(&parsed(TRANSFER), &report);
        assert_eq!(
            (&first["schema"], &second["schema"]),
            (&json!("ringlift.report.v1"), &json!("ringlift.report.v2"))
        );
        assert_holds(&second, &first, name);
        report
    }
    let sent = check("sender.json");
    assert_eq!((sent.role, sent.outcome), (Role::Sender, TransferOutcome::Complete));
    assert_eq!(sent.warnings[0].code, WarningCode::CongestionControl);
    let received = check("receiver.json");
    assert_eq!((received.role, received.settings.checksum), (Role::Receiver, report::Checksum::Crc32c));
    let failed = check("sender-failed.json");
    assert!(failed.outcome == TransferOutcome::Aborted && failed.error.is_some());
    assert!(sent.run.is_none() && sent.cost.is_none() && sent.host.name.is_empty());
}

/// Asserts that a document has whatever an earlier one has, except for the name of its schema.
fn assert_holds(later: &Value, earlier: &Value, at: &str) {
    match earlier {
        Value::Object(earlier) => {
            for (name, one) in earlier.iter().filter(|(name, _)| *name != "schema") {
                assert_holds(&later[name], one, &format!("{at}.{name}"));
            }
        }
        Value::Array(earlier) => {
            assert_eq!(later.as_array().unwrap().len(), earlier.len(), "{at}");
            earlier.iter().enumerate().for_each(|(idx, one)| assert_holds(&later[idx], one, at));
        }
        earlier => assert_eq!(later, earlier, "{at}"),
    }
}

#[test]
fn a_report_carries_that_of_the_other_side() {
    let other = Report { role: Role::Receiver, ..full_transfer() };
    let both = Report { other_side: Some(Box::new(other.clone())), ..full_transfer() };
    let json = valid(&parsed(TRANSFER), &both);
    assert_eq!(json["other_side"], serde_json::to_value(&other).unwrap());
    let mut broken = json;
    broken["other_side"]["bytes"] = "many".into();
    assert!(!faults(&parsed(TRANSFER), &parsed(TRANSFER), &broken, "report").is_empty());
}

#[test]
fn what_a_later_version_adds_is_passed_over() {
    let report = full_transfer();
    let mut later = serde_json::to_value(&report).unwrap();
    later["energy_j"] = json!(5);
    later["settings"]["cipher"] = json!({"name": "aes"});
    later["warnings"][0]["number"] = json!(3);
    assert_eq!(serde_json::from_value::<Report>(later).unwrap(), report);
}

#[test]
fn a_report_of_another_schema_is_refused_with_both_names() {
    let mut report = serde_json::to_value(full_transfer()).unwrap();
    let of = |report: &Value| serde_json::from_value::<Report>(report.clone()).unwrap_err().to_string();
    report["schema"] = json!("ringlift.report.v3");
    let expected = "the schema is \"ringlift.report.v3\", and \"ringlift.report.v2\" was expected";
    assert_eq!(of(&report), expected);
    report.as_object_mut().unwrap().remove("schema");
    assert_eq!(of(&report), "missing field `schema`");
}

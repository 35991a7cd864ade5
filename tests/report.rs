//! The report and its schema, `docs/report.schema.json`, say the same: neither can drift away from the other.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![cfg(feature = "cli")]

mod common;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use common::schema::{assert_same_properties, faults, valid, warning_codes, words};
use common::source::{Streams, migrate};
use common::{Running, loopback};
use ringlift::report::{
    Backpressure, ChannelReport, DeviceReport, Downtime, ErrorReport, Host, Latency, Report, Settings,
    Warning, WarningCode,
};
use ringlift::sink::{Discard, Verify};
use ringlift::source::Synthetic;
use ringlift::{Checksum, Finished, Outcome, Receiver, Sender, ZeroCopy, qemu};
use serde_json::Value;

const SCHEMA: &str = include_str!("../docs/report.schema.json");

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

/// A small transfer between two threads: the sender's account and the receiver's.
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

/// A report with something in every place.
fn full_report() -> Report {
    Report {
        schema: "ringlift.report.v1",
        role: "sender",
        outcome: "aborted",
        error: Some(ErrorReport { text: "cancelled".to_owned(), hint: Some("do not") }),
        bytes: 1,
        packets: 1,
        duration_ns: 1,
        throughput_bytes_per_s: 1e9,
        settings: Settings {
            dialect: "qemu",
            checksum: "crc32c",
            zero_copy: "auto",
            huge_pages: "none",
            ..Settings::default()
        },
        host: Host::default(),
        devices: vec![DeviceReport { crc32c: Some("0123abcd".to_owned()), ..DeviceReport::default() }],
        channels: vec![ChannelReport::default()],
        latency_ns: Latency::default(),
        backpressure: Backpressure::default(),
        downtime: Downtime::default(),
        warnings: vec![Warning { code: WarningCode::OldKernel, text: "old".to_owned(), hint: "boot" }],
    }
}

fn assert_valid(report: &Report) {
    valid(&schema(), report);
}

#[test]
fn reports_of_transfers_that_complete_are_valid() {
    for checksum in [Checksum::Crc32c, Checksum::None] {
        let (sent, received) = transfer(checksum, SEED_OF_THE_SINK);
        assert_eq!((sent.outcome, received.outcome), (Outcome::Complete, Outcome::Complete), "{received:?}");
        assert_valid(&sent.report);
        assert_valid(&received.report);
        assert_eq!(sent.report.devices[0].crc32c.is_some(), checksum == Checksum::Crc32c);
    }
}

#[test]
fn reports_of_transfers_that_fail_are_valid() {
    let (sent, received) = transfer(Checksum::Crc32c, SEED_OF_THE_SINK + 1);
    assert_eq!((sent.outcome, received.outcome), (Outcome::Aborted, Outcome::Aborted));
    assert!(sent.report.error.is_some() && received.report.error.is_some());
    assert_valid(&sent.report);
    assert_valid(&received.report);
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
        assert_eq!((finished.outcome, finished.report.settings.dialect), (outcome, "qemu"));
        assert_valid(&finished.report);
    }
}

#[test]
fn a_report_has_every_property_of_the_schema_and_no_other() {
    let schema = schema();
    assert_same_properties(&schema, &valid(&schema, &full_report()), 60);
}

#[test]
fn the_schema_has_the_words_that_the_code_has() {
    let set = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<BTreeSet<_>>();
    let outcomes = [Outcome::Complete, Outcome::Aborted, Outcome::InDoubt];
    assert_eq!(words(&schema(), "/properties/outcome"), set(&outcomes.map(Outcome::name)));
    let zero_copy = [ZeroCopy::Auto, ZeroCopy::On, ZeroCopy::Off];
    assert_eq!(
        words(&schema(), "/properties/settings/properties/zero_copy"),
        set(&zero_copy.map(ZeroCopy::name))
    );
    assert_eq!(words(&schema(), "/properties/warnings/items/properties/code"), warning_codes());
}

#[test]
fn the_validator_finds_what_is_wrong() {
    let schema = schema();
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
        let mut report = valid(&schema, &full_report());
        breaks(&mut report);
        assert!(!faults(&schema, &schema, &report, "report").is_empty(), "case {number}");
    }
}

//! The report of a replay and its schema, `docs/replay.schema.json`, say the same: neither can drift away from the other.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![cfg(feature = "cli")]

mod common;

use common::Running;
use common::destination::{Destination, Manners};
use common::schema::{assert_same_properties, valid, warning_codes, words};
use common::source::Streams;
use ringlift::qemu::capture::inspect;
use ringlift::qemu::{Replay, Replayed};
use ringlift::report::{ErrorReport, ReplayReport, Warning, WarningCode};
use serde_json::Value;

fn schema() -> Value {
    serde_json::from_str(include_str!("../docs/replay.schema.json")).unwrap()
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

fn json(report: &ReplayReport) -> Value {
    valid(&schema(), report)
}

#[test]
fn a_report_has_every_property_of_the_schema_and_no_other() {
    let mut report = replay(&Streams::of("device-on-channels-ack"), Manners::default()).report;
    assert_eq!(report.outcome, "complete");
    report.error = Some(ErrorReport { text: "cancelled".to_owned(), hint: Some("do not") });
    report.warnings = vec![Warning { code: WarningCode::OldKernel, text: "old".to_owned(), hint: "boot" }];
    assert_same_properties(&schema(), &json(&report), 50);
}

#[test]
fn reports_of_replays_that_fail_are_valid() {
    let streams = Streams::of("device-on-channels-ack");
    let left = replay(&streams, Manners { leaves: Some((0, 200)), ..Manners::default() });
    assert!(left.error.is_some() && left.report.bytes > 0);
    json(&left.report);
    let capture = inspect(&["/nowhere".into()]);
    let refused = Replay::builder(capture, "127.0.0.1:1".parse().unwrap()).build().run();
    assert!(refused.error.is_some() && refused.report.channels.is_empty());
    json(&refused.report);
}

#[test]
fn the_schema_has_the_words_that_the_code_has() {
    assert_eq!(words(&schema(), "/properties/warnings/items/properties/code"), warning_codes());
}

//! The report of a capture and its schema, `docs/capture.schema.json`, say the same: neither can drift away from the other.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![cfg(feature = "cli")]

mod common;

use common::schema::{assert_same_properties, valid, warning_codes, words};
use common::source::{Streams, migrate};
use common::{Running, loopback};
use ringlift::qemu::{Capture, Captured, Listener};
use ringlift::report::{CaptureReport, ErrorReport, Warning, WarningCode};
use serde_json::Value;

fn schema() -> Value {
    serde_json::from_str(include_str!("../docs/capture.schema.json")).unwrap()
}

fn capture(streams: &Streams, channels: usize) -> Captured {
    let listener = Listener::bind(loopback()).unwrap();
    let addr = listener.local_addr();
    let capture = Capture::builder().listener(listener).channels(channels).build().unwrap();
    let running = Running::start(move || capture.run());
    migrate(addr, streams, true);
    running.finish()
}

fn json(report: &CaptureReport) -> Value {
    valid(&schema(), report)
}

#[test]
fn a_report_has_every_property_of_the_schema_and_no_other() {
    let mut report = capture(&Streams::of("device-on-channels-ack"), 2).report;
    assert_eq!(report.outcome, "complete");
    report.error = Some(ErrorReport { text: "cancelled".to_owned(), hint: Some("do not") });
    let warning = Warning { code: WarningCode::OldKernel, text: "old".to_owned(), hint: "boot" };
    report.warnings = vec![warning];
    assert_same_properties(&schema(), &json(&report), 60);
}

#[test]
fn reports_of_captures_that_fail_are_valid() {
    let streams = Streams::of("device-on-channels-ack");
    let strange = capture(&streams, 1);
    assert!(strange.report.error.is_some() && strange.report.channels.is_empty());
    json(&strange.report);
    let mut cut = streams;
    cut.main.truncate(300);
    cut.main[30] = 0xff;
    let cut = capture(&cut, 2);
    assert!(cut.error.is_some() && cut.report.channels.len() == 2);
    json(&cut.report);
}

#[test]
fn the_schema_has_the_words_that_the_code_has() {
    assert_eq!(words(&schema(), "/properties/warnings/items/properties/code"), warning_codes());
}

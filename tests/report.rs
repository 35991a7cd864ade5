//! The report and its schema, `docs/report.schema.json`, say the same: neither can drift away from the other.
//!
//! The validator below knows the keywords that the schema uses and refuses others, so that it cannot overlook one.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
#![cfg(feature = "cli")]

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use ringlift::sink::Verify;
use ringlift::source::Synthetic;
use ringlift::stats::{
    Backpressure, ChannelReport, DeviceReport, Downtime, ErrorReport, Host, Latency, Report, Settings,
    Warning, WarningCode,
};
use ringlift::{Checksum, Finished, Outcome, Receiver, Sender, ZeroCopy};
use serde_json::{Map, Value};

const SCHEMA: &str = include_str!("../docs/report.schema.json");
const SOURCE: &str = include_str!("../src/stats/report.rs");

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

/// Where `value` breaks `schema`; `at` says where both are.
fn faults(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let schema = schema.as_object().unwrap();
    schema.iter().flat_map(|(keyword, wanted)| fault(root, schema, keyword, wanted, value, at)).collect()
}

fn fault(
    root: &Value,
    schema: &Map<String, Value>,
    keyword: &str,
    wanted: &Value,
    value: &Value,
    at: &str,
) -> Vec<String> {
    let holds = match keyword {
        "$schema" | "$id" | "$defs" | "title" | "description" => true,
        "$ref" => return faults(root, resolve(root, wanted), value, at),
        "const" => value == wanted,
        "enum" => wanted.as_array().unwrap().contains(value),
        "anyOf" => wanted.as_array().unwrap().iter().any(|one| faults(root, one, value, at).is_empty()),
        "type" => match wanted {
            Value::Array(types) => types.iter().any(|one| is_of_type(value, one)),
            one => is_of_type(value, one),
        },
        "minimum" => value.as_f64().is_none_or(|value| value >= wanted.as_f64().unwrap()),
        "minLength" => value.as_str().is_none_or(|text| text.len() as u64 >= wanted.as_u64().unwrap()),
        "maxLength" => value.as_str().is_none_or(|text| text.len() as u64 <= wanted.as_u64().unwrap()),
        "required" => {
            let names = wanted.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
            value.as_object().is_none_or(|object| names.clone().all(|name| object.contains_key(name)))
        }
        "additionalProperties" => {
            assert_eq!(wanted, &Value::Bool(false), "{at}: nothing else is written in a closed object");
            let known = schema["properties"].as_object().unwrap();
            value.as_object().is_none_or(|object| object.keys().all(|name| known.contains_key(name)))
        }
        "properties" => {
            let Some(object) = value.as_object() else { return Vec::new() };
            let known = wanted.as_object().unwrap().iter();
            let present = known.filter_map(|(name, one)| Some((name, one, object.get(name)?)));
            return present
                .flat_map(|(name, one, value)| faults(root, one, value, &format!("{at}.{name}")))
                .collect();
        }
        "items" => {
            let items = value.as_array().into_iter().flatten();
            return items.flat_map(|item| faults(root, wanted, item, &format!("{at}[]"))).collect();
        }
        other => panic!("{at}: the validator does not know the keyword {other}"),
    };
    if holds { Vec::new() } else { vec![format!("{at}: {value} breaks {keyword}: {wanted}")] }
}

fn is_of_type(value: &Value, wanted: &Value) -> bool {
    match wanted.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("the validator does not know the type {other}"),
    }
}

fn resolve<'a>(root: &'a Value, reference: &Value) -> &'a Value {
    let pointer =
        reference.as_str().and_then(|text| text.strip_prefix('#')).expect("references stay in the schema");
    root.pointer(pointer).expect("a reference names something")
}

/// Every property that the schema has, as paths; `[]` stands for the items of an array.
fn properties_of_schema(root: &Value, schema: &Value, at: &str, found: &mut BTreeSet<String>) {
    let schema = schema.as_object().unwrap();
    if let Some(reference) = schema.get("$ref") {
        properties_of_schema(root, resolve(root, reference), at, found);
    }
    for one in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        properties_of_schema(root, one, at, found);
    }
    if let Some(items) = schema.get("items") {
        properties_of_schema(root, items, &format!("{at}[]"), found);
    }
    for (name, one) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let at = format!("{at}.{name}");
        properties_of_schema(root, one, &at, found);
        found.insert(at);
    }
}

/// Every property that a report has, the same way.
fn properties_of(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    for item in value.as_array().into_iter().flatten() {
        properties_of(item, &format!("{at}[]"), found);
    }
    for (name, one) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        properties_of(one, &at, found);
        found.insert(at);
    }
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

fn json(report: &Report) -> Value {
    serde_json::to_value(report).unwrap()
}

fn assert_valid(report: &Report) {
    let schema = schema();
    let found = faults(&schema, &schema, &json(report), "report");
    assert!(found.is_empty(), "{found:#?}");
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
fn a_report_has_every_property_of_the_schema_and_no_other() {
    let (schema, report) = (schema(), full_report());
    assert_valid(&report);
    let (mut drawn, mut written) = (BTreeSet::new(), BTreeSet::new());
    properties_of_schema(&schema, &schema, "", &mut drawn);
    properties_of(&json(&report), "", &mut written);
    assert_eq!(drawn, written);
    assert!(drawn.len() > 60, "all of them were found");
}

/// The names of a place in the schema that holds one of a few words.
fn words(pointer: &str) -> BTreeSet<String> {
    let schema = schema();
    let words =
        schema.pointer(pointer).and_then(|place| place.get("enum")).and_then(Value::as_array).unwrap();
    words.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_schema_has_the_words_that_the_code_has() {
    let set = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<BTreeSet<_>>();
    let outcomes = [Outcome::Complete, Outcome::Aborted, Outcome::InDoubt];
    assert_eq!(words("/properties/outcome"), set(&outcomes.map(Outcome::name)));
    let zero_copy = [ZeroCopy::Auto, ZeroCopy::On, ZeroCopy::Off];
    assert_eq!(words("/properties/settings/properties/zero_copy"), set(&zero_copy.map(ZeroCopy::name)));
    assert_eq!(words("/properties/warnings/items/properties/code"), warning_codes());
}

/// The variants of `WarningCode` as serde writes them, read from the source: nothing else lists them all.
fn warning_codes() -> BTreeSet<String> {
    let (_, body) = SOURCE.split_once("pub enum WarningCode {").unwrap();
    let (body, _) = body.split_once('}').unwrap();
    let lines = body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines.map(|line| snake_case(line.trim_end_matches(','))).collect()
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_uppercase() && at > 0 {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
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
        let mut report = json(&full_report());
        breaks(&mut report);
        assert!(!faults(&schema, &schema, &report, "report").is_empty(), "case {number}");
    }
}

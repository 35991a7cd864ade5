//! `--events` and `--interval`: what a script reads while a transfer goes on is in order, complete and as
//! `docs/events.schema.json` has it, however the transfer ends.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use common::schema::{faults, properties_of, properties_of_schema};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn ringlift(args: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("ringlift"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn parsed(schema: &str) -> Value {
    serde_json::from_str(schema).unwrap()
}

fn schema() -> Value {
    parsed(include_str!("../docs/events.schema.json"))
}

/// The lines, each of which is as the schema has it. The report in the last one is, too.
fn lines(text: &str) -> Vec<Value> {
    assert!(text.ends_with('\n'), "the last line is whole: {text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (schema, report) = (schema(), parsed(include_str!("../docs/report.schema.json")));
    for line in &lines {
        let name = line["event"].as_str().unwrap();
        let one = if name == "phase" { "phase_event" } else { name };
        assert_eq!(faults(&schema, &schema["$defs"][one], line, name), [""; 0]);
        assert_eq!(faults(&schema, &schema, line, name), [""; 0]);
        if line["report"].is_object() {
            assert_eq!(faults(&report, &report, &line["report"], "report"), [""; 0]);
        }
    }
    assert!(lines.windows(2).all(|pair| {
        pair[0]["time_ns"].as_u64() <= pair[1]["time_ns"].as_u64() || pair[1]["event"] == "start"
    }));
    lines
}

fn named<'a>(lines: &'a [Value], event: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

/// Begins with one start and ends with one end, which it gives.
fn end_of(lines: &[Value]) -> &Value {
    assert_eq!((&lines[0]["event"], named(lines, "start").len()), (&"start".into(), 1));
    let end = lines.last().unwrap();
    assert_eq!((&end["event"], named(lines, "end").len()), (&"end".into(), 1));
    end
}

/// A receiver, and where it listens.
fn recv(args: &[&str]) -> (Child, String) {
    let mut child = ringlift(&[&["recv", "--listen", "127.0.0.1:0"], args].concat()).spawn().unwrap();
    let mut words = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    words.read_line(&mut line).unwrap();
    std::thread::spawn(move || words.read_to_end(&mut Vec::new()));
    let address = line.strip_prefix("listening on ").expect(&line).trim_end().to_owned();
    (child, address)
}

fn end(child: &mut Child, signal: Signal) -> i32 {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
    child.wait().unwrap().code().unwrap()
}

#[test]
fn the_demo_tells_all_of_it_in_order_and_prints_its_tables_elsewhere() {
    let output =
        ringlift(&["demo", "--size", "16MiB", "--events", "-", "--interval", "100ms"]).output().unwrap();
    let (out, words) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{words}");
    assert!(words.contains("throughput") && words.contains("verified: 4 devices"), "{words}");
    assert!(
        words.contains("  elapsed phase             bytes    GB/s credit  pool  in flight reorder\n"),
        "{words}"
    );
    let lines = lines(&out);
    let end = end_of(&lines);
    assert_eq!(
        (&end["outcome"], &end["exit_status"], &end["error"]),
        (&"complete".into(), &0.into(), &Value::Null)
    );
    let report = &end["report"];
    assert_eq!(named(&lines, "connected")[0]["session"], report["session"]);
    assert_eq!(lines[0]["run"], report["run"]);

    let phases: Vec<_> = named(&lines, "phase").iter().map(|line| line["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["connecting", "settings", "switchover", "stop_copy", "loading", "commit", "done"]);
    let intervals = named(&lines, "interval");
    assert!(!intervals.is_empty());
    for device in 0..4 {
        let moved: u64 =
            intervals.iter().map(|line| line["interval"]["device_bytes"][device].as_u64().unwrap()).sum();
        assert_eq!(Some(moved), report["devices"][device]["bytes"].as_u64());
    }
    assert_eq!(intervals.last().unwrap()["bytes"], report["bytes"]);
    let warned: Vec<_> = named(&lines, "warning").iter().map(|line| line["text"].clone()).collect();
    let reported: Vec<_> =
        report["warnings"].as_array().unwrap().iter().map(|warning| warning["text"].clone()).collect();
    assert_eq!(warned, reported);
    let steps: Vec<_> = named(&lines, "device")
        .into_iter()
        .filter(|line| line["device"] == "dev1" && line["moment"] == "ends")
        .collect();
    let steps: Vec<_> = steps.iter().map(|line| line["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["start", "quiesce", "stop", "config", "release"]);
}

#[test]
fn every_property_of_the_schema_is_in_a_line_and_no_other() {
    let output = ringlift(&["demo", "--size", "8MiB", "--devices", "1", "--events", "-"]).output().unwrap();
    let failed = ringlift(&["send", "--to", "127.0.0.1:1", "--device", "a=null:1", "--events", "-"]);
    let failed = { failed }.output().unwrap();
    let mut lines = lines(&text(&output.stdout));
    lines.extend(self::lines(&text(&failed.stdout)));
    // one that the host may not give cause for
    lines.push(serde_json::json!({
        "schema": "ringlift.events.v1", "time_ns": 0, "event": "warning", "code": "", "text": "", "hint": ""
    }));
    let schema = schema();
    for def in schema["anyOf"].as_array().unwrap() {
        let name = def["$ref"].as_str().unwrap().trim_start_matches("#/$defs/");
        let (mut drawn, mut written) = (BTreeSet::new(), BTreeSet::new());
        properties_of_schema(&schema, &schema["$defs"][name], "", &mut drawn);
        for line in named(&lines, if name == "phase_event" { "phase" } else { name }) {
            let mut line = line.clone();
            if line["report"].is_object() {
                line["report"] = Value::Null;
            }
            properties_of(&line, "", &mut written);
        }
        assert_eq!(drawn, written, "{name}");
    }
}

#[test]
fn a_send_that_fails_before_during_or_by_a_refusal_says_so_in_its_end() {
    let events = |args: &[&str]| {
        let output = ringlift(&[&["send", "--events", "-"], args].concat()).output().unwrap();
        (output.status.code().unwrap(), lines(&text(&output.stdout)))
    };
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (status, lines) = events(&["--to", &closed, "--device", "net0=null:1"]);
    let end = end_of(&lines);
    assert_eq!((status, &end["outcome"], &end["exit_status"]), (1, &"aborted".into(), &1.into()));
    assert_eq!(end["error"]["name"], "KernelConnect");
    assert_eq!(lines[0]["peer"], closed);

    let (status, lines) = events(&["--to", &closed, "--device", "net0=file:/missing"]);
    let end = end_of(&lines);
    assert_eq!((status, lines.len(), &end["report"]), (1, 2, &Value::Null));
    assert!(end["error"]["text"].as_str().unwrap().contains("/missing"), "{end}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events");
    let (mut receiver, address) = recv(&["--device", "net0=discard", "--events", file.to_str().unwrap()]);
    let (status, lines) = events(&["--to", &address, "--device", "net1=null:1"]);
    let end = end_of(&lines);
    assert_eq!((status, &end["exit_status"], &end["error"]["code"]), (4, &4.into(), &2006.into()));
    let (status, lines) = events(&["--to", &address, "--device", "net0=null:1MiB"]);
    assert_eq!((status, &end_of(&lines)["outcome"]), (0, &"complete".into()));

    // one start and one end for each, and for the one that is waited for in vain
    assert_eq!(end_of_receiver(&mut receiver), 130);
    let lines = self::lines(&std::fs::read_to_string(file).unwrap());
    let ends: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "start" || line["event"] == "end")
        .map(|line| line["exit_status"].as_u64())
        .collect();
    assert_eq!(ends, [None, Some(4), None, Some(0), None, Some(130)]);
}

fn end_of_receiver(receiver: &mut Child) -> i32 {
    end(receiver, Signal::SIGINT)
}

#[test]
fn a_send_that_is_cancelled_says_so() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let mut send =
        ringlift(&["send", "--to", &address, "--device", "a=null:1", "--events", "-"]).spawn().unwrap();
    let mut out = BufReader::new(send.stdout.take().unwrap());
    let mut written = String::new();
    while !written.contains("connecting") {
        assert!(out.read_line(&mut written).unwrap() > 0, "{written}");
    }
    assert_eq!(end(&mut send, Signal::SIGTERM), 130);
    out.read_to_string(&mut written).unwrap();
    let lines = lines(&written);
    let end = end_of(&lines);
    assert_eq!((&end["error"]["name"], &end["exit_status"]), (&"Cancelled".into(), &130.into()));
    assert_eq!(end["outcome"], "aborted");
}

#[test]
fn a_reader_that_goes_away_and_a_full_disk_end_the_stream_alone() {
    let ended = |output: &Output| {
        let words = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{words}");
        assert_eq!(
            words.matches("warning[not_written]: the stream of events ends here").count(),
            1,
            "{words}"
        );
    };
    ended(&ringlift(&["demo", "--size", "1MiB", "--events", "/dev/full"]).output().unwrap());
    let mut demo = ringlift(&["demo", "--size", "1MiB", "--events", "-"]).spawn().unwrap();
    drop(demo.stdout.take());
    ended(&demo.wait_with_output().unwrap());
}

#[test]
fn what_cannot_be_is_refused_before_anything_begins() {
    for (args, expected) in [
        (&["demo", "--interval", "99ms"][..], "an interval lasts 100ms at least"),
        (&["demo", "--events", "-", "--json", "-"], "stdout cannot take both the events and the report"),
        (&["demo", "--events", "/missing/file"], "the stream of events cannot be written to /missing/file"),
        (&["demo", "--quiet-warning", "rain"], "the codes are zero_copy_copied, "),
        (
            &["recv", "--listen", "127.0.0.1:0", "--device", "a=fd:1", "--events", "-"],
            "stdout cannot take both a device's state and the events",
        ),
    ] {
        let output = ringlift(args).output().unwrap();
        let words = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(words.contains(expected), "{words}");
    }
}

#[test]
fn a_warning_has_its_code_and_is_quiet_when_asked_and_stays_in_the_report_and_in_the_events() {
    let (mut receiver, address) = recv(&["--device", "a=discard"]);
    let folder = tempfile::tempdir().unwrap();
    let run = |quiet: &[&str]| {
        let (json, events) = (folder.path().join("json"), folder.path().join("events"));
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let (json, events) = (path(&json), path(&events));
        let send = ["send", "--to", &address, "--device", "a=null:64MiB", "--zero-copy", "on"];
        let output =
            ringlift(&[&send[..], &["--json", &json, "--events", &events], quiet].concat()).output().unwrap();
        let lines = lines(&std::fs::read_to_string(events).unwrap());
        let codes: Vec<_> =
            named(&lines, "warning").iter().map(|line| line["code"].as_str().unwrap().to_owned()).collect();
        let report = parsed(&std::fs::read_to_string(json).unwrap());
        let reported: Vec<_> =
            report["warnings"].as_array().unwrap().iter().map(|one| one["code"].clone()).collect();
        assert_eq!(reported, codes);
        (text(&output.stderr), codes)
    };
    let (words, codes) = run(&[]);
    assert!(codes.iter().any(|code| code == "zero_copy_copied"), "{codes:?}");
    codes.iter().for_each(|code| assert!(words.contains(&format!("warning[{code}]: ")), "{words}"));
    let (words, codes) = run(&["--quiet-warning", &codes.join(",")]);
    assert!(codes.iter().any(|code| code == "zero_copy_copied"), "{codes:?}");
    assert!(!words.contains("warning["), "{words}");
    end_of_receiver(&mut receiver);
}

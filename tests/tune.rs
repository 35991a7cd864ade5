//! `ringlift tune` as a user types it: its budget, its report, and the command line that it recommends.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "the clock outside of what is measured")]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::schema::faults;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringlift::report::{TuneReport, TuneVerdict};
use serde_json::Value;

fn ringlift(options: &str) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("ringlift"));
    command.args(options.split_whitespace()).env("LC_ALL", "C").stdin(Stdio::null());
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn read(json: &[u8]) -> TuneReport {
    let json: Value = serde_json::from_slice(json).unwrap();
    let schema: Value = serde_json::from_str(include_str!("../docs/tune.schema.json")).unwrap();
    assert_eq!(faults(&schema, &schema, &json, "report"), [""; 0]);
    serde_json::from_value(json).unwrap()
}

/// A receiver that is ended with the test.
struct Receiver {
    child: Child,
    address: String,
}

impl Receiver {
    fn start(options: &str) -> Receiver {
        let mut command = ringlift(&format!("recv --listen 127.0.0.1:0 {options}"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.strip_prefix("listening on ")?.to_owned())).unwrap();
        std::thread::spawn(move || lines.count());
        Receiver { child, address }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_ends_within_its_budget_and_recommends_a_command_line_that_works() {
    let receiver = Receiver::start("--bench");
    let begun = Instant::now();
    let options = format!("tune --to {} --budget 3s --seed 7 --json -", receiver.address);
    let output = ringlift(&options).output().unwrap();
    let took = begun.elapsed();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report = read(&output.stdout);
    let longest = report.trials.iter().flat_map(|trial| &trial.throughput_bytes_per_s.values);
    let longest = longest.map(|rate| report.size as f64 / rate).fold(0.0, f64::max);
    let allowed = Duration::from_secs(3) + Duration::from_secs_f64(longest) + Duration::from_secs(2);
    assert!(took < allowed, "{took:?} and {allowed:?}");
    assert!(report.complete && report.transfers > 0 && !report.trials.is_empty());
    if report.verdict != TuneVerdict::Tuned {
        assert_eq!((report.settings.channels, report.settings.packet_size), (2, 1 << 20));
    }
    let words = report.send_command.strip_prefix("ringlift ").unwrap();
    let sent = ringlift(words).output().unwrap();
    assert_eq!(sent.status.code(), Some(0), "{words}: {}", stderr(&sent));
}

#[test]
fn the_tables_fit_eighty_columns() {
    let receiver = Receiver::start("--bench");
    let options = format!("tune --to {} --budget 2s --size 1MiB", receiver.address);
    let output = ringlift(&options).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let tables = text.lines().filter(|line| line.contains("  ") && !line.contains("ringlift"));
    assert!(tables.clone().count() > 1 && text.contains("95 % of median"), "{text}");
    assert!(tables.clone().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.contains("ringlift send --to"), "{text}");
}

#[test]
fn a_signal_ends_it_with_what_is_known() {
    let receiver = Receiver::start("--bench");
    let mut child = ringlift(&format!("tune --to {} --budget 60s --json -", receiver.address))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.ends_with(": channels")));
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let rest = std::thread::spawn(move || lines.map_while(Result::ok).count());
    let output = child.wait_with_output().unwrap();
    rest.join().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let report = read(&output.stdout);
    assert!(!report.complete && report.verdict == TuneVerdict::Undecided);
}

#[test]
fn a_receiver_that_cannot_be_used_is_answered_with_one_that_can() {
    let own = Receiver::start("--device net0=discard");
    for (options, status, expected) in [
        (format!("--to {}", own.address), 4, "is for devices of its own"),
        ("--to 127.0.0.1:1".to_owned(), 1, "ECONNREFUSED"),
    ] {
        let output = ringlift(&format!("tune {options}")).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{options}: {said}");
        assert!(said.contains(expected), "{options}: {said}");
        assert!(said.contains("hint: start `ringlift recv --bench --listen"), "{options}: {said}");
    }
    for (options, expected) in [
        ("--to 127.0.0.1:1 --budget 900ms", "at least 1s and at most 60m"),
        ("--to 127.0.0.1:1 --size 0", "nothing to measure"),
    ] {
        let output = ringlift(&format!("tune {options}")).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(expected), "{options}: {}", stderr(&output));
    }
}

//! The command as a user and a script type it: processes, files, signals and exit statuses.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use common::source::{Streams, migrate};

/// Larger than a packet and no multiple of one.
const SIZE: usize = 3_000_001;

fn ringlift(args: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("ringlift"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running `recv`, and what it prints after `listening on`.
struct Recv {
    child: Child,
    address: String,
    words: BufReader<ChildStderr>,
}

impl Recv {
    fn start(args: &[&str]) -> Recv {
        Recv::spawn(ringlift(&[&["recv", "--listen", "127.0.0.1:0"], args].concat()))
    }

    fn spawn(mut command: Command) -> Recv {
        let mut child = command.spawn().unwrap();
        let mut words = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        words.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").expect("its first line").trim_end().to_owned();
        Recv { child, address, words }
    }

    /// Waits for a line that contains `expected`.
    fn await_line(&mut self, expected: &str) {
        let said = (&mut self.words).lines().map_while(Result::ok).any(|line| line == expected);
        assert!(said, "it never printed {expected}");
    }

    fn signal(&self, name: &str) {
        let killed =
            Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(killed.success());
    }

    /// Waits until it exits by itself.
    fn end(mut self) -> (i32, String, String) {
        let (mut out, mut words) = (String::new(), String::new());
        self.words.read_to_string(&mut words).unwrap();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        (self.child.wait().unwrap().code().expect("it ended by itself"), out, words)
    }
}

impl Drop for Recv {
    /// A failed test leaves no receiver behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(address: &str, args: &[&str]) -> Output {
    ringlift(&[&["send", "--to", address], args].concat()).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn content() -> Vec<u8> {
    (0..SIZE).map(|idx| u8::try_from(idx * 7 % 251).unwrap()).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Documents, one per line.
fn lines(text: &[u8]) -> Vec<serde_json::Value> {
    let lines = std::str::from_utf8(text).unwrap().lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_demo_moves_verifies_and_measures() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let output = ringlift(&["demo", "--devices", "3", "--channels", "2", "--size", "3MiB", "--json"])
        .arg(&report)
        .output()
        .unwrap();

    let out = text(&output.stdout);
    assert_eq!(code(&output), 0, "{out}{}", text(&output.stderr));
    assert!(out.contains("sender") && out.contains("receiver"), "{out}");
    assert!(out.contains("latency, end to end: "), "{out}");
    assert!(out.ends_with("\nverified: 3 devices, 9437184 bytes\n"), "{out}");
    let reports = lines(&std::fs::read(report).unwrap());
    assert_eq!(reports.len(), 2);
    for (report, role) in reports.iter().zip(["sender", "receiver"]) {
        assert_eq!(report["schema"], "ringlift.report.v2");
        assert_eq!((&report["role"], &report["outcome"]), (&role.into(), &"complete".into()));
        assert_eq!(report["devices"].as_array().unwrap().len(), 3);
    }
}

#[test]
fn the_demo_prints_json_alone_when_asked_to() {
    let output = ringlift(&["demo", "--size", "64KiB", "--json", "-"]).output().unwrap();
    assert_eq!(code(&output), 0);
    let reports = lines(&output.stdout);
    assert_eq!(reports.len(), 2);
    assert!(reports.iter().all(|report| report["outcome"] == "complete"));
}

#[test]
fn a_file_becomes_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    std::fs::write(&from, content()).unwrap();
    let recv = Recv::start(&["--once", "--device", &format!("net0=file:{}", to.display())]);

    let output = send(&recv.address, &["--device", &format!("net0=file:{}", from.display())]);

    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let (status, out, words) = recv.end();
    assert_eq!(status, 0, "{words}");
    assert!(out.starts_with("receiver complete\n"), "{out}");
    assert_eq!(std::fs::read(&to).unwrap(), content());
    assert_eq!(names(folder.path()), ["from", "to"]);
}

#[test]
fn a_pipe_becomes_a_pipe() {
    let recv = Recv::start(&["--once", "--device", "net0=fd:1"]);
    let mut sender = ringlift(&["send", "--to", &recv.address, "--device", "net0=fd:0"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = sender.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&content()).unwrap());

    let mut recv = recv;
    let mut found = Vec::new();
    recv.child.stdout.take().unwrap().read_to_end(&mut found).unwrap();

    writer.join().unwrap();
    assert!(sender.wait_with_output().unwrap().status.success());
    assert!(recv.child.wait().unwrap().success());
    assert!(found == content(), "the state alone is on stdout: {} bytes", found.len());
}

#[test]
fn made_up_content_of_another_size_than_said_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    std::fs::write(&path, content()).unwrap();
    let recv = Recv::start(&["--once", "--device", "net0=verify"]);

    let output = send(&recv.address, &["--device", &format!("net0=file:{}", path.display())]);

    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    let (status, _, words) = recv.end();
    assert_eq!(status, 1);
    assert!(
        words.contains("error: device net0: content differs from the generator's at byte 0\nhint: "),
        "{words}"
    );
}

/// Only the last report was kept.
#[test]
fn a_serving_receiver_serves_on_and_adds_a_report_for_each_transfer() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("reports.json");
    let recv = Recv::start(&["--device", "net0=verify", "--json", &report.display().to_string()]);

    for size in [1u64, 2] {
        let source = format!("net0=synthetic:{size}MiB");
        assert_eq!(code(&send(&recv.address, &["--device", &source])), 0);
    }
    assert_eq!(
        code(&send(&recv.address, &["--device", "other=synthetic:1MiB"])),
        4,
        "another device is refused"
    );
    assert_eq!(code(&send(&recv.address, &["--device", "net0=synthetic:3MiB"])), 0);

    recv.signal("INT");
    let (status, _, words) = recv.end();
    assert_eq!(status, 130, "{words}");
    let reports = lines(&std::fs::read(&report).unwrap());
    let mib = |report: &serde_json::Value| report["bytes"].as_u64().unwrap() >> 20;
    assert_eq!(reports.iter().map(mib).collect::<Vec<_>>(), [1, 2, 0, 3, 0], "the last one was cancelled");
}

#[test]
fn a_dry_run_predicts_and_harms_no_one() {
    let folder = tempfile::tempdir().unwrap();
    let reports = folder.path().join("reports.json");
    let file = format!("a=file:{}", folder.path().join("a.state").display());
    let recv = Recv::start(&["--device", &file, "--json", reports.to_str().unwrap()]);

    let device = ["--device", "a=synthetic:3MiB"];
    let dry = send(&recv.address, &[&device[..], &["--dry-run"]].concat());
    assert_eq!(code(&dry), 0, "{}", text(&dry.stderr));
    let told = text(&dry.stdout);
    assert!(told.contains("3.00 MiB at ") && told.contains("at least"), "{told}");
    assert!(text(&dry.stderr).contains("this was a dry run: nothing was moved"), "{}", text(&dry.stderr));
    assert!(!names(folder.path()).contains(&"a.state".to_owned()), "nothing was moved");

    let report = send(&recv.address, &[&device[..], &["--dry-run", "--json", "-"]].concat());
    let report = &lines(&report.stdout)[0];
    assert_eq!((&report["outcome"], &report["bytes"]), (&"aborted".into(), &0.into()));
    assert_eq!(report["prediction"]["rate_from"], "warm_up");
    assert!(report["prediction"]["round_trip_ns"].as_u64().unwrap() > 0, "{report}");

    let sent = send(&recv.address, &device);
    assert_eq!(code(&sent), 0, "{}", text(&sent.stderr));
    assert!(text(&sent.stdout).contains("predicted downtime: "), "{}", text(&sent.stdout));
    recv.signal("TERM");
    let (_, _, words) = recv.end();
    assert_eq!(words.matches("the sender made a dry run: it moved nothing").count(), 2, "{words}");
    assert!(names(folder.path()).contains(&"a.state".to_owned()));
}

#[test]
fn a_receiver_that_waits_ends_on_either_signal() {
    for signal in ["INT", "TERM"] {
        let recv = Recv::start(&["--once", "--device", "net0=discard"]);
        recv.signal(signal);
        let (status, out, words) = recv.end();
        assert_eq!((status, out.as_str()), (130, ""));
        assert!(words.contains("cancelling: "), "{words}");
    }
}

#[test]
fn a_cancelled_transfer_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    std::fs::write(&path, b"old").unwrap();
    let mut recv = Recv::start(&["--once", "--device", &format!("net0=file:{}", path.display())]);
    // The sender waits for its stdin for ever.
    let mut sender = ringlift(&["send", "--to", &recv.address, "--device", "net0=fd:0"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    sender.stdin.as_mut().unwrap().write_all(&[1; 10_000]).unwrap();
    recv.await_line("phase: stop-copy");

    recv.signal("TERM");
    let (status, _, words) = recv.end();

    assert_eq!(status, 130, "{words}");
    drop(sender.stdin.take());
    assert_eq!(code(&sender.wait_with_output().unwrap()), 1, "the peer cancelled, not its own caller");
    assert_eq!(names(folder.path()), ["state"]);
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
}

#[test]
fn usage_errors_have_status_2_and_a_hint() {
    for (args, hint) in [
        (&["demo", "--size", "1MB"][..], "hint: write 1MiB"),
        (&["recv", "--listen", "0.0.0.0:0", "--device", "a=verify"], "hint: --plaintext accepts that"),
        (&["recv", "--listen", "[::]:0", "--device", "a=verify"], "hint: --plaintext accepts that"),
        (&["recv", "--listen", "127.0.0.1:0", "--device", "a=null:1"], "hint: a sink for it is discard"),
        (
            &["recv", "--listen", "127.0.0.1:0", "--device", "a=fd:1", "--json", "-"],
            "hint: name a file with --json",
        ),
        (&["send", "--to", "127.0.0.1", "--device", "a=null:1"], "hint: write 192.0.2.1:4321"),
        (
            &["send", "--to", "127.0.0.1:1", "--device", "a=null:1", "--json", "/nowhere/report.json"],
            "hint: name a file in a folder",
        ),
        (
            &["send", "--to", "127.0.0.1:1", "--device", "a=null:1", "--device", "a=null:1"],
            "a was given twice",
        ),
    ] {
        let output = ringlift(args).output().unwrap();
        let words = text(&output.stderr);
        assert_eq!(code(&output), 2, "{args:?}: {words}");
        assert!(words.starts_with("error: ") && words.contains(hint), "{args:?}: {words}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn plaintext_opens_the_door_and_the_sender_warns() {
    let mut command =
        ringlift(&["recv", "--listen", "0.0.0.0:0", "--plaintext", "--once", "--device", "a=discard"]);
    command.env("NO_COLOR", "1");
    let recv = Recv::spawn(command);
    assert!(recv.address.starts_with("0.0.0.0:"));
    let port = recv.address.rsplit_once(':').unwrap().1.to_owned();
    assert_eq!(code(&send(&format!("127.0.0.1:{port}"), &["--device", "a=null:1MiB"])), 0);
    assert_eq!(recv.end().0, 0);
}

#[test]
fn what_fails_before_a_transfer_has_status_1_and_names_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let missing = format!("net0=file:{}/missing/state", folder.path().display());
    for args in [
        ["recv", "--listen", "127.0.0.1:0", "--device", &missing],
        ["send", "--to", "127.0.0.1:1", "--device", &missing],
    ] {
        let output = ringlift(&args).output().unwrap();
        let words = text(&output.stderr);
        assert_eq!(code(&output), 1, "{words}");
        assert!(words.starts_with("error: device net0: ") && words.contains("ENOENT"), "{words}");
        assert!(words.contains("\nhint: check the path"), "{words}");
    }
}

#[test]
fn a_port_in_use_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = ringlift(&["recv", "--listen", &address, "--device", "a=verify"]).output().unwrap();
    let words = text(&output.stderr);
    assert_eq!(code(&output), 1, "{words}");
    assert!(words.contains("EADDRINUSE"), "{words}");
}

#[test]
fn a_closed_stdout_does_not_end_a_transfer() {
    let recv = Recv::start(&["--once", "--device", "net0=verify"]);
    let mut sender =
        ringlift(&["send", "--to", &recv.address, "--device", "net0=synthetic:1MiB"]).spawn().unwrap();
    drop(sender.stdout.take());
    drop(sender.stderr.take());
    assert!(sender.wait().unwrap().success());
    assert_eq!(recv.end().0, 0);
}

#[test]
fn every_command_shows_examples_in_its_help() {
    for command in ["demo", "recv", "send"] {
        let output = ringlift(&[command, "--help"]).output().unwrap();
        assert_eq!(code(&output), 0);
        assert!(text(&output.stdout).contains(&format!("Examples:\n  ringlift {command}")), "{command}");
    }
    let output = ringlift(&["--help"]).output().unwrap();
    assert!(text(&output.stdout).contains("130  cancelled"));
}

#[test]
fn a_migration_from_a_qemu_is_received_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("state");
    let device = format!("0000:00:01.0/vfio#0=file:{}", to.display());
    let streams = Streams::of("device-on-channels-ack");
    let events = folder.path().join("events");
    let events_to = events.to_str().unwrap();
    let recv = ["--dialect", "qemu", "--device", &device, "--once", "--json", "-", "--events", events_to];
    let recv = Recv::start(&recv);
    let heard = migrate(recv.address.parse().unwrap(), &streams, true);
    let (status, out, words) = recv.end();
    assert_eq!(status, 0, "{words}");
    assert!(heard.ends_with(&[0, 1, 0, 4, 0, 0, 0, 0]));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["outcome"], &report["settings"]["dialect"]), (&"complete".into(), &"qemu".into()));
    let events = lines(&std::fs::read(events).unwrap());
    let intervals = events.iter().filter(|line| line["event"] == "interval");
    let moved: u64 = intervals.map(|line| line["interval"]["device_bytes"][0].as_u64().unwrap()).sum();
    assert!(moved > 0 && Some(moved) == report["devices"][0]["bytes"].as_u64(), "{events:?}");
    assert_eq!(report["devices"][0]["name"], "0000:00:01.0/vfio");
    assert_eq!(std::fs::read(to).unwrap().len(), 96);
}

#[test]
fn a_migration_that_does_not_fit_is_refused_with_its_status() {
    let args = ["--dialect", "qemu", "--channels", "2", "--device", "0000:00:07.0/vfio=discard", "--once"];
    let recv = Recv::start(&args);
    let heard = migrate(recv.address.parse().unwrap(), &Streams::of("device-on-channels-ack"), true);
    let (status, _, words) = recv.end();
    assert_eq!(status, 4, "{words}");
    assert!(words.contains("error: refused by the receiver: device 0000:00:01.0/vfio is on one side only"));
    assert!(heard.ends_with(&[0, 1, 0, 4, 0, 0, 0, 1]));
}

#[test]
fn options_of_the_other_dialect_are_usage_errors_with_a_hint() {
    let recv = ["recv", "--listen", "127.0.0.1:0", "--device", "a/vfio=discard"];
    for (options, what) in [
        (&["--channels", "4"][..], "--channels means nothing in our own dialect"),
        (&["--pool", "8MiB"], "--pool means nothing in our own dialect"),
        (&["--dialect", "qemu", "--pool-max", "8MiB"], "--pool-max means nothing in QEMU's dialect"),
        (&["--dialect", "qemu", "--pool", "1MiB"], "these settings need"),
        (&["--dialect", "qemu", "--channels", "256"], "it is no whole number from 0 to 255"),
    ] {
        let output = ringlift(&[&recv[..], options].concat()).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(code(&output), 2, "{said}");
        assert!(said.contains(what), "{said}");
    }
}

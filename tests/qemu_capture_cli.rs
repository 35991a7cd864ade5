//! `ringlift qemu capture` as a user types it: exit statuses, messages, files, and how much memory it takes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![cfg(feature = "cli")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use common::source::{Source, Streams, migrate};
use nix::sys::resource::{UsageWho, getrusage};
use ringlift::wire::qemu::{DevicePacket, Idstr, PREFIX_LEN, Packet, PageSize};

const MIB: usize = 1 << 20;

fn ringlift(args: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("ringlift"));
    command.args(["qemu", "capture", "--listen", "127.0.0.1:0"]).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A capture that waits for its source.
struct Capture {
    child: Child,
    addr: SocketAddr,
    words: BufReader<ChildStderr>,
}

impl Capture {
    fn start(args: &[&str]) -> Capture {
        let mut child = ringlift(args).spawn().unwrap();
        let mut words = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        words.read_line(&mut line).unwrap();
        let addr = line.strip_prefix("listening on ").expect("its first line").trim_end().parse().unwrap();
        Capture { child, addr, words }
    }

    /// Waits for a line that contains `expected`.
    fn await_line(&mut self, expected: &str) {
        let said = (&mut self.words).lines().map_while(Result::ok).any(|line| line == expected);
        assert!(said, "it never printed {expected}");
    }

    /// Its status, its stdout and its stderr.
    fn end(mut self) -> (i32, String, String) {
        let (mut out, mut words) = (String::new(), String::new());
        self.words.read_to_string(&mut words).unwrap();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        (self.child.wait().unwrap().code().expect("it ended by itself"), out, words)
    }
}

fn fails(args: &[&str]) -> (i32, String) {
    let Output { status, stderr, .. } = ringlift(args).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_migration_is_recorded_and_shown() {
    let temp = tempfile::tempdir().unwrap();
    let (folder, report) = (temp.path().join("captured"), temp.path().join("report.json"));
    let capture = Capture::start(&["--channels", "2", "--out", text(&folder), "--json", text(&report)]);
    let streams = Streams::of("device-on-channels-ack");
    migrate(capture.addr, &streams, true);
    let (code, out, words) = capture.end();
    assert_eq!(code, 0, "{out}{words}");
    assert!(out.starts_with("capture complete\n") && out.contains("multifd 1"), "{out}");
    assert!(out.contains("pong 1, switchover ack, shut 0"), "{out}");
    assert!(out.contains("packets of device state, size: 2 packets"), "{out}");
    assert!(words.contains("connected with 127.0.0.1:") && words.contains("phase: stop-copy"), "{words}");
    assert_eq!(std::fs::read(folder.join("main.bin")).unwrap(), streams.main);
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["schema"], "ringlift.capture.v1");
    let inspected = Command::new(assert_cmd::cargo::cargo_bin!("ringlift"))
        .args(["qemu", "inspect", text(&folder)])
        .output()
        .unwrap();
    assert!(inspected.status.success(), "{inspected:?}");
}

#[test]
fn what_is_only_measured_is_not_kept() {
    let capture = Capture::start(&["--channels", "2", "--discard", "--json", "-"]);
    migrate(capture.addr, &Streams::of("device-on-channels"), false);
    let (code, out, words) = capture.end();
    assert_eq!(code, 0, "{words}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["outcome"], &report["folder"]), (&"complete".into(), &serde_json::Value::Null));
}

#[test]
fn an_error_is_one_sentence_with_a_hint_and_status_1() {
    let capture = Capture::start(&["--channels", "1", "--discard"]);
    migrate(capture.addr, &Streams::of("device-on-channels"), false);
    let (code, out, words) = capture.end();
    assert_eq!((code, out.as_str()), (1, ""), "{words}");
    let said = "error: a connection says that it is multifd channel 1, and 1 were expected, from 0 on\nhint: expect as many multifd connections (--channels) as";
    assert!(words.contains(said), "{words}");
}

#[test]
fn a_signal_ends_it_with_status_130_and_keeps_what_came() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("captured");
    let mut capture = Capture::start(&["--channels", "2", "--out", text(&folder)]);
    let streams = Streams::of("device-on-channels-ack");
    let mut source = Source::connect(capture.addr, &streams);
    source.main.write_all(&streams.main[..450]).unwrap();
    capture.await_line("phase: stop-copy");
    let id = capture.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let (code, out, words) = capture.end();
    assert_eq!(code, 130, "{words}");
    assert!(out.starts_with("capture cancelled\n"), "{out}");
    assert!(words.contains("stopping: what came so far is kept"), "{words}");
    assert_eq!(std::fs::read(folder.join("main.bin")).unwrap(), &streams.main[..450]);
}

#[test]
fn what_makes_no_sense_is_refused_before_it_listens() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("main.bin"), "precious").unwrap();
    let (code, words) = fails(&["--channels", "2", "--out", text(temp.path())]);
    assert!(code == 2 && words.contains("is not empty\nhint: name a new one"), "{code} {words}");
    let (code, words) = fails(&["--channels", "256", "--discard"]);
    assert!(code == 2 && words.contains("from 0 to 255"), "{code} {words}");
    let (code, words) = fails(&["--channels", "2"]);
    assert!(code == 2 && words.contains("--out <DIR>"), "{code} {words}");
    let others = ["--listen", "0.0.0.0:0", "--channels", "2", "--discard"];
    let output = Command::new(assert_cmd::cargo::cargo_bin!("ringlift"))
        .args([&["qemu", "capture"][..], &others].concat())
        .output()
        .unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && words.contains("hint: --plaintext accepts that"), "{words}");
}

/// `streams` with another device of `mib` MiB, spread over the channels.
fn with_state(mut streams: Streams, mib: u32) -> Streams {
    let idstr = Idstr::new(b"0000:00:02.0/vfio").unwrap();
    let channels = streams.multifd.len();
    for idx in 0..=mib {
        let config = idx == mib;
        let packet = DevicePacket { idstr, instance: 0, idx, config, len: if config { 16 } else { 1 << 20 } };
        let mut prefix = [0; PREFIX_LEN];
        Packet::Device(packet).encode(&mut prefix, PageSize::default());
        let stream = &mut streams.multifd[idx as usize % channels];
        stream.extend(prefix);
        stream.extend(std::iter::repeat_n(0x5a, packet.len as usize));
    }
    streams
}

/// The peak of all captures so far.
fn peak_after(mib: u32, end: &[&str]) -> usize {
    let capture = Capture::start(&[&["--channels", "2"], end].concat());
    migrate(capture.addr, &with_state(Streams::of("device-on-channels"), mib), false);
    let (code, _, words) = capture.end();
    assert_eq!(code, 0, "{words}");
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss() * 1024;
    usize::try_from(peak).unwrap()
}

/// The kernel keeps the peak of all children, which only grows, so one test does everything, the small one first.
#[test]
fn the_peak_is_the_pool_and_a_little_however_large_the_state() {
    let temp = tempfile::tempdir().unwrap();
    let pool = 64 * MIB;
    let out = temp.path().join("small");
    let small = peak_after(16, &["--out", text(&out)]);
    assert!(small <= pool + 32 * MIB, "{} MiB", small / MIB);
    let out = temp.path().join("large");
    let large = peak_after(256, &["--out", text(&out)]);
    assert!(large <= small + 4 * MIB, "{} MiB for 256, {} MiB for 16", large / MIB, small / MIB);
}

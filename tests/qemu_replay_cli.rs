//! `ringlift qemu replay` as a user and a script type it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![cfg(feature = "cli")]

mod common;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use common::destination::{Destination, Manners};
use common::migration::grown;
use common::source::Streams;
use common::{Running, loopback};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// What a replay printed, and how it ended.
struct Said {
    status: Option<i32>,
    out: String,
    words: String,
}

fn command(folder: &Path, to: &str, more: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("ringlift"));
    command.args(["qemu", "replay"]).arg(folder).args(["--to", to]).args(more);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(mut command: Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { status: output.status.code(), out: text(output.stdout), words: text(output.stderr) }
}

fn play(streams: &Streams, manners: Manners, more: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    streams.write_to(folder.path());
    let destination = Destination::listen(streams.multifd.len());
    let command = command(folder.path(), &destination.addr().to_string(), more);
    let taking = Running::start(move || destination.take(manners));
    let said = run(command);
    taking.finish();
    said
}

#[test]
fn a_replay_that_is_taken_ends_with_0_and_tells_what_was_answered() {
    let said = play(&Streams::of("device-on-channels-ack"), Manners::default(), &[]);
    assert_eq!(said.status, Some(0), "{}", said.words);
    assert!(said.out.starts_with("replay complete\n"), "{}", said.out);
    assert!(said.out.contains("pong 1, switchover ack, shut 0"), "{}", said.out);
    assert!(said.out.contains("0000:00:01.0/vfio"), "{}", said.out);
    for answer in ["PONG 1", "SWITCHOVER_ACK", "SHUT 0"] {
        assert!(said.words.contains(&format!("the destination answers {answer} after ")), "{}", said.words);
    }
}

#[test]
fn the_report_goes_where_it_is_asked_for() {
    let streams = Streams::of("device-on-channels-ack");
    let said = play(&streams, Manners::default(), &["--json", "-"]);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(report["schema"], "ringlift.replay.v1");
    assert_eq!((&report["outcome"], &report["bytes"]), (&"complete".into(), &streams.len().into()));
}

#[test]
fn a_destination_that_says_no_ends_it_with_1_and_a_hint() {
    let manners = Manners { shut: Some(1), ..Manners::default() };
    let said = play(&Streams::of("device-on-channels-ack"), manners, &[]);
    assert_eq!(said.status, Some(1), "{}", said.words);
    assert!(
        said.words.contains("error: the destination could not load the state (SHUT 1)"),
        "{}",
        said.words
    );
    assert!(said.words.contains("hint: look at the destination's log"), "{}", said.words);
    assert!(said.out.starts_with("replay failed\n"), "{}", said.out);
}

#[test]
fn what_is_wrong_with_a_capture_is_reported_before_anything_connects() {
    let mut streams = Streams::of("device-on-channels");
    streams.main.truncate(200);
    streams.multifd[1].pop();
    let folder = tempfile::tempdir().unwrap();
    streams.write_to(folder.path());
    let listener = TcpListener::bind(loopback()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let said = run(command(folder.path(), &listener.local_addr().unwrap().to_string(), &[]));
    assert_eq!((said.status, said.out.as_str()), (Some(1), ""));
    assert!(said.words.contains("error: main.bin, byte 200: "), "{}", said.words);
    assert!(said.words.contains("error: multifd-1.bin, byte "), "{}", said.words);
    assert!(said.words.contains("hint: "), "{}", said.words);
    assert!(listener.accept().is_err(), "nothing connected");
}

#[test]
fn what_cannot_be_typed_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for more in [&["--pace", "slow"][..], &["--to", "nowhere"], &["--channels", "2"]] {
        assert_eq!(run(command(folder.path(), "127.0.0.1:1", more)).status, Some(2), "{more:?}");
    }
}

#[test]
fn a_signal_ends_it_with_130() {
    let folder = tempfile::tempdir().unwrap();
    grown(2, 40, 60).write_to(folder.path());
    let listener = TcpListener::bind(loopback()).unwrap();
    let mut command = command(folder.path(), &listener.local_addr().unwrap().to_string(), &[]);
    let child = command.spawn().unwrap();
    let _streams: Vec<_> = (0..3).map(|_| listener.accept().unwrap().0).collect();
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{words}");
    assert!(words.contains("stopping"), "{words}");
}

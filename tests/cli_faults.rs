//! The command when something is wrong: the command line, the peer, the host. `tests/cli.rs` has the cases that go
//! well.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use common::content;
use common::peer::{Acceptor, Connections};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringlift::wire::Control;
use serde_json::Value;

fn program() -> &'static Path {
    assert_cmd::cargo::cargo_bin!("ringlift")
}

fn piped(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ringlift(args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(args);
    piped(command)
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(program());
    piped(command)
}

/// A running process, and its output line by line. Dropping it kills the process: a failed test leaves none behind.
struct Run {
    child: Child,
    words: BufReader<ChildStderr>,
    heard: String,
}

/// How it ended.
#[derive(Debug)]
struct End {
    status: i32,
    out: String,
    words: String,
}

impl Run {
    fn start(mut command: Command) -> Run {
        let mut child = command.spawn().unwrap();
        let words = BufReader::new(child.stderr.take().unwrap());
        Run { child, words, heard: String::new() }
    }

    /// A `recv`, and where it listens.
    fn recv(args: &[&str]) -> (Run, String) {
        let mut run = Run::start(ringlift(&[&["recv", "--listen", "127.0.0.1:0"], args].concat()));
        let line = run.await_line("listening on ");
        let address = line.trim_start_matches("listening on ").to_owned();
        (run, address)
    }

    /// Reads until a line begins with `begin`.
    fn await_line(&mut self, begin: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.words.read_line(&mut line).unwrap();
            assert!(read > 0, "it never printed {begin}, but {}", self.heard);
            self.heard.push_str(&line);
            if line.starts_with(begin) {
                return line.trim_end().to_owned();
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    fn end(mut self) -> End {
        let mut words = std::mem::take(&mut self.heard);
        self.words.read_to_string(&mut words).unwrap();
        let mut out = String::new();
        if let Some(mut stdout) = self.child.stdout.take() {
            stdout.read_to_string(&mut out).unwrap();
        }
        let status = self.child.wait().unwrap().code().expect("it ended by itself");
        End { status, out, words }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn end_of(output: &Output) -> End {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let status = output.status.code().expect("it ended by itself");
    End { status, out: text(&output.stdout), words: text(&output.stderr) }
}

fn send(address: &str, args: &[&str]) -> End {
    end_of(&ringlift(&[&["send", "--to", address], args].concat()).output().unwrap())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn what_was_typed_wrong_is_said_with_what_would_be_right() {
    let to = ["send", "--to", "127.0.0.1:1"];
    let device = ["--device", "a=null:1"];
    for (args, expected) in [
        (["--device", "null:1"].to_vec(), "hint: write for example net0="),
        (["--device", "=null:1"].to_vec(), "a device's name has 1 to 255 bytes"),
        (["--device", "a=tape:1"].to_vec(), "hint: write vfio:PATH, file:PATH, fd:N"),
        (["--device", "a=verify"].to_vec(), "hint: a source for it is synthetic:SIZE"),
        (["--device", "a=synthetic:1GB"].to_vec(), "hint: write 1GiB"),
        (["--device", "a=fd:three"].to_vec(), "hint: write for example fd:3"),
        ([&device[..], &["--deadline", "10"]].concat(), "hint: write 300ms, 30s or 2m"),
        ([&device[..], &["--deadline", "1h"]].concat(), "hint: write 300ms, 30s or 2m"),
        ([&device[..], &["--packet-size", "1KiB"]].concat(), "a packet has at least 4KiB"),
        ([&device[..], &["--channels", "0"]].concat(), "it is no whole number from 1 to 255"),
        ([&device[..], &["--channels", "256"]].concat(), "it is no whole number from 1 to 255"),
        ([&device[..], &["--pool", "1MiB"]].concat(), "a pool of 1048576 bytes was asked for"),
        ([&device[..], &["--zero-copy", "maybe"]].concat(), "possible values: auto, on, off"),
        ([&device[..], &["--checksum", "md5"]].concat(), "possible values: crc32c, none"),
        (vec![], "--device <NAME=SOURCE>"),
    ] {
        let end = end_of(&ringlift(&[&to[..], &args].concat()).output().unwrap());
        assert_eq!(end.status, 2, "{args:?}: {end:?}");
        assert!(end.words.starts_with("error: ") && end.words.contains(expected), "{args:?}: {}", end.words);
        assert_eq!(end.out, "", "messages go to stderr");
    }
}

#[test]
fn an_open_door_without_encryption_is_refused_by_name() {
    let end = end_of(&ringlift(&["recv", "--listen", "0.0.0.0:0", "--device", "a=verify"]).output().unwrap());
    assert_eq!(end.status, 2);
    assert!(end.words.contains("there is no encryption yet"), "{}", end.words);
}

#[test]
fn a_congestion_control_that_is_not_there_is_said_by_either_side() {
    let end = send("127.0.0.1:1", &["--device", "a=null:1", "--congestion", "turtle"]);
    assert_eq!(end.status, 1, "{end:?}");
    assert!(
        end.words.contains("hint: ") && end.words.contains("tcp_available_congestion_control"),
        "{end:?}"
    );
    // without waiting for a sender, whose transfer it would end
    let script = "exec timeout 10 \"$1\" recv --listen 127.0.0.1:0 --device a=discard --congestion turtle";
    let end = end_of(&shell(script).output().unwrap());
    assert_eq!(end.status, 1, "{end:?}");
    assert!(end.words.contains("tcp_available_congestion_control"), "{end:?}");
}

#[test]
fn a_port_where_nobody_listens_is_said_with_what_to_do() {
    let address = common::listen().local_addr().to_string();
    let end = send(&address, &["--device", "a=null:1"]);
    assert_eq!(end.status, 1);
    assert!(end.words.contains("ECONNREFUSED"), "{}", end.words);
    assert!(end.words.contains("\nhint: ") && end.words.contains("ringlift recv"), "{}", end.words);
}

#[test]
fn a_receiver_that_dies_after_commit_has_status_3() {
    let acceptor = Acceptor::open();
    let sender = Run::start(ringlift(&[
        "send",
        "--to",
        &acceptor.addr.to_string(),
        "--device",
        "net0=synthetic:1MiB",
        "--channels",
        "1",
        "--json",
        "-",
    ]));
    let (mut peer, loaded) = acceptor.welcome_and_take_all();
    assert_eq!(peer.next_message(), Some(Control::Switchover));
    loaded.iter().for_each(|loaded| peer.send(loaded));
    assert_eq!(peer.next_message(), Some(Control::Commit));
    drop(peer);
    let end = sender.end();
    assert_eq!(end.status, 3, "{end:?}");
    assert!(end.words.contains("error: commit was sent and no answer came"), "{}", end.words);
    assert!(end.words.contains("hint: look at the destination"), "{}", end.words);
    let report = json(&end.out);
    assert_eq!(report["outcome"], "in_doubt");
    assert!(report["error"]["hint"].as_str().unwrap().starts_with("look at the destination"));
}

#[test]
fn a_receiver_that_refuses_has_status_4_and_serves_on() {
    let (recv, address) = Run::recv(&["--device", "net0=verify"]);
    let end = send(&address, &["--device", "net1=synthetic:1MiB"]);
    assert_eq!(end.status, 4, "{end:?}");
    assert!(end.words.contains("hint: give both sides the same device names"), "{}", end.words);
    assert_eq!(send(&address, &["--device", "net0=synthetic:1MiB"]).status, 0);
    recv.signal(Signal::SIGTERM);
    let end = recv.end();
    assert_eq!(end.status, 130, "{end:?}");
    assert!(
        end.words.contains("error: refused by the receiver: device net1 is on one side only"),
        "{}",
        end.words
    );
}

#[test]
fn a_receiver_serves_on_whatever_comes_to_its_door() {
    let (mut recv, address) = Run::recv(&["--device", "net0=verify"]);
    let mut stranger = TcpStream::connect(&address).unwrap();
    stranger.write_all(&[b'x'; 64]).unwrap();
    common::peer::await_end(&mut stranger);
    // also in the middle of a session
    let mut peer = common::peer::greet_and_agree(address.parse().unwrap(), 1, &["net0"]);
    peer.write_data(0, &[0; 64]);
    assert!(matches!(peer.final_message(), Some(Control::Abort { .. })));
    drop(peer);
    recv.await_line("error: ");
    let end = send(&address, &["--device", "net0=synthetic:1MiB"]);
    assert_eq!(end.status, 0, "{end:?}");
    recv.signal(Signal::SIGINT);
    let end = recv.end();
    assert_eq!(end.status, 130, "{end:?}");
    assert!(end.words.contains("its first bytes are 0x78787878"), "the stranger is reported: {}", end.words);
    assert!(end.words.contains("on channel 0: its first bytes are 0x00000000"), "{}", end.words);
}

/// A sender that a hand-written receiver keeps waiting, and that receiver.
fn waiting_sender(acceptor: &Acceptor) -> (Run, Connections) {
    let to = acceptor.addr.to_string();
    let sender =
        Run::start(ringlift(&["send", "--to", &to, "--device", "a=synthetic:1MiB", "--channels", "1"]));
    (sender, acceptor.welcome_and_agree().0)
}

#[test]
fn a_sender_that_is_interrupted_rolls_back_and_has_status_130() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let acceptor = Acceptor::open();
        let (mut sender, mut peer) = waiting_sender(&acceptor);
        sender.await_line("phase: stop-copy");
        sender.signal(signal);
        assert_eq!(peer.final_message(), Some(Control::Cancel), "the peer is told");
        drop(peer);
        let end = sender.end();
        assert_eq!(end.status, 130, "{end:?}");
        assert!(end.words.contains("cancelling: the devices go back"), "{}", end.words);
    }
}

#[test]
fn a_signal_that_comes_before_anything_has_begun_has_status_130() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // it waits for somebody who writes, before it watches signals
        let device = format!("a=file:{}", fifo.display());
        let sender = Run::start(ringlift(&["send", "--to", "127.0.0.1:1", "--device", &device]));
        let status = format!("/proc/{}/status", sender.child.id());
        let catches = |status: &str| {
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
            u64::from_str_radix(mask, 16).unwrap() & 1 << (signal as i32 - 1) != 0
        };
        let caught = (0..200_000).any(|_| catches(&std::fs::read_to_string(&status).unwrap()));
        assert!(caught, "it leaves {signal} to the kernel");
        sender.signal(signal);
        assert_eq!(sender.end().status, 130);
    }
}

#[test]
fn a_signal_after_commit_does_not_end_the_wait_for_the_answer() {
    let acceptor = Acceptor::open();
    let (sender, mut peer) = waiting_sender(&acceptor);
    let loaded = common::peer::take_all(&mut peer, 1);
    assert_eq!(peer.next_message(), Some(Control::Switchover));
    peer.send(&loaded[0]);
    assert_eq!(peer.next_message(), Some(Control::Commit));
    sender.signal(Signal::SIGTERM);
    assert_eq!(common::peer::read_message(&mut peer.control).unwrap(), Control::Heartbeat);
    peer.send(&Control::Committed);
    assert_eq!(peer.final_message(), None);
    drop(peer);
    let end = sender.end();
    assert_eq!(end.status, 0, "{end:?}");
}

#[test]
fn a_deadline_that_passes_has_status_1() {
    let (_recv, address) = Run::recv(&["--device", "net0=verify"]);
    let end = send(&address, &["--device", "net0=synthetic:4GiB", "--deadline", "1ms"]);
    assert_eq!(end.status, 1, "{end:?}");
    assert!(
        end.words.contains("error: the deadline passed before every device was loaded\nhint: "),
        "{}",
        end.words
    );
}

#[test]
fn the_reports_of_both_sides_match_and_stdout_has_nothing_else() {
    let (recv, address) =
        Run::recv(&["--once", "--device", "net0=verify", "--device", "a=discard", "--json", "-"]);
    let devices =
        ["--device", "net0=synthetic:3MiB", "--device", "a=null:100", "--channels", "3", "--json", "-"];
    let sent = send(&address, &devices);
    assert_eq!(sent.status, 0, "{sent:?}");
    let received = recv.end();
    let (sent, received) = (json(&sent.out), json(&received.out));
    assert_eq!((&sent["role"], &received["role"]), (&"sender".into(), &"receiver".into()));
    for report in [&sent, &received] {
        assert_eq!(report["schema"], "ringlift.report.v2");
        assert_eq!(report["outcome"], "complete");
        assert_eq!(report["error"], Value::Null);
        assert_eq!(report["channels"].as_array().unwrap().len(), 3);
        assert_eq!(report["host"]["ringlift"], env!("CARGO_PKG_VERSION"));
    }
    for field in ["bytes", "packets"] {
        assert_eq!(sent[field], received[field]);
    }
    for (sent, received) in
        sent["devices"].as_array().unwrap().iter().zip(received["devices"].as_array().unwrap())
    {
        for field in ["name", "instance", "bytes", "packets", "config_bytes", "crc32c"] {
            assert_eq!(sent[field], received[field], "{field}");
        }
    }
}

#[test]
fn no_colour_and_no_cursor_go_to_a_pipe() {
    for no_color in [None, Some("1")] {
        let mut command = ringlift(&["demo", "--size", "1MiB", "--devices", "2"]);
        command.env_remove("NO_COLOR").envs(no_color.map(|value| ("NO_COLOR", value)));
        let end = end_of(&command.output().unwrap());
        assert_eq!(end.status, 0, "{end:?}");
        assert!(!end.out.contains('\u{1b}') && !end.words.contains('\u{1b}'), "{end:?}");
    }
}

#[test]
fn descriptors_that_a_shell_redirects_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    std::fs::write(&from, content(2_000_003)).unwrap();
    let script = "exec \"$1\" recv --listen 127.0.0.1:0 --once --device net0=fd:4 4>\"$2\"";
    let mut command = shell(script);
    command.arg(&to);
    let mut recv = Run::start(command);
    let address = recv.await_line("listening on ").trim_start_matches("listening on ").to_owned();
    let mut command = shell("exec \"$1\" send --to \"$3\" --device net0=fd:3 3<\"$2\"");
    let sent = end_of(&command.arg(&from).arg(&address).output().unwrap());
    assert_eq!(sent.status, 0, "{sent:?}");
    let received = recv.end();
    assert_eq!(received.status, 0, "{received:?}");
    assert!(std::fs::read(&to).unwrap() == content(2_000_003));
}

#[test]
fn a_descriptor_that_is_not_open_is_named() {
    let end = send("127.0.0.1:1", &["--device", "net0=fd:77"]);
    assert_eq!(end.status, 1);
    assert!(end.words.contains("error: device net0: open /proc/self/fd/77 failed: ENOENT"), "{}", end.words);
}

#[test]
fn a_full_disk_fails_both_sides_with_status_1() {
    let mut command = shell("exec \"$1\" recv --listen 127.0.0.1:0 --once --device net0=fd:4 4>/dev/full");
    command.stdin(Stdio::null());
    let mut recv = Run::start(command);
    let address = recv.await_line("listening on ").trim_start_matches("listening on ").to_owned();
    let sent = send(&address, &["--device", "net0=synthetic:3MiB"]);
    assert_eq!(sent.status, 1, "{sent:?}");
    assert!(sent.words.contains("error: the peer aborted: device net0: "), "{}", sent.words);
    let received = recv.end();
    assert_eq!(received.status, 1, "{received:?}");
    assert!(received.words.contains("ENOSPC"), "{}", received.words);
}

#[test]
fn a_host_without_vfio_devices_says_so() {
    if Path::new("/dev/vfio/devices").exists() || Path::new("/sys/bus/mdev/devices").exists() {
        return;
    }
    let end = end_of(&ringlift(&["devices"]).output().unwrap());
    assert_eq!((end.status, end.out.as_str()), (0, ""));
    assert!(end.words.contains("this host has no VFIO device"), "{}", end.words);
}

#[test]
fn a_probe_of_no_device_fails_with_a_hint_and_its_report_needs_a_probe() {
    let end = end_of(&ringlift(&["devices", "--probe", "/nowhere/at/all"]).output().unwrap());
    assert_eq!((end.status, end.out.as_str()), (1, ""));
    assert!(
        end.words.contains("error: device /nowhere/at/all: ") && end.words.contains("\nhint: "),
        "{}",
        end.words
    );
    let end = end_of(&ringlift(&["devices", "--json", "-"]).output().unwrap());
    assert_eq!(end.status, 2, "{}", end.words);
    assert!(end.words.contains("--probe"), "{}", end.words);
}

/// Runs the demo as a user who may pin `kib` KiB.
fn demo_with_locked_memory(kib: u32) -> End {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("ringlift");
    std::fs::copy(program(), &copy).unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    // root may pin any amount: so run as another user, and one that no other test uses
    let uid = 60_000 + kib;
    let somebody =
        format!("setpriv --reuid {uid} --regid {uid} --clear-groups --inh-caps=-all --bounding-set=-all");
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let user = if is_root { &somebody } else { "" };
    let script =
        format!("ulimit -l {kib} && cd / && exec {user} \"$1\" demo --devices 1 --size 1MiB --json -");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]).arg(&copy);
    end_of(&piped(command).output().unwrap())
}

#[test]
fn a_pool_that_cannot_be_pinned_is_used_as_it_is_and_warned_of() {
    let end = demo_with_locked_memory(2048);
    assert_eq!(end.status, 0, "{end:?}");
    let report = json(end.out.lines().next().unwrap());
    assert_eq!(report["settings"]["registered_buffers"], false);
    let codes: Vec<&Value> = report["warnings"].as_array().unwrap().iter().map(|one| &one["code"]).collect();
    assert!(codes.contains(&&"no_registered_buffers".into()), "{codes:?}");
    assert!(
        end.words.contains("warning[no_registered_buffers]: registering the buffer pool failed: ENOMEM"),
        "{}",
        end.words
    );
    assert!(end.words.contains("hint: raise") && end.words.contains("ulimit -l"), "{}", end.words);
}

#[test]
fn a_ring_that_cannot_be_had_is_an_error_that_names_the_limit() {
    let end = demo_with_locked_memory(16);
    // kernels before 6.1 count rings as pinned memory, and later ones do so again
    if end.status != 0 {
        assert_eq!(end.status, 1, "{end:?}");
        assert!(end.words.contains("ENOMEM") && end.words.contains("ulimit -l"), "{}", end.words);
    }
}

#[test]
fn too_few_descriptors_are_an_error_that_names_the_limit() {
    let script = "ulimit -n 20; exec \"$1\" demo --size 1MiB --channels 16";
    let end = end_of(&shell(script).output().unwrap());
    assert_eq!(end.status, 1, "{end:?}");
    assert!(
        end.words.contains("EMFILE") && end.words.contains("hint: raise the limit of open files"),
        "{end:?}"
    );
}

#[test]
fn a_sender_that_comes_when_the_one_before_has_ended_is_never_told_that_the_receiver_is_busy() {
    let (_recv, address) = Run::recv(&["--device", "net0=discard"]);
    for round in 0..10 {
        let device = if round % 2 == 0 { "net0=null:1MiB" } else { "net1=null:1" };
        let end = send(&address, &["--device", device]);
        assert_eq!(end.status, if round % 2 == 0 { 0 } else { 4 }, "{round}: {end:?}");
        assert!(!end.words.contains("busy"), "{round}: {}", end.words);
    }
}

#[test]
fn many_strangers_fill_no_log() {
    // 3000 connections with garbage wrote 2673 lines.
    let (recv, addr) = Run::recv(&["--once", "--device=net0=discard"]);
    for _ in 0..300 {
        let mut stranger = TcpStream::connect(&addr).unwrap();
        stranger.write_all(&[b'x'; 64]).unwrap();
        // closed, or reset because of bytes that nobody read
        let _ = stranger.read(&mut [0]);
    }
    let sent = send(&addr, &["--device=net0=null:1MiB"]);
    assert_eq!(sent.status, 0, "{sent:?}");
    let end = recv.end();
    let turned_away = end.words.lines().filter(|line| line.contains("turned away")).count();
    assert_eq!((end.status, turned_away), (0, 4), "{end:?}");
    assert!(end.words.contains("more connections were turned away for the same reason"), "{end:?}");
}

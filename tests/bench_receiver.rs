//! `ringlift recv --bench` and the benches that use it: two processes over loopback, as between two hosts.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use common::Running;
use common::peer::{an_offer, control_bytes, greet};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringlift::report::BenchReport;
use ringlift::source::Null;
use ringlift::wire::{Control, DeviceOffer, Offer};
use ringlift::{Finished, Outcome, Sender};

fn ringlift(options: &str) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("ringlift"));
    command.args(options.split_whitespace()).env("LC_ALL", "C").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn report(output: &Output) -> BenchReport {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

/// A running `recv --bench`, which is gone when the test is.
struct Receiver {
    child: Child,
    address: SocketAddr,
    words: BufReader<ChildStderr>,
}

impl Receiver {
    fn start(options: &str) -> Receiver {
        let mut child = ringlift(&format!("recv --bench {options}")).spawn().unwrap();
        let mut words = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        words.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").expect("its first line").trim_end().parse().unwrap();
        Receiver { child, address, words }
    }

    fn over_loopback() -> Receiver {
        Receiver::start("--listen 127.0.0.1:0")
    }

    /// Interrupts it: its status, and what it printed after its address.
    fn stop(mut self) -> (Option<i32>, String, String) {
        signal(&self.child, Signal::SIGINT);
        let (mut out, mut words) = (String::new(), String::new());
        self.words.read_to_string(&mut words).unwrap();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        (self.child.wait().unwrap().code(), out, words)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(to: SocketAddr, names: impl IntoIterator<Item = String>) -> Finished {
    let sender = Sender::builder().connect(to).packet_size(4096);
    let sender = names.into_iter().fold(sender, |sender, name| sender.device(&name, Null::new(100_000)));
    let sender = sender.build().unwrap();
    Running::start(move || sender.run()).finish()
}

#[test]
fn one_receiver_takes_every_number_of_devices_and_says_what_it_came_to_in_few_lines() {
    let receiver = Receiver::over_loopback();
    let options =
        "--devices 1,4 --packet-size 64KiB,1MiB --channels 1,3 --checksum crc32c,none --size 1MiB --rounds 2";
    let output = ringlift(&format!("bench --to {} {options} --json -", receiver.address)).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report = report(&output);
    assert_eq!((report.cells.len(), report.complete), (16, true));
    assert_eq!(report.to, receiver.address.to_string());
    assert!(report.cells.iter().all(|cell| cell.receiver_peak_rss_bytes.is_some()));
    for cell in &report.cells {
        assert!(cell.receiver_cpu_ns_per_gib.is_some(), "its figures came with each transfer");
        assert_eq!(cell.latency_ns.write.count, cell.latency_ns.send.count);
    }
    let (status, out, words) = receiver.stop();
    assert_eq!((status, &*out), (Some(130), ""), "{words}");
    let lines: Vec<_> = words.lines().collect();
    assert!(lines[0].starts_with("warning[discarded]: everything that is sent here is discarded"), "{words}");
    assert!(words.contains(": 48 transfers, 120.00 MiB discarded; 0 failed\n"), "{words}");
    assert!(lines.len() < 16, "no line for each transfer: {words}");
}

#[test]
fn a_bench_over_loopback_starts_one_receiver_whatever_the_numbers_of_devices() {
    let mut bench = ringlift("bench --devices 1,2,5 --size 1MiB --rounds 1000").spawn().unwrap();
    let mut lines = BufReader::new(bench.stderr.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.starts_with("round 1 ")));
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", bench.id())).unwrap();
    assert_eq!(children.split_whitespace().count(), 1, "{children}");
    signal(&bench, Signal::SIGINT);
    let rest = std::thread::spawn(move || lines.map_while(Result::ok).count());
    assert_eq!(bench.wait_with_output().unwrap().status.code(), Some(130));
    rest.join().unwrap();
}

#[test]
fn a_bench_of_many_devices_has_a_pool_that_holds_packets_of_all_of_them() {
    // the default pool has 63 slots of this size, and a bench of more devices could not begin
    let output = ringlift("bench --devices 70 --size 4KiB --rounds 1").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn two_benches_share_a_receiver_and_each_waits_for_the_transfers_of_the_other() {
    let receiver = Receiver::over_loopback();
    let to = receiver.address;
    let bench =
        |devices| ringlift(&format!("bench --to {to} --devices {devices} --size 16MiB --rounds 8 --json -"));
    let both = [bench("1,4").spawn().unwrap(), bench("2").spawn().unwrap()];
    for bench in both {
        let output = bench.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(report(&output).complete);
    }
    let (_, _, words) = receiver.stop();
    assert!(words.contains(": 27 transfers, "), "{words}");
}

#[test]
fn a_bench_whose_receiver_dies_says_so_and_shows_what_it_measured() {
    let receiver = Receiver::over_loopback();
    let mut bench = ringlift(&format!("bench --to {} --size 8MiB --rounds 1000 --json -", receiver.address))
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(bench.stderr.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.starts_with("round 3 ")));
    drop(receiver);
    let words: Vec<String> = lines.map_while(Result::ok).collect();
    let output = bench.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{words:#?}");
    let report = report(&output);
    assert!(report.rounds >= 3 && !report.complete);
    let failed =
        words.iter().position(|line| line.starts_with("a transfer of this cell failed: --devices 1"));
    let error = words.iter().position(|line| line.starts_with("error: "));
    assert!(failed.is_some() && failed < error, "{words:#?}");
    assert!(words.iter().all(|line| !line.contains("in doubt")), "nothing is: {words:#?}");
}

#[test]
fn whatever_a_device_is_called_and_however_many_there_are_it_is_discarded() {
    let receiver = Receiver::over_loopback();
    let many = send(receiver.address, (0..256).map(|number| format!("{number}{}", "x".repeat(250))));
    assert_eq!(many.outcome, Outcome::Complete, "{:?}", many.error);
    let odd =
        ["../../etc/passwd", "d0=discard", "größer 网卡", "--device", "a\\n%s$(reboot)"].map(String::from);
    let odd = send(receiver.address, odd);
    assert_eq!(odd.outcome, Outcome::Complete, "{:?}", odd.error);
    assert!(odd.report.other_side.is_some());
    let (_, _, words) = receiver.stop();
    assert!(words.contains(": 2 transfers, "), "{words}");
    assert!(!words.contains("passwd"), "names are in no line: {words}");
}

#[test]
fn offers_beyond_the_bounds_are_refused_and_the_next_bench_is_served() {
    let receiver = Receiver::over_loopback();
    let names: Vec<String> = (0..257).map(|number| format!("d{number}")).collect();
    let many = an_offer(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let twice = an_offer(&["d0", "d0"]);
    let hidden = |name: &str| {
        let device = DeviceOffer { name: name.into(), instance: 0, estimate: u64::MAX };
        Offer { devices: vec![device], ..an_offer(&[]) }
    };
    for offer in [many, twice, hidden("d\u{1b}[2J0"), hidden("d\u{202e}0"), hidden("")] {
        let mut peer = greet(receiver.address, 1);
        peer.write(&control_bytes(&Control::Offer(offer)));
        assert!(matches!(peer.final_message(), Some(Control::Abort { code: 1, .. })));
    }
    let mut peer = greet(receiver.address, 1);
    peer.send(&Control::Offer(Offer { pool_size: 2 << 30, ..an_offer(&["d0"]) }));
    assert!(matches!(peer.final_message(), Some(Control::Refuse { code: 7, .. })));
    drop(peer);
    let output =
        ringlift(&format!("bench --to {} --size 1MiB --rounds 1", receiver.address)).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let (_, _, words) = receiver.stop();
    assert!(words.contains(": 2 transfers, ") && words.contains("; 6 failed\n"), "{words}");
    assert!(!words.contains(['\u{1b}', '\u{202e}']), "{words}");
}

#[test]
fn other_addresses_than_loopback_need_plaintext_and_are_reached() {
    let refused = ringlift("recv --bench --listen 0.0.0.0:0").output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    let receiver = Receiver::start("--listen 0.0.0.0:0 --plaintext");
    let to = SocketAddr::from(([127, 0, 0, 2], receiver.address.port()));
    let output = ringlift(&format!("bench --to {to} --devices 1,4 --size 1MiB --rounds 1")).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn once_serves_one_transfer_and_ends_with_its_status() {
    let mut receiver = Receiver::start("--listen 127.0.0.1:0 --once");
    assert_eq!(send(receiver.address, ["net0".to_owned()]).outcome, Outcome::Complete);
    assert_eq!(receiver.child.wait().unwrap().code(), Some(0));
    let mut out = String::new();
    receiver.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(out.contains("net0"), "its tables: {out}");
}

#[test]
fn what_makes_no_sense_with_it_is_refused() {
    for (options, expected) in [
        ("--device d0=discard", "cannot be used with"),
        ("--dialect qemu", "--bench means nothing in QEMU's dialect"),
    ] {
        let output = ringlift(&format!("recv --bench --listen 127.0.0.1:0 {options}")).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{options}");
        assert!(stderr(&output).contains(expected), "{options}: {}", stderr(&output));
    }
}

#[test]
fn a_receiver_with_devices_of_its_own_refuses_a_bench_that_has_others_and_says_what_to_start() {
    let mut child = ringlift("recv --listen 127.0.0.1:0 --device d0=discard").spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    let to = line.strip_prefix("listening on ").unwrap().trim_end();
    let output = ringlift(&format!("bench --to {to} --devices 2 --size 1MiB --rounds 1")).output().unwrap();
    let _ = child.kill().and_then(|()| child.wait());
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(stderr(&output).contains("hint: start the receiver with `ringlift recv --bench`"));
}

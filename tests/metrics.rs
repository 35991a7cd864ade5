//! Metrics of the command, as node_exporter and Prometheus read them: from a file, and from an address that is attacked meanwhile.
#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "the test waits for other processes")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use common::PATIENCE;
use common::exposition::Exposition;

fn ringlift(args: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("ringlift"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running `recv` with an address for metrics.
struct Recv {
    child: Child,
    address: String,
    metrics: String,
    words: BufReader<ChildStderr>,
}

impl Recv {
    fn start(args: &[&str]) -> Recv {
        let fixed = ["recv", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];
        let mut child = ringlift(&[&fixed, args].concat()).spawn().unwrap();
        let mut words = BufReader::new(child.stderr.take().unwrap());
        let mut line = |begin: &str| {
            let mut line = String::new();
            words.read_line(&mut line).unwrap();
            line.strip_prefix(begin).expect(begin).trim_end().to_owned()
        };
        let address = line("listening on ");
        let metrics = line("metrics on http://").strip_suffix("/metrics").unwrap().to_owned();
        Recv { child, address, metrics, words }
    }

    fn send(&self, devices: &[&str]) -> Output {
        let mut command = ringlift(&["send", "--to", &self.address]);
        command.args(devices.iter().flat_map(|device| ["--device", device])).output().unwrap()
    }

    fn scrape(&self) -> Exposition {
        let answer = self.ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
        read(body)
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.metrics).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Until transfers have been counted: a sender may end before its receiver has.
    fn scrape_after(&self, transfers: f64) -> Exposition {
        let begun = Instant::now();
        loop {
            let found = self.scrape();
            if found.sum("ringlift_transfers_total", &[]) >= transfers {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "{found:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Recv {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(text: &str) -> Exposition {
    Exposition::parse(text).map_err(|error| format!("{error} in {text}")).unwrap()
}

fn file(path: &Path) -> Exposition {
    read(&fs::read_to_string(path).unwrap())
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

const SIZE: f64 = 3_000_001.0;
const DEVICE: &str = "ringlift_device_bytes_total";

#[test]
fn a_sender_leaves_its_metrics_in_a_file_that_others_may_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ringlift_send.prom");
    let recv = Recv::start(&["--device", "net0=verify"]);
    let binary = assert_cmd::cargo::cargo_bin!("ringlift");
    let mut private = Command::new("sh");
    private.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(binary);
    let output = private
        .args(["send", "--to", &recv.address, "--device", "net0=synthetic:3000001", "--metrics-file"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{output:?}");

    let found = file(&path);
    let config = found.value(DEVICE, &[("device", "net0"), ("role", "sender")]).unwrap() - SIZE;
    assert_eq!(config, 24.0);
    assert_eq!(found.sum("ringlift_channel_bytes_total", &[]), SIZE + config);
    assert_eq!(found.value("ringlift_transfers_total", &[("outcome", "complete")]), Some(1.0));
    assert_eq!(found.value("ringlift_transfer_running", &[]), Some(0.0));
    assert_eq!(found.value("ringlift_downtime_seconds_count", &[]), Some(1.0));
    let stage = |stage| found.value("ringlift_stage_latency_seconds_count", &[("stage", stage)]).unwrap();
    assert!(stage("send") >= 3.0 && stage("write") == 0.0);
    assert!(found.value("ringlift_cpu_seconds_total", &[("mode", "system")]).unwrap() > 0.0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let end = found.value("ringlift_last_transfer_end_timestamp_seconds", &[]).unwrap();
    assert!((now - 60.0..=now).contains(&end), "{end}");
    assert!(found.samples.iter().all(|sample| sample.labels["role"] == "sender"));

    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing stays beside it");
}

#[test]
fn a_receiver_counts_all_of_its_transfers_and_its_counters_never_decrease() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ringlift_recv.prom");
    let recv = Recv::start(&["--device", "net0=verify", "--metrics-file", path.to_str().unwrap()]);
    let before = recv.scrape();
    assert_eq!(before.value(DEVICE, &[("device", "net0"), ("role", "receiver")]), Some(0.0));
    assert_eq!(before.value("ringlift_transfers_total", &[("outcome", "in_doubt")]), Some(0.0));

    let mut earlier = before;
    for transfers in 1..=3_u8 {
        assert_eq!(code(&recv.send(&["net0=synthetic:3000001"])), 0);
        let found = recv.scrape_after(transfers.into());
        found.is_later_than(&earlier).unwrap();
        assert_eq!(found.value(DEVICE, &[]), Some(f64::from(transfers) * (SIZE + 24.0)));
        assert_eq!(found.value("ringlift_downtime_seconds_count", &[]), Some(transfers.into()));
        earlier = found;
    }
    let refused = recv.send(&["other=null:1"]);
    assert_eq!(code(&refused), 4);
    let found = recv.scrape_after(4.0);
    found.is_later_than(&earlier).unwrap();
    assert_eq!(found.value("ringlift_transfers_total", &[("outcome", "aborted")]), Some(1.0));

    let killed = Command::new("kill").arg(recv.child.id().to_string()).status().unwrap();
    assert!(killed.success());
    let begun = Instant::now();
    while TcpStream::connect(&recv.metrics).is_ok() {
        assert!(begun.elapsed() < PATIENCE, "it still listens");
        std::thread::sleep(Duration::from_millis(10));
    }
    file(&path).is_later_than(&found).unwrap();
}

/// The receiver has the devices in another order than the sender, which decides.
#[test]
fn a_running_transfer_is_counted_device_by_device() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.prom");
    let recv = Recv::start(&["--device", "small=discard", "--device", "large=discard", "--once"]);
    let mut send =
        ringlift(&["send", "--to", &recv.address, "--device", "large=fd:0", "--device", "small=null:5000"]);
    let mut sender = send.arg("--metrics-file").arg(&path).stdin(Stdio::piped()).spawn().unwrap();
    let mut large = sender.stdin.take().unwrap();
    large.write_all(&[1; 3 << 20]).unwrap();
    let value = |found: &Exposition, device| found.value(DEVICE, &[("device", device)]).unwrap_or(0.0);
    let begun = Instant::now();
    let (running, sending) = loop {
        let (found, sending) = (recv.scrape(), file(&path));
        if value(&found, "large") > 2_000_000.0 && value(&sending, "large") > 2_000_000.0 {
            break (found, sending);
        }
        assert!(begun.elapsed() < PATIENCE, "{found:?}");
        std::thread::sleep(Duration::from_millis(50));
    };
    for found in [&running, &sending] {
        assert!(value(found, "small") <= 5000.0, "{found:?}");
        assert_eq!(found.value("ringlift_transfer_running", &[]), Some(1.0));
        assert_eq!(found.sum("ringlift_transfers_total", &[]), 0.0);
    }
    drop(large);
    assert!(sender.wait().unwrap().success());
    let found = file(&path);
    found.is_later_than(&sending).unwrap();
    assert_eq!((value(&found, "large"), value(&found, "small")), (f64::from(3 << 20), 5000.0));
}

#[test]
fn no_name_of_a_device_breaks_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.prom");
    let names = ["a\"} 1", "b\\", "c\\\"", "#d", "é😀 {x:\"y\"}", "e\\n,"];
    let sinks: Vec<String> = names.iter().map(|name| format!("{name}=verify")).collect();
    let args: Vec<&str> = sinks.iter().flat_map(|sink| ["--device", sink]).collect();
    let recv = Recv::start(&args);
    let mut send = ringlift(&["send", "--to", &recv.address, "--metrics-file"]);
    send.arg(&path);
    for name in names {
        send.arg("--device").arg(format!("{name}=synthetic:5000"));
    }
    let output = send.output().unwrap();
    assert_eq!(code(&output), 0, "{output:?}");
    for found in [file(&path), recv.scrape_after(1.0)] {
        for name in names {
            assert_eq!(found.value(DEVICE, &[("device", name)]), Some(5024.0), "{name}");
        }
    }
}

#[test]
fn the_demo_shows_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.prom");
    let output = ringlift(&["demo", "--devices", "2", "--size", "3MiB", "--metrics-file"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{output:?}");
    let found = file(&path);
    for role in ["sender", "receiver"] {
        assert_eq!(
            found.value("ringlift_transfers_total", &[("role", role), ("outcome", "complete")]),
            Some(1.0)
        );
        assert_eq!(found.sum(DEVICE, &[("role", role)]), 2.0 * (3_145_728.0 + 24.0));
        assert_eq!(found.value("ringlift_last_transfer_simulated", &[("role", role)]), Some(1.0));
    }
}

#[test]
fn a_bench_counts_its_transfers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bench.prom");
    let args = ["bench", "--channels", "1,2", "--rounds", "1", "--size", "1MiB", "--metrics-file"];
    let output = ringlift(&args).arg(&path).output().unwrap();
    assert_eq!(code(&output), 0, "{output:?}");
    let found = file(&path);
    assert_eq!(found.value("ringlift_transfers_total", &[("outcome", "complete")]), Some(4.0));
    assert_eq!(found.value(DEVICE, &[("device", "d0")]), Some(4_194_304.0));
}

#[test]
fn what_cannot_be_written_or_served_is_an_error_before_anything_begins() {
    let folder = tempfile::tempdir().unwrap();
    let target = ["send", "--to", "127.0.0.1:9", "--device", "net0=null:1"];
    let missing = folder.path().join("missing/x.prom");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (option, value, status, expected) in [
        ("--metrics-file", "metrics.txt", 2, "node_exporter reads only files whose names end in .prom"),
        ("--metrics-file", missing.to_str().unwrap(), 2, "No such file or directory"),
        ("--metrics", "127.0.0.1", 2, "an address has a host and a port"),
        ("--metrics", &address, 1, "give another address with --metrics"),
    ] {
        let output = ringlift(&[&target[..], &[option, value]].concat()).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(code(&output), status, "{words}");
        assert!(words.contains(expected), "{words}");
        assert!(!words.contains("connect"), "nothing has begun: {words}");
    }
    let output = ringlift(&[
        "recv",
        "--listen",
        "127.0.0.1:0",
        "--device",
        "net0=file:x.prom",
        "--metrics-file",
        "x.prom",
    ])
    .current_dir(folder.path())
    .output()
    .unwrap();
    assert_eq!(code(&output), 2, "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("would overwrite"), "{output:?}");
}

#[test]
fn a_file_that_can_no_longer_be_written_is_one_warning_and_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let path = inner.join("x.prom");
    let mut recv =
        Recv::start(&["--once", "--device", "net0=verify", "--metrics-file", path.to_str().unwrap()]);
    recv.scrape();
    fs::remove_dir_all(&inner).unwrap();
    assert_eq!(code(&recv.send(&["net0=synthetic:3000001"])), 0);
    let mut words = String::new();
    recv.words.read_to_string(&mut words).unwrap();
    assert_eq!(recv.child.wait().unwrap().code(), Some(0));
    assert_eq!(words.matches("warning[not_written]: the metrics were not written: ").count(), 1, "{words}");
}

#[test]
fn an_attacked_address_delays_no_transfer_and_still_answers() {
    let recv = Recv::start(&["--device", "net0=verify"]);
    let open: Vec<TcpStream> = (0..1000).map(|_| recv.connect()).collect();
    for (idx, mut stream) in open.iter().enumerate() {
        // some are closed already
        let _ = match idx % 3 {
            0 => Ok(()),
            1 => stream.write_all(&[0xff; 64]),
            _ => stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:"),
        };
    }
    assert_eq!(code(&recv.send(&["net0=synthetic:3000001"])), 0);
    assert_eq!(recv.scrape_after(1.0).value(DEVICE, &[]), Some(SIZE + 24.0));
    let sockets = fs::read_dir(format!("/proc/{}/fd", recv.child.id())).unwrap().count();
    assert!(sockets < 40, "{sockets} descriptors are open");
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405"),
        ("\u{1}\u{2}\u{3}\r\n\r\n", "400"),
    ] {
        assert!(recv.ask(request).starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}");
    }
    assert!(recv.ask("HEAD /metrics HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
}

/// The descriptors that a process may open, from now on.
fn limit(pid: u32, descriptors: usize) -> bool {
    let limit = format!("--nofile={descriptors}:");
    Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &limit])
        .status()
        .is_ok_and(|status| status.success())
}

/// Clock ticks that a process has used, of which a second has 100.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

#[test]
fn without_descriptors_it_waits_and_does_not_spin() {
    let recv = Recv::start(&["--device", "net0=verify"]);
    recv.scrape();
    let pid = recv.child.id();
    if !limit(pid, 5) {
        println!("SKIPPED: prlimit cannot change the limit of another process");
        return;
    }
    let mut waiting = recv.connect();
    waiting.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let before = ticks(pid);
    std::thread::sleep(Duration::from_secs(1));
    assert!(ticks(pid) - before < 30, "{} of 100 ticks", ticks(pid) - before);
    assert!(limit(pid, 1000));
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

//! `ringlift bench` as a user types it: its cells, its outputs and its exit statuses.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "the clock outside of what is measured")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use common::schema::faults;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringlift::report::{BenchReport, Checksum};
use serde_json::Value;

fn bench(options: &str) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("ringlift"));
    command.arg("bench").args(options.split_whitespace()).env("LC_ALL", "C").stdin(Stdio::null());
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn read(json: &[u8]) -> BenchReport {
    let json: Value = serde_json::from_slice(json).unwrap();
    let schema: Value = serde_json::from_str(include_str!("../docs/bench.schema.json")).unwrap();
    assert_eq!(faults(&schema, &schema, &json, "report"), [""; 0]);
    serde_json::from_value(json).unwrap()
}

#[test]
fn every_combination_is_a_cell_with_a_transfer_in_every_round_and_its_times_fit_into_the_time_it_took() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("bench.csv");
    let options =
        "--devices 1,3 --channels 1,2 --checksum crc32c,none --size 1MiB --rounds 6 --seed 7 --json -";
    let begun = Instant::now();
    let output = bench(options).arg("--csv").arg(&csv).output().unwrap();
    let took = begun.elapsed();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report = read(&output.stdout);
    assert_eq!((report.cells.len(), report.rounds, report.seed, report.complete), (8, 6, 7, true));
    let last = &report.cells[7];
    assert_eq!((last.devices, last.channels, last.checksum), (3, 2, Checksum::None));
    for cell in &report.cells {
        let (rate, duration) = (&cell.throughput_bytes_per_s, &cell.duration_ns);
        assert_eq!((rate.values.len(), duration.values.len()), (6, 6));
        let bytes = f64::from(cell.devices) * f64::from(1 << 20);
        for (rate, duration) in rate.values.iter().zip(&duration.values) {
            let moved = rate * duration / 1e9;
            assert!((moved - bytes).abs() < bytes / 100.0, "{moved} of {bytes}");
        }
        assert!(rate.low.unwrap() <= rate.median && rate.median <= rate.high.unwrap());
        let read = cell.latency_ns.read.count;
        assert_eq!(read, u64::from(cell.devices) * 6, "a data packet of each device in each round");
        assert_eq!(cell.latency_ns.send.count, 2 * read, "and a config packet, which is not read as data");
        assert_eq!(
            cell.latency_ns.write.count, cell.latency_ns.send.count,
            "the receiver reported its stages"
        );
        assert!(cell.receiver_cpu_ns_per_gib.is_some());
    }
    let measured: f64 = report.cells.iter().flat_map(|cell| &cell.duration_ns.values).sum();
    assert!(measured <= took.as_secs_f64() * 1e9, "{measured} in {took:?}");
    let csv = fs::read_to_string(csv).unwrap();
    let columns: Vec<_> = csv.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(columns, [18; 9]);
}

#[test]
fn the_table_fits_eighty_columns_and_has_no_column_for_what_all_cells_share() {
    let output = bench("--channels 1,2 --packet-size 64KiB,1MiB --size 1MiB --rounds 2").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.contains("channels   packet   GB/s"), "{text}");
    assert!(text.contains("checksum crc32c"), "{text}");
}

#[test]
fn a_signal_ends_it_with_what_was_measured_so_far() {
    let mut child = bench("--size 1MiB --rounds 1000 --json -")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.starts_with("round 3 ")));
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let rest = std::thread::spawn(move || lines.map_while(Result::ok).count());
    let output = child.wait_with_output().unwrap();
    rest.join().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let report = read(&output.stdout);
    assert!(report.rounds >= 3 && !report.complete);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    for (options, status, expected) in [
        ("--channels 0", 2, "no whole number"),
        ("--rounds 0", 2, "no whole number"),
        ("--congestion unheard_of --size 1MiB", 1, "a transfer of this cell failed: --devices 1"),
    ] {
        let output = bench(options).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{options}: {said}");
        assert!(said.contains(expected), "{options}: {said}");
    }
}

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
use ringlift::report::{BenchCell, BenchReport, Checksum};
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
        assert_eq!(cell.open_loop, None);
    }
    let measured: f64 = report.cells.iter().flat_map(|cell| &cell.duration_ns.values).sum();
    assert!(measured <= took.as_secs_f64() * 1e9, "{measured} in {took:?}");
    let csv = fs::read_to_string(csv).unwrap();
    let columns: Vec<_> = csv.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(columns, [25; 9]);
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
fn at_a_rate_every_transfer_has_a_response_beside_its_service_and_a_rate_that_is_too_high_is_reported() {
    // no machine makes a thousand connections and transfers a second with a debug build
    for (rate, kept) in [("2/s", true), ("1000/s", false)] {
        let options = format!("--channels 1,2 --size 1MiB --rate {rate} --rounds 4 --json -");
        let output = bench(&options).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let report = read(&output.stdout);
        assert_eq!((report.cells.len(), report.rounds, report.complete), (2, 4, true));
        for cell in &report.cells {
            let times = cell.open_loop.as_ref().unwrap();
            assert_eq!((times.kept, cell.duration_ns.values.len()), (kept, 4), "{rate}: {times:?}");
            let (service, response) = (&times.service_ns, &times.response_ns);
            assert_eq!((service.count, response.count), (4, 4));
            let (fastest, slowest) = (service.min as f64, response.max as f64);
            let moving = &cell.duration_ns.values;
            assert!(
                fastest * 1.01 >= moving.iter().copied().fold(f64::MAX, f64::min),
                "it holds the transfer"
            );
            assert!(response.max >= service.max && response.p50 >= service.p50, "{times:?}");
            let achieved = times.achieved_per_s.unwrap();
            let late = 4.0 * fastest < slowest * 1.01;
            assert_eq!((achieved < 1000.0, late), (true, !kept || late), "{rate}: {times:?}");
        }
    }
}

#[test]
fn the_table_of_a_rate_fits_eighty_columns_and_has_two_rows_for_each_cell() {
    let output = bench("--channels 1,2 --size 1MiB --rate 1000/s --rounds 3").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let rows: Vec<_> = text.lines().skip_while(|line| !line.contains("due at 1000/s")).collect();
    assert!(rows[1].contains("service") && rows[2].contains("response") && rows[3].contains("service"));
    assert!(rows[2].contains(" late"), "{text}");
}

#[test]
fn a_condition_that_holds_for_a_cell_is_named_with_the_cell_and_makes_the_status_6() {
    let cells = "--channels 1,2 --size 1MiB --rounds 2 --json /dev/null";
    for (options, status, expected) in [
        ("--fail-if bytes>2MiB --fail-if cpu_per_gib<0s", 0, vec![]),
        (
            "--fail-if bytes>=1MiB",
            6,
            vec![
                "error: --devices 1 --channels 1 --packet-size 1MiB --checksum Crc32c --zero-copy Auto: bytes ",
                "error: --devices 1 --channels 2 ",
            ],
        ),
        ("--rate 100/s --fail-if response.p50>0s", 6, vec!["--channels 2", ": response.p50 "]),
        ("--fail-if response.p50>1s", 2, vec!["response.p50 is measured at a rate only"]),
        ("--fail-if enters>1", 2, vec!["there is no metric", "cpu_per_gib"]),
    ] {
        let output = bench(&format!("{cells} {options}")).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{options}: {said}");
        assert!(expected.iter().all(|part| said.contains(part)), "{options}: {said}");
    }
}

#[test]
fn each_cell_has_its_own_peak_memory_on_both_sides() {
    // packets of 16 MiB leave a part of the pool unused; both cells were warmed up before either was counted, so a process
    // that never forgot would show the larger figure for both
    let options = "--packet-size 1MiB,16MiB --size 64MiB --checksum none --rounds 2 --json -";
    let output = bench(options).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report = read(&output.stdout);
    for side in
        [|cell: &BenchCell| cell.sender_peak_rss_bytes, |cell: &BenchCell| cell.receiver_peak_rss_bytes]
    {
        let [Some(small), Some(large)] = [&report.cells[0], &report.cells[1]].map(side) else {
            println!("SKIPPED this kernel does not count peak memory anew");
            return;
        };
        assert!(large + (4 << 20) < small, "{small} and {large}");
    }
}

#[test]
fn what_cannot_be_measured_is_refused() {
    for (options, status, expected) in [
        ("--rate 5", 2, "write 5/s"),
        ("--rate 0/s", 2, "from 0.001/s"),
        ("--rate 1001/s", 2, "from 0.001/s"),
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

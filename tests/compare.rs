//! `ringlift compare` and `--fail-if` as a user and a script type them: programs, reports and exit statuses.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::schema::faults;
use ringlift::compare::{CompareReport, NoteCode, Verdict};
use serde_json::{Value, json};
use tempfile::TempDir;

fn program() -> PathBuf {
    assert_cmd::cargo::cargo_bin!("ringlift").to_owned()
}

fn ringlift(args: &[&str]) -> Output {
    Command::new(program()).args(args).env("LC_ALL", "C").stdin(Stdio::null()).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A program that does something else with ringlift's options.
fn script(folder: &TempDir, name: &str, body: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// Moves sixteen times as much state as it is told to.
fn slower(folder: &TempDir) -> String {
    let exec = format!("exec {} \"$@\"", program().display());
    let body = format!(
        "for option; do shift; case $option in d0=null:1MiB) option=d0=null:16MiB;; esac\nset -- \"$@\" \"$option\"; done\n{exec}"
    );
    script(folder, "slower", &body)
}

fn read(output: &Output) -> CompareReport {
    let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(output)));
    let schema: Value = serde_json::from_str(include_str!("../docs/compare.schema.json")).unwrap();
    assert_eq!(faults(&schema, &schema, &json, "report"), [""; 0]);
    serde_json::from_value(json).unwrap()
}

// ── programs ─────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_program_is_not_worse_than_itself_and_its_kept_reports_say_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (program, kept) = (program(), folder.path().join("kept"));
    let (program, kept) = (program.to_str().unwrap(), kept.to_str().unwrap());
    // a bar that no noise reaches
    let options = ["--max-regression", "1000%", "--json", "-"];
    let run = ["compare", "run", "--calibrate", program, "--seed", "7", "--keep", kept];
    let ran = ringlift(&[&run[..], &options, &["--", "--device", "d0=null:1MiB"]].concat());
    assert_eq!(code(&ran), 0, "{}", stderr(&ran));
    let ran = read(&ran);
    assert!(ran.calibration && ran.interleaved);
    assert_eq!((ran.seed, ran.rounds), (Some(7), 10));
    let names: Vec<_> = ran.metrics.iter().map(|metric| metric.name.as_str()).collect();
    assert_eq!(names, ["downtime", "throughput", "duration", "cpu_per_gib", "send.p99", "end_to_end.p99"]);

    let mut paths: Vec<_> =
        fs::read_dir(kept).unwrap().map(|entry| entry.unwrap().path().display().to_string()).collect();
    assert_eq!(paths.len(), 40, "two reports of each run");
    paths.sort();
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    let again = ringlift(&[&["compare"], &paths[..], &options].concat());
    let again = read(&again);
    assert!(again.interleaved);
    assert_eq!((again.run_id, again.verdict), (ran.run_id, ran.verdict));
    assert_eq!(again.metrics[0], ran.metrics[0]);
}

#[test]
fn a_slower_program_is_worse_and_one_that_moves_more_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (program, slower) = (program(), slower(&folder));
    let run = ["compare", "run", program.to_str().unwrap(), &slower, "--metric", "duration", "--json", "-"];
    let options = ["--", "--device", "d0=null:1MiB"];
    let refused = ringlift(&[&run[..], &options].concat());
    assert_eq!(code(&refused), 2);
    let said = stderr(&refused);
    assert!(said.contains("bytes: 1048576 in base, 16777216 in new"), "{said}");

    let worse = ringlift(&[&run[..], &["--accept"], &options].concat());
    assert_eq!(code(&worse), 1, "{}", stderr(&worse));
    let worse = read(&worse);
    assert_eq!((worse.verdict, worse.metrics[0].name.as_str()), (Verdict::Worse, "duration"));
    assert!(worse.metrics[0].change.low.unwrap() > 0.05);
    assert!(worse.companions.iter().any(|one| one.name == "bytes" && one.differs));
    assert!(worse.notes.iter().any(|note| note.code == NoteCode::Incomparable));
}

#[test]
fn a_run_that_fails_is_one_error_with_program_round_and_status() {
    let folder = tempfile::tempdir().unwrap();
    let program = program();
    let program = program.to_str().unwrap();
    let broken = script(&folder, "broken", "echo 'error: it broke' >&2; exit 7");
    let missing = folder.path().join("missing").display().to_string();
    let silent = script(&folder, "silent", "exit 0");
    for (base, new, options, expected) in [
        (program, broken.as_str(), "--checksum none", "new ("),
        (program, &broken, "--checksum none", "`recv` ended with exit status: 7: it broke"),
        (&missing, program, "--checksum none", "base ("),
        (&missing, program, "--checksum none", "could not be started: No such file"),
        (program, &silent, "--checksum none", "`recv` ended with exit status: 0"),
        (program, program, "--channels 0", "`send` ended with exit status: 2"),
        (program, program, "--to 1:1", "--to is given by the comparison itself"),
        (program, program, "--device a=fd:0", "cannot be sent again and again"),
    ] {
        let typed = ["compare", "run", base, new, "--", "--device", "d0=null:1MiB"];
        let failed = ringlift(&[&typed[..], &options.split(' ').collect::<Vec<_>>()].concat());
        let said = stderr(&failed);
        assert_eq!(code(&failed), 2, "{said}");
        assert!(said.contains(expected), "{expected}: {said}");
        assert_eq!(said.matches("error: ").count(), 1, "{said}");
    }
}

#[test]
fn a_signal_ends_the_comparison_and_its_processes() {
    let program = program();
    let mut command = Command::new(&program);
    command.args([
        "compare",
        "run",
        "--calibrate",
        program.to_str().unwrap(),
        "--",
        "--device",
        "d0=null:1GiB",
    ]);
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut words = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(words.next().unwrap().starts_with("comparing "));
    let kill = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

// ── reports ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A report like that of the first version, of a transfer whose downtime and duration were `ms`.
fn report(ms: f64) -> Value {
    let mut report: Value = serde_json::from_str(include_str!("fixtures/reports/sender.json")).unwrap();
    report["downtime"]["total_ns"] = json!((ms * 1e6).round());
    report["duration_ns"] = json!((ms * 1e6).round());
    report["throughput_bytes_per_s"] = json!(16_777_264.0 / (ms / 1e3));
    report
}

fn labelled(mut report: Value, id: &str, arm: &str, round: usize) -> Value {
    report["run"] = json!({"id": id, "arm": arm, "round": round});
    report
}

/// The times of a run on a noisy machine: 100 ms, give or take 4.
fn noisy(round: usize) -> f64 {
    100.0 + 4.0 * (round as f64 * 2.4).sin()
}

fn write(folder: &Path, name: &str, reports: impl IntoIterator<Item = Value>) -> String {
    let path = folder.join(name);
    let lines: String = reports.into_iter().map(|report| format!("{report}\n")).collect();
    fs::write(&path, lines).unwrap();
    path.display().to_string()
}

/// Two files of 12 rounds, in which new takes `factor` times as long.
fn both(folder: &Path, factor: f64) -> [String; 2] {
    let arm = |name: &str, factor: f64, skew: usize| {
        let reports =
            (1..=12).map(|round| labelled(report(factor * noisy(round + skew)), "run 1", name, round));
        write(folder, &format!("{name}.json"), reports)
    };
    [arm("base", 1.0, 0), arm("new", factor, 5)]
}

#[test]
fn reports_of_one_run_are_judged() {
    let folder = tempfile::tempdir().unwrap();
    for (factor, verdict, status) in
        [(1.2, Verdict::Worse, 1), (1.0, Verdict::NoChange, 0), (0.8, Verdict::Better, 0)]
    {
        let [base, new] = both(folder.path(), factor);
        // the order of the files does not matter
        let compared = ringlift(&["compare", &new, &base, "--json", "-"]);
        assert_eq!(code(&compared), status, "{}", stderr(&compared));
        let compared = read(&compared);
        assert_eq!((compared.verdict, compared.rounds, compared.interleaved), (verdict, 12, true));
        assert_eq!(compared.run_id.as_deref(), Some("run 1"));
    }
}

#[test]
fn reports_that_are_not_interleaved_are_never_worse_unless_that_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let base = write(folder.path(), "monday.json", (0..12).map(|run| report(noisy(run))));
    let new = write(folder.path(), "tuesday.json", (0..12).map(|run| report(1.3 * noisy(run + 5))));
    let same = write(folder.path(), "wednesday.json", (0..12).map(|run| report(noisy(run + 5))));
    let compare = |new: &str, options: &[&str]| {
        ringlift(&[&["compare", "--base", &base, "--new", new, "--json", "-"], options].concat())
    };
    let slower = compare(&new, &[]);
    assert_eq!(code(&slower), 5);
    let slower = read(&slower);
    assert!(!slower.interleaved && slower.notes[0].code == NoteCode::NotInterleaved);
    assert_eq!(code(&compare(&new, &["--accept-blocks"])), 1);
    assert_eq!(code(&compare(&same, &[])), 0);

    let unlabelled = ringlift(&["compare", &base, &new]);
    assert_eq!(code(&unlabelled), 2);
    assert!(stderr(&unlabelled).contains("does not state its arm"));
}

#[test]
fn arms_that_differ_are_refused_with_each_difference() {
    let folder = tempfile::tempdir().unwrap();
    let [base, _] = both(folder.path(), 1.0);
    let other = (1..=12).map(|round| {
        let mut report = labelled(report(noisy(round + 5)), "run 1", "new", round);
        report["settings"]["congestion"] = json!("cubic");
        report["host"]["kernel"] = json!("6.18.0");
        report
    });
    let new = write(folder.path(), "new.json", other);
    let refused = ringlift(&["compare", &base, &new]);
    assert_eq!(code(&refused), 2);
    let said = stderr(&refused);
    assert!(said.contains("host.kernel: 6.12.0 in base, 6.18.0 in new"), "{said}");
    assert!(said.contains("settings.congestion: bbr in base, cubic in new"), "{said}");
    let accepted = read(&ringlift(&["compare", &base, &new, "--accept", "--json", "-"]));
    assert_eq!((accepted.verdict, accepted.differences.len()), (Verdict::NoChange, 2));
}

#[test]
fn reports_of_a_later_version_are_compared_with_those_of_an_earlier_one() {
    let folder = tempfile::tempdir().unwrap();
    let [base, _] = both(folder.path(), 1.0);
    let later = (1..=12).map(|round| {
        let mut later = labelled(report(noisy(round + 5)), "run 1", "new", round);
        later["schema"] = json!("ringlift.report.v2");
        later["session"] = json!("0123456789abcdef0123456789abcdef");
        later["other_side"] = json!({"role": "receiver", "latency_ns": {"write": {"count": 1, "p99": 5}}});
        later
    });
    let new = write(folder.path(), "new.json", later);
    assert_eq!(code(&ringlift(&["compare", &base, &new])), 0);
}

#[test]
fn reports_that_do_not_belong_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [base, new] = both(folder.path(), 1.0);
    let path = folder.path();
    let third = write(path, "third.json", [labelled(report(100.0), "run 1", "other", 1)]);
    let extra = write(path, "extra.json", [labelled(report(100.0), "run 1", "base", 13)]);
    let mut aborted = report(100.0);
    aborted["outcome"] = json!("aborted");
    let aborted = write(path, "aborted.json", [aborted]);
    let broken = write(path, "broken.json", [json!("report")]);
    let nowhere = path.join("nowhere").display().to_string();
    for (files, expected) in [
        (vec![&base], "not of exactly two arms"),
        (vec![&base, &new, &third], "not of exactly two arms"),
        (vec![&base, &base, &new], "round 1 of base is there twice"),
        (vec![&base, &new, &extra], "round 13 has no report of new"),
        (vec![&base, &new, &aborted], "a transfer that is not complete"),
        (vec![&base, &broken], "no report of a transfer"),
        (vec![&base, &nowhere], "No such file"),
    ] {
        let files: Vec<&str> = files.into_iter().map(String::as_str).collect();
        let refused = ringlift(&[&["compare"], &files[..]].concat());
        assert_eq!(code(&refused), 2);
        assert!(stderr(&refused).contains(expected), "{expected}: {}", stderr(&refused));
    }
}

#[test]
fn a_metric_that_was_not_measured_is_an_error_and_a_named_one_decides() {
    let folder = tempfile::tempdir().unwrap();
    let [base, new] = both(folder.path(), 1.3);
    let missing = ringlift(&["compare", &base, &new, "--metric", "cpu_per_gib"]);
    assert_eq!(code(&missing), 2);
    assert!(stderr(&missing).contains("cpu_per_gib was not measured, or is 0, in round 1 of base"));
    let same = ringlift(&["compare", &base, &new, "--metric", "send.p99"]);
    assert_eq!(code(&same), 0, "the same value in all of them");
}

#[test]
fn a_comparison_is_exported_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let [base, new] = both(folder.path(), 1.2);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let [markdown, bmf, gha] = ["c.md", "c.bmf", "c.gha"].map(path);
    let typed = ["compare", &base, &new, "--markdown", &markdown, "--bmf", &bmf, "--gha", &gha];
    let compared = ringlift(&typed);
    assert_eq!(code(&compared), 1);
    let table = String::from_utf8_lossy(&compared.stdout).into_owned();
    assert!(table.contains("\nworse: downtime and throughput"), "{table}");
    assert!(table.is_ascii(), "without a locale: {table}");

    assert!(fs::read_to_string(&markdown).unwrap().starts_with("### ringlift compare: worse\n\n| metric |"));
    let json = |path: &str| serde_json::from_str::<Value>(&fs::read_to_string(path).unwrap()).unwrap();
    let downtime = &json(&bmf)["ringlift"]["downtime"];
    assert!(downtime["lower_value"].as_f64() < downtime["value"].as_f64());
    assert!(downtime["value"].as_f64() < downtime["upper_value"].as_f64());
    let gha = json(&gha);
    let names: Vec<_> = gha.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["downtime", "throughput (time per GiB)", "duration", "send.p99"]);

    let overwriting = ringlift(&["compare", &base, &new, "--json", &base]);
    assert_eq!(code(&overwriting), 2, "{}", stderr(&overwriting));
}

// ── --fail-if ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_condition_that_holds_is_an_exit_status_of_its_own() {
    let demo = |conditions: &[&str]| {
        let options = conditions.iter().flat_map(|condition| ["--fail-if", condition]);
        let typed = ["demo", "--devices", "1", "--size", "1MiB"].into_iter().chain(options);
        ringlift(&typed.collect::<Vec<_>>())
    };
    let quiet = demo(&["downtime>30s", "throughput<1B/s", "end_to_end.p99>30s", "bytes<1MiB"]);
    assert_eq!(code(&quiet), 0, "{}", stderr(&quiet));
    let failed = demo(&["downtime>30s", "write.p50 >= 1ns", "bytes>=1MiB"]);
    assert_eq!(code(&failed), 6, "{}", stderr(&failed));
    let said = stderr(&failed);
    assert!(said.contains("\nerror: write.p50 "), "{said}");
    assert!(said.contains("\nerror: bytes 1048600 bytes >= 1048576 bytes"), "{said}");
    assert!(!said.contains("error: downtime"), "{said}");
    let wrong = demo(&["downtime>300"]);
    assert_eq!(code(&wrong), 2);
    assert!(stderr(&wrong).contains("at column 13: a unit was expected"), "{}", stderr(&wrong));
}

#[test]
fn a_condition_never_hides_that_a_transfer_failed() {
    // nothing listens there
    let typed = ["send", "--to", "127.0.0.1:1", "--device", "d0=null:1MiB", "--fail-if", "bytes>=0"];
    let failed = ringlift(&typed);
    assert_eq!(code(&failed), 1, "{}", stderr(&failed));
    let several =
        ringlift(&["recv", "--listen", "127.0.0.1:0", "--device", "d0=discard", "--fail-if", "bytes>=0"]);
    assert_eq!(code(&several), 2, "only one transfer has a status: --once");
}

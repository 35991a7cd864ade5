//! `ringlift devices --probe`.

use std::path::Path;

use ringlift::Cancel;
use ringlift::error::Error;
use ringlift::probe::probe;
use ringlift::report::{ProbeReport, ProbedArc, ProbedEnd, ProbedReads};
use ringlift::vfio::Device;

use crate::exit::Exit;
use crate::show::histogram;
use crate::show::json::JsonTarget;
use crate::show::progress::Progress;
use crate::show::table::Table;
use crate::show::units::{bytes, rate, time};
use crate::show::{output, warnings};
use crate::signals;

/// Measures how a device's driver behaves.
pub(crate) fn run(path: &Path, json: Option<&JsonTarget>) -> Result<Exit, Exit> {
    if let Some(json) = json {
        json.check([])?;
    }
    let name = path.display().to_string();
    let (cancel, progress) = (Cancel::new(), Progress::new(false));
    let mut device = Device::open(path)
        .map_err(|error| warnings::error(&Error::Device { device: name.as_str().into(), error }))?;
    signals::cancel_on_signals(&cancel, &progress)?;
    let probed = probe(&mut device, &name, &cancel);
    if json != Some(&JsonTarget::Stdout) {
        let unicode = output::takes_unicode();
        let drawn = histogram::draw_reads("read", &probed.read_times, unicode);
        output::result(format!("{}\n{drawn}", tables(&probed.report)).trim_end_matches('\n'));
        output::result("\n");
    }
    if let Some(json) = json {
        json.write(&probed.report);
    }
    Ok(probed.error.map_or(Exit::Complete, |error| warnings::error(&error)))
}

fn tables(report: &ProbeReport) -> String {
    format!("{}\n{}\n{}{}", overview(report), arcs(&report.arcs), reads(report), info(report))
}

fn overview(report: &ProbeReport) -> String {
    let mut table = Table::new(&["", ""]).words(2);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("device", report.device.clone());
    row("supports", report.features.join(" "));
    let reset = if report.was_reset { "; it was reset, and what was in it is lost" } else { "" };
    row("found in", report.found_in.clone());
    row("left in", format!("{}{reset}", report.left_in));
    row("stood still for", time(report.standstill_ns));
    let estimate = |estimate: Option<u64>| estimate.map_or_else(|| "unknown".to_owned(), bytes);
    row("estimate before", estimate(report.estimate_before));
    row("estimate stopped", estimate(report.estimate_stopped));
    if let Some(found) = &report.stop_copy {
        let before = report.pre_copy.as_ref().map_or(0, |found| found.bytes);
        row("actual state", format!("{} ({} of it in pre-copy)", bytes(before + found.bytes), bytes(before)));
    }
    // the header has no text
    table.to_string().trim_start_matches('\n').to_owned()
}

fn arcs(arcs: &[ProbedArc]) -> String {
    let mut table = Table::new(&["from", "to", "time"]).words(2);
    for arc in arcs {
        table.row([arc.from.clone(), arc.to.clone(), time(arc.time_ns)]);
    }
    table.to_string()
}

/// A row for each property, a column for each phase.
fn reads(report: &ProbeReport) -> String {
    let phases = [("pre-copy", &report.pre_copy), ("stop-copy", &report.stop_copy)];
    let found: Vec<(&str, &ProbedReads)> =
        phases.into_iter().filter_map(|(name, found)| Some((name, found.as_ref()?))).collect();
    if found.is_empty() {
        return String::new();
    }
    let mut header = vec!["reads"];
    header.extend(found.iter().map(|(name, _)| *name));
    let mut table = Table::new(&header);
    for (name, value) in ROWS {
        let mut row = vec![name.to_owned()];
        row.extend(found.iter().map(|(_, found)| value(found)));
        table.row(row);
    }
    table.to_string()
}

type Row = (&'static str, fn(&ProbedReads) -> String);

const ROWS: [Row; 15] = [
    ("bytes", |found| bytes(found.bytes)),
    ("reads", |found| found.reads.to_string()),
    ("asked for", |found| bytes(found.asked)),
    ("shortest", |found| bytes(found.shortest)),
    ("most frequent", |found| format!("{} ({}x)", bytes(found.most_frequent), found.most_frequent_reads)),
    ("longest", |found| bytes(found.longest)),
    ("time", |found| time(found.time_ns)),
    ("rate", |found| rate(found.bytes as f64 * 1e9 / found.time_ns.max(1) as f64)),
    ("p50 of a read", |found| time(found.latency_ns.p50)),
    ("longest read", |found| time(found.latency_ns.max)),
    ("end", |found| end(found.end).to_owned()),
    ("behind the end", |found| found.behind_end.map_or("-", end).to_owned()),
    ("nothing now", |found| found.nothing_now.to_string()),
    ("pollable", |found| match (found.pollable, found.ready_at_begin) {
        (true, true) => "yes, ready at once".to_owned(),
        (true, false) => "yes, not ready at once".to_owned(),
        (false, _) => "no".to_owned(),
    }),
    ("O_NONBLOCK", |found| {
        found.nonblocking.map_or("never had to wait", |is| if is { "honoured" } else { "ignored" }).to_owned()
    }),
];

fn end(end: ProbedEnd) -> &'static str {
    match end {
        ProbedEnd::Zero => "a read of 0",
        ProbedEnd::Enomsg => "ENOMSG",
        ProbedEnd::More => "more",
        ProbedEnd::Failed => "failed",
    }
}

fn info(report: &ProbeReport) -> String {
    if report.pre_copy_info.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["left of pre-copy, in", "initial", "dirty", "time"]);
    for info in &report.pre_copy_info {
        let (initial, dirty) = match info.error {
            Some(_) => ("failed".to_owned(), "-".to_owned()),
            None => (bytes(info.initial_bytes), bytes(info.dirty_bytes)),
        };
        table.row([info.state.clone(), initial, dirty, time(info.time_ns)]);
    }
    format!("\n{table}")
}

#[cfg(test)]
mod tests {
    use ringlift::report::{ProbeOutcome, ProbedInfo, Quantiles};

    use super::*;

    fn arc(from: &str, to: &str, time_ns: u64) -> ProbedArc {
        ProbedArc { from: from.to_owned(), to: to.to_owned(), time_ns }
    }

    fn report() -> ProbeReport {
        let found = ProbedReads {
            bytes: 96,
            reads: 2,
            asked: 1 << 20,
            shortest: 24,
            most_frequent: 72,
            most_frequent_reads: 1,
            longest: 72,
            time_ns: 5_000,
            latency_ns: Quantiles { count: 2, p50: 1_000, max: 3_000, ..Quantiles::default() },
            end: ProbedEnd::Zero,
            behind_end: Some(ProbedEnd::Zero),
            ..ProbedReads::default()
        };
        ProbeReport {
            outcome: ProbeOutcome::Complete,
            device: "0000:41:00.1".to_owned(),
            features: vec!["STOP_COPY".to_owned(), "P2P".to_owned()],
            found_in: "RUNNING".to_owned(),
            left_in: "RUNNING".to_owned(),
            standstill_ns: 12_000_000,
            estimate_before: Some(128),
            arcs: vec![arc("RUNNING", "RUNNING_P2P", 1_000), arc("RUNNING_P2P", "STOP", 2_000_000)],
            pre_copy_info: vec![ProbedInfo { state: "PRE_COPY".to_owned(), ..ProbedInfo::default() }],
            stop_copy: Some(found),
            ..ProbeReport::default()
        }
    }

    #[test]
    fn what_was_measured_fits_a_terminal_and_says_what_is_unknown() {
        let text = tables(&report());
        for line in [
            "stood still for    12.0 ms",
            "estimate stopped   unknown",
            "RUNNING_P2P   STOP          2.00 ms",
            "most frequent            72 B (1x)",
            "O_NONBLOCK       never had to wait",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.is_ascii(), "{text}");
    }

    #[test]
    fn a_device_that_was_reset_is_said_to_have_lost_its_state() {
        let text = tables(&ProbeReport { was_reset: true, ..report() });
        assert!(text.contains("RUNNING; it was reset, and what was in it is lost"), "{text}");
    }
}

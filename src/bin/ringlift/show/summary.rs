//! The summary of a transfer in plain text: aligned, and as readable in a log as on a terminal.

use ringlift::report::{Distribution, PreCopyEnd, PreCopyReport, Report};

use crate::show::prediction;
use crate::show::table::Table;
use crate::show::timeline::timeline;
use crate::show::units::{bytes, rate, time};

/// One side's summary.
pub(crate) fn summary(report: &Report) -> String {
    let mut text = format!("{} {}\n\n", report.role, report.outcome.to_string().replace('_', " "));
    text += &devices(report);
    text.push('\n');
    text += &overview(&[report]);
    text += &precopy(report);
    text += &prediction::line(report);
    text += &timeline(&[report]);
    text += &latency(report, report);
    text
}

/// Both sides of one transfer, stage by stage.
pub(crate) fn both(sender: &Report, receiver: &Report) -> String {
    let mut text = devices(receiver);
    text.push('\n');
    text += &overview(&[sender, receiver]);
    text += &precopy(sender);
    text += &prediction::line(sender);
    text += &timeline(&[sender, receiver]);
    text += &latency(sender, receiver);
    text
}

fn devices(report: &Report) -> String {
    let mut table = Table::new(&["device", "bytes", "packets", "pre-copied", "config", "crc32c"]);
    for device in &report.devices {
        table.row([
            device.name.clone(),
            bytes(device.bytes),
            device.packets.to_string(),
            bytes(device.precopy_bytes),
            bytes(device.config_bytes),
            device.crc32c.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table.to_string()
}

/// A row for each figure, a column for each side.
fn overview(sides: &[&Report]) -> String {
    let roles: Vec<_> = sides.iter().map(|side| side.role.to_string()).collect();
    let mut header = vec![""];
    header.extend(roles.iter().map(String::as_str));
    let mut table = Table::new(&header);
    let mut row = |name: &str, figure: &dyn Fn(&Report) -> String| {
        let mut cells = vec![name.to_owned()];
        cells.extend(sides.iter().map(|side| figure(side)));
        table.row(cells);
    };
    row("bytes", &|side| bytes(side.bytes));
    row("packets", &|side| side.packets.to_string());
    row("time", &|side| time(side.duration_ns));
    row("throughput", &|side| rate(side.throughput_bytes_per_s));
    row("downtime", &|side| match side.downtime.simulated {
        true => format!("{} (simulated)", time(side.downtime.total_ns)),
        false => time(side.downtime.total_ns),
    });
    row("  stop", &|side| time(side.downtime.stop_ns));
    row("  transfer", &|side| time(side.downtime.transfer_ns));
    row("  load", &|side| time(side.downtime.load_ns));
    row("  commit", &|side| time(side.downtime.commit_ns));
    if sides.iter().any(|side| side.downtime.rollback_ns > 0) {
        row("  rollback", &|side| time(side.downtime.rollback_ns));
    }
    row("stalls for credit", &|side| side.backpressure.credit_stalls.to_string());
    row("stalls for slots", &|side| side.backpressure.pool_stalls.to_string());
    row("stalled", &|side| time(side.backpressure.stalled_ns));
    row("channels", &|side| side.settings.channels.to_string());
    row("packet size", &|side| bytes(side.settings.packet_size));
    row("pool", &|side| bytes(side.settings.pool));
    row("huge pages", &|side| side.settings.huge_pages.to_string());
    row("checksum", &|side| side.settings.checksum.to_string());
    row("congestion", &|side| side.settings.congestion.clone());
    row("zero copy", &zero_copy);
    table.to_string()
}

/// How pre-copy went, if there was one.
fn precopy(report: &Report) -> String {
    let Some(PreCopyReport { duration_ns, bytes: moved, left_bytes, limit_bytes, end, .. }) = &report.precopy
    else {
        return String::new();
    };
    let left = left_bytes.map_or("an unknown amount".to_owned(), bytes);
    let end = match end {
        PreCopyEnd::Converged => "converged",
        PreCopyEnd::Caller => "ended by the caller",
        PreCopyEnd::Time => "not converged: it took too long",
        PreCopyEnd::Volume => "not converged: it moved too much",
    };
    let (moved, time, limit) = (bytes(*moved), time(*duration_ns), bytes(*limit_bytes));
    format!("\npre-copy: {moved} in {time}, {left} left (limit {limit}), {end}\n")
}

fn zero_copy(report: &Report) -> String {
    let sent: u64 = report.channels.iter().map(|channel| channel.zero_copy_sent).sum();
    let copied: u64 = report.channels.iter().map(|channel| channel.zero_copy_copied).sum();
    let Some(setting) = report.settings.zero_copy else { return "-".to_owned() };
    match (sent, copied) {
        (0, _) => format!("{setting}: none"),
        (_, 0) => format!("{setting}: {sent} sent, none copied by the kernel"),
        _ if copied == sent => format!("{setting}: {sent} sent, all {sent} copied by the kernel"),
        _ => format!("{setting}: {sent} sent, {copied} copied by the kernel"),
    }
}

/// The stages that a side took part in, in the order of the journey.
fn latency(sender: &Report, receiver: &Report) -> String {
    let (tx, rx) = (&sender.latency_ns, &receiver.latency_ns);
    let stages = [
        ("read", &tx.read),
        ("queue", &tx.queue),
        ("send", &tx.send),
        ("reorder", &rx.reorder),
        ("write", &rx.write),
        ("end to end", &rx.end_to_end),
    ];
    let mut table = Table::new(&["latency", "packets", "p50", "p90", "p99", "p99.9", "max"]);
    let mut empty = true;
    for (name, stage) in stages.into_iter().filter(|(_, stage)| stage.count > 0) {
        table.row(stage_row(name, stage));
        empty = false;
    }
    if empty { String::new() } else { format!("\n{table}") }
}

fn stage_row(name: &str, stage: &Distribution) -> [String; 7] {
    [
        name.to_owned(),
        stage.count.to_string(),
        time(stage.p50),
        time(stage.p90),
        time(stage.p99),
        time(stage.p999),
        time(stage.max),
    ]
}

#[cfg(test)]
mod tests {
    use ringlift::report::Role;

    use super::*;
    use crate::show::samples::report;

    #[test]
    fn a_summary_has_the_outcome_the_devices_and_only_the_stages_of_its_side() {
        let text = summary(&report());
        assert!(text.starts_with("sender complete\n"), "{text}");
        assert!(text.contains("net0     256.00 MiB       257"), "{text}");
        assert!(text.contains("2.50 GB/s"), "{text}");
        assert!(text.contains("auto: 10 sent, none copied by the kernel"), "{text}");
        assert!(text.contains("\nread "), "{text}");
        assert!(!text.contains("reorder"), "{text}");
        assert!(text.is_ascii(), "{text}");
    }

    #[test]
    fn pre_copy_is_one_line_where_there_was_one() {
        let mut report = report();
        assert_eq!(precopy(&report), "");
        let told = PreCopyReport {
            duration_ns: 1_200_000_000,
            bytes: 240 << 20,
            left_bytes: Some(1 << 20),
            limit_bytes: 30 << 20,
            rate_bytes_per_s: 100 << 20,
            asked: 9,
            end: PreCopyEnd::Converged,
        };
        report.precopy = Some(told.clone());
        let line = "pre-copy: 240.00 MiB in 1.20 s, 1.00 MiB left (limit 30.00 MiB), converged\n";
        assert_eq!(precopy(&report), format!("\n{line}"));
        assert!(summary(&report).contains(line) && both(&report, &report).contains(line));
        report.precopy = Some(PreCopyReport { left_bytes: None, end: PreCopyEnd::Time, ..told });
        assert!(precopy(&report).contains("an unknown amount left (limit 30.00 MiB), not converged"));
    }

    #[test]
    fn zero_copy_sends_that_the_kernel_copied_are_counted() {
        let mut report = report();
        assert_eq!(zero_copy(&report), "auto: 10 sent, none copied by the kernel");
        report.channels[0].zero_copy_copied = 4;
        assert_eq!(zero_copy(&report), "auto: 10 sent, 4 copied by the kernel");
        report.channels[0].zero_copy_copied = 10;
        assert_eq!(zero_copy(&report), "auto: 10 sent, all 10 copied by the kernel");
        report.channels[0].zero_copy_sent = 0;
        assert_eq!(zero_copy(&report), "auto: none");
    }

    #[test]
    fn both_sides_stand_next_to_each_other() {
        let sender = report();
        let mut receiver = sender.clone();
        receiver.role = Role::Receiver;
        receiver.latency_ns.end_to_end = sender.latency_ns.read.clone();
        let text = both(&sender, &receiver);
        assert!(text.lines().any(|line| line.contains("sender") && line.contains("receiver")), "{text}");
        assert!(text.contains("end to end"), "{text}");
    }
}

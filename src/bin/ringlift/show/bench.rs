//! A bench as a table and as comma-separated lines: one for each cell.

use ringlift::report::{BenchCell, BenchFigure, BenchReport};

use crate::show::table::Table;
use crate::show::units::{bytes, rate, time};

/// What was the same everywhere, and a row for each cell. A setting that all cells share has no column.
pub(crate) fn text(report: &BenchReport) -> String {
    let (varying, same): (Vec<_>, Vec<_>) = SETTINGS.iter().partition(|(_, shown)| {
        let mut cells = report.cells.iter().map(shown);
        let first = cells.next();
        cells.any(|cell| Some(cell) != first)
    });
    let mut header: Vec<&str> = varying.iter().map(|(name, _)| *name).collect();
    header.extend(["GB/s", "95 % of median", "spread", "send s/GiB", "recv s/GiB"]);
    let mut table = Table::new(&header);
    for cell in &report.cells {
        let mut row: Vec<String> = varying.iter().map(|(_, shown)| shown(cell)).collect();
        row.extend(figures(cell));
        table.row(row);
    }
    let same: Vec<_> = same
        .iter()
        .filter_map(|(name, shown)| Some((name, report.cells.first().map(shown)?)))
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    let mut text = format!("{} per device; {}\n\n{table}", bytes(report.size), same.join(", "));
    let rounds = if report.rounds == 1 { "1 round".to_owned() } else { format!("{} rounds", report.rounds) };
    text +=
        &format!("\n{rounds}{}, seed {}", if report.complete { "" } else { " (ended early)" }, report.seed);
    if let (Some(sender), Some(receiver)) = (report.sender_peak_rss_bytes, report.receiver_peak_rss_bytes) {
        text += &format!("; peak memory {} and {}", bytes(sender), bytes(receiver));
    }
    text.push('\n');
    text + &latency(report)
}

type Shown = fn(&BenchCell) -> String;

const SETTINGS: [(&str, Shown); 6] = [
    ("devices", |cell| cell.devices.to_string()),
    ("channels", |cell| cell.channels.to_string()),
    ("packet", |cell| bytes(cell.packet_size.into()).replace(".00 ", "")),
    ("checksum", |cell| cell.checksum.to_string()),
    ("zero-copy", |cell| cell.zero_copy.to_string()),
    ("congestion", |cell| cell.congestion.clone().unwrap_or_default()),
];

fn figures(cell: &BenchCell) -> [String; 5] {
    let gb = |bytes: f64| format!("{:.2}", bytes / 1e9);
    let rate = &cell.throughput_bytes_per_s;
    let interval = match (rate.low, rate.high) {
        (Some(low), Some(high)) => format!("{} to {}", gb(low), gb(high)),
        _ => "-".to_owned(),
    };
    let cpu = |figure: &Option<BenchFigure>| {
        figure.as_ref().map_or_else(|| "-".to_owned(), |figure| format!("{:.2}", figure.median / 1e9))
    };
    [
        gb(rate.median),
        interval,
        format!("{:.0} %", rate.spread * 100.0),
        cpu(&cell.sender_cpu_ns_per_gib),
        cpu(&cell.receiver_cpu_ns_per_gib),
    ]
}

/// The stages of the fastest cell.
fn latency(report: &BenchReport) -> String {
    let throughput = |cell: &&BenchCell| cell.throughput_bytes_per_s.median;
    let fastest = report.cells.iter().max_by(|one, other| throughput(one).total_cmp(&throughput(other)));
    let Some(fastest) = fastest else { return String::new() };
    let mut table = Table::new(&["packets, fastest cell", "p50", "p99", "p99.9", "max"]);
    let stages = &fastest.latency_ns;
    for (name, stage) in [
        ("read", &stages.read),
        ("queue", &stages.queue),
        ("send", &stages.send),
        ("reorder", &stages.reorder),
        ("write", &stages.write),
        ("end to end", &stages.end_to_end),
    ] {
        if stage.count > 0 {
            table.row([name.to_owned(), time(stage.p50), time(stage.p99), time(stage.p999), time(stage.max)]);
        }
    }
    let stalls = format!("stalls: {} for credit, {} for slots", fastest.credit_stalls, fastest.pool_stalls);
    format!("\n{table}{stalls}; median {}\n", rate(throughput(&fastest)))
}

/// A line with the names of the columns, and one for each cell.
pub(crate) fn csv(report: &BenchReport) -> String {
    let mut text = "devices,channels,packet_size,checksum,zero_copy,congestion,rounds,\
                    throughput_bytes_per_s,low,high,spread,duration_ns,\
                    sender_cpu_ns_per_gib,receiver_cpu_ns_per_gib,credit_stalls,pool_stalls,\
                    send_p99_ns,end_to_end_p99_ns\n"
        .to_owned();
    for cell in &report.cells {
        let rate = &cell.throughput_bytes_per_s;
        let unknown = |value: Option<f64>| value.map(|value| format!("{value:.0}")).unwrap_or_default();
        let cpu = |figure: &Option<BenchFigure>| unknown(figure.as_ref().map(|figure| figure.median));
        let columns = [
            cell.devices.to_string(),
            cell.channels.to_string(),
            cell.packet_size.to_string(),
            cell.checksum.to_string(),
            cell.zero_copy.to_string(),
            cell.congestion.clone().unwrap_or_default().replace([',', '"', '\n'], "_"),
            report.rounds.to_string(),
            format!("{:.0}", rate.median),
            unknown(rate.low),
            unknown(rate.high),
            format!("{:.4}", rate.spread),
            format!("{:.0}", cell.duration_ns.median),
            cpu(&cell.sender_cpu_ns_per_gib),
            cpu(&cell.receiver_cpu_ns_per_gib),
            cell.credit_stalls.to_string(),
            cell.pool_stalls.to_string(),
            cell.latency_ns.send.p99.to_string(),
            cell.latency_ns.end_to_end.p99.to_string(),
        ];
        text += &format!("{}\n", columns.join(","));
    }
    text
}

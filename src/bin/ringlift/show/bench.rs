//! A bench as tables and as comma-separated lines: one for each cell.

use ringlift::report::{BenchCell, BenchFigure, BenchReport};

use crate::show::table::Table;
use crate::show::units::{bytes, rate, time};

/// What was the same everywhere, and a row for each cell. A setting that all cells share has no column.
pub(crate) fn text(report: &BenchReport) -> String {
    let (varying, same) = settings(report);
    let mut header: Vec<&str> = varying.iter().map(|(name, _)| *name).collect();
    header.extend(["GB/s", "95 % of median", "spread", "CPU s/GiB", "peak MiB"]);
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
        &format!("\n{rounds}{}, seed {}\n", if report.complete { "" } else { " (ended early)" }, report.seed);
    text + &open_loop(report) + &latency(report)
}

/// Those that differ between cells, and those that are the same in all.
fn settings(report: &BenchReport) -> (Vec<&Setting>, Vec<&Setting>) {
    SETTINGS.iter().partition(|(_, shown)| {
        let mut cells = report.cells.iter().map(shown);
        let first = cells.next();
        cells.any(|cell| Some(cell) != first)
    })
}

type Shown = fn(&BenchCell) -> String;

/// Its name, and how a cell has it.
type Setting = (&'static str, Shown);

const SETTINGS: [Setting; 6] = [
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
    let of =
        |figure: &Option<BenchFigure>| figure.as_ref().map(|figure| format!("{:.2}", figure.median / 1e9));
    let mib = |bytes: Option<u64>| bytes.map(|bytes| (bytes >> 20).to_string());
    let both = |sender: Option<String>, receiver: Option<String>| {
        let unknown = || "-".to_owned();
        format!("{} + {}", sender.unwrap_or_else(unknown), receiver.unwrap_or_else(unknown))
    };
    [
        gb(rate.median),
        interval,
        format!("{:.0} %", rate.spread * 100.0),
        both(of(&cell.sender_cpu_ns_per_gib), of(&cell.receiver_cpu_ns_per_gib)),
        both(mib(cell.sender_peak_rss_bytes), mib(cell.receiver_peak_rss_bytes)),
    ]
}

/// Whole transfers at a rate: two rows for each cell.
fn open_loop(report: &BenchReport) -> String {
    let Some(rate) = report.rate_per_s else { return String::new() };
    let (varying, _) = settings(report);
    let mut header: Vec<&str> = varying.iter().map(|(name, _)| *name).collect();
    let due = format!("due at {rate}/s");
    header.extend([&*due, "median", "p90", "p99", "max", "achieved/s"]);
    let mut table = Table::new(&header);
    for (cell, times) in report.cells.iter().filter_map(|cell| Some((cell, cell.open_loop.as_ref()?))) {
        let achieved = match times.achieved_per_s {
            Some(achieved) if times.kept => format!("{achieved:.2}"),
            Some(achieved) => format!("{achieved:.2} late"),
            None => "-".to_owned(),
        };
        for (name, of, achieved) in
            [("service", &times.service_ns, String::new()), ("response", &times.response_ns, achieved)]
        {
            let mut row: Vec<String> = varying.iter().map(|(_, shown)| shown(cell)).collect();
            row.push(name.to_owned());
            row.extend([of.p50, of.p90, of.p99, of.max].map(time));
            row.push(achieved);
            table.row(row);
        }
    }
    format!("\n{table}")
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
                    send_p99_ns,end_to_end_p99_ns,\
                    sender_peak_rss_bytes,receiver_peak_rss_bytes,\
                    achieved_per_s,service_p50_ns,service_p99_ns,response_p50_ns,response_p99_ns\n"
        .to_owned();
    for cell in &report.cells {
        let rate = &cell.throughput_bytes_per_s;
        let unknown = |value: Option<f64>| value.map(|value| format!("{value:.0}")).unwrap_or_default();
        let cpu = |figure: &Option<BenchFigure>| unknown(figure.as_ref().map(|figure| figure.median));
        let count = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
        let times = cell.open_loop.as_ref();
        let achieved = times.and_then(|times| times.achieved_per_s);
        let columns = [
            cell.devices.to_string(),
            cell.channels.to_string(),
            cell.packet_size.to_string(),
            cell.checksum.to_string(),
            cell.zero_copy.to_string(),
            cell.congestion.clone().unwrap_or_default().replace([',', '"', '\n'], "_"),
            rate.values.len().to_string(),
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
            count(cell.sender_peak_rss_bytes),
            count(cell.receiver_peak_rss_bytes),
            achieved.map(|achieved| format!("{achieved:.3}")).unwrap_or_default(),
            count(times.map(|times| times.service_ns.p50)),
            count(times.map(|times| times.service_ns.p99)),
            count(times.map(|times| times.response_ns.p50)),
            count(times.map(|times| times.response_ns.p99)),
        ];
        text += &format!("{}\n", columns.join(","));
    }
    text
}

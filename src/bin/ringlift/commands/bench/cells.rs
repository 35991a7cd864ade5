//! What the transfers of a bench reported, summed up cell by cell. It must not know how they were run.

use ringlift::compare::series;
use ringlift::report::{
    BenchCell, BenchFigure, BenchReport, BenchSource, Checksum, Cost, Latency, Report, Schema,
};

use super::matrix::{self, Cell};
use crate::args::{Bench, ChecksumKind, SourceKind};

const GIB: f64 = (1u64 << 30) as f64;

/// `measured` has the reports of each cell, all cells the same number and at least one.
pub(super) fn report(args: &Bench, seed: u64, cells: &[Cell], measured: &[Vec<Report>]) -> BenchReport {
    let rounds = measured.first().map_or(0, Vec::len);
    let peak = |side: fn(&Report) -> Option<Cost>| {
        measured.iter().flatten().filter_map(side).map(|cost| cost.peak_rss_bytes).max()
    };
    BenchReport {
        schema: Schema::default(),
        seed,
        rounds: rounds as u64,
        complete: rounds == usize::from(args.rounds),
        size: args.size.0,
        source: match args.source {
            SourceKind::Null => BenchSource::Null,
            SourceKind::Synthetic => BenchSource::Synthetic,
        },
        to: args.to.map_or_else(|| "loopback".to_owned(), |to| to.to_string()),
        host: measured.iter().flatten().next().map(|report| report.host.clone()).unwrap_or_default(),
        sender_peak_rss_bytes: peak(|report| report.cost),
        receiver_peak_rss_bytes: peak(|report| report.other_side.as_ref()?.cost),
        cells: cells.iter().zip(measured).map(|(cell, reports)| summed_up(cell, reports)).collect(),
    }
}

fn summed_up(cell: &Cell, reports: &[Report]) -> BenchCell {
    let values = |value: fn(&Report) -> f64| figure(reports.iter().map(value).collect());
    let others = || reports.iter().filter_map(|report| report.other_side.as_deref());
    let pairs = reports.iter().map(|report| {
        let other: Option<&Latency> = report.other_side.as_deref().map(|other| &other.latency_ns);
        (&report.latency_ns, other)
    });
    BenchCell {
        devices: cell.devices,
        channels: cell.channels,
        packet_size: cell.packet_size,
        checksum: match cell.checksum {
            ChecksumKind::Crc32c => Checksum::Crc32c,
            ChecksumKind::None => Checksum::None,
        },
        zero_copy: matrix::reported(cell.zero_copy),
        congestion: cell.congestion.clone(),
        throughput_bytes_per_s: values(|report| report.throughput_bytes_per_s),
        duration_ns: values(|report| report.duration_ns as f64),
        sender_cpu_ns_per_gib: cpu(reports.iter()),
        receiver_cpu_ns_per_gib: cpu(others()),
        credit_stalls: reports.iter().map(|report| report.backpressure.credit_stalls).sum(),
        pool_stalls: reports.iter().map(|report| report.backpressure.pool_stalls).sum(),
        latency_ns: Latency::merged(pairs),
    }
}

/// None if one of the reports lacks it: the rest would be another sample.
fn cpu<'a>(reports: impl Iterator<Item = &'a Report>) -> Option<BenchFigure> {
    let per_gib = |report: &Report| {
        let cost = report.cost.filter(|_| report.bytes > 0)?;
        Some((cost.user_ns + cost.system_ns) as f64 * GIB / report.bytes as f64)
    };
    reports.map(per_gib).collect::<Option<Vec<f64>>>().filter(|values| !values.is_empty()).map(figure)
}

/// Its median, its spread and its interval.
pub(crate) fn figure(values: Vec<f64>) -> BenchFigure {
    let interval = series::median_interval(&values);
    BenchFigure {
        median: series::median(&values),
        spread: series::spread(&values),
        low: interval.map(|(low, _)| low),
        high: interval.map(|(_, high)| high),
        values,
    }
}

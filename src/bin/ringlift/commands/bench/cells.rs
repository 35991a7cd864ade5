//! What the transfers of a bench reported, summed up cell by cell. It must not know how they were run.

use std::time::Duration;

use ringlift::compare::series::figure;
use ringlift::report::{
    BenchCell, BenchFigure, BenchOpenLoop, BenchReport, BenchSource, Checksum, Distribution, Latency, Report,
    Schema,
};

use super::matrix::{self, Cell};
use super::schedule::{Followed, Times};
use crate::args::{Bench, ChecksumKind, SourceKind};

const GIB: f64 = (1u64 << 30) as f64;

/// The counted transfers of a cell.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) reports: Vec<Report>,
    /// At a rate, one for each of the reports; otherwise none.
    pub(super) times: Vec<Times>,
}

/// Cells of which nothing was measured are left out. Peak memory is that of a cell only if it is counted `anew` for each
/// transfer.
pub(super) fn report(
    args: &Bench,
    seed: u64,
    cells: &[Cell],
    measured: &[Measured],
    anew: bool,
) -> BenchReport {
    let measured = || cells.iter().zip(measured).filter(|(_, measured)| !measured.reports.is_empty());
    let fewest = measured().map(|(_, measured)| measured.reports.len()).min().unwrap_or(0);
    BenchReport {
        schema: Schema::default(),
        seed,
        rounds: fewest as u64,
        complete: fewest == usize::from(args.rounds) && measured().count() == cells.len(),
        size: args.size.0,
        source: match args.source {
            SourceKind::Null => BenchSource::Null,
            SourceKind::Synthetic => BenchSource::Synthetic,
        },
        to: args.to.map_or_else(|| "loopback".to_owned(), |to| to.to_string()),
        rate_per_s: args.rate,
        host: measured().next().map(|(_, measured)| measured.reports[0].host.clone()).unwrap_or_default(),
        cells: measured().map(|(cell, measured)| summed_up(args, cell, measured, anew)).collect(),
    }
}

fn summed_up(args: &Bench, cell: &Cell, measured: &Measured, anew: bool) -> BenchCell {
    let reports = &measured.reports;
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
        sender_peak_rss_bytes: peak(reports.iter()).filter(|_| anew),
        receiver_peak_rss_bytes: peak(others()).filter(|_| anew),
        credit_stalls: reports.iter().map(|report| report.backpressure.credit_stalls).sum(),
        pool_stalls: reports.iter().map(|report| report.backpressure.pool_stalls).sum(),
        latency_ns: Latency::merged(pairs),
        open_loop: args.rate.map(|rate| open_loop(rate, &measured.times)),
    }
}

fn open_loop(rate: f64, times: &[Times]) -> BenchOpenLoop {
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let followed = Followed::new(rate, times);
    BenchOpenLoop {
        achieved_per_s: followed.achieved_per_s(),
        kept: followed.is_kept(),
        service_ns: Distribution::of_values(times.iter().map(|times| ns(times.service()))),
        response_ns: Distribution::of_values(times.iter().map(|times| ns(times.response()))),
    }
}

/// The most of one transfer.
fn peak<'a>(reports: impl Iterator<Item = &'a Report>) -> Option<u64> {
    reports.filter_map(|report| report.cost).map(|cost| cost.peak_rss_bytes).max()
}

/// None if one of the reports lacks it: the rest would be another sample.
fn cpu<'a>(reports: impl Iterator<Item = &'a Report>) -> Option<BenchFigure> {
    let per_gib = |report: &Report| {
        let cost = report.cost.filter(|_| report.bytes > 0)?;
        Some((cost.user_ns + cost.system_ns) as f64 * GIB / report.bytes as f64)
    };
    reports.map(per_gib).collect::<Option<Vec<f64>>>().filter(|values| !values.is_empty()).map(figure)
}

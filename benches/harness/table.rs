//! Medians, spread and ratios, as a table for people (Markdown) and as JSON with every sample.

use std::fmt::Write;

use serde::Serialize;

use super::plan::{Outcome, Plan};
use super::{Contestant, Measured};

/// The median of some numbers, and their extremes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(numbers: impl Iterator<Item = f64>) -> Spread {
        let mut sorted: Vec<f64> = numbers.collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            _ if sorted.is_empty() => return Spread { median: 0.0, min: 0.0, max: 0.0 },
            0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        };
        Spread { median, min: sorted[0], max: sorted[sorted.len() - 1] }
    }
}

/// Bytes per nanosecond, which are GB/s.
fn rate((sent, _): &(Measured, Measured)) -> f64 {
    sent.bytes as f64 / sent.nanoseconds as f64
}

/// Columns of [`rows`].
pub(crate) const HEAD: &str = "\
| what | channels | packet | who | GB/s | min–max | ringlift is | CPU s/GB | switches/packet | peak MiB |
|---|---|---|---|---|---|---|---|---|---|
";

/// The table rows of a setting.
pub(crate) fn rows(outcome: &Outcome) -> String {
    let setting = outcome.setting;
    let what = match setting.devices {
        0 => "transport".to_owned(),
        1 => "1 device".to_owned(),
        count => format!("{count} devices"),
    };
    let packets = setting.bytes as f64 / setting.packet_size as f64;
    let speed = |samples: &[(Measured, Measured)]| Spread::of(samples.iter().map(rate));
    let find = |who: &dyn Fn(Contestant) -> bool| {
        let fitting = outcome.samples.iter().filter(|(contestant, _)| who(*contestant));
        fitting.map(|(_, samples)| speed(samples).median).max_by(f64::total_cmp)
    };
    let ours = find(&|contestant| contestant == Contestant::Ringlift);
    let baseline = find(&Contestant::is_threads);
    let mut text = String::new();
    for (contestant, samples) in &outcome.samples {
        let speed = speed(samples);
        let mark = if contestant.is_threads() && baseline == Some(speed.median) { " *" } else { "" };
        let ratio = match ours {
            Some(ours) if *contestant != Contestant::Ringlift => format!("{:.2} ×", ours / speed.median),
            _ => String::new(),
        };
        let both = |value: fn(&Measured) -> u64| {
            Spread::of(samples.iter().map(|(sent, received)| (value(sent) + value(received)) as f64)).median
        };
        let peak = |side: fn(&(Measured, Measured)) -> u64| {
            Spread::of(samples.iter().map(|sample| side(sample) as f64 / 1024.0)).max
        };
        // writing to a String does not fail
        let _ = writeln!(
            text,
            "| {what} | {} | {} KiB | {contestant}{mark} | {:.2} | {:.2}–{:.2} | {ratio} | {:.3} | {:.2} | {:.0} + {:.0} |",
            setting.channels,
            setting.packet_size >> 10,
            speed.median,
            speed.min,
            speed.max,
            both(|side| side.cpu_us) * 1e3 / setting.bytes as f64,
            both(|side| side.switches) / packets,
            peak(|(sent, _)| sent.peak_kib),
            peak(|(_, received)| received.peak_kib),
        );
    }
    text
}

/// One run.
#[derive(Serialize)]
struct Sample<'a> {
    devices: usize,
    channels: usize,
    packet_size: usize,
    bytes: u64,
    congestion: &'a str,
    checked: bool,
    contestant: Contestant,
    round: usize,
    duration_ns: u64,
    sender_cpu_us: u64,
    receiver_cpu_us: u64,
    sender_switches: u64,
    receiver_switches: u64,
    sender_peak_kib: u64,
    receiver_peak_kib: u64,
}

/// Every sample, one JSON object per line.
pub(crate) fn json(plan: &Plan, outcomes: &[Outcome]) -> serde_json::Result<String> {
    let mut text = String::new();
    for Outcome { setting, samples } in outcomes {
        for (contestant, runs) in samples {
            for (round, (sent, received)) in runs.iter().enumerate() {
                text += &serde_json::to_string(&Sample {
                    devices: setting.devices,
                    channels: setting.channels,
                    packet_size: setting.packet_size,
                    bytes: setting.bytes,
                    congestion: &plan.congestion,
                    checked: plan.checked,
                    contestant: *contestant,
                    round,
                    duration_ns: sent.nanoseconds,
                    sender_cpu_us: sent.cpu_us,
                    receiver_cpu_us: received.cpu_us,
                    sender_switches: sent.switches,
                    receiver_switches: received.switches,
                    sender_peak_kib: sent.peak_kib,
                    receiver_peak_kib: received.peak_kib,
                })?;
                text.push('\n');
            }
        }
    }
    Ok(text)
}

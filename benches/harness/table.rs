//! Medians, spread and ratios, as a table for people (Markdown) and as JSON with every sample.

use std::fmt::Write;

use ringlift::compare::series;
use serde::Serialize;

use super::plan::{Outcome, Plan};
use super::{Contestant, Measured};

/// Bytes per nanosecond, which are GB/s.
fn rate((sent, _): &(Measured, Measured)) -> f64 {
    sent.bytes as f64 / sent.nanoseconds as f64
}

/// Columns of [`rows`].
pub(crate) const HEAD: &str = "\
| what | channels | packet | who | GB/s | min–max | ringlift is | CPU s/GiB | switches/packet | peak MiB |
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
    let speeds = |samples: &[(Measured, Measured)]| samples.iter().map(rate).collect::<Vec<f64>>();
    let speed = |samples: &[(Measured, Measured)]| series::median(&speeds(samples));
    let find = |who: &dyn Fn(Contestant) -> bool| {
        let fitting = outcome.samples.iter().filter(|(contestant, _)| who(*contestant));
        fitting.map(|(_, samples)| speed(samples)).max_by(f64::total_cmp)
    };
    let ours = find(&|contestant| contestant == Contestant::Ringlift);
    let baseline = find(&Contestant::is_threads);
    let mut text = String::new();
    for (contestant, samples) in &outcome.samples {
        let (speeds, speed) = (speeds(samples), speed(samples));
        let (slowest, fastest) =
            (speeds.iter().copied().fold(speed, f64::min), speeds.iter().copied().fold(speed, f64::max));
        let mark = if contestant.is_threads() && baseline == Some(speed) { " *" } else { "" };
        let ratio = match ours {
            Some(ours) if *contestant != Contestant::Ringlift => format!("{:.2} ×", ours / speed),
            _ => String::new(),
        };
        let both = |value: fn(&Measured) -> u64| {
            let sums: Vec<f64> =
                samples.iter().map(|(sent, received)| (value(sent) + value(received)) as f64).collect();
            series::median(&sums)
        };
        let peak =
            |side: fn(&(Measured, Measured)) -> u64| samples.iter().map(side).max().unwrap_or(0) / 1024;
        // writing to a String does not fail
        let _ = writeln!(
            text,
            "| {what} | {} | {} KiB | {contestant}{mark} | {:.2} | {:.2}–{:.2} | {ratio} | {:.3} | {:.2} | {} + {} |",
            setting.channels,
            setting.packet_size >> 10,
            speed,
            slowest,
            fastest,
            both(|side| side.cpu_us) / 1e6 / (setting.bytes as f64 / f64::from(1 << 30)),
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

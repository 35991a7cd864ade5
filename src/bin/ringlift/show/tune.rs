//! A search for settings as text: the curve of the channels, what else was tried, and what to use.

use ringlift::report::{TuneReport, TuneStage, TuneTrial, TuneVerdict, TunedSettings};

use crate::show::table::Table;
use crate::show::units::{bytes, rate, time, typed};

/// All of it.
pub(crate) fn text(report: &TuneReport) -> String {
    let plural = if report.devices == 1 { "" } else { "s" };
    let mut text = format!(
        "{} transfers of {} device{plural} with {} each to {} in {}{}\n",
        report.transfers,
        report.devices,
        bytes(report.size),
        report.to,
        time(report.duration_ns),
        if report.complete { "" } else { " (ended early)" },
    );
    let measured = |trial: &&TuneTrial| !trial.throughput_bytes_per_s.values.is_empty();
    let of_channels = |trial: &&TuneTrial| varies_channels_alone(report, trial);
    let (mut curve, others): (Vec<_>, Vec<_>) = report.trials.iter().filter(measured).partition(of_channels);
    curve.sort_by_key(|trial| (trial.settings.channels, trial.settings.pool));
    text += &table("channels", &curve, |settings| settings.channels.to_string());
    text += &table("also tried", &others, described);
    for skipped in &report.skipped {
        text += &format!("\nnot used: {}: {}", skipped.what, skipped.why);
    }
    text += &format!("\nwhat bounds it: {}", report.bound.text);
    text += &format!("\npool: {}\n\n{}\n", pool(report), result(report));
    if report.verdict == TuneVerdict::Tuned {
        text += "\nWith devices of your own in place of these:\n\n";
        text += &format!("  {}\n  {}\n", report.recv_command, report.send_command);
    } else {
        text += &format!("\nThey need no option:\n\n  {}\n", report.send_command);
    }
    text
}

/// Points of the curve differ in nothing else, but that a faster one may need a larger pool.
fn varies_channels_alone(report: &TuneReport, trial: &TuneTrial) -> bool {
    let first = report.trials.iter().find(|trial| trial.stage == TuneStage::Channels);
    let Some(first) = first else { return trial.stage == TuneStage::Probe };
    let same = TunedSettings {
        channels: first.settings.channels,
        pool: first.settings.pool,
        ..trial.settings.clone()
    };
    same == first.settings
}

fn table(what: &str, trials: &[&TuneTrial], described: fn(&TunedSettings) -> String) -> String {
    if trials.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[what, "GB/s", "95 % of median", "transfers"]);
    let gb = |bytes: f64| format!("{:.2}", bytes / 1e9);
    for trial in trials {
        let figure = &trial.throughput_bytes_per_s;
        let interval = match (figure.low, figure.high) {
            (Some(low), Some(high)) => format!("{} to {}", gb(low), gb(high)),
            _ => "-".to_owned(),
        };
        let transfers = figure.values.len().to_string();
        table.row([described(&trial.settings), gb(figure.median), interval, transfers]);
    }
    format!("\n{table}")
}

fn described(settings: &TunedSettings) -> String {
    let plural = if settings.channels == 1 { "" } else { "s" };
    let mut text = format!("{} channel{plural}, {}", settings.channels, typed(settings.packet_size.into()));
    if settings.zero_copy.to_string() != "auto" {
        text += &format!(", zero-copy {}", settings.zero_copy);
    }
    text + &settings.congestion.iter().map(|name| format!(", {name}")).collect::<String>()
}

fn pool(report: &TuneReport) -> String {
    let pool = &report.pool;
    let Some(rtt_us) = pool.rtt_us else {
        return format!("{}: the round trip is not known", typed(pool.bytes));
    };
    let product =
        format!("{} x {rtt_us:.0} us are {}", rate(pool.rate_bytes_per_s), bytes(pool.in_flight_bytes));
    let bounded =
        pool.bounded_by.map(|bound| format!(", and more than {} is not possible here", typed(bound)));
    format!("{}: {product} on their way{}", typed(pool.bytes), bounded.unwrap_or_default())
}

fn result(report: &TuneReport) -> String {
    let percent = |ratio: f64| format!("{:+.1} %", (ratio - 1.0) * 100.0);
    let duel = report.duel.as_ref().map(|duel| {
        let interval = match (duel.low, duel.high) {
            (Some(low), Some(high)) => format!("{} to {} with 95 % certainty", percent(low), percent(high)),
            _ => "too few rounds for an interval".to_owned(),
        };
        let (what, rounds) = (described(&duel.contender), duel.rounds);
        format!("{what} against the defaults: {} ({interval}, {rounds} rounds)", percent(duel.ratio))
    });
    let duel = duel.map(|duel| duel + "\n").unwrap_or_default();
    let seen =
        report.overlooked.map(|gain| format!(": no difference above {:.1} % can be seen", gain * 100.0));
    match report.verdict {
        TuneVerdict::Tuned => format!("{duel}These settings are faster than the defaults."),
        TuneVerdict::Defaults => format!("{duel}The defaults are as good{}.", seen.unwrap_or_default()),
        TuneVerdict::Undecided => {
            format!("{duel}There was too little time to tell: use the defaults, or a longer --budget.")
        }
    }
}

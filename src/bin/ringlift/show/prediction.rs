//! The downtime that was predicted, in plain text: with what it is made of, and what no one can tell beforehand.

use ringlift::report::{Prediction, RateFrom, Report};

use crate::show::table::Table;
use crate::show::units::{bytes, rate, time};

/// All that a dry run has to tell: what each device expects to move, and how long that takes.
pub(crate) fn dry_run(report: &Report) -> String {
    let mut devices = Table::new(&["device", "expects"]);
    for device in &report.devices {
        let expects = device.estimate.map_or_else(|| "it cannot tell".to_owned(), bytes);
        devices.row([device.name.clone(), expects]);
    }
    let Some(prediction) = &report.prediction else {
        return format!("{devices}\nno prediction: {}\n", why_none(report));
    };
    let mut table = Table::new(&["downtime", "predicted"]);
    for (name, ns) in &prediction.made_of {
        table.row([format!("  {}", part(name)), time(*ns)]);
    }
    for name in &prediction.unknown {
        table.row([format!("  {}", part(name)), "not known".to_owned()]);
    }
    table.row(["at least".to_owned(), time(prediction.downtime_ns)]);
    format!("{devices}\n{table}\n{}\n", basis(prediction))
}

/// One line of a transfer's summary; nothing where nothing was predicted.
pub(crate) fn line(report: &Report) -> String {
    let Some(prediction) = &report.prediction else { return String::new() };
    let came_true = match prediction.came_true {
        Some(true) => ": came true",
        Some(false) => ": did not come true",
        None => "",
    };
    let predicted = time(prediction.downtime_ns);
    format!("\npredicted downtime: {predicted}, {}{came_true}\n", basis(prediction))
}

fn basis(prediction: &Prediction) -> String {
    let from = match prediction.rate_from {
        RateFrom::PreCopy => "in pre-copy",
        RateFrom::WarmUp => "by bytes that were dropped",
    };
    let (left, rate) = (bytes(prediction.left_bytes), rate(prediction.rate_bytes_per_s as f64));
    format!("{left} at {rate} (measured {from}), round trip {}", time(prediction.round_trip_ns))
}

/// A report names a part like the figure in it.
fn part(name: &str) -> String {
    name.strip_suffix("_ns").unwrap_or(name).replace('_', " ")
}

fn why_none(report: &Report) -> &'static str {
    match report.devices.iter().any(|device| device.estimate.is_none()) {
        true => "not every device can tell how much state it has",
        false => "the receiver is of a version that lets no one measure the path",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples::report;

    fn predicted() -> Report {
        let mut report = report();
        report.devices[0].estimate = Some(256 << 20);
        report.prediction = Some(Prediction {
            downtime_ns: 270_000_000,
            made_of: [("transfer_ns".to_owned(), 268_000_000), ("round_trips_ns".to_owned(), 2_000_000)]
                .into(),
            unknown: vec!["stop_ns".to_owned(), "load_ns".to_owned()],
            left_bytes: 256 << 20,
            rate_bytes_per_s: 1_000_000_000,
            rate_from: RateFrom::WarmUp,
            round_trip_ns: 1_000_000,
            came_true: Some(false),
        });
        report
    }

    #[test]
    fn a_dry_run_says_what_the_prediction_is_made_of_and_what_is_not_known() {
        let text = dry_run(&predicted());
        let lines: Vec<_> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for line in [
            "net0 256.00 MiB",
            "transfer 268 ms",
            "round trips 2.00 ms",
            "stop not known",
            "at least 270 ms",
            "256.00 MiB at 1.00 GB/s (measured by bytes that were dropped), round trip 1.00 ms",
        ] {
            assert!(lines.iter().any(|found| found == line), "{line}: {text}");
        }
        assert!(text.is_ascii(), "{text}");
    }

    #[test]
    fn a_dry_run_that_cannot_predict_says_why() {
        let mut report = predicted();
        report.prediction = None;
        assert!(dry_run(&report).contains("no prediction: the receiver is of a version"));
        report.devices[0].estimate = None;
        let text = dry_run(&report);
        assert!(text.contains("net0     it cannot tell\n"), "{text}");
        assert!(text.contains("no prediction: not every device can tell"), "{text}");
    }

    #[test]
    fn a_summary_has_one_line_that_says_whether_it_came_true() {
        assert!(line(&predicted()).ends_with("round trip 1.00 ms: did not come true\n"));
        let mut report = predicted();
        report.prediction = None;
        assert_eq!(line(&report), "");
    }
}

//! What a reader of a comparison's numbers must know: how noisy the machine is, whether it drifts, what the arms do not
//! have in common. Pure; the sentences are those that are printed.

use ringlift::compare::series::DRIFT;
use ringlift::compare::{CompareReport, MetricReport, NoteCode, NoteReport, ROUNDS_MIN, SeriesReport};

use crate::metric::Metric;
use crate::show::comparison::percent;

/// The notes on a report that has none yet.
pub(super) fn of(report: &CompareReport, accept_blocks: bool) -> Vec<NoteReport> {
    let mut notes = Vec::new();
    let mut note = |code, text: String| notes.push(NoteReport { code, text });
    if !report.interleaved {
        let ending = match accept_blocks {
            true => "--accept-blocks judges them anyway, and one in five such verdicts may be wrong",
            false => "so the verdict can be no change or cannot tell, but not worse",
        };
        let text =
            "the arms did not run in turns (not_interleaved), and the machine may have changed between them";
        note(NoteCode::NotInterleaved, format!("{text}: {ending}"));
    }
    for one in &report.differences {
        let text = format!("{} differs: {} in base, {} in new", one.what, one.base, one.new);
        note(NoteCode::Incomparable, text);
    }
    if report.rounds < ROUNDS_MIN as u64 {
        let text = format!("fewer than {ROUNDS_MIN} rounds decide nothing: there are {}", report.rounds);
        note(NoteCode::FewRounds, text);
    }
    for metric in report.metrics.iter().filter(|metric| metric.gates) {
        note(NoteCode::Noise, noise(metric, report.rounds));
        if metric.base.autocorrelation > DRIFT {
            note(NoteCode::Drift, drift(metric, report.interleaved));
        }
        for (name, series) in [("base", &metric.base), ("new", &metric.new)] {
            if let Some(text) = modes(metric, name, series) {
                note(NoteCode::Modes, text);
            }
        }
    }
    for one in report.companions.iter().filter(|one| one.differs) {
        let (base, new, tolerance) = (one.base, one.new, percent(one.tolerance));
        let text = format!("{}: {base} in base and {new} in new, more than {tolerance} apart", one.name);
        note(NoteCode::Companion, text);
    }
    notes
}

fn noise(metric: &MetricReport, rounds: u64) -> String {
    format!(
        "{} varies by {} from run to run: {rounds} rounds can see a change of about {}",
        metric.name,
        percent(metric.base.noise),
        percent(metric.smallest_visible)
    )
}

fn drift(metric: &MetricReport, interleaved: bool) -> String {
    let ending = match interleaved {
        true => "the comparison holds because the runs take turns",
        false => "a difference may be the machine's",
    };
    let autocorrelation = metric.base.autocorrelation;
    format!("this machine drifts (autocorrelation of {} {autocorrelation:.2}): {ending}", metric.name)
}

fn modes(metric: &MetricReport, arm: &str, series: &SeriesReport) -> Option<String> {
    let modes = series.modes?;
    let unit = Metric::named(&metric.name)?.unit();
    Some(format!(
        "{} has two modes in {arm}: about {} in {} of the runs, and {} in the others; where processes run may explain it",
        metric.name,
        unit.show(modes.low),
        percent(1.0 - modes.high_share),
        unit.show(modes.high)
    ))
}

#[cfg(test)]
mod tests {
    use ringlift::compare::ModesReport;

    use super::*;
    use crate::show::samples::comparison;

    fn texts(report: &CompareReport) -> Vec<(NoteCode, String)> {
        of(report, false).into_iter().map(|note| (note.code, note.text)).collect()
    }

    #[test]
    fn only_metrics_that_decide_are_remarked_on() {
        let said = texts(&comparison());
        let noise = "downtime varies by 10.0 % from run to run: 10 rounds can see a change of about 15.0 %";
        assert_eq!(said, [(NoteCode::Noise, noise.to_owned())]);
    }

    #[test]
    fn drift_modes_and_blocks_are_said() {
        let mut report = comparison();
        report.interleaved = false;
        report.rounds = 9;
        report.metrics[0].base.autocorrelation = 0.53;
        report.metrics[0].new.modes = Some(ModesReport { low: 110e6, high: 140e6, high_share: 0.3 });
        let said = texts(&report);
        let codes: Vec<_> = said.iter().map(|(code, _)| *code).collect();
        use NoteCode::{Drift, FewRounds, Modes, Noise, NotInterleaved};
        assert_eq!(codes, [NotInterleaved, FewRounds, Noise, Drift, Modes]);
        assert!(said[3].1.contains("autocorrelation of downtime 0.53"), "{}", said[3].1);
        assert!(
            said[4].1.contains("in new: about 110 ms in 70.0 % of the runs, and 140 ms"),
            "{}",
            said[4].1
        );
    }
}

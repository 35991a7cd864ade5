//! From runs to the report of a comparison: which metrics there are, what is said of each, and what a reader must know.
//!
//! It must not know how the runs came about, and it reads no files. Values become logarithms here, turned so that larger
//! is worse, and shifts become shares again.

use ringlift::compare::series;
use ringlift::compare::{
    ArmReport, ChangeReport, CompanionReport, CompareReport, DifferenceReport, Judged, MetricReport,
    ModesReport, Rounds, SeriesReport, Verdict, Z, judge,
};
use ringlift::report::Schema;

use super::{differences, notes, refused};
use crate::args::Judging;
use crate::exit::Exit;
use crate::metric::{Metric, Run, Side};

/// Who is compared.
#[derive(Debug, Clone)]
pub(super) struct Arms {
    pub(super) names: [String; 2],
    pub(super) run_id: Option<String>,
    pub(super) seed: Option<u64>,
    pub(super) calibration: bool,
}

/// What is compared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compared<'a> {
    /// Base and new.
    pub(super) rounds: &'a [[Run; 2]],
    pub(super) interleaved: bool,
    pub(super) accept_blocks: bool,
}

/// Shown where they were measured, and never part of the verdict unless named.
const SHOWN: [Metric; 6] = [
    Metric::Downtime,
    Metric::Throughput,
    Metric::Duration,
    Metric::CpuPerGib,
    Metric::Stage(Side::Sender, "send", "p99"),
    Metric::Stage(Side::Receiver, "end_to_end", "p99"),
];

/// Counts that hardly vary, each with the share by which they may.
const COMPANIONS: [(Metric, f64); 4] =
    [(Metric::Bytes, 0.0), (Metric::Packets, 0.01), (Metric::Enters, 0.1), (Metric::Switches, 0.25)];

/// The differences between the arms, if they are accepted.
pub(super) fn refuse_differences(
    rounds: &[[Run; 2]],
    judging: &Judging,
) -> Result<Vec<DifferenceReport>, Exit> {
    let found = differences::between(rounds);
    if found.is_empty() || judging.accept {
        return Ok(found);
    }
    let listed: Vec<_> =
        found.iter().map(|one| format!("{}: {} in base, {} in new", one.what, one.base, one.new)).collect();
    let text = format!("the arms cannot be compared:\n  {}", listed.join("\n  "));
    Err(refused(&text, "run both the same way, or compare them anyway with --accept"))
}

/// The report of a comparison.
pub(super) fn report(compared: &Compared, arms: &Arms, judging: &Judging) -> Result<CompareReport, Exit> {
    let rounds = compared.rounds;
    let differences = refuse_differences(rounds, judging)?;
    let metrics = metrics(compared, judging)?;
    let gating = metrics.iter().filter(|metric| metric.gates).map(|metric| metric.verdict);
    let mut report = CompareReport {
        schema: Schema::default(),
        verdict: Verdict::of_all(gating),
        base: arm(rounds, arms, 0),
        new: arm(rounds, arms, 1),
        calibration: arms.calibration,
        run_id: arms.run_id.clone(),
        seed: arms.seed,
        rounds: rounds.len() as u64,
        interleaved: compared.interleaved,
        max_regression: judging.rule().max_regression,
        confident: judging.rule().confident,
        z: Z,
        metrics,
        companions: companions(rounds, &judging.gating()),
        differences,
        notes: Vec::new(),
    };
    report.notes = notes::of(&report, compared.accept_blocks);
    Ok(report)
}

fn arm(rounds: &[[Run; 2]], arms: &Arms, arm: usize) -> ArmReport {
    let version = rounds.first().and_then(|round| {
        let run = &round[arm];
        let report = run.side(Side::Sender).or_else(|| run.side(Side::Receiver))?;
        report["host"]["ringlift"].as_str().map(str::to_owned)
    });
    ArmReport { name: arms.names[arm].clone(), ringlift: version }
}

fn metrics(compared: &Compared, judging: &Judging) -> Result<Vec<MetricReport>, Exit> {
    let gating = judging.gating();
    let values: Vec<Values> =
        gating.iter().map(|metric| measured(compared.rounds, *metric)).collect::<Result<_, _>>()?;
    let rounds: Vec<Rounds> = values.iter().map(Values::rounds).collect();
    let judged = judge(&rounds, judging.rule());
    let mut found: Vec<MetricReport> = values
        .iter()
        .zip(&rounds)
        .zip(judged)
        .map(|((values, rounds), judged)| values.report(rounds, judged, true))
        .collect();
    for metric in SHOWN.into_iter().filter(|metric| !gating.contains(metric)) {
        let Ok(values) = Values::of(compared.rounds, metric) else { continue };
        let rounds = values.rounds();
        let judged = judge(std::slice::from_ref(&rounds), judging.rule())[0];
        found.push(values.report(&rounds, judged, false));
    }
    if !compared.interleaved && !compared.accept_blocks {
        for metric in found.iter_mut().filter(|metric| metric.verdict == Verdict::Worse) {
            metric.verdict = Verdict::CannotTell;
        }
    }
    Ok(found)
}

fn measured(rounds: &[[Run; 2]], metric: Metric) -> Result<Values, Exit> {
    Values::of(rounds, metric).map_err(|(round, arm)| {
        let arm = ["base", "new"][arm];
        let text = format!("{} was not measured, or is 0, in round {round} of {arm}", metric.name());
        refused(&text, "choose what decides with --metric, or give the reports of both sides")
    })
}

/// One metric of all runs.
struct Values {
    metric: Metric,
    base: Vec<f64>,
    new: Vec<f64>,
}

impl Values {
    /// The round and arm in which there is no value that has a ratio to others.
    fn of(rounds: &[[Run; 2]], metric: Metric) -> Result<Values, (usize, usize)> {
        let of = |arm: usize| {
            let value = |(at, round): (usize, &[Run; 2])| {
                let value = metric.of(&round[arm]).filter(|value| value.is_finite() && *value > 0.0);
                value.ok_or((at + 1, arm))
            };
            rounds.iter().enumerate().map(value).collect::<Result<Vec<_>, _>>()
        };
        Ok(Values { metric, base: of(0)?, new: of(1)? })
    }

    fn rounds(&self) -> Rounds {
        let turned = if self.metric.smaller_is_better() { 1.0 } else { -1.0 };
        let pairs = self.base.iter().zip(&self.new);
        Rounds::new(pairs.map(|(base, new)| (turned * base.ln(), turned * new.ln())))
    }

    fn report(&self, rounds: &Rounds, judged: Judged, gates: bool) -> MetricReport {
        let base = series(&self.base);
        let visible = series::smallest_visible(base.noise, rounds.len());
        MetricReport {
            name: self.metric.name(),
            unit: self.metric.unit().name().to_owned(),
            smaller_is_better: self.metric.smaller_is_better(),
            gates,
            verdict: judged.verdict,
            change: change(judged, self.metric.smaller_is_better()),
            smallest_visible: visible.exp_m1(),
            rounds_to_decide: judged.rounds_to_decide,
            base,
            new: series(&self.new),
        }
    }
}

/// As a share of base. Where larger is better, shifts for the worse are shares below 0, and the ends change places.
fn change(judged: Judged, smaller_is_better: bool) -> ChangeReport {
    let share = |shift: f64| shift.is_finite().then(|| shift.exp_m1());
    let (estimate, low, high) = match smaller_is_better {
        true => (judged.estimate, judged.interval.low, judged.interval.high),
        false => (-judged.estimate, -judged.interval.high, -judged.interval.low),
    };
    ChangeReport { estimate: estimate.exp_m1(), low: share(low), high: share(high) }
}

fn series(values: &[f64]) -> SeriesReport {
    let logs: Vec<f64> = values.iter().map(|value| value.ln()).collect();
    let modes = series::modes(&logs).map(|modes| ModesReport {
        low: modes.low.exp(),
        high: modes.high.exp(),
        high_share: modes.high_share,
    });
    SeriesReport {
        median: series::median(values),
        spread: series::spread(values),
        noise: series::noise(&logs),
        autocorrelation: series::autocorrelation(&logs),
        modes,
        values: values.to_vec(),
    }
}

fn companions(rounds: &[[Run; 2]], gating: &[Metric]) -> Vec<CompanionReport> {
    let median = |metric: Metric, arm: usize| {
        let values: Option<Vec<f64>> = rounds.iter().map(|round| metric.of(&round[arm])).collect();
        values.map(|values| series::median(&values))
    };
    let companion = |(metric, tolerance): (Metric, f64)| {
        let (base, new) = (median(metric, 0)?, median(metric, 1)?);
        let differs = (new - base).abs() > tolerance * base;
        Some(CompanionReport { name: metric.name(), base, new, tolerance, differs })
    };
    COMPANIONS.into_iter().filter(|(metric, _)| !gating.contains(metric)).filter_map(companion).collect()
}

#[cfg(test)]
mod tests {
    use ringlift::compare::Interval;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_is_told_in_the_metrics_own_direction() {
        let interval = Interval { low: 1.05_f64.ln(), high: f64::INFINITY };
        let judged =
            Judged { verdict: Verdict::Worse, estimate: 1.25_f64.ln(), interval, rounds_to_decide: None };
        let close = |one: f64, other: f64| (one - other).abs() < 1e-12;
        let time = change(judged, true);
        assert!(close(time.estimate, 0.25) && close(time.low.unwrap(), 0.05) && time.high.is_none());
        let rate = change(judged, false);
        assert!(
            close(rate.estimate, -0.2) && close(rate.high.unwrap(), 1.0 / 1.05 - 1.0) && rate.low.is_none()
        );
    }

    #[test]
    fn a_run_without_a_value_is_named_and_none_is_left_out() {
        let run = |ns: u64| Run { sender: Some(json!({"duration_ns": ns})), ..Run::default() };
        let rounds = [[run(5), run(6)], [run(5), run(0)]];
        assert_eq!(Values::of(&rounds, Metric::Duration).err(), Some((2, 1)), "0 has no ratio");
        assert_eq!(Values::of(&rounds[..1], Metric::Duration).unwrap().new, [6.0]);
    }

    #[test]
    fn counts_are_compared_with_a_tolerance() {
        let run = |packets: u64, bytes: u64| Run {
            sender: Some(json!({"packets": packets, "bytes": bytes})),
            ..Run::default()
        };
        let rounds = [[run(1000, 50), run(1005, 51)], [run(1000, 50), run(1005, 51)]];
        let differs: Vec<_> =
            companions(&rounds, &[]).into_iter().map(|one| (one.name, one.differs)).collect();
        assert_eq!(differs, [("bytes".to_owned(), true), ("packets".to_owned(), false)]);
        assert_eq!(companions(&rounds, &[Metric::Bytes]).len(), 1, "what decides is no companion");
    }
}

//! Conditions of `--fail-if`: `downtime>300ms` and its like, and whether they hold for a run.
//!
//! A figure that was not measured counts as one that breaks the condition: a gate that is open because nothing was
//! measured is none. It must not hide a worse exit status.

use std::str::FromStr;

use ringlift::report::Report;

use crate::exit::Exit;
use crate::metric::{Metric, Run, STAGES_HINT, Unit};
use crate::show::warnings;

/// METRIC, a comparison, and VALUE.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition {
    metric: Metric,
    comparison: Comparison,
    bound: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// The longer ones first: `>` begins `>=`, too.
const COMPARISONS: [(&str, Comparison); 4] = [
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    (">", Comparison::Above),
    ("<", Comparison::Below),
];

/// The status of a command that is about to end with `exit`. Prints every condition that holds.
pub(crate) fn gate<'a>(
    conditions: &[Condition],
    exit: Exit,
    reports: impl IntoIterator<Item = &'a Report>,
) -> Exit {
    if exit != Exit::Complete || conditions.is_empty() {
        return exit;
    }
    let mut run = Run::default();
    for report in reports {
        run.add(report);
    }
    let said = conditions.iter().filter_map(|condition| condition.said_of(condition.metric.of(&run)));
    ended(exit, said)
}

/// The same for many subjects, each with a name and its value of each metric.
pub(crate) fn gate_each(
    conditions: &[Condition],
    exit: Exit,
    subjects: impl Iterator<Item = (String, impl Fn(Metric) -> Option<f64>)>,
) -> Exit {
    if exit != Exit::Complete || conditions.is_empty() {
        return exit;
    }
    let said = subjects.flat_map(|(name, value)| {
        let said = conditions.iter().filter_map(|condition| condition.said_of(value(condition.metric)));
        said.map(|text| format!("{name}: {text}")).collect::<Vec<_>>()
    });
    ended(exit, said)
}

fn ended(exit: Exit, said: impl Iterator<Item = String>) -> Exit {
    let said = said.inspect(|text| warnings::failure(text, None)).count();
    if said == 0 { exit } else { Exit::ConditionHolds }
}

impl Condition {
    pub(crate) fn metric(&self) -> Metric {
        self.metric
    }

    /// As it is typed for a bench, which has more metrics than a transfer.
    pub(crate) fn of_bench(typed: &str) -> Result<Condition, String> {
        let known = |name: &str| Metric::named_of_bench(name).filter(|metric| is_checked_by_bench(*metric));
        let hint = format!(
            "it is downtime, duration, throughput, bytes, stalls, cpu_per_gib, or {STAGES_HINT}, \
             or service or response with one of these"
        );
        Condition::read(typed, known, &hint)
    }

    /// A sentence if it holds for a value, or cannot be checked.
    fn said_of(&self, value: Option<f64>) -> Option<String> {
        let name = self.metric.name();
        let Some(value) = value else {
            return Some(format!("{name} was not measured on this side, so --fail-if cannot check it"));
        };
        let (holds, sign) = match self.comparison {
            Comparison::Above => (value > self.bound, ">"),
            Comparison::AtLeast => (value >= self.bound, ">="),
            Comparison::Below => (value < self.bound, "<"),
            Comparison::AtMost => (value <= self.bound, "<="),
        };
        let unit = self.metric.unit();
        let (mut shown, mut bound) = (unit.show(value), unit.show(self.bound));
        if shown == bound && value != self.bound {
            // rounded to the same: as they are
            (shown, bound) = (format!("{value} {}", unit.name()), format!("{} {}", self.bound, unit.name()));
        }
        holds.then(|| format!("{name} {shown} {sign} {bound}"))
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(typed: &str) -> Result<Condition, String> {
        let known = |name: &str| Metric::named(name).filter(|metric| is_checked(*metric));
        let hint = format!("it is downtime, duration, throughput, bytes, stalls, or {STAGES_HINT}");
        Condition::read(typed, known, &hint)
    }
}

impl Condition {
    fn read(typed: &str, known: impl Fn(&str) -> Option<Metric>, hint: &str) -> Result<Condition, String> {
        let at = typed.find(['<', '>', '=', '!']).unwrap_or(typed.len());
        let name = typed[..at].trim();
        let metric =
            known(name).ok_or_else(|| wrong(typed, 0, &format!("there is no metric {name:?}"), hint))?;
        let sign = COMPARISONS.into_iter().find(|(sign, _)| typed[at..].starts_with(sign));
        let (sign, comparison) =
            sign.ok_or_else(|| wrong(typed, at, "a comparison was expected", "write >, >=, < or <="))?;
        let bound = bound(typed, at + sign.len(), metric.unit())?;
        Ok(Condition { metric, comparison, bound })
    }
}

/// Whether every report has it. The others belong to comparisons.
fn is_checked(metric: Metric) -> bool {
    matches!(
        metric,
        Metric::Downtime
            | Metric::Duration
            | Metric::Throughput
            | Metric::Bytes
            | Metric::Stalls
            | Metric::Stage(..)
    )
}

/// Of a bench, the reports of both sides are there, and the times of whole transfers.
fn is_checked_by_bench(metric: Metric) -> bool {
    is_checked(metric) || matches!(metric, Metric::CpuPerGib | Metric::Paced(..))
}

fn bound(typed: &str, from: usize, unit: Unit) -> Result<f64, String> {
    let rest = &typed[from..];
    let begin = from + (rest.len() - rest.trim_start().len());
    let digits = |char: char| !char.is_ascii_digit() && char != '.';
    let end = typed[begin..].find(digits).map_or(typed.len(), |len| begin + len);
    let (example, units) = units(unit);
    let number: f64 = typed[begin..end]
        .parse()
        .map_err(|_| wrong(typed, begin, "a number was expected", &format!("write for example {example}")))?;
    let suffix = typed[end..].trim();
    let factor = units.iter().find(|(name, _)| *name == suffix).map(|(_, factor)| factor);
    let factor = factor.ok_or_else(|| {
        let names: Vec<_> = units.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
        let expected = match names.is_empty() {
            true => "a count has no unit".to_owned(),
            false => format!("a unit was expected: {}", names.join(", ")),
        };
        wrong(typed, end, &expected, &format!("write for example {example}"))
    })?;
    Ok(number * factor)
}

/// An example, and the units with what one of each is.
fn units(unit: Unit) -> (&'static str, &'static [(&'static str, f64)]) {
    match unit {
        Unit::Ns | Unit::NsPerGib => {
            ("300ms", &[("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9)])
        }
        Unit::BytesPerS => (
            "2.5GB/s",
            &[
                ("B/s", 1.0),
                ("kB/s", 1e3),
                ("MB/s", 1e6),
                ("GB/s", 1e9),
                ("KiB/s", 1024.0),
                ("MiB/s", 1_048_576.0),
                ("GiB/s", 1_073_741_824.0),
            ],
        ),
        Unit::Bytes => (
            "2GiB",
            &[("", 1.0), ("B", 1.0), ("KiB", 1024.0), ("MiB", 1_048_576.0), ("GiB", 1_073_741_824.0)],
        ),
        Unit::Count => ("10", &[("", 1.0)]),
    }
}

/// Columns count from 1.
fn wrong(typed: &str, at: usize, what: &str, hint: &str) -> String {
    let column = typed[..at].chars().count() + 1;
    format!("at column {column}: {what}\nhint: {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples::report;

    fn condition(typed: &str) -> Condition {
        typed.parse().unwrap()
    }

    #[test]
    fn conditions_are_read_in_every_unit() {
        for (typed, metric, bound) in [
            ("downtime>300ms", Metric::Downtime, 300e6),
            ("duration >= 1.5 s", Metric::Duration, 1.5e9),
            ("throughput<2.5GB/s", Metric::Throughput, 2.5e9),
            ("throughput<1GiB/s", Metric::Throughput, 1_073_741_824.0),
            ("bytes<1MiB", Metric::Bytes, 1_048_576.0),
            ("stalls>10", Metric::Stalls, 10.0),
            ("send.p999>50us", Metric::named("send.p999").unwrap(), 50e3),
        ] {
            let read = condition(typed);
            assert_eq!((read.metric, read.bound), (metric, bound), "{typed}");
        }
        assert_eq!(condition("stalls<=0").comparison, Comparison::AtMost);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_column() {
        for (typed, column, hint) in [
            ("", 1, "it is downtime"),
            ("downtme>300ms", 1, "it is downtime, duration, throughput, bytes, stalls, or read"),
            ("cpu_per_gib>1s", 1, "it is downtime"),
            ("downtime", 9, "write >, >=, < or <="),
            ("downtime==300ms", 9, "write >, >=, < or <="),
            ("downtime>", 10, "write for example 300ms"),
            ("downtime>-5ms", 10, "write for example 300ms"),
            ("downtime>300", 13, "write for example 300ms"),
            ("downtime>300 msec", 13, "write for example 300ms"),
            ("throughput<2GB", 13, "write for example 2.5GB/s"),
            ("stalls>1s", 9, "write for example 10"),
            ("stalls>1.2.3", 8, "write for example 10"),
            ("µ>1", 1, "it is downtime"),
        ] {
            let error = typed.parse::<Condition>().unwrap_err();
            assert!(error.starts_with(&format!("at column {column}: ")), "{typed}: {error}");
            assert!(error.contains(&format!("\nhint: {hint}")), "{typed}: {error}");
        }
    }

    #[test]
    fn a_condition_that_holds_is_a_sentence() {
        let run = Run::of(&report());
        let downtime = report().downtime.total_ns;
        let said = |typed: &str| {
            let condition = condition(typed);
            condition.said_of(condition.metric.of(&run))
        };
        assert_eq!(said(&format!("downtime>{downtime}ns")), None);
        assert!(said(&format!("downtime>={downtime}ns")).unwrap().contains(" >= "));
        let just_below = said(&format!("downtime>{}ns", downtime - 1)).unwrap();
        assert_eq!(
            just_below,
            format!("downtime {downtime} ns > {} ns", downtime - 1),
            "not rounded to the same"
        );
        assert!(said("throughput<1000GB/s").unwrap().starts_with("throughput "));
        assert!(said("end_to_end.p99>1ms").unwrap().contains("was not measured"));
    }

    #[test]
    fn a_worse_status_is_never_hidden() {
        let conditions = [condition("bytes>=0")];
        for exit in [Exit::Failed, Exit::InDoubt, Exit::Refused, Exit::Cancelled] {
            assert_eq!(gate(&conditions, exit, [&report()]), exit);
        }
        assert_eq!(gate(&conditions, Exit::Complete, [&report()]), Exit::ConditionHolds);
        assert_eq!(gate(&[condition("bytes<0")], Exit::Complete, [&report()]), Exit::Complete);
        assert_eq!(gate(&[], Exit::Complete, [&report()]), Exit::Complete);
    }

    #[test]
    fn one_of_many_for_which_a_condition_holds_is_enough() {
        let conditions = [Condition::of_bench("response.p99>1s").unwrap()];
        let gated = |exit, values: [f64; 2]| {
            let subjects = values.map(|value| (format!("at {value}"), move |_| Some(value)));
            gate_each(&conditions, exit, subjects.into_iter())
        };
        assert_eq!(gated(Exit::Complete, [1e9, 0.5e9]), Exit::Complete);
        assert_eq!(gated(Exit::Complete, [0.5e9, 1.1e9]), Exit::ConditionHolds);
        assert_eq!(gated(Exit::Cancelled, [0.5e9, 1.1e9]), Exit::Cancelled, "a worse status is never hidden");
        assert!("response.p99>1s".parse::<Condition>().is_err(), "a transfer has no such metric");
        let error = Condition::of_bench("switches>1").unwrap_err();
        assert!(error.contains("cpu_per_gib") && error.contains("response"), "{error}");
    }
}

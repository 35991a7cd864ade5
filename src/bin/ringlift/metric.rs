//! What a run measured: names, units and directions of the figures, and where they stand in the reports of any version.
//!
//! Reports are read as plain JSON, so that those of earlier and of later versions serve as well as our own. It must not
//! know what a figure is wanted for. A figure that was not measured is absent and never 0.

use ringlift::report::{Report, Role};
use serde_json::Value;

use crate::show::units;

/// One run: the reports of its sides, as far as there are any, and what both processes cost.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Run {
    pub(crate) sender: Option<Value>,
    pub(crate) receiver: Option<Value>,
    /// Counted from outside, so that it does not depend on what a version reports.
    pub(crate) usage: Option<Usage>,
}

/// What the processes of a run cost together, from their start to their end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) cpu_ns: u64,
    /// Voluntary and involuntary ones.
    pub(crate) switches: u64,
}

/// A figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    Downtime,
    Throughput,
    Duration,
    Bytes,
    Packets,
    Stalls,
    CpuPerGib,
    Switches,
    Enters,
    /// A stage of [`STAGES`] and a quantile of [`QUANTILES`].
    Stage(Side, &'static str, &'static str),
    /// A time of [`PACED`] and a quantile of [`QUANTILES`]: of the transfers of a bench at a rate, and of no single run.
    Paced(&'static str, &'static str),
}

/// The side of a transfer that counts a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Sender,
    Receiver,
}

/// The stages of a packet's journey, each counted by one side.
const STAGES: [(&str, Side); 6] = [
    ("read", Side::Sender),
    ("queue", Side::Sender),
    ("send", Side::Sender),
    ("reorder", Side::Receiver),
    ("write", Side::Receiver),
    ("end_to_end", Side::Receiver),
];

/// How long whole transfers took, from their start or from when they were due.
const PACED: [&str; 2] = ["service", "response"];

const QUANTILES: [&str; 5] = ["p50", "p90", "p99", "p999", "max"];

/// What stages and quantiles can be combined to, for hints.
pub(crate) const STAGES_HINT: &str =
    "read, queue, send, reorder, write or end_to_end with .p50, .p90, .p99, .p999 or .max";

/// The unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Ns,
    NsPerGib,
    BytesPerS,
    Bytes,
    Count,
}

const GIB: f64 = (1u64 << 30) as f64;

impl Metric {
    const NAMED: [(&str, Metric); 9] = [
        ("downtime", Metric::Downtime),
        ("throughput", Metric::Throughput),
        ("duration", Metric::Duration),
        ("bytes", Metric::Bytes),
        ("packets", Metric::Packets),
        ("stalls", Metric::Stalls),
        ("cpu_per_gib", Metric::CpuPerGib),
        ("switches", Metric::Switches),
        ("enters", Metric::Enters),
    ];

    /// The metric with this name.
    pub(crate) fn named(name: &str) -> Option<Metric> {
        if let Some((_, metric)) = Metric::NAMED.into_iter().find(|(known, _)| *known == name) {
            return Some(metric);
        }
        let (stage, quantile) = name.split_once('.')?;
        let (stage, side) = STAGES.into_iter().find(|(known, _)| *known == stage)?;
        let quantile = QUANTILES.into_iter().find(|known| *known == quantile)?;
        Some(Metric::Stage(side, stage, quantile))
    }

    /// The same, or one of those that only a bench has.
    pub(crate) fn named_of_bench(name: &str) -> Option<Metric> {
        let paced = || {
            let (time, quantile) = name.split_once('.')?;
            let time = PACED.into_iter().find(|known| *known == time)?;
            let quantile = QUANTILES.into_iter().find(|known| *known == quantile)?;
            Some(Metric::Paced(time, quantile))
        };
        Metric::named(name).or_else(paced)
    }

    pub(crate) fn name(self) -> String {
        if let Metric::Stage(_, stage, quantile) | Metric::Paced(stage, quantile) = self {
            return format!("{stage}.{quantile}");
        }
        let named = Metric::NAMED.into_iter().find(|(_, metric)| *metric == self);
        named.map_or_else(String::new, |(name, _)| name.to_owned())
    }

    pub(crate) fn unit(self) -> Unit {
        match self {
            Metric::Downtime | Metric::Duration | Metric::Stage(..) | Metric::Paced(..) => Unit::Ns,
            Metric::Throughput => Unit::BytesPerS,
            Metric::Bytes => Unit::Bytes,
            Metric::CpuPerGib => Unit::NsPerGib,
            Metric::Packets | Metric::Stalls | Metric::Switches | Metric::Enters => Unit::Count,
        }
    }

    pub(crate) fn smaller_is_better(self) -> bool {
        self != Metric::Throughput
    }

    /// Its value in a run, if it was measured.
    pub(crate) fn of(self, run: &Run) -> Option<f64> {
        match self {
            Metric::Downtime => run.figure("/downtime/total_ns"),
            Metric::Throughput => run.figure("/throughput_bytes_per_s"),
            Metric::Duration => run.figure("/duration_ns"),
            Metric::Bytes => run.figure("/bytes"),
            Metric::Packets => run.figure("/packets"),
            Metric::Stalls => {
                let credit = run.figure("/backpressure/credit_stalls")?;
                Some(credit + run.figure("/backpressure/pool_stalls")?)
            }
            Metric::CpuPerGib => {
                Some(run.cpu_ns()? / (run.figure("/bytes").filter(|bytes| *bytes > 0.0)? / GIB))
            }
            Metric::Switches => match run.usage {
                Some(usage) => Some(usage.switches as f64),
                None => run.of_both(|cost| {
                    number(cost, "/voluntary_switches").zip(number(cost, "/involuntary_switches"))
                }),
            },
            Metric::Enters => run.of_both(|cost| Some((number(cost, "/enters")?, 0.0))),
            Metric::Stage(side, stage, quantile) => {
                let document = run.side(side)?;
                let stage = document.pointer(&format!("/latency_ns/{stage}"))?;
                number(stage, "/count").filter(|count| *count > 0.0)?;
                number(stage, &format!("/{quantile}"))
            }
            Metric::Paced(..) => None,
        }
    }
}

impl Run {
    /// A run of which one side reported.
    pub(crate) fn of(report: &Report) -> Run {
        let mut run = Run::default();
        run.add(report);
        run
    }

    /// What one of its sides reported.
    pub(crate) fn add(&mut self, report: &Report) {
        let side = if report.role == Role::Sender { &mut self.sender } else { &mut self.receiver };
        *side = serde_json::to_value(report).ok();
    }

    /// The report of a side: its own, or the one that its peer passed on.
    pub(crate) fn side(&self, side: Side) -> Option<&Value> {
        let (own, peer, role) = match side {
            Side::Sender => (&self.sender, &self.receiver, "sender"),
            Side::Receiver => (&self.receiver, &self.sender, "receiver"),
        };
        let passed_on = || peer.as_ref()?.get("other_side").filter(|document| document["role"] == role);
        own.as_ref().or_else(passed_on)
    }

    /// A figure that both sides have: the sender's, or the receiver's where there is no other.
    fn figure(&self, pointer: &str) -> Option<f64> {
        let document = self.side(Side::Sender).or_else(|| self.side(Side::Receiver))?;
        number(document, pointer)
    }

    fn cpu_ns(&self) -> Option<f64> {
        match self.usage {
            Some(usage) => Some(usage.cpu_ns as f64),
            None => self.of_both(|cost| number(cost, "/user_ns").zip(number(cost, "/system_ns"))),
        }
    }

    /// The sum of what both sides say of their cost: half of it would be another figure.
    fn of_both(&self, read: impl Fn(&Value) -> Option<(f64, f64)>) -> Option<f64> {
        let of = |side| read(self.side(side)?.get("cost")?).map(|(one, other)| one + other);
        Some(of(Side::Sender)? + of(Side::Receiver)?)
    }
}

fn number(document: &Value, pointer: &str) -> Option<f64> {
    document.pointer(pointer)?.as_f64()
}

impl Unit {
    /// Its name in a report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unit::Ns => "ns",
            Unit::NsPerGib => "ns/GiB",
            Unit::BytesPerS => "bytes/s",
            Unit::Bytes => "bytes",
            Unit::Count => "count",
        }
    }

    /// A value as it is printed.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Unit::Ns => units::time(rounded(value)),
            Unit::NsPerGib => format!("{}/GiB", units::time(rounded(value))),
            Unit::BytesPerS => units::rate(value),
            Unit::Bytes => units::bytes(rounded(value)),
            Unit::Count => rounded(value).to_string(),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are positive, and `as` saturates"
)]
fn rounded(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sender() -> Value {
        serde_json::from_str(include_str!("../../../tests/fixtures/reports/sender.json")).unwrap()
    }

    #[test]
    fn every_metric_is_found_by_its_own_name() {
        for name in ["downtime", "throughput", "cpu_per_gib", "send.p99", "end_to_end.max", "reorder.p999"] {
            assert_eq!(Metric::named(name).unwrap().name(), name);
        }
        for name in ["service.p50", "response.p99"] {
            assert_eq!(Metric::named_of_bench(name).unwrap().name(), name);
            assert_eq!(Metric::named(name), None, "a single run has no {name}");
        }
        for name in ["", "Downtime", "send", "send.", "send.p95", "load.p99", ".p99"] {
            assert_eq!(Metric::named(name), None, "{name}");
        }
    }

    #[test]
    fn a_report_of_the_first_version_has_its_figures() {
        let run = Run { sender: Some(sender()), ..Run::default() };
        let of = |name| Metric::named(name).unwrap().of(&run);
        assert_eq!(of("downtime"), Some(5_367_324.0));
        assert_eq!(of("throughput"), Some(2_958_105_826.479_329_6));
        assert_eq!(of("send.p99"), Some(617_983.0));
        assert_eq!(of("write.p99"), None, "the receiver's");
        assert_eq!(of("cpu_per_gib"), None, "it does not say what it cost");
    }

    #[test]
    fn what_the_other_side_passed_on_is_used() {
        let mut document = sender();
        document["cost"] = json!({"user_ns": 1_000_000, "system_ns": 2_000_000, "enters": 5});
        let stage = json!({"count": 1, "p99": 77});
        document["other_side"] = json!({"role": "receiver", "latency_ns": {"write": stage},
            "cost": {"user_ns": 3_000_000, "system_ns": 0, "enters": 7}});
        let run = Run { sender: Some(document), ..Run::default() };
        let of = |name| Metric::named(name).unwrap().of(&run);
        assert_eq!(of("write.p99"), Some(77.0));
        assert_eq!(of("enters"), Some(12.0));
        assert_eq!(of("cpu_per_gib"), Some(6e6 / (16_777_264.0 / GIB)));
        let counted = Usage { cpu_ns: 1, switches: 9 };
        let run = Run { usage: Some(counted), ..run };
        assert_eq!(Metric::Switches.of(&run), Some(9.0), "what was counted from outside comes first");
    }

    #[test]
    fn values_are_printed_with_their_units() {
        assert_eq!(Unit::Ns.show(412e6), "412 ms");
        assert_eq!(Unit::NsPerGib.show(412e6), "412 ms/GiB");
        assert_eq!(Unit::BytesPerS.show(9.87e9), "9.87 GB/s");
        assert_eq!(Unit::Count.show(3.0), "3");
    }
}

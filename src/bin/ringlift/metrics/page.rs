//! The page of all metrics: which totals are shown as which. Pure.
//!
//! Invariant: every sample has the label `role`, so that what a sender and a receiver of one host write can be read together.

use super::exposition::{Exposition, Labels, Value};
use super::names::{self, Metric};
use super::totals::{Counts, Last, OUTCOMES, STAGES, Side, Totals};

/// What the metrics of a process are now.
pub(super) fn text(totals: &Totals) -> String {
    let sides = [("sender", &totals.sender), ("receiver", &totals.receiver)];
    let sides = sides.into_iter().filter_map(|(role, side)| Some((role, side.as_ref()?)));
    let sides = sides.map(|(role, side)| Shown { role, side, counts: side.counts() }).collect();
    let mut page = Page { sides, text: Exposition::default() };
    page.transfers();
    page.moved();
    page.waits();
    page.times();
    page.last();
    page.text.into_text()
}

struct Shown<'a> {
    role: &'static str,
    side: &'a Side,
    counts: Counts,
}

/// A metric of the last transfer.
type Gauge = (&'static Metric, fn(&Last) -> Value);

struct Page<'a> {
    sides: Vec<Shown<'a>>,
    text: Exposition,
}

impl Page<'_> {
    /// One metric: `samples` is called for each side, and calls its argument for each sample.
    fn metric(&mut self, metric: &Metric, samples: impl Fn(&Shown, &mut dyn FnMut(Labels, Value))) {
        self.text.begin(metric);
        for shown in &self.sides {
            let mut sample = |labels: Labels, value| {
                let labels = [&[("role", shown.role)], labels].concat();
                self.text.sample(metric, &labels, value);
            };
            samples(shown, &mut sample);
        }
    }

    fn transfers(&mut self) {
        let commit = option_env!("RINGLIFT_GIT").unwrap_or_default();
        self.metric(&names::BUILD_INFO, |_, sample| {
            sample(&[("version", env!("CARGO_PKG_VERSION")), ("commit", commit)], Value::Count(1));
        });
        self.metric(&names::TRANSFERS, |shown, sample| {
            for ((outcome, _), count) in OUTCOMES.iter().zip(shown.side.outcomes) {
                sample(&[("outcome", outcome)], Value::Count(count));
            }
        });
        self.metric(&names::RUNNING, |shown, sample| {
            sample(&[], Value::Count(shown.side.is_running().into()));
        });
    }

    fn moved(&mut self) {
        self.metric(&names::DEVICE_BYTES, |shown, sample| {
            let devices = shown.counts.devices.iter();
            devices.for_each(|(name, moved)| sample(&[("device", name)], Value::Count(moved.bytes)));
        });
        self.metric(&names::DEVICE_PACKETS, |shown, sample| {
            let devices = shown.counts.devices.iter();
            devices.for_each(|(name, moved)| sample(&[("device", name)], Value::Count(moved.packets)));
        });
        self.metric(&names::CHANNEL_BYTES, |shown, sample| {
            for (id, moved) in &shown.counts.channels {
                sample(&[("channel", &id.to_string())], Value::Count(moved.bytes));
            }
        });
        self.metric(&names::CHANNEL_PACKETS, |shown, sample| {
            for (id, moved) in &shown.counts.channels {
                sample(&[("channel", &id.to_string())], Value::Count(moved.packets));
            }
        });
    }

    fn waits(&mut self) {
        self.metric(&names::STALLED, |Shown { counts, .. }, sample| {
            sample(&[("cause", "credit")], Value::Ns(counts.credit_stall_ns));
            sample(&[("cause", "pool")], Value::Ns(counts.pool_stall_ns));
        });
        self.metric(&names::STALLS, |Shown { side, .. }, sample| {
            sample(&[("cause", "credit")], Value::Count(side.credit_stalls));
            sample(&[("cause", "pool")], Value::Count(side.pool_stalls));
        });
        self.metric(&names::IN_FLIGHT, |shown, sample| sample(&[], Value::Count(shown.side.in_flight_bytes)));
        self.metric(&names::REORDER_DEPTH, |shown, sample| {
            sample(&[], Value::Count(shown.side.reorder_depth));
        });
        self.metric(&names::RETRANSMITS, |shown, sample| sample(&[], Value::Count(shown.counts.retransmits)));
        self.metric(&names::CPU, |Shown { side, .. }, sample| {
            sample(&[("mode", "user")], Value::Ns(side.user_ns));
            sample(&[("mode", "system")], Value::Ns(side.system_ns));
        });
    }

    fn times(&mut self) {
        self.text.begin(&names::STAGES);
        for Shown { role, side, .. } in &self.sides {
            for (stage, buckets) in STAGES.iter().zip(&side.stages) {
                self.text.histogram(&names::STAGES, &[("role", role), ("stage", stage)], buckets);
            }
        }
        self.text.begin(&names::DOWNTIME);
        for Shown { role, side, .. } in &self.sides {
            self.text.histogram(&names::DOWNTIME, &[("role", role)], &side.downtime);
        }
    }

    fn last(&mut self) {
        let gauges: [Gauge; 5] = [
            (&names::LAST_END, |last| Value::Ns(last.end_ns)),
            (&names::LAST_DURATION, |last| Value::Ns(last.duration_ns)),
            (&names::LAST_DOWNTIME, |last| Value::Ns(last.downtime_ns)),
            (&names::LAST_SIMULATED, |last| Value::Count(last.simulated.into())),
            (&names::LAST_THROUGHPUT, |last| Value::Number(last.throughput)),
        ];
        for (metric, value) in gauges {
            self.metric(metric, |shown, sample| {
                shown.side.last.iter().for_each(|last| sample(&[], value(last)));
            });
        }
        self.metric(&names::WARNINGS, |shown, sample| {
            let warnings = shown.side.warnings.iter();
            warnings.for_each(|(code, count)| sample(&[("code", code)], Value::Count(*count)));
        });
    }
}

#[cfg(test)]
mod tests {
    use ringlift::report::{Report, Role, Warning, WarningCode};

    use super::*;
    use crate::show::samples::report;

    #[test]
    fn a_process_without_a_transfer_shows_zeros() {
        let mut totals = Totals::default();
        totals.side(Role::Receiver).devices(&["net0".to_owned()]);
        let text = text(&totals);
        for line in [
            "ringlift_transfers_total{role=\"receiver\",outcome=\"complete\"} 0",
            "ringlift_transfer_running{role=\"receiver\"} 0",
            "ringlift_device_bytes_total{role=\"receiver\",device=\"net0\"} 0",
            "ringlift_stage_latency_seconds_count{role=\"receiver\",stage=\"end_to_end\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("\nringlift_last_") && !text.contains("sender"), "{text}");
    }

    #[test]
    fn the_last_transfer_and_the_sum_of_all_are_shown() {
        let mut totals = Totals::default();
        let warning = Warning { code: WarningCode::NoHugePages, text: String::new(), hint: String::new() };
        let report = Report { warnings: vec![warning], ..report() };
        totals.side(Role::Sender).end(&report, 1_500_000_000);
        totals.side(Role::Sender).end(&report, 2_500_000_000);
        totals.side(Role::Sender).cpu(1_250_000_000, 0);
        let text = text(&totals);
        for line in [
            "ringlift_transfers_total{role=\"sender\",outcome=\"complete\"} 2",
            "ringlift_device_bytes_total{role=\"sender\",device=\"net0\"} 536870960",
            "ringlift_stalls_total{role=\"sender\",cause=\"credit\"} 6",
            "ringlift_downtime_seconds_bucket{role=\"sender\",le=\"0.1\"} 0",
            "ringlift_downtime_seconds_bucket{role=\"sender\",le=\"0.25\"} 2",
            "ringlift_downtime_seconds_sum{role=\"sender\"} 0.214",
            "ringlift_cpu_seconds_total{role=\"sender\",mode=\"user\"} 1.25",
            "ringlift_last_transfer_end_timestamp_seconds{role=\"sender\"} 2.5",
            "ringlift_last_transfer_downtime_seconds{role=\"sender\"} 0.107",
            "ringlift_last_transfer_throughput_bytes_per_second{role=\"sender\"} 2500000000",
            "ringlift_warnings_total{role=\"sender\",code=\"no_huge_pages\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}

//! A comparison in the formats of services that keep figures: Bencher Metric Format, and github-action-benchmark's
//! `customSmallerIsBetter`. Both get the medians of new; neither gets a verdict, which needs both arms.

use ringlift::compare::{CompareReport, MetricReport};
use serde_json::{Map, Value, json};

/// Bencher Metric Format: the measures of one benchmark, with the quartiles' distance as bounds.
pub(crate) fn bmf(report: &CompareReport) -> Value {
    let measure = |metric: &MetricReport| {
        let (median, around) = (metric.new.median, metric.new.median * metric.new.spread);
        let bounds = json!({"value": median, "lower_value": median - around, "upper_value": median + around});
        (metric.name.replace(['.', '_'], "-"), bounds)
    };
    let measures: Map<String, Value> = report.metrics.iter().map(measure).collect();
    json!({"ringlift": measures})
}

/// github-action-benchmark: smaller is better in all of them, so a rate becomes the time for a GiB.
pub(crate) fn gha(report: &CompareReport) -> Value {
    let entry = |metric: &MetricReport| {
        let (name, unit, value) = match metric.smaller_is_better {
            true => (metric.name.clone(), metric.unit.as_str(), metric.new.median),
            false => (format!("{} (time per GiB)", metric.name), "ns/GiB", 1e9 * GIB / metric.new.median),
        };
        let range = format!("± {:.1} %", metric.new.spread * 100.0);
        let extra =
            format!("{} rounds, ringlift {}", report.rounds, report.new.ringlift.as_deref().unwrap_or("?"));
        json!({"name": name, "unit": unit, "value": value, "range": range, "extra": extra})
    };
    report.metrics.iter().map(entry).collect()
}

const GIB: f64 = (1u64 << 30) as f64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples::comparison;

    #[test]
    fn bencher_gets_measures_with_bounds_around_them() {
        let bmf = bmf(&comparison());
        let downtime = &bmf["ringlift"]["downtime"];
        assert_eq!(downtime["value"], 147e6);
        assert!(
            downtime["lower_value"].as_f64() < Some(147e6) && downtime["upper_value"].as_f64() > Some(147e6)
        );
        assert!(bmf["ringlift"]["send-p99"].is_object());
    }

    #[test]
    fn a_rate_becomes_a_time_where_smaller_is_better() {
        let mut report = comparison();
        report.metrics[0].smaller_is_better = false;
        report.metrics[0].new.median = GIB;
        let gha = gha(&report);
        assert_eq!((&gha[0]["value"], &gha[0]["unit"]), (&json!(1e9), &json!("ns/GiB")));
        assert_eq!(gha[0]["extra"], "10 rounds, ringlift ?");
        assert_eq!((&gha[1]["name"], &gha[1]["unit"]), (&json!("send.p99"), &json!("ns")));
    }
}

//! The text that Prometheus reads, version 0.0.4. It must not know which metrics there are.
//!
//! Invariant: whatever the values of the labels are, a sample is one line, and a reader finds the values as they were.

use std::fmt::Write;

use super::buckets::{BOUNDS_NS, Buckets};
use super::names::{Kind, Metric};

/// The labels of a sample, and their values.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// A value of a sample.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    Count(u64),
    /// Shown in seconds.
    Ns(u64),
    Number(f64),
}

/// A text that grows metric by metric.
#[derive(Debug, Default)]
pub(super) struct Exposition(String);

impl Exposition {
    /// The samples that follow are of this metric.
    pub(super) fn begin(&mut self, metric: &Metric) {
        let Metric { name, kind, help } = metric;
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.name()));
    }

    /// A sample of a metric that is no histogram.
    pub(super) fn sample(&mut self, metric: &Metric, labels: Labels, value: Value) {
        debug_assert!(metric.kind != Kind::Histogram, "a histogram has buckets");
        self.line((metric.name, ""), labels, None, value);
    }

    /// The samples of one histogram.
    pub(super) fn histogram(&mut self, metric: &Metric, labels: Labels, buckets: &Buckets) {
        debug_assert!(metric.kind == Kind::Histogram, "only a histogram has buckets");
        let name = metric.name;
        for (bound, count) in BOUNDS_NS.iter().zip(buckets.cumulative()) {
            let bound = seconds(*bound);
            self.line((name, "_bucket"), labels, Some(("le", &bound)), Value::Count(count));
        }
        self.line((name, "_bucket"), labels, Some(("le", "+Inf")), Value::Count(buckets.count()));
        self.line((name, "_sum"), labels, None, Value::Ns(buckets.sum_ns()));
        self.line((name, "_count"), labels, None, Value::Count(buckets.count()));
    }

    /// The whole text.
    pub(super) fn into_text(self) -> String {
        self.0
    }

    fn line(
        &mut self,
        (name, suffix): (&str, &str),
        labels: Labels,
        last: Option<(&str, &str)>,
        value: Value,
    ) {
        self.put(format_args!("{name}{suffix}"));
        for (idx, (label, value)) in labels.iter().copied().chain(last).enumerate() {
            let before = if idx == 0 { '{' } else { ',' };
            self.put(format_args!("{before}{label}=\"{}\"", escaped(value)));
        }
        if !labels.is_empty() || last.is_some() {
            self.0.push('}');
        }
        match value {
            Value::Count(count) => self.put(format_args!(" {count}\n")),
            Value::Ns(ns) => self.put(format_args!(" {}\n", seconds(ns))),
            Value::Number(number) => self.put(format_args!(" {number}\n")),
        }
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("a String takes any text");
    }
}

/// Nanoseconds as seconds, exactly.
fn seconds(ns: u64) -> String {
    let (whole, rest) = (ns / 1_000_000_000, ns % 1_000_000_000);
    if rest == 0 {
        return whole.to_string();
    }
    format!("{whole}.{rest:09}").trim_end_matches('0').to_owned()
}

/// The value of a label, as it stands between quotation marks.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for char in value.chars() {
        match char {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTER: Metric = Metric { name: "bytes_total", kind: Kind::Counter, help: "Bytes." };
    const HISTOGRAM: Metric = Metric { name: "took_seconds", kind: Kind::Histogram, help: "Times." };

    #[test]
    fn a_metric_has_its_help_and_its_type_before_its_samples() {
        let mut text = Exposition::default();
        text.begin(&COUNTER);
        text.sample(&COUNTER, &[], Value::Count(u64::MAX));
        text.sample(&COUNTER, &[("device", "net0"), ("role", "sender")], Value::Number(0.5));
        let lines = "# HELP bytes_total Bytes.\n# TYPE bytes_total counter\nbytes_total 18446744073709551615\n\
                     bytes_total{device=\"net0\",role=\"sender\"} 0.5\n";
        assert_eq!(text.into_text(), lines);
    }

    #[test]
    fn no_label_leaves_its_line_or_its_quotation_marks() {
        for (value, shown) in [
            ("net0", "net0"),
            ("a\"b", "a\\\"b"),
            ("a\\", "a\\\\"),
            ("a\\\"} 1\n# EOF\n", "a\\\\\\\"} 1\\n# EOF\\n"),
            ("käse 😀 {x=\"\"}", "käse 😀 {x=\\\"\\\"}"),
            ("", ""),
        ] {
            assert_eq!(escaped(value), shown);
            let mut text = Exposition::default();
            text.sample(&COUNTER, &[("device", value)], Value::Count(1));
            assert_eq!(text.into_text().lines().count(), 1, "{value:?}");
        }
    }

    #[test]
    fn seconds_are_exact() {
        for (ns, shown) in [
            (0, "0"),
            (1, "0.000000001"),
            (2_500, "0.0000025"),
            (1_000_000_000, "1"),
            (90_500_000_000, "90.5"),
            (u64::MAX, "18446744073.709551615"),
        ] {
            assert_eq!(seconds(ns), shown);
        }
    }

    #[test]
    fn a_histogram_ends_with_all_of_its_values() {
        let mut buckets = Buckets::default();
        buckets.observe(1_000);
        buckets.observe(60_000_000_000);
        let mut text = Exposition::default();
        text.histogram(&HISTOGRAM, &[("stage", "read")], &buckets);
        let text = text.into_text();
        let found: Vec<_> = text.lines().collect();
        assert_eq!(found[0], "took_seconds_bucket{stage=\"read\",le=\"0.000001\"} 1");
        assert_eq!(
            found[found.len() - 4..],
            [
                "took_seconds_bucket{stage=\"read\",le=\"10\"} 1",
                "took_seconds_bucket{stage=\"read\",le=\"+Inf\"} 2",
                "took_seconds_sum{stage=\"read\"} 60.000001",
                "took_seconds_count{stage=\"read\"} 2",
            ]
        );
    }
}

//! The metrics: name, kind and meaning of each, in the order in which they are shown. It must not know any value.
//!
//! Invariant: a name never changes its meaning. Dashboards and alerts depend on the names, so all of them are listed in `docs/LAB.md`,
//! and a test holds the list, `docs/grafana.json` and this file together.

/// What a metric is to Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Never decreases while the process lives.
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
}

macro_rules! metrics {
    ($($ident:ident $kind:ident $name:literal $help:literal;)+) => {
        $(pub(super) const $ident: Metric = Metric { name: $name, kind: Kind::$kind, help: $help };)+
        /// All of them.
        #[cfg(test)]
        const ALL: &[Metric] = &[$($ident),+];
    };
}

metrics! {
    BUILD_INFO Gauge "ringlift_build_info" "Always 1; the labels are the version of ringlift and the commit it was built from.";
    TRANSFERS Counter "ringlift_transfers_total" "Transfers that have ended, by outcome.";
    RUNNING Gauge "ringlift_transfer_running" "1 while a transfer is under way.";
    DEVICE_BYTES Counter "ringlift_device_bytes_total" "Payload bytes of each device.";
    DEVICE_PACKETS Counter "ringlift_device_packets_total" "Packets of each device; added when a transfer ends.";
    CHANNEL_BYTES Counter "ringlift_channel_bytes_total" "Payload bytes of each data connection.";
    CHANNEL_PACKETS Counter "ringlift_channel_packets_total" "Packets of each data connection; added when a transfer ends.";
    STALLED Counter "ringlift_stalled_seconds_total" "How long data waited, for the receiver's credit or for a free slot of the pool.";
    STALLS Counter "ringlift_stalls_total" "Times that data waited; added when a transfer ends.";
    IN_FLIGHT Gauge "ringlift_in_flight_bytes" "Bytes given to sockets whose memory was not free again; 0 between transfers.";
    REORDER_DEPTH Gauge "ringlift_reorder_depth_packets" "Packets that had come and were not written; 0 between transfers.";
    RETRANSMITS Counter "ringlift_retransmitted_segments_total" "Segments that TCP sent again.";
    CPU Counter "ringlift_cpu_seconds_total" "Processor time of the process, in user space and in the kernel.";
    STAGES Histogram "ringlift_stage_latency_seconds" "How long packets took, stage by stage; added when a transfer ends.";
    DOWNTIME Histogram "ringlift_downtime_seconds" "How long the devices stood still, of each transfer that stopped them.";
    LAST_END Gauge "ringlift_last_transfer_end_timestamp_seconds" "When the last transfer ended, in seconds since 1970.";
    LAST_DURATION Gauge "ringlift_last_transfer_duration_seconds" "How long the last transfer took.";
    LAST_DOWNTIME Gauge "ringlift_last_transfer_downtime_seconds" "How long the devices stood still in the last transfer.";
    LAST_SIMULATED Gauge "ringlift_last_transfer_simulated" "1 if no device of the last transfer could stop, so that no guest stood still.";
    LAST_THROUGHPUT Gauge "ringlift_last_transfer_throughput_bytes_per_second" "Payload bytes of the last transfer over its duration.";
    WARNINGS Counter "ringlift_warnings_total" "Warnings in reports, by code.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn all() -> BTreeSet<&'static str> {
        ALL.iter().map(|metric| metric.name).collect()
    }

    #[test]
    fn names_are_as_prometheus_wants_them() {
        assert_eq!(all().len(), ALL.len(), "each is there once");
        for Metric { name, kind, help } in ALL {
            let is_word = |char: char| char.is_ascii_lowercase() || char == '_';
            assert!(name.starts_with("ringlift_") && name.chars().all(is_word), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(help.ends_with('.') && !help.contains(['\\', '\n']), "{name}");
        }
    }

    /// Whatever in a text could be the name of a metric.
    fn named(text: &str) -> BTreeSet<&str> {
        let words = text.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_'));
        let names = words.filter(|word| word.starts_with("ringlift_"));
        names
            .map(|word| {
                ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word)
            })
            .collect()
    }

    #[test]
    fn the_document_lists_every_metric_and_no_other() {
        let text = include_str!("../../../../docs/LAB.md");
        let (_, chapter) = text.split_once("\n## Metrics\n").expect("its chapter");
        let chapter = chapter.split("\n## ").next().unwrap();
        let rows = chapter.lines().filter_map(|line| line.strip_prefix("| `ringlift_"));
        let listed: Vec<(String, &str)> = rows
            .map(|row| {
                let mut cells = row.split(" | ");
                let name = cells.next().unwrap().trim_end_matches('`');
                (format!("ringlift_{name}"), cells.next().expect("its kind"))
            })
            .collect();
        let own: Vec<_> = ALL.iter().map(|metric| (metric.name.to_owned(), metric.kind.name())).collect();
        assert_eq!(listed, own);
        // a file is named after the program, too
        let others: Vec<_> =
            named(chapter).difference(&all()).copied().filter(|name| !FILES.contains(name)).collect();
        assert!(others.is_empty(), "{others:?}");
    }

    const FILES: [&str; 2] = ["ringlift_send", "ringlift_recv"];

    #[test]
    fn the_dashboard_shows_metrics_that_exist_and_can_be_imported() {
        let text = include_str!("../../../../docs/grafana.json");
        let dashboard: Value = serde_json::from_str(text).unwrap();
        let mut expressions = Vec::new();
        strings(&dashboard, "expr", &mut expressions);
        let shown: BTreeSet<&str> = expressions.iter().flat_map(|text| named(text)).collect();
        let unknown: Vec<_> = named(text).difference(&all()).copied().collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        for metric in [&DEVICE_BYTES, &DOWNTIME, &STAGES, &STALLED, &TRANSFERS, &RETRANSMITS, &CPU] {
            assert!(shown.contains(metric.name), "{}", metric.name);
        }
        assert!(dashboard["schemaVersion"].as_u64() >= Some(36));
        assert!(dashboard["id"].is_null(), "an id belongs to one Grafana");
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        assert!(variables.iter().any(|one| one["type"] == "datasource" && one["name"] == "datasource"));
        let panels = dashboard["panels"].as_array().unwrap();
        let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len(), "each panel has its own id");
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }

    /// The texts of all properties of a name.
    fn strings<'a>(value: &'a Value, property: &str, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get(property).and_then(Value::as_str));
                members.values().for_each(|below| strings(below, property, found));
            }
            Value::Array(items) => items.iter().for_each(|below| strings(below, property, found)),
            _ => {}
        }
    }

    #[test]
    fn histograms_are_shown_by_their_buckets() {
        let text = include_str!("../../../../docs/grafana.json");
        let dashboard: Value = serde_json::from_str(text).unwrap();
        let mut expressions = Vec::new();
        strings(&dashboard, "expr", &mut expressions);
        let quantiles: Vec<_> =
            expressions.iter().filter(|text| text.contains("histogram_quantile")).collect();
        assert!(!quantiles.is_empty());
        assert!(
            quantiles.iter().all(|text| text.contains("_bucket") && text.contains("le")),
            "{quantiles:?}"
        );
    }
}

//! What two arms do not have in common and should: where they ran, with which settings and warnings, and how much state
//! they moved.
//!
//! Properties that only one version of the reports has are passed over. A value that varies from run to run counts as
//! the one that most runs of its arm have.

use std::collections::BTreeMap;

use ringlift::compare::DifferenceReport;
use serde_json::Value;

use crate::metric::{Run, Side};

/// Of `host`, what may explain figures. The rest names the program, or is too changeable.
const HOST: [&str; 7] = ["kernel", "cpu", "cpus", "governor", "profile", "numa_nodes", "sysctls"];

/// How much the amount of state may differ: versions differ in a few bytes of config state.
const BYTES_TOLERANCE: f64 = 0.01;

/// The differences between base and new.
pub(super) fn between(rounds: &[[Run; 2]]) -> Vec<DifferenceReport> {
    let mut found = Vec::new();
    for (side, prefix) in [(Side::Sender, ""), (Side::Receiver, "receiver ")] {
        let [base, new] = [0, 1].map(|arm| usual(rounds, arm, side));
        for (what, base) in &base {
            let Some(new) = new.get(what) else { continue };
            if base != new && !is_same_amount(what, base, new) {
                let what = format!("{prefix}{what}");
                found.push(DifferenceReport { what, base: base.clone(), new: new.clone() });
            }
        }
    }
    found
}

fn is_same_amount(what: &str, base: &str, new: &str) -> bool {
    let (Ok(base), Ok(new)) = (base.parse::<f64>(), new.parse::<f64>()) else { return false };
    what == "bytes" && (base - new).abs() <= BYTES_TOLERANCE * base
}

/// Each property of one side of an arm, with the value that most of its runs have.
fn usual(rounds: &[[Run; 2]], arm: usize, side: Side) -> BTreeMap<String, String> {
    let mut counted: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for report in rounds.iter().filter_map(|round| round[arm].side(side)) {
        for (what, value) in properties(report) {
            *counted.entry(what).or_default().entry(value).or_default() += 1;
        }
    }
    let most = |values: BTreeMap<String, usize>| values.into_iter().max_by_key(|(_, count)| *count);
    counted.into_iter().filter_map(|(what, values)| Some((what, most(values)?.0))).collect()
}

fn properties(report: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    leaves("settings", &report["settings"], &mut found);
    for name in HOST {
        leaves(&format!("host.{name}"), &report["host"][name], &mut found);
    }
    if let Some(warnings) = report["warnings"].as_array() {
        let mut codes: Vec<&str> = warnings.iter().filter_map(|one| one["code"].as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        let codes = if codes.is_empty() { "none".to_owned() } else { codes.join(", ") };
        found.push(("warnings".to_owned(), codes));
    }
    leaves("bytes", &report["bytes"], &mut found);
    found
}

fn leaves(what: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Null => {}
        Value::Object(properties) => {
            properties.iter().for_each(|(name, value)| leaves(&format!("{what}.{name}"), value, found));
        }
        Value::String(text) => found.push((what.to_owned(), text.clone())),
        other => found.push((what.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Value {
        serde_json::from_str(include_str!("../../../../../tests/fixtures/reports/sender.json")).unwrap()
    }

    fn run(change: impl Fn(&mut Value)) -> Run {
        let mut sender = report();
        change(&mut sender);
        Run { sender: Some(sender), ..Run::default() }
    }

    #[test]
    fn each_difference_is_listed_with_both_values() {
        let change = |report: &mut Value| {
            report["settings"]["congestion"] = json!("cubic");
            report["host"]["kernel"] = json!("6.18.0");
            report["host"]["ringlift"] = json!("9.9.9");
            report["warnings"] = json!([]);
            report["duration_ns"] = json!(1);
        };
        let found = between(&[[run(|_| {}), run(change)]]);
        let listed: Vec<_> =
            found.iter().map(|one| (one.what.as_str(), one.base.as_str(), one.new.as_str())).collect();
        assert_eq!(
            listed,
            [
                ("host.kernel", "6.12.0", "6.18.0"),
                ("settings.congestion", "bbr", "cubic"),
                ("warnings", "congestion_control", "none"),
            ]
        );
    }

    #[test]
    fn what_one_version_does_not_report_is_passed_over() {
        let later = |report: &mut Value| {
            report["settings"]["cipher"] = json!("aes");
            report["host"]["governor"] = json!("performance");
            report["bytes"] = json!(16_777_264 + 24);
        };
        assert_eq!(between(&[[run(|_| {}), run(later)]]), []);
    }

    #[test]
    fn the_value_of_most_runs_counts() {
        let small = |report: &mut Value| report["settings"]["huge_pages"] = json!("none");
        let same = || [run(|_| {}), run(|_| {})];
        assert_eq!(between(&[same(), same(), [run(|_| {}), run(small)]]), []);
        assert_eq!(between(&[same(), [run(|_| {}), run(small)], [run(|_| {}), run(small)]]).len(), 1);
    }

    #[test]
    fn another_amount_of_state_is_another_workload() {
        let more = |report: &mut Value| report["bytes"] = json!(18_000_000);
        assert_eq!(between(&[[run(|_| {}), run(more)]])[0].what, "bytes");
    }
}

//! A comparison in plain text and in Markdown: a row for each metric, the verdict, and what a reader must know.

use ringlift::compare::{ChangeReport, CompareReport, MetricReport, SeriesReport, Verdict};

use crate::metric::Metric;
use crate::show::output;
use crate::show::table::Table;

const HEADER: [&str; 6] = ["metric", "base", "new", "change", "verdict", "n"];

/// The table, the verdict and the notes.
pub(crate) fn text(report: &CompareReport) -> String {
    let sign = if output::takes_unicode() { "±" } else { "+-" };
    let mut table = Table::new(&HEADER);
    for metric in &report.metrics {
        table.row(cells(metric, report.rounds, sign));
    }
    let mut text = format!("base: {}\nnew:  {}\n\n{table}\n", arm(report, true), arm(report, false));
    text += &format!("{}\n", verdict(report));
    for note in &report.notes {
        text += &format!("note: {}\n", note.text);
    }
    text
}

/// The same for a comment on a pull request.
pub(crate) fn markdown(report: &CompareReport) -> String {
    let row = |cells: [String; 6]| format!("| {} |\n", cells.join(" | "));
    let mut text = format!("### ringlift compare: {}\n\n", report.verdict);
    text += &row(HEADER.map(str::to_owned));
    text += "|---|---:|---:|---:|---|---:|\n";
    for metric in &report.metrics {
        text += &row(cells(metric, report.rounds, "±"));
    }
    text +=
        &format!("\n{}\n\nbase: `{}`, new: `{}`\n", verdict(report), arm(report, true), arm(report, false));
    if !report.notes.is_empty() {
        text.push('\n');
    }
    for note in &report.notes {
        text += &format!("- {}\n", note.text);
    }
    text
}

/// One line, while the rounds are under way.
pub(crate) fn look(report: &CompareReport) -> String {
    let gating = report.metrics.iter().filter(|metric| metric.gates);
    let said: Vec<_> = gating
        .map(|metric| format!("{} {}: {}", metric.name, change(metric.change), metric.verdict))
        .collect();
    format!("after {} rounds: {}", report.rounds, said.join("; "))
}

/// `8.6 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn arm(report: &CompareReport, is_base: bool) -> String {
    let arm = if is_base { &report.base } else { &report.new };
    match &arm.ringlift {
        Some(version) => format!("{} (ringlift {version})", arm.name),
        None => arm.name.clone(),
    }
}

fn cells(metric: &MetricReport, rounds: u64, sign: &str) -> [String; 6] {
    let verdict = match metric.gates {
        true => metric.verdict.to_string(),
        false => format!("({})", metric.verdict),
    };
    let value = |series: &SeriesReport| {
        let median = Metric::named(&metric.name).map(|known| known.unit().show(series.median));
        format!("{} {sign} {:.0} %", median.unwrap_or_default(), series.spread * 100.0)
    };
    let (base, new) = (value(&metric.base), value(&metric.new));
    [metric.name.clone(), base, new, change(metric.change), verdict, rounds.to_string()]
}

/// `+33.8 % [+26.1, +41.1]`.
fn change(change: ChangeReport) -> String {
    let end =
        |share: Option<f64>| share.map_or_else(|| "?".to_owned(), |share| format!("{:+.1}", share * 100.0));
    format!("{:+.1} % [{}, {}]", change.estimate * 100.0, end(change.low), end(change.high))
}

fn verdict(report: &CompareReport) -> String {
    let gating = || report.metrics.iter().filter(|metric| metric.gates);
    let of =
        |verdict| gating().filter(move |metric| metric.verdict == verdict).map(|metric| metric.name.as_str());
    let names = |verdict| of(verdict).collect::<Vec<_>>().join(" and ");
    let bar = percent(report.max_regression);
    let rounds = report.rounds;
    match report.verdict {
        Verdict::Worse => format!("worse: {}, by the bar of {bar} or more", names(Verdict::Worse)),
        Verdict::Better => format!("better: {}", names(Verdict::Better)),
        Verdict::NoChange => format!("no change: nothing is worse by the bar of {bar}"),
        Verdict::CannotTell => {
            let needed = gating().filter_map(|metric| metric.rounds_to_decide).max();
            let undecided = names(Verdict::CannotTell);
            match needed {
                Some(needed) => format!(
                    "cannot tell from {rounds} rounds: {undecided}; about {needed} rounds would decide it at this noise"
                ),
                None => {
                    format!("cannot tell from {rounds} rounds: {undecided}; more of them would hardly help")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::samples::comparison;

    #[test]
    fn a_comparison_has_a_row_for_each_metric_and_those_that_do_not_count_are_in_parentheses() {
        let text = text(&comparison());
        assert!(text.starts_with("base: old/ringlift (ringlift 0.1.0)\nnew:  new/ringlift\n"), "{text}");
        assert!(text.contains("+33.8 % [+26.1, +41.1]     worse   10\n"), "{text}");
        assert!(text.contains("+33.8 % [+26.1, ?]   (worse)   10\n"), "{text}");
        assert!(text.contains("\nworse: downtime, by the bar of 5.0 % or more\nnote: it drifts\n"), "{text}");
    }

    #[test]
    fn a_comparison_in_markdown_is_a_table_with_the_same_rows() {
        let text = markdown(&comparison());
        assert!(text.starts_with("### ringlift compare: worse\n\n| metric | base | new |"), "{text}");
        assert!(
            text.contains("| downtime | 110 ms ± 9 % | 147 ms ± 9 % | +33.8 % [+26.1, +41.1] | worse | 10 |")
        );
        assert!(text.ends_with("\n- it drifts\n"), "{text}");
    }

    #[test]
    fn what_cannot_be_told_comes_with_advice() {
        let mut report = comparison();
        report.verdict = Verdict::CannotTell;
        report.metrics[0].verdict = Verdict::CannotTell;
        report.metrics[0].rounds_to_decide = Some(85);
        assert_eq!(
            verdict(&report),
            "cannot tell from 10 rounds: downtime; about 85 rounds would decide it at this noise"
        );
        report.metrics[0].rounds_to_decide = None;
        assert!(verdict(&report).ends_with("more of them would hardly help"));
        assert_eq!(look(&report), "after 10 rounds: downtime +33.8 % [+26.1, +41.1]: cannot tell");
    }
}

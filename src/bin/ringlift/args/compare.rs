//! The command line of `ringlift compare`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use ringlift::compare::{ROUNDS_MAX, ROUNDS_MIN, Rule};

use super::{count_from, json};
use crate::metric::{Metric, STAGES_HINT};
use crate::show::json::JsonTarget;

const FILES_HELP: &str = "\
Reports are what `send --json` and `recv --json` write, one or several in a file. Only runs that took turns can be compared, so \
the reports have to state their run, round and arm; `compare run --keep` writes such reports. The verdict on any others is never \
worse, because the machine may have changed in between. The arm called base, or else the first one, is what the other is \
compared with.

Exit status:
    0  no change, or better
    1  worse
    2  nothing was compared: a usage error, or reports that cannot be compared
    5  cannot tell: too few rounds for this much noise

Examples:
  ringlift compare run old/ringlift new/ringlift
  ringlift compare kept/*.json
  ringlift compare --base monday/*.json --new tuesday/*.json";

const RUN_HELP: &str = "\
Each round runs both programs once, in random order: a new `recv` with a sink `discard` for each device, and a new `send` to it. \
The options after -- are those of `send`; without a --device it is d0=null:512MiB. Two rounds to warm up are not counted. The \
rounds end as soon as it is decided: looks are taken after a quarter, three eighths, half, three quarters and all of --rounds, \
never before 10 rounds.

Worse means that NEW is certainly slower, and by --max-regression or more. A metric is one of downtime, throughput, duration, \
cpu_per_gib (of both processes, from their start to their end), switches, enters, or a quantile of a stage, such as send.p99. \
Those in parentheses in the table are shown and do not count.

Exit status:
    0  no change, or better
    1  worse
    2  nothing was compared: a usage error, settings that differ, or a run that
       failed
    5  cannot tell: too few rounds for this much noise
  130  cancelled (SIGINT, SIGTERM)

Examples:
  ringlift compare run old/ringlift new/ringlift
  ringlift compare run old/ringlift new/ringlift --metric send.p99 --rounds 80 \\
      -- --device d0=synthetic:256MiB --channels 4 --congestion cubic
  ringlift compare run --calibrate new/ringlift --keep kept";

#[derive(Debug, Args)]
#[command(after_help = FILES_HELP, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Compare {
    #[command(subcommand)]
    pub(crate) command: Option<CompareCommand>,
    #[command(flatten)]
    pub(crate) files: CompareFiles,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CompareCommand {
    /// Runs two programs in turns over loopback until it is decided whether NEW is worse than BASE
    Run(CompareRun),
}

#[derive(Debug, Args)]
pub(crate) struct CompareFiles {
    /// Reports of both arms
    #[arg(value_name = "REPORT", required_unless_present = "base")]
    pub(crate) reports: Vec<PathBuf>,
    /// Reports of what is compared with, whatever arm they state
    #[arg(long, value_name = "REPORT", num_args = 1.., requires = "new", conflicts_with = "reports")]
    pub(crate) base: Vec<PathBuf>,
    /// Reports of what is judged, whatever arm they state
    #[arg(long, value_name = "REPORT", num_args = 1.., requires = "base")]
    pub(crate) new: Vec<PathBuf>,
    /// Judges runs that did not take turns as if they had
    #[arg(long)]
    pub(crate) accept_blocks: bool,
    #[command(flatten)]
    pub(crate) judging: Judging,
    #[command(flatten)]
    pub(crate) outputs: Outputs,
}

#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
pub(crate) struct CompareRun {
    /// The program that is compared with
    #[arg(value_name = "BASE_BINARY")]
    pub(crate) base: PathBuf,
    /// The program that is judged
    #[arg(value_name = "NEW_BINARY", required_unless_present = "calibrate", conflicts_with = "calibrate")]
    pub(crate) new: Option<PathBuf>,
    /// Options for every `send`, after --
    #[arg(last = true, value_name = "SEND_OPTION")]
    pub(crate) send: Vec<OsString>,
    /// The most rounds
    #[arg(long, value_name = "MAX", default_value_t = 40, value_parser = rounds)]
    pub(crate) rounds: u16,
    /// What the order inside the rounds is drawn from; it is printed when it was not given
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u32>,
    /// Runs BASE against itself: how noisy is this machine?
    #[arg(long)]
    pub(crate) calibrate: bool,
    /// Keeps the reports of all counted rounds in this folder; it is created, or must be empty
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) judging: Judging,
    #[command(flatten)]
    pub(crate) outputs: Outputs,
}

#[derive(Debug, Args)]
pub(crate) struct Judging {
    /// How much slower NEW may be, such as 5% or 2.5%
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = percent)]
    max_regression: f64,
    /// Calls worse only what is certainly slower by --max-regression, not what is certainly slower and probably by that much
    #[arg(long)]
    confident: bool,
    /// A metric that decides. Repeat for several [default: downtime and throughput]
    #[arg(long = "metric", value_name = "NAME", value_parser = metric)]
    pub(crate) metrics: Vec<Metric>,
    /// Compares arms that differ in host, settings, warnings or amount of state
    #[arg(long)]
    pub(crate) accept: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Outputs {
    /// Writes the comparison to FILE as JSON; - is stdout, and replaces the table. Likewise below
    #[arg(long, value_name = "FILE", value_parser = json())]
    pub(crate) json: Option<JsonTarget>,
    /// Writes the table to FILE as Markdown, for a comment on a pull request
    #[arg(long, value_name = "FILE", value_parser = json())]
    pub(crate) markdown: Option<JsonTarget>,
    /// Writes the medians of NEW to FILE in Bencher Metric Format
    #[arg(long, value_name = "FILE", value_parser = json())]
    pub(crate) bmf: Option<JsonTarget>,
    /// Writes the medians of NEW to FILE for github-action-benchmark (customSmallerIsBetter)
    #[arg(long, value_name = "FILE", value_parser = json())]
    pub(crate) gha: Option<JsonTarget>,
}

impl Judging {
    pub(crate) fn rule(&self) -> Rule {
        Rule { max_regression: self.max_regression, confident: self.confident }
    }

    /// What decides, each once.
    pub(crate) fn gating(&self) -> Vec<Metric> {
        let default = [Metric::Downtime, Metric::Throughput];
        let named = if self.metrics.is_empty() { &default[..] } else { &self.metrics };
        let mut gating = Vec::new();
        for metric in named {
            if !gating.contains(metric) {
                gating.push(*metric);
            }
        }
        gating
    }
}

impl Outputs {
    pub(crate) fn all(&self) -> impl Iterator<Item = &JsonTarget> {
        [&self.json, &self.markdown, &self.bmf, &self.gha].into_iter().flatten()
    }
}

fn rounds(typed: &str) -> Result<u16, String> {
    count_from(ROUNDS_MIN, typed, ROUNDS_MAX)
}

fn percent(typed: &str) -> Result<f64, String> {
    let number = typed.strip_suffix('%').unwrap_or(typed).parse().ok();
    let number = number.filter(|percent: &f64| (0.1..=1000.0).contains(percent));
    let share = number.map(|percent| percent / 100.0);
    share.ok_or_else(|| "it is no number from 0.1% to 1000%\nhint: write for example 5%".to_owned())
}

fn metric(typed: &str) -> Result<Metric, String> {
    Metric::named(typed).ok_or_else(|| {
        format!(
            "there is no such metric\nhint: it is downtime, throughput, duration, cpu_per_gib, switches, enters, or {STAGES_HINT}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_a_share() {
        assert_eq!(percent("5%"), Ok(0.05));
        assert_eq!(percent("2.5"), Ok(0.025));
        for typed in ["", "%", "0%", "-5%", "5 %", "NaN", "1001%", "inf"] {
            assert!(percent(typed).unwrap_err().contains("hint: write for example 5%"), "{typed}");
        }
    }

    #[test]
    fn a_metric_that_does_not_exist_is_answered_with_those_that_do() {
        assert_eq!(metric("downtime"), Ok(Metric::Downtime));
        assert!(metric("send.p98").unwrap_err().contains("end_to_end with .p50"));
    }
}

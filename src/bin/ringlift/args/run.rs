//! The options that say which run of an experiment a command is, and where its figures go beside the report. They change nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use ringlift::limits;
use ringlift::report::RunInfo;

use super::metrics::Metrics;

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Run {
    /// Names the run in the report [default: random]
    #[arg(long = "run-id", value_name = "ID")]
    pub(crate) id: Option<String>,
    /// Which of the variants that are compared
    #[arg(long, value_name = "ARM")]
    pub(crate) arm: Option<String>,
    /// Which repetition
    #[arg(long, value_name = "N")]
    pub(crate) round: Option<u64>,
    /// Whatever else describes the run; can be repeated
    #[arg(long = "note", value_name = "KEY=VALUE", value_parser = note)]
    pub(crate) notes: Vec<(String, String)>,
    /// Writes the histograms of all stages to FILE, as a log for the HdrHistogram tools
    #[arg(long, value_name = "FILE")]
    pub(crate) hlog: Option<PathBuf>,
    /// Writes when each packet was where to FILE, as a trace that Perfetto and Chrome show
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) metrics: Metrics,
}

impl Run {
    /// How many packets are kept for the trace.
    pub(crate) fn traced(&self) -> usize {
        if self.trace.is_some() { limits::TRACE_PACKETS_DEFAULT } else { 0 }
    }

    /// As the report has it. Without an id it gets another one each time.
    pub(crate) fn info(&self) -> RunInfo {
        RunInfo {
            id: self.id.clone().unwrap_or_else(random_id),
            arm: self.arm.clone(),
            round: self.round,
            note: self.notes.iter().cloned().collect::<BTreeMap<_, _>>(),
            started_at: String::new(),
            command_line: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        }
    }

    /// The same of a run that begins now.
    pub(crate) fn begun(&self) -> RunInfo {
        let mut info = self.info();
        info.begin();
        info
    }

    /// The options that give another process the same run.
    pub(crate) fn words(info: &RunInfo) -> Vec<String> {
        let mut words = vec![format!("--run-id={}", info.id)];
        words.extend(info.arm.iter().map(|arm| format!("--arm={arm}")));
        words.extend(info.round.iter().map(|round| format!("--round={round}")));
        words.extend(info.note.iter().map(|(key, value)| format!("--note={key}={value}")));
        words
    }
}

fn random_id() -> String {
    getrandom::u64().map_or_else(|_| format!("{}", std::process::id()), |number| format!("{number:016x}"))
}

fn note(typed: &str) -> Result<(String, String), String> {
    match typed.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a note has a key and a value\nhint: write for example kernel=patched".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: Run,
    }

    #[test]
    fn another_process_can_be_given_the_same_run() {
        let typed = "- --run-id x --arm b --round 3 --note kernel=6.12 --note card=a=b";
        let info = Line::parse_from(typed.split_whitespace()).run.info();
        assert_eq!((info.id.as_str(), info.arm.as_deref(), info.round), ("x", Some("b"), Some(3)));
        assert_eq!(info.note["card"], "a=b");
        let words = std::iter::once("-".to_owned()).chain(Run::words(&info));
        assert_eq!(Line::parse_from(words).run.info(), info);
    }

    #[test]
    fn a_run_without_an_id_gets_one_that_no_other_has() {
        assert_ne!(Run::default().info().id, Run::default().info().id);
    }

    #[test]
    fn a_note_without_a_key_is_refused() {
        for typed in ["x", "=x", ""] {
            assert!(Line::try_parse_from(["-", "--note", typed]).is_err(), "{typed}");
        }
    }
}

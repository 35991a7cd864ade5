//! `compare run`: rounds of two programs, in random order, until it is decided.
//!
//! Invariant: every counted round has one run of each arm, and a run that failed ends the comparison: none is left out or
//! repeated.

use std::fs;
use std::path::{Path, PathBuf};

use ringlift::Cancel;
use ringlift::compare::{CompareReport, Verdict, looks};
use serde_json::{Value, json};

use super::assembly::{self, Arms, Compared};
use super::process::{self, NoRun};
use super::refused;
use super::workload::Workload;
use crate::args::CompareRun;
use crate::exit::Exit;
use crate::metric::Run;
use crate::random::{self, Random};
use crate::show::progress::Progress;
use crate::show::{comparison, output, warnings};
use crate::signals;

/// Rounds to warm up.
const WARM_UP: usize = 2;

/// Runs them.
pub(super) fn compare(args: &CompareRun) -> Result<CompareReport, Exit> {
    let workload = Workload::of(&args.send).map_err(|unfit| refused(&unfit.0, unfit.1))?;
    if let Some(folder) = &args.keep {
        prepare(folder)?;
    }
    let seed = random::seed(args.seed)?;
    let cancel = Cancel::new();
    signals::give_up_on_signals(&cancel, &Progress::new(false))?;
    let new = args.new.as_ref().unwrap_or(&args.base);
    let names = [args.base.display().to_string(), new.display().to_string()];
    let run_id = format!("compare-{seed:08x}-{}", std::process::id());
    let runner = Runner { programs: [&args.base, new], workload, cancel, keep: args.keep.clone(), run_id };
    output::say(&format!(
        "comparing {} with {}: at most {} rounds, seed {seed}",
        names[1], names[0], args.rounds
    ));
    let arms = Arms {
        names,
        run_id: Some(runner.run_id.clone()),
        seed: Some(seed.into()),
        calibration: args.calibrate,
    };
    runner.rounds(args, &arms, Random::new(seed))
}

struct Runner<'a> {
    programs: [&'a Path; 2],
    workload: Workload,
    cancel: Cancel,
    keep: Option<PathBuf>,
    run_id: String,
}

const ARMS: [&str; 2] = ["base", "new"];

impl Runner<'_> {
    fn rounds(&self, args: &CompareRun, arms: &Arms, mut coin: Random) -> Result<CompareReport, Exit> {
        for _ in 0..WARM_UP {
            self.round(None, coin.toss())?;
        }
        let mut rounds: Vec<[Run; 2]> = Vec::new();
        let looks = looks(args.rounds.into());
        let mut looks = looks.iter().copied().peekable();
        loop {
            let runs = self.round(Some(rounds.len() + 1), coin.toss())?;
            rounds.push(runs);
            if rounds.len() == 1 {
                // what cannot be compared is refused before it has taken all of the time
                assembly::refuse_differences(&rounds, &args.judging)?;
            }
            if looks.next_if_eq(&rounds.len()).is_none() {
                continue;
            }
            let compared = Compared { rounds: &rounds, interleaved: true, accept_blocks: false };
            let report = assembly::report(&compared, arms, &args.judging)?;
            output::say(&comparison::look(&report));
            if report.verdict != Verdict::CannotTell || looks.peek().is_none() {
                return Ok(report);
            }
        }
    }

    /// Both arms once; `number` is none while warming up.
    fn round(&self, number: Option<usize>, new_first: bool) -> Result<[Run; 2], Exit> {
        let mut runs = [Run::default(), Run::default()];
        let order = if new_first { [1, 0] } else { [0, 1] };
        for arm in order {
            let program = self.programs[arm];
            runs[arm] = process::run(program, &self.workload, &self.cancel)
                .map_err(|no_run| self.said(&no_run, arm, number))?;
            if let (Some(folder), Some(number)) = (&self.keep, number) {
                self.store(folder, &runs[arm], arm, number)?;
            }
        }
        Ok(runs)
    }

    /// A signal from a terminal ends both processes, too: that is no failure of theirs.
    fn said(&self, no_run: &NoRun, arm: usize, round: Option<usize>) -> Exit {
        let NoRun::Failed(text) = no_run else { return Exit::Cancelled };
        if self.cancel.is_cancelled() {
            return Exit::Cancelled;
        }
        let round = round.map_or_else(|| "while warming up".to_owned(), |round| format!("in round {round}"));
        let text = format!("{} ({}) failed {round}: {text}", ARMS[arm], self.programs[arm].display());
        warnings::failure(&text, Some("run `recv` and `send` of that program by hand to see all they print"));
        Exit::Usage
    }

    fn store(&self, folder: &Path, run: &Run, arm: usize, round: usize) -> Result<(), Exit> {
        for (role, report) in [("sender", &run.sender), ("receiver", &run.receiver)] {
            let Some(report) = report else { continue };
            let path = folder.join(format!("{round:04}-{}-{role}.json", ARMS[arm]));
            let labelled = labelled(report.clone(), &self.run_id, ARMS[arm], round);
            fs::write(&path, format!("{labelled:#}\n")).map_err(|error| {
                refused(
                    &format!("{} cannot be written: {error}", path.display()),
                    "look at the disk's free space and the folder's permissions",
                )
            })?;
        }
        Ok(())
    }
}

/// A report that says which run of which comparison it is of, whatever its version.
fn labelled(mut report: Value, run_id: &str, arm: &str, round: usize) -> Value {
    if !report["run"].is_object() {
        report["run"] = json!({});
    }
    for (key, value) in [("id", json!(run_id)), ("arm", json!(arm)), ("round", json!(round))] {
        report["run"][key] = value;
    }
    report
}

fn prepare(folder: &Path) -> Result<(), Exit> {
    let made = fs::create_dir_all(folder).and_then(|()| Ok(fs::read_dir(folder)?.next().is_none()));
    let text = match made {
        Ok(true) => return Ok(()),
        Ok(false) => format!("{} is not empty", folder.display()),
        Err(error) => format!("{} cannot be used: {error}", folder.display()),
    };
    Err(refused(&text, "name a new folder with --keep"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_any_version_is_labelled_and_keeps_what_it_said() {
        let early = labelled(json!({"schema": "ringlift.report.v1", "bytes": 5}), "r", "base", 3);
        assert_eq!(early["run"], json!({"id": "r", "arm": "base", "round": 3}));
        let later = json!({"run": {"id": "own", "arm": null, "started_at": "2026-01-31T12:34:56.789Z"}});
        let later = labelled(later, "r", "new", 1);
        assert_eq!((&later["run"]["id"], &later["run"]["arm"]), (&json!("r"), &json!("new")));
        assert!(later["run"]["started_at"].is_string());
    }
}

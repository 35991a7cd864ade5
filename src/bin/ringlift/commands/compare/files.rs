//! `compare` on reports: reads them, and finds out which belong together.
//!
//! Documents are read leniently, because they may be of any version. Invariant: only reports of one run, in which every
//! round has both arms, count as interleaved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ringlift::compare::{CompareReport, ROUNDS_MAX};
use serde_json::Value;

use super::assembly::{self, Arms, Compared};
use super::refused;
use crate::args::CompareFiles;
use crate::documents;
use crate::exit::Exit;
use crate::metric::Run;

const ARMS: [&str; 2] = ["base", "new"];

/// Compares what is in the files.
pub(super) fn compare(args: &CompareFiles) -> Result<CompareReport, Exit> {
    let given = !args.base.is_empty();
    let mut documents = Vec::new();
    for (arm, paths) in [(None, &args.reports), (Some(0), &args.base), (Some(1), &args.new)] {
        for path in paths {
            documents.extend(read(path)?.into_iter().map(|report| Document {
                arm,
                report,
                path: path.clone(),
            }));
        }
    }
    let names = if given { ARMS.map(str::to_owned) } else { name_arms(&mut documents)? };
    let run_id = one_run(&documents);
    let (rounds, interleaved) = match by_round(&documents)? {
        Some(rounds) if run_id.is_some() => (rounds, true),
        _ => (in_order(&documents), false),
    };
    if rounds.is_empty() {
        return Err(refused("there are no runs of both arms", "give reports of base and of new"));
    }
    if rounds.len() > ROUNDS_MAX {
        let text = format!("there are {} rounds, and at most {ROUNDS_MAX} are compared", rounds.len());
        return Err(refused(&text, "give fewer reports"));
    }
    let arms = Arms { names, run_id, seed: None, calibration: false };
    let compared = Compared { rounds: &rounds, interleaved, accept_blocks: args.accept_blocks };
    assembly::report(&compared, &arms, &args.judging)
}

/// A report, and the arm it is of.
struct Document {
    arm: Option<usize>,
    report: Value,
    path: PathBuf,
}

impl Document {
    fn run(&self, name: &str) -> &Value {
        &self.report["run"][name]
    }

    fn is_sender(&self) -> bool {
        self.report["role"] == "sender"
    }

    fn slot<'a>(&self, run: &'a mut Run) -> &'a mut Option<Value> {
        if self.is_sender() { &mut run.sender } else { &mut run.receiver }
    }
}

/// Runs that failed are no measurements.
fn read(path: &Path) -> Result<Vec<Value>, Exit> {
    let documents = documents::read(path)?;
    if let Some(report) = documents.iter().find(|report| report["outcome"] != "complete") {
        let text = format!("{} is of a transfer that is not complete: {}", path.display(), report["outcome"]);
        return Err(refused(&text, "runs that failed are no measurements: find out why, and measure again"));
    }
    Ok(documents)
}

/// Gives each document its arm, from what it states; the names of both.
fn name_arms(documents: &mut [Document]) -> Result<[String; 2], Exit> {
    let hint = "give them as --base REPORTS --new REPORTS, or measure with `compare run`";
    let mut names: Vec<String> = Vec::new();
    for document in documents.iter() {
        let Some(arm) = document.run("arm").as_str() else {
            return Err(refused(&format!("{} does not state its arm", document.path.display()), hint));
        };
        if !names.iter().any(|name| name == arm) {
            names.push(arm.to_owned());
        }
    }
    let Ok(mut names) = <[String; 2]>::try_from(names) else {
        return Err(refused("the reports are not of exactly two arms", hint));
    };
    if names[1] == ARMS[0] {
        names.swap(0, 1);
    }
    for document in documents {
        document.arm = names.iter().position(|name| document.run("arm") == name.as_str());
    }
    Ok(names)
}

/// The run that all documents state.
fn one_run(documents: &[Document]) -> Option<String> {
    let first = documents.first()?.run("id").as_str()?;
    documents.iter().all(|document| document.run("id") == first).then(|| first.to_owned())
}

/// The rounds that the documents state, if all do. A round without one of the arms would be a choice of runs.
fn by_round(documents: &[Document]) -> Result<Option<Vec<[Run; 2]>>, Exit> {
    let mut rounds: BTreeMap<u64, [Run; 2]> = BTreeMap::new();
    for document in documents {
        let (Some(round), Some(arm)) = (document.run("round").as_u64(), document.arm) else {
            return Ok(None);
        };
        let runs = rounds.entry(round).or_default();
        if document.slot(&mut runs[arm]).replace(document.report.clone()).is_some() {
            let text = format!("{}: round {round} of {} is there twice", document.path.display(), ARMS[arm]);
            return Err(refused(&text, "give the reports of one comparison, each once"));
        }
    }
    for (round, runs) in &rounds {
        if let Some(arm) = runs.iter().position(|run| run.sender.is_none() && run.receiver.is_none()) {
            let text = format!("round {round} has no report of {}", ARMS[arm]);
            return Err(refused(&text, "give the reports of all rounds"));
        }
    }
    Ok(Some(rounds.into_values().collect()))
}

/// Pairs of the first runs of both arms, the second ones, and so on.
fn in_order(documents: &[Document]) -> Vec<[Run; 2]> {
    let [base, new] = [0, 1].map(|arm| {
        let of = |is_sender| {
            let found = documents
                .iter()
                .filter(move |document| document.arm == Some(arm) && document.is_sender() == is_sender);
            found.map(|document| Some(document.report.clone())).collect::<Vec<_>>()
        };
        let (mut senders, mut receivers) = (of(true), of(false));
        // those of one side may be missing, but not some of them: nothing says which belong together
        match (senders.len(), receivers.len()) {
            (0, len) => senders = vec![None; len],
            (len, other) if len != other => receivers = vec![None; len],
            _ => {}
        }
        senders
            .into_iter()
            .zip(receivers)
            .map(|(sender, receiver)| Run { sender, receiver, usage: None })
            .collect::<Vec<_>>()
    });
    base.into_iter().zip(new).map(|(base, new)| [base, new]).collect()
}

//! `ringlift compare`: is NEW worse than BASE?
//!
//! Runs, or reports of runs, become rounds of two arms; the library judges them. This file decides what ends a comparison
//! early, and how it is told.

mod assembly;
mod differences;
mod files;
mod notes;
mod process;
mod rounds;
mod workload;

use std::path::Path;

use ringlift::compare::{CompareReport, Verdict};

use crate::args::{Compare, CompareCommand, CompareFiles, CompareRun, Outputs};
use crate::exit::Exit;
use crate::show::json::JsonTarget;
use crate::show::{comparison, exports, output, warnings};

/// Compares what was run, or runs it.
pub(crate) fn run(args: &Compare) -> Exit {
    let compared = match &args.command {
        Some(CompareCommand::Run(run)) => of_programs(run),
        None => of_reports(&args.files),
    };
    compared.unwrap_or_else(|exit| exit)
}

fn of_programs(args: &CompareRun) -> Result<Exit, Exit> {
    check(&args.outputs, [])?;
    let report = rounds::compare(args)?;
    Ok(conclude(&report, &args.outputs))
}

fn of_reports(args: &CompareFiles) -> Result<Exit, Exit> {
    let read = [&args.reports, &args.base, &args.new].into_iter().flatten();
    check(&args.outputs, read.map(|path| path.as_path()))?;
    let report = files::compare(args)?;
    Ok(conclude(&report, &args.outputs))
}

fn check<'a>(outputs: &Outputs, read: impl IntoIterator<Item = &'a Path> + Clone) -> Result<(), Exit> {
    outputs.all().try_for_each(|target| target.check(read.clone()))
}

fn conclude(report: &CompareReport, outputs: &Outputs) -> Exit {
    if !outputs.all().any(|target| *target == JsonTarget::Stdout) {
        output::result(&comparison::text(report));
    }
    if let Some(json) = &outputs.json {
        json.write(report);
    }
    if let Some(markdown) = &outputs.markdown {
        markdown.write_text(&comparison::markdown(report));
    }
    if let Some(bmf) = &outputs.bmf {
        bmf.write(&exports::bmf(report));
    }
    if let Some(gha) = &outputs.gha {
        gha.write(&exports::gha(report));
    }
    match report.verdict {
        Verdict::NoChange | Verdict::Better => Exit::Complete,
        Verdict::Worse => Exit::Failed,
        Verdict::CannotTell => Exit::CannotTell,
    }
}

/// Nothing can be compared.
fn refused(text: &str, hint: &str) -> Exit {
    warnings::usage(text, hint)
}

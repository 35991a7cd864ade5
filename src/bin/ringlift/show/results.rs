//! What is printed when a transfer has ended.

use ringlift::error::{Error, PeerError};
use ringlift::report::Histograms;
use ringlift::{Finished, Outcome};

use crate::exit::Exit;
use crate::show::json::JsonTarget;
use crate::show::{histogram, output, prediction, summary, warnings};

/// Prints tables and histogram, or JSON in their place; then the warnings, and finally the error. A report that is one of
/// many is added to the others.
pub(crate) fn conclude(
    finished: &Finished,
    json: Option<&JsonTarget>,
    is_only: bool,
    print: fn(&str),
) -> Exit {
    let tables = match &finished.error {
        Some(Error::DryRun) => Some(prediction::dry_run(&finished.report)),
        _ if is_worth_a_table(finished) => {
            Some(format!("{}\n{}", summary::summary(&finished.report), histogram_of(&finished.histograms)))
        }
        _ => None,
    };
    tables.iter().filter(|_| json != Some(&JsonTarget::Stdout)).for_each(|tables| print(tables));
    match json {
        Some(json) if is_only => json.write(&finished.report),
        Some(json) => json.append(&finished.report),
        None => {}
    }
    complain(finished)
}

/// Prints the warnings, and finally the error.
pub(crate) fn complain(finished: &Finished) -> Exit {
    warnings::warnings(&finished.report.warnings);
    match &finished.error {
        None => {}
        // no failure of this side: there is nothing to do about it
        Some(error @ (Error::DryRun | Error::Peer(PeerError::DryRun))) => output::say(&error.to_string()),
        Some(error) => {
            warnings::error(error);
        }
    }
    Exit::of(finished)
}

/// The most informative histogram: of the whole journey when this side knows it, otherwise of its last stage.
pub(crate) fn histogram_of(histograms: &Histograms) -> String {
    let unicode = output::takes_unicode();
    [("end to end", &histograms.end_to_end), ("write", &histograms.write), ("send", &histograms.send)]
        .into_iter()
        .find(|(_, histogram)| !histogram.is_empty())
        .map(|(name, histogram)| histogram::draw(&format!("latency, {name}"), histogram, unicode))
        .unwrap_or_default()
}

/// A refused transfer has no figures to show.
fn is_worth_a_table(finished: &Finished) -> bool {
    finished.outcome != Outcome::Aborted || finished.report.bytes > 0
}

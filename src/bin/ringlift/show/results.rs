//! What is printed when a transfer has ended.

use ringlift::report::Histograms;
use ringlift::{Finished, Outcome};

use crate::exit::Exit;
use crate::show::json::JsonTarget;
use crate::show::{histogram, output, summary, warnings};

/// Prints tables and histogram, or JSON in their place; then the warnings, and finally the error. A report that is one of
/// many is added to the others.
pub(crate) fn conclude(
    finished: &Finished,
    json: Option<&JsonTarget>,
    is_only: bool,
    print: fn(&str),
) -> Exit {
    if json != Some(&JsonTarget::Stdout) && is_worth_a_table(finished) {
        print(&format!("{}\n{}", summary::summary(&finished.report), histogram_of(&finished.histograms)));
    }
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
    if let Some(error) = &finished.error {
        warnings::error(error);
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

//! `ringlift report`: shows reports again, as tables or as a page.

use ringlift::report::{Distribution, Report};
use serde_json::Value;

use crate::args;
use crate::documents;
use crate::exit::Exit;
use crate::page::{self, Transfer};
use crate::show::{histogram, output, summary, trace, warnings};

/// Shows what is in the files.
pub(crate) fn run(args: &args::Report) -> Exit {
    shown(args).unwrap_or_else(|exit| exit)
}

fn shown(args: &args::Report) -> Result<Exit, Exit> {
    if let Some(path) = &args.trace {
        return trace::join(&args.files, path);
    }
    if let Some(html) = &args.html {
        html.check_as(("page", "--html"), args.files.iter().map(|path| path.as_path()))?;
    }
    let transfers = transfers(args)?;
    let Some(html) = &args.html else {
        transfers.iter().for_each(|transfer| tables(transfer, transfers.len() > 1));
        return Ok(Exit::Complete);
    };
    if transfers.len() > page::TRANSFERS_MAX {
        let text = format!(
            "there are {} transfers, and a page shows at most {}",
            transfers.len(),
            page::TRANSFERS_MAX
        );
        return Err(warnings::usage(&text, "give fewer reports; `ringlift compare` takes more"));
    }
    html.put(&page::html(&transfers)).map_err(|error| {
        let text = format!("the page was not written: {error}");
        warnings::failure(&text, Some("look at the disk's free space and the folder's permissions"));
        Exit::Failed
    })?;
    Ok(Exit::Complete)
}

fn transfers(args: &args::Report) -> Result<Vec<Transfer>, Exit> {
    let mut found = Vec::new();
    for (number, path) in args.files.iter().enumerate() {
        let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
        for document in documents::read(path)? {
            let transfer = Transfer::of(&label(&document, &stem), &document).map_err(|error| {
                let text = format!("{} is not read: {error}", path.display());
                warnings::usage(&text, "name files that `send --json` and `recv --json` wrote")
            })?;
            found.push((number, transfer));
        }
    }
    if found.is_empty() {
        return Err(warnings::usage("there is no report in these files", "name files that --json wrote"));
    }
    Ok(page::joined(found))
}

/// What its run is called, or else its file.
fn label(document: &Value, stem: &str) -> String {
    let run = &document["run"];
    match (run["arm"].as_str(), run["round"].as_u64()) {
        (Some(arm), Some(round)) => format!("{arm}, round {round}"),
        (Some(arm), None) => arm.to_owned(),
        (None, _) => stem.to_owned(),
    }
}

/// The tables that the commands print after a transfer, and its warnings.
fn tables(transfer: &Transfer, is_one_of_many: bool) {
    let heading = if is_one_of_many { format!("== {}\n\n", transfer.label) } else { String::new() };
    let sides: Vec<&Report> = transfer.sides().map(|side| &side.report).collect();
    let text = match *sides {
        [sender, receiver] => format!("{}\n{}", summary::both(sender, receiver), drawn(receiver)),
        [side] => format!("{}\n{}", summary::summary(side), drawn(side)),
        _ => String::new(),
    };
    output::result(&format!("{heading}{text}\n"));
    for side in sides {
        warnings::warnings(&side.warnings);
        if let Some(error) = &side.error {
            warnings::failure(&error.text, error.hint.as_deref());
        }
    }
}

/// The histogram that is most informative, where a report holds whole ones.
fn drawn(report: &Report) -> String {
    let latency = &report.latency_ns;
    let stages = [("end to end", &latency.end_to_end), ("write", &latency.write), ("send", &latency.send)];
    let whole = |(name, stage): (&str, &Distribution)| Some((format!("latency, {name}"), stage.decode()?));
    let found = stages.into_iter().filter_map(whole).find(|(_, histogram)| !histogram.is_empty());
    found.map_or_else(String::new, |(title, histogram)| {
        histogram::draw(&title, &histogram, output::takes_unicode())
    })
}

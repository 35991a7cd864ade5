//! One self-contained page about one or several transfers: reports in, text out.
//!
//! It must not know files or clocks. Everything is in the page: there is no script and nothing to load, and a policy in
//! its head says so to the browser. All text that comes from reports is escaped where it becomes markup.

mod channels;
mod flow;
mod headline;
mod latency;
mod markup;
mod scale;
mod svg;
mod switchover;
mod tables;
#[cfg(test)]
mod tests;
mod transfer;

use markup::{columns, escaped, section};

pub(crate) use transfer::{Transfer, joined};

/// Transfers on a page: more columns are not read, and `compare` judges them better.
pub(crate) const TRANSFERS_MAX: usize = 8;

const STYLE: &str = include_str!("style.css");

/// The page.
pub(crate) fn html(transfers: &[Transfer]) -> String {
    let each = |part: &dyn Fn(&Transfer, usize) -> String| {
        let parts = transfers.iter().enumerate();
        columns(parts.map(|(number, one)| (one.label.clone(), part(one, number))).collect())
    };
    let (pauses, flows) = (switchover::shared_axis(transfers), flow::Axes::of(transfers));
    let sections = [
        ("summary", "Summary", headline::headline(transfers)),
        (
            "switchover",
            "What the downtime was made of",
            each(&|one, number| switchover::switchover(one, number, &pauses)),
        ),
        ("flow", "Throughput and what held it back", each(&|one, number| flow::flow(one, number, &flows))),
        ("latency", "How long packets took", latency::latency(transfers)),
        ("channels", "Channels", each(&channels::balance)),
        ("tcp", "Connections", each(&|one, _| channels::tcp(one))),
        ("devices", "Devices", each(&|one, _| tables::devices(one))),
        ("cost", "Cost", tables::cost(transfers)),
        ("warnings", "Warnings", tables::warnings(transfers)),
        ("settings", "Settings", tables::settings(transfers)),
        ("hosts", "Hosts", tables::hosts(transfers)),
    ];
    let links = sections.iter().map(|(id, heading, _)| format!("<a href=\"#{id}\">{heading}</a>\n"));
    let links: String = links.collect();
    let body: String = sections.iter().map(|(id, heading, body)| section(id, heading, body)).collect();
    let title = title(transfers);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{}<header><h1>{title}</h1>\n\
         <nav aria-label=\"On this page\">\n{links}</nav></header>\n<main>\n{body}</main>\n\
         <footer>Made by ringlift {} from its reports. Sizes are binary, rates are decimal.</footer>\n</body>\n</html>\n",
        svg::patterns(),
        env!("CARGO_PKG_VERSION"),
    )
}

fn title(transfers: &[Transfer]) -> String {
    let labels: Vec<&str> = transfers.iter().map(|transfer| &*transfer.label).collect();
    match &*labels {
        [one] => escaped(&format!("Transfer {one}")),
        [one, two] => escaped(&format!("Transfers {one} and {two}")),
        _ => format!("{} transfers", labels.len()),
    }
}

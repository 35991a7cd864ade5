//! `ringlift qemu capture`.

use ringlift::Cancel;
use ringlift::error::Error;
use ringlift::qemu::{Capture, CaptureBuilder, Captured, Listener};
use ringlift::report::{CaptureReport, PacketHistograms, PacketReport, Quantiles};

use super::tables;
use crate::args;
use crate::commands::recv;
use crate::exit::Exit;
use crate::show::json::JsonTarget;
use crate::show::progress::Progress;
use crate::show::table::Table;
use crate::show::units::{bytes, rate, time};
use crate::show::{histogram, output, warnings};
use crate::signals;

/// One migration.
pub(crate) fn run(args: &args::Capture) -> Exit {
    take(args).unwrap_or_else(|exit| exit)
}

fn take(args: &args::Capture) -> Result<Exit, Exit> {
    recv::check_listen(args.listen, args.plaintext)?;
    let out = args.out.as_deref().filter(|_| !args.discard);
    args.json.as_ref().map_or(Ok(()), |json| json.check(out))?;
    let (cancel, progress) = (Cancel::new(), Progress::new(false));
    let said = |error: Error| warnings::error(&error);
    // before announcing that it listens: an unsuitable folder is detected first
    let builder = builder(args, &cancel, &progress);
    let listener = Listener::bind(args.listen).map_err(said)?;
    let addr = listener.local_addr();
    let capture = builder.listener(listener).build().map_err(|misuse| said(misuse.into()))?;
    signals::stop_on_signals(&cancel, &progress)?;
    output::say(&format!("listening on {addr}"));
    let captured = capture.run();
    progress.end();
    Ok(conclude(args, &captured))
}

fn builder(args: &args::Capture, cancel: &Cancel, progress: &Progress) -> CaptureBuilder {
    let shown = progress.clone();
    let mut builder = Capture::builder()
        .channels(args.channels.into())
        .on_event(move |event| shown.show(event))
        .cancel(cancel);
    if let Some(folder) = args.out.as_ref().filter(|_| !args.discard) {
        builder = builder.folder(folder);
    }
    if let Some(congestion) = &args.congestion {
        builder = builder.congestion(congestion.as_str());
    }
    builder
}

fn conclude(args: &args::Capture, captured: &Captured) -> Exit {
    let report = &captured.report;
    if args.json != Some(JsonTarget::Stdout) && report.bytes > 0 {
        output::result(&format!("{}{}", all(report), histograms(&captured.histograms)));
    }
    if let Some(json) = &args.json {
        json.write(report);
    }
    warnings::warnings(&report.warnings);
    captured.error.as_ref().map_or(Exit::Complete, warnings::error)
}

fn all(report: &CaptureReport) -> String {
    let mut text = format!("capture {}\n\n{}", report.outcome, connections(report));
    if !report.devices.is_empty() {
        text += &format!("\n{}", tables::devices(&report.devices));
    }
    text += &format!("\n{}", overview(report));
    text + &packets(report)
}

fn connections(report: &CaptureReport) -> String {
    let header = [
        "connection",
        "bytes",
        "throughput",
        "packets",
        "of devices",
        "of RAM",
        "SYNCs",
        "pages",
        "zero pages",
    ];
    let mut table = Table::new(&header);
    let main = &report.main;
    let mut row = vec!["main".to_owned(), bytes(main.bytes), tables::rate_of(main.throughput_bytes_per_s)];
    row.resize(header.len(), "-".to_owned());
    table.row(row);
    for channel in &report.channels {
        table.row([
            format!("multifd {}", channel.id),
            bytes(channel.bytes),
            tables::rate_of(channel.throughput_bytes_per_s),
            channel.packets.to_string(),
            channel.device_packets.to_string(),
            channel.ram_packets.to_string(),
            channel.sync.to_string(),
            channel.normal_pages.to_string(),
            channel.zero_pages.to_string(),
        ]);
    }
    table.to_string()
}

fn overview(report: &CaptureReport) -> String {
    let or_none = |text: Option<&String>| text.map_or("-", String::as_str).to_owned();
    let mut table = Table::new(&["migration", ""]);
    let mut row = |name: &str, figure: String| table.row([name.to_owned(), figure]);
    row("machine type", or_none(report.machine.as_ref()));
    row("uuid", or_none(report.uuid.as_ref()));
    row("bytes", bytes(report.bytes));
    row("time", time(report.duration_ns));
    row("throughput", rate(report.throughput_bytes_per_s));
    row("switchover to last state", report.switchover_ns.map_or("-".to_owned(), time));
    row("flushes", report.main.flushes.to_string());
    row("answered", tables::answers(&report.answers));
    row("recorded to", report.folder.clone().unwrap_or_else(|| "nothing was kept".to_owned()));
    row("pool", bytes(report.settings.pool));
    row("huge pages", report.settings.huge_pages.to_string());
    row("congestion", report.settings.congestion.clone());
    table.to_string()
}

fn packets(report: &CaptureReport) -> String {
    let mut table = Table::new(&["packets", "count", "min", "p50", "p90", "p99", "p99.9", "max"]);
    let mut empty = true;
    let mut row = |name: String, one: &Quantiles, figure: fn(u64) -> String| {
        if one.count > 0 {
            let figures = [one.min, one.p50, one.p90, one.p99, one.p999, one.max].map(figure);
            table.row([&[name, one.count.to_string()][..], &figures].concat());
            empty = false;
        }
    };
    let mut rows = |name: &str, packets: &PacketReport| {
        row(format!("{name}, size"), &packets.size_bytes, bytes);
        row(format!("{name}, interarrival"), &packets.interarrival_ns, time);
    };
    rows("devices", &report.packets.device);
    rows("RAM", &report.packets.ram);
    if empty { String::new() } else { format!("\n{table}") }
}

/// The histograms of device state if there is any, otherwise those of RAM.
fn histograms(histograms: &PacketHistograms) -> String {
    let unicode = output::takes_unicode();
    let (of, sizes, times) = match histograms.device_sizes.is_empty() {
        false => ("device state", &histograms.device_sizes, &histograms.device_interarrival),
        true => ("RAM", &histograms.ram_sizes, &histograms.ram_interarrival),
    };
    let drawn = [
        histogram::draw_sizes(&format!("packets of {of}, size"), sizes, unicode),
        histogram::draw(&format!("packets of {of}, from one to the next on its channel"), times, unicode),
    ];
    drawn.into_iter().filter(|drawn| !drawn.is_empty()).map(|drawn| format!("\n{drawn}")).collect()
}

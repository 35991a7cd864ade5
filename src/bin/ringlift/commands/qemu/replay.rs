//! `ringlift qemu replay`.

use std::path::PathBuf;

use ringlift::Cancel;
use ringlift::qemu::capture::{Inspection, inspect};
use ringlift::qemu::{Pace, Replay, Replayed};
use ringlift::report::{ReplayReport, ReplayedConnection};

use super::tables;
use crate::args::{self, PaceKind};
use crate::exit::Exit;
use crate::show::json::JsonTarget;
use crate::show::progress::Progress;
use crate::show::table::Table;
use crate::show::units::{bytes, rate, time};
use crate::show::{output, warnings};
use crate::signals;

/// One replay.
pub(crate) fn run(args: &args::Replay) -> Exit {
    play(args).unwrap_or_else(|exit| exit)
}

fn play(args: &args::Replay) -> Result<Exit, Exit> {
    args.json.as_ref().map_or(Ok(()), |json| json.check(args.paths.iter().map(PathBuf::as_path)))?;
    let capture = whole(args)?;
    warnings::warn_of_plaintext(args.to);
    let (cancel, progress) = (Cancel::new(), Progress::new(false));
    let (shown, answered) = (progress.clone(), progress.clone());
    let mut builder = Replay::builder(capture, args.to)
        .pace(args.pace.into())
        .on_event(move |event| shown.show(event))
        .on_answer(move |answer| answered.show_answer(answer))
        .cancel(&cancel);
    if let Some(congestion) = &args.congestion {
        builder = builder.congestion(congestion.as_str());
    }
    signals::end_on_signals(&cancel, &progress)?;
    let replayed = builder.build().run();
    progress.end();
    Ok(conclude(args, &replayed))
}

/// A broken capture is not replayed: everything that is wrong with it is reported.
fn whole(args: &args::Replay) -> Result<Inspection, Exit> {
    let capture = inspect(&args.paths);
    let Some((last, others)) = capture.errors.split_last() else { return Ok(capture) };
    others.iter().for_each(|error| warnings::failure(&error.to_string(), None));
    Err(warnings::error(&last.clone().into()))
}

fn conclude(args: &args::Replay, replayed: &Replayed) -> Exit {
    let report = &replayed.report;
    if args.json != Some(JsonTarget::Stdout) && report.bytes > 0 {
        output::result(&all(report));
    }
    if let Some(json) = &args.json {
        json.write(report);
    }
    warnings::warnings(&report.warnings);
    replayed.error.as_ref().map_or(Exit::Complete, warnings::error)
}

fn all(report: &ReplayReport) -> String {
    let mut text = format!("replay {}\n\n{}", report.outcome, connections(report));
    if !report.devices.is_empty() {
        text += &format!("\n{}", tables::devices(&report.devices));
    }
    text + &format!("\n{}", overview(report))
}

fn connections(report: &ReplayReport) -> String {
    let mut table = Table::new(&["connection", "sent", "captured", "throughput", "device packets", "SYNCs"]);
    for connection in std::iter::once(&report.main).chain(&report.channels) {
        let ReplayedConnection { id, .. } = connection;
        table.row([
            id.map_or("main".to_owned(), |id| format!("multifd {id}")),
            bytes(connection.bytes),
            bytes(connection.captured_bytes),
            tables::rate_of(connection.throughput_bytes_per_s),
            connection.device_packets.to_string(),
            connection.sync.to_string(),
        ]);
    }
    table.to_string()
}

fn overview(report: &ReplayReport) -> String {
    let or_none = |text: Option<&String>| text.map_or("-", String::as_str).to_owned();
    let since = |ns: Option<u64>| ns.map_or("-".to_owned(), time);
    let mut table = Table::new(&["replay", ""]);
    let mut row = |name: &str, figure: String| table.row([name.to_owned(), figure]);
    row("to", report.peer.clone());
    row("machine type", or_none(report.machine.as_ref()));
    row("uuid", or_none(report.uuid.as_ref()));
    row("bytes", bytes(report.bytes));
    row("time", time(report.duration_ns));
    row("throughput", rate(report.throughput_bytes_per_s));
    row("switchover to last state", since(report.switchover_ns));
    row("switchover to SHUT", since(report.shut_ns));
    row("answers", tables::answers(&report.answers));
    row("pace", report.settings.pace.to_string());
    row("pool", bytes(report.settings.pool));
    row("huge pages", report.settings.huge_pages.to_string());
    row("congestion", report.settings.congestion.clone());
    table.to_string()
}

impl From<PaceKind> for Pace {
    fn from(kind: PaceKind) -> Pace {
        match kind {
            PaceKind::Full => Pace::Full,
            PaceKind::Recorded => Pace::Recorded,
        }
    }
}

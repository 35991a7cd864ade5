//! `ringlift send`.

use std::path::PathBuf;

use ringlift::error::Error;
use ringlift::report::{Role, RunInfo};
use ringlift::{Cancel, Checksum, Parked, Sender, ZeroCopy};

use crate::args::{ChecksumKind, Send, ZeroCopyWhen};
use crate::condition;
use crate::ends::SourceSpec;
use crate::exit::Exit;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::show::events::{Device, Settings, Start, nanos};
use crate::show::words::word;
use crate::show::{hlog, output, results, trace, warnings};
use crate::signals;

/// One transfer.
pub(crate) fn run(args: &Send) -> Exit {
    transfer(args).unwrap_or_else(|exit| exit)
}

fn transfer(args: &Send) -> Result<Exit, Exit> {
    let read: Vec<PathBuf> = args.devices.iter().filter_map(|device| device.end.path()).collect();
    if let Some(json) = &args.json {
        json.check(read.iter().map(PathBuf::as_path))?;
    }
    if let Some(path) = &args.run.hlog {
        hlog::check(path, read.iter().map(PathBuf::as_path))?;
    }
    if let Some(path) = &args.run.trace {
        trace::check(path, read.iter().map(PathBuf::as_path))?;
    }
    let devices: Vec<String> = args.devices.iter().map(|device| device.name.clone()).collect();
    let metrics = Metrics::open(&args.run.metrics, args.live.interval, (Role::Sender, &devices), &read)?;
    metrics.announce();
    let live = Live::open(&args.live, args.json.as_ref(), &read)?.counted(&metrics);
    let cancel = Cancel::new();
    let run = args.run.begun();
    let start = start(args, &live, run.clone());
    let sender = sender(args, run, &cancel, &live).map_err(|error| live.not_begun(&start, &error))?;
    signals::cancel_on_signals(&cancel, &live.progress)?;
    live.begin(&start);
    if let Some((text, hint)) = warnings::of_plaintext(args.to) {
        live.warn(warnings::PLAINTEXT, &text, hint);
    }
    let finished = sender.run();
    live.progress.end();
    metrics.end(&finished.report);
    let exit =
        results::conclude(&finished, args.json.as_ref(), true, output::results(args.live.takes_stdout()));
    args.run.hlog.iter().for_each(|path| hlog::write(path, &finished.report));
    args.run.trace.iter().for_each(|path| trace::write(path, &finished));
    let exit = condition::gate(&args.fail_if, exit, [&finished.report]);
    live.end(exit, &finished);
    live.close();
    if args.devices.iter().any(|device| matches!(device.end, SourceSpec::Vfio(_))) {
        hold(finished.parked)?;
    }
    Ok(exit)
}

fn start(args: &Send, live: &Live, run: RunInfo) -> Start {
    let settings = Settings {
        dialect: "native",
        interval_ns: live.every().map_or(0, nanos),
        channels: Some(args.channels),
        packet_size: Some(args.packet_size),
        pool: args.pool.map(|pool| pool.0),
        zero_copy: Some(word(args.zero_copy)),
        checksum: Some(word(args.checksum)),
        congestion: args.congestion.clone(),
        deadline_ns: args.deadline.map(nanos),
        downtime_max_ns: Some(nanos(args.downtime_max)),
        downtime_limit_ns: Some(nanos(args.downtime_limit)),
    };
    let devices =
        args.devices.iter().map(|device| Device { name: device.name.clone(), kind: device.end.kind() });
    Start {
        version: env!("CARGO_PKG_VERSION"),
        role: Role::Sender,
        peer: Some(args.to),
        listen: None,
        settings,
        devices: devices.collect(),
        run,
    }
}

/// A VFIO device that is closed loses its state: while it is unknown which side runs, it is held until the user has
/// checked.
fn hold(parked: Vec<Parked>) -> Result<(), Exit> {
    if parked.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = parked.iter().map(|device| &*device.name).collect();
    output::say(&format!(
        "holding {} stopped with its state; SIGINT or SIGTERM lets go of it",
        names.join(", ")
    ));
    signals::await_one()
}

fn sender(args: &Send, run: RunInfo, cancel: &Cancel, live: &Live) -> Result<Sender, Error> {
    let shown = live.clone();
    let mut builder = Sender::builder()
        .connect(args.to)
        .channels(args.channels)
        .packet_size(args.packet_size)
        .zero_copy(args.zero_copy.into())
        .checksum(args.checksum.into())
        .downtime_max(args.downtime_max)
        .downtime_limit(args.downtime_limit)
        .warm_up(true)
        .run(run)
        .trace(args.run.traced())
        .on_event(move |event| shown.show(event))
        .cancel(cancel);
    for device in &args.devices {
        builder = builder.boxed_device(device.name.as_str(), device.open()?);
    }
    if let Some(pool) = args.pool {
        builder = builder.pool_size(pool.0);
    }
    if let Some(congestion) = &args.congestion {
        builder = builder.congestion(congestion.as_str());
    }
    if let Some(deadline) = args.deadline {
        builder = builder.deadline(deadline);
    }
    if let Some(every) = live.every() {
        builder = builder.interval(every);
    }
    if args.dry_run {
        builder = builder.dry_run();
    }
    Ok(builder.build()?)
}

impl From<ZeroCopyWhen> for ZeroCopy {
    fn from(when: ZeroCopyWhen) -> ZeroCopy {
        match when {
            ZeroCopyWhen::Auto => ZeroCopy::Auto,
            ZeroCopyWhen::On => ZeroCopy::On,
            ZeroCopyWhen::Off => ZeroCopy::Off,
        }
    }
}

impl From<ChecksumKind> for Checksum {
    fn from(kind: ChecksumKind) -> Checksum {
        match kind {
            ChecksumKind::Crc32c => Checksum::Crc32c,
            ChecksumKind::None => Checksum::None,
        }
    }
}

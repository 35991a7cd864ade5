//! `ringlift demo`: this process sends, and a second process of the same program receives.

use std::net::SocketAddr;

use ringlift::error::Error;
use ringlift::report::{Role, RunInfo};
use ringlift::source::Synthetic;
use ringlift::{Cancel, Finished, Outcome, Sender};

use crate::args::Demo;
use crate::condition;
use crate::exit::Exit;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::peer::{Failure, Peer, Received};
use crate::show::events::{Device, Settings, Start, nanos};
use crate::show::json::JsonTarget;
use crate::show::units::bytes;
use crate::show::{hlog, output, results, summary, trace, warnings};
use crate::signals;

/// One transfer over loopback.
pub(crate) fn run(args: &Demo) -> Exit {
    transfer(args).unwrap_or_else(|exit| exit)
}

fn transfer(args: &Demo) -> Result<Exit, Exit> {
    if let Some(json) = &args.json {
        json.check([])?;
    }
    if let Some(path) = &args.run.hlog {
        hlog::check(path, [])?;
    }
    if let Some(path) = &args.run.trace {
        trace::check(path, [])?;
    }
    let theirs = args.run.trace.as_deref().map(trace::beside);
    let names: Vec<String> = (0..args.devices).map(|idx| format!("dev{idx}")).collect();
    let metrics = Metrics::open(&args.run.metrics, args.live.interval, (Role::Sender, &names), &[])?;
    metrics.announce();
    let (cancel, live) = (Cancel::new(), Live::open(&args.live, args.json.as_ref(), &[])?.counted(&metrics));
    let run = args.run.begun();
    let (peer, address) = Peer::start(&names, &run, theirs.as_deref()).map_err(|failure| failure.say())?;
    output::say(&format!("moving {} x {} over {} channels", args.devices, bytes(args.size.0), args.channels));
    let start = start(args, &live, &names, address, run.clone());
    let sender = sender(args, run, &names, address, &cancel, &live);
    let sender = sender.map_err(|error| live.not_begun(&start, &error))?;
    signals::cancel_on_signals(&cancel, &live.progress)?;
    live.begin(&start);
    let finished = sender.run();
    live.progress.end();
    metrics.end(&finished.report);
    let received = peer.finish(live.progress.connected());
    if let (Some(path), Some(theirs)) = (&args.run.trace, &theirs) {
        trace::write_both(path, &finished, theirs);
    }
    received.iter().for_each(|received| metrics.end_of_peer(&received.report));
    let exit = conclude(args, &finished, received);
    live.end(exit, &finished);
    live.close();
    Ok(exit)
}

fn start(args: &Demo, live: &Live, names: &[String], address: SocketAddr, run: RunInfo) -> Start {
    let settings = Settings {
        dialect: "native",
        interval_ns: live.every().map_or(0, nanos),
        channels: Some(args.channels),
        ..Settings::default()
    };
    Start {
        version: env!("CARGO_PKG_VERSION"),
        role: Role::Sender,
        peer: Some(address),
        listen: None,
        settings,
        devices: names.iter().map(|name| Device { name: name.clone(), kind: "synthetic" }).collect(),
        run,
    }
}

fn sender(
    args: &Demo,
    run: RunInfo,
    names: &[String],
    address: SocketAddr,
    cancel: &Cancel,
    live: &Live,
) -> Result<Sender, Error> {
    let shown = live.clone();
    let mut builder = Sender::builder()
        .connect(address)
        .channels(args.channels)
        .run(run)
        .trace(args.run.traced())
        .on_event(move |event| shown.show(event))
        .cancel(cancel);
    if let Some(every) = live.every() {
        builder = builder.interval(every);
    }
    for name in names {
        builder = builder.device(name.as_str(), Synthetic::new(args.size.0));
    }
    Ok(builder.build()?)
}

fn conclude(args: &Demo, finished: &Finished, received: Result<Received, Failure>) -> Exit {
    judge(args, finished, received).unwrap_or_else(|exit| exit)
}

fn judge(args: &Demo, finished: &Finished, received: Result<Received, Failure>) -> Result<Exit, Exit> {
    args.run.hlog.iter().for_each(|path| hlog::write(path, &finished.report));
    if let Some(json) = &args.json {
        let received = received.as_ref().ok().map(|received| &received.report);
        json.write_all(&[Some(&finished.report), received].into_iter().flatten().collect::<Vec<_>>());
    }
    let exit = results::complain(finished);
    if exit == Exit::Cancelled {
        // The receiver's messages would only repeat this.
        return Ok(exit);
    }
    if finished.outcome != Outcome::Complete {
        if let Err(failure) = received {
            failure.say();
        }
        return Ok(exit);
    }
    let received = received.map_err(|failure| failure.say())?;
    // Both sides are this host: a warning that the sender has already printed is not repeated.
    let said = |text: &str| finished.report.warnings.iter().any(|one| one.text == text);
    for one in received.report.warnings.iter().filter(|one| !said(&one.text)) {
        warnings::warning(&one.code.to_string(), &one.text, &one.hint);
    }
    if args.json != Some(JsonTarget::Stdout) {
        output::results(args.live.takes_stdout())(&results(finished, &received));
    }
    Ok(condition::gate(&args.fail_if, exit, [&finished.report, &received.report]))
}

fn results(finished: &Finished, received: &Received) -> String {
    let Received { report, histogram } = received;
    format!(
        "{}\n{histogram}\nverified: {} devices, {} bytes\n",
        summary::both(&finished.report, report),
        report.devices.len(),
        report.data_bytes()
    )
}

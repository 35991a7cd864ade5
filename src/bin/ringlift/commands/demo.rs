//! `ringlift demo`: this process sends, and a second process of the same program receives.

use std::net::SocketAddr;

use ringlift::error::Error;
use ringlift::report::RunInfo;
use ringlift::source::Synthetic;
use ringlift::{Cancel, Finished, Outcome, Sender};

use crate::args::Demo;
use crate::condition;
use crate::exit::Exit;
use crate::peer::{Failure, Peer, Received};
use crate::show::json::JsonTarget;
use crate::show::progress::Progress;
use crate::show::units::bytes;
use crate::show::{hlog, output, results, summary, warnings};
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
    let (cancel, progress) = (Cancel::new(), Progress::new());
    let names: Vec<String> = (0..args.devices).map(|idx| format!("dev{idx}")).collect();
    let run = args.run.info();
    let (peer, address) = Peer::start(&names, &run).map_err(|failure| failure.say())?;
    output::say(&format!("moving {} x {} over {} channels", args.devices, bytes(args.size.0), args.channels));
    let sender =
        sender(args, run, &names, address, &cancel, &progress).map_err(|error| warnings::error(&error))?;
    signals::cancel_on_signals(&cancel, &progress)?;
    let finished = sender.run();
    progress.end();
    conclude(args, &finished, peer.finish(progress.connected()))
}

fn sender(
    args: &Demo,
    run: RunInfo,
    names: &[String],
    address: SocketAddr,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Sender, Error> {
    let shown = progress.clone();
    let mut builder = Sender::builder()
        .connect(address)
        .channels(args.channels)
        .run(run)
        .on_event(move |event| shown.show(event))
        .cancel(cancel);
    for name in names {
        builder = builder.device(name.as_str(), Synthetic::new(args.size.0));
    }
    Ok(builder.build()?)
}

fn conclude(args: &Demo, finished: &Finished, received: Result<Received, Failure>) -> Result<Exit, Exit> {
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
        warnings::warning(&one.text, &one.hint);
    }
    if args.json != Some(JsonTarget::Stdout) {
        output::result(&results(finished, &received));
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

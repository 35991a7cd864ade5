//! `ringlift recv`.

use std::net::SocketAddr;
use std::path::PathBuf;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use ringlift::error::Error;
use ringlift::report::{Role, RunInfo};
use ringlift::sink::Discard;
use ringlift::{Cancel, Event, Finished, Listener, Receiver, qemu};

use crate::args::{DeviceId, Dialect, Recv};
use crate::condition;
use crate::ends::SinkSpec;
use crate::exit::Exit;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::peak;
use crate::show::events::{Device, Settings, Start, nanos};
use crate::show::json::JsonTarget;
use crate::show::progress::Progress;
use crate::show::tally::Tally;
use crate::show::{hlog, output, results, trace, warnings};
use crate::signals;

/// Serves one transfer, or one after the other.
pub(crate) fn run(args: &Recv) -> Exit {
    serve(args).unwrap_or_else(|exit| exit)
}

fn serve(args: &Recv) -> Result<Exit, Exit> {
    check(args)?;
    follow_parent(args)?;
    let cancel = Cancel::new();
    let metrics = metrics(args)?;
    let live = Live::open(&args.live, args.json.as_ref(), &written(args))?.counted(&metrics);
    let listener = AnyListener::open(args).map_err(|error| {
        let start = start(args, &live, args.listen, args.run.begun());
        live.not_begun(&start, &error)
    })?;
    let mut tally = (args.bench && !args.once).then(Tally::new);
    let mut is_watched = false;
    loop {
        let run = args.run.begun();
        let start = start(args, &live, listener.local_addr(), run.clone());
        let receiver = receiver(args, run, &listener, &cancel, &live);
        let receiver = receiver.map_err(|error| live.not_begun(&start, &error))?;
        if !is_watched {
            match args.bench {
                true => signals::stop_discarding_on_signals(&cancel, &live.progress)?,
                false => signals::cancel_on_signals(&cancel, &live.progress)?,
            }
            output::say(&format!("listening on {}", listener.local_addr()));
            metrics.announce();
        }
        live.begin(&start);
        if !is_watched {
            warn_of_discarding(args, &live);
            is_watched = true;
        }
        if args.bench {
            peak::count_anew();
        }
        let finished = receiver.run();
        metrics.end(&finished.report);
        let exit = match &mut tally {
            Some(tally) => count(args, &finished, tally),
            None => {
                live.progress.end();
                conclude(args, &finished)
            }
        };
        live.end(exit, &finished);
        if args.once || exit == Exit::Cancelled || !comes_from_a_peer(&finished, &live.progress) {
            live.close();
            if let Some(tally) = tally {
                live.progress.end();
                output::say(&tally.totals());
            }
            return Ok(exit);
        }
    }
}

fn start(args: &Recv, live: &Live, listen: SocketAddr, run: RunInfo) -> Start {
    let settings = Settings {
        dialect: match args.dialect {
            Dialect::Native => "native",
            Dialect::Qemu => "qemu",
        },
        interval_ns: live.every().map_or(0, nanos),
        channels: args.channels,
        pool: args.pool.map(|pool| pool.0),
        congestion: args.congestion.clone(),
        deadline_ns: args.deadline.map(nanos),
        ..Settings::default()
    };
    let devices =
        args.devices.iter().map(|device| Device { name: device.name.clone(), kind: device.end.kind() });
    Start {
        version: env!("CARGO_PKG_VERSION"),
        role: Role::Receiver,
        peer: None,
        listen: Some(listen),
        settings,
        devices: devices.collect(),
        run,
    }
}

/// A listener for senders of either protocol.
enum AnyListener {
    Native(Listener),
    Qemu(qemu::Listener),
}

/// A receiver of either protocol.
enum Worker {
    Native(Receiver),
    Qemu(qemu::Receiver),
}

impl AnyListener {
    fn open(args: &Recv) -> Result<AnyListener, Error> {
        Ok(match args.dialect {
            Dialect::Native => AnyListener::Native(Listener::bind(args.listen)?),
            Dialect::Qemu => AnyListener::Qemu(qemu::Listener::bind(args.listen)?),
        })
    }

    fn local_addr(&self) -> SocketAddr {
        match self {
            AnyListener::Native(listener) => listener.local_addr(),
            AnyListener::Qemu(listener) => listener.local_addr(),
        }
    }
}

impl Worker {
    fn run(self) -> Finished {
        match self {
            Worker::Native(receiver) => receiver.run(),
            Worker::Qemu(receiver) => receiver.run(),
        }
    }
}

/// The sinks are opened anew for each transfer, so that nothing is carried over from one transfer to the next.
fn receiver(
    args: &Recv,
    run: RunInfo,
    listener: &AnyListener,
    cancel: &Cancel,
    live: &Live,
) -> Result<Worker, Error> {
    let (shown, is_quiet) = (live.clone(), args.bench && !args.once);
    let shown = move |event: &Event| if is_quiet { shown.note(event) } else { shown.show(event) };
    match listener {
        AnyListener::Native(listener) => {
            let mut builder = Receiver::builder().listener(listener).on_event(shown).cancel(cancel);
            builder = builder.run(run).trace(args.run.traced());
            if args.bench {
                builder = builder.devices_by(|_| Ok(Some(Box::new(Discard))));
            }
            for device in &args.devices {
                builder = builder.boxed_device(device.name.as_str(), device.open()?);
            }
            if let Some(congestion) = &args.congestion {
                builder = builder.congestion(congestion.as_str());
            }
            if let Some(pool_max) = args.pool_max {
                builder = builder.pool_max(pool_max.0);
            }
            if let Some(every) = live.every() {
                builder = builder.interval(every);
            }
            if let Some(deadline) = args.deadline {
                builder = builder.deadline(deadline);
            }
            Ok(Worker::Native(builder.build()?))
        }
        AnyListener::Qemu(listener) => {
            let mut builder = qemu::Receiver::builder().listener(listener).on_event(shown).cancel(cancel);
            builder = builder.run(run).trace(args.run.traced());
            for device in &args.devices {
                let DeviceId { idstr, instance } = DeviceId::of(&device.name);
                builder = builder.boxed_device(&idstr, device.open()?).instance(instance);
            }
            if let Some(congestion) = &args.congestion {
                builder = builder.congestion(congestion.as_str());
            }
            if let Some(channels) = args.channels {
                builder = builder.channels(channels.into());
            }
            if let Some(pool) = args.pool {
                builder = builder.pool_size(pool.0);
            }
            if let Some(deadline) = args.deadline {
                builder = builder.deadline(deadline);
            }
            if let Some(every) = live.every() {
                builder = builder.interval(every);
            }
            Ok(Worker::Qemu(builder.build()?))
        }
    }
}

/// An error before any peer connected is local to this host: it would recur immediately, for ever.
fn comes_from_a_peer(finished: &Finished, progress: &Progress) -> bool {
    match finished.error {
        None | Some(Error::Refused { .. } | Error::Peer(_)) => true,
        Some(_) => progress.connected(),
    }
}

fn conclude(args: &Recv, finished: &Finished) -> Exit {
    let json = args.json.as_ref();
    args.run.hlog.iter().for_each(|path| hlog::write(path, &finished.report));
    args.run.trace.iter().for_each(|path| trace::write(path, finished));
    let print = output::results(stdout_is_a_device(args) || args.live.takes_stdout());
    let exit = results::conclude(finished, json, args.once, print);
    let exit = condition::gate(&args.fail_if, exit, [&finished.report]);
    if args.with_parent.is_some() {
        output::result(&results::histogram_of(&finished.histograms));
    }
    exit
}

/// Says that nothing is kept.
fn warn_of_discarding(args: &Recv, live: &Live) {
    if args.bench {
        live.warn(
            warnings::DISCARDED,
            "everything that is sent here is discarded, whoever sends it",
            "a device that is moved here is lost: stop this receiver when the bench is over",
        );
    }
}

/// One of many transfers whose state is discarded.
fn count(args: &Recv, finished: &Finished, tally: &mut Tally) -> Exit {
    args.json.iter().for_each(|json| json.append(&finished.report));
    args.run.hlog.iter().for_each(|path| hlog::write(path, &finished.report));
    tally.count(finished);
    Exit::of(finished)
}

/// Other hosts can reach an address that is not loopback, and nothing keeps them out.
pub(crate) fn check_listen(listen: SocketAddr, plaintext: bool) -> Result<(), Exit> {
    if listen.ip().to_canonical().is_loopback() || plaintext {
        return Ok(());
    }
    Err(warnings::usage(
        &format!(
            "there is no encryption yet, and {listen} can be reached by others: they could read the state, and send one"
        ),
        "--plaintext accepts that; or listen on 127.0.0.1 behind a tunnel",
    ))
}

fn check(args: &Recv) -> Result<(), Exit> {
    check_dialect(args)?;
    check_listen(args.listen, args.plaintext)?;
    if stdout_is_a_device(args) && args.json == Some(JsonTarget::Stdout) {
        return Err(warnings::usage(
            "stdout cannot take both a device's state and the report",
            "name a file with --json",
        ));
    }
    if stdout_is_a_device(args) && args.live.takes_stdout() {
        let text = "stdout cannot take both a device's state and the events";
        return Err(warnings::usage(text, "name a file with --events"));
    }
    let written = written(args);
    if let Some(json) = &args.json {
        json.check(written.iter().map(PathBuf::as_path))?;
    }
    if let Some(path) = &args.run.hlog {
        hlog::check(path, written.iter().map(PathBuf::as_path))?;
    }
    match &args.run.trace {
        Some(path) => trace::check(path, written.iter().map(PathBuf::as_path)),
        None => Ok(()),
    }
}

/// The files that devices write.
fn written(args: &Recv) -> Vec<PathBuf> {
    args.devices.iter().filter_map(|device| device.end.path()).collect()
}

fn metrics(args: &Recv) -> Result<Metrics, Exit> {
    let devices: Vec<String> = args.devices.iter().map(|device| device.name.clone()).collect();
    Metrics::open(&args.run.metrics, args.live.interval, (Role::Receiver, &devices), &written(args))
}

/// Refuses options that only the other protocol has.
fn check_dialect(args: &Recv) -> Result<(), Exit> {
    let (alien, dialect, hint) = match args.dialect {
        Dialect::Native => (
            vec![("--channels", args.channels.is_some()), ("--pool", args.pool.is_some())],
            "our own",
            "the sender decides; --dialect qemu takes a migration from a QEMU",
        ),
        Dialect::Qemu if args.bench => (
            vec![("--bench", true)],
            "QEMU's",
            "`ringlift qemu capture --discard` measures a QEMU that migrates",
        ),
        Dialect::Qemu => (
            vec![("--pool-max", args.pool_max.is_some()), ("--with-parent", args.with_parent.is_some())],
            "QEMU's",
            "a QEMU asks for no pool: --pool is the size of ours",
        ),
    };
    match alien.iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((option, _)) => {
            Err(warnings::usage(&format!("{option} means nothing in {dialect} dialect"), hint))
        }
    }
}

fn stdout_is_a_device(args: &Recv) -> bool {
    args.devices.iter().any(|device| device.end == SinkSpec::Fd(1))
}

/// The kernel ends this process when its parent dies; the parent may have died before it was asked.
fn follow_parent(args: &Recv) -> Result<(), Exit> {
    let Some(parent) = args.with_parent else { return Ok(()) };
    match set_pdeathsig(Signal::SIGTERM) {
        Ok(()) if getppid().as_raw() == parent => Ok(()),
        _ => Err(Exit::Cancelled),
    }
}

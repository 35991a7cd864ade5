//! What transfers do as metrics for Prometheus: in a file for node_exporter, or at an address. The command's part that has threads,
//! clocks and sockets is here; what is counted and shown is pure (`totals`, `page`).
//!
//! Invariant: a transfer never waits for a reader. Its thread changes totals behind a lock that is otherwise held only for a copy,
//! and nothing that fails here changes an exit status once the transfer has begun.

mod buckets;
mod connection;
mod endpoint;
mod exposition;
mod http;
mod names;
mod page;
mod totals;
mod writer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use ringlift::report::{Report, Role};
use ringlift::{DeviceMoment, DeviceStep, Event};

use self::endpoint::Endpoint;
use self::totals::Totals;
use self::writer::Writer;
use crate::args;
use crate::exit::Exit;
use crate::show::json::JsonTarget;
use crate::show::{output, warnings};

/// How often a file is written, and totals of a running transfer change, without `--interval`.
const EVERY: Duration = Duration::from_secs(1);

/// The metrics of this process; nothing happens where none are asked for.
pub(crate) struct Metrics {
    every: Duration,
    counting: Option<Counting>,
    writer: Option<Writer>,
    address: Option<SocketAddr>,
}

/// The totals of this process, and the side that it is.
#[derive(Clone)]
pub(crate) struct Counting {
    role: Role,
    totals: Arc<Mutex<Totals>>,
}

impl Metrics {
    /// Before anything begins: the file can be written, and the address listened on. `kept` are files that must not be
    /// overwritten.
    pub(crate) fn open(
        args: &args::Metrics,
        every: Option<Duration>,
        (role, devices): (Role, &[String]),
        kept: &[PathBuf],
    ) -> Result<Metrics, Exit> {
        let every = every.unwrap_or(EVERY);
        let mut metrics = Metrics { every, counting: None, writer: None, address: None };
        if args.file.is_none() && args.address.is_none() {
            return Ok(metrics);
        }
        if let Some(path) = &args.file {
            let kept = kept.iter().map(PathBuf::as_path);
            JsonTarget::File(path.clone()).check_as(("metrics", "--metrics-file"), kept)?;
        }
        let counting = Counting { role, totals: Arc::default() };
        counting.change(|totals| totals.side(role).devices(devices));
        if let Some(address) = args.address {
            let served = Endpoint::bind(address).and_then(|endpoint| {
                metrics.address = Some(endpoint.address());
                let counting = counting.clone();
                endpoint.serve(move || counting.page())
            });
            served.map_err(|error| {
                let text = format!("the metrics cannot be served on {address}: {error}");
                warnings::failure(&text, Some("give another address with --metrics"));
                Exit::Failed
            })?;
        }
        if let Some(path) = &args.file {
            let page = counting.clone();
            let writer = Writer::start(path.clone(), every, move || page.page());
            metrics.writer = Some(writer.map_err(|error| {
                warnings::failure(&format!("no thread can be started for the metrics: {error}"), None);
                Exit::Failed
            })?);
        }
        metrics.counting = Some(counting);
        Ok(metrics)
    }

    /// Prints where the metrics are.
    pub(crate) fn announce(&self) {
        if let Some(address) = self.address {
            output::say(&format!("metrics on http://{address}/metrics"));
        }
    }

    /// How often it has to hear of a running transfer.
    pub(crate) fn interval(&self) -> Option<Duration> {
        self.counting.as_ref().map(|_| self.every)
    }

    /// What hears of a transfer's events.
    pub(crate) fn counting(&self) -> Option<Counting> {
        self.counting.clone()
    }

    /// A transfer of this process has ended.
    pub(crate) fn end(&self, report: &Report) {
        let Some(counting) = &self.counting else { return };
        let ended_at = since_1970();
        counting.change(|totals| totals.side(counting.role).end(report, ended_at));
        self.writer.iter().for_each(Writer::hurry);
    }

    /// A transfer's other side has ended, which was another process of this host.
    pub(crate) fn end_of_peer(&self, report: &Report) {
        let Some(counting) = &self.counting else { return };
        let ended_at = since_1970();
        counting.change(|totals| {
            let side = totals.side(report.role);
            side.end(report, ended_at);
            report.cost.iter().for_each(|cost| side.cpu(cost.user_ns, cost.system_ns));
        });
        self.writer.iter().for_each(Writer::hurry);
    }
}

impl Counting {
    /// The handler for `on_event`.
    pub(crate) fn hear(&self, event: &Event) {
        match event {
            Event::Connected { .. } => self.change(|totals| totals.side(self.role).begin()),
            // the first step of each device, in the order of the session
            Event::Device {
                device,
                instance,
                moment: DeviceMoment::Begins(DeviceStep::Start | DeviceStep::Prepare),
            } => self.change(|totals| totals.side(self.role).next_device(device, *instance)),
            Event::Interval { interval, .. } => {
                self.change(|totals| totals.side(self.role).interval(interval));
            }
            _ => {}
        }
    }

    fn change(&self, change: impl FnOnce(&mut Totals)) {
        // Sums that a panic has left are as good as any: there is no other invariant.
        change(&mut self.totals.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The page of now. Its text is made outside the lock.
    fn page(&self) -> String {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            totals.side(self.role).cpu(ns(usage.user_time()), ns(usage.system_time()));
        }
        page::text(&totals)
    }
}

fn ns(time: TimeVal) -> u64 {
    let number = |count: i64| u64::try_from(count).unwrap_or(0);
    number(time.tv_sec()) * 1_000_000_000 + number(time.tv_usec()) * 1000
}

#[expect(clippy::disallowed_methods, reason = "the command has no ring that has the clock")]
fn since_1970() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

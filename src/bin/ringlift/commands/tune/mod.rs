//! `ringlift tune`: the best settings of a path, within a time.
//!
//! It runs the transfers that the search asks for, one after the other. Invariants: a setting that fails is left out and
//! said, unless it is the defaults; and whatever ends the search, what is known is shown.

mod bound;
mod search;
mod setting;
mod summary;

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::resource::{Resource, getrlimit};
use ringlift::error::{Error, KernelOperation, Refusal};
use ringlift::report::{HostDetails, Report, WarningCode};
use ringlift::{Cancel, Outcome, limits};

use self::bound::Facts;
use self::search::{Bounds, Next, Sample, Search, Stage};
use self::setting::Setting;
use self::summary::Ran;
use crate::args::Tune;
use crate::commands::bench::{self, transfer};
use crate::ends::SourceSpec;
use crate::exit::Exit;
use crate::random::{self, Random};
use crate::show::json::JsonTarget;
use crate::show::progress::Progress;
use crate::show::{output, tune, warnings};
use crate::signals;

/// How long a transfer that began in time may take beyond the budget.
const BEYOND: Duration = Duration::from_secs(2);

/// Searches, and shows what was found.
pub(crate) fn run(args: &Tune) -> Exit {
    search(args).unwrap_or_else(|exit| exit)
}

fn search(args: &Tune) -> Result<Exit, Exit> {
    args.json.iter().try_for_each(|target| target.check([]))?;
    warnings::warn_of_plaintext(args.to);
    let seed = random::seed(args.seed)?;
    let cancel = Cancel::new();
    signals::sum_up_on_signals(&cancel, &Progress::new(false))?;
    output::say(&format!("budget: {} s, seed: {seed}", args.budget.as_secs_f64()));
    let pool_max = pool_max();
    let bounds =
        Bounds { budget: args.budget, devices: args.devices, size: args.size.map(|size| size.0), pool_max };
    let mut running = Running {
        args,
        search: Search::new(bounds, Random::new(seed)),
        cancel,
        begun: now(),
        facts: Vec::new(),
        hosts: [None, None],
        shown: Shown::new(args.budget),
    };
    let ended = running.measure();
    running.shown.end();
    if !running.facts.is_empty() {
        let ran = Ran {
            to: args.to,
            seed,
            budget: args.budget,
            took: since(running.begun),
            complete: ended.is_ok(),
            devices: args.devices,
            pool_max,
            hosts: &running.hosts,
            facts: &running.facts,
        };
        let report = summary::report(&running.search, &ran);
        if args.json != Some(JsonTarget::Stdout) {
            output::result(&tune::text(&report));
        }
        args.json.iter().for_each(|json| json.write(&report));
    }
    Ok(ended.err().unwrap_or(Exit::Complete))
}

/// What both sides' hosts can have: a receiver trusts no larger one, and memory that may not be locked cannot be
/// registered. Where not even the default can, there is nothing to lose.
fn pool_max() -> u64 {
    let locked = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(u64::MAX, |(soft, _)| soft);
    match locked >= limits::POOL_SIZE_DEFAULT {
        true => limits::POOL_SIZE_TRUSTED.min(locked),
        false => limits::POOL_SIZE_TRUSTED,
    }
}

struct Running<'a> {
    args: &'a Tune,
    search: Search,
    cancel: Cancel,
    begun: Instant,
    /// Of each complete transfer.
    facts: Vec<(Setting, Facts)>,
    /// The sender's and the receiver's.
    hosts: [Option<HostDetails>; 2],
    shown: Shown,
}

/// Why a transfer has no report.
enum Failed {
    /// These settings do not work.
    Setting(String),
    /// The time is over.
    Late,
    /// Nothing works, or nothing is wanted any more.
    All(Exit),
}

impl Running<'_> {
    fn measure(&mut self) -> Result<(), Exit> {
        while let Some(next) = self.search.next(since(self.begun)) {
            let begun = now();
            self.shown.update(&next, since(self.begun));
            match self.transfer(&next) {
                Ok(report) => {
                    let facts = Facts::of(&report, self.args.to.ip().to_canonical().is_loopback());
                    self.search.measured(Ok(sample(&report, &facts)), since(begun));
                    self.facts.push((next.setting, facts));
                    self.hosts = [Some(report.host), report.other_side.map(|other| other.host)];
                }
                Err(Failed::Setting(why)) => {
                    output::say(&format!("left out: {}: {why}", next.setting));
                    self.search.measured(Err(why), since(begun));
                }
                Err(Failed::Late) => return Ok(()),
                Err(Failed::All(exit)) => return Err(exit),
            }
        }
        Ok(())
    }

    fn transfer(&self, next: &Next) -> Result<Report, Failed> {
        let left = self.args.budget.saturating_sub(since(self.begun));
        let cell = next.setting.cell(self.args.devices);
        let sender = transfer::sender(&cell, &SourceSpec::Null(next.size), self.args.to, &self.cancel);
        let sender = sender
            .and_then(|sender| Ok(sender.pool_size(next.setting.pool).deadline(left + BEYOND).build()?));
        let finished = sender.map_err(|error| self.failed(next, &error))?.run();
        match (finished.outcome, finished.error) {
            (Outcome::Complete, _) => Ok(finished.report),
            (_, Some(error)) => Err(self.failed(next, &error)),
            (_, None) => Err(Failed::All(Exit::Failed)),
        }
    }

    /// Whose it is: the setting's, or the path's.
    fn failed(&self, next: &Next, error: &Error) -> Failed {
        let failure = |text: String, hint: String, exit| {
            warnings::failure(&text, Some(&hint));
            Failed::All(exit)
        };
        let to = self.args.to;
        let start = format!("start `ringlift recv --bench --listen {to}` there");
        match error {
            _ if self.cancel.is_cancelled() => Failed::All(Exit::Cancelled),
            Error::Deadline => Failed::Late,
            Error::Refused { reason: Refusal::DeviceMismatch { .. }, .. } => {
                let text =
                    format!("the receiver at {to} is for devices of its own and does not take any others");
                failure(text, start, Exit::Refused)
            }
            Error::Kernel(kernel) if kernel.operation == KernelOperation::Connect => {
                failure(error.to_string(), format!("{start}, and check the address"), Exit::Failed)
            }
            Error::Peer(_) | Error::InDoubt { .. } | Error::Refused { reason: Refusal::Busy, .. } => {
                Failed::All(bench::failed(Some(error)))
            }
            _ if self.search.is_needed(next) => Failed::All(warnings::error(error)),
            _ => Failed::Setting(error.to_string()),
        }
    }
}

fn sample(report: &Report, facts: &Facts) -> Sample {
    let rtts: Option<Vec<u64>> = report.channels.iter().map(|channel| channel.tcp?.rtt_us).collect();
    let copies = |code| matches!(code, WarningCode::ZeroCopyCopied | WarningCode::ZeroCopyUnavailable);
    Sample {
        bytes_per_s: report.throughput_bytes_per_s,
        rtt_us: rtts.and_then(|rtts| rtts.into_iter().max()),
        link_bytes_per_s: facts.link,
        congestion: report.settings.congestion.clone(),
        copies: report.warnings.iter().any(|warning| copies(warning.code))
            || report.host.nic.as_ref().is_some_and(|nic| nic.name == "lo"),
    }
}

/// A bar on a terminal, otherwise a line for each stage.
struct Shown {
    bar: ProgressBar,
    budget: Duration,
    stage: Option<Stage>,
}

impl Shown {
    fn new(budget: Duration) -> Shown {
        let style = ProgressStyle::with_template("{bar:30} {msg}");
        let bar = match output::is_watched() {
            true => ProgressBar::new(u64::try_from(budget.as_millis()).unwrap_or(u64::MAX)),
            false => ProgressBar::hidden(),
        };
        Shown {
            bar: bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())),
            budget,
            stage: None,
        }
    }

    fn update(&mut self, next: &Next, elapsed: Duration) {
        let what = match next.stage {
            Stage::Probe => "how fast the path is",
            Stage::Congestion => "congestion control",
            Stage::Channels => "channels",
            Stage::ZeroCopy => "zero-copy",
            Stage::Packet => "packet size",
            Stage::Finals => "the best few in turns",
            Stage::Duel => "the best against the defaults",
        };
        self.bar.set_position(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        self.bar.set_message(format!("{what}: {}", next.setting));
        if self.stage != Some(next.stage) && !output::is_watched() {
            let budget = self.budget.as_secs_f64();
            output::say(&format!("after {:.1} s of {budget}: {what}", elapsed.as_secs_f64()));
        }
        self.stage = Some(next.stage);
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

#[expect(clippy::disallowed_methods, reason = "the command has no ring that has the clock")]
fn now() -> Instant {
    Instant::now()
}

fn since(begun: Instant) -> Duration {
    now().saturating_duration_since(begun)
}

//! `ringlift bench`: transfers over a matrix of settings.
//!
//! Rounds of all cells in random order, or of one cell after the other at a rate, become a report. Invariant: every counted
//! round has one transfer of each cell, and a transfer that failed ends the bench: none is left out or repeated.

pub(crate) mod cells;
mod gate;
pub(crate) mod matrix;
mod receiver;
mod schedule;
pub(crate) mod transfer;

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use ringlift::error::{Error, Refusal};
use ringlift::report::{Report, Role};
use ringlift::{Cancel, Finished, Outcome, SenderBuilder};

use self::cells::Measured;
use self::matrix::Cell;
use self::receiver::Receiver;
use self::schedule::{Clock, Schedule};
use crate::args::{Bench, SourceKind};
use crate::ends::SourceSpec;
use crate::exit::Exit;
use crate::metrics::Metrics;
use crate::peak;
use crate::random::{self, Random};
use crate::show::json::JsonTarget;
use crate::show::progress::Progress;
use crate::show::{bench, output, warnings};
use crate::signals;

/// How long a receiver may be busy with the transfers of others.
const BUSY_MAX: Duration = Duration::from_secs(60);
/// How often to ask it, and to check for signals while waiting.
const TICK: Duration = Duration::from_millis(100);

/// Measures them and shows what was measured.
pub(crate) fn run(args: &Bench) -> Exit {
    measure(args).unwrap_or_else(|exit| exit)
}

fn measure(args: &Bench) -> Result<Exit, Exit> {
    for target in [&args.json, &args.csv].into_iter().flatten() {
        target.check([])?;
    }
    let cells = matrix::cells(args)?;
    gate::check(args)?;
    let metrics = Metrics::open(&args.metrics, None, (Role::Sender, &[]), &[])?;
    metrics.announce();
    if let Some(to) = args.to {
        warnings::warn_of_plaintext(to);
    }
    let seed = random::seed(args.seed)?;
    let cancel = Cancel::new();
    signals::sum_up_on_signals(&cancel, &Progress::new(false))?;
    let rounds = args.rounds;
    output::say(&format!("cells: {}, rounds: {rounds}, seed: {seed}", cells.len()));
    let mut bench = Running {
        args,
        receiver: Receiver::new(args.to, &cancel)?,
        bar: bar(cells.len() * (usize::from(rounds) + 1)),
        cells,
        cancel,
        random: Random::new(seed),
        metrics,
    };
    let anew = peak::count_anew();
    let (measured, ended) = match args.rate {
        None => bench.rounds(),
        Some(rate) => bench.at_rate(rate),
    };
    bench.bar.finish_and_clear();
    let exit = ended.err().unwrap_or(Exit::Complete);
    let report = cells::report(args, seed.into(), &bench.cells, &measured, anew);
    if report.cells.is_empty() {
        return Ok(exit);
    }
    conclude(args, &report);
    Ok(gate::gate(args, exit, &bench.cells, &measured, &report))
}

fn conclude(args: &Bench, report: &ringlift::report::BenchReport) {
    if ![&args.json, &args.csv].into_iter().flatten().any(|target| *target == JsonTarget::Stdout) {
        output::result(&bench::text(report));
    }
    if let Some(json) = &args.json {
        json.write(report);
    }
    if let Some(csv) = &args.csv {
        csv.write_text(&bench::csv(report));
    }
}

struct Running<'a> {
    args: &'a Bench,
    receiver: Receiver,
    bar: ProgressBar,
    cells: Vec<Cell>,
    cancel: Cancel,
    random: Random,
    metrics: Metrics,
}

impl Running<'_> {
    /// All rounds, or those before one failed or was cancelled.
    fn rounds(&mut self) -> (Vec<Measured>, Result<(), Exit>) {
        let mut measured: Vec<Measured> = self.cells.iter().map(|_| Measured::default()).collect();
        let begun = now();
        for round in 0..=self.args.rounds {
            if round > 1 && self.args.until.is_some_and(|until| since(begun) >= until) {
                break;
            }
            let reports = match self.round() {
                Ok(reports) => reports,
                Err(exit) => return (measured, Err(exit)),
            };
            // the first one warms up
            if round > 0 {
                measured.iter_mut().zip(reports).for_each(|(cell, report)| cell.reports.push(report));
            }
            if !output::is_watched() {
                let share = if round == 0 { "warmed up".to_owned() } else { format!("round {round}") };
                output::say(&format!("{share} of {}: {} s", self.args.rounds, since(begun).as_secs()));
            }
        }
        (measured, Ok(()))
    }

    /// One transfer of each cell, in random order; the reports in the order of the cells.
    fn round(&mut self) -> Result<Vec<Report>, Exit> {
        let mut reports = Vec::new();
        for idx in self.order() {
            reports.push((idx, self.transfer(&self.cells[idx].clone())?));
        }
        reports.sort_by_key(|(idx, _)| *idx);
        Ok(reports.into_iter().map(|(_, report)| report).collect())
    }

    /// All transfers of one cell at the rate, then those of another, the cells in random order.
    fn at_rate(&mut self, rate: f64) -> (Vec<Measured>, Result<(), Exit>) {
        let mut measured: Vec<Measured> = self.cells.iter().map(|_| Measured::default()).collect();
        for (count, idx) in (1..).zip(self.order()) {
            let ended = self.series(rate, idx, &mut measured[idx]);
            if ended.is_err() {
                return (measured, ended);
            }
            if !output::is_watched() {
                output::say(&format!("cell {count} of {}: {}", self.cells.len(), self.cells[idx]));
            }
        }
        (measured, Ok(()))
    }

    /// Those of one cell, after one to warm up.
    fn series(&mut self, rate: f64, idx: usize, measured: &mut Measured) -> Result<(), Exit> {
        let cell = self.cells[idx].clone();
        self.transfer(&cell)?;
        let clock = RealClock { begun: now(), cancel: self.cancel.clone() };
        let schedule = Schedule::new(rate, self.args.rounds, self.args.until);
        let (times, ended) = schedule.follow(&clock, || {
            measured.reports.push(self.transfer(&cell)?);
            Ok(())
        });
        measured.times = times;
        ended
    }

    fn order(&mut self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.cells.len()).collect();
        self.random.shuffle(&mut order);
        order
    }

    fn transfer(&mut self, cell: &Cell) -> Result<Report, Exit> {
        let finished = self.when_not_busy(cell)?;
        self.metrics.end(&finished.report);
        self.bar.inc(1);
        if finished.outcome == Outcome::Complete {
            return Ok(finished.report);
        }
        if self.cancel.is_cancelled() {
            return Err(Exit::Cancelled);
        }
        output::say(&format!("a transfer of this cell failed: {cell}"));
        self.receiver.complaints().iter().for_each(|line| output::say(&format!("receiver: {line}")));
        Err(failed(finished.error.as_ref()))
    }

    /// A transfer that the receiver took: while it is busy with another sender's, nothing is measured.
    fn when_not_busy(&mut self, cell: &Cell) -> Result<Finished, Exit> {
        let state = match self.args.source {
            SourceKind::Null => SourceSpec::Null(self.args.size.0),
            SourceKind::Synthetic => SourceSpec::Synthetic(self.args.size.0),
        };
        let begun = now();
        let mut said = false;
        loop {
            let to = self.receiver.address();
            peak::count_anew();
            let sender = transfer::sender(cell, &state, to, &self.cancel);
            let sender = sender.and_then(|builder| Ok(self.counted(builder).build()?));
            let finished = sender.map_err(|error| warnings::error(&error))?.run();
            let is_busy = matches!(&finished.error, Some(Error::Refused { reason: Refusal::Busy, .. }));
            if !is_busy || since(begun) >= BUSY_MAX || self.cancel.is_cancelled() {
                return Ok(finished);
            }
            if !std::mem::replace(&mut said, true) {
                output::say(&format!("the receiver at {to} is busy with another sender: waiting for it"));
            }
            wait(TICK);
        }
    }

    /// With what is published of it meanwhile.
    fn counted(&self, builder: SenderBuilder) -> SenderBuilder {
        match (self.metrics.interval(), self.metrics.counting()) {
            (Some(interval), Some(counting)) => {
                builder.interval(interval).on_event(move |event| counting.hear(event))
            }
            _ => builder,
        }
    }
}

/// Reports why a transfer failed. What was sent has no content, so no device can be in doubt.
pub(crate) fn failed(error: Option<&Error>) -> Exit {
    match error {
        Some(Error::InDoubt { cause }) => {
            warnings::failure(&format!("the receiver was lost at the end of a transfer: {cause}"), None);
            Exit::Failed
        }
        Some(error @ Error::Refused { reason: Refusal::DeviceMismatch { .. }, .. }) => {
            warnings::failure(&error.to_string(), Some("start the receiver with `ringlift recv --bench`"));
            Exit::of_error(error)
        }
        Some(error) => warnings::error(error),
        None => Exit::Failed,
    }
}

/// On a terminal.
fn bar(transfers: usize) -> ProgressBar {
    if !output::is_watched() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} transfers, {eta} left");
    ProgressBar::new(transfers as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The time since a schedule began.
struct RealClock {
    begun: Instant,
    cancel: Cancel,
}

impl Clock for RealClock {
    type Ended = Exit;

    fn now(&self) -> Duration {
        since(self.begun)
    }

    fn wait(&self, until: Duration) -> Result<(), Exit> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(Exit::Cancelled);
            }
            match until.saturating_sub(self.now()) {
                Duration::ZERO => return Ok(()),
                left => wait(left.min(TICK)),
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the command has no ring that has the clock")]
fn now() -> Instant {
    Instant::now()
}

fn since(begun: Instant) -> Duration {
    now().saturating_duration_since(begun)
}

#[expect(clippy::disallowed_methods, reason = "between two transfers there is no ring to wait on")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}

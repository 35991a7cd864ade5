//! `ringlift bench`: transfers over a matrix of settings.
//!
//! Rounds of all cells in random order become a report. Invariant: every counted round has one transfer of each cell, and
//! a transfer that failed ends the bench: none is left out or repeated.

pub(crate) mod cells;
pub(crate) mod matrix;
mod receiver;
pub(crate) mod transfer;

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use ringlift::error::{Error, Refusal};
use ringlift::report::{Report, Role};
use ringlift::{Cancel, Finished, Outcome, SenderBuilder};

use self::matrix::Cell;
use self::receiver::Receiver;
use crate::args::{Bench, SourceKind};
use crate::ends::SourceSpec;
use crate::exit::Exit;
use crate::metrics::Metrics;
use crate::random::{self, Random};
use crate::show::json::JsonTarget;
use crate::show::progress::Progress;
use crate::show::{bench, output, warnings};
use crate::signals;

/// How long a receiver may be busy with the transfers of others, and how often it is asked.
const BUSY_MAX: Duration = Duration::from_secs(60);
const BUSY_TICK: Duration = Duration::from_millis(100);

/// Measures them and shows what was measured.
pub(crate) fn run(args: &Bench) -> Exit {
    measure(args).unwrap_or_else(|exit| exit)
}

fn measure(args: &Bench) -> Result<Exit, Exit> {
    for target in [&args.json, &args.csv].into_iter().flatten() {
        target.check([])?;
    }
    let cells = matrix::cells(args)?;
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
    let (measured, ended) = bench.rounds();
    bench.bar.finish_and_clear();
    let exit = ended.err().unwrap_or(Exit::Complete);
    if measured.first().is_some_and(|reports| !reports.is_empty()) {
        conclude(args, &cells::report(args, seed.into(), &bench.cells, &measured));
    }
    Ok(exit)
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

/// What a cell's counted transfers reported, round by round.
type Measured = Vec<Vec<Report>>;

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
    fn rounds(&mut self) -> (Measured, Result<(), Exit>) {
        let mut measured: Measured = self.cells.iter().map(|_| Vec::new()).collect();
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
                measured.iter_mut().zip(reports).for_each(|(cell, report)| cell.push(report));
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
        let mut order: Vec<usize> = (0..self.cells.len()).collect();
        self.random.shuffle(&mut order);
        let mut reports = Vec::new();
        for idx in order {
            let cell = self.cells[idx].clone();
            reports.push((idx, self.transfer(&cell)?));
            self.bar.inc(1);
        }
        reports.sort_by_key(|(idx, _)| *idx);
        Ok(reports.into_iter().map(|(_, report)| report).collect())
    }

    fn transfer(&mut self, cell: &Cell) -> Result<Report, Exit> {
        let finished = self.when_not_busy(cell)?;
        self.metrics.end(&finished.report);
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
            wait(BUSY_TICK);
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

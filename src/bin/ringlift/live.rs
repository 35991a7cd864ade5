//! What a command shows and writes while its transfers go on: progress, a line for each interval, a stream of events. The
//! formats are in `show`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringlift::error::Error;
use ringlift::{Event, Finished};

use crate::args;
use crate::exit::Exit;
use crate::metrics::{Counting, Metrics};
use crate::show::events::{self, Entry, Start};
use crate::show::interval::Lines;
use crate::show::json::JsonTarget;
use crate::show::progress::Progress;
use crate::show::warnings;
use crate::stream::Stream;

/// Shows and writes. Clones share it.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) progress: Progress,
    every: Option<Duration>,
    counting: Option<Counting>,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    /// With `--interval`.
    lines: Option<Lines>,
    /// With `--events`.
    stream: Option<Stream>,
    begun: Instant,
}

impl Live {
    /// Opens what is to be written, which is none of the files in `kept`, nor that of the report.
    pub(crate) fn open(args: &args::Live, json: Option<&JsonTarget>, kept: &[PathBuf]) -> Result<Live, Exit> {
        if args.takes_stdout() && json == Some(&JsonTarget::Stdout) {
            let hint = "the last event has the whole report; or name a file with --json";
            return Err(warnings::usage("stdout cannot take both the events and the report", hint));
        }
        let progress = Progress::new(args.interval.is_some());
        let report = match json {
            Some(JsonTarget::File(path)) => Some(path.as_path()),
            _ => None,
        };
        let kept = || kept.iter().map(PathBuf::as_path).chain(report);
        let open = |target: &JsonTarget| Stream::open(target, kept().collect::<Vec<&Path>>(), &progress);
        let shared = Shared {
            lines: args.interval.map(|_| Lines::default()),
            stream: args.events.as_ref().map(open).transpose()?,
            begun: now(),
        };
        Ok(Live { progress, every: args.every(), counting: None, shared: Arc::new(Mutex::new(shared)) })
    }

    /// Has metrics hear of everything, too.
    pub(crate) fn counted(self, metrics: &Metrics) -> Live {
        Live { every: self.every.or(metrics.interval()), counting: metrics.counting(), ..self }
    }

    /// How often to be told what moved, if at all.
    pub(crate) fn every(&self) -> Option<Duration> {
        self.every
    }

    /// A new transfer begins.
    pub(crate) fn begin(&self, start: &Start) {
        self.progress.begin();
        let mut shared = self.shared();
        shared.begun = now();
        shared.lines = shared.lines.take().map(|_| Lines::default());
        shared.put(&Entry::Start(start));
    }

    /// The handler for `on_event`.
    pub(crate) fn show(&self, event: &Event) {
        self.progress.show(event);
        self.put(event);
    }

    /// The same where many short transfers follow each other: what is told of them is told elsewhere.
    pub(crate) fn note(&self, event: &Event) {
        self.progress.note(event);
        self.put(event);
    }

    fn put(&self, event: &Event) {
        self.counting.iter().for_each(|counting| counting.hear(event));
        let mut shared = self.shared();
        if let Some(entry) = Entry::of(event) {
            shared.put(&entry);
        }
        if let (Event::Interval { interval, phase, .. }, Some(lines)) = (event, &mut shared.lines) {
            let line = lines.line(*phase, interval);
            drop(shared);
            self.progress.say(&line);
        }
    }

    /// Prints a warning of the command's own.
    pub(crate) fn warn(&self, code: &str, text: &str, hint: &str) {
        self.shared().put(&Entry::Warning { code, text, hint });
        warnings::warning(code, text, hint);
    }

    /// The transfer is over, and this is the status that it alone would end the command with.
    pub(crate) fn end(&self, exit: Exit, finished: &Finished) {
        let mut shared = self.shared();
        for warning in &finished.report.warnings {
            let (code, hint) = (warning.code.to_string(), crate::show::hints::of_warning(warning));
            shared.put(&Entry::Warning { code: &code, text: &warning.text, hint: &hint });
        }
        let Finished { outcome, error, report, .. } = finished;
        shared.put(&Entry::end(exit, *outcome, error.as_ref(), report));
    }

    /// There is no transfer, for this reason, which it prints. Gives the status.
    pub(crate) fn not_begun(&self, start: &Start, error: &Error) -> Exit {
        self.begin(start);
        let exit = warnings::error(error);
        self.shared().put(&Entry::not_begun(exit, error));
        self.close();
        exit
    }

    /// Nothing more is written.
    pub(crate) fn close(&self) {
        let stream = self.shared().stream.take();
        drop(stream);
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn put(&mut self, entry: &Entry<'_>) {
        if let Some(stream) = &mut self.stream {
            stream.put(events::line(self.begun.elapsed(), entry));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the command has no ring that has the clock")]
fn now() -> Instant {
    Instant::now()
}

//! One `ringlift` process, watched from outside. Knows nothing of the other side. Invariants: only a process that has
//! not been waited for gets a signal, and none is left behind.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often a process is looked at.
const POLL: Duration = Duration::from_millis(2);
/// For a process to start, on a host that is busy with other runs.
pub(crate) const START_MAX: Duration = Duration::from_secs(20);

/// A running process. Dropping it kills it.
pub(crate) struct Side {
    process: Process,
    words: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// What signals are sent to, from any thread.
#[derive(Clone)]
pub(crate) struct Process(Arc<Mutex<Child>>);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Status(i32),
    Signal(i32),
    /// Not within its bound; then it was killed.
    Never,
}

/// The end of a process, and the signal that it was sent.
#[derive(Debug)]
pub(crate) struct Fate {
    pub(crate) end: End,
    pub(crate) signal: Option<Signal>,
}

/// The end of a process, and what it printed to stderr.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) ended: Ended,
    pub(crate) words: String,
}

impl Side {
    pub(crate) fn start(mut command: Command) -> Side {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let words = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&words);
        let reader = thread::spawn(move || {
            let mut line = Vec::new();
            while stderr.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                heard.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Side { process: Process(Arc::new(Mutex::new(child))), words, reader: Some(reader) }
    }

    pub(crate) fn process(&self) -> Process {
        self.process.clone()
    }

    /// Where it listens; `None` when it ended instead.
    pub(crate) fn address(&self, bound: Duration) -> Option<SocketAddr> {
        let begun = Instant::now();
        while begun.elapsed() < bound {
            // looked at first: what was printed before the end is read after it
            let has_ended = self.process.ended().is_some();
            if has_ended && let Some(reader) = &self.reader {
                while !reader.is_finished() {
                    thread::sleep(POLL);
                }
            }
            let words = self.words.lock().unwrap().clone();
            let mut lines = words.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            if let Some(line) = lines.find_map(|line| line.strip_prefix("listening on ")) {
                return Some(line.trim_end().parse().unwrap());
            }
            if has_ended {
                return None;
            }
            thread::sleep(POLL);
        }
        None
    }

    /// The end of a receiver whose sender has ended. If no sender ever reached it, it still listens, and is stopped.
    pub(crate) fn end_or_stop(self, bound: Duration) -> Fate {
        const GRACE: Duration = Duration::from_millis(300);
        if self.process.await_end(GRACE).is_some() || self.words.lock().unwrap().contains("connected with ") {
            return Fate::new(self.end(bound), None);
        }
        self.process.signal(Signal::SIGTERM);
        Fate::new(self.end(bound), Some(Signal::SIGTERM))
    }

    /// Waits for its end.
    pub(crate) fn end(mut self, bound: Duration) -> End {
        let ended = self.process.await_end(bound).map_or(Ended::Never, Ended::of);
        self.process.stop();
        self.reader.take().into_iter().for_each(|reader| reader.join().unwrap());
        End { ended, words: self.words.lock().unwrap().clone() }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.process.stop();
    }
}

impl Process {
    /// Sends a signal, unless the process has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        let mut child = self.0.lock().unwrap();
        if child.try_wait().unwrap().is_none() {
            // its number is its own as long as nothing waited for it
            kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        }
    }

    fn ended(&self) -> Option<ExitStatus> {
        self.0.lock().unwrap().try_wait().unwrap()
    }

    fn await_end(&self, bound: Duration) -> Option<ExitStatus> {
        let begun = Instant::now();
        loop {
            match self.ended() {
                None if begun.elapsed() < bound => thread::sleep(POLL),
                ended => return ended,
            }
        }
    }

    fn stop(&self) {
        self.signal(Signal::SIGKILL);
        let _ = self.0.lock().unwrap().wait();
    }
}

impl Fate {
    pub(crate) fn new(end: End, signal: Option<Signal>) -> Fate {
        Fate { end, signal }
    }
}

impl Ended {
    fn of(status: ExitStatus) -> Ended {
        let signal = || Ended::Signal(status.signal().expect("without a status there is a signal"));
        status.code().map_or_else(signal, Ended::Status)
    }
}

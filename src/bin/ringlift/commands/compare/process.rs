//! One run: a receiver and a sender of one program over loopback, from start to end.
//!
//! It must not know what is compared. Invariant: when it returns, both processes are gone.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use ringlift::Cancel;
use serde_json::Value;

use super::workload::Workload;
use crate::metric::{Run, Usage};
use crate::peer;

/// How often to check for signals while waiting.
const TICK: Duration = Duration::from_millis(100);
/// To load the program and bind a port.
const START_TICKS: u32 = 100;
/// A transfer that stands still ends by itself long before.
const SILENT_TICKS: u32 = 6000;
/// Lines of stderr that are kept to be shown.
const LINES_MAX: usize = 50;

/// Why there is no run.
#[derive(Debug)]
pub(super) enum NoRun {
    Cancelled,
    Failed(String),
}

/// Runs it once.
pub(super) fn run(program: &Path, workload: &Workload, cancel: &Cancel) -> Result<Run, NoRun> {
    let before = usage();
    let mut receiver =
        Process::start("recv", program, &["--listen", "127.0.0.1:0", "--once"], &workload.recv)?;
    let address = receiver.address(cancel)?;
    let mut sender = Process::start("send", program, &["--to", &address], &workload.send)?;
    let sent = sender.finish(cancel);
    if let Err(NoRun::Failed(text)) = sent {
        return Err(NoRun::Failed(match receiver.complaint() {
            Some(complaint) => format!("{text}; its receiver: {complaint}"),
            None => text,
        }));
    }
    let (sent, received) = (sent?, receiver.finish(cancel)?);
    let after = usage();
    let usage = Usage { cpu_ns: after.cpu_ns - before.cpu_ns, switches: after.switches - before.switches };
    Ok(Run { sender: Some(sent), receiver: Some(received), usage: Some(usage) })
}

/// Of all processes that this one has waited for so far.
fn usage() -> Usage {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Usage::default() };
    let ns = |time: TimeVal| u64::try_from(time.num_nanoseconds()).unwrap_or_default();
    let switches = usage.voluntary_context_switches() + usage.involuntary_context_switches();
    Usage {
        cpu_ns: ns(usage.user_time()) + ns(usage.system_time()),
        switches: u64::try_from(switches).unwrap_or_default(),
    }
}

/// A running side, which is killed when it is dropped.
struct Process {
    command: &'static str,
    child: Child,
    /// Its stderr, line by line; it ends when the process does.
    words: mpsc::Receiver<String>,
    stdout: Option<JoinHandle<String>>,
    heard: Vec<String>,
}

impl Process {
    fn start(
        command: &'static str,
        program: &Path,
        first: &[&str],
        options: &[impl AsRef<OsStr>],
    ) -> Result<Process, NoRun> {
        let failed = |error| NoRun::Failed(format!("`{command}` could not be started: {error}"));
        let mut typed = Command::new(program);
        typed.arg(command).args(first).args(["--json", "-"]).args(options);
        typed.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = typed.spawn().map_err(failed)?;
        let (tell, words) = mpsc::channel();
        let mut process = Process { command, child, words, stdout: None, heard: Vec::new() };
        process.stdout = peer::read(&mut process.child, tell).map_err(failed)?;
        Ok(process)
    }

    /// Where it listens.
    fn address(&mut self, cancel: &Cancel) -> Result<String, NoRun> {
        while let Some(line) = self.next_line(START_TICKS, cancel)? {
            if let Some(address) = line.strip_prefix("listening on ") {
                return Ok(address.to_owned());
            }
            self.keep(line);
        }
        let status = self.wait()?;
        Err(self.failure(status))
    }

    /// Waits until it ends; its report.
    fn finish(&mut self, cancel: &Cancel) -> Result<Value, NoRun> {
        while let Some(line) = self.next_line(SILENT_TICKS, cancel)? {
            self.keep(line);
        }
        let status = self.wait()?;
        let text = self.stdout.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
        if !status.success() {
            return Err(self.failure(status));
        }
        let report: Option<Value> = text.lines().next().and_then(|line| serde_json::from_str(line).ok());
        let is_report = |report: &Value| {
            report["schema"].as_str().is_some_and(|name| name.starts_with("ringlift.report."))
        };
        report.filter(is_report).ok_or_else(|| {
            NoRun::Failed(format!("`{}` ended with status 0 and without a report", self.command))
        })
    }

    /// None when it has ended.
    fn next_line(&self, ticks: u32, cancel: &Cancel) -> Result<Option<String>, NoRun> {
        for _ in 0..ticks {
            if cancel.is_cancelled() {
                return Err(NoRun::Cancelled);
            }
            match self.words.recv_timeout(TICK) {
                Ok(line) => return Ok(Some(line)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        let waited = TICK * ticks;
        Err(NoRun::Failed(format!("`{}` printed nothing for {} s", self.command, waited.as_secs())))
    }

    fn wait(&mut self) -> Result<ExitStatus, NoRun> {
        self.child
            .wait()
            .map_err(|error| NoRun::Failed(format!("`{}` cannot be waited for: {error}", self.command)))
    }

    fn keep(&mut self, line: String) {
        if self.heard.len() < LINES_MAX {
            self.heard.push(line);
        }
    }

    fn failure(&self, status: ExitStatus) -> NoRun {
        let ended = format!("`{}` ended with {status}", self.command);
        NoRun::Failed(match first_error(&self.heard) {
            Some(error) => format!("{ended}: {error}"),
            None => ended,
        })
    }

    /// The error that it printed so far.
    fn complaint(&mut self) -> Option<String> {
        while let Ok(line) = self.words.recv_timeout(TICK) {
            self.keep(line);
        }
        self.heard.iter().find_map(|line| line.strip_prefix("error: ")).map(str::to_owned)
    }
}

fn first_error(lines: &[String]) -> Option<&str> {
    let error = lines.iter().find_map(|line| line.strip_prefix("error: "));
    error.or_else(|| lines.last().map(String::as_str))
}

impl Drop for Process {
    /// A run has nothing to roll back: it may be killed at any time.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Both fail only when it is already gone.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

//! The demo's other process: `ringlift recv` of the same program, which ends when this one does.

use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ringlift::limits;
use ringlift::report::{Report, RunInfo, TransferOutcome};

use crate::args::Run;
use crate::exit::Exit;
use crate::show::warnings;

/// From its start to `listening on`: the time to load the program and bind the port.
const START_MAX: Duration = Duration::from_secs(10);
/// How long it may take to end when its work is done or its peer is gone: it has to notice that first.
const END_MAX: Duration = Duration::from_secs(limits::SILENCE_MAX.as_secs() + 5);

/// A running receiver.
pub(crate) struct Peer {
    child: Child,
    /// Its stderr, line by line; it ends when the process does.
    words: mpsc::Receiver<String>,
    stdout: Option<JoinHandle<String>>,
    heard: Vec<String>,
}

/// What it printed at the end.
pub(crate) struct Received {
    pub(crate) report: Report,
    /// The histogram, as it drew it.
    pub(crate) histogram: String,
}

/// It failed.
#[derive(Debug)]
pub(crate) struct Failure {
    text: String,
    heard: Vec<String>,
}

impl Peer {
    /// Starts it with a verifying sink for each name, and waits until it listens. Its trace goes where `trace` says.
    pub(crate) fn start(
        names: &[String],
        run: &RunInfo,
        trace: Option<&Path>,
    ) -> Result<(Peer, SocketAddr), Failure> {
        let mut child =
            command(names, run, trace).and_then(|mut command| command.spawn()).map_err(|error| Failure {
                text: format!("the receiver could not be started: {error}"),
                heard: Vec::new(),
            })?;
        let (tell, words) = mpsc::channel();
        let stdout = match read(&mut child, tell) {
            Ok(stdout) => stdout,
            Err(error) => {
                // It may have ended by itself.
                let _ = child.kill().and_then(|()| child.wait());
                let text = format!("no thread can be started for the receiver's output: {error}");
                return Err(Failure { text, heard: Vec::new() });
            }
        };
        let mut peer = Peer { child, words, stdout, heard: Vec::new() };
        match peer.address() {
            Some(address) => Ok((peer, address)),
            None => Err(peer.failure("the receiver did not start")),
        }
    }

    /// Waits until it ends. One that no sender ever reached is killed: it would wait for ever.
    pub(crate) fn finish(mut self, reached: bool) -> Result<Received, Failure> {
        if !reached {
            return Err(self.failure("the receiver was not reached"));
        }
        loop {
            match self.words.recv_timeout(END_MAX) {
                Ok(line) => self.heard.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => return Err(self.failure("the receiver did not end")),
            }
        }
        let complete = self.child.wait().is_ok_and(|status| status.success());
        let text = self.stdout.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
        let (json, histogram) = text.split_once('\n').unwrap_or((&text, ""));
        match serde_json::from_str::<Report>(json) {
            Ok(report) if complete && report.outcome == TransferOutcome::Complete => {
                Ok(Received { report, histogram: histogram.to_owned() })
            }
            _ => Err(self.failure("the receiver failed")),
        }
    }

    fn address(&mut self) -> Option<SocketAddr> {
        while let Ok(line) = self.words.recv_timeout(START_MAX) {
            match line.strip_prefix("listening on ") {
                Some(address) => return address.parse().ok(),
                None => self.heard.push(line),
            }
        }
        None
    }

    fn failure(&mut self, text: &str) -> Failure {
        Failure { text: text.to_owned(), heard: std::mem::take(&mut self.heard) }
    }
}

impl Drop for Peer {
    /// A verifying sink has nothing to roll back: it may be killed at any time.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Both fail only when it is already gone.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Failure {
    /// Reports what went wrong, with its own message and the receiver's.
    pub(crate) fn say(&self) -> Exit {
        for line in &self.heard {
            crate::show::output::say(&format!("receiver: {line}"));
        }
        warnings::failure(&self.text, None);
        Exit::Failed
    }
}

fn command(names: &[String], run: &RunInfo, trace: Option<&Path>) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["recv", "--listen", "127.0.0.1:0", "--once", "--json", "-", "--with-parent"]);
    command.arg(std::process::id().to_string()).args(Run::words(run));
    if let Some(path) = trace {
        command.arg("--trace").arg(path);
    }
    for name in names {
        command.arg("--device").arg(format!("{name}=verify"));
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// Reads its output on two threads: stderr line by line to `tell`, stdout as a whole.
pub(crate) fn read(child: &mut Child, tell: mpsc::Sender<String>) -> io::Result<Option<JoinHandle<String>>> {
    if let Some(stderr) = child.stderr.take() {
        thread::Builder::new().spawn(move || listen(stderr, &tell))?;
    }
    let read = |mut stdout: ChildStdout| {
        thread::Builder::new().spawn(move || {
            let mut text = String::new();
            // Only what arrived so far can be used; the parser detects a truncated report.
            let _ = stdout.read_to_string(&mut text);
            text
        })
    };
    child.stdout.take().map(read).transpose()
}

fn listen(stderr: ChildStderr, tell: &mpsc::Sender<String>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        // If the receiving end is gone, the process has been killed, too.
        let _ = tell.send(line);
    }
}

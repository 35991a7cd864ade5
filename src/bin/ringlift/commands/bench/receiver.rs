//! The receiver of a bench: one on another host, or a process of this program over loopback, which takes one transfer after
//! the other, whatever devices it has.
//!
//! Invariant: when it is dropped, the process that it started is gone. A receiver that discards has nothing to roll back,
//! so it may be killed at any time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use ringlift::Cancel;

use crate::exit::Exit;
use crate::peer;
use crate::show::warnings;

/// How often to check for signals while waiting.
const TICK: Duration = Duration::from_millis(100);
/// To load the program and bind a port.
const START_TICKS: u32 = 100;
/// The last lines of stderr that are kept to be shown.
const LINES_MAX: usize = 20;

/// Where transfers go.
pub(super) enum Receiver {
    Other(SocketAddr),
    Own(Own),
}

/// A process over loopback.
pub(super) struct Own {
    child: Child,
    /// Its stderr, line by line.
    words: mpsc::Receiver<String>,
    kept: VecDeque<String>,
    address: SocketAddr,
}

impl Receiver {
    /// The one at `to`, or else one that is started.
    pub(super) fn new(to: Option<SocketAddr>, cancel: &Cancel) -> Result<Receiver, Exit> {
        to.map_or_else(|| Own::start(cancel).map(Receiver::Own), |to| Ok(Receiver::Other(to)))
    }

    pub(super) fn address(&mut self) -> SocketAddr {
        match self {
            Receiver::Other(to) => *to,
            Receiver::Own(own) => {
                own.keep_words();
                own.address
            }
        }
    }

    /// What it printed last, as far as it can be seen from here, and that it is gone if it is.
    pub(super) fn complaints(&mut self) -> Vec<String> {
        let Receiver::Own(own) = self else { return Vec::new() };
        own.keep_words();
        let is_complaint = |line: &&String| line.starts_with("error: ") || line.starts_with("hint: ");
        let mut lines: Vec<String> = own.kept.iter().filter(is_complaint).cloned().collect();
        if let Ok(Some(status)) = own.child.try_wait() {
            lines.push(format!("it has ended ({status})"));
        }
        lines
    }
}

impl Own {
    fn start(cancel: &Cancel) -> Result<Own, Exit> {
        let failed = |text: String| {
            warnings::failure(&format!("the receiver did not start: {text}"), None);
            Exit::Failed
        };
        let spawned = std::env::current_exe().and_then(|program| {
            let mut command = Command::new(program);
            command.args(["recv", "--bench", "--listen", "127.0.0.1:0", "--with-parent"]);
            command.arg(std::process::id().to_string());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
        });
        let (tell, words) = mpsc::channel();
        let child = spawned.map_err(|error| failed(error.to_string()))?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut own = Own { child, words, kept: VecDeque::new(), address };
        peer::read(&mut own.child, tell).map_err(|error| failed(error.to_string()))?;
        own.address = own
            .listening(cancel)?
            .ok_or_else(|| failed(own.kept.pop_back().unwrap_or_else(|| "it printed nothing".to_owned())))?;
        Ok(own)
    }

    fn listening(&mut self, cancel: &Cancel) -> Result<Option<SocketAddr>, Exit> {
        for _ in 0..START_TICKS {
            if cancel.is_cancelled() {
                return Err(Exit::Cancelled);
            }
            match self.words.recv_timeout(TICK) {
                Ok(line) => match line.strip_prefix("listening on ") {
                    Some(address) => return Ok(address.parse().ok()),
                    None => self.keep(line),
                },
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        Ok(None)
    }

    fn keep_words(&mut self) {
        while let Ok(line) = self.words.try_recv() {
            self.keep(line);
        }
    }

    fn keep(&mut self, line: String) {
        if self.kept.len() == LINES_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(line);
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Both fail only when it is already gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! The receivers of a bench: one on another host, or processes of this program over loopback, one for each number of
//! devices, which take one transfer after the other.
//!
//! Invariant: when it is dropped, every process that it started is gone. A receiver that discards has nothing to roll back,
//! so it may be killed at any time.

use std::collections::{BTreeMap, VecDeque};
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

/// All of them.
pub(super) struct Receivers {
    to: Option<SocketAddr>,
    own: BTreeMap<u16, Own>,
}

/// A process over loopback.
struct Own {
    child: Child,
    /// Its stderr, line by line.
    words: mpsc::Receiver<String>,
    kept: VecDeque<String>,
    address: SocketAddr,
}

impl Receivers {
    pub(super) fn new(to: Option<SocketAddr>) -> Receivers {
        Receivers { to, own: BTreeMap::new() }
    }

    /// Where one for this number of devices listens; it is started if there is none.
    pub(super) fn address(&mut self, devices: u16, cancel: &Cancel) -> Result<SocketAddr, Exit> {
        if let Some(to) = self.to {
            return Ok(to);
        }
        if let Some(own) = self.own.get_mut(&devices) {
            own.keep_words();
            return Ok(own.address);
        }
        let own = Own::start(devices, cancel)?;
        let address = own.address;
        self.own.insert(devices, own);
        Ok(address)
    }

    /// What that one printed last.
    pub(super) fn complaints(&mut self, devices: u16) -> Vec<String> {
        let Some(own) = self.own.get_mut(&devices) else { return Vec::new() };
        own.keep_words();
        own.kept
            .iter()
            .filter(|line| line.starts_with("error: ") || line.starts_with("hint: "))
            .cloned()
            .collect()
    }
}

impl Own {
    fn start(devices: u16, cancel: &Cancel) -> Result<Own, Exit> {
        let failed = |text: String| {
            warnings::failure(&format!("the receiver did not start: {text}"), None);
            Exit::Failed
        };
        let spawned = std::env::current_exe().and_then(|program| {
            let mut command = Command::new(program);
            command
                .args(["recv", "--listen", "127.0.0.1:0", "--with-parent"])
                .arg(std::process::id().to_string());
            for idx in 0..devices {
                command.arg("--device").arg(format!("d{idx}=discard"));
            }
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

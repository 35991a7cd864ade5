//! How contestants are run: each side of each transfer in its own process, which measures itself and prints the result
//! as one line on its stdout. Knows nothing of what a contestant does inside.

pub(crate) mod child;
pub(crate) mod devices;
pub(crate) mod plan;
pub(crate) mod table;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::baseline::Work;

/// The program that does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contestant {
    Ringlift,
    /// The same with CRC32C, whatever the others do.
    RingliftCrc32c,
    ThreadsInline,
    ThreadsPipeline,
    TokioUring,
    /// Transport alone; it has to be installed.
    Iperf3,
}

impl Contestant {
    pub(crate) const ALL: [Contestant; 6] = [
        Contestant::Ringlift,
        Contestant::RingliftCrc32c,
        Contestant::ThreadsInline,
        Contestant::ThreadsPipeline,
        Contestant::TokioUring,
        Contestant::Iperf3,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Contestant::Ringlift => "ringlift",
            Contestant::RingliftCrc32c => "ringlift-crc32c",
            Contestant::ThreadsInline => "threads-inline",
            Contestant::ThreadsPipeline => "threads-pipeline",
            Contestant::TokioUring => "tokio-uring",
            Contestant::Iperf3 => "iperf3",
        }
    }

    pub(crate) fn is_ringlift(self) -> bool {
        matches!(self, Contestant::Ringlift | Contestant::RingliftCrc32c)
    }

    pub(crate) fn is_threads(self) -> bool {
        matches!(self, Contestant::ThreadsInline | Contestant::ThreadsPipeline)
    }
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Contestant {
    type Err = String;

    fn from_str(text: &str) -> Result<Contestant, String> {
        Contestant::ALL
            .into_iter()
            .find(|contestant| contestant.name() == text)
            .ok_or_else(|| format!("there is no contestant {text}"))
    }
}

/// One transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) contestant: Contestant,
    /// 0: transport alone.
    pub(crate) devices: usize,
    pub(crate) work: Work,
}

/// The form in which the child process gets it.
impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// What a side measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) bytes: u64,
    /// From "both sides are ready" to "everything was written" (sender).
    pub(crate) nanoseconds: u64,
    /// User and system time, including that of kernel threads that work for the process: from then on, of ringlift as it
    /// reports it (with its pool), and of iperf3 in all.
    pub(crate) cpu_us: u64,
    pub(crate) switches: u64,
    /// VmHWM.
    pub(crate) peak_kib: u64,
}

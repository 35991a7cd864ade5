//! How contestants are run: each side of each transfer in a process of its own, measured by that process, told on its
//! stdout in one line. Knows nothing of what a contestant does inside.

pub(crate) mod child;
pub(crate) mod devices;
pub(crate) mod plan;
pub(crate) mod table;

use std::fmt;
use std::str::FromStr;

use crate::baseline::Work;

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contestant {
    Ringlift,
    /// The same with CRC32C, whatever the others do.
    RingliftCrc32c,
    ThreadsInline,
    ThreadsPipeline,
    TokioUring,
}

impl Contestant {
    pub(crate) const ALL: [Contestant; 5] = [
        Contestant::Ringlift,
        Contestant::RingliftCrc32c,
        Contestant::ThreadsInline,
        Contestant::ThreadsPipeline,
        Contestant::TokioUring,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Contestant::Ringlift => "ringlift",
            Contestant::RingliftCrc32c => "ringlift-crc32c",
            Contestant::ThreadsInline => "threads-inline",
            Contestant::ThreadsPipeline => "threads-pipeline",
            Contestant::TokioUring => "tokio-uring",
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) contestant: Contestant,
    /// 0: transport alone.
    pub(crate) devices: usize,
    pub(crate) work: Work,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Job { contestant, devices, work } = self;
        let Work { channels, packet_size, bytes, checked, congestion } = work;
        write!(f, "{contestant},{devices},{channels},{packet_size},{bytes},{checked},{congestion}")
    }
}

impl FromStr for Job {
    type Err = String;

    fn from_str(text: &str) -> Result<Job, String> {
        fn field<T: FromStr>(text: Option<&str>) -> Result<T, String> {
            text.and_then(|text| text.parse().ok()).ok_or_else(|| "a job has seven fields".to_owned())
        }
        let mut fields = text.split(',');
        Ok(Job {
            contestant: field(fields.next())?,
            devices: field(fields.next())?,
            work: Work {
                channels: field(fields.next())?,
                packet_size: field(fields.next())?,
                bytes: field(fields.next())?,
                checked: field(fields.next())?,
                congestion: field(fields.next())?,
            },
        })
    }
}

/// What a side measured of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Measured {
    pub(crate) bytes: u64,
    /// From "both sides are ready" to "everything was written" (sender).
    pub(crate) nanoseconds: u64,
    /// User and system time from then on, also of the kernel's threads that work for the process.
    pub(crate) cpu_us: u64,
    pub(crate) switches: u64,
    /// VmHWM.
    pub(crate) peak_kib: u64,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measured { bytes, nanoseconds, cpu_us, switches, peak_kib } = self;
        write!(f, "{bytes} {nanoseconds} {cpu_us} {switches} {peak_kib}")
    }
}

impl FromStr for Measured {
    type Err = String;

    fn from_str(text: &str) -> Result<Measured, String> {
        let numbers: Vec<u64> = text.split(' ').filter_map(|number| number.parse().ok()).collect();
        let &[bytes, nanoseconds, cpu_us, switches, peak_kib] = numbers.as_slice() else {
            return Err(format!("no measurement: {text}"));
        };
        Ok(Measured { bytes, nanoseconds, cpu_us, switches, peak_kib })
    }
}

//! What is counted while packets move: six histograms and two stopwatches. Made once, written without allocation.

use hdrhistogram::Histogram;

use super::latency::{Distribution, Latency};
use super::transfer::Backpressure;
use crate::limits::LATENCY_NS_MAX;

/// A stage of a packet's journey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Read,
    Queue,
    Send,
    Reorder,
    Write,
    EndToEnd,
}

/// How long packets took, stage by stage, in nanoseconds. Three significant digits, up to one hour.
#[derive(Debug, Clone)]
pub struct Histograms {
    /// Reading a packet from the device.
    pub read: Histogram<u64>,
    /// From the end of its read until it is handed to a socket.
    pub queue: Histogram<u64>,
    /// From being handed to the socket until the socket has taken it.
    pub send: Histogram<u64>,
    /// From its arrival until it is the next packet of its device.
    pub reorder: Histogram<u64>,
    /// Writing a packet into the device.
    pub write: Histogram<u64>,
    /// From the start of the read at the source to the end of the write at the destination.
    pub end_to_end: Histogram<u64>,
}

impl Default for Histograms {
    fn default() -> Histograms {
        Histograms::up_to(LATENCY_NS_MAX)
    }
}

impl Histograms {
    fn up_to(latency_max: u64) -> Histograms {
        let empty = || {
            Histogram::new_with_bounds(1, latency_max, 3).expect("the bounds are constants that fit together")
        };
        Histograms {
            read: empty(),
            queue: empty(),
            send: empty(),
            reorder: empty(),
            write: empty(),
            end_to_end: empty(),
        }
    }
}

impl Histograms {
    fn stage_mut(&mut self, stage: Stage) -> &mut Histogram<u64> {
        match stage {
            Stage::Read => &mut self.read,
            Stage::Queue => &mut self.queue,
            Stage::Send => &mut self.send,
            Stage::Reorder => &mut self.reorder,
            Stage::Write => &mut self.write,
            Stage::EndToEnd => &mut self.end_to_end,
        }
    }

    /// Summarises them, with the whole of each.
    pub fn latency(&self) -> Latency {
        Latency {
            read: Distribution::of(&self.read),
            queue: Distribution::of(&self.queue),
            send: Distribution::of(&self.send),
            reorder: Distribution::of(&self.reorder),
            write: Distribution::of(&self.write),
            end_to_end: Distribution::of(&self.end_to_end),
        }
    }
}

/// Measures how often and for how long a condition held.
#[derive(Debug, Clone, Copy, Default)]
struct Stopwatch {
    since: Option<u64>,
    times: u64,
    total_ns: u64,
}

impl Stopwatch {
    fn see(&mut self, holds: bool, now: u64) {
        match (holds, self.since) {
            (true, None) => {
                self.since = Some(now);
                self.times += 1;
            }
            (false, Some(since)) => {
                self.since = None;
                self.total_ns += now.saturating_sub(since);
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
}

impl Stopwatch {
    fn so_far(&self, now: u64) -> u64 {
        self.total_ns + self.since.map_or(0, |since| now.saturating_sub(since))
    }
}

/// Records one side of one transfer.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) histograms: Histograms,
    credit: Stopwatch,
    pool: Stopwatch,
}

impl Recorder {
    /// For a transfer that did not begin: it takes hardly any memory, of which there may be too little.
    pub(crate) fn unused() -> Recorder {
        Recorder {
            histograms: Histograms::up_to(2),
            credit: Stopwatch::default(),
            pool: Stopwatch::default(),
        }
    }

    pub(crate) fn record(&mut self, stage: Stage, from: u64, to: u64) {
        self.histograms.stage_mut(stage).saturating_record(to.saturating_sub(from));
    }

    /// Whether packets wait for the receiver's credit.
    pub(crate) fn see_credit_stall(&mut self, holds: bool, now: u64) {
        self.credit.see(holds, now);
    }

    /// Whether a read waits for a free slot.
    pub(crate) fn see_pool_stall(&mut self, holds: bool, now: u64) {
        self.pool.see(holds, now);
    }

    /// How long packets waited for credit so far, and reads for a slot.
    pub(crate) fn stalled_ns(&self, now: u64) -> (u64, u64) {
        (self.credit.so_far(now), self.pool.so_far(now))
    }

    pub(crate) fn backpressure(&mut self, now: u64) -> Backpressure {
        self.credit.see(false, now);
        self.pool.see(false, now);
        Backpressure {
            credit_stalls: self.credit.times,
            pool_stalls: self.pool.times,
            stalled_ns: self.credit.total_ns + self.pool.total_ns,
            credit_stalled_ns: self.credit.total_ns,
            pool_stalled_ns: self.pool.total_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_each_stage_apart() {
        let mut recorder = Recorder::default();
        recorder.record(Stage::Read, 100, 350);
        recorder.record(Stage::Write, 0, u64::MAX);
        let latency = recorder.histograms.latency();
        assert_eq!((latency.read.count, latency.read.min, latency.read.max), (1, 250, 250));
        assert_eq!(latency.write.count, 1);
        assert_eq!(latency.send, Distribution::default());
    }

    #[test]
    fn a_stall_counts_once_however_often_it_is_seen() {
        let mut recorder = Recorder::default();
        for (holds, now) in [(true, 10), (true, 15), (false, 30), (false, 40), (true, 50)] {
            recorder.see_credit_stall(holds, now);
        }
        recorder.see_pool_stall(true, 55);
        assert_eq!(recorder.stalled_ns(58), (20 + 8, 3));
        let seen = recorder.backpressure(60);
        assert_eq!((seen.credit_stalls, seen.pool_stalls, seen.stalled_ns), (2, 1, 20 + 10 + 5));
        assert_eq!((seen.credit_stalled_ns, seen.pool_stalled_ns), (20 + 10, 5));
    }
}

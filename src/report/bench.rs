//! The report of a bench: one object, schema `ringlift.bench.v1` (`docs/bench.schema.json`). Units are in the names. It
//! must not know how the transfers were run or how figures are summed up: it holds them.

use serde::{Deserialize, Serialize};

use super::host::HostDetails;
use super::latency::{Distribution, Latency};
use super::schema::{Document, Schema};
use super::transfer::{Checksum, ZeroCopy};

/// Transfers over a matrix of settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    /// Always `ringlift.bench.v1`.
    pub schema: Schema<BenchReport>,
    /// What the order inside the rounds was drawn from.
    pub seed: u64,
    /// Rounds that were measured from beginning to end, or the fewest transfers of a cell at a rate; one more came first and
    /// was not counted.
    pub rounds: u64,
    /// Whether all rounds that were asked for were measured.
    pub complete: bool,
    /// The state of each device in bytes.
    pub size: u64,
    /// What the state was read from.
    pub source: BenchSource,
    /// Where it was sent to.
    pub to: String,
    /// Transfers that were due each second, of one cell at a time; absent where each began when the one before had ended.
    pub rate_per_s: Option<f64>,
    /// Where the sender ran.
    pub host: HostDetails,
    /// In the order of the options, the first one slowest.
    pub cells: Vec<BenchCell>,
}

impl Document for BenchReport {
    const SCHEMA: &'static str = "ringlift.bench.v1";
}

/// What a bench reads its state from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BenchSource {
    /// No content at all.
    Null,
    /// Generated content.
    Synthetic,
}

/// One combination of settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchCell {
    /// Number of devices.
    pub devices: u16,
    /// Number of data connections.
    pub channels: u16,
    /// Largest amount of state in one packet.
    pub packet_size: u32,
    /// How payloads were checked.
    pub checksum: Checksum,
    /// How sends used the registered buffers.
    pub zero_copy: ZeroCopy,
    /// The congestion control that was asked for; absent for that of the host.
    pub congestion: Option<String>,
    /// Bytes over time, of each transfer.
    pub throughput_bytes_per_s: BenchFigure,
    /// From the agreement on settings to the end, of each transfer.
    pub duration_ns: BenchFigure,
    /// Processor time of the sender for a GiB; absent where it is unknown.
    pub sender_cpu_ns_per_gib: Option<BenchFigure>,
    /// The same of the receiver, as it reported it.
    pub receiver_cpu_ns_per_gib: Option<BenchFigure>,
    /// The most memory that the sender's process had in use during one of the transfers; absent where it is unknown.
    pub sender_peak_rss_bytes: Option<u64>,
    /// The same of the receiver, as it reported it.
    pub receiver_peak_rss_bytes: Option<u64>,
    /// Times that a packet waited for the receiver's credit, in all transfers.
    pub credit_stalls: u64,
    /// Times that a read waited for a free slot, in all transfers.
    pub pool_stalls: u64,
    /// How long packets took in all transfers together: the sender's stages, and the receiver's where it reported them.
    pub latency_ns: Latency,
    /// How the transfers kept to their rate; absent where there was none.
    pub open_loop: Option<BenchOpenLoop>,
}

/// Transfers that were due at a steady rate, by the clock of the program that began them: connecting and the exchange of
/// reports are included.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BenchOpenLoop {
    /// Transfers that began each second; absent for a single one.
    pub achieved_per_s: Option<f64>,
    /// Whether the last transfer began before another one would have been due.
    pub kept: bool,
    /// From the start of each transfer to its end.
    pub service_ns: Distribution,
    /// From when each transfer was due to its end.
    pub response_ns: Distribution,
}

/// A figure that was measured several times.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BenchFigure {
    /// The middle value; 0 when there is none.
    pub median: f64,
    /// Half the distance between the quartiles, as a share of the median.
    pub spread: f64,
    /// Where the interval begins that holds the true median with 95 % certainty or more; absent for fewer than six values.
    pub low: Option<f64>,
    /// Where it ends.
    pub high: Option<f64>,
    /// Round by round.
    pub values: Vec<f64>,
}

impl Latency {
    /// The distributions of several transfers, as those of one: reading to sending of the first of each pair, and what
    /// follows of the second.
    pub fn merged<'a>(pairs: impl Iterator<Item = (&'a Latency, Option<&'a Latency>)> + Clone) -> Latency {
        let sent = |stage: fn(&Latency) -> &Distribution| {
            Distribution::merged(pairs.clone().map(|(sender, _)| stage(sender)))
        };
        let received = |stage: fn(&Latency) -> &Distribution| {
            Distribution::merged(pairs.clone().filter_map(|(_, receiver)| receiver.map(stage)))
        };
        Latency {
            read: sent(|latency| &latency.read),
            queue: sent(|latency| &latency.queue),
            send: sent(|latency| &latency.send),
            reorder: received(|latency| &latency.reorder),
            write: received(|latency| &latency.write),
            end_to_end: received(|latency| &latency.end_to_end),
        }
    }
}

//! The report of a search for settings: one object, schema `ringlift.tune.v1` (`docs/tune.schema.json`). Units are in
//! the names. It must not know how settings are searched: it holds what was found.

use serde::{Deserialize, Serialize};

use super::bench::BenchFigure;
use super::header::shown_as_written;
use super::host::HostDetails;
use super::schema::{Document, Schema};
use super::transfer::ZeroCopy;

/// The best settings of a path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TuneReport {
    /// Always `ringlift.tune.v1`.
    pub schema: Schema<TuneReport>,
    /// What the order inside the rounds was drawn from.
    pub seed: u64,
    /// The time that was allowed.
    pub budget_ns: u64,
    /// The time that it took.
    pub duration_ns: u64,
    /// Whether it ended by itself: not by a signal or an error.
    pub complete: bool,
    /// Where state was sent to.
    pub to: String,
    /// Number of devices.
    pub devices: u16,
    /// The state of each device, in bytes, in the transfers that were compared last.
    pub size: u64,
    /// Transfers that were measured.
    pub transfers: u64,
    /// Where the sender ran.
    pub host: HostDetails,
    /// Where the receiver ran; absent where it did not tell.
    pub peer_host: Option<HostDetails>,
    /// What to use.
    pub verdict: TuneVerdict,
    /// The settings to use.
    pub settings: TunedSettings,
    /// The same as a command of the sender; devices are to be put in.
    pub send_command: String,
    /// The same of the receiver.
    pub recv_command: String,
    /// The best settings against the defaults; absent when nothing was faster in the search.
    pub duel: Option<TuneDuel>,
    /// A gain over the defaults that may have been overlooked, as a share: 0.1 is 10 %. Absent where it is not known.
    pub overlooked: Option<f64>,
    /// How the pool follows from the path.
    pub pool: TunedPool,
    /// What holds the settings to use back.
    pub bound: TuneBound,
    /// Everything that was measured, in the order in which it was tried.
    pub trials: Vec<TuneTrial>,
    /// What could not be tried, or was not worth it.
    pub skipped: Vec<TuneSkipped>,
}

impl Document for TuneReport {
    const SCHEMA: &'static str = "ringlift.tune.v1";
}

/// What to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TuneVerdict {
    /// Other settings than the defaults: they are faster.
    Tuned,
    /// The defaults: nothing was shown to be faster.
    Defaults,
    /// The defaults, for lack of time to find out.
    Undecided,
}

/// Settings of a sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunedSettings {
    /// Number of data connections.
    pub channels: u16,
    /// Largest amount of state in one packet, in bytes.
    pub packet_size: u32,
    /// How sends use the registered buffers.
    pub zero_copy: ZeroCopy,
    /// The congestion control; absent for that of the host.
    pub congestion: Option<String>,
    /// Bytes of the pool.
    pub pool: u64,
}

/// Two settings in alternating rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TuneDuel {
    /// What was measured against the defaults.
    pub contender: TunedSettings,
    /// Rounds, each with a transfer of both.
    pub rounds: u64,
    /// The contender's rate to that of the defaults: 1.1 is 10 % faster.
    pub ratio: f64,
    /// Where the ratio's interval begins, of 95 %; absent where there are too few rounds.
    pub low: Option<f64>,
    /// Where it ends; absent likewise.
    pub high: Option<f64>,
}

/// How large a pool the path needs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TunedPool {
    /// The rate of the settings to use.
    pub rate_bytes_per_s: f64,
    /// The round trip under this load; absent where it is not known.
    pub rtt_us: Option<f64>,
    /// The product of both.
    pub in_flight_bytes: u64,
    /// The pool to use: twice as much, and no less than the default.
    pub bytes: u64,
    /// What the path needs is more than this bound, in bytes; absent when it is not.
    pub bounded_by: Option<u64>,
}

/// What holds a transfer back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TuneBound {
    /// Which part.
    pub kind: TuneBoundKind,
    /// As it is printed.
    pub text: String,
    /// The share of the time in which the sender's worker used a processor; absent where it is not known.
    pub sender_busy: Option<f64>,
    /// The same of the receiver's.
    pub receiver_busy: Option<f64>,
    /// What the slower network card carries; absent where it does not say.
    pub link_bytes_per_s: Option<f64>,
}

/// Part of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TuneBoundKind {
    /// The network card's rate.
    Link,
    /// One processor of the sender: its worker's.
    SenderProcessor,
    /// One processor of the receiver.
    ReceiverProcessor,
    /// All processors of a host that both sides share.
    Processors,
    /// What the receiver's socket has room for, in each round trip.
    ReceiveWindow,
    /// What the sender's socket has room for, in each round trip.
    SendBuffer,
    /// What congestion control lets out, in each round trip.
    CongestionWindow,
    /// None that can be named.
    Unknown,
}

/// Settings that were measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TuneTrial {
    /// What they were tried for.
    pub stage: TuneStage,
    /// The settings.
    pub settings: TunedSettings,
    /// Bytes over time, of each transfer.
    pub throughput_bytes_per_s: BenchFigure,
    /// Why they cannot be used; absent when they can.
    pub failed: Option<String>,
}

/// What settings are tried for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TuneStage {
    /// The defaults, or with the pool that the path needs.
    Probe,
    /// The congestion control.
    Congestion,
    /// The number of data connections.
    Channels,
    /// Zero-copy.
    ZeroCopy,
    /// The packet size.
    PacketSize,
}

/// What was not measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TuneSkipped {
    /// The settings, or the kind of them.
    pub what: String,
    /// Why.
    pub why: String,
}

shown_as_written!(TuneVerdict, TuneBoundKind, TuneStage);

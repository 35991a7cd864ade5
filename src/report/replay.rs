//! The report of a replay: one object, schema `ringlift.replay.v1` (`docs/replay.schema.json`). Units are in the names.

use serde::{Deserialize, Serialize};

use super::header::{ErrorReport, Host, HugePages, Warning, shown_as_written};
use super::schema::{Document, Schema};
use super::stream::{AnswerReport, CapturedDevice, StreamOutcome};

/// The report of one replay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplayReport {
    /// Always `ringlift.replay.v1`.
    pub schema: Schema<ReplayReport>,
    /// How it ended.
    pub outcome: StreamOutcome,
    /// Why it is not complete.
    pub error: Option<ErrorReport>,
    /// The destination's address.
    pub peer: String,
    /// The machine type that the capture names.
    pub machine: Option<String>,
    /// The virtual machine's UUID, as the multifd connections state it; absent without any.
    pub uuid: Option<String>,
    /// All bytes that were sent.
    pub bytes: u64,
    /// From the first byte that could be sent to the end.
    pub duration_ns: u64,
    /// `bytes` over the time until the last of them was sent.
    pub throughput_bytes_per_s: f64,
    /// From sending SWITCHOVER_START to sending the last of all devices' state; absent unless both were sent.
    pub switchover_ns: Option<u64>,
    /// From SWITCHOVER_START to the destination's SHUT; absent unless both occurred.
    pub shut_ns: Option<u64>,
    /// The main connection.
    pub main: ReplayedConnection,
    /// The multifd connections, by their numbers.
    pub channels: Vec<ReplayedConnection>,
    /// Devices, in the order of the capture. Counts are those of the capture, times are those of the replay.
    pub devices: Vec<CapturedDevice>,
    /// What the destination answered on the return path, in order.
    pub answers: Vec<AnswerReport>,
    /// What was in effect.
    pub settings: ReplaySettings,
    /// Where it ran.
    pub host: Host,
    /// What the reader must know to interpret the numbers.
    pub warnings: Vec<Warning>,
}

impl Document for ReplayReport {
    const SCHEMA: &'static str = "ringlift.replay.v1";
}

/// A connection of a replay.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ReplayedConnection {
    /// A multifd connection's number; absent for the main one.
    pub id: Option<u64>,
    /// Bytes that were sent.
    pub bytes: u64,
    /// Bytes of this connection in the capture.
    pub captured_bytes: u64,
    /// `bytes` over the time from the first of them to the last.
    pub throughput_bytes_per_s: f64,
    /// Packets of device state on this connection in the capture.
    pub device_packets: u64,
    /// Barriers on this connection in the capture.
    pub sync: u64,
}

/// What was in effect.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReplaySettings {
    /// Multifd connections.
    pub channels: u64,
    /// How fast it was played.
    pub pace: ReplayPace,
    /// Bytes of the pool.
    pub pool: u64,
    /// Number of buffers in the pool.
    pub pool_slots: u64,
    /// Congestion control of the connections, as the kernel reports it.
    pub congestion: String,
    /// What kind of memory backs the pool.
    pub huge_pages: HugePages,
    /// Whether the pool is registered with the ring.
    pub registered_buffers: bool,
}

/// How fast a capture was played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayPace {
    /// As fast as the destination accepted it.
    #[default]
    Full,
    /// Each byte no earlier, relative to the start, than it was recorded.
    Recorded,
}

shown_as_written!(ReplayPace);

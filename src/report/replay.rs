//! What a capture's replay was: one object, schema `ringlift.replay.v1` (`docs/replay.schema.json`). Units are in the names.

use serde::{Deserialize, Serialize};

use super::header::{ErrorReport, Host, HugePages, Warning, shown_as_written};
use super::schema::{Document, Schema};
use super::stream::{AnswerReport, CapturedDevice, StreamOutcome};

/// The account of one replay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplayReport {
    /// Always `ringlift.replay.v1`.
    pub schema: Schema<ReplayReport>,
    /// How it ended.
    pub outcome: StreamOutcome,
    /// Why it did not end complete.
    pub error: Option<ErrorReport>,
    /// The destination's address.
    pub peer: String,
    /// The machine type that the capture names.
    pub machine: Option<String>,
    /// The virtual machine's UUID, as the multifd connections name it; absent without such.
    pub uuid: Option<String>,
    /// All bytes that were sent.
    pub bytes: u64,
    /// From the first byte that could be sent to the end.
    pub duration_ns: u64,
    /// `bytes` over the time to the last of them.
    pub throughput_bytes_per_s: f64,
    /// From SWITCHOVER_START to the last of all devices' state, as it was sent; absent without both.
    pub switchover_ns: Option<u64>,
    /// From SWITCHOVER_START to the destination's SHUT; absent without both.
    pub shut_ns: Option<u64>,
    /// The main connection.
    pub main: ReplayedConnection,
    /// The multifd connections, by their numbers.
    pub channels: Vec<ReplayedConnection>,
    /// Devices, in the order in which the capture has them. Counts are those of the capture, times those of the sending.
    pub devices: Vec<CapturedDevice>,
    /// What the destination answered on the return path, in order.
    pub answers: Vec<AnswerReport>,
    /// What was in effect.
    pub settings: ReplaySettings,
    /// Where it ran.
    pub host: Host,
    /// What a reader of the numbers must know.
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
    /// Bytes that the capture has.
    pub captured_bytes: u64,
    /// `bytes` over the time from the first of them to the last.
    pub throughput_bytes_per_s: f64,
    /// Packets of device state that the capture has there.
    pub device_packets: u64,
    /// Barriers that the capture has there.
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
    /// Buffers that the pool holds.
    pub pool_slots: u64,
    /// Of the connections, as the kernel says.
    pub congestion: String,
    /// What the pool lies on.
    pub huge_pages: HugePages,
    /// Whether the pool is registered with the ring.
    pub registered_buffers: bool,
}

/// How fast a capture was played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayPace {
    /// As fast as the destination took it.
    #[default]
    Full,
    /// No byte before the time at which it had come.
    Recorded,
}

shown_as_written!(ReplayPace);

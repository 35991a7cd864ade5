//! What a capture's replay was: one object, schema `ringlift.replay.v1` (`docs/replay.schema.json`). Units are in the names.

#[cfg(feature = "cli")]
use serde::Serialize;

use super::capture::{AnswerReport, CapturedDevice};
use super::transfer::{ErrorReport, Host, Warning};

/// The account of one replay.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "cli", derive(Serialize))]
pub struct ReplayReport {
    /// Always `ringlift.replay.v1`.
    pub schema: &'static str,
    /// `complete`, `failed` or `cancelled`.
    pub outcome: &'static str,
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

/// A connection of a replay.
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(feature = "cli", derive(Serialize))]
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(Serialize))]
pub struct ReplaySettings {
    /// Multifd connections.
    pub channels: u64,
    /// `full` or `recorded`.
    pub pace: &'static str,
    /// Bytes of the pool.
    pub pool: u64,
    /// Buffers that the pool holds.
    pub pool_slots: u64,
    /// Of the connections, as the kernel says.
    pub congestion: String,
    /// Whether the pool lies on huge pages: `explicit`, `transparent` or `none`.
    pub huge_pages: &'static str,
    /// Whether the pool is registered with the ring.
    pub registered_buffers: bool,
}

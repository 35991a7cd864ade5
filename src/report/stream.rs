//! What the reports of a recorded and of a replayed stream have in common: the outcome, the devices and the answers.

use serde::{Deserialize, Serialize};

use super::header::shown_as_written;

/// How recording or replaying a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamOutcome {
    /// All of the stream arrived, or was accepted.
    Complete,
    /// Something is missing or went wrong.
    Failed,
    /// The caller ended it.
    Cancelled,
}

/// A device whose state arrived.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CapturedDevice {
    /// Its name.
    pub idstr: String,
    /// Its instance.
    pub instance: u32,
    /// Packets on multifd connections, config packet included.
    pub packets: u64,
    /// Their bytes of state.
    pub data_bytes: u64,
    /// Bytes of the config packet's state.
    pub config_bytes: u64,
    /// Bytes on the main connection while the device ran.
    pub precopy_bytes: u64,
    /// Bytes on the main connection after it stopped; only when its state does not travel on multifd connections.
    pub stopcopy_bytes: u64,
    /// From SWITCHOVER_START to the last of its state; absent unless both occurred.
    pub switchover_ns: Option<u64>,
}

/// Kinds of message on the return path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The answer to a ping.
    Pong,
    /// The source may switch over.
    SwitchoverAck,
    /// The final message: whether the migration was accepted.
    Shut,
    /// Any other message.
    Other,
}

/// A message on the return path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerReport {
    /// The kind of message.
    pub message: Answer,
    /// Its value, if it has one: the number of the ping, or 0 for a migration that was accepted.
    pub value: Option<u32>,
    /// When, counted from the first byte.
    pub at_ns: u64,
}

shown_as_written!(StreamOutcome, Answer);

//! What moved when, in intervals. It must not know where the figures come from.

use serde::{Deserialize, Serialize};

/// What happened in one stretch of a transfer. Times are counted from the agreement on settings, as the duration is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Interval {
    /// Its begin.
    pub begin_ns: u64,
    /// Its end, where the next begins.
    pub end_ns: u64,
    /// Payload bytes of each device: read (sender), or written (receiver).
    pub device_bytes: Vec<u64>,
    /// Payload bytes of each data connection.
    pub channel_bytes: Vec<u64>,
    /// How long packets waited for the receiver's credit.
    pub credit_stall_ns: u64,
    /// How long a read waited for a free slot.
    pub pool_stall_ns: u64,
    /// Bytes given to sockets whose memory was not free again at its end; of several intervals in one, the most.
    pub in_flight_bytes: u64,
    /// Packets that had come and were not written at its end; of several intervals in one, the most.
    pub reorder_depth: u64,
    /// Processor time of the process.
    pub cpu_ns: u64,
    /// Segments that TCP sent again.
    pub retransmits: u64,
}

//! What became of each packet of a transfer, and when: more than a report has, and only where a caller asked for it.
//!
//! [`Trace::write`] writes it in the Trace Event Format, which Perfetto and Chrome show, together with the report of the same
//! transfer. This module must not know where packets travel. The invariant: times are those of the report, nanoseconds since the
//! agreement on settings.

mod event;
mod join;
mod recording;
mod side;
mod write;

pub use event::{TraceAbout, TraceArgs, TraceEvent, TraceFile, TracePh, TraceSide};
pub use join::join;
pub(crate) use recording::{Label, Recording, Tracer};

use self::recording::Packet;
use crate::phase::Phase;
use crate::time::Nanos;

/// The packets of one side of a transfer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// For how many packets there was room.
    capacity: usize,
    /// Packets that were recorded and are not here, because later ones took their place.
    dropped: u64,
    packets: Vec<Packet>,
    /// The place of the packet that was recorded first, where later ones took the place of others.
    first: usize,
    phases: Vec<(Phase, Nanos)>,
    /// When the settings were agreed on.
    zero: Nanos,
}

/// One packet on one side, with what is known of it. Times are nanoseconds since the agreement on settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TracedPacket {
    /// Its device, by its place in the report's `devices`.
    pub device: u64,
    /// Its number among the device's packets.
    pub idx: u64,
    /// It is the device's config state.
    pub config: bool,
    /// Bytes of payload.
    pub bytes: u64,
    /// The data connection, by its place in the report's `channels`. None had it yet, or it came on another connection.
    pub channel: Option<u64>,
    /// Reading it from the device (sender).
    pub read: Option<TraceSpan>,
    /// From when it was ready to be sent until a channel took it (sender).
    pub queue: Option<TraceSpan>,
    /// From being handed to the socket until the socket had taken it (sender).
    pub send: Option<TraceSpan>,
    /// Receiving its payload (receiver).
    pub receive: Option<TraceSpan>,
    /// From its arrival until it was the next packet of its device (receiver).
    pub reorder: Option<TraceSpan>,
    /// Writing it into the device, or taking in the config state (receiver).
    pub write: Option<TraceSpan>,
    /// What was counted when it was handed to its socket (sender) or had arrived (receiver).
    pub sample: Option<TraceSample>,
}

/// When something began, and when it ended unless the transfer ended before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceSpan {
    /// When it began.
    pub begin_ns: u64,
    /// When it ended.
    pub end_ns: Option<u64>,
}

/// What was counted at one moment of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceSample {
    /// When.
    pub at_ns: u64,
    /// Free slots of the pool.
    pub free_slots: u64,
    /// Payload bytes that sockets had been given and whose slots were not free again (sender).
    pub in_flight_bytes: Option<u64>,
    /// Packets of this device that the receiver would still take (sender).
    pub credit: Option<u64>,
    /// Packets of all devices that had arrived and were not written (receiver).
    pub reorder_depth: Option<u64>,
}

impl Trace {
    /// The packets, in the order in which this side was done with them.
    pub fn packets(&self) -> impl Iterator<Item = TracedPacket> {
        let (late, early) = self.packets.split_at(self.first);
        early.iter().chain(late).map(|packet| packet.since(self.zero))
    }

    /// For how many packets there was room.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Packets that are not here: there was no room for all, and the oldest had to go.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The phases of the transfer in order, each with the nanoseconds since the agreement on settings at which it began.
    pub fn phases(&self) -> impl Iterator<Item = (Phase, u64)> {
        self.phases.iter().map(|&(phase, at)| (phase, at.saturating_sub(self.zero)))
    }
}

//! The report of a recorded migration: one object, schema `ringlift.capture.v1` (`docs/capture.schema.json`). Units are
//! in the names.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::header::{ErrorReport, Host, HugePages, Warning};
use super::quantiles::Quantiles;
use super::schema::{Document, Schema};
use super::stream::{AnswerReport, CapturedDevice, StreamOutcome};
use crate::limits::LATENCY_NS_MAX;

/// The report of one recorded migration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaptureReport {
    /// Always `ringlift.capture.v1`.
    pub schema: Schema<CaptureReport>,
    /// How it ended.
    pub outcome: StreamOutcome,
    /// Why it is not complete.
    pub error: Option<ErrorReport>,
    /// The folder that it was recorded to; absent when nothing was kept.
    pub folder: Option<String>,
    /// The source's address.
    pub peer: Option<String>,
    /// The machine type, as the source names it.
    pub machine: Option<String>,
    /// The virtual machine's UUID, as the multifd connections state it; absent without any.
    pub uuid: Option<String>,
    /// All bytes of all connections.
    pub bytes: u64,
    /// From the first byte to the end.
    pub duration_ns: u64,
    /// `bytes` over the time from the first byte to the last.
    pub throughput_bytes_per_s: f64,
    /// From SWITCHOVER_START to the last of all devices' state; absent unless both came.
    pub switchover_ns: Option<u64>,
    /// The main connection.
    pub main: MainReport,
    /// The multifd connections, by their numbers.
    pub channels: Vec<MultifdReport>,
    /// Devices, in the order in which they first appeared.
    pub devices: Vec<CapturedDevice>,
    /// Packets of device state, and those of RAM.
    pub packets: PacketsReport,
    /// Messages sent on the return path, in order.
    pub answers: Vec<AnswerReport>,
    /// What was in effect.
    pub settings: CaptureSettings,
    /// Where it ran.
    pub host: Host,
    /// What the reader must know to interpret the numbers.
    pub warnings: Vec<Warning>,
}

impl Document for CaptureReport {
    const SCHEMA: &'static str = "ringlift.capture.v1";
}

/// The main connection of a migration.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MainReport {
    /// Its bytes.
    pub bytes: u64,
    /// `bytes` over the time from its first byte to its last.
    pub throughput_bytes_per_s: f64,
    /// Flags that pair with a SYNC packet on each multifd connection.
    pub flushes: u64,
    /// Whether the source opened the return path.
    pub return_path: bool,
    /// Whether its stream came to its end.
    pub ended: bool,
}

/// A multifd connection.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MultifdReport {
    /// Its number.
    pub id: u64,
    /// Its bytes.
    pub bytes: u64,
    /// `bytes` over the time from its first byte to its last.
    pub throughput_bytes_per_s: f64,
    /// Packets of every kind.
    pub packets: u64,
    /// Of these, those with device state.
    pub device_packets: u64,
    /// Of these, the others: RAM and SYNC.
    pub ram_packets: u64,
    /// Of these, the barriers.
    pub sync: u64,
    /// Pages of RAM that came with their bytes.
    pub normal_pages: u64,
    /// Pages of RAM that are zero.
    pub zero_pages: u64,
}

/// Packets, by what is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PacketsReport {
    /// Those of device state.
    pub device: PacketReport,
    /// Those of RAM, and SYNC.
    pub ram: PacketReport,
}

/// Packets of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PacketReport {
    /// Their sizes, header and payload.
    pub size_bytes: Quantiles,
    /// Time since the end of the previous packet on the same connection.
    pub interarrival_ns: Quantiles,
}

/// What was in effect.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CaptureSettings {
    /// Multifd connections.
    pub channels: u64,
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

/// The distributions behind a [`PacketsReport`].
#[derive(Debug, Clone)]
pub struct PacketHistograms {
    /// Sizes of packets of device state, in bytes.
    pub device_sizes: Histogram<u64>,
    /// Nanoseconds between packets of device state.
    pub device_interarrival: Histogram<u64>,
    /// Sizes of packets of RAM, in bytes.
    pub ram_sizes: Histogram<u64>,
    /// Nanoseconds between packets of RAM.
    pub ram_interarrival: Histogram<u64>,
}

impl PacketHistograms {
    /// For packets of at most `size_max` bytes.
    pub(crate) fn up_to(size_max: u64) -> PacketHistograms {
        let empty =
            |max| Histogram::new_with_bounds(1, max, 3).expect("the bounds are constants that fit together");
        PacketHistograms {
            device_sizes: empty(size_max),
            device_interarrival: empty(LATENCY_NS_MAX),
            ram_sizes: empty(size_max),
            ram_interarrival: empty(LATENCY_NS_MAX),
        }
    }

    /// A packet of device state.
    pub(crate) fn device(&mut self, size: u64, after_ns: Option<u64>) {
        self.device_sizes.saturating_record(size);
        after_ns.into_iter().for_each(|ns| self.device_interarrival.saturating_record(ns));
    }

    /// A packet of RAM, or a SYNC.
    pub(crate) fn ram(&mut self, size: u64, after_ns: Option<u64>) {
        self.ram_sizes.saturating_record(size);
        after_ns.into_iter().for_each(|ns| self.ram_interarrival.saturating_record(ns));
    }

    /// Summarises them as quantiles.
    pub fn packets(&self) -> PacketsReport {
        let report = |sizes, interarrival| PacketReport {
            size_bytes: Quantiles::of(sizes),
            interarrival_ns: Quantiles::of(interarrival),
        };
        PacketsReport {
            device: report(&self.device_sizes, &self.device_interarrival),
            ram: report(&self.ram_sizes, &self.ram_interarrival),
        }
    }
}

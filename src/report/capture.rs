//! What a recorded migration was: one object, schema `ringlift.capture.v1` (`docs/capture.schema.json`). Units are in the
//! names.

use hdrhistogram::Histogram;
#[cfg(feature = "cli")]
use serde::Serialize;

use super::recorder::stage_latency;
use super::transfer::{ErrorReport, Host, StageLatency, Warning};
use crate::limits::{LATENCY_NS_MAX, QEMU_STATE_MAX};

/// The account of one recorded migration.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "cli", derive(Serialize))]
pub struct CaptureReport {
    /// Always `ringlift.capture.v1`.
    pub schema: &'static str,
    /// `complete`, `failed` or `cancelled`.
    pub outcome: &'static str,
    /// Why it did not end complete.
    pub error: Option<ErrorReport>,
    /// The folder that it was recorded to; absent when nothing was kept.
    pub folder: Option<String>,
    /// The source's address.
    pub peer: Option<String>,
    /// The machine type, as the source names it.
    pub machine: Option<String>,
    /// The virtual machine's UUID, as the multifd connections name it; absent without such.
    pub uuid: Option<String>,
    /// All bytes of all connections.
    pub bytes: u64,
    /// From the first byte to the end.
    pub duration_ns: u64,
    /// `bytes` over the time from the first byte to the last.
    pub throughput_bytes_per_s: f64,
    /// From SWITCHOVER_START to the last of all devices' state; absent without both.
    pub switchover_ns: Option<u64>,
    /// The main connection.
    pub main: MainReport,
    /// The multifd connections, by their numbers.
    pub channels: Vec<MultifdReport>,
    /// Devices, in the order in which they were heard of.
    pub devices: Vec<CapturedDevice>,
    /// Packets of device state, and those of RAM.
    pub packets: PacketsReport,
    /// What was answered on the return path, in order.
    pub answers: Vec<AnswerReport>,
    /// What was in effect.
    pub settings: CaptureSettings,
    /// Where it ran.
    pub host: Host,
    /// What a reader of the numbers must know.
    pub warnings: Vec<Warning>,
}

/// The main connection of a migration.
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(feature = "cli", derive(Serialize))]
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
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(feature = "cli", derive(Serialize))]
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

/// A device whose state came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(Serialize))]
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
    /// Bytes on the main connection after it stopped: where its state does not travel on multifd connections.
    pub stopcopy_bytes: u64,
    /// From SWITCHOVER_START to the last of its state; absent without both.
    pub switchover_ns: Option<u64>,
}

/// Packets, by what is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(Serialize))]
pub struct PacketsReport {
    /// Those of device state.
    pub device: PacketReport,
    /// Those of RAM, and SYNC.
    pub ram: PacketReport,
}

/// Packets of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(Serialize))]
pub struct PacketReport {
    /// Their sizes, header and payload.
    pub size_bytes: StageLatency,
    /// From the end of the packet before on the same connection to theirs.
    pub interarrival_ns: StageLatency,
}

/// A message on the return path.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(Serialize))]
pub struct AnswerReport {
    /// `pong`, `switchover_ack` or `shut`.
    pub message: &'static str,
    /// Its number, if it has one: of the ping, or 0 for a migration that was taken.
    pub value: Option<u32>,
    /// When, from the first byte on.
    pub at_ns: u64,
}

/// What was in effect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(Serialize))]
pub struct CaptureSettings {
    /// Multifd connections.
    pub channels: u64,
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

/// The distributions behind a [`PacketsReport`].
#[derive(Debug, Clone)]
pub struct PacketHistograms {
    /// Sizes of packets of device state, in bytes.
    pub device_sizes: Histogram<u64>,
    /// Nanoseconds from packet to packet of device state.
    pub device_interarrival: Histogram<u64>,
    /// Sizes of packets of RAM, in bytes.
    pub ram_sizes: Histogram<u64>,
    /// Nanoseconds from packet to packet of RAM.
    pub ram_interarrival: Histogram<u64>,
}

impl Default for PacketHistograms {
    fn default() -> PacketHistograms {
        let up_to =
            |max| Histogram::new_with_bounds(1, max, 3).expect("the bounds are constants that fit together");
        let (size, time) = (u64::from(QEMU_STATE_MAX) * 2, LATENCY_NS_MAX);
        PacketHistograms {
            device_sizes: up_to(size),
            device_interarrival: up_to(time),
            ram_sizes: up_to(size),
            ram_interarrival: up_to(time),
        }
    }
}

impl PacketHistograms {
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

    /// All of them in numbers.
    pub fn packets(&self) -> PacketsReport {
        let report = |sizes, interarrival| PacketReport {
            size_bytes: stage_latency(sizes),
            interarrival_ns: stage_latency(interarrival),
        };
        PacketsReport {
            device: report(&self.device_sizes, &self.device_interarrival),
            ram: report(&self.ram_sizes, &self.ram_interarrival),
        }
    }
}

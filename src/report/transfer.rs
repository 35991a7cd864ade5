//! What a transfer was: one object, schema `ringlift.report.v1` (`docs/report.schema.json`). Units are in the names.

#[cfg(feature = "cli")]
use serde::Serialize;

/// One side's account of one transfer.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "cli", derive(Serialize))]
pub struct Report {
    /// Always `ringlift.report.v1`.
    pub schema: &'static str,
    /// `sender` or `receiver`.
    pub role: &'static str,
    /// `complete`, `aborted` or `in_doubt`.
    pub outcome: &'static str,
    /// Why it did not end complete.
    pub error: Option<ErrorReport>,
    /// Payload bytes, config state included.
    pub bytes: u64,
    /// Packets, config packets included.
    pub packets: u64,
    /// From the agreement on settings to the end.
    pub duration_ns: u64,
    /// `bytes` over `duration_ns`.
    pub throughput_bytes_per_s: f64,
    /// What was in effect.
    pub settings: Settings,
    /// Where it ran.
    pub host: Host,
    /// In the order of the session.
    pub devices: Vec<DeviceReport>,
    /// In the order of their numbers.
    pub channels: Vec<ChannelReport>,
    /// How long packets took, stage by stage.
    pub latency_ns: Latency,
    /// What held the data back.
    pub backpressure: Backpressure,
    /// How long the devices stood still, phase by phase.
    pub downtime: Downtime,
    /// Fallbacks and other things that a reader of the numbers must know.
    pub warnings: Vec<Warning>,
}

/// Why a transfer did not end complete.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(Serialize))]
pub struct ErrorReport {
    /// The sentence.
    pub text: String,
    /// What to do.
    pub hint: Option<&'static str>,
}

/// What was in effect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(Serialize))]
pub struct Settings {
    /// Whose protocol was spoken: `native` or `qemu`.
    pub dialect: &'static str,
    /// Data connections.
    pub channels: u64,
    /// Most payload bytes of a packet.
    pub packet_size: u64,
    /// Bytes of the pool.
    pub pool: u64,
    /// Packets that the pool holds.
    pub pool_slots: u64,
    /// `crc32c` or `none`.
    pub checksum: &'static str,
    /// `off`, `on` or `auto`.
    pub zero_copy: &'static str,
    /// Of the data connections, as the kernel says.
    pub congestion: String,
    /// Whether the pool lies on huge pages: `explicit`, `transparent` or `none`.
    pub huge_pages: &'static str,
    /// Whether the pool is registered with the ring.
    pub registered_buffers: bool,
}

/// Where it ran.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(Serialize))]
pub struct Host {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// Processors that this process may use.
    pub cpus: u64,
    /// The version of ringlift.
    pub ringlift: &'static str,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(Serialize))]
pub struct DeviceReport {
    /// Its name.
    pub name: String,
    /// Its instance.
    pub instance: u32,
    /// Payload bytes, config state included.
    pub bytes: u64,
    /// Packets, config packet included.
    pub packets: u64,
    /// Of these bytes, those of the config state.
    pub config_bytes: u64,
    /// Of these bytes, those that were read before the device stopped. Counted by the sender; 0 at the receiver.
    pub precopy_bytes: u64,
    /// CRC32C of the whole state in order, as 8 hexadecimal digits; absent when payloads are not checked.
    pub crc32c: Option<String>,
}

/// One data connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(Serialize))]
pub struct ChannelReport {
    /// Its number.
    pub id: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Sends that left by SEND_ZC.
    pub zero_copy_sent: u64,
    /// Of these, those that the kernel says it copied all the same.
    pub zero_copy_copied: u64,
}

/// One stage's histogram in numbers, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(Serialize))]
pub struct StageLatency {
    /// Packets.
    pub count: u64,
    /// Shortest.
    pub min: u64,
    /// Half were shorter.
    pub p50: u64,
    /// Nine in ten were shorter.
    pub p90: u64,
    /// 99 in 100 were shorter.
    pub p99: u64,
    /// 999 in 1000 were shorter.
    pub p999: u64,
    /// Longest.
    pub max: u64,
}

/// How long packets took, stage by stage. A side that has no part in a stage counts 0 there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(Serialize))]
pub struct Latency {
    /// Reading a packet from the device.
    pub read: StageLatency,
    /// From read to handed to a socket.
    pub queue: StageLatency,
    /// From handed to the socket to taken by it.
    pub send: StageLatency,
    /// From arrived to its turn.
    pub reorder: StageLatency,
    /// Writing a packet into the device.
    pub write: StageLatency,
    /// From the read's begin at the source to the write's end at the destination; counted by the receiver when both
    /// sides share a clock.
    pub end_to_end: StageLatency,
}

/// What held the data back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(Serialize))]
pub struct Backpressure {
    /// Times that a packet waited for the receiver's credit.
    pub credit_stalls: u64,
    /// Times that a read waited for a free slot.
    pub pool_stalls: u64,
    /// How long any of the two held.
    pub stalled_ns: u64,
}

/// How long the devices stood still, as this side saw it; phases follow one another and add up to the total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(Serialize))]
pub struct Downtime {
    /// From the first device's stopping to the end (sender: Committed came; receiver: the devices run).
    pub total_ns: u64,
    /// Stopping the devices (sender).
    pub stop_ns: u64,
    /// Moving what was left of the state (sender: to its last byte sent; receiver: to its last byte written).
    pub transfer_ns: u64,
    /// Applying config state and making sure that everything was taken (receiver); waiting for that (sender).
    pub load_ns: u64,
    /// From Commit to running.
    pub commit_ns: u64,
}

/// Something that a reader of the numbers must know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(Serialize))]
pub struct Warning {
    /// Which.
    pub code: WarningCode,
    /// In words.
    pub text: String,
    /// What to do.
    pub hint: &'static str,
}

/// Kinds of warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "cli", derive(Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum WarningCode {
    /// The kernel copied sends that were meant to be zero-copy.
    ZeroCopyCopied,
    /// SEND_ZC is not to be had.
    ZeroCopyUnavailable,
    /// No huge pages.
    NoHugePages,
    /// The pool could not be registered.
    NoRegisteredBuffers,
    /// The two hosts' clocks cannot be compared.
    ClocksNotComparable,
    /// bbr on a link with a tiny round trip.
    CongestionControl,
    /// A device could not be brought back to where it was.
    RollbackFailed,
    /// A plain descriptor took bytes of a transfer that was aborted.
    CannotTakeBack,
    /// A device of a recorded migration had no state.
    DeviceSilent,
    /// The destination of a replay was asked for its word before the switchover, and said nothing.
    NotAcknowledged,
    /// Nothing but its end says that the destination took a replay.
    Unanswered,
    /// The ring lacks a feature of newer kernels.
    OldKernel,
}

//! The report of a transfer: one object, schema `ringlift.report.v2` (`docs/report.schema.json`). Units are in the
//! names. A document of version 1 is read as well: what it lacks is null, 0 or empty.

use serde::{Deserialize, Serialize};

use super::cost::Cost;
use super::header::{ErrorReport, HugePages, Role, Warning, shown_as_written};
use super::host::HostDetails;
use super::interval::Interval;
use super::latency::Latency;
use super::prediction::Prediction;
use super::run::{ClockOffset, PeerReport, RunInfo};
use super::schema::{Document, Schema};
use super::tcp::TcpReport;
use super::timeline::TimelineEntry;

/// One side's report of one transfer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Always `ringlift.report.v2`.
    pub schema: Schema<Report>,
    /// Which run of an experiment it belongs to, as its caller says.
    #[serde(default)]
    pub run: Option<RunInfo>,
    /// The session's id, 32 hexadecimal digits, the same on both sides; absent when there was no session.
    #[serde(default)]
    pub session: Option<String>,
    /// The other side's address; absent when there was no session.
    #[serde(default)]
    pub peer: Option<PeerReport>,
    /// Which side.
    pub role: Role,
    /// Which side runs the devices now.
    pub outcome: TransferOutcome,
    /// Why it is not complete.
    pub error: Option<ErrorReport>,
    /// Payload bytes, config state included.
    pub bytes: u64,
    /// Packets, config packets included.
    pub packets: u64,
    /// From the agreement on settings to the end: until every device is where it belongs, and when the transfer did not
    /// complete until the connections are closed.
    pub duration_ns: u64,
    /// `bytes` over `duration_ns`.
    pub throughput_bytes_per_s: f64,
    /// What was in effect.
    pub settings: Settings,
    /// Where it ran.
    pub host: HostDetails,
    /// What it cost this host; absent where the kernel does not tell.
    #[serde(default)]
    pub cost: Option<Cost>,
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
    /// How pre-copy went (sender); none where no device could be read while it ran.
    #[serde(default)]
    pub precopy: Option<PreCopyReport>,
    /// How long the devices were expected to stand still, as the sender saw it before they stopped.
    #[serde(default)]
    pub prediction: Option<Prediction>,
    /// What moved when, from the agreement on settings to the end.
    #[serde(default)]
    pub intervals: Vec<Interval>,
    /// This host's monotonic clock at the time 0 of this report: at the agreement on settings, or at the beginning where there
    /// was none; absent in reports of earlier versions.
    #[serde(default)]
    pub started_ns: Option<u64>,
    /// How the other side's clock relates to this side's; absent where it was not measured.
    #[serde(default)]
    pub clock: Option<ClockOffset>,
    /// The other side's report of the same transfer, which has none in it; absent where it did not come.
    #[serde(default)]
    pub other_side: Option<Box<Report>>,
    /// When what was done with which device, in the order in which it began. Empty when nothing was.
    #[serde(default)]
    pub timeline: Vec<TimelineEntry>,
    /// Fallbacks and other things that a reader of the numbers must know.
    pub warnings: Vec<Warning>,
}

impl Document for Report {
    const SCHEMA: &'static str = "ringlift.report.v2";
    const EARLIER: &'static [&'static str] = &["ringlift.report.v1"];
}

impl Report {
    /// Of its bytes, those that are not config state.
    pub fn data_bytes(&self) -> u64 {
        self.devices.iter().map(|device| device.bytes.saturating_sub(device.config_bytes)).sum()
    }
}

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferOutcome {
    /// The destination runs the devices.
    Complete,
    /// The source has them back, the destination is clean.
    Aborted,
    /// It is unknown which side runs them.
    InDoubt,
}

/// What was in effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The protocol: `native` or `qemu`. A string and not an enum, because each protocol brings its own name.
    pub dialect: String,
    /// Data connections.
    pub channels: u64,
    /// The most payload bytes in a packet.
    pub packet_size: u64,
    /// Bytes of the pool.
    pub pool: u64,
    /// Number of packets that the pool has room for.
    pub pool_slots: u64,
    /// How payloads were checked.
    pub checksum: Checksum,
    /// The mode that was requested; none on the side that receives, and where no transfer began.
    pub zero_copy: Option<ZeroCopy>,
    /// Congestion control of the data connections, as the kernel reports it.
    pub congestion: String,
    /// What kind of memory backs the pool.
    pub huge_pages: HugePages,
    /// Whether the pool is registered with the ring.
    pub registered_buffers: bool,
}

/// The settings before anything was agreed on.
impl Default for Settings {
    fn default() -> Settings {
        Settings {
            dialect: "native".to_owned(),
            channels: 0,
            packet_size: 0,
            pool: 0,
            pool_slots: 0,
            checksum: Checksum::None,
            zero_copy: None,
            congestion: String::new(),
            huge_pages: HugePages::None,
            registered_buffers: false,
        }
    }
}

/// How payloads were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksum {
    /// Not at all.
    None,
    /// CRC32C of every payload.
    Crc32c,
}

/// How sends use the registered buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZeroCopy {
    /// Zero-copy, until the kernel reports that it copies anyway.
    Auto,
    /// Zero-copy wherever the kernel supports it.
    On,
    /// Copied by the kernel.
    Off,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    /// Bytes that it expected to have before any of them was read; absent when it did not know.
    #[serde(default)]
    pub estimate: Option<u64>,
    /// CRC32C of the whole state in order, as 8 hexadecimal digits; absent when payloads are not checked.
    pub crc32c: Option<String>,
}

/// One data connection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChannelReport {
    /// Its number.
    pub id: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Sends that used SEND_ZC.
    pub zero_copy_sent: u64,
    /// Of these, those that the kernel reports it copied anyway.
    pub zero_copy_copied: u64,
    /// What the kernel says of the connection at the end; absent unless it is TCP.
    #[serde(default)]
    pub tcp: Option<TcpReport>,
}

/// What held the data back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Backpressure {
    /// Times that a packet waited for the receiver's credit.
    pub credit_stalls: u64,
    /// Times that a read waited for a free slot.
    pub pool_stalls: u64,
    /// How long at least one of the two lasted.
    pub stalled_ns: u64,
    /// Of this, waiting for credit.
    #[serde(default)]
    pub credit_stalled_ns: u64,
    /// Of this, waiting for a free slot.
    #[serde(default)]
    pub pool_stalled_ns: u64,
}

/// How long the devices stood still, as this side saw it; phases follow one another and add up to the total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Downtime {
    /// From when the first device begins to stop to the end (sender: Committed came; receiver: the devices run).
    pub total_ns: u64,
    /// Stopping the devices (sender).
    pub stop_ns: u64,
    /// Moving what was left of the state (sender: to its last byte sent; receiver: to its last byte written).
    pub transfer_ns: u64,
    /// Applying config state and verifying that the devices accepted everything (receiver); waiting for that (sender).
    pub load_ns: u64,
    /// From Commit to running.
    pub commit_ns: u64,
    /// Going back to where the devices were, in a transfer that was not completed. Absent when it took no time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rollback_ns: u64,
    /// No device of this side can stop: the times are those of the protocol, and no guest stood still. Absent when false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub simulated: bool,
}

/// How pre-copy went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreCopyReport {
    /// From the first read to the switchover.
    pub duration_ns: u64,
    /// Payload bytes that were read before the devices stopped.
    pub bytes: u64,
    /// Bytes that all devices together said were left, when they were quiet and nothing was read any more; none if one of
    /// them cannot tell.
    pub left_bytes: Option<u64>,
    /// Bytes that were allowed to be left.
    pub limit_bytes: u64,
    /// The rate of the link, which the limit was computed from; 0 when nothing was measured.
    pub rate_bytes_per_s: u64,
    /// How often devices were asked what is left.
    pub asked: u64,
    /// Why it ended.
    pub end: PreCopyEnd,
}

/// Why pre-copy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreCopyEnd {
    /// What was left was no more than the limit.
    Converged,
    /// The caller released its hold.
    Caller,
    /// It took too long.
    Time,
    /// A device gave more than it ever expected to.
    Volume,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

shown_as_written!(TransferOutcome, Checksum, ZeroCopy, PreCopyEnd);

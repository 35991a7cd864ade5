//! How a device's driver behaves, as `ringlift devices --probe` finds it (`ringlift.probe.v1`,
//! `docs/probe.schema.json`). Sizes are in bytes, times in nanoseconds. It knows nothing of how a device is probed.

use serde::{Deserialize, Serialize};

use super::header::{ErrorReport, shown_as_written};
use super::quantiles::Quantiles;
use super::schema::{Document, Schema};

/// How a device's driver behaves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProbeReport {
    /// The document's schema.
    pub schema: Schema<ProbeReport>,
    /// Whether the whole way was gone.
    pub outcome: ProbeOutcome,
    /// Why not.
    pub error: Option<ErrorReport>,
    /// The device as it was named.
    pub device: String,
    /// The release of the host's kernel.
    pub kernel: String,
    /// The version of ringlift.
    pub ringlift: String,
    /// What the device supports, as the kernel names it.
    pub features: Vec<String>,
    /// The state that it was found in.
    pub found_in: String,
    /// The state that it was left in.
    pub left_in: String,
    /// Whether it had to be reset: then what was in it is lost.
    pub was_reset: bool,
    /// How long it neither ran nor could have been running.
    pub standstill_ns: u64,
    /// The driver's estimate of its stopped state, before anything was done.
    pub estimate_before: Option<u64>,
    /// The same in STOP_COPY, before the first read.
    pub estimate_stopped: Option<u64>,
    /// Single changes of state in order, with those of the way back after a failure.
    pub arcs: Vec<ProbedArc>,
    /// What was read while it ran; absent for a device without PRE_COPY, or one that does not run.
    pub pre_copy: Option<ProbedReads>,
    /// What the driver said about pre-copy, in order.
    pub pre_copy_info: Vec<ProbedInfo>,
    /// What was read after it was stopped.
    pub stop_copy: Option<ProbedReads>,
}

/// Whether a probe went the whole way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeOutcome {
    /// To STOP_COPY and back.
    Complete,
    /// Something failed, or the caller cancelled.
    #[default]
    Aborted,
}

/// A single change of state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProbedArc {
    /// From this state.
    pub from: String,
    /// To this one.
    pub to: String,
    /// How long the kernel took, well or not.
    pub time_ns: u64,
}

/// One answer about pre-copy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProbedInfo {
    /// In which state the device was.
    pub state: String,
    /// How long the answer took.
    pub time_ns: u64,
    /// Bytes that should be read before the device is stopped.
    pub initial_bytes: u64,
    /// Bytes that have changed since they were read.
    pub dirty_bytes: u64,
    /// Why there was no answer.
    pub error: Option<String>,
}

/// The reads of one phase.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProbedReads {
    /// Bytes that came.
    pub bytes: u64,
    /// Reads that brought any.
    pub reads: u64,
    /// Bytes that each read asked for.
    pub asked: u64,
    /// The fewest bytes that a read brought.
    pub shortest: u64,
    /// The size that occurred most often.
    pub most_frequent: u64,
    /// How often.
    pub most_frequent_reads: u64,
    /// The most bytes that a read brought.
    pub longest: u64,
    /// From the first read to the end.
    pub time_ns: u64,
    /// How long a read took that brought bytes.
    pub latency_ns: Quantiles,
    /// How it ended.
    pub end: ProbedEnd,
    /// What a read behind the end returned; only after the device was stopped.
    pub behind_end: Option<ProbedEnd>,
    /// How often there was nothing although the end had not come.
    pub nothing_now: u64,
    /// Whether the descriptor can be polled at all.
    pub pollable: bool,
    /// Whether it called itself readable before the first read.
    pub ready_at_begin: bool,
    /// Whether `O_NONBLOCK` is honoured; unknown where no read had to wait.
    pub nonblocking: Option<bool>,
}

/// How reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbedEnd {
    /// A read of no bytes.
    Zero,
    /// `ENOMSG`.
    Enomsg,
    /// There was more: a device that runs need not come to an end.
    More,
    /// A read failed, or the caller cancelled.
    #[default]
    Failed,
}

impl Document for ProbeReport {
    const SCHEMA: &'static str = "ringlift.probe.v1";
}

shown_as_written!(ProbeOutcome, ProbedEnd);

//! A trace as a file: the Trace Event Format of Chrome, which Perfetto reads, with what is our own in `otherData`
//! (`docs/trace.schema.json`). It must not know what is put on which track. Times are microseconds with three decimals, as the
//! format wants them: nanoseconds.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::report::{ClockOffset, Document, Role, RunInfo, Schema, Settings, TransferOutcome};
use crate::vfio::State;

/// A trace as it is in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceFile {
    /// Always `ns`: what the viewer counts in.
    pub display_time_unit: Cow<'static, str>,
    /// What the trace is about.
    pub other_data: TraceAbout,
    /// The events, in no order.
    pub trace_events: Vec<TraceEvent>,
}

/// What a trace is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceAbout {
    /// Always `ringlift.trace.v1`.
    pub schema: Schema<TraceFile>,
    /// The version of ringlift that wrote it.
    pub version: String,
    /// The session's id, the same on both sides; absent when there was no session.
    pub session: Option<String>,
    /// Which run of an experiment it belongs to.
    pub run: Option<RunInfo>,
    /// The sides whose packets are in it. Time 0 is the first one's agreement on settings.
    pub sides: Vec<TraceSide>,
}

impl Document for TraceFile {
    const SCHEMA: &'static str = "ringlift.trace.v1";
}

/// A side whose packets are in a trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceSide {
    /// Which side.
    pub role: Role,
    /// The host's name.
    pub host: String,
    /// How the transfer ended.
    pub outcome: TransferOutcome,
    /// How long it took, from the agreement on settings.
    pub duration_ns: u64,
    /// The host's monotonic clock at the agreement on settings; 0 where there was none.
    pub started_ns: u64,
    /// How the other side's clock relates to this one's, where it was measured.
    pub clock: Option<ClockOffset>,
    /// What was in effect.
    pub settings: Settings,
    /// Packets in the trace.
    pub packets: u64,
    /// Packets that there was no room for: the oldest.
    pub dropped: u64,
    /// For how many there was room.
    pub capacity: u64,
}

/// One event. What a kind of event does not have is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceEvent {
    /// The kind of event.
    pub ph: TracePh,
    /// What it is.
    pub name: Cow<'static, str>,
    /// The group that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cat: Option<Cow<'static, str>>,
    /// The side: 1 is the sender, 2 the receiver.
    pub pid: u64,
    /// The track.
    pub tid: u64,
    /// When it begins, in nanoseconds. In a file it is microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "micros")]
    pub ts: Option<u64>,
    /// How long it takes, in nanoseconds. In a file it is microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "micros")]
    pub dur: Option<u64>,
    /// What belongs together: the arrows of one packet, or a beginning and its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Cow<'static, str>>,
    /// `e`: an arrow belongs to the slice around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bp: Option<Cow<'static, str>>,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<TraceArgs>,
}

/// The kind of an event, as the format writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TracePh {
    /// The name of a process or a track.
    #[serde(rename = "M")]
    Metadata,
    /// A slice: what does not overlap anything else on its track, but for what lies within it.
    #[serde(rename = "X")]
    Complete,
    /// The beginning of what may overlap others.
    #[serde(rename = "b")]
    Begin,
    /// Its end.
    #[serde(rename = "e")]
    End,
    /// A counter's value from now on.
    #[serde(rename = "C")]
    Counter,
    /// An arrow begins at the slice here.
    #[serde(rename = "s")]
    FlowStart,
    /// It goes on over this one.
    #[serde(rename = "t")]
    FlowStep,
    /// It ends at this one.
    #[serde(rename = "f")]
    FlowEnd,
}

/// More about an event.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceArgs {
    /// A process's or a track's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A counter's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<u64>,
    /// A packet's device, by its place in the report's `devices`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<u64>,
    /// A packet's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idx: Option<u64>,
    /// A packet's bytes of payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// It is the device's config state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<bool>,
    /// It had not ended when the transfer did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<bool>,
    /// The state that an arc begins in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<State>,
    /// The state that it leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<State>,
}

/// Nanoseconds as microseconds with decimals.
mod micros {
    use super::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::cast_precision_loss, reason = "a transfer of 2^53 ns takes a hundred days")]
    pub(super) fn serialize<S: Serializer>(ns: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match ns {
            Some(ns) => serializer.serialize_f64(*ns as f64 / 1000.0),
            None => serializer.serialize_none(),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what is out of range becomes the nearest number, and is a fault of the file"
    )]
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        let micros = Option::<f64>::deserialize(deserializer)?;
        Ok(micros.map(|micros| (micros * 1000.0).round() as u64))
    }
}

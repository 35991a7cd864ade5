//! The lines of `--events`: one JSON document for each thing that happens, as `docs/events.schema.json` has them. Pure:
//! times are handed in, and nothing is written.

use std::net::SocketAddr;
use std::time::Duration;

use ringlift::error::{Error, ErrorCode};
use ringlift::report::{Interval, Report, Role, RunInfo, TransferOutcome};
use ringlift::vfio::State;
use ringlift::{DeviceMoment, Event, Outcome};
use serde::Serialize;

use crate::exit::Exit;
use crate::show::hints;
use crate::show::words::word;

const SCHEMA: &str = "ringlift.events.v1";

/// One line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    schema: &'static str,
    /// Since the transfer's first line.
    time_ns: u64,
    #[serde(flatten)]
    entry: &'a Entry<'a>,
}

/// What happened.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Entry<'a> {
    Start(&'a Start),
    Connected { peer: Option<String>, channels: u16, session: Option<String> },
    Phase { phase: String, code: u8 },
    Device(Moment<'a>),
    Stopped,
    Interval { phase: String, bytes: u64, packets: u64, interval: &'a Interval },
    Warning { code: &'a str, text: &'a str, hint: &'a str },
    End(End<'a>),
}

/// What is known before anything begins.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Start {
    pub(crate) version: &'static str,
    pub(crate) role: Role,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) settings: Settings,
    pub(crate) devices: Vec<Device>,
    pub(crate) run: RunInfo,
}

/// What this side was told; the other side may decide the rest.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Settings {
    pub(crate) dialect: &'static str,
    pub(crate) interval_ns: u64,
    pub(crate) channels: Option<u16>,
    pub(crate) packet_size: Option<u32>,
    pub(crate) pool: Option<u64>,
    pub(crate) zero_copy: Option<String>,
    pub(crate) checksum: Option<String>,
    pub(crate) congestion: Option<String>,
    pub(crate) deadline_ns: Option<u64>,
    pub(crate) downtime_max_ns: Option<u64>,
    pub(crate) downtime_limit_ns: Option<u64>,
}

/// A device, and the kind of its end.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
}

/// A moment of a device; what does not belong to it is null.
#[derive(Debug, Serialize)]
pub(crate) struct Moment<'a> {
    device: &'a str,
    instance: u32,
    moment: String,
    step: Option<String>,
    from: Option<State>,
    to: Option<State>,
    took_ns: Option<u64>,
    initial_bytes: Option<u64>,
    dirty_bytes: Option<u64>,
}

/// How it ended.
#[derive(Debug, Serialize)]
pub(crate) struct End<'a> {
    outcome: TransferOutcome,
    exit_status: u8,
    error: Option<Failure>,
    report: Option<&'a Report>,
}

#[derive(Debug, Serialize)]
struct Failure {
    code: u32,
    name: String,
    text: String,
    hint: Option<String>,
}

/// The line, with its end.
pub(crate) fn line(at: Duration, entry: &Entry<'_>) -> String {
    let line = Line { schema: SCHEMA, time_ns: nanos(at), entry };
    // all of it is plain data, which can always be written
    serde_json::to_string(&line).map(|line| line + "\n").unwrap_or_default()
}

impl<'a> Entry<'a> {
    /// What an event of the library is here. Progress is in intervals, and strangers are no part of a transfer.
    pub(crate) fn of(event: &'a Event) -> Option<Entry<'a>> {
        Some(match event {
            Event::Connected { peer, channels, session } => Entry::Connected {
                peer: peer.map(|peer| peer.to_string()),
                channels: *channels,
                session: session.map(|session| session.to_string()),
            },
            Event::Phase(phase) => Entry::Phase { phase: word(phase), code: phase.code() },
            Event::Device { device, instance, moment } => {
                Entry::Device(Moment::of(device, *instance, *moment))
            }
            Event::Stopped => Entry::Stopped,
            Event::Interval { interval, bytes, packets, phase } => {
                Entry::Interval { phase: word(phase), bytes: *bytes, packets: *packets, interval }
            }
            _ => return None,
        })
    }

    /// The end of a transfer that has a report.
    pub(crate) fn end(exit: Exit, outcome: Outcome, error: Option<&Error>, report: &'a Report) -> Entry<'a> {
        let error = error.map(Failure::of);
        Entry::End(End { outcome: outcome.into(), exit_status: exit as u8, error, report: Some(report) })
    }

    /// The end of one that did not begin.
    pub(crate) fn not_begun(exit: Exit, error: &Error) -> Entry<'a> {
        let (outcome, error) = (TransferOutcome::Aborted, Some(Failure::of(error)));
        Entry::End(End { outcome, exit_status: exit as u8, error, report: None })
    }
}

impl<'a> Moment<'a> {
    fn of(device: &'a str, instance: u32, moment: DeviceMoment) -> Moment<'a> {
        let plain = Moment {
            device,
            instance,
            moment: String::new(),
            step: None,
            from: None,
            to: None,
            took_ns: None,
            initial_bytes: None,
            dirty_bytes: None,
        };
        let named = |moment: &str| moment.to_owned();
        match moment {
            DeviceMoment::Begins(step) => Moment { moment: named("begins"), step: Some(word(step)), ..plain },
            DeviceMoment::Ends(step) => Moment { moment: named("ends"), step: Some(word(step)), ..plain },
            DeviceMoment::Arc { from, to, took } => Moment {
                moment: named("arc"),
                from: Some(from),
                to: Some(to),
                took_ns: Some(nanos(took)),
                ..plain
            },
            DeviceMoment::PreCopy { initial, dirty } => Moment {
                moment: named("pre_copy"),
                initial_bytes: Some(initial),
                dirty_bytes: Some(dirty),
                ..plain
            },
            other => Moment { moment: word(other), ..plain },
        }
    }
}

impl Failure {
    fn of(error: &Error) -> Failure {
        let (code, hint) = (ErrorCode::from(error), hints::of(error));
        Failure { code: code.number(), name: format!("{code:?}"), text: error.to_string(), hint }
    }
}

/// A duration in nanoseconds: 584 years fit.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use ringlift::{DeviceStep, Phase};
    use serde_json::{Value, json};

    use super::*;

    fn schema() -> Value {
        serde_json::from_str(include_str!("../../../../docs/events.schema.json")).unwrap()
    }

    fn written(event: &Event) -> Value {
        serde_json::from_str(&line(Duration::from_nanos(7), &Entry::of(event).unwrap())).unwrap()
    }

    #[test]
    fn the_schema_has_the_words_of_every_phase_and_step() {
        use Phase::{
            Commit, Connecting, Done, Loading, PreCopy, RollingBack, Settings, StopCopy, Switchover,
        };
        let phases =
            [Connecting, Settings, PreCopy, Switchover, StopCopy, Loading, Commit, RollingBack, Done]
                .map(word);
        assert_eq!(schema()["$defs"]["phase"]["enum"], json!(phases));
        use DeviceStep as Step;
        let steps = [
            Step::Start,
            Step::Prepare,
            Step::PreCopyInfo,
            Step::Quiesce,
            Step::Stop,
            Step::Config,
            Step::Load,
            Step::PreRun,
            Step::Run,
            Step::Release,
            Step::Rollback,
            Step::Park,
        ];
        let mut steps: Vec<Value> = steps.map(|step| json!(word(step))).to_vec();
        steps.push(Value::Null);
        assert_eq!(schema()["$defs"]["device"]["properties"]["step"]["enum"], json!(steps));
    }

    #[test]
    fn an_event_is_a_line_with_what_belongs_to_it() {
        let moment =
            DeviceMoment::Arc { from: State::Running, to: State::Stop, took: Duration::from_millis(3) };
        let event = Event::Device { device: "a\nb".into(), instance: 2, moment };
        let text = line(Duration::ZERO, &Entry::of(&event).unwrap());
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let found = written(&event);
        assert_eq!((&found["event"], &found["device"]), (&json!("device"), &json!("a\nb")));
        assert_eq!((&found["from"], &found["took_ns"]), (&json!("RUNNING"), &json!(3_000_000)));
        assert_eq!((&found["schema"], &found["time_ns"]), (&json!(SCHEMA), &json!(7)));
        let first = DeviceMoment::FirstByte;
        let found = written(&Event::Device { device: "a".into(), instance: 0, moment: first });
        assert_eq!((&found["moment"], &found["step"]), (&json!("first_byte"), &Value::Null));
    }

    #[test]
    fn a_transfer_that_did_not_begin_ends_with_its_error() {
        let text = line(Duration::ZERO, &Entry::not_begun(Exit::Cancelled, &Error::Cancelled));
        let found: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&found["outcome"], &found["exit_status"]), (&json!("aborted"), &json!(130)));
        assert_eq!((&found["error"]["code"], &found["report"]), (&json!(9001), &Value::Null));
    }
}

//! One side of a transfer as events: which track each thing is on, and what it is called. It must not know where events go. The
//! invariants: what is on one track as slices follows one another or nests, and whatever can overlap is no slice but a beginning
//! and an end with an id of their own.

use std::borrow::Cow;
use std::io;

use super::event::{TraceArgs, TraceEvent, TracePh};
use super::{Trace, TraceSpan, TracedPacket};
use crate::report::{DeviceReport, Report, Role, TimelineEntry, TimelineWhat};

/// More tracks than a side has: no two sides have one of the same number.
const TRACKS: u64 = 10_000;
/// The track of the phases.
const PHASES: u64 = 1;
/// The track of the first channel.
const CHANNELS: u64 = 100;
/// The tracks of the first device: its steps, and its state.
const DEVICES: u64 = 1000;
/// Categories.
const PACKET: &str = "packet";
const DEVICE: &str = "device";

/// The side's number as a process.
pub(super) fn pid(role: Role) -> u64 {
    match role {
        Role::Sender => 1,
        Role::Receiver => 2,
    }
}

/// Where events go.
pub(super) type Put<'a> = dyn FnMut(TraceEvent) -> io::Result<()> + 'a;

/// Makes the events of one side.
pub(super) struct Side<'a> {
    report: &'a Report,
    pid: u64,
    /// When whatever has not ended is drawn to end.
    end: u64,
    /// The first digits of a packet's id.
    session: u64,
    /// How the state of each device is called while it waits.
    waiting: Vec<String>,
    credit: Vec<String>,
}

impl<'a> Side<'a> {
    pub(super) fn new(report: &'a Report) -> Side<'a> {
        let digits = report.session.as_deref().and_then(|session| session.get(..4));
        let waits = if report.role == Role::Sender { "queue" } else { "reorder" };
        let labels = || report.devices.iter().map(label);
        Side {
            report,
            pid: pid(report.role),
            end: report.duration_ns,
            session: digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0),
            waiting: labels().map(|label| format!("{label} {waits}")).collect(),
            credit: labels().map(|label| format!("credit of {label}")).collect(),
        }
    }

    /// All that a report says: the names of the tracks, and what was done with each device.
    pub(super) fn report(&self, missing: u64, put: &mut Put<'_>) -> io::Result<()> {
        self.names(missing, put)?;
        self.report.timeline.iter().filter(|entry| entry.device.is_some()).try_for_each(|entry| {
            let is_step = is_step(entry.what);
            if is_step { self.step(entry, put) } else { self.moment(entry, put) }
        })
    }

    /// All that a trace says.
    pub(super) fn trace(&self, trace: &Trace, put: &mut Put<'_>) -> io::Result<()> {
        self.phases(trace, put)?;
        trace.packets().try_for_each(|packet| self.packet(&packet, put))
    }

    fn names(&self, missing: u64, put: &mut Put<'_>) -> io::Result<()> {
        let Report { role, host, devices, channels, .. } = self.report;
        let mut process = format!("{role}: {}", host.name);
        if missing > 0 {
            process += &format!(" (the oldest {missing} packets are missing)");
        }
        let mut name = |what, tid, name: String| {
            let args = TraceArgs { name: Some(name), ..TraceArgs::default() };
            put(TraceEvent { args: Some(args), ..self.event(TracePh::Metadata, what, tid) })
        };
        name("process_name", 0, process)?;
        name("thread_name", PHASES, "phases".to_owned())?;
        for channel in channels {
            name("thread_name", CHANNELS + channel.id, format!("channel {}", channel.id))?;
        }
        let verb = if *role == Role::Sender { "read" } else { "write" };
        for (device, label) in (0..).zip(devices.iter().map(label)) {
            name("thread_name", steps_of(device), format!("{label} steps"))?;
            name("thread_name", state_of(device), format!("{label} {verb}"))?;
        }
        Ok(())
    }

    fn phases(&self, trace: &Trace, put: &mut Put<'_>) -> io::Result<()> {
        let phases: Vec<_> = trace.phases().collect();
        let ends = phases.iter().skip(1).map(|(_, begin)| *begin).chain([self.end]);
        for ((phase, begin), end) in phases.iter().zip(ends) {
            let (begin, end) = (*begin.min(&self.end), end.min(self.end));
            if end > begin {
                let event = self.event(TracePh::Complete, phase.to_string(), PHASES);
                put(TraceEvent { cat: Some("phase".into()), ..lasting(event, begin, end) })?;
            }
        }
        Ok(())
    }

    /// What a device does one after the other: a slice, and single changes of state within it.
    fn step(&self, entry: &TimelineEntry, put: &mut Put<'_>) -> io::Result<()> {
        let args = TraceArgs { from: entry.from, to: entry.to, ..TraceArgs::default() };
        let name = match (entry.from, entry.to) {
            (Some(from), Some(to)) => format!("{from} to {to}"),
            _ => entry.what.to_string(),
        };
        let event = self.event(TracePh::Complete, name, steps_of(entry.device.unwrap_or(0)));
        let event = lasting(event, entry.begin_ns, entry.end_ns);
        put(TraceEvent { cat: Some(DEVICE.into()), args: entry.from.map(|_| args), ..event })
    }

    /// What lies beside the steps.
    fn moment(&self, entry: &TimelineEntry, put: &mut Put<'_>) -> io::Result<()> {
        let device = entry.device.unwrap_or(0);
        let id = format!("0x{:x}", self.pid << 60 | device << 8 | entry.what as u64);
        let event = TraceEvent {
            cat: Some(DEVICE.into()),
            id: Some(id.into()),
            ..self.event(TracePh::Begin, entry.what.to_string(), steps_of(device))
        };
        both_ends(event, entry.begin_ns, entry.end_ns, put)
    }

    fn packet(&self, packet: &TracedPacket, put: &mut Put<'_>) -> io::Result<()> {
        let state = state_of(packet.device);
        let channel = packet.channel.map(|channel| CHANNELS + channel);
        match self.report.role {
            Role::Sender => {
                self.slice(packet, "read", Some(state), packet.read, Some(TracePh::FlowStart), put)?;
                self.wait(packet, packet.queue, put)?;
                self.slice(packet, "send", channel, packet.send, Some(TracePh::FlowEnd), put)?;
            }
            Role::Receiver => {
                let begins = channel.map(|_| TracePh::FlowStart);
                self.slice(packet, "receive", channel, packet.receive, begins, put)?;
                self.wait(packet, packet.reorder, put)?;
                let ends = begins.map(|_| TracePh::FlowEnd);
                self.slice(packet, "write", Some(state), packet.write, ends, put)?;
            }
        }
        self.counters(packet, put)
    }

    /// A stage that does not overlap others on its track; an arrow of the packet begins or ends there. A packet that never came to
    /// its second slice has no arrow.
    fn slice(
        &self,
        packet: &TracedPacket,
        name: &'static str,
        tid: Option<u64>,
        span: Option<TraceSpan>,
        arrow: Option<TracePh>,
        put: &mut Put<'_>,
    ) -> io::Result<()> {
        let (Some(tid), Some(span)) = (tid, span) else { return Ok(()) };
        let (begin, end) = self.bounds(span);
        let args = TraceArgs { unfinished: span.end_ns.is_none().then_some(true), ..args_of(packet) };
        let event = TraceEvent {
            cat: Some(PACKET.into()),
            args: Some(args),
            ..lasting(self.event(TracePh::Complete, name, tid), begin, end)
        };
        put(event)?;
        let has_both = packet.send.is_some() || packet.write.is_some();
        let Some(ph) = arrow.filter(|_| has_both) else { return Ok(()) };
        put(TraceEvent {
            cat: Some(PACKET.into()),
            ts: Some(begin),
            id: Some(self.id(packet).into()),
            bp: Some("e".into()),
            ..self.event(ph, PACKET, tid)
        })
    }

    /// What several packets of a device do at once.
    fn wait(&self, packet: &TracedPacket, span: Option<TraceSpan>, put: &mut Put<'_>) -> io::Result<()> {
        let Some(span) = span else { return Ok(()) };
        let (begin, end) = self.bounds(span);
        let name = usize::try_from(packet.device).ok().and_then(|device| self.waiting.get(device));
        let args = TraceArgs { unfinished: span.end_ns.is_none().then_some(true), ..args_of(packet) };
        let event = TraceEvent {
            cat: Some("wait".into()),
            id: Some(format!("0x{:x}", self.pid << 60 | self.key(packet)).into()),
            args: Some(args),
            ..self.event(TracePh::Begin, name.cloned().unwrap_or_default(), state_of(packet.device))
        };
        both_ends(event, begin, end, put)
    }

    fn counters(&self, packet: &TracedPacket, put: &mut Put<'_>) -> io::Result<()> {
        let Some(sample) = packet.sample else { return Ok(()) };
        let at = sample.at_ns.min(self.end);
        let credit = usize::try_from(packet.device).ok().and_then(|device| self.credit.get(device));
        let counted: [(Cow<'static, str>, Option<u64>); 4] = [
            ("free slots".into(), Some(sample.free_slots)),
            ("bytes in flight".into(), sample.in_flight_bytes),
            (credit.cloned().unwrap_or_default().into(), sample.credit),
            ("reorder depth".into(), sample.reorder_depth),
        ];
        counted.into_iter().filter(|(_, value)| value.is_some()).try_for_each(|(name, value)| {
            let args = TraceArgs { value, ..TraceArgs::default() };
            put(TraceEvent { ts: Some(at), args: Some(args), ..self.event(TracePh::Counter, name, 0) })
        })
    }

    /// Begin and end within the transfer.
    fn bounds(&self, span: TraceSpan) -> (u64, u64) {
        let begin = span.begin_ns.min(self.end);
        (begin, span.end_ns.unwrap_or(self.end).clamp(begin, self.end.max(begin)))
    }

    /// What identifies a packet in its session, the same on both sides.
    fn key(&self, packet: &TracedPacket) -> u64 {
        let on_channel = u64::from(packet.channel.is_none()) << 39;
        packet.device << 40 | on_channel | packet.idx & ((1 << 39) - 1)
    }

    /// What identifies it among those of other sessions.
    fn id(&self, packet: &TracedPacket) -> String {
        format!("0x{:x}", self.session << 48 | self.key(packet))
    }

    fn event(&self, ph: TracePh, name: impl Into<Cow<'static, str>>, tid: u64) -> TraceEvent {
        let (cat, ts, dur, id, bp, args) = (None, None, None, None, None, None);
        let tid = self.pid * TRACKS + tid;
        TraceEvent { ph, name: name.into(), cat, pid: self.pid, tid, ts, dur, id, bp, args }
    }
}

/// How a device is called.
fn label(device: &DeviceReport) -> String {
    match device.instance {
        0 => device.name.clone(),
        instance => format!("{}#{instance}", device.name),
    }
}

fn steps_of(device: u64) -> u64 {
    DEVICES + 2 * device
}

fn state_of(device: u64) -> u64 {
    DEVICES + 2 * device + 1
}

/// Whether a device does this and nothing else meanwhile.
fn is_step(what: TimelineWhat) -> bool {
    use TimelineWhat::{
        Arc, Config, FirstRead, FirstWrite, LastRead, LastSent, LastWrite, Load, Precopy, PrecopyInfo,
        Quiesce, Release, Rollback, Run, Start, Stop,
    };
    match what {
        Start | Quiesce | Stop | Arc | Config | Load | Run | Release | Rollback | PrecopyInfo => true,
        FirstRead | LastRead | LastSent | FirstWrite | LastWrite | Precopy => false,
    }
}

fn args_of(packet: &TracedPacket) -> TraceArgs {
    TraceArgs {
        device: Some(packet.device),
        idx: Some(packet.idx),
        bytes: Some(packet.bytes),
        config: packet.config.then_some(true),
        ..TraceArgs::default()
    }
}

fn lasting(event: TraceEvent, begin: u64, end: u64) -> TraceEvent {
    TraceEvent { ts: Some(begin), dur: Some(end.saturating_sub(begin)), ..event }
}

/// A beginning and its end.
fn both_ends(event: TraceEvent, begin: u64, end: u64, put: &mut Put<'_>) -> io::Result<()> {
    let over = TraceEvent { ph: TracePh::End, ts: Some(end.max(begin)), args: None, ..event.clone() };
    put(TraceEvent { ts: Some(begin), ..event })?;
    put(over)
}

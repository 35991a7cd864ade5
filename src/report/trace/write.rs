//! Writes a trace: a line that says what it is about, a line for each event, and a last one. It must not know what events mean.
//! The invariant: no more of it is in memory than one event.

use std::io::{self, BufWriter, Write};

use super::Trace;
use super::event::{TraceAbout, TraceEvent, TraceSide};
use super::side::Side;
use crate::report::{Report, Role, Schema};

/// The first line up to what the trace is about, and from there to the first event.
pub(super) const HEAD: &str = "{\"displayTimeUnit\":\"ns\",\"otherData\":";
pub(super) const EVENTS: &str = ",\"traceEvents\":[";
/// The last line.
pub(super) const TAIL: &str = "]}";

impl Trace {
    /// Writes it, with the report of the same transfer, in the Trace Event Format (`docs/trace.schema.json`). What the other side
    /// did with each device is in it as well, as far as that side's report came. A trace of nothing
    /// ([`Trace::default`]) is one of the report alone.
    pub fn write(&self, report: &Report, out: impl Write) -> io::Result<()> {
        let mut writer = Writer::new(BufWriter::new(out), &self.about(report))?;
        let mut put = |event| writer.put(&event);
        let side = Side::new(report);
        side.report(self.dropped, &mut put)?;
        side.trace(self, &mut put)?;
        if let Some((other, shift)) = placed(report) {
            Side::new(other).report(0, &mut |event| shifted(event, shift).map_or(Ok(()), &mut put))?;
        }
        writer.end()
    }

    fn about(&self, report: &Report) -> TraceAbout {
        let side = TraceSide {
            role: report.role,
            host: report.host.name.clone(),
            outcome: report.outcome,
            duration_ns: report.duration_ns,
            started_ns: report.started_ns.unwrap_or(0),
            clock: report.clock,
            settings: report.settings.clone(),
            packets: self.packets.len() as u64,
            dropped: self.dropped,
            capacity: self.capacity as u64,
        };
        TraceAbout {
            schema: Schema::default(),
            version: report.host.ringlift.clone(),
            session: report.session.clone(),
            run: report.run.clone(),
            sides: vec![side],
        }
    }
}

/// The other side's report, and what has to be added to its times to have them in this side's; where both are known.
fn placed(report: &Report) -> Option<(&Report, i64)> {
    let other = report.other_side.as_deref().filter(|other| other.role == Role::Receiver)?;
    let between = i64::try_from(other.started_ns?).ok()?.checked_sub_unsigned(report.started_ns?)?;
    Some((other, between.checked_sub(report.clock?.offset_ns)?))
}

/// The same event so much later. What was over at the time 0 is left out, and what had begun by then begins there.
pub(super) fn shifted(event: TraceEvent, shift: i64) -> Option<TraceEvent> {
    let Some(ts) = event.ts else { return Some(event) };
    let begin = ts.saturating_add_signed(shift);
    let Some(dur) = event.dur else { return Some(TraceEvent { ts: Some(begin), ..event }) };
    let end = i64::try_from(ts.saturating_add(dur)).ok()?.checked_add(shift)?;
    let end = u64::try_from(end).ok()?;
    Some(TraceEvent { ts: Some(begin), dur: Some(end.saturating_sub(begin)), ..event })
}

/// Writes events one by one.
pub(super) struct Writer<W: Write> {
    out: W,
    is_first: bool,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(mut out: W, about: &TraceAbout) -> io::Result<Writer<W>> {
        writeln!(out, "{HEAD}{}{EVENTS}", serde_json::to_string(about)?)?;
        Ok(Writer { out, is_first: true })
    }

    pub(super) fn put(&mut self, event: &TraceEvent) -> io::Result<()> {
        if !std::mem::replace(&mut self.is_first, false) {
            self.out.write_all(b",\n")?;
        }
        Ok(serde_json::to_writer(&mut self.out, event)?)
    }

    pub(super) fn end(mut self) -> io::Result<()> {
        writeln!(self.out, "\n{TAIL}")?;
        self.out.flush()
    }
}

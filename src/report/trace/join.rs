//! Puts the traces of both sides of one transfer together: the receiver's events at the sender's times, and one arrow for each
//! packet from its device to its device. Reads what [`Trace::write`](super::Trace::write) wrote, line by line, so that no more of
//! it is in memory than one event.

use std::io::{self, BufRead, BufWriter, Read, Write};

use super::event::{TraceAbout, TraceEvent, TraceFile, TracePh, TraceSide};
use super::side::pid;
use super::write::{TAIL, Writer, shifted};
use crate::report::Role;

/// Longer than any line that is written: the first has the run's notes in it.
const LINE_MAX: u64 = 1 << 20;

/// Writes one trace of both sides. With `same_clock` both were on one host, whose clock needs no comparison; else the sender's
/// trace says how the clocks differ.
///
/// An error of the kind [`InvalidData`](io::ErrorKind::InvalidData) says that these are not the two traces of one transfer.
pub fn join(
    sender: impl BufRead,
    receiver: impl BufRead,
    same_clock: bool,
    out: impl Write,
) -> io::Result<()> {
    let (mut sent, mut received) = (Lines::new(sender)?, Lines::new(receiver)?);
    let about = about(&sent.about, &received.about)?;
    let shift = shift(&about.sides[0], &about.sides[1], same_clock)?;
    let mut writer = Writer::new(BufWriter::new(out), &about)?;
    while let Some(event) = sent.next()? {
        // what the sender's report knew of the receiver, the receiver knows better
        if event.pid == pid(Role::Sender) {
            writer.put(&stepping(event, TracePh::FlowEnd))?;
        }
    }
    while let Some(event) = received.next()? {
        let placed = shifted(stepping(event, TracePh::FlowStart), shift);
        placed.iter().try_for_each(|event| writer.put(event))?;
    }
    writer.end()
}

/// What both are about.
fn about(sent: &TraceAbout, received: &TraceAbout) -> io::Result<TraceAbout> {
    let one = |about: &TraceAbout, role| match &about.sides[..] {
        [side] if side.role == role => Ok(side.clone()),
        _ => Err(invalid(&format!("it is no trace of one {role}"))),
    };
    let sides = vec![one(sent, Role::Sender)?, one(received, Role::Receiver)?];
    if sent.session.is_none() || sent.session != received.session {
        return Err(invalid("they are of different sessions"));
    }
    Ok(TraceAbout { sides, ..sent.clone() })
}

/// What has to be added to the receiver's times to have them in the sender's.
fn shift(sent: &TraceSide, received: &TraceSide, same_clock: bool) -> io::Result<i64> {
    let ahead = match (same_clock, sent.clock) {
        (true, _) => 0,
        (false, Some(clock)) => clock.offset_ns,
        (false, None) => return Err(invalid("the sender did not measure how the clocks differ")),
    };
    let began = |side: &TraceSide| i64::try_from(side.started_ns).ok();
    let between = began(received).zip(began(sent)).and_then(|(one, other)| one.checked_sub(other));
    between
        .and_then(|between| between.checked_sub(ahead))
        .ok_or_else(|| invalid("their times are too far apart"))
}

/// An arrow that ended, or began, at the border between the sides goes on there.
fn stepping(event: TraceEvent, border: TracePh) -> TraceEvent {
    let ph = if event.ph == border { TracePh::FlowStep } else { event.ph };
    TraceEvent { ph, ..event }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// The events of a file, one by one.
struct Lines<R> {
    about: TraceAbout,
    read: R,
    line: String,
}

impl<R: BufRead> Lines<R> {
    fn new(mut read: R) -> io::Result<Lines<R>> {
        let mut line = String::new();
        read.by_ref().take(LINE_MAX).read_line(&mut line)?;
        let head = format!("{}{TAIL}", line.trim_end());
        let head: TraceFile = serde_json::from_str(&head).map_err(|error| invalid(&error.to_string()))?;
        Ok(Lines { about: head.other_data, read, line })
    }

    fn next(&mut self) -> io::Result<Option<TraceEvent>> {
        self.line.clear();
        self.read.by_ref().take(LINE_MAX).read_line(&mut self.line)?;
        let event = self.line.trim_end().trim_end_matches(',');
        if event == TAIL {
            return Ok(None);
        }
        serde_json::from_str(event).map(Some).map_err(|error| invalid(&error.to_string()))
    }
}

//! Reads the main connection of a capture: its live sections, and where its tail is.

use super::inspection::{Device, Piece, Stream};
use crate::error::{CaptureProblem, Counted, OnlyOnce, StreamPart, Uuid};
use crate::limits::{QEMU_BARRIERS_MAX, QEMU_PIECES_MAX};
use crate::qemu::follow::{Follower, MainFollower, Step, Violation};
use crate::qemu::reader::{At, Reader, broken};
use crate::wire::qemu::{Command, Event};

/// QEMU has about thirty.
const CAPABILITIES_MAX: usize = 255;

/// What is found in a main connection.
#[derive(Debug, Default)]
pub(super) struct Main {
    pub(super) follower: MainFollower,
    pub(super) stream: Stream,
    pub(super) normal_pages: u64,
    pub(super) zero_pages: u64,
    /// Where flush flags end.
    flush_ends: Vec<u64>,
    /// Where RAM sections end: these are the barriers if there are no flush flags.
    ram_ends: Vec<u64>,
    /// The first thing that came twice and must not.
    pub(super) repeated: Option<At>,
    pieces: usize,
}

impl Main {
    /// Follows the connection to its tail, where the reader then stands. What was found before a problem is kept.
    pub(super) fn walk(&mut self, reader: &mut Reader, migration: &mut Follower<Device>) -> Result<(), At> {
        while !self.follower.in_tail() {
            let bytes = reader.peek()?;
            if bytes.is_empty() {
                return Err(At::new(
                    reader.offset(),
                    CaptureProblem::Cut { within: StreamPart::LiveSections },
                ));
            }
            let (taken, step) = self
                .follower
                .next(bytes)
                .map_err(|malformed| At::new(self.follower.offset(), broken(StreamPart::Item, malformed)))?;
            if let Some(Step::Event { event, begin }) = step {
                self.on_event(event, begin, migration)?;
            }
            reader.consume(taken);
        }
        self.stream.tail_at = Some(reader.offset());
        Ok(())
    }

    /// Follows the tail to its end, or to the end of the file.
    pub(super) fn walk_tail(&mut self, reader: &mut Reader) -> Result<(), At> {
        while self.follower.description().is_none() {
            let bytes = reader.peek()?;
            if bytes.is_empty() {
                break;
            }
            let taken = bytes.len();
            // this fails only for bytes after the end, which the file's length reveals
            let _ = self.follower.next(bytes);
            reader.consume(taken);
        }
        Ok(())
    }

    fn on_event(&mut self, event: Event<'_>, begin: u64, migration: &mut Follower<Device>) -> Result<(), At> {
        match migration.on_main(&event, begin) {
            Err(violation @ Violation::SecondStart { .. }) => self.report(violation.in_capture(), begin),
            result => drop(result.map_err(|violation| At::new(begin, violation.in_capture()))?),
        }
        let end = self.follower.offset();
        let (stream, open) = (&mut self.stream, migration.open());
        match event {
            Event::Machine(machine) => stream.machine = Some(machine),
            Event::Uuid(uuid) => stream.uuid = Some(Uuid(uuid)),
            Event::Capability(capability) if stream.capabilities.len() < CAPABILITIES_MAX => {
                stream.capabilities.push(capability);
            }
            Event::Command(command) => self.on_command(command, begin),
            Event::RamTotal(bytes) => stream.ram_bytes = bytes,
            Event::RamBlock { .. } => stream.ram_blocks += 1,
            Event::RamPage { zero: true } => self.zero_pages += 1,
            Event::RamPage { zero: false } => self.normal_pages += 1,
            Event::RamFlush => keep_barrier(&mut self.flush_ends, begin, end)?,
            Event::RamEnd => keep_barrier(&mut self.ram_ends, begin, end)?,
            Event::VfioDataBegin(len) if len > 0 => {
                self.pieces += 1;
                if self.pieces > QEMU_PIECES_MAX {
                    let problem = CaptureProblem::TooMany { what: Counted::Pieces, max: QEMU_PIECES_MAX };
                    return Err(At::new(begin, problem));
                }
                if let Some((device, has_stopped)) = open {
                    let Device { main_data, precopy, .. } = &mut device.state;
                    let pieces = if has_stopped { main_data } else { precopy };
                    pieces.push(Piece { connection: 0, len, offset: end });
                }
            }
            Event::VfioInitDataSent => {
                open.into_iter().for_each(|(device, _)| device.state.init_data_sent_at = Some(begin));
            }
            _ => {}
        }
        Ok(())
    }

    /// Where each barrier ends.
    pub(super) fn barriers(&self) -> &[u64] {
        if self.flush_ends.is_empty() { &self.ram_ends } else { &self.flush_ends }
    }

    fn on_command(&mut self, command: Command, offset: u64) {
        let (place, what) = match command {
            Command::Ping(_) => {
                self.stream.pings += 1;
                return;
            }
            Command::OpenReturnPath => (&mut self.stream.return_path_at, OnlyOnce::OpenReturnPath),
            Command::SwitchoverStart => (&mut self.stream.switchover_at, OnlyOnce::SwitchoverStart),
        };
        match *place {
            None => *place = Some(offset),
            Some(first) => self.report(CaptureProblem::Twice { what, first }, offset),
        }
    }

    fn report(&mut self, repeated: CaptureProblem, offset: u64) {
        // one is enough; a file could hold millions
        self.repeated.get_or_insert(At::new(offset, repeated));
    }
}

/// Records where a barrier ends. Fails if there are more than any migration has.
pub(super) fn keep_barrier(barriers: &mut Vec<u64>, begin: u64, end: u64) -> Result<(), At> {
    if barriers.len() >= QEMU_BARRIERS_MAX {
        let problem = CaptureProblem::TooMany { what: Counted::Barriers, max: QEMU_BARRIERS_MAX };
        return Err(At::new(begin, problem));
    }
    barriers.push(end);
    Ok(())
}

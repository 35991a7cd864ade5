//! The main connection: what its live sections say, and where its tail begins.

use super::inspection::{Device, DeviceId, Piece, Stream};
use super::reader::{At, Reader, broken};
use crate::error::{CaptureProblem, Uuid};
use crate::limits::{QEMU_BARRIERS_MAX, QEMU_PIECES_MAX};
use crate::wire::qemu::{Command, Event, MainStream, PageSize, Section};

const LIVE_PART: &str = "the live sections of the main connection";
/// QEMU has some thirty.
const CAPABILITIES_MAX: usize = 255;

/// What a main connection says.
#[derive(Debug, Default)]
pub(super) struct Main {
    pub(super) stream: Stream,
    pub(super) page_size: PageSize,
    pub(super) devices: Vec<Announced>,
    pub(super) normal_pages: u64,
    pub(super) zero_pages: u64,
    /// Where flush flags end.
    flush_ends: Vec<u64>,
    /// Where RAM sections end: barriers where there are no flush flags, as before QEMU 8.1's machine types.
    ram_ends: Vec<u64>,
    /// What came twice and must not.
    pub(super) repeated: Option<At>,
    pieces: usize,
}

/// A VFIO device that the main connection knows.
#[derive(Debug)]
pub(super) struct Announced {
    pub(super) device: Device,
    /// Its section's number.
    section: u32,
    /// Where its START section is.
    pub(super) offset: u64,
    pub(super) has_setup: bool,
    pub(super) has_end: bool,
}

/// The section that is open.
#[derive(Debug, Clone, Copy)]
struct Open {
    section: u32,
    /// Its state is what a stopped device sends.
    is_end: bool,
}

impl Main {
    /// Follows the connection to its tail; the reader stands there then. What was found before a problem stays.
    pub(super) fn walk(&mut self, reader: &mut Reader, connection: u16) -> Result<(), At> {
        let mut main = MainStream::new();
        let mut open = Open { section: 0, is_end: false };
        let mut begin = 0;
        loop {
            let bytes = reader.peek()?;
            if bytes.is_empty() {
                return Err(At::new(reader.offset(), CaptureProblem::Cut { within: LIVE_PART }));
            }
            let (taken, event) = main
                .next(bytes)
                .map_err(|malformed| At::new(main.offset(), broken("what is here", malformed)))?;
            self.page_size = main.page_size();
            if let Some(event) = event {
                let here = Piece { connection, len: 0, offset: main.offset() };
                self.on_event(event, begin, here, &mut open)?;
                begin = main.offset();
            }
            let is_tail = event == Some(Event::Tail);
            reader.consume(taken);
            if is_tail {
                self.stream.tail_at = Some(reader.offset());
                return Ok(());
            }
        }
    }

    /// `begin` is where the event begins, `here` an empty piece where it ends.
    fn on_event(&mut self, event: Event<'_>, begin: u64, here: Piece, open: &mut Open) -> Result<(), At> {
        let stream = &mut self.stream;
        match event {
            Event::Machine(machine) => stream.machine = Some(machine),
            Event::Uuid(uuid) => stream.uuid = Some(Uuid(uuid)),
            Event::Capability(capability) if stream.capabilities.len() < CAPABILITIES_MAX => {
                stream.capabilities.push(capability);
            }
            Event::Command(command) => self.on_command(command, begin),
            Event::Start(section) => {
                *open = Open { section: section.id, is_end: false };
                self.on_start(section, begin);
            }
            Event::Part(section) => *open = Open { section, is_end: false },
            Event::End(section) => {
                *open = Open { section, is_end: true };
                self.with_device(open, |device| device.has_end = true);
            }
            Event::RamTotal(bytes) => stream.ram_bytes = bytes,
            Event::RamBlock { .. } => stream.ram_blocks += 1,
            Event::RamPage { zero: true } => self.zero_pages += 1,
            Event::RamPage { zero: false } => self.normal_pages += 1,
            Event::RamFlush => {
                stream.flushes += 1;
                keep_barrier(&mut self.flush_ends, begin, here.offset)?;
            }
            Event::RamEnd => keep_barrier(&mut self.ram_ends, begin, here.offset)?,
            Event::VfioSetup => self.with_device(open, |device| device.has_setup = true),
            Event::VfioDataBegin(len) if len > 0 => self.on_data(Piece { len, ..here }, begin, open)?,
            Event::VfioInitDataSent => {
                self.with_device(open, |announced| announced.device.init_data_sent_at = Some(begin));
            }
            _ => {}
        }
        Ok(())
    }

    /// Where each of its barriers ends.
    pub(super) fn barriers(&self) -> &[u64] {
        if self.flush_ends.is_empty() { &self.ram_ends } else { &self.flush_ends }
    }

    fn on_command(&mut self, command: Command, offset: u64) {
        let (place, what) = match command {
            Command::Ping(_) => {
                self.stream.pings += 1;
                return;
            }
            Command::OpenReturnPath => (&mut self.stream.return_path_at, "command OPEN_RETURN_PATH"),
            Command::SwitchoverStart => (&mut self.stream.switchover_at, "command SWITCHOVER_START"),
        };
        match *place {
            None => *place = Some(offset),
            Some(first) => self.say_twice(what, first, offset),
        }
    }

    fn on_start(&mut self, section: Section, offset: u64) {
        if !section.idstr.is_vfio() {
            return;
        }
        let id = DeviceId { idstr: section.idstr, instance: section.instance };
        if let Some(first) = self.devices.iter().find(|known| known.device.id == id) {
            return self.say_twice("START section of this device", first.offset, offset);
        }
        self.devices.push(Announced {
            device: Device::new(id),
            section: section.id,
            offset,
            has_setup: false,
            has_end: false,
        });
    }

    fn on_data(&mut self, piece: Piece, begin: u64, open: &Open) -> Result<(), At> {
        self.pieces += 1;
        if self.pieces > QEMU_PIECES_MAX {
            let problem = CaptureProblem::TooMany { what: "pieces of device state", max: QEMU_PIECES_MAX };
            return Err(At::new(begin, problem));
        }
        let is_end = open.is_end;
        self.with_device(open, |Announced { device, .. }| {
            if is_end { device.main_data.push(piece) } else { device.precopy.push(piece) }
        });
        Ok(())
    }

    /// The device of the open section, unless its name came twice.
    fn with_device(&mut self, open: &Open, change: impl FnOnce(&mut Announced)) {
        if let Some(device) = self.devices.iter_mut().find(|device| device.section == open.section) {
            change(device);
        }
    }

    fn say_twice(&mut self, what: &'static str, first: u64, offset: u64) {
        // one says it; a file could hold millions
        if self.repeated.is_none() {
            self.repeated = Some(At::new(offset, CaptureProblem::Twice { what, first }));
        }
    }
}

/// Keeps where a barrier ends, as long as there are not more than any migration has.
pub(super) fn keep_barrier(barriers: &mut Vec<u64>, begin: u64, end: u64) -> Result<(), At> {
    if barriers.len() >= QEMU_BARRIERS_MAX {
        let problem = CaptureProblem::TooMany { what: "barriers", max: QEMU_BARRIERS_MAX };
        return Err(At::new(begin, problem));
    }
    barriers.push(end);
    Ok(())
}

//! Captures of QEMU's migration stream on disk: what they contain, whether they are complete, and in which order a
//! device takes its state.
//!
//! A capture is a folder with a file for each connection, `main.bin` and `multifd-0.bin` and so on, with all bytes from
//! source to destination (`format`). A file's first bytes identify its connection, not its name.
//!
//! Files are read forward through a small buffer and the content of packets is skipped, so a capture of any size can be
//! inspected. Nothing in a file is trusted: memory, time and the number of findings are bounded, and a broken capture
//! yields a list of [errors](Inspection::errors), never a panic.

mod channel;
mod files;
pub(crate) mod format;
mod inspection;
mod main_connection;
mod packets;
mod report;
mod state;
mod times;
mod verify;

use std::path::PathBuf;

pub use self::inspection::{Connection, Device, DeviceId, DevicePacket, Inspection, Note, Piece, Stream};
pub use self::times::Times;

pub(crate) use self::state::StateReader;

use self::files::Named;
use self::main_connection::Main;
use self::packets::Packets;
use self::verify::Seen;
use super::follow::Follower;
use super::reader::{self, At, Reader};
use super::tail::FullSections;
use crate::error::{CaptureError, CaptureProblem, StreamPart, Uuid};
use crate::wire::qemu::{Init, Kind};

/// Inspects a capture: a folder, or the files of one.
///
/// It always finishes, with as much as could be found. Whatever cannot be read or cannot be right is in
/// [`Inspection::errors`]; the other files are inspected anyway.
///
/// ```
/// let capture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/qemu/device-on-channels");
/// let inspection = ringlift::qemu::capture::inspect(&[capture.into()]);
///
/// assert!(inspection.is_ok(), "{:?}", inspection.errors);
/// let device = inspection.device("0000:00:01.0/vfio", 0).expect("it was migrated");
/// assert_eq!((device.precopy_bytes(), device.data_bytes(), device.config_bytes()), (24, 72, 4132));
/// ```
pub fn inspect(paths: &[PathBuf]) -> Inspection {
    let mut whole = Whole {
        inspection: Inspection::default(),
        main: Main::default(),
        follower: Follower::growing(Device::new),
        packets: Packets::default(),
        seen: Seen::default(),
    };
    let mut opened = Vec::new();
    for file in files::find(paths, &mut whole.inspection.errors) {
        match open(&file) {
            Ok((start, reader)) => opened.push(Opened { file, start, reader }),
            Err(error) => whole.inspection.errors.push(error),
        }
    }
    whole.seen.lacks_files = !whole.inspection.errors.is_empty();
    // the main connection first: it knows the page size, which decides how long packets are
    opened.sort_by_key(|opened| opened.start.map(|init| init.id));
    if let Some(first) = opened.first()
        && first.start.is_some()
    {
        whole.inspection.errors.push(first.file.error(0, CaptureProblem::NoMain));
    }
    for opened in opened {
        match opened.start {
            None => whole.main_connection(opened),
            Some(init) => whole.channel(opened, init),
        }
    }
    whole.conclude()
}

/// A connection's file.
struct Opened {
    file: Named,
    /// The init of a multifd connection; none for the main connection.
    start: Option<Init>,
    reader: Reader,
}

fn open(file: &Named) -> Result<(Option<Init>, Reader), CaptureError> {
    let mut reader = file.open()?;
    let start = start(&mut reader).map_err(|At { offset, problem }| file.error(offset, problem))?;
    Ok((start, reader))
}

fn start(reader: &mut Reader) -> Result<Option<Init>, At> {
    let first = reader.take(StreamPart::Beginning)?;
    let kind =
        Kind::of(first).map_err(|malformed| At::new(0, reader::broken(StreamPart::Beginning, malformed)))?;
    reader.seek(0)?;
    match kind {
        Kind::Main => Ok(None),
        Kind::Multifd => channel::init(reader).map(Some),
    }
}

/// What is found in all files together.
struct Whole {
    inspection: Inspection,
    main: Main,
    follower: Follower<Device>,
    packets: Packets,
    seen: Seen,
}

impl Whole {
    fn main_connection(&mut self, Opened { file, mut reader, .. }: Opened) {
        if let Some(first) = self.inspection.connections.first() {
            let problem = CaptureProblem::SecondMain { first: first.file.clone() };
            return self.inspection.errors.push(file.error(0, problem));
        }
        let result = self.walk_main(&mut reader);
        let Main { normal_pages, zero_pages, .. } = self.main;
        let syncs = self.main.follower.flushes();
        let connection = connection(&file, Kind::Main, reader.len());
        let barriers = self.main.barriers().to_vec();
        let connection = Connection { normal_pages, zero_pages, syncs, barriers, ..connection };
        self.inspection.connections.push(connection);
        for At { offset, problem } in self.main.repeated.take().into_iter().chain(result.err()) {
            self.inspection.errors.push(file.error(offset, problem));
        }
    }

    fn walk_main(&mut self, reader: &mut Reader) -> Result<(), At> {
        self.main.walk(reader, &mut self.follower)?;
        self.seen.live = true;
        let (begin, len) = (reader.offset(), reader.len());
        self.main.walk_tail(reader)?;
        let end = self.main.follower.offset();
        let Some(description) = self.main.follower.description() else {
            // a source may omit it: then the tail cannot be explained, but it must still end as a tail does
            if !self.main.follower.is_at_bare_end() {
                return Err(At::new(len, CaptureProblem::Cut { within: StreamPart::Tail }));
            }
            self.seen.tail = true;
            self.inspection.notes.push(Note::NoDescription { offset: begin, bytes: len - begin });
            return Ok(());
        };
        self.seen.description = true;
        let mut tail = FullSections::default();
        let explained = tail.explain(reader, begin, end, description);
        let result = explained.and(match len - end {
            0 => Ok(()),
            bytes => Err(At::new(end, CaptureProblem::Trailing { bytes })),
        });
        self.seen.tail = result.is_ok();
        self.main.stream.full_sections = tail.count;
        for section in &tail.devices {
            if let Some(device) = self.follower.find(section.id) {
                verify::full_section(&mut device.state, section, reader)?;
            }
        }
        result
    }

    fn channel(&mut self, Opened { file, mut reader, .. }: Opened, init: Init) {
        let place = u16::try_from(self.inspection.connections.len()).expect("the number of files is bounded");
        let page_size = self.main.follower.page_size();
        let mut connection = connection(&file, Kind::Multifd, reader.len());
        connection.id = Some(init.id);
        connection.uuid = Some(Uuid(init.uuid));
        let (packets, follower) = (&mut self.packets, &mut self.follower);
        let result = channel::walk(&mut reader, page_size, &mut connection, |reader, packet, offset| {
            packets.take(reader, follower, &packet, offset, place)
        });
        self.inspection.connections.push(connection);
        if let Err(At { offset, problem }) = result {
            self.seen.broken.push(place);
            self.inspection.errors.push(file.error(offset, problem));
        }
    }

    /// Adds what can be judged only after all files have been read.
    fn conclude(self) -> Inspection {
        let Whole { mut inspection, main, follower, packets, seen } = self;
        verify::connections(&mut inspection, &main, &seen);
        verify::devices(&mut inspection, follower.devices, packets, &seen);
        let (page_size, flushes) = (main.follower.page_size().bytes(), main.follower.flushes());
        inspection.stream = Stream { page_size, flushes, ..main.stream };
        inspection
    }
}

fn connection(file: &Named, kind: Kind, bytes: u64) -> Connection {
    Connection {
        file: file.name.clone(),
        path: file.path.clone(),
        kind,
        id: None,
        uuid: None,
        bytes,
        packets: 0,
        ram_packets: 0,
        syncs: 0,
        barriers: Vec::new(),
        normal_pages: 0,
        zero_pages: 0,
        device_packets: 0,
    }
}

//! The tail of the main connection: full sections, which carry no length, explained to the last byte by the description that
//! QEMU puts behind them.

use super::description::{Description, Section, Step};
use super::reader::{At, Reader};
use crate::error::{CaptureProblem, TailDifference};
use crate::wire::Malformed;
use crate::wire::qemu::{Idstr, TailScanner};

const TAIL: &str = "the full sections of the main connection, or their description";
const SECTION_EOF: u8 = 0x00;
const SECTION_FULL: u8 = 0x04;
const SUBSECTION: u8 = 0x05;
const FOOTER: u8 = 0x7e;
/// `00`, `06` and a length.
const ANNOUNCEMENT_LEN: u64 = 6;
/// `7e`, a section's number, `00`.
const CLOSE_LEN: usize = 6;

/// What the tail holds.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// Full sections that are explained.
    pub(super) sections: u64,
    /// Those of VFIO devices, with the place of what is in them.
    pub(super) devices: Vec<DeviceSection>,
    /// There was a description.
    pub(super) is_described: bool,
}

/// The full section of a VFIO device.
#[derive(Debug)]
pub(crate) struct DeviceSection {
    pub(crate) idstr: Idstr,
    pub(crate) instance: u32,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// Where the description of a tail is.
struct Found {
    offset: u64,
    len: u32,
}

impl Tail {
    /// Follows the tail from where the reader stands to the end of the file. What was explained before a problem stays.
    pub(super) fn walk(&mut self, reader: &mut Reader) -> Result<(), At> {
        let begin = reader.offset();
        let (found, trailing) = find(reader)?;
        let Some(found) = found else { return without_description(reader, begin) };
        self.is_described = true;
        reader.seek(found.offset)?;
        let json = reader.take_vec(found.len, TAIL)?;
        let description = Description::parse(&json).map_err(|error| {
            // the parser's words can hold bytes of the text
            let what = error.to_string().chars().filter(|char| !char.is_control()).take(200).collect();
            At::new(found.offset, CaptureProblem::Description { what })
        })?;
        drop(json);
        reader.seek(begin)?;
        let end = found.offset - ANNOUNCEMENT_LEN;
        for section in &description.devices {
            self.section(reader, section, end)?;
            self.sections += 1;
        }
        if reader.offset() != end {
            let section = description.devices.last().map_or("", |section| &section.name);
            return Err(difference(reader.offset(), section, TailDifference::NoEnd));
        }
        match trailing {
            0 => Ok(()),
            bytes => Err(At::new(reader.len() - bytes, CaptureProblem::Trailing { bytes })),
        }
    }

    fn section(&mut self, reader: &mut Reader, section: &Section, end: u64) -> Result<(), At> {
        let begin = reader.offset();
        let differs = |offset, what| difference(offset, &section.name, what);
        if begin >= end {
            return Err(differs(begin, TailDifference::Missing));
        }
        let [found] = reader.take(TAIL)?;
        if found != SECTION_FULL {
            return Err(differs(begin, TailDifference::NoSection { found }));
        }
        let id: [u8; 4] = reader.take(TAIL)?;
        let [len] = reader.take(TAIL)?;
        let name = reader.take_vec(len.into(), TAIL)?;
        let instance = u32::from_be_bytes(reader.take(TAIL)?);
        let version = u32::from_be_bytes(reader.take(TAIL)?);
        if name != section.name.as_bytes() || instance != section.instance_id {
            let found = format!("{}#{instance}", printable(&name)).into();
            return Err(differs(begin, TailDifference::OtherSection { found }));
        }
        if let Some(expected) = section.version.filter(|expected| *expected != version) {
            return Err(differs(begin, TailDifference::Version { found: version, expected }));
        }
        let content = reader.offset();
        self.content(reader, section)?;
        let behind = reader.offset();
        let footer: [u8; 5] = reader.take(TAIL)?;
        if footer[0] != FOOTER || footer[1..] != id {
            return Err(differs(behind, TailDifference::NoFooter));
        }
        if let Ok(idstr) = Idstr::new(&name)
            && idstr.is_vfio()
        {
            self.devices.push(DeviceSection { idstr, instance, offset: content, bytes: behind - content });
        }
        Ok(())
    }

    fn content(&mut self, reader: &mut Reader, section: &Section) -> Result<(), At> {
        for step in section.steps() {
            match step {
                Step::Skip(bytes) => reader.skip(*bytes, TAIL)?,
                Step::Subsection { name, version } => {
                    let offset = reader.offset();
                    let [kind, len] = reader.take(TAIL)?;
                    let found = reader.take_vec(len.into(), TAIL)?;
                    let found_version: [u8; 4] = reader.take(TAIL)?;
                    let is_expected = kind == SUBSECTION
                        && found == name.as_bytes()
                        && found_version == version.to_be_bytes();
                    if !is_expected {
                        let expected = printable(name.as_bytes()).into();
                        return Err(difference(
                            offset,
                            &section.name,
                            TailDifference::NoSubsection { expected },
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Looks for the description, and counts what follows it.
fn find(reader: &mut Reader) -> Result<(Option<Found>, u64), At> {
    let mut scanner = TailScanner::new();
    let begin = reader.offset();
    loop {
        let bytes = reader.peek()?;
        if bytes.is_empty() {
            break;
        }
        let taken = bytes.len();
        match scanner.take(bytes) {
            Ok(()) | Err(Malformed::Trailing { .. }) => {}
            Err(malformed) => {
                return Err(At::new(begin, crate::qemu::capture::reader::broken("the tail", malformed)));
            }
        }
        reader.consume(taken);
        if scanner.ended().is_some() {
            break;
        }
    }
    let found = scanner.ended().map(|len| {
        let end = begin + scanner.offset();
        Found { offset: end - u64::from(len), len }
    });
    let end = begin + scanner.offset();
    Ok((found, reader.len().saturating_sub(end)))
}

/// A source may leave the description out. Then the tail cannot be explained, but it must end as one does.
fn without_description(reader: &mut Reader, begin: u64) -> Result<(), At> {
    let cut = At::new(reader.len(), CaptureProblem::Cut { within: TAIL });
    if reader.len() < begin + CLOSE_LEN as u64 {
        return Err(cut);
    }
    reader.seek(reader.len() - CLOSE_LEN as u64)?;
    let close: [u8; CLOSE_LEN] = reader.take(TAIL)?;
    if close[0] != FOOTER || close[CLOSE_LEN - 1] != SECTION_EOF {
        return Err(cut);
    }
    Ok(())
}

fn difference(offset: u64, section: &str, difference: TailDifference) -> At {
    At::new(offset, CaptureProblem::Tail { section: printable(section.as_bytes()).into(), difference })
}

/// A name from a file, as a terminal can show it.
fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().filter(|char| !char.is_control()).take(255).collect()
}

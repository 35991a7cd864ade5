//! Parses the tail of the main connection: full sections, which carry no length, and the description after them, with
//! which QEMU explains them to the last byte.
//!
//! The tail is in a file, which is a capture's or was kept while the tail came. The caller, which followed the
//! connection, passes the description's position.

mod description;

use self::description::{Description, Section, Step};
use super::follow::DeviceId;
use super::reader::{At, Reader};
use crate::error::{CaptureProblem, StreamPart, TailDifference};
use crate::limits::CONFIG_SIZE_MAX;
use crate::vfio::config_state::{CONFIG_LOAD_READY_TAG, CONFIG_STATE_TAG, END_OF_STATE_TAG};
use crate::wire::is_printable;
use crate::wire::qemu::Idstr;

const SECTION_FULL: u8 = 0x04;
const SUBSECTION: u8 = 0x05;
const FOOTER: u8 = 0x7e;
/// `00`, `06` and a length.
const ANNOUNCEMENT_LEN: u64 = 6;

/// What a tail holds.
#[derive(Debug, Default)]
pub(super) struct FullSections {
    /// How many full sections the description explains.
    pub(super) count: u64,
    /// Those of VFIO devices, with the position of their content.
    pub(super) devices: Vec<DeviceSection>,
}

/// The full section of a VFIO device.
#[derive(Debug)]
pub(super) struct DeviceSection {
    pub(super) id: DeviceId,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// What is in the full section of a VFIO device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Its config state.
    Config,
    /// A marker: the config state travels elsewhere.
    Elsewhere,
    /// Neither.
    Strange,
}

impl DeviceSection {
    /// Its content and bytes. A section larger than config state may be is strange, and is not read.
    pub(super) fn content(&self, reader: &mut Reader) -> Result<(Content, Vec<u8>), At> {
        let Some(len) = u32::try_from(self.bytes).ok().filter(|&len| len as usize <= CONFIG_SIZE_MAX) else {
            return Ok((Content::Strange, Vec::new()));
        };
        reader.seek(self.offset)?;
        let bytes = reader.take_vec(len, StreamPart::FullSection)?;
        let content = match bytes.split_first_chunk() {
            Some((tag, rest)) => match u64::from_be_bytes(*tag) {
                END_OF_STATE_TAG | CONFIG_LOAD_READY_TAG if rest.is_empty() => Content::Elsewhere,
                CONFIG_STATE_TAG => Content::Config,
                _ => Content::Strange,
            },
            None => Content::Strange,
        };
        Ok((content, bytes))
    }
}

impl FullSections {
    /// Explains a tail from `begin` to `end`, where its description of `description` bytes ends. Sections explained
    /// before a problem are kept.
    pub(super) fn explain(
        &mut self,
        reader: &mut Reader,
        begin: u64,
        end: u64,
        description: u32,
    ) -> Result<(), At> {
        let described_at = end - u64::from(description);
        reader.seek(described_at)?;
        let json = reader.take_vec(description, StreamPart::Tail)?;
        let description = Description::parse(&json).map_err(|error| {
            // the parser's message can contain bytes of the text
            let what = error.to_string().chars().filter(|&char| is_printable(char)).take(200).collect();
            At::new(described_at, CaptureProblem::Description { what })
        })?;
        drop(json);
        reader.seek(begin)?;
        let end = described_at - ANNOUNCEMENT_LEN;
        for section in &description.devices {
            self.section(reader, section, end)?;
            self.count += 1;
        }
        if reader.offset() != end {
            let section = description.devices.last().map_or("", |section| &section.name);
            return Err(difference(reader.offset(), section, TailDifference::NoEnd));
        }
        Ok(())
    }

    fn section(&mut self, reader: &mut Reader, section: &Section, end: u64) -> Result<(), At> {
        let begin = reader.offset();
        let differs = |offset, what| difference(offset, &section.name, what);
        if begin >= end {
            return Err(differs(begin, TailDifference::Missing));
        }
        let [found] = reader.take(StreamPart::Tail)?;
        if found != SECTION_FULL {
            return Err(differs(begin, TailDifference::NoSection { found }));
        }
        let id: [u8; 4] = reader.take(StreamPart::Tail)?;
        let [len] = reader.take(StreamPart::Tail)?;
        let name = reader.take_vec(len.into(), StreamPart::Tail)?;
        let instance = u32::from_be_bytes(reader.take(StreamPart::Tail)?);
        let version = u32::from_be_bytes(reader.take(StreamPart::Tail)?);
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
        let footer: [u8; 5] = reader.take(StreamPart::Tail)?;
        if footer[0] != FOOTER || footer[1..] != id {
            return Err(differs(behind, TailDifference::NoFooter));
        }
        if let Ok(idstr) = Idstr::new(&name)
            && idstr.is_vfio()
        {
            let id = DeviceId { idstr, instance };
            self.devices.push(DeviceSection { id, offset: content, bytes: behind - content });
        }
        Ok(())
    }

    fn content(&mut self, reader: &mut Reader, section: &Section) -> Result<(), At> {
        for step in section.steps() {
            match step {
                Step::Skip(bytes) => reader.skip(*bytes, StreamPart::Tail)?,
                Step::Subsection { name, version } => {
                    let offset = reader.offset();
                    let [kind, len] = reader.take(StreamPart::Tail)?;
                    let found = reader.take_vec(len.into(), StreamPart::Tail)?;
                    let found_version: [u8; 4] = reader.take(StreamPart::Tail)?;
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

fn difference(offset: u64, section: &str, difference: TailDifference) -> At {
    At::new(offset, CaptureProblem::Tail { section: printable(section.as_bytes()).into(), difference })
}

/// A name from a file, made safe for a terminal.
fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().filter(|&char| is_printable(char)).take(255).collect()
}

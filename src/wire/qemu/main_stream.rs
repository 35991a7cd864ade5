//! The main connection up to its first full section, in pieces of any size.
//!
//! Sections carry no length: their content has to be understood to find their end. START, PART and END sections belong
//! to RAM and to VFIO devices, and are understood here. FULL sections belong to every other part of a machine and are
//! not. From the first of them on the stream is its *tail*; a VFIO device has sent everything that matters by then,
//! unless its state does not travel on multifd connections.

mod configuration;
mod ram;
mod sections;
mod vfio;

use super::{Idstr, PageSize};
use crate::limits::{DEVICES_MAX, NAME_MAX};
use crate::wire::Malformed;
use crate::wire::cursor::be32;

/// The section that opens a RAM block or a device for those that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// Its number, by which PART and END sections refer to it.
    pub id: u32,
    /// `ram`, or a device's name.
    pub idstr: Idstr,
    /// Its instance.
    pub instance: u32,
    /// The version of its content.
    pub version: u32,
}

/// A command to the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// The destination may send from now on.
    OpenReturnPath,
    /// The destination answers with the same number.
    Ping(u32),
    /// The source's devices have stopped: what comes now is the last of their state.
    SwitchoverStart,
}

/// What the stream contains, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// The magic and the version.
    Header,
    /// The machine type.
    Machine(Idstr),
    /// The size of memory pages, when it is not 4 KiB.
    PageSize(PageSize),
    /// A capability that source and destination must have in common.
    Capability(Idstr),
    /// The virtual machine's UUID, when the source has it checked.
    Uuid([u8; 16]),
    /// A command.
    Command(Command),
    /// A START section begins.
    Start(Section),
    /// A PART section of the section with this number begins.
    Part(u32),
    /// The END section of the section with this number begins.
    End(u32),
    /// All of RAM, in bytes.
    RamTotal(u64),
    /// A block of RAM.
    RamBlock {
        /// Its name.
        name: Idstr,
        /// Its size in bytes.
        used: u64,
    },
    /// A page sent on this connection; its bytes follow unless it is zero.
    RamPage {
        /// Whether it is zero.
        zero: bool,
    },
    /// All multifd connections have reached their SYNC: a barrier.
    RamFlush,
    /// The section's RAM is complete.
    RamEnd,
    /// A device begins.
    VfioSetup,
    /// This many bytes of a device's state follow.
    VfioDataBegin(u32),
    /// Some of these bytes.
    VfioData(&'a [u8]),
    /// A device has sent its initial state: it may be switched over.
    VfioInitDataSent,
    /// The section's device state is complete.
    VfioEnd,
    /// The section with this number is over.
    Footer(u32),
    /// The first FULL section, or the end. No byte of it is taken, nor of anything after it.
    Tail,
}

/// Whose section it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handler {
    Ram,
    Vfio,
}

/// What is expected next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    /// Required directly behind the header.
    Configuration,
    MachineLength,
    Machine,
    SubsectionNameLength,
    SubsectionName,
    SubsectionVersion(Subsection),
    Subsection(Subsection),
    Capability {
        remaining: u32,
    },
    Between,
    SectionId {
        kind: u8,
    },
    SectionNameLength {
        id: u32,
    },
    SectionName {
        id: u32,
    },
    SectionVersion {
        id: u32,
        idstr: Idstr,
    },
    Ram,
    RamPageBlockLength {
        zero: bool,
    },
    RamPageBlock {
        zero: bool,
    },
    RamPageZero,
    RamPageBytes {
        remaining: u32,
    },
    RamBlockLength {
        remaining: u64,
    },
    RamBlockName {
        remaining: u64,
    },
    RamBlockSize {
        remaining: u64,
        name: Idstr,
    },
    Vfio,
    VfioDataLength,
    VfioData {
        remaining: u32,
    },
    Footer,
    CommandHeader,
    CommandPing,
    Tail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subsection {
    PageBits,
    Capabilities,
    Uuid,
}

/// Follows a main connection.
#[derive(Debug, Clone)]
pub struct MainStream {
    state: State,
    /// A field that came in pieces. The longest is a name.
    buffer: [u8; NAME_MAX],
    filled: usize,
    /// The length of the next name.
    name_len: usize,
    offset: u64,
    page_size: PageSize,
    /// Subsections of the configuration may follow.
    in_configuration: bool,
    ram_blocks: usize,
    sections: [(u32, Handler); DEVICES_MAX + 1],
    sections_len: usize,
    /// The section that is open.
    section: u32,
}

impl Default for MainStream {
    fn default() -> MainStream {
        MainStream::new()
    }
}

impl MainStream {
    /// At the beginning of the connection.
    pub fn new() -> MainStream {
        MainStream {
            state: State::Header,
            buffer: [0; NAME_MAX],
            filled: 0,
            name_len: 0,
            offset: 0,
            page_size: PageSize::default(),
            in_configuration: false,
            ram_blocks: 0,
            sections: [(0, Handler::Ram); DEVICES_MAX + 1],
            sections_len: 0,
            section: 0,
        }
    }

    /// Bytes taken so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The size of memory pages, known for certain from the first section on.
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Takes from `bytes`: returns how many it took, and the event that they completed. Without an event it took all of
    /// them. After [`Event::Tail`] it takes none.
    ///
    /// After an error the stream cannot be followed any further; [`offset`](MainStream::offset) is where the invalid
    /// field begins.
    pub fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<(usize, Option<Event<'a>>), Malformed> {
        let mut taken = 0;
        loop {
            match self.state {
                State::Tail => return Ok((taken, Some(Event::Tail))),
                State::VfioData { remaining } => {
                    let data = self.pass(&bytes[taken..], remaining);
                    let remaining = remaining - u32::try_from(data.len()).expect("at most what remains");
                    self.state = if remaining == 0 { State::Vfio } else { State::VfioData { remaining } };
                    let event = (!data.is_empty()).then_some(Event::VfioData(data));
                    return Ok((taken + data.len(), event));
                }
                State::RamPageBytes { remaining } => {
                    let passed = self.pass(&bytes[taken..], remaining).len();
                    taken += passed;
                    let remaining = remaining - u32::try_from(passed).expect("at most what remains");
                    if remaining > 0 {
                        self.state = State::RamPageBytes { remaining };
                        return Ok((taken, None));
                    }
                    self.state = State::Ram;
                }
                _ => {
                    // a type byte is examined before it is taken: the tail begins with its own type byte
                    let wanted = self.wanted();
                    let before = self.filled;
                    let came = (wanted - before).min(bytes.len() - taken);
                    self.buffer[self.filled..self.filled + came].copy_from_slice(&bytes[taken..taken + came]);
                    self.filled += came;
                    if self.filled < wanted {
                        taken += came;
                        self.offset += came as u64;
                        return Ok((taken, None));
                    }
                    self.filled = 0;
                    // an error is reported where the field begins, whatever pieces it came in
                    let event = self.decode().inspect_err(|_| self.offset -= before as u64)?;
                    if self.state == State::Tail {
                        return Ok((taken, Some(Event::Tail)));
                    }
                    taken += came;
                    self.offset += came as u64;
                    if event.is_some() {
                        return Ok((taken, event));
                    }
                }
            }
        }
    }

    fn pass<'a>(&mut self, bytes: &'a [u8], remaining: u32) -> &'a [u8] {
        let passed = &bytes[..bytes.len().min(remaining as usize)];
        self.offset += passed.len() as u64;
        passed
    }

    /// Length of the next field.
    fn wanted(&self) -> usize {
        match self.state {
            State::Header | State::Ram | State::RamBlockSize { .. } | State::Vfio | State::VfioDataLength => {
                8
            }
            State::SectionVersion { .. } => 8,
            State::Machine
            | State::SubsectionName
            | State::SectionName { .. }
            | State::RamBlockName { .. }
            | State::RamPageBlock { .. } => self.name_len,
            State::Capability { .. } if self.name_len > 0 => self.name_len,
            State::Subsection(Subsection::Uuid) => 16,
            State::MachineLength
            | State::SectionId { .. }
            | State::SubsectionVersion(_)
            | State::Subsection(_)
            | State::CommandHeader
            | State::CommandPing => 4,
            State::Footer => 5,
            _ => 1,
        }
    }

    /// The field is complete.
    fn decode(&mut self) -> Result<Option<Event<'static>>, Malformed> {
        match self.state {
            State::Header => self.on_header().map(Some),
            State::Configuration | State::Between => self.on_section_type(),
            State::MachineLength => self.on_machine_length(),
            State::Machine => {
                self.state = State::Between;
                self.in_configuration = true;
                Ok(Some(Event::Machine(self.name()?)))
            }
            State::SubsectionNameLength => self.expect_name(State::SubsectionName),
            State::SubsectionName => self.on_subsection_name(),
            State::SubsectionVersion(subsection) => {
                self.on_subsection_version()?;
                self.state = State::Subsection(subsection);
                Ok(None)
            }
            State::Subsection(subsection) => self.on_subsection(subsection),
            State::Capability { remaining } => self.on_capability(remaining),
            State::SectionId { kind } => self.on_section_id(kind),
            State::SectionNameLength { id } => self.expect_name(State::SectionName { id }),
            State::SectionName { id } => {
                self.state = State::SectionVersion { id, idstr: self.name()? };
                Ok(None)
            }
            State::SectionVersion { id, idstr } => self.on_start(id, idstr).map(Some),
            State::Ram => self.on_ram(),
            State::RamPageBlockLength { zero } => self.expect_name(State::RamPageBlock { zero }),
            State::RamPageBlock { zero } => {
                self.name()?;
                Ok(Some(self.on_page(zero)))
            }
            State::RamPageZero => {
                self.state = State::Ram;
                zero("byte of a zero page", self.buffer[0].into()).map(|()| None)
            }
            State::RamBlockLength { remaining } => self.expect_name(State::RamBlockName { remaining }),
            State::RamBlockName { remaining } => {
                self.state = State::RamBlockSize { remaining, name: self.name()? };
                Ok(None)
            }
            State::RamBlockSize { remaining, name } => self.on_ram_block(remaining, name).map(Some),
            State::Vfio => self.on_vfio(),
            State::VfioDataLength => self.on_vfio_data_length().map(Some),
            State::Footer => self.on_footer().map(Some),
            State::CommandHeader => self.on_command(),
            State::CommandPing => {
                self.state = State::Between;
                Ok(Some(Event::Command(Command::Ping(be32(&self.buffer, 0)))))
            }
            State::VfioData { .. } | State::RamPageBytes { .. } | State::Tail => Ok(None),
        }
    }

    /// A byte with the length of a name.
    fn expect_name(&mut self, next: State) -> Result<Option<Event<'static>>, Malformed> {
        self.name_len = self.buffer[0].into();
        if self.name_len == 0 {
            return Err(Malformed::Value { field: "name length", found: 0 });
        }
        self.state = next;
        Ok(None)
    }

    fn name(&self) -> Result<Idstr, Malformed> {
        Idstr::new(&self.buffer[..self.name_len])
    }
}

fn zero(field: &'static str, found: u64) -> Result<(), Malformed> {
    if found == 0 { Ok(()) } else { Err(Malformed::Value { field, found }) }
}

#[cfg(test)]
mod tests;

//! Where sections and commands begin and end.

use super::{Command, Event, Handler, MainStream, Section, State};
use crate::wire::Malformed;
use crate::wire::cursor::be32;
use crate::wire::qemu::Idstr;

const SECTION_EOF: u8 = 0x00;
const SECTION_START: u8 = 0x01;
const SECTION_PART: u8 = 0x02;
const SECTION_END: u8 = 0x03;
const SECTION_FULL: u8 = 0x04;
const SUBSECTION: u8 = 0x05;
const CONFIGURATION: u8 = 0x07;
const COMMAND: u8 = 0x08;
const FOOTER: u8 = 0x7e;

impl MainStream {
    /// One byte names what follows.
    pub(super) fn on_section_type(&mut self) -> Result<Option<Event<'static>>, Malformed> {
        let kind = self.buffer[0];
        self.state = match kind {
            CONFIGURATION if self.state == State::Configuration => State::MachineLength,
            _ if self.state == State::Configuration => return Err(section_type(kind)),
            SUBSECTION if self.in_configuration => State::SubsectionNameLength,
            SECTION_START | SECTION_PART | SECTION_END => State::SectionId { kind },
            COMMAND => State::CommandHeader,
            SECTION_FULL | SECTION_EOF => State::Tail,
            _ => return Err(section_type(kind)),
        };
        self.in_configuration &= kind == SUBSECTION;
        Ok(None)
    }

    pub(super) fn on_section_id(&mut self, kind: u8) -> Result<Option<Event<'static>>, Malformed> {
        let id = be32(&self.buffer, 0);
        let known = self.handler(id);
        self.section = id;
        match (kind, known) {
            (SECTION_START, None) => self.state = State::SectionNameLength { id },
            (SECTION_PART | SECTION_END, Some(handler)) => {
                self.state = first_state(handler);
                return Ok(Some(if kind == SECTION_PART { Event::Part(id) } else { Event::End(id) }));
            }
            _ => return Err(Malformed::Value { field: "section number", found: id.into() }),
        }
        Ok(None)
    }

    fn handler(&self, id: u32) -> Option<Handler> {
        let known = &self.sections[..self.sections_len];
        known.iter().find(|(known, _)| *known == id).map(|(_, handler)| *handler)
    }

    pub(super) fn on_start(&mut self, id: u32, idstr: Idstr) -> Result<Event<'static>, Malformed> {
        let (instance, version) = (be32(&self.buffer, 0), be32(&self.buffer, 4));
        let (handler, expected) = match idstr.as_str() {
            "ram" => (Handler::Ram, 4),
            _ if idstr.is_vfio() => (Handler::Vfio, 1),
            _ => {
                return Err(Malformed::Unsupported {
                    what: "a live section that is neither RAM nor a VFIO device",
                });
            }
        };
        if version != expected {
            return Err(Malformed::Value { field: "section version", found: version.into() });
        }
        let max = self.sections.len() as u64;
        let place = self.sections.get_mut(self.sections_len).ok_or(Malformed::TooLong {
            field: "list of sections",
            found: max + 1,
            max,
        })?;
        *place = (id, handler);
        self.sections_len += 1;
        self.state = first_state(handler);
        Ok(Event::Start(Section { id, idstr, instance, version }))
    }

    pub(super) fn on_footer(&mut self) -> Result<Event<'static>, Malformed> {
        let id = be32(&self.buffer, 1);
        if self.buffer[0] != FOOTER {
            return Err(Malformed::Value { field: "section footer", found: self.buffer[0].into() });
        }
        if id != self.section {
            return Err(Malformed::Value { field: "section number in a footer", found: id.into() });
        }
        self.state = State::Between;
        Ok(Event::Footer(id))
    }

    pub(super) fn on_command(&mut self) -> Result<Option<Event<'static>>, Malformed> {
        let (command, len) = (be32(&self.buffer, 0) >> 16, be32(&self.buffer, 0) & 0xffff);
        self.state = State::Between;
        let event = match (command, len) {
            (1, 0) => Command::OpenReturnPath,
            (11, 0) => Command::SwitchoverStart,
            (2, 4) => {
                self.state = State::CommandPing;
                return Ok(None);
            }
            (3..=7 | 9 | 10, _) => return Err(Malformed::Unsupported { what: "postcopy" }),
            (8, _) => return Err(Malformed::Unsupported { what: "COLO" }),
            (1 | 2 | 11, _) => {
                return Err(Malformed::Value { field: "length of a command", found: len.into() });
            }
            _ => return Err(Malformed::Value { field: "command", found: command.into() }),
        };
        Ok(Some(Event::Command(event)))
    }
}

fn first_state(handler: Handler) -> State {
    match handler {
        Handler::Ram => State::Ram,
        Handler::Vfio => State::Vfio,
    }
}

fn section_type(found: u8) -> Malformed {
    Malformed::Value { field: "section type", found: found.into() }
}

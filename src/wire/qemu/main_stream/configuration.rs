//! The beginning of a main connection: magic, version, and what the machines must have in common.

use super::{Event, MainStream, State, Subsection};
use crate::limits::NAME_MAX;
use crate::wire::Malformed;
use crate::wire::cursor::{array, be32};
use crate::wire::qemu::{MAIN_MAGIC, PageSize};

const VERSION: u32 = 3;

impl MainStream {
    pub(super) fn on_header(&mut self) -> Result<Event<'static>, Malformed> {
        let (magic, version) = (be32(&self.buffer, 0), be32(&self.buffer, 4));
        if magic != MAIN_MAGIC {
            return Err(Malformed::Magic { found: magic });
        }
        if version != VERSION {
            return Err(Malformed::Value { field: "version", found: version.into() });
        }
        self.state = State::Configuration;
        Ok(Event::Header)
    }

    pub(super) fn on_machine_length(&mut self) -> Result<Option<Event<'static>>, Malformed> {
        let len = be32(&self.buffer, 0);
        self.name_len = usize::try_from(len)
            .ok()
            .filter(|len| (1..=NAME_MAX).contains(len))
            .ok_or(Malformed::TooLong { field: "machine type", found: len.into(), max: NAME_MAX as u64 })?;
        self.state = State::Machine;
        Ok(None)
    }

    pub(super) fn on_subsection_name(&mut self) -> Result<Option<Event<'static>>, Malformed> {
        let subsection = match self.name()?.as_str() {
            "configuration/target-page-bits" => Subsection::PageBits,
            "configuration/capabilities" => Subsection::Capabilities,
            "configuration/uuid" => Subsection::Uuid,
            _ => return Err(Malformed::Unsupported { what: "an unknown subsection of the configuration" }),
        };
        self.state = State::SubsectionVersion(subsection);
        Ok(None)
    }

    pub(super) fn on_subsection_version(&self) -> Result<(), Malformed> {
        match be32(&self.buffer, 0) {
            1 => Ok(()),
            found => Err(Malformed::Value { field: "subsection version", found: found.into() }),
        }
    }

    pub(super) fn on_subsection(
        &mut self,
        subsection: Subsection,
    ) -> Result<Option<Event<'static>>, Malformed> {
        self.state = State::Between;
        let value = be32(&self.buffer, 0);
        match subsection {
            Subsection::PageBits => {
                self.page_size = PageSize::new(value)?;
                Ok(Some(Event::PageSize(self.page_size)))
            }
            Subsection::Uuid => Ok(Some(Event::Uuid(array(&self.buffer, 0)))),
            Subsection::Capabilities => {
                if value > u32::from(u8::MAX) {
                    let max = u8::MAX.into();
                    return Err(Malformed::TooLong {
                        field: "list of capabilities",
                        found: value.into(),
                        max,
                    });
                }
                self.name_len = 0;
                if value > 0 {
                    self.state = State::Capability { remaining: value };
                }
                Ok(None)
            }
        }
    }

    /// A length and a name, alternately.
    pub(super) fn on_capability(&mut self, remaining: u32) -> Result<Option<Event<'static>>, Malformed> {
        if self.name_len == 0 {
            return self.expect_name(self.state);
        }
        let name = self.name()?;
        if matches!(name.as_str(), "x-ignore-shared" | "mapped-ram") {
            return Err(Malformed::Unsupported { what: "the capability x-ignore-shared or mapped-ram" });
        }
        self.name_len = 0;
        self.state =
            if remaining > 1 { State::Capability { remaining: remaining - 1 } } else { State::Between };
        Ok(Some(Event::Capability(name)))
    }
}

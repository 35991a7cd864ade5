//! Sections of VFIO devices: what they send before they stop, and all of it when nothing travels on multifd connections.

use super::{Event, MainStream, State};
use crate::limits::QEMU_STATE_MAX;
use crate::wire::Malformed;
use crate::wire::cursor::be64;

const VFIO_END_OF_STATE: u64 = 0xffff_ffff_ef10_0001;
const VFIO_CONFIG_STATE: u64 = 0xffff_ffff_ef10_0002;
const VFIO_SETUP_STATE: u64 = 0xffff_ffff_ef10_0003;
const VFIO_DATA_STATE: u64 = 0xffff_ffff_ef10_0004;
const VFIO_INIT_DATA_SENT: u64 = 0xffff_ffff_ef10_0005;
const VFIO_CONFIG_LOAD_READY: u64 = 0xffff_ffff_ef10_0006;

impl MainStream {
    pub(super) fn on_vfio(&mut self) -> Result<Option<Event<'static>>, Malformed> {
        let (next, event) = match be64(&self.buffer, 0) {
            VFIO_SETUP_STATE => (State::Vfio, Some(Event::VfioSetup)),
            VFIO_DATA_STATE => (State::VfioDataLength, None),
            VFIO_END_OF_STATE | VFIO_CONFIG_LOAD_READY => (State::Footer, Some(Event::VfioEnd)),
            VFIO_INIT_DATA_SENT => (State::Footer, Some(Event::VfioInitDataSent)),
            // it belongs into a FULL section
            VFIO_CONFIG_STATE => {
                return Err(Malformed::Unsupported { what: "config state in a live section" });
            }
            found => return Err(Malformed::Value { field: "VFIO flags", found }),
        };
        self.state = next;
        Ok(event)
    }

    pub(super) fn on_vfio_data_length(&mut self) -> Result<Event<'static>, Malformed> {
        let found = be64(&self.buffer, 0);
        let max = u64::from(QEMU_STATE_MAX);
        let len = u32::try_from(found).ok().filter(|&len| len <= QEMU_STATE_MAX);
        let len = len.ok_or(Malformed::TooLong { field: "state", found, max })?;
        self.state = if len > 0 { State::VfioData { remaining: len } } else { State::Vfio };
        Ok(Event::VfioDataBegin(len))
    }
}

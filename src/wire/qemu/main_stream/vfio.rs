//! Sections of VFIO devices: the state from before they stop, and all of it when none travels on multifd connections.

use super::{Event, MainStream, State};
use crate::limits::QEMU_STATE_MAX;
use crate::wire::Malformed;
use crate::wire::cursor::be64;
use crate::wire::vfio::{
    CONFIG_LOAD_READY_TAG, CONFIG_STATE_TAG, DATA_STATE_TAG, END_OF_STATE_TAG, INIT_DATA_SENT_TAG,
    SETUP_STATE_TAG,
};

impl MainStream {
    pub(super) fn on_vfio(&mut self) -> Result<Option<Event<'static>>, Malformed> {
        let (next, event) = match be64(&self.buffer, 0) {
            SETUP_STATE_TAG => (State::Vfio, Some(Event::VfioSetup)),
            DATA_STATE_TAG => (State::VfioDataLength, None),
            END_OF_STATE_TAG | CONFIG_LOAD_READY_TAG => (State::Footer, Some(Event::VfioEnd)),
            INIT_DATA_SENT_TAG => (State::Footer, Some(Event::VfioInitDataSent)),
            // it belongs in a FULL section
            CONFIG_STATE_TAG => {
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

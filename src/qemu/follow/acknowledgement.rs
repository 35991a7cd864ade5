//! When a source that waits for it is told that it may switch over: when every device has its initial state.
//!
//! QEMU's destination knows from its own devices how many of them have pre-copy and will say so. A stream alone does not
//! tell, so this goes by what the devices do: at best all that were announced have said it. A device without pre-copy never will; so
//! when a section comes by a second time, all that had something to send have had their turn, and those count alone.

use crate::wire::qemu::Event;

/// Follows a main connection until the source may switch over.
#[derive(Debug, Default)]
pub(super) struct Acknowledgement {
    devices: Vec<Device>,
    /// Sections that sent a part, until one does so again.
    parts: Vec<u32>,
    came_round: bool,
    section: u32,
}

#[derive(Debug)]
struct Device {
    section: u32,
    has_sent: bool,
    is_ready: bool,
}

impl Acknowledgement {
    /// Something came. The stream itself bounds how many devices there are.
    pub(super) fn see(&mut self, event: &Event<'_>) {
        match *event {
            Event::Start(section) if section.idstr.is_vfio() => {
                self.devices.push(Device { section: section.id, has_sent: false, is_ready: false });
            }
            Event::Part(id) => {
                self.section = id;
                self.came_round |= self.parts.contains(&id);
                if !self.came_round {
                    self.parts.push(id);
                }
                self.device().into_iter().for_each(|device| device.has_sent = true);
            }
            Event::VfioInitDataSent => self.device().into_iter().for_each(|device| device.is_ready = true),
            _ => {}
        }
    }

    fn device(&mut self) -> Option<&mut Device> {
        self.devices.iter_mut().find(|device| device.section == self.section)
    }

    /// Whether the source may switch over.
    pub(super) fn is_due(&self) -> bool {
        let mut ready = self.devices.iter().filter(|device| device.is_ready);
        let waits = |device: &Device| !device.is_ready && (device.has_sent || !self.came_round);
        ready.next().is_some() && !self.devices.iter().any(waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::qemu::{Idstr, Section};

    const READY: Event<'static> = Event::VfioInitDataSent;

    fn start(id: u32) -> Event<'static> {
        let idstr = Idstr::new(b"0000:00:01.0/vfio").unwrap();
        Event::Start(Section { id, idstr, instance: id, version: 1 })
    }

    fn due_after(events: &[Event<'_>]) -> bool {
        let mut ack = Acknowledgement::default();
        events.iter().for_each(|event| ack.see(event));
        ack.is_due()
    }

    #[test]
    fn one_device_that_is_ready_is_enough_when_there_is_no_other() {
        assert!(!due_after(&[start(1)]));
        assert!(!due_after(&[start(1), Event::Part(1)]));
        assert!(due_after(&[start(1), Event::Part(1), READY]));
    }

    #[test]
    fn every_device_has_to_be_ready() {
        let one = [start(1), start(2), Event::Part(1), READY, Event::Part(2)];
        assert!(!due_after(&one));
        assert!(due_after(&[&one[..], &[READY]].concat()));
    }

    #[test]
    fn a_device_that_sends_nothing_is_not_waited_for_when_all_have_had_their_turn() {
        let first = [start(1), start(2), Event::Part(9), Event::Part(1), READY];
        assert!(!due_after(&first), "the second may come yet");
        assert!(due_after(&[&first[..], &[Event::Part(9)]].concat()));
        let other = [start(1), start(2), Event::Part(1), READY, Event::Part(2), Event::Part(1)];
        assert!(!due_after(&other), "the second has sent, and is not ready");
    }

    #[test]
    fn ram_that_comes_round_first_says_nothing_of_devices() {
        assert!(!due_after(&[start(1), Event::Part(9), Event::Part(9), Event::Part(9)]));
        assert!(!due_after(&[]));
    }
}

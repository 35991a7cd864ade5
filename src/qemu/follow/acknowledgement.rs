//! Decides when to tell a waiting source that it may switch over: once every device has its initial state.
//!
//! A QEMU destination knows from its own devices how many of them have pre-copy and will report their initial state as
//! sent. A stream alone does not tell, so this goes by what the devices do. The clear case is that all announced
//! devices have reported it. A device without pre-copy never will; so once any section comes round a second time, every
//! device that had something to send has had its turn, and only those count.

use super::{Device, Follower};
use crate::wire::qemu::Event;

/// How far the devices have come with their initial state.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Sections that have sent a part, until one of them sends a second.
    parts: Vec<u32>,
    came_round: bool,
    /// The source has been told that it may switch over.
    is_acknowledged: bool,
}

impl<D> Follower<D> {
    /// Takes an event. Returns whether to tell the source now that it may switch over. The stream itself bounds how
    /// many sections there are.
    pub(super) fn acknowledges(&mut self, event: &Event<'_>) -> bool {
        match *event {
            Event::Part(id) => {
                let Rounds { parts, came_round, .. } = &mut self.rounds;
                *came_round |= parts.contains(&id);
                if !*came_round {
                    parts.push(id);
                }
                self.open().into_iter().for_each(|(device, _)| device.has_sent = true);
            }
            Event::VfioInitDataSent => {
                self.open().into_iter().for_each(|(device, _)| device.is_ready = true);
            }
            _ => {}
        }
        let is_first = !self.rounds.is_acknowledged && self.may_switch_over();
        self.rounds.is_acknowledged |= is_first;
        is_first
    }

    fn may_switch_over(&self) -> bool {
        let came_round = self.rounds.came_round;
        let waits = |device: &Device<D>| !device.is_ready && (device.has_sent || !came_round);
        let mut announced = self.devices.iter().filter(|device| device.announced.is_some());
        self.devices.iter().any(|device| device.is_ready) && !announced.any(waits)
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
        let mut follower = Follower::growing(drop);
        for event in events {
            follower.on_main(event, 0).unwrap();
        }
        follower.may_switch_over()
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
    fn ram_that_comes_round_first_tells_nothing_about_devices() {
        assert!(!due_after(&[start(1), Event::Part(9), Event::Part(9), Event::Part(9)]));
        assert!(!due_after(&[]));
    }
}

//! Follows a migration stream: one implementation for the recorder, the inspection of a capture, and the live receiver.
//!
//! [`MainFollower`] takes the bytes of a main connection and yields events, each with its offset. [`Follower`] takes
//! these events, and the device names in the channels' packets, and tracks what spans the connections of one migration:
//! its devices, whose section is open, and what to answer the source.
//!
//! Pure: bytes and events in, values out; no descriptor, no clock. The list of devices is either closed (a receiver
//! knows its own) or grows with the stream, to `DEVICES_MAX` at most. What a caller keeps for each device is its own
//! type, `D`.

mod acknowledgement;
mod device_id;
mod main_connection;
mod violation;

use std::collections::HashMap;

use self::acknowledgement::Rounds;
use crate::limits::DEVICES_MAX;
use crate::numbers::DeviceIdx;
use crate::session::index_set::IndexSet;
use crate::wire::qemu::{Command, Event, Reply, Section};

pub use self::device_id::DeviceId;
pub(crate) use self::main_connection::{MainFollower, Step};
pub(crate) use self::violation::{Violation, check_order, claim, disorder};

/// One device.
#[derive(Debug)]
pub(crate) struct Device<D> {
    pub(crate) id: DeviceId,
    /// The number of its sections and the offset of the first, once that came.
    pub(crate) announced: Option<(u32, u64)>,
    /// Its START section contains its setup.
    pub(crate) has_setup: bool,
    /// Its END section came.
    pub(crate) has_end: bool,
    /// It has sent a part.
    has_sent: bool,
    /// It has sent all of its initial state.
    is_ready: bool,
    /// What the caller keeps for it.
    pub(crate) state: D,
}

/// Follows a migration across all its connections.
#[derive(Debug)]
pub(crate) struct Follower<D> {
    pub(crate) devices: Vec<Device<D>>,
    /// The place of each device, by its name.
    names: HashMap<DeviceId, usize>,
    /// The place of each announced device, by the number of its sections.
    sections: HashMap<u32, usize>,
    /// Devices that have not been announced.
    unannounced: IndexSet<DeviceIdx>,
    /// Makes the caller's state for a device that the stream brings; none when the list is closed.
    make: Option<fn(DeviceId) -> D>,
    /// The device whose section is open.
    open: Option<usize>,
    /// That section is an END section: its device had stopped when it sent what is in there.
    is_end: bool,
    /// SWITCHOVER_START came.
    pub(crate) has_switched: bool,
    rounds: Rounds,
}

impl<D> Follower<D> {
    /// With devices as the stream brings them.
    pub(crate) fn growing(make: fn(DeviceId) -> D) -> Follower<D> {
        Follower { make: Some(make), ..Follower::closed(std::iter::empty()) }
    }

    /// With these devices and no others.
    pub(crate) fn closed(devices: impl Iterator<Item = (DeviceId, D)>) -> Follower<D> {
        let devices: Vec<_> = devices.map(|(id, state)| Device::new(id, state)).collect();
        Follower {
            names: devices.iter().enumerate().map(|(place, device)| (device.id, place)).collect(),
            sections: HashMap::with_capacity(devices.len()),
            unannounced: IndexSet::below(devices.len()),
            devices,
            make: None,
            open: None,
            is_end: false,
            has_switched: false,
            rounds: Rounds::default(),
        }
    }

    /// Takes an event of the main connection at offset `begin`. Returns what to answer the source if it listens.
    pub(crate) fn on_main(&mut self, event: &Event<'_>, begin: u64) -> Result<Option<Reply>, Violation> {
        match event {
            Event::Command(Command::Ping(number)) => return Ok(Some(Reply::Pong(*number))),
            Event::Command(Command::SwitchoverStart) => self.has_switched = true,
            Event::Start(section) => self.on_start(section, begin)?,
            Event::Part(id) => self.on_section(*id, false),
            Event::End(id) => {
                self.on_section(*id, true);
                self.open().into_iter().for_each(|(device, _)| device.has_end = true);
            }
            Event::VfioSetup => self.open().into_iter().for_each(|(device, _)| device.has_setup = true),
            _ => {}
        }
        Ok(self.acknowledges(event).then_some(Reply::SwitchoverAck))
    }

    fn on_start(&mut self, section: &Section, begin: u64) -> Result<(), Violation> {
        (self.open, self.is_end) = (None, false);
        if !section.idstr.is_vfio() {
            return Ok(());
        }
        let place = self.place(section.into())?;
        let device = &mut self.devices[place];
        if let Some((_, first)) = device.announced {
            return Err(Violation::SecondStart { device: device.id.to_string().into(), first });
        }
        device.announced = Some((section.id, begin));
        self.unannounced.remove(DeviceIdx::from_index(place));
        // of devices with the same number of sections, the first in the list has them
        let of_section = self.sections.entry(section.id).or_insert(place);
        *of_section = place.min(*of_section);
        self.on_section(section.id, false);
        Ok(())
    }

    fn on_section(&mut self, id: u32, is_end: bool) {
        self.open = self.sections.get(&id).copied();
        self.is_end = is_end;
    }

    /// The device whose section is open, and whether it had stopped when it sent what is in there.
    pub(crate) fn open(&mut self) -> Option<(&mut Device<D>, bool)> {
        let has_stopped = self.is_end || self.has_switched;
        self.open.map(|open| (&mut self.devices[open], has_stopped))
    }

    /// The place of the device whose section is open.
    pub(crate) fn open_position(&self) -> Option<usize> {
        self.open
    }

    /// The place of the device of this name.
    pub(crate) fn position(&self, id: DeviceId) -> Option<usize> {
        self.names.get(&id).copied()
    }

    pub(crate) fn find(&mut self, id: DeviceId) -> Option<&mut Device<D>> {
        self.position(id).map(|place| &mut self.devices[place])
    }

    /// The device with this name; a new one if the list may grow.
    pub(crate) fn device(&mut self, id: DeviceId) -> Result<&mut Device<D>, Violation> {
        let place = self.place(id)?;
        Ok(&mut self.devices[place])
    }

    /// The place of the device with this name; of a new one if the list may grow.
    pub(crate) fn place(&mut self, id: DeviceId) -> Result<usize, Violation> {
        if let Some(place) = self.position(id) {
            return Ok(place);
        }
        let make = self.make.ok_or_else(|| Violation::Unknown { device: id.to_string().into() })?;
        let place = self.devices.len();
        if place >= DEVICES_MAX {
            return Err(Violation::TooMany);
        }
        self.devices.push(Device::new(id, make(id)));
        self.names.insert(id, place);
        self.unannounced.insert(DeviceIdx::from_index(place));
        Ok(place)
    }

    /// The first device that has not been announced.
    pub(crate) fn unannounced(&self) -> Option<DeviceId> {
        self.unannounced.first().map(|device| self.devices[device.index()].id)
    }
}

impl<D> Device<D> {
    fn new(id: DeviceId, state: D) -> Device<D> {
        Device {
            id,
            announced: None,
            has_setup: false,
            has_end: false,
            has_sent: false,
            is_ready: false,
            state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::qemu::Idstr;

    fn id(instance: u32) -> DeviceId {
        DeviceId { idstr: Idstr::new(b"0000:00:01.0/vfio").unwrap(), instance }
    }

    fn start(section: u32, instance: u32) -> Event<'static> {
        Event::Start(Section { id: section, idstr: id(instance).idstr, instance, version: 1 })
    }

    #[test]
    fn a_section_belongs_to_the_device_that_it_announced() {
        let mut follower = Follower::growing(drop);
        follower.on_main(&start(7, 0), 100).unwrap();
        follower.on_main(&Event::VfioSetup, 120).unwrap();
        follower.on_main(&start(9, 1), 200).unwrap();
        follower.on_main(&Event::Part(7), 300).unwrap();
        let (device, has_stopped) = follower.open().unwrap();
        assert_eq!((device.id, device.announced, has_stopped), (id(0), Some((7, 100)), false));
        follower.on_main(&Event::End(9), 400).unwrap();
        let (device, has_stopped) = follower.open().unwrap();
        assert_eq!((device.id, device.has_setup, device.has_end, has_stopped), (id(1), false, true, true));
        follower.on_main(&Event::Part(1), 500).unwrap();
        assert!(follower.open().is_none(), "a section of RAM belongs to no device");
    }

    #[test]
    fn what_a_device_sends_after_switchover_start_is_what_it_sent_when_it_had_stopped() {
        let mut follower = Follower::growing(drop);
        follower.on_main(&start(7, 0), 0).unwrap();
        follower.on_main(&Event::Command(Command::SwitchoverStart), 0).unwrap();
        follower.on_main(&Event::Part(7), 0).unwrap();
        assert!(follower.open().unwrap().1);
    }

    #[test]
    fn a_second_start_section_names_the_first_and_belongs_to_no_device() {
        let mut follower = Follower::growing(drop);
        follower.on_main(&start(7, 0), 100).unwrap();
        let violation = follower.on_main(&start(8, 0), 200).unwrap_err();
        assert_eq!(violation, Violation::SecondStart { device: "0000:00:01.0/vfio".into(), first: 100 });
        assert!(follower.open().is_none());
        follower.on_main(&Event::Part(8), 300).unwrap();
        assert!(follower.open().is_none());
    }

    #[test]
    fn of_two_devices_that_announce_the_same_sections_the_first_in_the_list_has_them() {
        for order in [[0, 1], [1, 0]] {
            let mut follower = Follower::closed([(id(0), ()), (id(1), ())].into_iter());
            for instance in order {
                assert!(follower.unannounced().is_some());
                follower.on_main(&start(7, instance), 0).unwrap();
            }
            follower.on_main(&Event::Part(7), 100).unwrap();
            assert_eq!((follower.open().unwrap().0.id, follower.unannounced()), (id(0), None));
        }
    }

    #[test]
    fn a_closed_list_takes_no_other_device_and_a_growing_one_as_many_as_a_machine_can_have() {
        let mut follower = Follower::closed([(id(0), ())].into_iter());
        assert!(follower.device(id(0)).is_ok());
        let unknown = Violation::Unknown { device: "0000:00:01.0/vfio#1".into() };
        assert_eq!(follower.on_main(&start(7, 1), 0), Err(unknown));
        let mut follower = Follower::growing(drop);
        let added =
            (0..300).map(|instance| follower.device(id(instance)).is_ok()).filter(|is_ok| *is_ok).count();
        assert_eq!(added, DEVICES_MAX);
        assert_eq!(follower.device(id(300)).err(), Some(Violation::TooMany));
    }
}

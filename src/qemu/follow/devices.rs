//! The devices of a migration, by name and by section, and which of them the main connection is speaking of.
//!
//! The list is either closed (a receiver knows its devices) or grows with the stream, to `DEVICES_MAX` at most.

use std::ops::{Index, IndexMut};

use super::DeviceId;
use crate::error::{CaptureProblem, DeviceProblem, Error, PeerError, Place, QemuError, Refusal, Side};
use crate::limits::DEVICES_MAX;
use crate::numbers::DeviceIdx;
use crate::wire::qemu::{Command, Event, Section};

/// One device.
#[derive(Debug)]
pub(crate) struct Device<D> {
    pub(crate) id: DeviceId,
    /// The number of its sections and where the first begins, once that came.
    pub(crate) announced: Option<(u32, u64)>,
    /// Its START section says that it begins.
    pub(crate) has_setup: bool,
    /// Its END section came.
    pub(crate) has_end: bool,
    /// What the caller keeps of it.
    pub(crate) state: D,
}

/// The devices of one migration.
#[derive(Debug)]
pub(crate) struct Devices<D> {
    all: Vec<Device<D>>,
    /// Makes what is kept of a device that the stream brings; none when the list is closed.
    make: Option<fn(DeviceId) -> D>,
    /// Whose section is open.
    open: Option<DeviceIdx>,
    /// What is in that section was sent by a device that had stopped.
    is_end: bool,
    has_switched: bool,
}

/// A device where it must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Violation {
    /// The receiver has no such device.
    Unknown { device: Box<str> },
    /// More devices than a machine has.
    TooMany,
    /// A second START section; the first is at this offset.
    SecondStart { device: Box<str>, first: u64 },
}

impl<D> Devices<D> {
    /// Devices as the stream brings them.
    pub(crate) fn growing(make: fn(DeviceId) -> D) -> Devices<D> {
        Devices { all: Vec::new(), make: Some(make), open: None, is_end: false, has_switched: false }
    }

    /// These devices and no others.
    pub(crate) fn closed(devices: impl Iterator<Item = (DeviceId, D)>) -> Devices<D> {
        let all = devices.map(|(id, state)| Device::new(id, state)).collect();
        Devices { all, make: None, open: None, is_end: false, has_switched: false }
    }

    pub(crate) fn find(&self, id: DeviceId) -> Option<DeviceIdx> {
        self.all.iter().position(|device| device.id == id).map(DeviceIdx::from_index)
    }

    /// The device of this name, a new one if there may be one.
    pub(crate) fn place(&mut self, id: DeviceId) -> Result<DeviceIdx, Violation> {
        if let Some(known) = self.find(id) {
            return Ok(known);
        }
        let make = self.make.ok_or_else(|| Violation::Unknown { device: id.to_string().into() })?;
        if self.all.len() >= DEVICES_MAX {
            return Err(Violation::TooMany);
        }
        self.all.push(Device::new(id, make(id)));
        Ok(DeviceIdx::from_index(self.all.len() - 1))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Device<D>> {
        self.all.iter()
    }

    /// The device whose section is open, and whether it had stopped when it sent what is in there.
    pub(crate) fn open(&mut self) -> Option<(&mut Device<D>, bool)> {
        let has_stopped = self.is_end || self.has_switched;
        self.open.map(|open| (&mut self[open], has_stopped))
    }

    /// Whether SWITCHOVER_START came.
    pub(crate) fn has_switched(&self) -> bool {
        self.has_switched
    }

    pub(super) fn on_main(&mut self, event: &Event<'_>, begin: u64) -> Result<(), Violation> {
        match event {
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
        Ok(())
    }

    fn on_start(&mut self, section: &Section, begin: u64) -> Result<(), Violation> {
        (self.open, self.is_end) = (None, false);
        if !section.idstr.is_vfio() {
            return Ok(());
        }
        let idx = self.place(section.into())?;
        let device = &mut self[idx];
        if let Some((_, first)) = device.announced {
            return Err(Violation::SecondStart { device: device.id.to_string().into(), first });
        }
        device.announced = Some((section.id, begin));
        self.open = Some(idx);
        Ok(())
    }

    fn on_section(&mut self, id: u32, is_end: bool) {
        let is_it = |device: &Device<D>| device.announced.is_some_and(|(section, _)| section == id);
        self.open = self.all.iter().position(is_it).map(DeviceIdx::from_index);
        self.is_end = is_end;
    }
}

impl<D> Device<D> {
    fn new(id: DeviceId, state: D) -> Device<D> {
        Device { id, announced: None, has_setup: false, has_end: false, state }
    }
}

impl<D> Index<DeviceIdx> for Devices<D> {
    type Output = Device<D>;

    fn index(&self, idx: DeviceIdx) -> &Device<D> {
        &self.all[idx.index()]
    }
}

impl<D> IndexMut<DeviceIdx> for Devices<D> {
    fn index_mut(&mut self, idx: DeviceIdx) -> &mut Device<D> {
        &mut self.all[idx.index()]
    }
}

impl<D> IntoIterator for Devices<D> {
    type Item = Device<D>;
    type IntoIter = std::vec::IntoIter<Device<D>>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.into_iter()
    }
}

impl Violation {
    /// For whoever takes the stream live.
    pub(crate) fn at(self, place: Place) -> Error {
        let error = match self {
            Violation::Unknown { device } => {
                return Error::Refused {
                    by: Side::Receiver,
                    reason: Refusal::DeviceMismatch { name: device },
                };
            }
            Violation::TooMany => QemuError::TooManyDevices { place },
            Violation::SecondStart { device, .. } => {
                QemuError::Unexpected { device, what: "two START sections" }
            }
        };
        PeerError::from(error).into()
    }

    /// For whoever looks into a capture.
    pub(crate) fn in_capture(self) -> CaptureProblem {
        match self {
            Violation::Unknown { device } => {
                CaptureProblem::Device { device, problem: DeviceProblem::Unknown }
            }
            Violation::TooMany => CaptureProblem::TooMany { what: "devices", max: DEVICES_MAX },
            Violation::SecondStart { first, .. } => {
                CaptureProblem::Twice { what: "START section of this device", first }
            }
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
        let mut devices = Devices::growing(|_| ());
        devices.on_main(&start(7, 0), 100).unwrap();
        devices.on_main(&Event::VfioSetup, 120).unwrap();
        devices.on_main(&start(9, 1), 200).unwrap();
        devices.on_main(&Event::Part(7), 300).unwrap();
        let (device, has_stopped) = devices.open().unwrap();
        assert_eq!((device.id, device.announced, has_stopped), (id(0), Some((7, 100)), false));
        devices.on_main(&Event::End(9), 400).unwrap();
        let (device, has_stopped) = devices.open().unwrap();
        assert_eq!((device.id, device.has_setup, device.has_end, has_stopped), (id(1), false, true, true));
        devices.on_main(&Event::Part(1), 500).unwrap();
        assert!(devices.open().is_none(), "a section of RAM is no device's");
    }

    #[test]
    fn what_a_device_sends_after_switchover_start_is_what_it_sent_when_it_had_stopped() {
        let mut devices = Devices::growing(|_| ());
        devices.on_main(&start(7, 0), 0).unwrap();
        devices.on_main(&Event::Command(Command::SwitchoverStart), 0).unwrap();
        devices.on_main(&Event::Part(7), 0).unwrap();
        assert!(devices.open().unwrap().1);
    }

    #[test]
    fn a_second_start_section_is_told_with_the_first_and_is_nobodys() {
        let mut devices = Devices::growing(|_| ());
        devices.on_main(&start(7, 0), 100).unwrap();
        let violation = devices.on_main(&start(8, 0), 200).unwrap_err();
        assert_eq!(violation, Violation::SecondStart { device: "0000:00:01.0/vfio".into(), first: 100 });
        assert!(devices.open().is_none());
        devices.on_main(&Event::Part(8), 300).unwrap();
        assert!(devices.open().is_none());
    }

    #[test]
    fn a_closed_list_takes_no_other_device_and_a_growing_one_as_many_as_a_machine_has() {
        let mut devices = Devices::closed([(id(0), ())].into_iter());
        assert!(devices.place(id(0)).is_ok());
        let unknown = Violation::Unknown { device: "0000:00:01.0/vfio#1".into() };
        assert_eq!(devices.on_main(&start(7, 1), 0), Err(unknown));
        let mut devices = Devices::growing(|_| ());
        let added = (0..300).map(|instance| devices.place(id(instance))).filter(Result::is_ok).count();
        assert_eq!((added, devices.place(id(300))), (DEVICES_MAX, Err(Violation::TooMany)));
    }
}

//! The devices of a migration: which of their packets came, and how much. Pure.

use crate::error::{Place, QemuError};
use crate::limits::{DEVICES_MAX, QEMU_AHEAD_MAX};
use crate::report::CapturedDevice;
use crate::session::reorder::{Problem, Reorder};
use crate::time::Nanos;
use crate::wire::qemu::{DevicePacket, Idstr, Section};

/// Every device that was heard of, in that order.
#[derive(Default)]
pub(super) struct Devices {
    devices: Vec<Device>,
}

struct Device {
    idstr: Idstr,
    instance: u32,
    /// The section that announced it.
    section: Option<u32>,
    /// Made with its first packet.
    order: Option<Order>,
    packets: u64,
    data_bytes: u64,
    config_bytes: u64,
    precopy_bytes: u64,
    stopcopy_bytes: u64,
    last_at: Option<Nanos>,
}

/// Which of a device's packets came: all below `next`, and some beyond.
struct Order {
    reorder: Reorder<()>,
    next: u64,
}

/// Names a device of [`Devices`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeviceNumber(usize);

impl Devices {
    /// The main connection announces a device.
    pub(super) fn announce(&mut self, section: &Section) -> Result<(), QemuError> {
        let number = self.number(section.idstr, section.instance, Place::Main)?;
        self.devices[number.0].section = Some(section.id);
        Ok(())
    }

    fn number(&mut self, idstr: Idstr, instance: u32, place: Place) -> Result<DeviceNumber, QemuError> {
        let is_it = |device: &Device| device.instance == instance && device.idstr == idstr;
        if let Some(number) = self.devices.iter().position(is_it) {
            return Ok(DeviceNumber(number));
        }
        if self.devices.len() >= DEVICES_MAX {
            return Err(QemuError::TooManyDevices { place });
        }
        self.devices.push(Device {
            idstr,
            instance,
            section: None,
            order: None,
            packets: 0,
            data_bytes: 0,
            config_bytes: 0,
            precopy_bytes: 0,
            stopcopy_bytes: 0,
            last_at: None,
        });
        Ok(DeviceNumber(self.devices.len() - 1))
    }

    /// A packet's header came: whether such a packet may come.
    pub(super) fn claim(
        &mut self,
        packet: &DevicePacket,
        place: Place,
        offset: u64,
    ) -> Result<DeviceNumber, QemuError> {
        let number = self.number(packet.idstr, packet.instance, place)?;
        let device = &mut self.devices[number.0];
        let order =
            device.order.get_or_insert_with(|| Order { reorder: Reorder::new(QEMU_AHEAD_MAX), next: 0 });
        order.reorder.claim(packet.idx.into(), packet.config, u64::MAX).map_err(|problem| {
            QemuError::Order {
                place,
                offset,
                device: device.idstr.as_str().into(),
                idx: packet.idx,
                problem: words(problem),
            }
        })?;
        Ok(number)
    }

    /// A claimed packet is complete.
    pub(super) fn complete(&mut self, number: DeviceNumber, idx: u32, config: bool, len: u32, now: Nanos) {
        let device = &mut self.devices[number.0];
        if let Some(order) = &mut device.order {
            order.reorder.fill(idx.into(), ());
            while order.reorder.pop().is_some() {
                order.next += 1;
            }
        }
        device.packets += 1;
        let bytes = if config { &mut device.config_bytes } else { &mut device.data_bytes };
        *bytes += u64::from(len);
        device.last_at = Some(now);
    }

    /// State on the main connection.
    pub(super) fn on_main(&mut self, section: u32, len: usize, stopped: bool, now: Nanos) {
        let Some(device) = self.devices.iter_mut().find(|device| device.section == Some(section)) else {
            return;
        };
        if stopped {
            device.stopcopy_bytes += len as u64;
            device.last_at = Some(now);
        } else {
            device.precopy_bytes += len as u64;
        }
    }

    /// Devices that were announced, and of whose state nothing came after they stopped.
    pub(super) fn silent(&self) -> impl Iterator<Item = &Idstr> {
        let silent = |device: &&Device| device.order.is_none() && device.stopcopy_bytes == 0;
        self.devices.iter().filter(silent).map(|device| &device.idstr)
    }

    /// What is missing of the first device that is not complete.
    pub(super) fn missing(&self) -> Option<QemuError> {
        let incomplete = |order: &&Order| !order.reorder.is_complete();
        self.devices.iter().find_map(|device| {
            let order = device.order.as_ref().filter(incomplete)?;
            Some(QemuError::Missing { device: device.idstr.as_str().into(), idx: order.next })
        })
    }

    /// When the last state of all came.
    pub(super) fn last_at(&self) -> Option<Nanos> {
        self.devices.iter().filter_map(|device| device.last_at).max()
    }

    pub(super) fn report(&self, switchover_at: Option<Nanos>) -> Vec<CapturedDevice> {
        let since = |at: Nanos| switchover_at.map(|begin| at.saturating_sub(begin));
        let report = |device: &Device| CapturedDevice {
            idstr: device.idstr.to_string(),
            instance: device.instance,
            packets: device.packets,
            data_bytes: device.data_bytes,
            config_bytes: device.config_bytes,
            precopy_bytes: device.precopy_bytes,
            stopcopy_bytes: device.stopcopy_bytes,
            switchover_ns: device.last_at.and_then(since),
        };
        self.devices.iter().map(report).collect()
    }
}

fn words(problem: Problem) -> &'static str {
    match problem {
        Problem::BeyondCredit => "far ahead of one that has not come",
        other => other.words(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place::Multifd(1);

    fn packet(idx: u32, config: bool) -> DevicePacket {
        let idstr = Idstr::new(b"0000:00:01.0/vfio").unwrap();
        DevicePacket { idstr, instance: 0, idx, config, len: 10 }
    }

    fn take(devices: &mut Devices, idx: u32, config: bool) {
        let number = devices.claim(&packet(idx, config), PLACE, 64).unwrap();
        devices.complete(number, idx, config, 10, u64::from(idx) + 100);
    }

    fn problem(devices: &mut Devices, idx: u32, config: bool) -> String {
        devices.claim(&packet(idx, config), PLACE, 64).unwrap_err().to_string()
    }

    #[test]
    fn a_device_is_complete_when_every_packet_came_in_whatever_order() {
        let mut devices = Devices::default();
        take(&mut devices, 2, true);
        take(&mut devices, 0, false);
        let missing = devices.missing().unwrap().to_string();
        assert_eq!(missing, "device 0000:00:01.0/vfio: packet 1 never came");
        take(&mut devices, 1, false);
        assert_eq!(devices.missing(), None);
        let report = devices.report(Some(90));
        assert_eq!((report[0].packets, report[0].data_bytes, report[0].config_bytes), (3, 20, 10));
        assert_eq!(report[0].switchover_ns, Some(11));
    }

    #[test]
    fn what_may_not_come_is_named() {
        let mut devices = Devices::default();
        let far = problem(&mut devices, 0xffff_fffe, false);
        assert!(
            far.starts_with(
                "multifd channel 1, offset 64: device 0000:00:01.0/vfio: packet 4294967294 came far"
            ),
            "{far}"
        );
        take(&mut devices, 1, true);
        assert!(problem(&mut devices, 1, false).contains("packet 1 came twice"));
        assert!(problem(&mut devices, 2, false).contains("after the config packet"));
        assert!(problem(&mut devices, 0, true).contains("second config packet"));
    }

    #[test]
    fn no_more_devices_are_kept_than_a_machine_has() {
        let mut devices = Devices::default();
        for instance in 0..256 {
            devices.claim(&DevicePacket { instance, ..packet(0, false) }, PLACE, 64).unwrap();
        }
        let one_more = devices.claim(&DevicePacket { instance: 256, ..packet(0, false) }, PLACE, 64);
        assert_eq!(one_more, Err(QemuError::TooManyDevices { place: PLACE }));
    }

    #[test]
    fn state_on_the_main_connection_counts_by_when_it_came() {
        let mut devices = Devices::default();
        let section = Section { id: 37, idstr: packet(0, false).idstr, instance: 0, version: 1 };
        devices.announce(&section).unwrap();
        devices.on_main(37, 24, false, 5);
        assert_eq!((devices.silent().count(), devices.last_at()), (1, None));
        devices.on_main(37, 72, true, 9);
        let report = &devices.report(None)[0];
        assert_eq!((report.precopy_bytes, report.stopcopy_bytes, report.switchover_ns), (24, 72, None));
        assert_eq!((devices.silent().count(), devices.last_at()), (0, Some(9)));
    }
}

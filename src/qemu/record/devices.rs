//! How much of each device's state came, and when. Pure. The follower knows which devices there are.

use crate::error::{Error, PeerError, Place, QemuError};
use crate::limits::QEMU_AHEAD_MAX;
use crate::qemu::follow::{self, Follower, claim};
use crate::report::CapturedDevice;
use crate::session::reorder::Reorder;
use crate::time::Nanos;
use crate::wire::qemu::{DevicePacket, Idstr};

/// What came of one device.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Which packets came. Created with the first one, because it is as long as packets can be ahead of each other.
    order: Option<Reorder<()>>,
    packets: u64,
    data_bytes: u64,
    config_bytes: u64,
    precopy_bytes: u64,
    stopcopy_bytes: u64,
    last_at: Option<Nanos>,
}

type Device = follow::Device<Figures>;

/// Every device that the streams name, in the order of first mention.
pub(super) struct Recorded {
    pub(super) follower: Follower<Figures>,
}

impl Default for Recorded {
    fn default() -> Recorded {
        Recorded { follower: Follower::growing(|_| Figures::default()) }
    }
}

impl Recorded {
    /// A packet's header came: checks that the packet may come, and claims its place.
    pub(super) fn claim(&mut self, packet: &DevicePacket, place: Place, offset: u64) -> Result<(), Error> {
        let device = self.follower.device(packet.into()).map_err(|wrong| wrong.on(place))?;
        let order = device.state.order.get_or_insert_with(|| Reorder::new(QEMU_AHEAD_MAX + 1));
        Ok(claim(order, packet, (place, offset)).map_err(PeerError::from)?)
    }

    /// A claimed packet is complete.
    pub(super) fn complete(&mut self, packet: &DevicePacket, now: Nanos) {
        let figures = &mut self.follower.find(packet.into()).expect("it was claimed").state;
        if let Some(order) = &mut figures.order {
            order.fill(packet.idx.into(), ());
            while order.pop().is_some() {}
        }
        figures.packets += 1;
        let bytes = if packet.config { &mut figures.config_bytes } else { &mut figures.data_bytes };
        *bytes += u64::from(packet.len);
        figures.last_at = Some(now);
    }

    /// State came on the main connection, in the section that is open.
    pub(super) fn on_main(&mut self, len: usize, now: Nanos) {
        let Some((device, has_stopped)) = self.follower.open() else { return };
        if has_stopped {
            device.state.stopcopy_bytes += len as u64;
            device.state.last_at = Some(now);
        } else {
            device.state.precopy_bytes += len as u64;
        }
    }

    /// Devices that were announced but sent no state after they had stopped.
    pub(super) fn silent(&self) -> impl Iterator<Item = &Idstr> {
        let silent = |device: &&Device| device.state.order.is_none() && device.state.stopcopy_bytes == 0;
        self.follower.devices.iter().filter(silent).map(|device| &device.id.idstr)
    }

    /// What is missing from the first device that is not complete.
    pub(super) fn missing(&self) -> Option<QemuError> {
        self.follower.devices.iter().find_map(|device| {
            let order = device.state.order.as_ref().filter(|order| !order.is_complete())?;
            Some(QemuError::Missing { device: device.id.idstr.as_str().into(), idx: order.next().0 })
        })
    }

    /// When the last state of any device came.
    pub(super) fn last_at(&self) -> Option<Nanos> {
        self.follower.devices.iter().filter_map(|device| device.state.last_at).max()
    }

    pub(super) fn report(&self, switchover_at: Option<Nanos>) -> Vec<CapturedDevice> {
        let since = |at: Nanos| switchover_at.map(|begin| at.saturating_sub(begin));
        let report = |device: &Device| CapturedDevice {
            idstr: device.id.idstr.to_string(),
            instance: device.id.instance,
            packets: device.state.packets,
            data_bytes: device.state.data_bytes,
            config_bytes: device.state.config_bytes,
            precopy_bytes: device.state.precopy_bytes,
            stopcopy_bytes: device.state.stopcopy_bytes,
            switchover_ns: device.state.last_at.and_then(since),
        };
        self.follower.devices.iter().map(report).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::qemu::{Event, Section};

    const PLACE: Place = Place::Multifd(1);

    fn packet(idx: u32, config: bool) -> DevicePacket {
        let idstr = Idstr::new(b"0000:00:01.0/vfio").unwrap();
        DevicePacket { idstr, instance: 0, idx, config, len: 10 }
    }

    fn take(devices: &mut Recorded, idx: u32, config: bool) {
        devices.claim(&packet(idx, config), PLACE, 64).unwrap();
        devices.complete(&packet(idx, config), u64::from(idx) + 100);
    }

    fn problem(devices: &mut Recorded, idx: u32, config: bool) -> String {
        devices.claim(&packet(idx, config), PLACE, 64).unwrap_err().to_string()
    }

    #[test]
    fn a_device_is_complete_when_every_packet_came_in_any_order() {
        let mut devices = Recorded::default();
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
    fn a_packet_that_may_not_come_is_named() {
        let mut devices = Recorded::default();
        let far = problem(&mut devices, 0xffff_fffe, false);
        assert!(
            far.starts_with(
                "multifd channel 1, offset 64: device 0000:00:01.0/vfio: packet 4294967294 came further ahead"
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
        let mut devices = Recorded::default();
        for instance in 0..256 {
            devices.claim(&DevicePacket { instance, ..packet(0, false) }, PLACE, 64).unwrap();
        }
        let one_more = devices.claim(&DevicePacket { instance: 256, ..packet(0, false) }, PLACE, 64);
        let too_many = QemuError::TooManyDevices { place: PLACE };
        assert!(matches!(one_more, Err(Error::Peer(PeerError::Qemu(error))) if error == too_many));
    }

    #[test]
    fn state_on_the_main_connection_counts_by_when_it_came() {
        let mut devices = Recorded::default();
        let section = Section { id: 37, idstr: packet(0, false).idstr, instance: 0, version: 1 };
        devices.follower.on_main(&Event::Start(section), 0).unwrap();
        devices.on_main(24, 5);
        assert_eq!((devices.silent().count(), devices.last_at()), (1, None));
        devices.follower.on_main(&Event::End(37), 0).unwrap();
        devices.on_main(72, 9);
        let report = &devices.report(None)[0];
        assert_eq!((report.precopy_bytes, report.stopcopy_bytes, report.switchover_ns), (24, 72, None));
        assert_eq!((devices.silent().count(), devices.last_at()), (0, Some(9)));
    }
}

//! Packets of device state, from all multifd connections.

use super::inspection::{DeviceId, DevicePacket, Piece};
use super::reader::{At, Reader};
use crate::error::{CaptureProblem, DeviceProblem};
use crate::limits::{DEVICES_MAX, QEMU_PIECES_MAX};
use crate::vfio::config_state::ConfigState;
use crate::wire::qemu;

/// Packets of device state by device, in the order in which they were come by.
#[derive(Debug, Default)]
pub(super) struct Packets {
    pub(super) devices: Vec<(DeviceId, Vec<DevicePacket>)>,
    /// Config states that cannot be right: at most one of each device.
    pub(super) bad_configs: Vec<(u16, At)>,
    count: usize,
}

impl Packets {
    /// Takes a packet that begins at `offset`; the reader stands at its state.
    pub(super) fn take(
        &mut self,
        reader: &mut Reader,
        packet: &qemu::DevicePacket,
        offset: u64,
        connection: u16,
    ) -> Result<(), At> {
        let place = self.place(DeviceId { idstr: packet.idstr, instance: packet.instance });
        self.count += 1;
        let too_many = |what, max| Err(At::new(offset, CaptureProblem::TooMany { what, max }));
        let Some(place) = place else { return too_many("devices", DEVICES_MAX) };
        if self.count > QEMU_PIECES_MAX {
            return too_many("packets of device state", QEMU_PIECES_MAX);
        }
        let state = Piece { connection, len: packet.len, offset: reader.offset() };
        if packet.config {
            self.check_config(reader, place, state)?;
        }
        let (_, packets) = &mut self.devices[place];
        packets.push(DevicePacket { idx: packet.idx, config: packet.config, state });
        Ok(())
    }

    fn place(&mut self, id: DeviceId) -> Option<usize> {
        let known = self.devices.iter().position(|(known, _)| *known == id);
        if known.is_none() && self.devices.len() < DEVICES_MAX {
            self.devices.push((id, Vec::new()));
            return Some(self.devices.len() - 1);
        }
        known
    }

    fn check_config(&mut self, reader: &mut Reader, place: usize, state: Piece) -> Result<(), At> {
        let (id, packets) = &self.devices[place];
        if packets.iter().any(|packet| packet.config) {
            return Ok(());
        }
        let blob = reader.take_vec(state.len, "a packet")?;
        if let Err(malformed) = ConfigState::decode(&blob) {
            let problem = id.problem(DeviceProblem::Config { malformed });
            self.bad_configs.push((state.connection, At::new(state.offset, problem)));
        }
        Ok(())
    }
}

//! Collects the packets of device state from all multifd connections.

use super::inspection::{Device, DevicePacket, Piece};
use crate::error::{CaptureProblem, Counted, DeviceProblem, StreamPart};
use crate::limits::QEMU_PIECES_MAX;
use crate::qemu::follow::{self, Follower};
use crate::qemu::reader::{At, Reader};
use crate::vfio::config_state::ConfigState;
use crate::wire::qemu;

/// What is found about packets while they are assigned to their devices, in the order in which they are read.
#[derive(Debug, Default)]
pub(super) struct Packets {
    /// Malformed config states: at most one per device.
    pub(super) bad_configs: Vec<(u16, At)>,
    count: usize,
}

impl Packets {
    /// Takes a packet that begins at `offset`; the reader stands at its state.
    pub(super) fn take(
        &mut self,
        reader: &mut Reader,
        follower: &mut Follower<Device>,
        packet: &qemu::DevicePacket,
        offset: u64,
        connection: u16,
    ) -> Result<(), At> {
        let device = follower.device(packet.into()).map_err(|wrong| At::new(offset, wrong.in_capture()))?;
        self.count += 1;
        if self.count > QEMU_PIECES_MAX {
            let problem = CaptureProblem::TooMany { what: Counted::Packets, max: QEMU_PIECES_MAX };
            return Err(At::new(offset, problem));
        }
        let state = Piece { connection, len: packet.len, offset: reader.offset() };
        if packet.config {
            self.check_config(reader, device, state)?;
        }
        device.state.packets.push(DevicePacket { idx: packet.idx, config: packet.config, state });
        Ok(())
    }

    fn check_config(
        &mut self,
        reader: &mut Reader,
        device: &follow::Device<Device>,
        state: Piece,
    ) -> Result<(), At> {
        if device.state.packets.iter().any(|packet| packet.config) {
            return Ok(());
        }
        let blob = reader.take_vec(state.len, StreamPart::Packet)?;
        if let Err(malformed) = ConfigState::decode(&blob) {
            let problem = device.id.problem(DeviceProblem::Config { malformed });
            self.bad_configs.push((state.connection, At::new(state.offset, problem)));
        }
        Ok(())
    }
}

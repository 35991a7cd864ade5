//! Converts an [`Inspection`] to its report. It reads no files and judges nothing.

use super::{Connection, Device, Inspection, Piece};
use crate::error::CaptureError;
use crate::report::{
    ConnectionKind, InspectReport, InspectedConnection, InspectedDevice, InspectedError, InspectedPiece,
    PieceKind,
};
use crate::wire::qemu::Kind;

impl Inspection {
    /// The inspection in the form that is written and read back.
    pub fn report(&self) -> InspectReport {
        let stream = &self.stream;
        InspectReport {
            ok: self.is_ok(),
            machine: stream.machine.map(|machine| machine.to_string()),
            page_size: stream.page_size,
            ram_bytes: stream.ram_bytes,
            flush_flags: stream.flushes,
            return_path_at: stream.return_path_at,
            switchover_at: stream.switchover_at,
            tail_at: stream.tail_at,
            full_sections: stream.full_sections,
            capabilities: stream.capabilities.iter().map(ToString::to_string).collect(),
            connections: self.connections.iter().map(connection).collect(),
            devices: self.devices.iter().map(|one| device(one, &self.connections)).collect(),
            errors: self.errors.iter().map(error).collect(),
            notes: self.notes.iter().map(ToString::to_string).collect(),
        }
    }
}

fn connection(connection: &Connection) -> InspectedConnection {
    InspectedConnection {
        file: connection.file.to_string(),
        kind: match connection.kind {
            Kind::Main => ConnectionKind::Main,
            Kind::Multifd => ConnectionKind::Multifd,
        },
        id: connection.id,
        uuid: connection.uuid.map(|uuid| uuid.to_string()),
        bytes: connection.bytes,
        packets: connection.packets,
        ram_packets: connection.ram_packets,
        sync: connection.syncs,
        normal_pages: connection.normal_pages,
        zero_pages: connection.zero_pages,
        device_packets: connection.device_packets,
    }
}

fn device(device: &Device, connections: &[Connection]) -> InspectedDevice {
    InspectedDevice {
        idstr: device.id.idstr.to_string(),
        instance: device.id.instance,
        packets: device.packets.len() as u64,
        data_bytes: device.data_bytes(),
        config_bytes: device.config_bytes(),
        precopy_bytes: device.precopy_bytes(),
        pieces: pieces(device, connections),
    }
}

/// Every piece of a device's state, in the order in which the device takes them.
fn pieces(device: &Device, connections: &[Connection]) -> Vec<InspectedPiece> {
    let piece = |kind, idx, offset, state: &Piece| InspectedPiece {
        kind,
        idx,
        channel: connections.get(usize::from(state.connection)).and_then(|connection| connection.id),
        offset,
        bytes: state.len,
    };
    let on_main = |kind| move |state: &Piece| piece(kind, None, state.offset, state);
    let packets = device.packets.iter().map(|packet| {
        let kind = if packet.config { PieceKind::Config } else { PieceKind::Data };
        piece(kind, Some(packet.idx), packet.offset(), &packet.state)
    });
    let precopy = device.precopy.iter().map(on_main(PieceKind::Precopy));
    let data = device.main_data.iter().map(on_main(PieceKind::Data));
    let config = device.main_config.iter().map(on_main(PieceKind::Config));
    precopy.chain(packets).chain(data).chain(config).collect()
}

fn error(error: &CaptureError) -> InspectedError {
    InspectedError { file: error.file.to_string(), offset: error.offset, text: error.problem.to_string() }
}

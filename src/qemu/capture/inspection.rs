//! The typed result of inspecting a capture.

use std::path::PathBuf;

use crate::error::{CaptureError, CaptureProblem, DeviceProblem, Uuid};
pub use crate::qemu::follow::DeviceId;
use crate::wire::qemu::{Idstr, Kind, PREFIX_LEN};

/// What is in a capture, and what is wrong with it.
#[derive(Debug, Clone, Default)]
pub struct Inspection {
    /// The main connection first, then the others by number.
    pub connections: Vec<Connection>,
    /// What the main connection tells about the migration as a whole, as far as it could be followed.
    pub stream: Stream,
    /// Every VFIO device whose state is in the capture, or should be.
    pub devices: Vec<Device>,
    /// What is wrong. If empty, everything is there, in order, and explained to the last byte.
    pub errors: Vec<CaptureError>,
    /// What is not wrong but worth knowing.
    pub notes: Vec<Note>,
}

/// One connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The file's name; without the folder if a folder was inspected.
    pub file: Box<str>,
    /// The path of the file.
    pub path: PathBuf,
    /// Main or multifd.
    pub kind: Kind,
    /// A multifd connection's number.
    pub id: Option<u8>,
    /// The virtual machine that a multifd connection belongs to; zeros when it has no UUID.
    pub uuid: Option<Uuid>,
    /// The size of the file in bytes.
    pub bytes: u64,
    /// Multifd packets of every kind.
    pub packets: u64,
    /// Multifd packets that are not device state, including SYNC packets.
    pub ram_packets: u64,
    /// SYNC packets of a multifd connection, or flush flags of the main one.
    pub syncs: u64,
    /// Where each barrier ends. On a multifd connection barriers are the SYNC packets; on the main one they are what
    /// SYNC packets are paired with: its flush flags or, with machine types before 8.1, the ends of its RAM sections.
    pub barriers: Vec<u64>,
    /// Pages of guest memory that have content.
    pub normal_pages: u64,
    /// Pages of guest memory that are zero.
    pub zero_pages: u64,
    /// Multifd packets with device state.
    pub device_packets: u64,
}

/// What the main connection tells about the migration as a whole.
#[derive(Debug, Clone, Default)]
pub struct Stream {
    /// The machine type.
    pub machine: Option<Idstr>,
    /// The page size of guest memory in bytes; 0 when the main connection is missing.
    pub page_size: u32,
    /// The virtual machine's UUID, if the source sent it to be checked.
    pub uuid: Option<Uuid>,
    /// Capabilities that both sides must have.
    pub capabilities: Vec<Idstr>,
    /// Guest memory, in bytes.
    pub ram_bytes: u64,
    /// Blocks of guest memory.
    pub ram_blocks: u64,
    /// Flush flags: barriers across all connections.
    pub flushes: u64,
    /// Where the return path was opened.
    pub return_path_at: Option<u64>,
    /// Pings that ask for an answer.
    pub pings: u64,
    /// Where the source reported that its devices have stopped.
    pub switchover_at: Option<u64>,
    /// Where the full sections begin.
    pub tail_at: Option<u64>,
    /// Full sections that the stream's own description explains.
    pub full_sections: u64,
}

impl DeviceId {
    /// A problem of this device.
    pub(super) fn problem(&self, problem: DeviceProblem) -> CaptureProblem {
        CaptureProblem::Device { device: self.to_string().into(), problem }
    }
}

/// One device's state, and where it is.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its name.
    pub id: DeviceId,
    /// Packets on the multifd connections, ordered by idx.
    pub packets: Vec<DevicePacket>,
    /// State that came in pre-copy, always on the main connection.
    pub precopy: Vec<Piece>,
    /// State that came on the main connection after the switchover, because the device does not use the multifd
    /// connections.
    pub main_data: Vec<Piece>,
    /// The config state, if it is on the main connection.
    pub main_config: Option<Piece>,
    /// Where the device reported that its initial state was sent.
    pub init_data_sent_at: Option<u64>,
}

/// A packet of device state on a multifd connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DevicePacket {
    /// Its number.
    pub idx: u32,
    /// It holds the config state.
    pub config: bool,
    /// The state in it.
    pub state: Piece,
}

impl DevicePacket {
    /// Where the packet begins.
    pub fn offset(&self) -> u64 {
        self.state.offset - PREFIX_LEN as u64
    }
}

/// Bytes of state in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The connection: an index into [`Inspection::connections`].
    pub connection: u16,
    /// How many bytes.
    pub len: u32,
    /// Where in the file.
    pub offset: u64,
}

/// Something worth knowing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Note {
    /// The full sections have no description.
    #[error(
        "the main connection ends without a description of the machine's state: the {bytes} bytes from byte {offset} on cannot be explained"
    )]
    NoDescription {
        /// Where the full sections begin.
        offset: u64,
        /// Bytes of them.
        bytes: u64,
    },
}

impl Inspection {
    /// Whether everything is there, in order and explained.
    pub fn is_ok(&self) -> bool {
        self.errors.is_empty()
    }

    /// A device, by its name.
    pub fn device(&self, idstr: &str, instance: u32) -> Option<&Device> {
        self.devices.iter().find(|device| device.id.idstr.as_str() == idstr && device.id.instance == instance)
    }
}

impl Device {
    pub(super) fn new(id: DeviceId) -> Device {
        Device {
            id,
            packets: Vec::new(),
            precopy: Vec::new(),
            main_data: Vec::new(),
            main_config: None,
            init_data_sent_at: None,
        }
    }

    /// Its state in the order in which a device takes it, without the config state: pre-copy, then what came after it
    /// had stopped.
    pub fn state(&self) -> impl Iterator<Item = Piece> {
        let packets = self.packets.iter().filter(|packet| !packet.config).map(|packet| packet.state);
        self.precopy.iter().copied().chain(packets).chain(self.main_data.iter().copied())
    }

    /// Its config state.
    pub fn config(&self) -> Option<Piece> {
        let packet = self.packets.iter().find(|packet| packet.config).map(|packet| packet.state);
        packet.or(self.main_config)
    }

    /// Bytes that came after it had stopped, without the config state.
    pub fn data_bytes(&self) -> u64 {
        self.state().map(|piece| u64::from(piece.len)).sum::<u64>() - self.precopy_bytes()
    }

    /// Bytes of config state.
    pub fn config_bytes(&self) -> u64 {
        self.config().map_or(0, |piece| piece.len.into())
    }

    /// Bytes that came in pre-copy.
    pub fn precopy_bytes(&self) -> u64 {
        self.precopy.iter().map(|piece| u64::from(piece.len)).sum()
    }
}

//! What a capture contains, as `ringlift qemu inspect --json` writes it (`docs/inspect.schema.json`). The document does
//! not name its schema. Offsets and sizes are in bytes.

use serde::{Deserialize, Serialize};

use super::header::shown_as_written;

/// What a capture contains, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectReport {
    /// Whether everything is present, in order and explained.
    pub ok: bool,
    /// The machine type.
    pub machine: Option<String>,
    /// Bytes of a page of guest memory; 0 when the main connection is missing.
    pub page_size: u32,
    /// Bytes of guest memory.
    pub ram_bytes: u64,
    /// Flush flags of the main connection.
    pub flush_flags: u64,
    /// Where the return path was opened.
    pub return_path_at: Option<u64>,
    /// Where the source announced that its devices have stopped.
    pub switchover_at: Option<u64>,
    /// Where the full sections begin.
    pub tail_at: Option<u64>,
    /// Full sections that the stream's own description explains.
    pub full_sections: u64,
    /// Capabilities that both sides must have.
    pub capabilities: Vec<String>,
    /// The main connection first, then the others by number.
    pub connections: Vec<InspectedConnection>,
    /// The devices whose state the capture contains, or should contain.
    pub devices: Vec<InspectedDevice>,
    /// What is wrong.
    pub errors: Vec<InspectedError>,
    /// What is worth knowing without being wrong.
    pub notes: Vec<String>,
}

/// A connection of a capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectedConnection {
    /// The file's name.
    pub file: String,
    /// The kind of connection.
    pub kind: ConnectionKind,
    /// A multifd connection's number.
    pub id: Option<u8>,
    /// The virtual machine's UUID, as a multifd connection states it; zeros when it has none, absent for the main
    /// connection.
    pub uuid: Option<String>,
    /// Size of the file.
    pub bytes: u64,
    /// Multifd packets of every kind.
    pub packets: u64,
    /// Of these, those that hold no device state.
    pub ram_packets: u64,
    /// Barriers: SYNC packets, or flush flags of the main connection.
    pub sync: u64,
    /// Pages of guest memory with content.
    pub normal_pages: u64,
    /// Pages of guest memory that are zero.
    pub zero_pages: u64,
    /// Multifd packets with device state.
    pub device_packets: u64,
}

/// Kinds of connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionKind {
    /// The main connection, which carries the sections.
    Main,
    /// A multifd connection, which carries packets.
    Multifd,
}

/// A device of a capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectedDevice {
    /// The device's name.
    pub idstr: String,
    /// The device's instance.
    pub instance: u32,
    /// Packets on multifd connections, the config packet included.
    pub packets: u64,
    /// Bytes of state from after the device stopped, config state not included.
    pub data_bytes: u64,
    /// Bytes of config state.
    pub config_bytes: u64,
    /// Bytes of state from pre-copy.
    pub precopy_bytes: u64,
    /// The pieces of its state, in the order in which the device takes them.
    pub pieces: Vec<InspectedPiece>,
}

/// A piece of a device's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectedPiece {
    /// The kind of state.
    pub kind: PieceKind,
    /// The packet's number; absent on the main connection.
    pub idx: Option<u32>,
    /// The multifd connection that carries it; absent on the main connection.
    pub channel: Option<u8>,
    /// Where in the file the packet begins or, on the main connection, the state.
    pub offset: u64,
    /// Bytes of state.
    pub bytes: u32,
}

/// Kinds of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PieceKind {
    /// Sent while the device was running.
    Precopy,
    /// Sent after it had stopped.
    Data,
    /// The config state.
    Config,
}

/// Something that is wrong with a capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectedError {
    /// The file.
    pub file: String,
    /// Where in the file.
    pub offset: u64,
    /// What is wrong, as a sentence.
    pub text: String,
}

shown_as_written!(ConnectionKind, PieceKind);

//! `ringlift qemu inspect`.

use ringlift::error::CaptureError;
use ringlift::qemu::capture::{self, Device, Inspection, Piece, Stream};
use ringlift::wire::qemu::Kind;
use serde::Serialize;

use crate::args::Inspect;
use crate::exit::Exit;
use crate::show::json::JsonTarget;
use crate::show::table::Table;
use crate::show::units::bytes;
use crate::show::{output, warnings};

/// Packets of one device that are listed from its first on, and up to its last, when not all were asked for.
const LISTED: usize = 4;

/// Shows a capture, and what is wrong with it.
pub(crate) fn run(args: &Inspect) -> Exit {
    if let Some(Err(exit)) = args.json.as_ref().map(JsonTarget::check) {
        return exit;
    }
    let inspection = capture::inspect(&args.paths);
    if args.json != Some(JsonTarget::Stdout) {
        output::result(&tables(&inspection, args.packets));
    }
    if let Some(json) = &args.json {
        json.write(&Found::of(&inspection));
    }
    for note in &inspection.notes {
        output::say(&format!("note: {note}"));
    }
    for error in &inspection.errors {
        warnings::failure(&error.to_string(), None);
    }
    if inspection.is_ok() { Exit::Complete } else { Exit::Failed }
}

fn tables(inspection: &Inspection, all: bool) -> String {
    if inspection.connections.is_empty() {
        return String::new();
    }
    let mut text = connections(inspection);
    text += &format!("\n{}", stream(&inspection.stream));
    for device in &inspection.devices {
        text += &format!("\n{}", one_device(device, inspection, all));
    }
    text
}

fn connections(inspection: &Inspection) -> String {
    let header = [
        "file",
        "kind",
        "id",
        "uuid",
        "bytes",
        "packets",
        "of RAM",
        "SYNCs",
        "pages",
        "zero pages",
        "of devices",
    ];
    let mut table = Table::new(&header).words(4);
    for connection in &inspection.connections {
        let multifd = |count: u64| match connection.kind {
            Kind::Main => "-".to_owned(),
            Kind::Multifd => count.to_string(),
        };
        table.row([
            connection.file.to_string(),
            kind(connection.kind).to_owned(),
            connection.id.map_or("-".to_owned(), |id| id.to_string()),
            connection.uuid.filter(|uuid| uuid.0 != [0; 16]).map_or("-".to_owned(), |uuid| uuid.to_string()),
            connection.bytes.to_string(),
            multifd(connection.packets),
            multifd(connection.ram_packets),
            connection.syncs.to_string(),
            connection.normal_pages.to_string(),
            connection.zero_pages.to_string(),
            multifd(connection.device_packets),
        ]);
    }
    table.to_string()
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Main => "main",
        Kind::Multifd => "multifd",
    }
}

fn stream(stream: &Stream) -> String {
    let mut table = Table::new(&["main connection", ""]).words(2);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    let at = |offset: Option<u64>| offset.map_or("-".to_owned(), |offset| format!("at byte {offset}"));
    row("machine type", stream.machine.map_or("-".to_owned(), |machine| machine.to_string()));
    row("page size", bytes(stream.page_size.into()));
    row("RAM", format!("{} in {} blocks", bytes(stream.ram_bytes), stream.ram_blocks));
    row("flush flags", stream.flushes.to_string());
    row("return path opened", at(stream.return_path_at));
    row("pings", stream.pings.to_string());
    row("switchover start", at(stream.switchover_at));
    row("full sections", stream.full_sections.to_string());
    row("  the first", at(stream.tail_at));
    if let Some(uuid) = stream.uuid {
        row("uuid", uuid.to_string());
    }
    if !stream.capabilities.is_empty() {
        let names: Vec<_> = stream.capabilities.iter().map(ToString::to_string).collect();
        row("capabilities", names.join(", "));
    }
    table.to_string()
}

fn one_device(device: &Device, inspection: &Inspection, all: bool) -> String {
    let range = match &device.packets[..] {
        [] => "no packets: its state is on the main connection".to_owned(),
        [first, ..] => {
            let last = device.packets.last().unwrap_or(first).idx;
            format!("packets {} to {last}", first.idx)
        }
    };
    let mut text = format!(
        "device {}, instance {}: {range}; {} bytes of pre-copy, {} of data, {} of config state\n",
        device.id.idstr,
        device.id.instance,
        device.precopy_bytes(),
        device.data_bytes(),
        device.config_bytes(),
    );
    let mut table = Table::new(&["  state", "connection", "at byte", "bytes"]).words(2);
    let count = pieces(device).count();
    let left_out = if all { 0 } else { count.saturating_sub(2 * LISTED) };
    let head = if left_out > 0 { LISTED } else { count };
    pieces(device).take(head).for_each(|piece| table.row(row(&piece, inspection)));
    if left_out > 0 {
        table.row([
            format!("  ... {left_out} more (--packets)"),
            String::new(),
            String::new(),
            String::new(),
        ]);
        pieces(device).skip(head + left_out).for_each(|piece| table.row(row(&piece, inspection)));
    }
    text += &table.to_string();
    text
}

/// A piece of a device's state, as it is shown.
struct Shown {
    kind: &'static str,
    /// Of a packet.
    idx: Option<u32>,
    /// Where the packet begins, or on the main connection the state.
    offset: u64,
    state: Piece,
}

/// Every piece of a device's state, in the order in which it takes them.
fn pieces(device: &Device) -> impl Iterator<Item = Shown> {
    let on_main = |kind| move |piece: &Piece| Shown { kind, idx: None, offset: piece.offset, state: *piece };
    let packets = device.packets.iter().map(|packet| {
        let kind = if packet.config { "config" } else { "data" };
        Shown { kind, idx: Some(packet.idx), offset: packet.offset(), state: packet.state }
    });
    let precopy = device.precopy.iter().map(on_main("precopy"));
    let data = device.main_data.iter().map(on_main("data"));
    let config = device.main_config.iter().map(on_main("config"));
    precopy.chain(packets).chain(data).chain(config)
}

fn row(piece: &Shown, inspection: &Inspection) -> [String; 4] {
    let name = match (piece.idx, piece.kind) {
        (Some(idx), "config") => format!("  packet {idx}, config"),
        (Some(idx), _) => format!("  packet {idx}"),
        (None, "precopy") => "  pre-copy".to_owned(),
        (None, kind) => format!("  {kind}"),
    };
    let place = channel(inspection, piece.state).map_or("main".to_owned(), |id| format!("multifd {id}"));
    [name, place, piece.offset.to_string(), piece.state.len.to_string()]
}

/// None is the main connection.
fn channel(inspection: &Inspection, piece: Piece) -> Option<u8> {
    inspection.connections.get(usize::from(piece.connection)).and_then(|connection| connection.id)
}

/// What was found, as JSON.
#[derive(Debug, Serialize)]
struct Found {
    ok: bool,
    machine: Option<String>,
    page_size: u32,
    ram_bytes: u64,
    flush_flags: u64,
    return_path_at: Option<u64>,
    switchover_at: Option<u64>,
    tail_at: Option<u64>,
    full_sections: u64,
    capabilities: Vec<String>,
    connections: Vec<FoundConnection>,
    devices: Vec<FoundDevice>,
    errors: Vec<FoundError>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct FoundConnection {
    file: String,
    kind: &'static str,
    id: Option<u8>,
    uuid: Option<String>,
    bytes: u64,
    packets: u64,
    ram_packets: u64,
    sync: u64,
    normal_pages: u64,
    zero_pages: u64,
    device_packets: u64,
}

#[derive(Debug, Serialize)]
struct FoundDevice {
    idstr: String,
    instance: u32,
    packets: usize,
    data_bytes: u64,
    config_bytes: u64,
    precopy_bytes: u64,
    pieces: Vec<FoundPiece>,
}

#[derive(Debug, Serialize)]
struct FoundPiece {
    kind: &'static str,
    idx: Option<u32>,
    channel: Option<u8>,
    offset: u64,
    bytes: u32,
}

#[derive(Debug, Serialize)]
struct FoundError {
    file: String,
    offset: u64,
    text: String,
}

impl Found {
    fn of(inspection: &Inspection) -> Found {
        let stream = &inspection.stream;
        Found {
            ok: inspection.is_ok(),
            machine: stream.machine.map(|machine| machine.to_string()),
            page_size: stream.page_size,
            ram_bytes: stream.ram_bytes,
            flush_flags: stream.flushes,
            return_path_at: stream.return_path_at,
            switchover_at: stream.switchover_at,
            tail_at: stream.tail_at,
            full_sections: stream.full_sections,
            capabilities: stream.capabilities.iter().map(ToString::to_string).collect(),
            connections: inspection.connections.iter().map(FoundConnection::of).collect(),
            devices: inspection.devices.iter().map(|device| FoundDevice::of(device, inspection)).collect(),
            errors: inspection.errors.iter().map(FoundError::of).collect(),
            notes: inspection.notes.iter().map(ToString::to_string).collect(),
        }
    }
}

impl FoundConnection {
    fn of(connection: &capture::Connection) -> FoundConnection {
        FoundConnection {
            file: connection.file.to_string(),
            kind: kind(connection.kind),
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
}

impl FoundDevice {
    fn of(device: &Device, inspection: &Inspection) -> FoundDevice {
        let piece = |Shown { kind, idx, offset, state }| FoundPiece {
            kind,
            idx,
            channel: channel(inspection, state),
            offset,
            bytes: state.len,
        };
        FoundDevice {
            idstr: device.id.idstr.to_string(),
            instance: device.id.instance,
            packets: device.packets.len(),
            data_bytes: device.data_bytes(),
            config_bytes: device.config_bytes(),
            precopy_bytes: device.precopy_bytes(),
            pieces: pieces(device).map(piece).collect(),
        }
    }
}

impl FoundError {
    fn of(error: &CaptureError) -> FoundError {
        FoundError { file: error.file.to_string(), offset: error.offset, text: error.problem.to_string() }
    }
}

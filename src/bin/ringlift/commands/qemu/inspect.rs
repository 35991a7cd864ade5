//! `ringlift qemu inspect`.

use std::path::PathBuf;

use ringlift::qemu::capture::{self, Stream};
use ringlift::report::{
    ConnectionKind, InspectReport, InspectedConnection, InspectedDevice, InspectedPiece, PieceKind,
};

use crate::args::Inspect;
use crate::exit::Exit;
use crate::show::json::JsonTarget;
use crate::show::table::Table;
use crate::show::units::bytes;
use crate::show::{output, warnings};

/// How many packets of a device are listed from its first on, and up to its last, unless all were requested.
const LISTED: usize = 4;

/// Shows a capture, and what is wrong with it.
pub(crate) fn run(args: &Inspect) -> Exit {
    let kept = args.paths.iter().map(PathBuf::as_path);
    if let Some(Err(exit)) = args.json.as_ref().map(|json| json.check(kept)) {
        return exit;
    }
    let inspection = capture::inspect(&args.paths);
    let report = inspection.report();
    if args.json != Some(JsonTarget::Stdout) {
        output::result(&tables(&report, &inspection.stream, args.packets));
    }
    if let Some(json) = &args.json {
        json.write(&report);
    }
    for note in &inspection.notes {
        output::say(&format!("note: {note}"));
    }
    for error in &inspection.errors {
        warnings::failure(&error.to_string(), None);
    }
    if inspection.is_ok() { Exit::Complete } else { Exit::Failed }
}

/// Shows the stream in more detail than the report has.
fn tables(report: &InspectReport, followed: &Stream, all: bool) -> String {
    if report.connections.is_empty() {
        return String::new();
    }
    let mut text = connections(&report.connections);
    text += &format!("\n{}", stream(followed));
    for device in &report.devices {
        text += &format!("\n{}", one_device(device, all));
    }
    text
}

fn connections(connections: &[InspectedConnection]) -> String {
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
    for connection in connections {
        let multifd = |count: u64| match connection.kind {
            ConnectionKind::Main => "-".to_owned(),
            ConnectionKind::Multifd => count.to_string(),
        };
        // zeros mean that there is none
        let uuid = connection.uuid.as_ref().filter(|uuid| uuid.contains(|digit| !matches!(digit, '0' | '-')));
        table.row([
            connection.file.clone(),
            connection.kind.to_string(),
            connection.id.map_or("-".to_owned(), |id| id.to_string()),
            uuid.map_or("-", String::as_str).to_owned(),
            connection.bytes.to_string(),
            multifd(connection.packets),
            multifd(connection.ram_packets),
            connection.sync.to_string(),
            connection.normal_pages.to_string(),
            connection.zero_pages.to_string(),
            multifd(connection.device_packets),
        ]);
    }
    table.to_string()
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

fn one_device(device: &InspectedDevice, all: bool) -> String {
    let mut packets = device.pieces.iter().filter_map(|piece| piece.idx);
    let range = match packets.next() {
        None => "no packets: its state is on the main connection".to_owned(),
        Some(first) => format!("packets {first} to {}", packets.next_back().unwrap_or(first)),
    };
    let mut text = format!(
        "device {}, instance {}: {range}; {} bytes of pre-copy, {} of data, {} of config state\n",
        device.idstr, device.instance, device.precopy_bytes, device.data_bytes, device.config_bytes,
    );
    let mut table = Table::new(&["  state", "connection", "at byte", "bytes"]).words(2);
    let pieces = &device.pieces[..];
    let is_cut = !all && pieces.len() > 2 * LISTED;
    let (head, tail) = if is_cut { (LISTED, pieces.len() - LISTED) } else { (pieces.len(), pieces.len()) };
    pieces[..head].iter().for_each(|piece| table.row(row(piece)));
    if is_cut {
        table.row([
            format!("  ... {} more (--packets)", tail - head),
            String::new(),
            String::new(),
            String::new(),
        ]);
    }
    pieces[tail..].iter().for_each(|piece| table.row(row(piece)));
    text += &table.to_string();
    text
}

fn row(piece: &InspectedPiece) -> [String; 4] {
    let name = match (piece.idx, piece.kind) {
        (Some(idx), PieceKind::Config) => format!("  packet {idx}, config"),
        (Some(idx), _) => format!("  packet {idx}"),
        (None, PieceKind::Precopy) => "  pre-copy".to_owned(),
        (None, kind) => format!("  {kind}"),
    };
    let place = piece.channel.map_or("main".to_owned(), |id| format!("multifd {id}"));
    [name, place, piece.offset.to_string(), piece.bytes.to_string()]
}

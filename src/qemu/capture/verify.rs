//! Checks what must fit together: the connections, and the packets of each device.

use super::inspection::{Connection, Device, DevicePacket, Inspection, Piece};
use super::main_connection::Main;
use super::packets::Packets;
use crate::error::{CaptureError, CaptureProblem, DeviceProblem};
use crate::qemu::follow;
use crate::qemu::reader::{At, Reader};
use crate::qemu::tail::{Content, DeviceSection};
use crate::vfio::config_state::ConfigState;
use crate::wire::qemu::Kind;

/// The offsets of the number and of the UUID in a multifd connection.
const ID_AT: u64 = 24;
const UUID_AT: u64 = 8;

/// How much of the capture could be read: what could not be read is not reported as missing.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// The main connection, up to its tail.
    pub(super) live: bool,
    /// The tail, to its end.
    pub(super) tail: bool,
    /// The description of the tail.
    pub(super) description: bool,
    /// Connections that could not be followed to their ends.
    pub(super) broken: Vec<u16>,
    /// A file could not be opened, or is not a connection.
    pub(super) lacks_files: bool,
}

impl Seen {
    fn all_channels(&self) -> bool {
        self.broken.is_empty() && !self.lacks_files
    }
}

/// Checks the numbers, machines and barriers of the multifd connections.
pub(super) fn connections(inspection: &mut Inspection, main: &Main, seen: &Seen) {
    let Inspection { connections, errors, .. } = inspection;
    let channels = connections.iter().filter(|connection| connection.kind == Kind::Multifd).count();
    let (flushes, expected) = (main.follower.flushes(), main.follower.barriers());
    let mut machine = main.stream.uuid.zip(connections.first().map(|first| first.file.clone()));
    for (place, connection) in connections.iter().enumerate() {
        let (Some(id), Some(uuid)) = (connection.id, connection.uuid) else { continue };
        let mut report = |offset, problem| errors.push(error(connection, offset, problem));
        match connections[..place].iter().find(|other| other.id == Some(id)) {
            Some(first) => report(ID_AT, CaptureProblem::DuplicateId { id, first: first.file.clone() }),
            None if usize::from(id) >= channels && !seen.lacks_files => {
                report(ID_AT, CaptureProblem::IdBeyondLast { id, channels })
            }
            None => {}
        }
        let (expected_uuid, other) = machine.get_or_insert_with(|| (uuid, connection.file.clone()));
        if *expected_uuid != uuid {
            report(UUID_AT, CaptureProblem::OtherMachine { other: other.clone() });
        }
        let is_whole = seen.live && !seen.broken.iter().any(|broken| usize::from(*broken) == place);
        if is_whole && connection.syncs != expected {
            report(connection.bytes, CaptureProblem::SyncCount { found: connection.syncs, expected });
        }
    }
    if let Some(first) = connections.first()
        && (flushes > 0 && channels == 0 && !seen.lacks_files)
    {
        errors.push(error(first, 0, CaptureProblem::NoChannels { flushes }));
    }
}

fn error(connection: &Connection, offset: u64, problem: CaptureProblem) -> CaptureError {
    CaptureError { file: connection.file.clone(), offset, problem }
}

/// Checks the full section of a VFIO device: config state, or a marker that it travels elsewhere.
pub(super) fn full_section(
    device: &mut Device,
    section: &DeviceSection,
    reader: &mut Reader,
) -> Result<(), At> {
    let wrong = |problem| Err(At::new(section.offset, device.id.problem(problem)));
    let (content, bytes) = section.content(reader)?;
    match content {
        Content::Elsewhere => {}
        Content::Strange => return wrong(DeviceProblem::FullSection { bytes: section.bytes }),
        Content::Config => {
            if let Err(malformed) = ConfigState::decode(&bytes) {
                return wrong(DeviceProblem::Config { malformed });
            }
            let len = u32::try_from(bytes.len()).expect("at most CONFIG_SIZE_MAX");
            device.main_config = Some(Piece { connection: 0, len, offset: section.offset });
        }
    }
    Ok(())
}

/// Puts each device's packets in order, and finds what is missing or superfluous.
pub(super) fn devices(
    inspection: &mut Inspection,
    devices: Vec<follow::Device<Device>>,
    packets: Packets,
    seen: &Seen,
) {
    for (connection, At { offset, problem }) in packets.bad_configs {
        let connection = &inspection.connections[usize::from(connection)];
        inspection.errors.push(error(connection, offset, problem));
    }
    for followed in devices {
        match (followed.announced, followed.state.packets.first()) {
            (Some((_, offset)), _) => announced(inspection, &followed, offset, seen),
            (None, Some(first)) if seen.live => {
                report(inspection, first, followed.id.problem(DeviceProblem::Unknown));
            }
            _ => {}
        }
        let mut device = followed.state;
        in_order(&mut device, inspection, seen);
        inspection.devices.push(device);
    }
}

/// Checks a device that the main connection announces at this offset.
fn announced(inspection: &mut Inspection, followed: &follow::Device<Device>, offset: u64, seen: &Seen) {
    let device = &followed.state;
    let mut report = |problem| {
        let main = &inspection.connections[0];
        inspection.errors.push(error(main, offset, device.id.problem(problem)));
    };
    if seen.live && !followed.has_setup {
        report(DeviceProblem::NoSetup);
    }
    if seen.live && !followed.has_end {
        report(DeviceProblem::NoEnd);
    }
    let is_on_main = !device.main_data.is_empty() || device.main_config.is_some();
    match (device.packets.is_empty(), is_on_main) {
        (false, true) => report(DeviceProblem::BothWays),
        (true, _) if device.main_config.is_none() && seen.tail && seen.all_channels() => {
            report(if seen.description { DeviceProblem::NoConfig } else { DeviceProblem::HiddenConfig });
        }
        _ => {}
    }
}

/// Sorts packets by idx, and checks that each comes once, without gaps, and the config state last. One damage makes one
/// error.
fn in_order(device: &mut Device, inspection: &mut Inspection, seen: &Seen) {
    device.packets.sort_unstable_by_key(|packet| (packet.idx, packet.state.connection, packet.state.offset));
    if let Some((packet, problem)) = disorder(&device.packets, &inspection.connections, seen.all_channels()) {
        report(inspection, packet, device.id.problem(problem));
    }
}

/// What is wrong with a device's packets, which are sorted by idx, and at which of them. A packet counts as missing
/// only if `all` channels were read to their ends.
fn disorder<'a>(
    packets: &'a [DevicePacket],
    connections: &[Connection],
    all: bool,
) -> Option<(&'a DevicePacket, DeviceProblem)> {
    let place = |packet: &DevicePacket| {
        (connections[usize::from(packet.state.connection)].file.clone(), packet.offset())
    };
    let last = packets.last()?;
    if let Some(pair) = packets.windows(2).find(|pair| pair[0].idx == pair[1].idx) {
        let (first, second) = (&pair[0], &pair[1]);
        let (first_file, first_offset) = place(first);
        return Some((second, DeviceProblem::DuplicateIdx { idx: second.idx, first_file, first_offset }));
    }
    let missing = u64::from(last.idx) + 1 - packets.len() as u64;
    if missing > 0 && all {
        let first = (0..).zip(packets).find(|(idx, packet)| *idx != packet.idx).map_or(0, |(idx, _)| idx);
        return Some((last, DeviceProblem::MissingIdx { last: last.idx, missing, first }));
    }
    let mut configs = packets.iter().filter(|packet| packet.config);
    match (configs.next(), configs.next()) {
        (Some(first), Some(second)) => {
            let (first_file, first_offset) = place(first);
            Some((second, DeviceProblem::SecondConfig { first_file, first_offset }))
        }
        (Some(config), None) if config.idx != last.idx => {
            Some((config, DeviceProblem::ConfigNotLast { idx: config.idx, last: last.idx }))
        }
        (None, _) if all => Some((last, DeviceProblem::NoConfig)),
        _ => None,
    }
}

fn report(inspection: &mut Inspection, packet: &DevicePacket, problem: CaptureProblem) {
    let connection = &inspection.connections[usize::from(packet.state.connection)];
    inspection.errors.push(error(connection, packet.offset(), problem));
}

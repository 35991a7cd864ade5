//! Tracks what was sent when. Pure: positions and `now` in, figures out.

use crate::limits::QEMU_ANSWERS_MAX;
use crate::numbers::{ConnectionIdx, DeviceIdx};
use crate::qemu::capture::{Device, Inspection};
use crate::time::Nanos;
use crate::wire::qemu::Reply;

/// What of a capture was sent, and what was answered.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) began: Nanos,
    connections: Vec<Connection>,
    devices: Vec<Option<Nanos>>,
    pub(super) switchover_at: Option<Nanos>,
    pub(super) shut_at: Option<Nanos>,
    /// The first [`QEMU_ANSWERS_MAX`] of them; a destination could answer for ever.
    pub(super) answers: Vec<(Reply, Nanos)>,
}

#[derive(Debug, Default)]
struct Connection {
    begins: u64,
    sent: u64,
    first_at: Option<Nanos>,
    last_at: Nanos,
    /// For each device with state on this connection, where the last of it ends; ascending.
    ends: Vec<(u64, DeviceIdx)>,
    /// How many of `ends` were sent.
    passed: usize,
}

impl Progress {
    /// Starts with `begins` bytes of each connection already sent.
    pub(super) fn new(inspection: &Inspection, begins: &[u64], now: Nanos) -> Progress {
        let mut connections: Vec<_> = begins
            .iter()
            .map(|&begins| Connection { begins, sent: begins, ..Connection::default() })
            .collect();
        for (number, device) in inspection.devices.iter().enumerate() {
            let number = DeviceIdx::from_index(number);
            for (place, connection) in connections.iter_mut().enumerate() {
                let end = last_on(device, ConnectionIdx::from_index(place));
                connection.ends.extend(end.map(|end| (end, number)));
            }
        }
        connections.iter_mut().for_each(|connection| connection.ends.sort_unstable());
        Progress {
            began: now,
            connections,
            devices: vec![None; inspection.devices.len()],
            switchover_at: None,
            shut_at: None,
            answers: Vec::with_capacity(QEMU_ANSWERS_MAX),
        }
    }

    /// A connection has sent everything before the offset `sent`.
    pub(super) fn advance(&mut self, connection: ConnectionIdx, sent: u64, now: Nanos) {
        let connection = &mut self.connections[connection.index()];
        connection.sent = sent;
        connection.last_at = now;
        while let Some(&(_, device)) = connection.ends.get(connection.passed).filter(|(end, _)| *end <= sent)
        {
            self.devices[device.index()] = Some(now);
            connection.passed += 1;
        }
    }

    /// A connection begins to send.
    pub(super) fn begin(&mut self, connection: ConnectionIdx, now: Nanos) {
        self.connections[connection.index()].first_at.get_or_insert(now);
    }

    pub(super) fn answer(&mut self, reply: Reply, now: Nanos) {
        if self.answers.len() < QEMU_ANSWERS_MAX {
            self.answers.push((reply, now));
        }
    }

    pub(super) fn sent(&self, connection: ConnectionIdx) -> u64 {
        self.connections[connection.index()].sent
    }

    /// Bytes sent on all connections.
    pub(super) fn bytes(&self) -> u64 {
        self.connections.iter().map(|connection| connection.sent).sum()
    }

    /// When the last byte of any connection was sent.
    pub(super) fn last_at(&self) -> Nanos {
        self.connections.iter().map(|connection| connection.last_at).max().unwrap_or(0).max(self.began)
    }

    /// How many bytes a connection sent, and in how many nanoseconds.
    pub(super) fn pace(&self, connection: ConnectionIdx) -> (u64, Nanos) {
        let Connection { begins, sent, first_at, last_at, .. } = self.connections[connection.index()];
        (sent - begins, first_at.map_or(0, |first| last_at.saturating_sub(first)))
    }

    /// From SWITCHOVER_START to the last of a device's state.
    pub(super) fn device_ns(&self, device: DeviceIdx) -> Option<Nanos> {
        Some(self.devices[device.index()]?.saturating_sub(self.switchover_at?))
    }

    /// From SWITCHOVER_START to the last of all devices' state.
    pub(super) fn switchover_ns(&self) -> Option<Nanos> {
        let last = self.devices.iter().flatten().max()?;
        Some(last.saturating_sub(self.switchover_at?))
    }
}

/// Where the state that a device sent after it had stopped ends on one connection.
fn last_on(device: &Device, connection: ConnectionIdx) -> Option<u64> {
    let packets = device.packets.iter().map(|packet| packet.state);
    let stopped = packets.chain(device.main_data.iter().copied()).chain(device.main_config);
    let here = stopped.filter(|piece| ConnectionIdx(piece.connection) == connection);
    here.map(|piece| piece.offset + u64::from(piece.len)).max()
}

//! Which bytes of a capture may be sent now. Pure: positions in, positions out.
//!
//! The order between the connections of a migration is fixed at a few places only. A replay keeps the same order as a
//! QEMU source does:
//!
//! 1. *flush* k of the main connection is sent when every channel has sent its SYNC k;
//! 2. what follows SYNC k on a channel is sent when main has sent flush k;
//! 3. device state is sent on a channel when main has sent SWITCHOVER_START;
//! 4. main's tail is sent when all device state has been sent;
//! 5. SWITCHOVER_START is sent when the destination has acknowledged, if it is asked to.
//!
//! **Why this cannot deadlock with a QEMU destination.** A deadlock needs a circle of waits. On this side there is
//! none: [`Barriers::new`] runs through the whole order once, in numbers, and refuses a capture that does not reach its
//! end (a real one does: its source sent it in an order that fulfils 1 to 4). The destination adds three waits of its
//! own. A channel that has read SYNC k reads on when main has read flush k and all channels have read SYNC k; main
//! reads on after flush k when all channels have read SYNC k; main reads on at its end when all device state has been
//! read. Suppose everything waits, and take the first place in the source's own order that was not read. Everything
//! before it was read, so none of the three waits can hold it back, and neither can 1 to 4, which wait only for earlier
//! places. So it was sent, or is being sent into a socket whose reader reads: it will be read. Sockets of any size are
//! enough, because a send that does not end holds back only its own connection, and no earlier place of another. A
//! destination takes device state off the channel before it loads it, so a slow device does not stop a channel.

use std::ops::Range;

use crate::numbers::ConnectionIdx;

/// Bytes of a flush flag.
const FLUSH_LEN: u64 = 8;
/// Bytes of the command SWITCHOVER_START.
const SWITCHOVER_LEN: u64 = 5;

/// The places in the main connection that others wait for, or that wait for others. Offsets count from its first byte.
#[derive(Debug, Clone, Default)]
pub(super) struct MainMilestones {
    pub(super) len: u64,
    /// Where each flush flag ends.
    pub(super) flushes: Vec<u64>,
    /// Where SWITCHOVER_START begins.
    pub(super) switchover: Option<u64>,
    /// Where the full sections begin.
    pub(super) tail: Option<u64>,
    /// SWITCHOVER_START waits for the destination's acknowledgement.
    pub(super) awaits_ack: bool,
}

/// The same for a multifd connection.
#[derive(Debug, Clone, Default)]
pub(super) struct ChannelMilestones {
    pub(super) len: u64,
    /// Where each SYNC packet ends.
    pub(super) syncs: Vec<u64>,
    /// From the beginning of the first packet of device state to the end of the last.
    pub(super) device: Option<Range<u64>>,
}

/// How much of a connection has been sent.
#[derive(Debug, Clone, Copy, Default)]
struct Position {
    sent: u64,
    /// How many SYNC packets or flush flags were sent.
    barriers: usize,
}

/// A circular wait in a capture, which no source can have sent: what follows this place waits for something that waits
/// for it in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Circle {
    pub(super) connection: ConnectionIdx,
    pub(super) offset: u64,
}

/// The connections of a capture, and how far each may go.
#[derive(Debug)]
pub(super) struct Barriers {
    main: MainMilestones,
    /// By channel.
    channels: Vec<ChannelMilestones>,
    /// By connection.
    positions: Vec<Position>,
    acknowledged: bool,
}

impl Barriers {
    /// `begins` is how many bytes of each channel have already been sent.
    pub(super) fn new(
        main: MainMilestones,
        channels: Vec<ChannelMilestones>,
        begins: u64,
    ) -> Result<Barriers, Circle> {
        let mut positions = vec![Position { sent: begins, barriers: 0 }; channels.len() + 1];
        positions[ConnectionIdx::MAIN.index()].sent = 0;
        let mut barriers = Barriers { acknowledged: true, main, channels, positions: positions.clone() };
        barriers.rehearse()?;
        barriers.positions = positions;
        barriers.acknowledged = !barriers.main.awaits_ack;
        Ok(barriers)
    }

    /// Runs through the whole order, in numbers.
    fn rehearse(&mut self) -> Result<(), Circle> {
        loop {
            let mut moved = false;
            for connection in ConnectionIdx::below(self.positions.len()) {
                let limit = self.limit(connection);
                moved |= limit > self.sent(connection);
                self.advance(connection, limit);
            }
            if !moved {
                break;
            }
        }
        match self.first_unsent() {
            Some(connection) => Err(Circle { connection, offset: self.sent(connection) }),
            None => Ok(()),
        }
    }

    pub(super) fn len(&self, connection: ConnectionIdx) -> u64 {
        match connection.channel() {
            None => self.main.len,
            Some(channel) => self.channels[channel.index()].len,
        }
    }

    pub(super) fn sent(&self, connection: ConnectionIdx) -> u64 {
        self.positions[connection.index()].sent
    }

    /// Whether all of a connection has been sent.
    pub(super) fn is_over(&self, connection: ConnectionIdx) -> bool {
        self.sent(connection) >= self.len(connection)
    }

    /// The first connection of which something is still to be sent.
    pub(super) fn first_unsent(&self) -> Option<ConnectionIdx> {
        ConnectionIdx::below(self.positions.len()).find(|&connection| !self.is_over(connection))
    }

    /// The destination has acknowledged, or its acknowledgement is no longer waited for.
    pub(super) fn acknowledge(&mut self) {
        self.acknowledged = true;
    }

    /// Whether SWITCHOVER_START waits only for the destination's acknowledgement.
    pub(super) fn awaits_ack(&self) -> bool {
        !self.acknowledged && self.main.switchover == Some(self.sent(ConnectionIdx::MAIN))
    }

    /// Whether SWITCHOVER_START has been sent.
    pub(super) fn is_switched(&self) -> bool {
        self.main.switchover.is_some_and(|begin| self.sent(ConnectionIdx::MAIN) >= begin + SWITCHOVER_LEN)
    }

    /// Whether all device state on the channels has been sent.
    pub(super) fn device_state_is_sent(&self) -> bool {
        let channels = self.channels.iter().zip(&self.positions[1..]);
        channels
            .into_iter()
            .all(|(milestones, at)| milestones.device.as_ref().is_none_or(|device| at.sent >= device.end))
    }

    /// The first `sent` bytes of a connection have been handed to its socket.
    pub(super) fn advance(&mut self, connection: ConnectionIdx, sent: u64) {
        let barriers = match connection.channel() {
            None => &self.main.flushes,
            Some(channel) => &self.channels[channel.index()].syncs,
        };
        let position = &mut self.positions[connection.index()];
        position.sent = sent;
        while barriers.get(position.barriers).is_some_and(|&end| end <= sent) {
            position.barriers += 1;
        }
    }

    /// The offset up to which a connection may be sent; if nothing more may be sent, how much already was. It never
    /// goes past a place that others wait for: only when a send ends is it known that the place was sent.
    pub(super) fn limit(&self, connection: ConnectionIdx) -> u64 {
        match connection.channel() {
            None => self.main_limit(),
            Some(channel) => {
                self.channel_limit(&self.channels[channel.index()], self.positions[connection.index()])
            }
        }
    }

    fn main_limit(&self) -> u64 {
        let Position { sent, barriers } = self.positions[ConnectionIdx::MAIN.index()];
        let mut limit = self.main.len;
        if let Some(&end) = self.main.flushes.get(barriers) {
            let is_open = self.positions[1..].iter().all(|channel| channel.barriers > barriers);
            limit = limit.min(if is_open { end } else { end.saturating_sub(FLUSH_LEN) });
        }
        if let Some(begin) = self.main.switchover.filter(|begin| sent < begin + SWITCHOVER_LEN) {
            limit = limit.min(if self.acknowledged { begin + SWITCHOVER_LEN } else { begin });
        }
        if let Some(tail) = self.main.tail.filter(|_| !self.device_state_is_sent()) {
            limit = limit.min(tail);
        }
        limit.max(sent)
    }

    fn channel_limit(&self, milestones: &ChannelMilestones, at: Position) -> u64 {
        if at.barriers > self.positions[ConnectionIdx::MAIN.index()].barriers {
            return at.sent;
        }
        let mut limit = milestones.len;
        if let Some(&end) = milestones.syncs.get(at.barriers) {
            limit = limit.min(end);
        }
        if let Some(device) = milestones.device.as_ref().filter(|device| at.sent < device.end) {
            let is_open = self.main.switchover.is_none() || self.is_switched();
            limit = limit.min(if is_open { device.end } else { device.start });
        }
        limit.max(at.sent)
    }
}

#[cfg(test)]
mod tests;

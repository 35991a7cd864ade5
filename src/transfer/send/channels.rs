//! The data connections of the sender, and which of them are free. It knows no devices and no session.

use super::super::least_loaded::least_loaded;
use crate::buffer::{Lease, Slot};
use crate::channel::{Tx, TxEvent};
use crate::error::Errno;
use crate::numbers::{ChannelIdx, DeviceIdx};
use crate::ring::Ring;
use crate::session::index_set::IndexSet;
use crate::wire::DataHeader;

/// The data connections of the sender.
pub(super) struct Channels {
    all: Vec<Tx>,
    /// Whose packet each one sends, or sent last; no device's when it is to warm it up.
    devices: Vec<Option<DeviceIdx>>,
    /// Those that a packet can be given to.
    idle: IndexSet<ChannelIdx>,
}

impl Channels {
    pub(super) fn new(channels: impl Iterator<Item = Tx>) -> Channels {
        let all: Vec<Tx> = channels.collect();
        Channels { idle: IndexSet::below(all.len()), devices: vec![None; all.len()], all }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Tx> {
        self.all.iter()
    }

    /// When a channel's current packet, or its last one, was given to it.
    pub(super) fn sent_at(&self, channel: ChannelIdx) -> u64 {
        self.all[channel.index()].sent_at()
    }

    /// Whose packet a channel's current packet, or its last one, is, if it is a device's.
    pub(super) fn device(&self, channel: ChannelIdx) -> Option<DeviceIdx> {
        self.devices[channel.index()]
    }

    /// How many a packet can be given to.
    pub(super) fn count_idle(&self) -> usize {
        self.idle.len()
    }

    /// Bytes that have arrived at the peer's host, those that warm up among them, as far as the kernel knows. A packet that is being sent counts as
    /// not arrived.
    pub(super) fn arrived(&self, ring: &impl Ring) -> u64 {
        self.all.iter().map(|tx| tx.arrived(ring)).sum()
    }

    /// Whether nothing is being sent.
    pub(super) fn is_idle(&self) -> bool {
        self.idle.len() == self.all.len()
    }

    /// The channel that the next packet leaves on, unless all are busy.
    pub(super) fn choose(&self) -> Option<ChannelIdx> {
        let load = |channel: ChannelIdx| {
            let tx = &self.all[channel.index()];
            (channel, tx.outstanding(), tx.bytes)
        };
        least_loaded(self.idle.iter().map(load))
    }

    pub(super) fn send(
        &mut self,
        ring: &mut impl Ring,
        channel: ChannelIdx,
        slot: Slot,
        header: &DataHeader,
    ) {
        self.all[channel.index()].send(ring, slot, header);
        self.devices[channel.index()] = Some(DeviceIdx(header.device));
        self.idle.remove(channel);
    }

    /// Whether each of them was warmed up with as much as may be.
    pub(super) fn are_warm(&self, limit: u64) -> bool {
        self.all.iter().all(|tx| tx.warmed() >= limit)
    }

    /// Of the idle ones that one that was warmed up least, and with how much more it may be.
    pub(super) fn coldest(&self, limit: u64) -> Option<(ChannelIdx, u64)> {
        let left = |channel: ChannelIdx| (channel, limit.saturating_sub(self.all[channel.index()].warmed()));
        self.idle.iter().map(left).max_by_key(|(_, left)| *left).filter(|(_, left)| *left > 0)
    }

    /// Bytes that were sent to warm all of them up.
    pub(super) fn warmed(&self) -> u64 {
        self.all.iter().map(Tx::warmed).sum()
    }

    pub(super) fn warm_up(&mut self, ring: &mut impl Ring, channel: ChannelIdx, slot: Slot, len: u32) {
        self.all[channel.index()].warm_up(ring, slot, len);
        self.devices[channel.index()] = None;
        self.idle.remove(channel);
    }

    pub(super) fn on_sent(
        &mut self,
        ring: &mut impl Ring,
        channel: ChannelIdx,
        lease: Option<Lease>,
        result: Result<usize, Errno>,
    ) -> TxEvent {
        let event = self.all[channel.index()].on_sent(ring, lease, result);
        self.idle.set(channel, self.all[channel.index()].is_idle());
        event
    }

    pub(super) fn on_released(&mut self, channel: ChannelIdx, lease: Lease, copied: bool) -> TxEvent {
        self.all[channel.index()].on_released(lease, copied)
    }
}

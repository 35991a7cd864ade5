//! What the receiver keeps of each packet for a trace, where its caller asked for one. Nothing of a migration depends on it.

use super::Receiving;
use crate::buffer::Slot;
use crate::numbers::{ChannelIdx, DeviceIdx};
use crate::report::trace::Label;
use crate::ring::Ring;
use crate::time::Nanos;
use crate::wire::qemu::DevicePacket;

impl<R: Ring> Receiving<R> {
    /// A packet's state is received into this slot from now on.
    pub(super) fn note_receiving(&mut self, slot: &Slot, channel: ChannelIdx, packet: &DevicePacket) {
        let Some(trace) = self.worker.trace.on() else { return };
        let (device, idx) = (self.session.devices.device_of(packet).0, packet.idx.into());
        let label = Label { device, idx, config: packet.config, bytes: packet.len };
        trace.receiving(slot.index(), label, Some(channel.0), self.worker.ring.now());
    }

    /// What is in this slot is complete.
    pub(super) fn note_arrived(&mut self, slot: u32, now: Nanos) {
        if !self.worker.trace.is_on() {
            return;
        }
        let free = self.worker.free();
        self.worker.trace.on().into_iter().for_each(|trace| trace.arrived(slot, now, free));
    }

    /// A piece of state of the main connection is complete. When it began to come is not known: it came with others.
    pub(super) fn note_piece(&mut self, slot: u32, device: DeviceIdx, len: usize, config: bool, now: Nanos) {
        let Some(trace) = self.worker.trace.on() else { return };
        let bytes = u32::try_from(len).unwrap_or(u32::MAX);
        trace.receiving(slot, Label { device: device.0, idx: self.pieces, config, bytes }, None, now);
        self.pieces += 1;
        self.note_arrived(slot, now);
    }
}

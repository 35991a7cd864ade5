//! What the sender counts for its report, beside what the recorder does: intervals, devices and channels. Nothing of a
//! transfer depends on it.

use super::Sending;
use crate::buffer::Slot;
use crate::channel::Tx;
use crate::numbers::{ChannelIdx, DeviceIdx, PacketIdx};
use crate::report::{Counted, Stage};
use crate::ring::Ring;
use crate::session::handover::Outcome;
use crate::session::queue::ReadPacket;
use crate::time::Nanos;
use crate::wire::SessionId;
use crate::worker::report_builder::timeline::Span;
use crate::worker::report_builder::{ReportBuilder, counted};

impl<R: Ring> Sending<R> {
    /// The report says who is at the other end.
    pub(in crate::transfer) fn note_connection(&mut self, session: Option<SessionId>) {
        self.worker.report.connected(session, self.link.connection());
    }

    pub(in crate::transfer) fn report_builder(&mut self) -> &mut ReportBuilder {
        &mut self.worker.report
    }

    /// Settings are agreed on, and the connections warm: the first interval begins.
    pub(super) fn begin_figures(&mut self) {
        let counted = self.counted();
        let (devices, channels) = (self.readers.devices.len(), self.channels.iter().count());
        self.worker.begin_intervals(devices, channels, counted);
    }

    /// Ends an interval that has lasted long enough.
    pub(super) fn note_interval(&mut self, now: Nanos) {
        if self.worker.report.intervals.is_due(now) {
            self.close_interval(now);
        }
        self.tell_interval(now);
    }

    /// Tells the caller of an interval that is over.
    pub(super) fn tell_interval(&mut self, now: Nanos) {
        if !self.worker.is_interval_over(now) {
            return;
        }
        let counted = self.counted();
        let session = &self.session;
        let devices = DeviceIdx::below(self.readers.devices.len()).map(|device| session.totals(device));
        self.worker.tell_interval(now, counted, devices, self.channels.iter().map(|channel| channel.bytes));
    }

    pub(super) fn close_interval(&mut self, now: Nanos) {
        let counted = self.counted();
        let session = &self.session;
        let devices = DeviceIdx::below(self.readers.devices.len()).map(|device| session.totals(device).bytes);
        let channels = self.channels.iter().map(|channel| channel.bytes);
        self.worker.report.intervals.close(now, counted, devices.chain(channels));
    }

    /// How long the devices will stand still, as far as what moved so far tells, or what warmed the connections up. Asked
    /// while they still run.
    pub(super) fn predict(&mut self) {
        self.close_interval(self.worker.ring.now());
        let left = self.readers.left();
        let connection = self.channels.iter().next().map(Tx::connection);
        let round_trip_ns = self.session.clock().map(|offset| 2 * offset.error_ns);
        self.worker.report.predict(&self.worker.ring, left, connection, round_trip_ns);
    }

    fn counted(&self) -> Counted {
        let connections = self.channels.iter().map(Tx::connection);
        let in_flight_bytes = self.channels.iter().map(Tx::outstanding).sum();
        Counted { in_flight_bytes, ..counted(&self.worker.ring, &self.worker.recorder, connections) }
    }

    /// A packet that was read waits to be sent from now on. It is about to get its number.
    pub(super) fn note_queued(&mut self, packet: &ReadPacket<Slot>, now: Nanos) {
        let Some(trace) = self.worker.trace.on() else { return };
        let PacketIdx(idx) = self.session.totals(packet.device).next();
        trace.queued(packet.handle.index(), idx, now);
    }

    /// A socket has taken what a channel sent: a packet, unless it only warmed the connection up.
    pub(super) fn note_sent(&mut self, channel: ChannelIdx, now: Nanos) {
        let Some(device) = self.channels.device(channel) else { return };
        let span = Span { begin: self.channels.sent_at(channel), end: now };
        self.worker.recorder.record(Stage::Send, span.begin, now);
        self.worker.report.timeline.sent(device, channel, span);
        self.worker.trace.on().into_iter().for_each(|trace| trace.sent(channel.0, now));
    }

    /// A channel sends the packet in this slot from now on.
    pub(super) fn note_sending(&mut self, slot: u32, device: DeviceIdx, channel: ChannelIdx, now: Nanos) {
        if !self.worker.trace.is_on() {
            return;
        }
        let in_flight_bytes = self.channels.iter().map(Tx::outstanding).sum();
        let counted = (self.worker.free(), in_flight_bytes, self.session.credit_left(device));
        let trace = self.worker.trace.on().into_iter();
        trace.for_each(|trace| trace.sending(slot, channel.0, now, counted));
    }

    /// Every device is where it belongs: counts what it came to, while the connections are open.
    pub(super) fn count(&mut self, outcome: Outcome) {
        let now = self.worker.ring.now();
        self.close_interval(now);
        self.worker.end_intervals(now);
        self.tell_interval(now);
        let Sending { worker, readers, channels, session, checksum, .. } = self;
        worker.report.ended(outcome, now);
        for ((device, (name, instance)), estimate) in
            readers.devices.names().enumerate().zip(readers.estimates())
        {
            let device = DeviceIdx::from_index(device);
            let (totals, precopy) = (session.totals(device), (readers.precopy_bytes(device), estimate));
            worker.report.device(name, instance, totals, precopy, *checksum);
        }
        channels.iter().for_each(|channel| worker.report.tx(&worker.ring, channel));
    }
}

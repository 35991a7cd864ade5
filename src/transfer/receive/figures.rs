//! What the receiver counts for its report, beside what the recorder does: intervals, devices and channels. Nothing of a
//! transfer depends on it.

use super::Receiving;
use crate::buffer::Slot;
use crate::channel::Rx;
use crate::numbers::{ChannelIdx, DeviceIdx};
use crate::report::Counted;
use crate::report::trace::Label;
use crate::ring::Ring;
use crate::session::handover::Outcome;
use crate::time::Nanos;
use crate::wire::{DataHeader, SessionId};
use crate::worker::report_builder::{ReportBuilder, counted};

impl<R: Ring> Receiving<R> {
    /// The report says who is at the other end.
    pub(in crate::transfer) fn note_connection(&mut self, session: Option<SessionId>) {
        self.worker.report.connected(session, self.link.connection());
    }

    pub(in crate::transfer) fn report_builder(&mut self) -> &mut ReportBuilder {
        &mut self.worker.report
    }

    /// Settings are agreed on: the first interval begins.
    pub(super) fn begin_figures(&mut self) {
        let counted = self.counted();
        let (devices, channels) = (self.writers.devices.len(), self.channels.len());
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
        let devices = DeviceIdx::below(self.writers.devices.len()).map(|device| session.totals(device));
        self.worker.tell_interval(now, counted, devices, self.channels.iter().map(|channel| channel.bytes));
    }

    fn close_interval(&mut self, now: Nanos) {
        let counted = self.counted();
        let session = &self.session;
        let devices = DeviceIdx::below(self.writers.devices.len()).map(|device| session.totals(device).bytes);
        let channels = self.channels.iter().map(|channel| channel.bytes);
        self.worker.report.intervals.close(now, counted, devices.chain(channels));
    }

    fn counted(&self) -> Counted {
        let connections = self.channels.iter().map(Rx::connection);
        let reorder_depth = self.session.unwritten();
        Counted { reorder_depth, ..counted(&self.worker.ring, &self.worker.recorder, connections) }
    }

    /// A packet's payload is received into this slot from now on.
    pub(super) fn note_receiving(&mut self, slot: &Slot, channel: ChannelIdx, header: &DataHeader) {
        let Some(trace) = self.worker.trace.on() else { return };
        let now = self.worker.ring.now();
        let &DataHeader { device, idx, config, len, .. } = header;
        trace.receiving(slot.index(), Label { device, idx, config, bytes: len }, Some(channel.0), now);
    }

    /// It has arrived: it is one more of those that are not written.
    pub(super) fn note_arrived(&mut self, slot: &Slot, now: Nanos) {
        if !self.worker.trace.is_on() {
            return;
        }
        let free = self.worker.free();
        self.worker.trace.on().into_iter().for_each(|trace| trace.arrived(slot.index(), now, free));
    }

    /// Every device is where it belongs: counts what it came to, while the connections are open.
    pub(super) fn count(&mut self, outcome: Outcome) {
        let now = self.worker.ring.now();
        if self.worker.has_pool() {
            self.close_interval(now);
        }
        self.worker.end_intervals(now);
        self.tell_interval(now);
        let Receiving { worker, writers, channels, session, checksum, estimates, .. } = self;
        worker.report.ended(outcome, now);
        if worker.has_pool() {
            let devices = writers.devices.names().enumerate().zip(estimates.iter());
            for ((device, (name, instance)), estimate) in devices {
                let device = DeviceIdx::from_index(device);
                worker.report.device(name, instance, session.totals(device), (0, *estimate), *checksum);
            }
        }
        channels.iter().for_each(|channel| worker.report.rx(&worker.ring, channel));
    }
}

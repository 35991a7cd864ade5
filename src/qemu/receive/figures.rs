//! What the receiver counts for its report, beside what the recorder does: intervals, devices and channels. Nothing of a
//! migration depends on it.

use std::iter;

use super::Receiving;
use crate::channel::Rx;
use crate::numbers::DeviceIdx;
use crate::report::Counted;
use crate::ring::Ring;
use crate::time::Nanos;
use crate::wire::Checksum;
use crate::worker::report_builder::counted;

impl<R: Ring> Receiving<R> {
    /// Devices are ready: the first interval begins.
    pub(super) fn begin_figures(&mut self) {
        let counted = self.counted();
        // channels are not there before the source has said how large its pages are
        let channels = self.connections.len() + self.channels.len();
        self.worker.begin_intervals(self.writers.devices.len(), channels, counted);
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
        let devices =
            DeviceIdx::below(self.writers.devices.len()).map(|device| session.devices.totals(device).0);
        let channels = self.channels.iter().map(|channel| channel.bytes).chain(iter::repeat(0));
        self.worker.tell_interval(now, counted, devices, channels);
    }

    fn close_interval(&mut self, now: Nanos) {
        let counted = self.counted();
        let session = &self.session;
        let devices =
            DeviceIdx::below(self.writers.devices.len()).map(|device| session.devices.totals(device).0.bytes);
        let channels = self.channels.iter().map(|channel| channel.bytes).chain(iter::repeat(0));
        self.worker.report.intervals.close(now, counted, devices.chain(channels));
    }

    fn counted(&self) -> Counted {
        let connections = self.channels.iter().map(Rx::connection).chain([self.main.connection()]);
        counted(&self.worker.ring, &self.worker.recorder, connections)
    }

    /// Counts what everything came to, while the connections are open.
    pub(super) fn count(&mut self) {
        let now = self.worker.ring.now();
        self.close_interval(now);
        self.worker.end_intervals(now);
        self.tell_interval(now);
        let Receiving { worker, writers, channels, session, .. } = self;
        for (device, (name, instance)) in writers.devices.names().enumerate() {
            let device = DeviceIdx::from_index(device);
            let (totals, precopy_bytes) = session.devices.totals(device);
            worker.report.device(name, instance, totals, (precopy_bytes, None), Checksum::None);
        }
        channels.iter().for_each(|channel| worker.report.rx(&worker.ring, channel));
    }
}

//! Intervals: those of the report, and those that the caller is told of while the transfer goes on. Both are differences of
//! the same counters, which the loop's owner has.
//!
//! Knows no protocol. The caller's intervals end by the worker's own deadline, never on the data path, and end for good
//! when every device is where it belongs.

use super::Worker;
use super::caller::Event;
use crate::report::{Counted, OpenInterval};
use crate::ring::Ring;
use crate::session::totals::Totals;
use crate::time::Nanos;
use crate::time::deadlines::Deadline;

/// The intervals that the caller is told of.
pub(super) struct Told {
    width: Nanos,
    /// When the one that is under way ends.
    due: Nanos,
    open: OpenInterval,
    is_last: bool,
}

impl<R: Ring> Worker<R> {
    /// Settings are agreed on: time counts from here, and the first interval begins. A loop that calls this closes the report's
    /// intervals, and those that the caller is told of in every turn and in [`Loop::on_clock`](super::event_loop::Loop::on_clock).
    pub(crate) fn begin_intervals(&mut self, devices: usize, channels: usize, counted: Counted) {
        let now = self.ring.now();
        self.report.started_at = now;
        self.report.intervals.begin(now, devices, channels, counted);
        self.told = self.caller.wants_intervals().map(|width| {
            let due = now.saturating_add(width);
            self.deadlines.set(Deadline::Interval, due);
            let open = OpenInterval::begin(now, devices, channels, counted);
            Told { width, due, open, is_last: false }
        });
    }

    /// Whether an interval has ended that the caller is to be told of.
    pub(crate) fn is_interval_over(&self, now: Nanos) -> bool {
        self.deadlines.has_expired(Deadline::Interval, now)
    }

    /// Tells the caller of the interval that ends now, and begins the next: what each device and each channel has moved so
    /// far.
    pub(crate) fn tell_interval(
        &mut self,
        now: Nanos,
        counted: Counted,
        devices: impl Iterator<Item = Totals> + Clone,
        channels: impl Iterator<Item = u64>,
    ) {
        let Some(mut told) = self.told.take() else { return };
        // one that a busy loop was late for does not shift those behind it
        let periods = now.saturating_sub(told.due) / told.width + 1;
        told.due = told.due.saturating_add(periods * told.width);
        let moved = devices.clone().map(|totals| totals.bytes).chain(channels);
        let interval = told.open.end(now, self.report.started_at, counted, moved);
        if told.is_last {
            self.deadlines.stop(Deadline::Interval);
        } else {
            self.deadlines.set(Deadline::Interval, told.due);
            self.told = Some(told);
        }
        let sum = |(bytes, packets), totals: Totals| (bytes + totals.bytes, packets + totals.packets);
        let ((bytes, packets), phase) = (devices.fold((0, 0), sum), self.caller.phase());
        if let Some(interval) = interval {
            self.caller.tell(&Event::Interval { interval, bytes, packets, phase });
        }
    }

    /// Every device is where it belongs: the interval that is under way is over, and is the last one.
    pub(crate) fn end_intervals(&mut self, now: Nanos) {
        if let Some(told) = &mut self.told {
            told.is_last = true;
            self.deadlines.set(Deadline::Interval, now);
        }
    }
}

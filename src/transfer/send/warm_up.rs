//! Warming the data connections up before any device is read, which also measures the path; and the dry run, which is that and
//! no transfer. It must not know what the receiver does with the bytes. The invariant: none of them is left in a socket, in
//! front of a device's state, as far as waiting a little can prevent it.

use super::Sending;
use crate::error::Error;
use crate::limits::{CONFIRMATION_POLL, WARM_UP_PACKET, WARM_UP_TIME};
use crate::ring::Ring;
use crate::session::warm_up::WarmUpRate;
use crate::time::deadlines::Deadline;
use crate::time::nanos;
use crate::worker::event_loop::{run_until, within};

impl<R: Ring> Sending<R> {
    /// Sends what the receiver drops, if the caller wants that and the receiver does: slow start is over before the devices
    /// stop, and the path's rate is known.
    pub(super) fn warm_up(&mut self) -> Result<(), Error> {
        let limit = if self.warms_up { self.session.warm_up_limit() } else { 0 };
        if limit == 0 {
            return Ok(());
        }
        let mut rate = WarmUpRate::new(self.worker.ring.now(), self.channels.arrived(&self.worker.ring));
        let end = within(self, WARM_UP_TIME);
        let is_over = |sending: &mut Sending<R>| sending.channels.are_warm(limit);
        run_until(self, (Deadline::WarmUp, end), is_over, |sending, _| {
            sending.send_warm_up(limit);
            sending.observed_turn(&mut rate)
        })?;
        // what is under way arrives: as long again at the most, but a packet that has begun is always sent to its end
        let end = within(self, WARM_UP_TIME);
        while !self.channels.is_idle() || (!self.has_arrived() && self.worker.ring.now() < end) {
            let poll = within(self, CONFIRMATION_POLL);
            self.worker.deadlines.set(Deadline::WarmUp, poll);
            self.observed_turn(&mut rate)?;
        }
        self.worker.deadlines.stop(Deadline::WarmUp);
        self.worker.report.path(rate.bytes_per_s());
        Ok(())
    }

    /// All that a dry run does: no device is asked to do anything.
    pub(super) fn rehearse(&mut self) -> Result<(), Error> {
        let end = within(self, WARM_UP_TIME);
        let is_known = |sending: &mut Sending<R>| sending.session.knows_round_trip();
        run_until(self, (Deadline::WarmUp, end), is_known, |sending, _| sending.turn())?;
        self.warm_up()?;
        self.begin_figures();
        self.predict();
        Err(Error::DryRun)
    }

    /// Gives each idle channel something to send.
    fn send_warm_up(&mut self, limit: u64) {
        while let Some((channel, left)) = self.channels.coldest(limit) {
            let Some(slot) = self.worker.take() else { return };
            let len = WARM_UP_PACKET.min(self.packet_size.get());
            let len = u32::try_from(left).map_or(len, |left| len.min(left));
            self.channels.warm_up(&mut self.worker.ring, channel, slot, len);
        }
    }

    fn observed_turn(&mut self, rate: &mut WarmUpRate) -> Result<(), Error> {
        self.turn()?;
        rate.observe(self.worker.ring.now(), self.channels.arrived(&self.worker.ring));
        Ok(())
    }

    fn has_arrived(&self) -> bool {
        self.channels.arrived(&self.worker.ring) >= self.channels.warmed()
    }
}

const _: () = assert!(nanos(CONFIRMATION_POLL) < nanos(WARM_UP_TIME));

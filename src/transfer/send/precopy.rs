//! Pre-copy on the sender's side: until the devices say that it has done what it can, or until the caller says so. It does
//! not know how a device is read or asked. The invariant: no read is under way and no device is asked when it ends.

use super::Sending;
use crate::cancel::PreCopyHold;
use crate::error::Error;
use crate::limits::PRECOPY_TIME_MAX;
use crate::numbers::DeviceIdx;
use crate::phase::Phase;
use crate::report::{PreCopyEnd, PreCopyReport};
use crate::ring::Ring;
use crate::session::rate::LinkRate;
use crate::time::deadlines::Deadline;
use crate::time::nanos;
use crate::worker::event_loop::{run_until, within};

impl<R: Ring> Sending<R> {
    /// Reads devices that can be read while they run, until what is left of all of them is small, or the caller says so.
    pub(super) fn pre_copy(&mut self) -> Result<(), Error> {
        let has_any = self.readers.note_flows();
        if !has_any && self.hooks.hold_pre_copy.is_none() {
            return Ok(());
        }
        self.enter(Phase::PreCopy);
        let begun = self.worker.ring.now();
        self.readers.begin_precopy(begun)?;
        let mut rate = LinkRate::default();
        self.readers.set_precopy_limit(self.precopy_limit(&rate));
        let end = match self.hooks.hold_pre_copy.clone() {
            Some(hold) => self.hold_pre_copy(&hold, &mut rate)?,
            None => self.converge(&mut rate)?,
        };
        // nothing reads while a device changes its state
        self.settle_precopy()?;
        if !has_any {
            return Ok(());
        }
        let precopy = PreCopyReport {
            duration_ns: self.worker.ring.now() - begun,
            bytes: self.precopy_bytes(),
            left_bytes: self.readers.precopy_left(),
            limit_bytes: self.precopy_limit(&rate),
            rate_bytes_per_s: rate.bytes_per_s(),
            asked: self.readers.precopy_asked(),
            end,
        };
        self.worker.report.precopy(precopy);
        Ok(())
    }

    /// Until what is left of all devices is small, or will not become so.
    fn converge(&mut self, rate: &mut LinkRate) -> Result<PreCopyEnd, Error> {
        let end = within(self, PRECOPY_TIME_MAX);
        self.worker.deadlines.set(Deadline::PreCopyMax, end);
        let found = loop {
            if let Some(found) = self.readers.precopy_end(self.precopy_limit(rate)) {
                break Ok(found);
            }
            if self.worker.deadlines.has_expired(Deadline::PreCopyMax, self.worker.ring.now()) {
                break Ok(PreCopyEnd::Time);
            }
            if let Err(error) = self.measured_turn(rate) {
                break Err(error);
            }
        };
        self.worker.deadlines.stop(Deadline::PreCopyMax);
        found
    }

    /// Until the caller releases the hold, however much or little is left.
    fn hold_pre_copy(&mut self, hold: &PreCopyHold, rate: &mut LinkRate) -> Result<PreCopyEnd, Error> {
        while !hold.is_released() {
            hold.set_remaining(self.readers.precopy_left());
            self.measured_turn(rate)?;
        }
        Ok(PreCopyEnd::Caller)
    }

    /// A turn, after which the link may be known better.
    fn measured_turn(&mut self, rate: &mut LinkRate) -> Result<(), Error> {
        self.turn()?;
        let is_busy = !(self.session.is_idle() && self.channels.is_idle());
        let (ring, channels) = (&self.worker.ring, &self.channels);
        if rate.observe(ring.now(), is_busy, || channels.arrived(ring)) {
            self.readers.set_precopy_limit(self.precopy_limit(rate));
        }
        Ok(())
    }

    /// Bytes that may be left when pre-copy ends: what the link moves within the downtime limit, and one packet in any case.
    fn precopy_limit(&self, rate: &LinkRate) -> u64 {
        rate.bytes_in(nanos(self.downtime_limit)).max(self.packet_size.get().into())
    }

    /// The devices are quiet and their processors paused: asks what is left now, which is what the switchover has to move.
    /// Initial bytes that have begun anew are read while they still can be, for as long as the downtime limit.
    pub(super) fn ask_once_more(&mut self) -> Result<(), Error> {
        let had_no_initial = self.readers.ask_all(&mut self.worker);
        while !self.readers.is_settled() {
            self.turn()?;
        }
        let left = self.readers.precopy_left();
        if self.readers.reread_initial(had_no_initial) {
            let end = within(self, self.downtime_limit);
            let is_read = |sending: &mut Sending<R>| !sending.readers.has_initial_left();
            run_until(self, (Deadline::PreCopyMax, end), is_read, |sending, _| sending.turn())?;
            self.settle_precopy()?;
        }
        let (bytes, asked) = (self.precopy_bytes(), self.readers.precopy_asked());
        self.worker.report.precopy_left(bytes, left, asked);
        Ok(())
    }

    /// From now on nothing is read or asked, and nothing still is.
    fn settle_precopy(&mut self) -> Result<(), Error> {
        self.readers.pause(&mut self.worker);
        while !self.readers.is_settled() {
            self.turn()?;
        }
        Ok(())
    }

    fn precopy_bytes(&self) -> u64 {
        DeviceIdx::below(self.readers.devices.len()).map(|device| self.readers.precopy_bytes(device)).sum()
    }
}

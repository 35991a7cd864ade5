//! Pre-copy on the sender's side: until it has done what it can, or until the caller says so. It does not know how a device
//! is read. The invariant: no read is under way when it ends.

use super::Sending;
use crate::cancel::PreCopyHold;
use crate::error::Error;
use crate::limits::{PRECOPY_POLL, PRECOPY_TIME_MAX};
use crate::phase::Phase;
use crate::ring::Ring;
use crate::time::deadlines::Deadline;
use crate::time::nanos;
use crate::worker::event_loop::{run_until, within};

impl<R: Ring> Sending<R> {
    /// Reads devices that can be read while they run, until what is left of each is small, or the caller says so.
    pub(super) fn pre_copy(&mut self) -> Result<(), Error> {
        if !self.readers.note_flows() && self.hooks.hold_pre_copy.is_none() {
            return Ok(());
        }
        self.enter(Phase::PreCopy);
        self.readers.begin_precopy()?;
        match self.hooks.hold_pre_copy.clone() {
            Some(hold) => self.hold_pre_copy(&hold)?,
            None => self.converge()?,
        }
        // nothing reads while a device changes its state
        self.readers.pause(&mut self.worker);
        while self.readers.is_any_under_way() {
            self.turn()?;
        }
        Ok(())
    }

    /// Until what is left of each device is small, or will not become so.
    fn converge(&mut self) -> Result<(), Error> {
        let end = within(self, PRECOPY_TIME_MAX);
        let has_converged = |sending: &mut Sending<R>| !sending.readers.is_converging();
        run_until(self, (Deadline::PreCopyMax, end), has_converged, |sending, _| sending.turn())?;
        Ok(())
    }

    /// Until the caller releases the hold, however much or little is left.
    fn hold_pre_copy(&mut self, hold: &PreCopyHold) -> Result<(), Error> {
        let mut next = 0;
        while !hold.is_released() {
            let now = self.worker.ring.now();
            if now >= next {
                hold.set_remaining(self.readers.precopy_remaining()?);
                next = now + nanos(PRECOPY_POLL);
            }
            self.turn()?;
        }
        Ok(())
    }
}

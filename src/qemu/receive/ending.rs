//! How a migration ends on the live receiver's side: the final message to the source, and every device running what was
//! loaded, or reset.

use super::Receiving;
use crate::error::{Error, PeerError, Place};
use crate::limits::{CONFIRMATION_POLL, FINAL_MESSAGE_MAX};
use crate::phase::Phase;
use crate::report::Role;
use crate::ring::{Directions, Ring};
use crate::time::deadlines::Deadline;
use crate::time::{Nanos, nanos};
use crate::wire::qemu::Reply;
use crate::worker::ending::{drain_close, send_final_message};
use crate::worker::event_loop::{Loop, run_until, within};
use crate::worker::finished::Finished;
use crate::worker::hook::await_hook;
use crate::worker::writers::{note_running, roll_back};

impl<R: Ring> Receiving<R> {
    /// Tells the source that it may let go. This counts once the source's kernel has confirmed it; nothing runs
    /// before. A source that cannot be reached any more has not received it, and runs its devices.
    pub(super) fn report_loaded(&mut self) -> Result<(), Error> {
        self.session.enter(Phase::Commit, self.worker.ring.now());
        self.worker.enter(Phase::Commit);
        // the last moment at which the caller can change their mind
        self.worker.caller.check(self.worker.ring.now())?;
        if self.answers.is_open() && self.main.is_closed() {
            // it does not wait for the message: it has given up, and runs its devices
            let (place, phase) = (Place::Main, Phase::Answering);
            return Err(PeerError::Closed { place, phase }.into());
        }
        assert!(self.session.commit(), "every device is loaded and the main connection has ended");
        self.answers.queue(Reply::Shut(0))?;
        let is_told = |receiving: &mut Receiving<R>| !receiving.answers.is_open() || receiving.is_confirmed;
        let end = within(self, FINAL_MESSAGE_MAX);
        if run_until(self, (Deadline::Confirmation, end), is_told, Receiving::await_confirmation)? {
            return Ok(());
        }
        let (place, errno) = (Place::Main, nix::errno::Errno::ETIMEDOUT.into());
        Err(PeerError::Lost { place, phase: Phase::Answering, errno }.into())
    }

    /// One turn of waiting for the source's kernel to confirm the final message.
    fn await_confirmation(&mut self, end: Nanos) -> Result<(), Error> {
        let now = self.worker.ring.now();
        self.answers.go_on(&mut self.worker.ring);
        // sampled before completions are taken: a lost connection has nothing unconfirmed either, and its completion
        // reports the loss
        let is_taken = self.answers.is_all_sent();
        let is_confirmed = is_taken && self.worker.ring.unconfirmed(self.main.connection().fd())? == 0;
        let until = match (is_taken, is_confirmed) {
            (_, true) => now,
            (true, false) => now + nanos(CONFIRMATION_POLL),
            (false, false) => end,
        };
        self.worker.ring.wait(Some(until.min(end)))?;
        while let Some(completion) = self.worker.ring.next() {
            self.on_completion(completion)?;
        }
        self.is_confirmed = is_confirmed;
        Ok(())
    }

    /// Tells the source, and leaves every device running what was loaded, or reset.
    pub(super) fn conclude(mut self, result: Result<(), Error>) -> Finished {
        let outcome = self.session.outcome();
        // nothing is taken any more, but the end is noticed
        self.main.abandon(&mut self.worker.ring);
        if result.is_err() {
            self.worker.enter(Phase::RollingBack);
            if !self.session.is_committed() {
                // the first message that does not find its way is the last
                let _ = self.answers.queue(Reply::Shut(1));
                let is_sent = |receiving: &mut Receiving<R>| {
                    receiving.main.is_closed() || receiving.answers.is_all_sent()
                };
                send_final_message(&mut self, is_sent, |receiving| {
                    receiving.answers.go_on(&mut receiving.worker.ring);
                });
            }
            // a hook is never left running, and may still use the devices' virtual machine
            await_hook(&mut self, |receiving| &mut receiving.worker);
            roll_back(&mut self, Receiving::writers);
        } else {
            note_running(self.writers());
        }
        // without a way back a source notices a failure by the end of its connections alone
        if result.is_ok() || self.answers.is_open() {
            drain_close(&mut self, |receiving| receiving.main.is_closed());
        }
        self.count();
        self.shut_down();
        self.worker.enter(Phase::Done);
        let error = result.err();
        let report = self.worker.document(Role::Receiver, outcome, error.as_ref());
        self.worker.finish(report, outcome, error)
    }

    fn shut_down(&mut self) {
        for channel in &self.channels {
            channel.shut_down(&mut self.worker.ring);
        }
        self.main.connection().shut_down(&mut self.worker.ring, Directions::Both);
    }
}

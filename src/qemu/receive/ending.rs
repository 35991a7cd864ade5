//! How a migration ends on the live receiver's side: the last word to the source, and every device running what was loaded,
//! or reset.

use super::Receiving;
use crate::error::{Error, PeerError, Place};
use crate::limits::{CONFIRMATION_POLL, LAST_WORD_MAX};
use crate::phase::Phase;
use crate::report::Role;
use crate::ring::{Completion, Directions, Ring};
use crate::session::handover::Outcome;
use crate::time::nanos;
use crate::transfer::Finished;
use crate::wire::Checksum;
use crate::wire::qemu::Reply;
use crate::worker::caller::Event;
use crate::worker::ending::Ending;
use crate::worker::loading::Loading;

impl<R: Ring> Ending for Receiving<R> {
    type Ring = R;

    fn ring(&mut self) -> &mut R {
        &mut self.loader.ring
    }

    fn peer_has_left(&self) -> bool {
        self.main.is_closed()
    }

    fn on_completion(&mut self, completion: Completion) -> Result<(), Error> {
        Receiving::on_completion(self, completion)
    }
}

impl<R: Ring> Receiving<R> {
    /// Tells the source that it may let go. The word counts as said when the source's kernel has confirmed it; nothing runs
    /// before. A source that cannot be reached any more has not heard it, and runs its devices.
    pub(super) fn say_loaded(&mut self) -> Result<(), Error> {
        self.session.enter(Phase::Commit, self.loader.ring.now());
        self.loader.owner.tell(&Event::Phase(Phase::Commit));
        if self.answers.is_open() && self.main.is_closed() {
            // it does not wait for the word: it has given up, and runs its devices
            let (place, phase) = (Place::Main, Phase::Answering);
            return Err(PeerError::Closed { place, phase }.into());
        }
        assert!(self.session.commit(), "every device is loaded and the main connection has ended");
        self.answers.say(Reply::Shut(0))?;
        let end = self.loader.ring.now() + nanos(LAST_WORD_MAX);
        while self.answers.is_open() && !self.is_confirmed {
            let now = self.loader.ring.now();
            if now >= end {
                let (place, errno) = (Place::Main, nix::errno::Errno::ETIMEDOUT.into());
                return Err(PeerError::Lost { place, phase: Phase::Answering, errno }.into());
            }
            self.answers.go_on(&mut self.loader.ring);
            // looked at before what ended is taken: when the connection is gone, nothing is unconfirmed, and that is heard
            let is_taken = self.answers.is_silent();
            let is_confirmed = is_taken && self.loader.ring.unconfirmed(self.main.connection().fd())? == 0;
            let until = match (is_taken, is_confirmed) {
                (_, true) => now,
                (true, false) => now + nanos(CONFIRMATION_POLL),
                (false, false) => end,
            };
            self.loader.ring.wait(Some(until.min(end)))?;
            while let Some(completion) = self.loader.ring.next() {
                self.on_completion(completion)?;
            }
            self.is_confirmed = is_confirmed;
        }
        Ok(())
    }

    /// Tells the source, and leaves every device running what was loaded, or reset.
    pub(super) fn end(mut self, result: Result<(), Error>) -> Finished {
        let outcome = self.session.outcome();
        // nothing is taken any more, but the end is heard
        self.main.abandon(&mut self.loader.ring);
        if result.is_err() {
            self.loader.owner.tell(&Event::Phase(Phase::RollingBack));
            if !self.session.is_committed() {
                // the first word that does not find its way is the last
                let _ = self.answers.say(Reply::Shut(1));
                self.speak_out();
            }
            self.roll_back();
        }
        // without a way back a source hears of a failure by the end of its connections alone
        if result.is_ok() || self.answers.is_open() {
            self.linger();
        }
        self.shut_down();
        self.loader.owner.tell(&Event::Phase(Phase::Done));
        self.report(outcome, result.err())
    }

    /// Hands what is to be said to the connection.
    fn speak_out(&mut self) {
        let end = self.loader.ring.now() + nanos(LAST_WORD_MAX);
        while !self.main.is_closed() && self.loader.ring.now() < end && !self.answers.is_silent() {
            self.answers.go_on(&mut self.loader.ring);
            if self.loader.ring.wait(Some(end)).is_err() {
                return;
            }
            self.drain();
        }
    }

    fn shut_down(&mut self) {
        for channel in &self.channels {
            channel.shut_down(&mut self.loader.ring);
        }
        self.main.connection().shut_down(&mut self.loader.ring, Directions::Both);
    }

    fn report(mut self, outcome: Outcome, error: Option<Error>) -> Finished {
        let now = self.loader.ring.now();
        for (device, writer) in self.loader.writers.iter().enumerate() {
            let (totals, precopy_bytes) = self.session.devices.totals(device);
            let account = &mut self.loader.account;
            account.device(&writer.name, writer.instance, totals, precopy_bytes, Checksum::None);
        }
        self.channels.iter().for_each(|channel| self.loader.account.rx(channel));
        self.loader.account.finish(Role::Receiver, outcome, error, self.loader.recorder, now)
    }
}

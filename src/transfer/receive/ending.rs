//! How a transfer ends on the receiver's side: the last word, and every device running what was loaded, or reset.

use super::Receiving;
use crate::error::Error;
use crate::limits::LAST_WORD_MAX;
use crate::phase::Phase;
use crate::report::Role;
use crate::ring::{Completion, Ring};
use crate::session::abort_code::AbortCode;
use crate::session::handover::Outcome;
use crate::time::nanos;
use crate::transfer::Finished;
use crate::wire::Control;
use crate::worker::caller::Event;
use crate::worker::ending::Ending;
use crate::worker::loading::Loading;

impl<R: Ring> Ending for Receiving<R> {
    type Ring = R;

    fn ring(&mut self) -> &mut R {
        &mut self.loader.ring
    }

    fn peer_has_left(&self) -> bool {
        self.link.is_closed()
    }

    fn on_completion(&mut self, completion: Completion) -> Result<(), Error> {
        Receiving::on_completion(self, completion)
    }
}

impl<R: Ring> Receiving<R> {
    /// Tells the peer, and leaves every device running what was loaded, or reset.
    pub(super) fn end(mut self, result: Result<(), Error>) -> Finished {
        let error = result.err().map(|error| self.hear_reason(error));
        let outcome = self.session.outcome();
        if let Some(error) = &error {
            self.loader.owner.tell(&Event::Phase(Phase::RollingBack));
            if self.session.is_committed() {
                // The sender has given the devices away. It may take them back only if it can be sure that none of them
                // runs here, so they are reset before a word is said.
                if self.roll_back() {
                    self.say_last_word(error);
                }
            } else {
                self.say_last_word(error);
                self.roll_back();
            }
        }
        self.take_leave();
        self.loader.owner.tell(&Event::Phase(Phase::Done));
        self.report(outcome, error)
    }

    pub(super) fn say_last_word(&mut self, error: &Error) {
        match error {
            Error::Peer(error) if error.is_last_word() => return,
            _ if self.refused => {}
            Error::Cancelled => self.session.say_last(Control::Cancel),
            other => {
                let text = other.to_string().into();
                self.session.say_last(Control::Abort { code: AbortCode::from(other).code(), text });
            }
        }
        self.speak_out();
    }

    /// Hands everything that is to be said to the connection.
    pub(super) fn speak_out(&mut self) {
        let end = self.loader.ring.now() + nanos(LAST_WORD_MAX);
        while !self.link.is_closed()
            && self.loader.ring.now() < end
            && !(self.session.has_spoken() && self.link.has_sent())
        {
            let now = self.loader.ring.now();
            self.link.send(&mut self.loader.ring, || self.session.poll_control(now));
            if self.loader.ring.wait(Some(end)).is_err() {
                return;
            }
            self.drain();
        }
    }

    pub(super) fn stop_receiving(&mut self) {
        for channel in &self.channels {
            channel.shut_down(&mut self.loader.ring);
        }
    }

    /// Says no more, and leaves when the peer does.
    pub(super) fn take_leave(&mut self) {
        self.speak_out();
        // before the sender sees the end: the next one that it lets begin finds the door open
        self.busy = None;
        self.link.end_sending(&mut self.loader.ring);
        self.linger();
        self.stop_receiving();
        self.link.shut_down(&mut self.loader.ring);
    }

    pub(super) fn report(mut self, outcome: Outcome, error: Option<Error>) -> Finished {
        let now = self.loader.ring.now();
        if self.loader.pool.is_some() {
            for (device, writer) in self.loader.writers.iter().enumerate() {
                let totals = self.session.totals(device);
                self.loader.account.device(&writer.name, writer.instance, totals, 0, self.checksum);
            }
        }
        self.channels.iter().for_each(|channel| self.loader.account.rx(channel));
        self.loader.account.finish(Role::Receiver, outcome, error, self.loader.recorder, now)
    }
}

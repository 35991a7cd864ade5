//! How a transfer ends on the receiver's side: the last word, and every device running what was loaded, or reset.

use std::os::fd::AsRawFd;

use super::Receiving;
use super::writing::{Writer, Writing};
use crate::engine::duty::Duty;
use crate::engine::ending::Ending;
use crate::engine::link::Link;
use crate::engine::owner::{Event, Phase};
use crate::engine::step::Yield;
use crate::engine::{Finished, Outcome};
use crate::error::{DeviceError, Error};
use crate::limits::{LAST_WORD_MAX, SETTLE_MAX};
use crate::ring::{Completion, Directions, Ring};
use crate::session::liveness::nanos;
use crate::sink::Sink;
use crate::wire::Control;

impl<R: Ring> Ending for Receiving<R> {
    type Ring = R;

    fn ring(&mut self) -> &mut R {
        &mut self.ring
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    fn on_completion(&mut self, completion: Completion) -> Result<(), Error> {
        Receiving::on_completion(self, completion)
    }
}

impl<R: Ring> Receiving<R> {
    /// Tells the peer, and leaves every device running what was loaded, or reset.
    pub(super) fn conclude(mut self, result: Result<(), Error>) -> Finished {
        let error = result.err().map(|error| self.hear_reason(error));
        let outcome = self.session.outcome();
        if let Some(error) = &error {
            self.owner.tell(&Event::Phase(Phase::RollingBack));
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
        self.owner.tell(&Event::Phase(Phase::Done));
        self.report(outcome, error)
    }

    pub(super) fn say_last_word(&mut self, error: &Error) {
        match error {
            Error::Peer(error) if error.is_last_word() => return,
            _ if self.refused => {}
            Error::Cancelled => self.session.say_last(Control::Cancel),
            other => {
                let text = other.to_string().into();
                self.session.say_last(Control::Abort { code: other.abort_code(), text });
            }
        }
        self.speak_out();
    }

    /// Hands everything that is to be said to the connection.
    pub(super) fn speak_out(&mut self) {
        let end = self.ring.now() + nanos(LAST_WORD_MAX);
        while !self.link.is_closed()
            && self.ring.now() < end
            && !(self.session.has_spoken() && self.link.has_spoken())
        {
            let now = self.ring.now();
            self.link.speak(&mut self.ring, || self.session.poll_control(now));
            if self.ring.wait(Some(end)).is_err() {
                return;
            }
            self.drain();
        }
    }

    /// Resets every device. True when all of them are.
    pub(super) fn roll_back(&mut self) -> bool {
        let end = self.ring.now() + nanos(SETTLE_MAX);
        let under_way = |writer: &Writer| matches!(writer.writing, Writing::UnderWay { .. });
        for (device, _) in self.writers.iter().enumerate().filter(|(_, writer)| under_way(writer)) {
            self.ring.cancel(Duty::State { device }.tag());
        }
        let busy = |writer: &Writer| {
            writer.held.is_away()
                || (writer.fd.is_some() && matches!(writer.writing, Writing::UnderWay { .. }))
        };
        while self.writers.iter().any(busy) && self.ring.now() < end && self.ring.wait(Some(end)).is_ok() {
            self.drain();
        }
        for (device, writer) in
            self.writers.iter_mut().enumerate().filter(|(_, writer)| !writer.held.is_away())
        {
            writer.held.take_result();
            let step = |sink: &mut (dyn Sink + 'static)| sink.rollback().map(|()| Yield::Nothing);
            writer.held.begin(&mut self.ring, Duty::Step { device }.tag(), step);
        }
        while self.writers.iter().any(|writer| writer.held.is_away()) && self.ring.now() < end {
            if self.ring.wait(Some(end)).is_err() {
                break;
            }
            while let Some(completion) = self.ring.next() {
                match completion {
                    Completion::Done { tag } => {
                        let Duty::Step { device } = Duty::of(tag) else { continue };
                        self.writers[device].held.end();
                    }
                    other => drop(self.on_completion(other)),
                }
            }
        }
        let mut all = true;
        for writer in &mut self.writers {
            let result = writer.held.take_result().unwrap_or(Err(DeviceError::Stuck));
            all &= result.is_ok();
            self.account.parted(&writer.name, result.err());
            let keeps = writer.held.device().is_some_and(|sink| sink.keeps_written());
            self.account.kept(&writer.name, keeps && writer.written > 0);
        }
        all
    }

    pub(super) fn stop_receiving(&mut self) {
        for channel in &self.channels {
            self.ring.shut_down(channel.socket().as_raw_fd(), Directions::Both);
        }
    }

    /// Says no more, and leaves when the peer does.
    pub(super) fn take_leave(&mut self) {
        self.speak_out();
        // before the sender sees the end: the next one that it lets begin finds the door open
        self.busy = None;
        self.link.say_goodbye(&mut self.ring);
        self.linger();
        self.stop_receiving();
        self.link.shut_down(&mut self.ring);
    }

    pub(super) fn report(mut self, outcome: Outcome, error: Option<Error>) -> Finished {
        let now = self.ring.now();
        if self.pool.is_some() {
            for (device, writer) in self.writers.iter().enumerate() {
                let totals = self.session.totals(device);
                self.account.device(&writer.name, writer.instance, totals, 0, self.checksum);
            }
        }
        self.channels.iter().for_each(|channel| self.account.rx(channel));
        self.account.finish("receiver", outcome, error, self.recorder, now)
    }
}

//! How a transfer ends on the sender's side: the last word, and every device where the hand-over says that it belongs.

use super::Sending;
use super::reading::{Reader, Reading};
use crate::error::{DeviceError, Error};
use crate::limits::{LAST_WORD_MAX, SETTLE_MAX};
use crate::phase::Phase;
use crate::report::Role;
use crate::ring::{Completion, Ring};
use crate::session::abort_code::AbortCode;
use crate::session::handover::Outcome;
use crate::source::Source;
use crate::time::nanos;
use crate::transfer::{Finished, Parked};
use crate::wire::Control;
use crate::worker::caller::Event;
use crate::worker::ending::Ending;
use crate::worker::operation::Operation;
use crate::worker::steps::{StepOutput, StepResult};

impl<R: Ring> Ending for Sending<R> {
    type Ring = R;

    fn ring(&mut self) -> &mut R {
        &mut self.ring
    }

    fn peer_has_left(&self) -> bool {
        self.link.is_closed()
    }

    fn on_completion(&mut self, completion: Completion) -> Result<(), Error> {
        Sending::on_completion(self, completion)
    }
}

impl<R: Ring> Sending<R> {
    /// Brings every device to where the hand-over says that it belongs, and tells the peer.
    pub(super) fn conclude(mut self, result: Result<(), Error>) -> Finished {
        let error = result.err().map(|error| self.hear_reason(error));
        let outcome = self.session.outcome();
        if let Some(error) = error.as_ref().filter(|_| outcome == Outcome::Aborted) {
            self.owner.tell(&Event::Phase(Phase::RollingBack));
            self.say_last_word(error);
        }
        self.settle();
        let step: fn(&mut (dyn Source + 'static)) -> StepResult = match outcome {
            Outcome::Complete => |source| source.release().map(|()| StepOutput::Nothing),
            Outcome::Aborted => |source| source.rollback().map(|()| StepOutput::Nothing),
            Outcome::InDoubt => |source| source.park().map(|()| StepOutput::Nothing),
        };
        self.part(step);
        self.take_leave();
        self.owner.tell(&Event::Phase(Phase::Done));
        let error = match (outcome, error) {
            (Outcome::InDoubt, Some(cause)) => Some(Error::InDoubt { cause: Box::new(cause) }),
            (_, error) => error,
        };
        self.report(outcome, error)
    }

    pub(super) fn say_last_word(&mut self, error: &Error) {
        match error {
            Error::Peer(error) if error.is_last_word() => return,
            Error::Refused { .. } => return,
            Error::Cancelled => self.session.say_last(Control::Cancel),
            other => {
                let text = other.to_string().into();
                self.session.say_last(Control::Abort { code: AbortCode::from(other).code(), text });
            }
        }
        let end = self.ring.now() + nanos(LAST_WORD_MAX);
        let mut said = false;
        while !self.link.is_closed() && self.ring.now() < end && !(said && self.link.has_sent()) {
            let now = self.ring.now();
            self.link.send(&mut self.ring, || {
                said = true;
                self.session.poll_control(now)
            });
            if self.ring.wait(Some(end)).is_err() {
                return;
            }
            self.drain();
        }
    }

    /// Waits until nobody reads a device.
    pub(super) fn settle(&mut self) {
        self.readers.iter_mut().filter(|reader| reader.reading == Reading::Wanted).for_each(|reader| {
            reader.reading = Reading::Idle;
        });
        for (device, _) in
            self.readers.iter().enumerate().filter(|(_, reader)| reader.reading == Reading::UnderWay)
        {
            self.ring.cancel(Operation::DeviceState { device }.tag());
        }
        let end = self.ring.now() + nanos(SETTLE_MAX);
        let busy = |reader: &Reader| reader.reading == Reading::UnderWay || reader.held.is_away();
        while self.readers.iter().any(busy) && self.ring.now() < end && self.ring.wait(Some(end)).is_ok() {
            self.drain();
        }
    }

    /// The last step of every device that is here.
    pub(super) fn part(&mut self, step: fn(&mut (dyn Source + 'static)) -> StepResult) {
        for (device, reader) in
            self.readers.iter_mut().enumerate().filter(|(_, reader)| !reader.held.is_away())
        {
            reader.held.begin(&mut self.ring, Operation::DeviceStep { device }.tag(), step);
        }
        let end = self.ring.now() + nanos(SETTLE_MAX);
        while self.readers.iter().any(|reader| reader.held.is_away()) && self.ring.now() < end {
            if self.ring.wait(Some(end)).is_err() {
                break;
            }
            while let Some(completion) = self.ring.next() {
                match completion {
                    Completion::Done { tag } => {
                        let Operation::DeviceStep { device } = Operation::of(tag) else { continue };
                        self.readers[device].held.end();
                    }
                    other => drop(self.on_completion(other)),
                }
            }
        }
        for reader in &mut self.readers {
            let result = reader.held.take_result().unwrap_or(Err(DeviceError::Stuck));
            self.account.parted(&reader.name, result.err());
        }
    }

    /// Says no more, and leaves when the peer does.
    pub(super) fn take_leave(&mut self) {
        self.link.end_sending(&mut self.ring);
        self.linger();
        for channel in &self.channels {
            channel.shut_down(&mut self.ring);
        }
        self.link.shut_down(&mut self.ring);
    }

    pub(super) fn report(mut self, outcome: Outcome, error: Option<Error>) -> Finished {
        let now = self.ring.now();
        for (device, reader) in self.readers.iter().enumerate() {
            let totals = self.session.totals(device);
            self.account.device(&reader.name, reader.instance, totals, reader.precopy_bytes, self.checksum);
        }
        self.channels.iter().for_each(|channel| self.account.tx(channel));
        // the ring ends first: nobody reads what is given away
        drop(self.ring);
        let mut finished = self.account.finish(Role::Sender, outcome, error, self.recorder, now);
        if outcome == Outcome::InDoubt {
            let parked =
                |reader: Reader| Some(Parked { name: reader.name, source: reader.held.into_device()? });
            finished.parked = self.readers.into_iter().filter_map(parked).collect();
        }
        finished
    }
}

//! How a transfer ends on the sender's side: the final message, and every device where the hand-over says that it
//! belongs.

use super::Sending;
use crate::error::Error;
use crate::limits::{REPORT_WAIT, SETTLE_MAX};
use crate::phase::Phase;
use crate::report::Role;
use crate::ring::Ring;
use crate::session::handover::Outcome;
use crate::source::Source;
use crate::time::deadlines::Deadline;
use crate::transfer::control_link::{await_abort_reason, final_message};
use crate::worker::caller::DeviceStep;
use crate::worker::ending::{drain_close, finish_devices, send_final_message};
use crate::worker::event_loop::{drain, run_until, within};
use crate::worker::finished::{EndState, Finished, Parked};
use crate::worker::hook::await_hook;
use crate::worker::steps::{NamedStep, StepOutput};

impl<R: Ring> Sending<R> {
    /// Brings every device to where the hand-over says that it belongs, and tells the peer.
    pub(super) fn conclude(mut self, result: Result<(), Error>) -> Finished {
        let error = result.err().map(|error| await_abort_reason(&mut self, error, |sending| &sending.link));
        let outcome = self.session.outcome();
        if let Some(error) = error.as_ref().filter(|_| outcome == Outcome::Aborted) {
            self.worker.enter(Phase::RollingBack);
            self.send_final_message(error);
        }
        // a hook is never left running, and may still use the devices' virtual machine
        await_hook(&mut self, |sending| &mut sending.worker);
        self.settle();
        let step: NamedStep<dyn Source> = match outcome {
            Outcome::Complete => {
                (DeviceStep::Release, |source| source.release().map(|()| StepOutput::End(EndState::Released)))
            }
            Outcome::Aborted => {
                (DeviceStep::Rollback, |source| source.rollback().map(|()| StepOutput::End(EndState::Back)))
            }
            Outcome::InDoubt => {
                (DeviceStep::Park, |source| source.park().map(|()| StepOutput::End(EndState::Parked)))
            }
        };
        let end = within(&mut self, SETTLE_MAX);
        finish_devices(&mut self, Sending::devices, step, end);
        self.count(outcome);
        if outcome == Outcome::Complete {
            self.await_other_side();
        }
        self.close();
        self.worker.enter(Phase::Done);
        let error = match (outcome, error) {
            (Outcome::InDoubt, Some(cause)) => Some(Error::InDoubt { cause: Box::new(cause) }),
            (_, error) => error,
        };
        self.report(outcome, error)
    }

    fn send_final_message(&mut self, error: &Error) {
        match error {
            Error::Peer(error) if error.is_last_word() => return,
            Error::Refused { .. } => return,
            error => self.session.send_last(final_message(error)),
        }
        let is_sent = |sending: &mut Sending<R>| {
            let has_sent_all = sending.session.has_sent_all() && sending.link.has_sent_all();
            has_sent_all || sending.link.is_closed()
        };
        send_final_message(self, is_sent, |sending| {
            let now = sending.worker.ring.now();
            sending.link.send(&mut sending.worker.ring, || sending.session.poll_control(now));
        });
    }

    /// Waits until nothing reads a device, and none is in a step.
    fn settle(&mut self) {
        self.readers.cancel(&mut self.worker);
        let is_settled = |sending: &mut Sending<R>| sending.readers.is_settled();
        let end = within(self, SETTLE_MAX);
        // a device that does not come back is reported, whatever the reason
        let _ = run_until(self, (Deadline::Settle, end), is_settled, drain);
    }

    /// The receiver's report comes behind committed, or does not: nothing but this side's own report depends on it.
    fn await_other_side(&mut self) {
        let end = within(self, REPORT_WAIT);
        let is_there =
            |sending: &mut Sending<R>| !sending.session.awaits_report() || sending.link.is_closed();
        let _ = run_until(self, (Deadline::OtherSide, end), is_there, drain);
    }

    /// Sends no more, and closes when the peer does.
    fn close(&mut self) {
        self.link.end_sending(&mut self.worker.ring);
        drain_close(self, |sending| sending.link.is_closed());
        for channel in self.channels.iter() {
            channel.shut_down(&mut self.worker.ring);
        }
        self.link.shut_down(&mut self.worker.ring);
    }

    fn report(self, outcome: Outcome, error: Option<Error>) -> Finished {
        let Sending { mut worker, readers, mut session, .. } = self;
        worker.report.other_side(session.take_report());
        worker.report.clock(session.clock());
        let report = worker.document(Role::Sender, outcome, error.as_ref());
        let mut finished = worker.finish(report, outcome, error);
        if outcome == Outcome::InDoubt {
            let parked = readers.devices.into_devices();
            finished.parked =
                parked.map(|(name, instance, source)| Parked::new(name, instance, source)).collect();
        }
        finished
    }
}

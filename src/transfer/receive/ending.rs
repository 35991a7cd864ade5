//! How a transfer ends on the receiver's side: the final message, and every device running what was loaded, or reset.

use super::Receiving;
use crate::error::Error;
use crate::limits::REPORT_MAX;
use crate::phase::Phase;
use crate::report::{Report, Role};
use crate::ring::Ring;
use crate::transfer::control_link::{await_abort_reason, final_message};
use crate::worker::ending::{drain_close, send_final_message};
use crate::worker::finished::Finished;
use crate::worker::hook::await_hook;
use crate::worker::writers::{note_running, roll_back};

impl<R: Ring> Receiving<R> {
    /// Tells the peer, and leaves every device running what was loaded, or reset.
    pub(super) fn conclude(mut self, result: Result<(), Error>) -> Finished {
        let error =
            result.err().map(|error| await_abort_reason(&mut self, error, |receiving| &receiving.link));
        let outcome = self.session.outcome();
        if let Some(error) = &error {
            self.worker.enter(Phase::RollingBack);
            if self.session.is_committed() {
                // The sender has given the devices away. It may take them back only if it can be sure that none of them
                // runs here, so they are reset before anything is sent.
                if roll_back(&mut self, Receiving::writers) {
                    self.send_final_message(error);
                }
            } else {
                self.send_final_message(error);
                // a hook is never left running, and may still use the devices' virtual machine
                await_hook(&mut self, |receiving| &mut receiving.worker);
                roll_back(&mut self, Receiving::writers);
            }
        } else {
            note_running(self.writers());
        }
        // committed first: the sender waits for it
        self.send_all();
        self.count(outcome);
        let document =
            |receiving: &mut Receiving<R>| receiving.worker.document(Role::Receiver, outcome, error.as_ref());
        let wanted = (error.is_none() && self.session.wants_report()).then(|| document(&mut self));
        let written = wanted.as_ref().and_then(written);
        written.into_iter().for_each(|report| self.session.send_report(&report));
        self.close();
        self.worker.enter(Phase::Done);
        let report = wanted.unwrap_or_else(|| document(&mut self));
        self.worker.finish(report, outcome, error)
    }

    fn send_final_message(&mut self, error: &Error) {
        match error {
            Error::Peer(error) if error.is_last_word() => return,
            _ if self.refused => {}
            error => self.session.send_last(final_message(error)),
        }
        self.send_all();
    }

    /// Hands everything that is to be sent to the connection.
    fn send_all(&mut self) {
        let is_sent = |receiving: &mut Receiving<R>| {
            let has_sent_all = receiving.session.has_sent_all() && receiving.link.has_sent_all();
            has_sent_all || receiving.link.is_closed()
        };
        send_final_message(self, is_sent, |receiving| {
            let now = receiving.worker.ring.now();
            receiving.link.send(&mut receiving.worker.ring, || receiving.session.poll_control(now));
        });
    }

    /// Sends no more, and closes when the peer does.
    fn close(&mut self) {
        self.send_all();
        // before the sender sees the end: the next transfer that it starts is not refused as busy
        self.busy = None;
        self.link.end_sending(&mut self.worker.ring);
        drain_close(self, |receiving| receiving.link.is_closed());
        for channel in &self.channels {
            channel.shut_down(&mut self.worker.ring);
        }
        self.link.shut_down(&mut self.worker.ring);
    }
}

/// The report as the sender takes it. One that is too long does without intervals, of which there may be many.
fn written(report: &Report) -> Option<Vec<u8>> {
    let whole = serde_json::to_vec(report).ok()?;
    if whole.len() <= REPORT_MAX {
        return Some(whole);
    }
    serde_json::to_vec(&Report { intervals: Vec::new(), ..report.clone() }).ok()
}

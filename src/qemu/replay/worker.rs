//! The worker of a replay: reads files, sends what the barriers and the clock let through, receives replies.

use std::time::Duration;

use super::barriers::Barriers;
use super::connection::ConnectionReplay;
use super::pace::Recording;
use super::progress::Progress;
use super::return_path::ReturnPathReader;
use super::{Answer, OnAnswer};
use crate::buffer::Pool;
use crate::error::{
    CaptureError, CaptureOperation, CaptureProblem, Errno, Error, Hook, PeerError, Place, QemuError,
    StreamPart,
};
use crate::limits::{SILENCE_MAX, STANDSTILL_MAX};
use crate::numbers::ConnectionIdx;
use crate::phase::Phase;
use crate::ring::{Completion, Directions, Ring};
use crate::time::Nanos;
use crate::time::deadlines::{Deadline, Deadlines};
use crate::time::nanos;
use crate::wire::qemu::Reply;
use crate::worker::caller::{Caller, Event};
use crate::worker::ending::await_abort_reason;
use crate::worker::event_loop::Loop;
use crate::worker::guard::caught;
use crate::worker::operation::Operation;

/// The worker. Its lists of connections are in the order of `ConnectionIdx`.
pub(super) struct ReplayWorker<R: Ring> {
    // in the order in which they are dropped: operations end (ring) before anything that they use goes
    pub(super) ring: R,
    pub(super) connections: Vec<ConnectionReplay>,
    pub(super) return_paths: Vec<ReturnPathReader>,
    pub(super) pool: Pool,
    /// As they are called in errors.
    pub(super) files: Vec<Box<str>>,
    pub(super) barriers: Barriers,
    pub(super) recording: Option<Recording>,
    pub(super) caller: Caller,
    pub(super) on_answer: Option<OnAnswer>,
    pub(super) progress: Progress,
    /// The capture asks the destination to answer.
    pub(super) expects_answer: bool,
    pub(super) total: u64,
    /// Reasons to wake: nothing moves, SWITCHOVER_START waits in vain, or the recording's clock.
    pub(super) deadlines: Deadlines,
    /// The acknowledgement that SWITCHOVER_START waits for did not come.
    pub(super) unacknowledged: bool,
}

impl<R: Ring> ReplayWorker<R> {
    /// Sends everything, and waits for the destination's final message.
    pub(super) fn run(&mut self) -> Result<(), Error> {
        let replayed = self.replay();
        let replayed = replayed.map_err(|error| self.await_abort_reason(error));
        self.connections.iter().for_each(|replay| replay.shut_down(&mut self.ring, Directions::Both));
        replayed
    }

    fn replay(&mut self) -> Result<(), Error> {
        self.caller.tell(&Event::Phase(Phase::PreCopy));
        while self.barriers.first_unsent().is_some() {
            self.turn(Phase::Replaying)?;
        }
        self.caller.hasten();
        self.tell_progress(self.ring.now());
        self.caller.tell(&Event::Phase(Phase::Loading));
        // as a source does: it keeps its connections until the destination has sent SHUT, or closes them if no reply is
        // due
        if !self.expects_answer {
            self.connections.iter().for_each(|replay| replay.shut_down(&mut self.ring, Directions::Sending));
        }
        while !self.is_answered() {
            self.turn(Phase::Loading)?;
        }
        Ok(())
    }

    fn is_answered(&self) -> bool {
        if self.expects_answer { self.progress.shut_at.is_some() } else { !self.return_paths[0].is_open() }
    }

    /// Begins what can begin, waits for something to end, and looks at it.
    fn turn(&mut self, phase: Phase) -> Result<(), Error> {
        let now = self.ring.now();
        self.caller.check(now)?;
        if self.deadlines.has_expired(Deadline::Standstill, now) {
            return Err(PeerError::Standstill { phase }.into());
        }
        self.go_on(now)?;
        self.ring.wait(Some(self.deadlines.next().max(now)))?;
        while let Some(completion) = self.ring.next() {
            self.on_completion(completion)?;
        }
        // judged behind the sends that ended together with it
        if self.progress.shut_at.is_some() && !self.is_sent() {
            return Err(self.shut(0));
        }
        self.tell_progress(self.ring.now());
        Ok(())
    }

    /// Begins what can begin.
    fn go_on(&mut self, now: Nanos) -> Result<(), Error> {
        if self.barriers.awaits_ack() {
            if !self.deadlines.is_set(Deadline::Acknowledgement) {
                self.deadlines.set(Deadline::Acknowledgement, now + nanos(SILENCE_MAX));
            }
            if self.deadlines.has_expired(Deadline::Acknowledgement, now) {
                self.unacknowledged = true;
                self.acknowledge();
            }
        }
        let elapsed = now.saturating_sub(self.progress.began);
        self.deadlines.stop(Deadline::Pace);
        for connection in ConnectionIdx::below(self.connections.len()) {
            self.return_paths[connection.index()].listen(&mut self.ring);
            let replay = &mut self.connections[connection.index()];
            replay.read_ahead(&mut self.ring, &mut self.pool);
            let mut limit = self.barriers.limit(connection);
            if let Some(recording) = &mut self.recording {
                limit = limit.min(recording.reached(connection, elapsed)?);
                if let Some(next) = recording.next(connection) {
                    let next = self.progress.began.saturating_add(next);
                    self.deadlines.set(Deadline::Pace, next.min(self.deadlines.due(Deadline::Pace)));
                }
            }
            let sent = self.barriers.sent(connection);
            if replay.send(&mut self.ring, limit.saturating_sub(sent)) {
                self.progress.begin(connection, now);
            }
        }
        if self.recording.is_some()
            && !self.connections.iter().any(ConnectionReplay::is_busy)
            && !self.is_sent()
        {
            // the clock alone holds it back, or the destination's acknowledgement, which has a deadline of its own
            self.moved(now);
        }
        Ok(())
    }

    /// The switchover may go on.
    fn acknowledge(&mut self) {
        self.barriers.acknowledge();
        self.deadlines.stop(Deadline::Acknowledgement);
    }

    /// Something was sent.
    fn moved(&mut self, now: Nanos) {
        self.deadlines.set(Deadline::Standstill, now + nanos(STANDSTILL_MAX));
    }

    fn is_sent(&self) -> bool {
        self.progress.bytes() >= self.total
    }

    fn tell_progress(&mut self, now: Nanos) {
        let (bytes, total) = (self.progress.bytes(), self.total);
        self.caller.progress(now, self.progress.began, || (bytes, Some(total)));
    }

    fn on_read(&self, connection: ConnectionIdx, read: Result<bool, Errno>) -> Result<(), Error> {
        let problem = match read {
            Ok(true) => return Ok(()),
            Ok(false) => CaptureProblem::Cut { within: StreamPart::ExaminedBytes },
            Err(errno) => CaptureProblem::Io { operation: CaptureOperation::Read, errno },
        };
        let offset = self.barriers.sent(connection);
        Err(CaptureError { file: self.files[connection.index()].clone(), offset, problem }.into())
    }

    fn on_sent(&mut self, connection: ConnectionIdx, sent: Result<u64, Errno>) -> Result<(), Error> {
        let count = sent.map_err(|errno| self.left(connection, Some(errno)))?;
        let now = self.ring.now();
        let sent = self.barriers.sent(connection) + count;
        self.barriers.advance(connection, sent);
        if self.progress.switchover_at.is_none() && self.barriers.is_switched() {
            self.progress.switchover_at = Some(now);
            self.caller.tell(&Event::Phase(Phase::StopCopy));
        }
        self.progress.advance(connection, sent, now);
        self.moved(now);
        Ok(())
    }

    fn on_return_path(
        &mut self,
        connection: ConnectionIdx,
        received: Result<bool, Errno>,
    ) -> Result<(), Error> {
        while connection == ConnectionIdx::MAIN
            && let Some(reply) = self.return_paths[0].next().map_err(|what| {
                PeerError::from(QemuError::Malformed { place: Place::Main, offset: 0, what })
            })?
        {
            self.on_reply(reply)?;
        }
        if self.return_paths[connection.index()].has_received()
            && (connection != ConnectionIdx::MAIN || !self.expects_answer)
        {
            return Err(PeerError::from(QemuError::Unasked {
                place: self.connections[connection.index()].place,
            })
            .into());
        }
        // a destination that has all of a channel may close it; what it sends or does on main decides
        let is_end = match connection {
            ConnectionIdx::MAIN if self.expects_answer => self.progress.shut_at.is_some(),
            ConnectionIdx::MAIN => self.is_sent() && received.is_ok(),
            _ => self.barriers.is_over(connection),
        };
        match received {
            Ok(true) => Ok(()),
            _ if is_end => Ok(()),
            ended => Err(self.left(connection, ended.err())),
        }
    }

    fn on_reply(&mut self, reply: Reply) -> Result<(), Error> {
        if !self.expects_answer {
            return Err(PeerError::from(QemuError::Unasked { place: Place::Main }).into());
        }
        let now = self.ring.now();
        self.progress.answer(reply, now);
        if let Some(on_answer) = &mut self.on_answer {
            let since = Duration::from_nanos(now.saturating_sub(self.progress.began));
            if let Err(payload) = caught(|| on_answer(&Answer { reply, since })) {
                self.on_answer = None;
                return Err(self.caller.panics.keep(Hook::OnAnswer, payload));
            }
        }
        match reply {
            Reply::SwitchoverAck => self.acknowledge(),
            Reply::Shut(0) => self.progress.shut_at = Some(now),
            Reply::Shut(value) => return Err(self.shut(value)),
            Reply::Pong(_) | Reply::Other { .. } => {}
        }
        Ok(())
    }

    /// The destination sent SHUT too early, or with a failure.
    fn shut(&self, value: u32) -> Error {
        PeerError::from(QemuError::DestinationShut { value, sent: self.progress.bytes(), total: self.total })
            .into()
    }

    /// The destination went away.
    fn left(&self, connection: ConnectionIdx, errno: Option<Errno>) -> Error {
        let (place, sent) = (self.connections[connection.index()].place, self.barriers.sent(connection));
        let left = QemuError::DestinationLeft { place, sent, total: self.barriers.len(connection), errno };
        PeerError::from(left).into()
    }

    /// A destination that gives up closes its connections, and sends SHUT, in any order: that message is the most
    /// precise.
    fn await_abort_reason(&mut self, error: Error) -> Error {
        let is_sign = matches!(&error, Error::Peer(PeerError::Qemu(QemuError::DestinationLeft { .. })));
        if !is_sign || !self.expects_answer {
            return error;
        }
        let is_reason =
            |error: &Error| matches!(error, Error::Peer(PeerError::Qemu(QemuError::DestinationShut { .. })));
        await_abort_reason(self, error, is_reason, |worker| {
            worker.return_paths[0].listen(&mut worker.ring);
            worker.return_paths[0].is_open()
        })
    }
}

impl<R: Ring> Loop for ReplayWorker<R> {
    type Ring = R;

    fn ring(&mut self) -> &mut R {
        &mut self.ring
    }

    fn deadlines(&mut self) -> &mut Deadlines {
        &mut self.deadlines
    }

    fn on_completion(&mut self, completion: Completion) -> Result<(), Error> {
        match completion {
            Completion::Moved { tag, slot, result } => match Operation::of(tag) {
                Operation::ConnectionFile { connection } => {
                    let read = self.connections[connection.index()].on_read(&mut self.pool, slot, result);
                    self.on_read(connection, read)
                }
                Operation::ConnectionReceive { connection } => {
                    let received = self.return_paths[connection.index()].on_received(slot, result);
                    self.on_return_path(connection, received)
                }
                other => other.misplaced(),
            },
            Completion::Sent { tag, lease, result } => {
                let operation = Operation::of(tag);
                let Operation::ConnectionSend { connection } = operation else { operation.misplaced() };
                let sent = self.connections[connection.index()].on_sent(
                    &mut self.ring,
                    &mut self.pool,
                    lease,
                    result,
                );
                self.on_sent(connection, sent)
            }
            Completion::Released { tag, .. } | Completion::Done { tag } => Operation::of(tag).misplaced(),
        }
    }
}

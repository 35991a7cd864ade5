//! The worker: receives every connection of a migration, writes it, follows it, and answers the source.
//!
//! [`Recording::record`] ends in every case: when all connections have closed, when everything has arrived and the
//! source does not close, when a time limit has passed, or at the first violation. Then [`Recording::conclude`] sends
//! the final message and writes what came. The files are kept in every case.

use super::connection::{Came, ConnectionRecorder};
use super::files::{Files, Folder, failed};
use super::observer::{StreamObserver, StreamRequest};
use crate::buffer::{Pool, Slot};
use crate::error::{Errno, Error, FileOperation, KernelError, KernelOperation, PeerError, QemuError};
use crate::limits::{
    FINAL_MESSAGE_MAX, LINGER_MAX, PROGRESS_INTERVAL, REASON_PATIENCE, SETTLE_MAX, SILENCE_MAX,
    STANDSTILL_MAX,
};
use crate::net::Connection;
use crate::numbers::ConnectionIdx;
use crate::phase::Phase;
use crate::qemu::answer::Answers;
use crate::report::PacketHistograms;
use crate::ring::{Completion, Ring};
use crate::time::Nanos;
use crate::time::deadlines::{Deadline, Deadlines};
use crate::time::nanos;
use crate::wire::qemu::Reply;
use crate::worker::caller::{Caller, Event};
use crate::worker::event_loop::{Loop, drain_into, run_until, within};
use crate::worker::operation::Operation;

/// What a recording is made of.
pub(super) struct Parts {
    pub(super) main: Connection,
    pub(super) multifd: Vec<Connection>,
    /// Where it goes, and the files there: the main connection's, then the others by their number.
    pub(super) record: Option<(Folder, Vec<Files>)>,
    pub(super) pool: Pool,
    /// Slots for each connection.
    pub(super) share: u32,
    pub(super) caller: Caller,
}

/// The worker.
pub(super) struct Recording<R: Ring> {
    // in the order in which they are dropped: operations end (ring) before anything that they use goes
    ring: R,
    pub(super) answers: Answers,
    recorders: Vec<ConnectionRecorder>,
    pool: Pool,
    pub(super) observer: StreamObserver,
    record: Option<(Folder, Vec<Files>)>,
    caller: Caller,
    deadlines: Deadlines,
    /// What comes is looked at.
    follows: bool,
    pub(super) began_at: Option<Nanos>,
    /// When the last byte came.
    pub(super) moved_at: Nanos,
}

impl<R: Ring> Recording<R> {
    pub(super) fn new(ring: R, parts: Parts) -> Result<Recording<R>, KernelError> {
        let answers = Answers::new(parts.main.fd(), Operation::ControlSend.tag())?;
        let observer = StreamObserver::new(parts.multifd.len());
        let file = |at: usize| parts.record.as_ref().and_then(|(_, files)| Some(&files.get(at)?.bytes));
        let sockets = std::iter::once(parts.main).chain(parts.multifd).enumerate();
        let recorders = sockets.map(|(at, socket)| {
            ConnectionRecorder::new(ConnectionIdx::from_index(at), socket, file(at), parts.share)
        });
        let recorders = recorders.collect();
        let moved_at = ring.now();
        Ok(Recording {
            ring,
            answers,
            recorders,
            pool: parts.pool,
            observer,
            record: parts.record,
            caller: parts.caller,
            deadlines: Deadlines::NONE,
            follows: true,
            began_at: None,
            moved_at,
        })
    }

    /// Takes a migration to its end.
    pub(super) fn record(&mut self) -> Result<(), Error> {
        self.caller.tell(&Event::Phase(Phase::PreCopy));
        self.recorders[0].go_on(&mut self.ring, &mut self.pool);
        loop {
            let now = self.ring.now();
            self.caller.check(now)?;
            if self.is_over(now)? {
                return Ok(());
            }
            self.answers.go_on(&mut self.ring);
            self.tell_progress(now);
            self.deadlines.set(Deadline::Progress, now + nanos(PROGRESS_INTERVAL));
            self.ring.wait(Some(self.deadlines.next()))?;
            while let Some(completion) = self.ring.next() {
                self.on_completion(completion)?;
            }
        }
    }

    /// Whether the end has come, and whether it is a good one.
    fn is_over(&mut self, now: Nanos) -> Result<bool, Error> {
        if self.recorders.iter().all(ConnectionRecorder::has_ended) {
            return self.observer.missing().map_or(Ok(true), |missing| Err(missing.into()));
        }
        let closed = self.observer.first_closed();
        if !self.observer.main_has_ended() && closed.is_none() {
            let stands = now >= self.moved_at + nanos(STANDSTILL_MAX);
            let standstill = PeerError::Standstill { phase: Phase::Recording };
            return if stands { Err(standstill.into()) } else { Ok(false) };
        }
        match (self.observer.missing(), closed) {
            // What is missing may still be on its way. QEMU closes all connections at once, so when one has closed that
            // is not for long.
            (Some(missing), Some((place, offset, at))) if now >= at + nanos(LINGER_MAX) => {
                let missing = missing.to_string().into();
                Err(PeerError::from(QemuError::Left { place, offset, missing }).into())
            }
            (Some(missing), None) if now >= self.moved_at + nanos(SILENCE_MAX) => Err(missing.into()),
            (Some(_), _) => Ok(false),
            (None, _) => {
                let is_quiet = now >= self.moved_at + nanos(REASON_PATIENCE);
                if !self.observer.awaits_devices() || is_quiet {
                    self.answers.queue(Reply::Shut(0))?;
                }
                Ok(now >= self.moved_at + nanos(LINGER_MAX) && self.answers.is_all_sent())
            }
        }
    }

    fn tell_progress(&mut self, now: Nanos) {
        let (observer, began_at) = (&self.observer, self.began_at.unwrap_or(now));
        self.caller.progress(now, began_at, || (observer.bytes(), None));
    }

    fn on_received(
        &mut self,
        connection: ConnectionIdx,
        slot: Slot,
        result: Result<usize, Errno>,
    ) -> Result<(), Error> {
        let now = self.ring.now();
        let Recording { ring, pool, recorders, observer, answers, caller, .. } = self;
        let mut followed = Ok(());
        let mut count = 0;
        let came = recorders[connection.index()].on_received(ring, pool, slot, result, |bytes| {
            count = bytes.len();
            followed = match connection.channel() {
                _ if !self.follows => {
                    observer.pass(connection, count, now);
                    Ok(())
                }
                None => follow_main(observer, answers, caller, bytes, now),
                Some(channel) => observer.on_channel(channel, bytes, now),
            };
        });
        let came = match came {
            Came::Bytes => self.on_bytes(connection, count, now),
            Came::Nothing => Ok(()),
            Came::End => self.on_end(connection, now),
            // the source has what it wants, and need not be polite
            Came::Failed(_) if self.observer.is_complete() => self.on_end(connection, now),
            Came::Failed(errno) => {
                Err(PeerError::Lost { place: connection.place(), phase: Phase::Recording, errno }.into())
            }
        };
        followed.and(came)
    }

    fn on_bytes(&mut self, connection: ConnectionIdx, count: usize, now: Nanos) -> Result<(), Error> {
        let began_at = *self.began_at.get_or_insert(now);
        self.moved_at = now;
        if connection == ConnectionIdx::MAIN && self.follows && self.observer.knows_page_size() {
            // from now on the others can be understood
            for recorder in &mut self.recorders {
                recorder.go_on(&mut self.ring, &mut self.pool);
            }
        }
        match &mut self.record {
            Some((_, files)) => files[connection.index()].came(count, now - began_at),
            None => Ok(()),
        }
    }

    fn on_end(&mut self, connection: ConnectionIdx, now: Nanos) -> Result<(), Error> {
        if !self.follows {
            return Ok(());
        }
        match connection.channel() {
            None => Ok(self.observer.on_main_closed()?),
            Some(channel) => Ok(self.observer.on_channel_closed(channel, now)?),
        }
    }

    fn on_written(
        &mut self,
        connection: ConnectionIdx,
        slot: Slot,
        result: Result<usize, Errno>,
    ) -> Result<(), Error> {
        let written =
            self.recorders[connection.index()].on_written(&mut self.ring, &mut self.pool, slot, result);
        written.map_err(|errno| match &self.record {
            Some((_, files)) => {
                failed(FileOperation::Write, &files[connection.index()].bytes_path, &errno.into())
            }
            None => KernelError::new(KernelOperation::Write, errno).into(),
        })
    }

    /// Sends the final message and writes everything that came. Returns the first error.
    pub(super) fn conclude(&mut self, result: Result<(), Error>) -> Option<Error> {
        self.follows = false;
        if result.is_err() {
            // a source without an open return path is sent nothing
            let _ = self.answers.queue(Reply::Shut(1));
        }
        let mut ended = self.send_all();
        for recorder in &mut self.recorders {
            recorder.shut_down(&mut self.ring);
        }
        let end = (Deadline::Settle, within(self, SETTLE_MAX));
        let is_idle =
            |recording: &mut Recording<R>| recording.recorders.iter().all(ConnectionRecorder::is_idle);
        let settled = self.collect_until(end, is_idle, |_| {});
        ended = ended.and(settled);
        for files in self.record.iter_mut().flat_map(|(_, files)| files) {
            ended = ended.and(files.finish());
        }
        self.caller.hasten();
        self.tell_progress(self.ring.now());
        self.caller.tell(&Event::Phase(Phase::Done));
        result.and(ended).err()
    }

    /// Sends every queued message and gives the source time to read them before the connection ends: bytes that it has
    /// sent and we have not read turn the end into a reset.
    fn send_all(&mut self) -> Result<(), Error> {
        if self.answers.is_all_sent() {
            return Ok(());
        }
        let send = |recording: &mut Recording<R>| recording.answers.go_on(&mut recording.ring);
        let end = (Deadline::FinalMessage, within(self, FINAL_MESSAGE_MAX));
        let sent = self.collect_until(end, |recording| recording.answers.is_all_sent(), send);
        let end = (Deadline::Close, within(self, REASON_PATIENCE));
        sent.and(self.collect_until(end, |_| false, send))
    }

    /// Takes completions until `is_done` or `deadline`, whatever goes wrong. Gives the first thing that did.
    fn collect_until(
        &mut self,
        deadline: (Deadline, Nanos),
        is_done: impl FnMut(&mut Self) -> bool,
        mut send: impl FnMut(&mut Self),
    ) -> Result<(), Error> {
        let mut first = Ok(());
        let waited = run_until(self, deadline, is_done, |recording, until| {
            send(recording);
            drain_into(recording, until, |error| {
                if first.is_ok() {
                    first = Err(error);
                }
            })
        });
        first.and(waited.map(drop))
    }

    pub(super) fn into_histograms(self) -> PacketHistograms {
        self.observer.into_histograms()
    }

    pub(super) fn folder(&self) -> Option<String> {
        self.record.as_ref().map(|(folder, _)| folder.path().display().to_string())
    }

    pub(super) fn now(&self) -> Nanos {
        self.ring.now()
    }
}

impl<R: Ring> Loop for Recording<R> {
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
                Operation::ConnectionReceive { connection } => self.on_received(connection, slot, result),
                Operation::ConnectionFile { connection } => self.on_written(connection, slot, result),
                other => other.misplaced(),
            },
            Completion::Sent { lease, result, .. } => {
                let sent = self.answers.on_sent(&mut self.ring, lease, result)?;
                match (sent, &self.record) {
                    (Some(reply), Some((folder, _))) => folder.answered(reply),
                    _ => Ok(()),
                }
            }
            Completion::Released { tag, .. } | Completion::Done { tag } => Operation::of(tag).misplaced(),
        }
    }
}

fn follow_main(
    observer: &mut StreamObserver,
    answers: &mut Answers,
    caller: &mut Caller,
    bytes: &[u8],
    now: Nanos,
) -> Result<(), Error> {
    let mut answered = Ok(());
    let followed = observer.on_main(bytes, now, &mut |request| match request {
        StreamRequest::OpenReturnPath => answers.open(),
        StreamRequest::Reply(reply) => {
            if answered.is_ok() {
                answered = answers.queue(reply);
            }
        }
        StreamRequest::ReportStopped => caller.tell(&Event::Phase(Phase::StopCopy)),
    });
    answered.and(followed)
}

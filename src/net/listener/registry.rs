//! Who may come in: the one session that can gather or run at a time, its seats, and those that were turned away.
//!
//! It keeps connections without touching them, and knows no clock. It holds these: a connection gets a seat only by a
//! hello that fits the session; each seat is taken once; a seat whose answer could not be sent is free again; while a
//! session gathers, waits or runs, no other one begins.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::error::{Error, PeerError, Place, Refusal};
use crate::limits;
use crate::phase::Phase;
use crate::wire::{Hello, Role, SessionId};

/// Strays that are remembered until the owner looks: older ones are forgotten.
const STRAYS_MAX: usize = limits::PENDING_HELLOS_MAX;

/// Somebody who was turned away, and why.
pub(super) type Stray = (Option<SocketAddr>, Error);

#[derive(Debug)]
pub(super) struct Hall {
    /// How many data connections a session may announce.
    channels: RangeInclusive<usize>,
    state: Mutex<State>,
    /// Somebody may be interested in the state.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    stage: Stage,
    strays: VecDeque<Stray>,
}

#[derive(Debug)]
enum Stage {
    Free,
    /// Incomplete, or complete and waiting for its owner.
    Gathering(Gathering),
    Running,
}

#[derive(Debug)]
struct Gathering {
    session: SessionId,
    peer: Option<SocketAddr>,
    clock: [u8; 16],
    control: Seat,
    data: Vec<Seat>,
    watcher: Watcher,
}

/// The task that looks after the control connection. It is woken when its session leaves, however that comes about.
#[derive(Debug, Default)]
struct Watcher(Option<Waker>);

#[derive(Debug)]
enum Seat {
    Free,
    /// The hello came, the answer is on its way.
    Taken,
    Filled(OwnedFd),
}

/// A session whose connections are all there.
#[derive(Debug)]
pub(super) struct Complete {
    pub(super) session: SessionId,
    pub(super) peer: Option<SocketAddr>,
    /// The name of the peer's clock.
    pub(super) clock: [u8; 16],
    pub(super) control: OwnedFd,
    /// By channel number.
    pub(super) data: Vec<OwnedFd>,
    pub(super) busy: Busy,
}

impl Hall {
    pub(super) fn new(channels: RangeInclusive<usize>) -> Arc<Hall> {
        let state = State { stage: Stage::Free, strays: VecDeque::new() };
        Arc::new(Hall { channels, state: Mutex::new(state), changed: Condvar::new() })
    }

    /// Looks for the seat that a hello asks for.
    pub(super) fn admit(&self, hello: &Hello, peer: Option<SocketAddr>) -> Result<Admission<'_>, Refusal> {
        let mut state = self.lock();
        match hello.role {
            Role::Control { channels } => {
                if !matches!(state.stage, Stage::Free) {
                    return Err(Refusal::Busy);
                }
                if !self.channels.contains(&usize::from(channels)) {
                    return Err(Refusal::Channel);
                }
                let data = (0..channels).map(|_| Seat::Free).collect();
                state.stage = Stage::Gathering(Gathering {
                    session: hello.session,
                    peer,
                    clock: hello.boot_id,
                    control: Seat::Taken,
                    data,
                    watcher: Watcher::default(),
                });
            }
            Role::Data { channel } => {
                let gathering = state.gathering(hello.session).ok_or(Refusal::UnknownSession)?;
                match gathering.data.get_mut(usize::from(channel)) {
                    Some(seat @ Seat::Free) => *seat = Seat::Taken,
                    _ => return Err(Refusal::Channel),
                }
            }
        }
        Ok(Admission { hall: self, session: hello.session, role: hello.role })
    }

    /// Remembers somebody who was turned away.
    pub(super) fn report(&self, peer: Option<SocketAddr>, error: Error) {
        self.lock().report(peer, error);
        self.changed.notify_all();
    }

    /// Waits for strays or a complete session, at most so long.
    pub(super) fn wait(self: &Arc<Hall>, at_most: Duration) -> (Vec<Stray>, Option<Complete>) {
        let nothing_new = |state: &mut State| state.strays.is_empty() && !state.stage.is_complete();
        let (mut state, _) = self
            .changed
            .wait_timeout_while(self.lock(), at_most, nothing_new)
            .unwrap_or_else(PoisonError::into_inner);
        (state.strays.drain(..).collect(), self.take_from(&mut state))
    }

    /// The session, if it is complete. It runs from now on.
    pub(super) fn take(self: &Arc<Hall>) -> Option<Complete> {
        self.take_from(&mut self.lock())
    }

    fn take_from(self: &Arc<Hall>, state: &mut State) -> Option<Complete> {
        if !state.stage.is_complete() {
            return None;
        }
        let Stage::Gathering(gathering) = std::mem::replace(&mut state.stage, Stage::Running) else {
            return None;
        };
        Some(Complete {
            session: gathering.session,
            peer: gathering.peer,
            clock: gathering.clock,
            control: gathering.control.filled()?,
            data: gathering.data.into_iter().filter_map(Seat::filled).collect(),
            busy: Busy { hall: Arc::clone(self) },
        })
    }

    /// Ready when `session` no longer gathers or waits here.
    pub(super) fn poll_left(&self, session: SessionId, context: &Context<'_>) -> Poll<()> {
        match self.lock().gathering(session) {
            Some(gathering) => {
                gathering.watcher.0 = Some(context.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }

    /// Its time is over: drops `session` unless it is complete.
    pub(super) fn expire(&self, session: SessionId) {
        self.drop_gathering(session, |gathering| {
            let channels = gathering.data.len();
            let came = gathering.data.iter().filter(|seat| seat.is_filled()).count();
            (came < channels).then_some(PeerError::GatherTimeout { came, channels })
        });
    }

    /// Its control connection is closed: drops `session`.
    pub(super) fn abandon(&self, session: SessionId) {
        self.drop_gathering(session, |_| {
            Some(PeerError::Closed { place: Place::Control, phase: Phase::Gathering })
        });
    }

    fn drop_gathering(&self, session: SessionId, reason: impl FnOnce(&Gathering) -> Option<PeerError>) {
        let mut state = self.lock();
        let Some(gathering) = state.gathering(session) else { return };
        if let Some(error) = reason(gathering) {
            let peer = gathering.peer;
            state.stage = Stage::Free;
            state.report(peer, error.into());
            drop(state);
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn gathering(&mut self, session: SessionId) -> Option<&mut Gathering> {
        match &mut self.stage {
            Stage::Gathering(gathering) if gathering.session == session => Some(gathering),
            _ => None,
        }
    }

    fn report(&mut self, peer: Option<SocketAddr>, error: Error) {
        if self.strays.len() == STRAYS_MAX {
            self.strays.pop_front();
        }
        self.strays.push_back((peer, error));
    }
}

impl Stage {
    fn is_complete(&self) -> bool {
        match self {
            Stage::Gathering(gathering) => {
                gathering.control.is_filled() && gathering.data.iter().all(Seat::is_filled)
            }
            Stage::Free | Stage::Running => false,
        }
    }
}

impl Gathering {
    fn seat(&mut self, role: Role) -> Option<&mut Seat> {
        match role {
            Role::Control { .. } => Some(&mut self.control),
            Role::Data { channel } => self.data.get_mut(usize::from(channel)),
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}

impl Seat {
    fn is_filled(&self) -> bool {
        matches!(self, Seat::Filled(_))
    }

    fn filled(self) -> Option<OwnedFd> {
        match self {
            Seat::Filled(connection) => Some(connection),
            Seat::Free | Seat::Taken => None,
        }
    }
}

/// A seat that is kept while the answer is on its way. Dropped, it is free again.
#[derive(Debug)]
#[must_use]
pub(super) struct Admission<'a> {
    hall: &'a Hall,
    session: SessionId,
    role: Role,
}

impl Admission<'_> {
    /// The answer was sent: the connection sits down.
    pub(super) fn sit(self, connection: OwnedFd) {
        if let Some(seat) = self.hall.lock().gathering(self.session).and_then(|g| g.seat(self.role)) {
            *seat = Seat::Filled(connection);
        }
        self.hall.changed.notify_all();
    }
}

impl Drop for Admission<'_> {
    /// Leaves a filled seat alone. Without its control connection a session is over.
    fn drop(&mut self) {
        let mut state = self.hall.lock();
        let Some(seat) = state.gathering(self.session).and_then(|g| g.seat(self.role)) else { return };
        if !seat.is_filled() {
            match self.role {
                Role::Control { .. } => state.stage = Stage::Free,
                Role::Data { .. } => *seat = Seat::Free,
            }
        }
    }
}

/// While it lives, the session runs and newcomers are told that the hall is busy.
#[derive(Debug)]
pub(crate) struct Busy {
    hall: Arc<Hall>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.hall.lock().stage = Stage::Free;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROL: Hello =
        Hello { session: SessionId([1; 16]), role: Role::Control { channels: 1 }, boot_id: [0; 16] };
    const DATA: Hello = Hello { role: Role::Data { channel: 0 }, ..CONTROL };

    fn connection() -> OwnedFd {
        std::os::unix::net::UnixStream::pair().unwrap().0.into()
    }

    #[test]
    fn a_seat_whose_answer_could_not_be_sent_is_free_again() {
        let hall = Hall::new(1..=1);
        drop(hall.admit(&CONTROL, None).unwrap());
        hall.admit(&CONTROL, None).unwrap().sit(connection());
        drop(hall.admit(&DATA, None).unwrap());
        hall.admit(&DATA, None).unwrap().sit(connection());
        assert!(hall.take().is_some());
    }

    #[test]
    fn a_seat_belongs_to_one_while_its_answer_is_on_its_way() {
        let hall = Hall::new(1..=1);
        let control = hall.admit(&CONTROL, None).unwrap();
        assert_eq!(hall.admit(&CONTROL, None).unwrap_err(), Refusal::Busy);
        let data = hall.admit(&DATA, None).unwrap();
        assert_eq!(hall.admit(&DATA, None).unwrap_err(), Refusal::Channel);
        data.sit(connection());
        assert!(hall.take().is_none(), "the control connection has no answer yet");
        control.sit(connection());
        let running = hall.take().unwrap();
        assert_eq!(hall.admit(&CONTROL, None).unwrap_err(), Refusal::Busy);
        drop(running);
        assert!(hall.admit(&CONTROL, None).is_ok());
    }

    #[test]
    fn a_complete_session_does_not_expire() {
        let hall = Hall::new(1..=1);
        hall.admit(&CONTROL, None).unwrap().sit(connection());
        hall.admit(&DATA, None).unwrap().sit(connection());
        hall.expire(CONTROL.session);
        assert!(hall.take().is_some());
    }

    #[test]
    fn a_connection_that_comes_to_a_session_that_has_left_is_closed() {
        let hall = Hall::new(1..=1);
        hall.admit(&CONTROL, None).unwrap().sit(connection());
        let data = hall.admit(&DATA, None).unwrap();
        hall.abandon(CONTROL.session);
        data.sit(connection());
        assert!(hall.take().is_none());
        assert!(hall.admit(&CONTROL, None).is_ok());
    }

    #[test]
    fn only_so_many_strays_are_remembered() {
        let hall = Hall::new(1..=1);
        for _ in 0..2 * STRAYS_MAX {
            hall.report(None, Error::Cancelled);
        }
        assert_eq!(hall.wait(Duration::ZERO).0.len(), STRAYS_MAX);
        assert!(hall.wait(Duration::ZERO).0.is_empty());
    }
}

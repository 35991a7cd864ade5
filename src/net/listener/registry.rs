//! The one session that can gather or run at a time, its members, and the connections that were rejected.
//!
//! It keeps connections without touching them, and knows no clock. Its invariants: a connection becomes a member only
//! by a hello that fits the session; each place in a session is taken once, and is free again if its answer could not
//! be sent; while a session gathers, waits or runs, no other one begins.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Connection;
use crate::error::{Error, PeerError, Place, Refusal};
use crate::limits;
use crate::phase::Phase;
use crate::wire::{Hello, Role, SessionId};

/// Rejected connections that are kept until the caller asks for them; older ones are forgotten.
const REJECTED_MAX: usize = limits::PENDING_HELLOS_MAX;

/// A rejected connection: its peer, and the reason.
pub(super) type Rejected = (Option<SocketAddr>, Error);

#[derive(Debug)]
pub(super) struct SessionRegistry {
    /// How many data connections a session may announce.
    channels: RangeInclusive<usize>,
    state: Mutex<State>,
    /// Signalled when the state may interest a waiter.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    stage: Stage,
    rejected: VecDeque<Rejected>,
}

#[derive(Debug)]
enum Stage {
    Free,
    /// Incomplete, or complete and waiting for a caller to take it.
    Gathering(Gathering),
    Running,
}

#[derive(Debug)]
struct Gathering {
    session: SessionId,
    peer: Option<SocketAddr>,
    clock: [u8; 16],
    control: Member,
    data: Vec<Member>,
    watcher: Watcher,
}

/// The task that watches the control connection. It is woken when its session leaves, for whatever reason.
#[derive(Debug, Default)]
struct Watcher(Option<Waker>);

/// One of a session's connections.
#[derive(Debug)]
enum Member {
    /// Not here yet.
    Missing,
    /// The hello came, and the answer is being sent.
    Reserved,
    Joined(Connection),
}

/// A session whose connections are all there.
#[derive(Debug)]
pub(super) struct Complete {
    pub(super) session: SessionId,
    /// The name of the peer's clock.
    pub(super) clock: [u8; 16],
    pub(super) control: Connection,
    /// By channel number.
    pub(super) data: Vec<Connection>,
    pub(super) busy: Busy,
}

impl SessionRegistry {
    pub(super) fn new(channels: RangeInclusive<usize>) -> Arc<SessionRegistry> {
        let state = State { stage: Stage::Free, rejected: VecDeque::new() };
        Arc::new(SessionRegistry { channels, state: Mutex::new(state), changed: Condvar::new() })
    }

    /// Reserves the place in a session that a hello requests.
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
                let data = (0..channels).map(|_| Member::Missing).collect();
                state.stage = Stage::Gathering(Gathering {
                    session: hello.session,
                    peer,
                    clock: hello.boot_id,
                    control: Member::Reserved,
                    data,
                    watcher: Watcher::default(),
                });
            }
            Role::Data { channel } => {
                let gathering = state.gathering(hello.session).ok_or(Refusal::UnknownSession)?;
                match gathering.data.get_mut(usize::from(channel)) {
                    Some(member @ Member::Missing) => *member = Member::Reserved,
                    _ => return Err(Refusal::Channel),
                }
            }
        }
        Ok(Admission { registry: self, session: hello.session, role: hello.role })
    }

    /// Remembers a connection that was rejected.
    pub(super) fn report(&self, peer: Option<SocketAddr>, error: Error) {
        self.lock().report(peer, error);
        self.changed.notify_all();
    }

    /// Waits at most this long for rejected connections or a complete session.
    pub(super) fn wait(self: &Arc<SessionRegistry>, at_most: Duration) -> (Vec<Rejected>, Option<Complete>) {
        let nothing_new = |state: &mut State| state.rejected.is_empty() && !state.stage.is_complete();
        let (mut state, _) = self
            .changed
            .wait_timeout_while(self.lock(), at_most, nothing_new)
            .unwrap_or_else(PoisonError::into_inner);
        (state.rejected.drain(..).collect(), self.take_from(&mut state))
    }

    /// The session, if it is complete. It runs from now on.
    #[cfg(test)]
    pub(super) fn take(self: &Arc<SessionRegistry>) -> Option<Complete> {
        self.take_from(&mut self.lock())
    }

    fn take_from(self: &Arc<SessionRegistry>, state: &mut State) -> Option<Complete> {
        if !state.stage.is_complete() {
            return None;
        }
        let Stage::Gathering(gathering) = std::mem::replace(&mut state.stage, Stage::Running) else {
            return None;
        };
        Some(Complete {
            session: gathering.session,
            clock: gathering.clock,
            control: gathering.control.joined()?,
            data: gathering.data.into_iter().filter_map(Member::joined).collect(),
            busy: Busy { registry: Arc::clone(self) },
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

    /// The time limit has passed: drops `session` unless it is complete.
    pub(super) fn expire(&self, session: SessionId) {
        self.drop_gathering(session, |gathering| {
            let channels = gathering.data.len();
            let came = gathering.data.iter().filter(|member| member.has_joined()).count();
            (came < channels).then_some(PeerError::GatherTimeout { came, channels })
        });
    }

    /// The control connection is closed: drops `session`.
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
        if self.rejected.len() == REJECTED_MAX {
            self.rejected.pop_front();
        }
        self.rejected.push_back((peer, error));
    }
}

impl Stage {
    fn is_complete(&self) -> bool {
        match self {
            Stage::Gathering(gathering) => {
                gathering.control.has_joined() && gathering.data.iter().all(Member::has_joined)
            }
            Stage::Free | Stage::Running => false,
        }
    }
}

impl Gathering {
    fn member(&mut self, role: Role) -> Option<&mut Member> {
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

impl Member {
    fn has_joined(&self) -> bool {
        matches!(self, Member::Joined(_))
    }

    fn joined(self) -> Option<Connection> {
        match self {
            Member::Joined(connection) => Some(connection),
            Member::Missing | Member::Reserved => None,
        }
    }
}

/// A place that is reserved while the answer is being sent. Dropping it frees the place again.
#[derive(Debug)]
#[must_use]
pub(super) struct Admission<'a> {
    registry: &'a SessionRegistry,
    session: SessionId,
    role: Role,
}

impl Admission<'_> {
    /// The answer was sent: the connection is a member.
    pub(super) fn join(self, connection: Connection) {
        if let Some(member) = self.registry.lock().gathering(self.session).and_then(|g| g.member(self.role)) {
            *member = Member::Joined(connection);
        }
        self.registry.changed.notify_all();
    }
}

impl Drop for Admission<'_> {
    /// Does nothing to a member that has joined. Without its control connection a session is over.
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        let Some(member) = state.gathering(self.session).and_then(|g| g.member(self.role)) else { return };
        if !member.has_joined() {
            match self.role {
                Role::Control { .. } => state.stage = Stage::Free,
                Role::Data { .. } => *member = Member::Missing,
            }
        }
    }
}

/// While it lives, the session runs and other sessions are refused as busy.
#[derive(Debug)]
pub(crate) struct Busy {
    registry: Arc<SessionRegistry>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.registry.lock().stage = Stage::Free;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROL: Hello =
        Hello { session: SessionId([1; 16]), role: Role::Control { channels: 1 }, boot_id: [0; 16] };
    const DATA: Hello = Hello { role: Role::Data { channel: 0 }, ..CONTROL };

    fn connection() -> Connection {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        Connection::plaintext(one, None)
    }

    #[test]
    fn a_place_whose_answer_could_not_be_sent_is_free_again() {
        let registry = SessionRegistry::new(1..=1);
        drop(registry.admit(&CONTROL, None).unwrap());
        registry.admit(&CONTROL, None).unwrap().join(connection());
        drop(registry.admit(&DATA, None).unwrap());
        registry.admit(&DATA, None).unwrap().join(connection());
        assert!(registry.take().is_some());
    }

    #[test]
    fn a_place_belongs_to_one_connection_while_its_answer_is_on_its_way() {
        let registry = SessionRegistry::new(1..=1);
        let control = registry.admit(&CONTROL, None).unwrap();
        assert_eq!(registry.admit(&CONTROL, None).unwrap_err(), Refusal::Busy);
        let data = registry.admit(&DATA, None).unwrap();
        assert_eq!(registry.admit(&DATA, None).unwrap_err(), Refusal::Channel);
        data.join(connection());
        assert!(registry.take().is_none(), "the control connection has no answer yet");
        control.join(connection());
        let running = registry.take().unwrap();
        assert_eq!(registry.admit(&CONTROL, None).unwrap_err(), Refusal::Busy);
        drop(running);
        assert!(registry.admit(&CONTROL, None).is_ok());
    }

    #[test]
    fn a_complete_session_does_not_expire() {
        let registry = SessionRegistry::new(1..=1);
        registry.admit(&CONTROL, None).unwrap().join(connection());
        registry.admit(&DATA, None).unwrap().join(connection());
        registry.expire(CONTROL.session);
        assert!(registry.take().is_some());
    }

    #[test]
    fn a_connection_that_comes_to_a_session_that_has_left_is_closed() {
        let registry = SessionRegistry::new(1..=1);
        registry.admit(&CONTROL, None).unwrap().join(connection());
        let data = registry.admit(&DATA, None).unwrap();
        registry.abandon(CONTROL.session);
        data.join(connection());
        assert!(registry.take().is_none());
        assert!(registry.admit(&CONTROL, None).is_ok());
    }

    #[test]
    fn only_the_latest_rejected_connections_are_remembered() {
        let registry = SessionRegistry::new(1..=1);
        for _ in 0..2 * REJECTED_MAX {
            registry.report(None, Error::Cancelled);
        }
        assert_eq!(registry.wait(Duration::ZERO).0.len(), REJECTED_MAX);
        assert!(registry.wait(Duration::ZERO).0.is_empty());
    }
}

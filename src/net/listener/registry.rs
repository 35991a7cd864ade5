//! The sessions that gather at a listener, the one that runs, and the connections that were rejected.
//!
//! It keeps connections without touching them, and knows no clock. Its invariants: a connection becomes a member only
//! by a hello that fits its session; each place in a session is taken once, and is free again if its answer could not
//! be sent; sessions that gather are independent and bounded, and one that has brought no data connection, or else made
//! no progress for longest, makes room for a newer one; at most one session is in a caller's hands, and once it is agreed
//! no other one begins.

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
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
    /// The session that made progress last is the last.
    gathering: Vec<Gathering>,
    /// Sessions that were complete when another one began to run, until their watchers have told their peers.
    too_late: Vec<SessionId>,
    taken: Taken,
    rejected: VecDeque<Rejected>,
}

/// The session in a caller's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    None,
    /// Its settings are being judged. Others go on gathering.
    Judged,
    /// It runs. Others are refused as busy.
    Running,
}

/// A session that is incomplete, or complete and waiting for a caller to take it.
#[derive(Debug)]
struct Gathering {
    session: SessionId,
    peer: Option<SocketAddr>,
    clock: [u8; 16],
    control: Member,
    /// How many data connections it announced. Those that did not come take no memory, nor time to count.
    channels: u16,
    data: BTreeMap<u16, Member>,
    /// The first bytes on the control connection after its hello, once they hold a message to act on.
    opening: Option<Vec<u8>>,
    watcher: Watcher,
}

/// The task that watches the control connection. It is woken when its session leaves, for whatever reason.
#[derive(Debug, Default)]
struct Watcher(Option<Waker>);

/// One of a session's connections.
#[derive(Debug)]
enum Member {
    /// The hello came, and the answer is being sent.
    Reserved,
    Joined(Connection),
}

/// How a session left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// A caller has it, or it was dropped.
    Gone,
    /// Another one runs: its peer is to be told.
    TooLate,
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
    /// What was received on the control connection so far.
    pub(super) opening: Vec<u8>,
    pub(super) busy: Busy,
}

impl SessionRegistry {
    pub(super) fn new(channels: RangeInclusive<usize>) -> Arc<SessionRegistry> {
        let state = State {
            gathering: Vec::new(),
            too_late: Vec::new(),
            taken: Taken::None,
            rejected: VecDeque::new(),
        };
        Arc::new(SessionRegistry { channels, state: Mutex::new(state), changed: Condvar::new() })
    }

    /// Reserves the place in a session that a hello requests.
    pub(super) fn admit(&self, hello: &Hello, peer: Option<SocketAddr>) -> Result<Admission<'_>, Refusal> {
        let mut state = self.lock();
        match hello.role {
            Role::Control { channels } => {
                if state.taken == Taken::Running || state.position(hello.session).is_some() {
                    return Err(Refusal::Busy);
                }
                if !self.channels.contains(&usize::from(channels)) {
                    return Err(Refusal::Channel);
                }
                state.gathering.push(Gathering {
                    session: hello.session,
                    peer,
                    clock: hello.boot_id,
                    control: Member::Reserved,
                    channels,
                    data: BTreeMap::new(),
                    opening: None,
                    watcher: Watcher::default(),
                });
            }
            Role::Data { channel } => {
                // The session may have been set up until the one that runs was accepted.
                let running = state.taken == Taken::Running;
                let unknown = if running { Refusal::Busy } else { Refusal::UnknownSession };
                let gathering = state.progressed(hello.session).ok_or(unknown)?;
                match gathering.data.entry(channel) {
                    Entry::Vacant(place) if channel < gathering.channels => place.insert(Member::Reserved),
                    _ => return Err(Refusal::Channel),
                };
            }
        }
        if state.make_room() {
            self.changed.notify_all();
        }
        Ok(Admission { registry: self, session: hello.session, role: hello.role })
    }

    /// Remembers a connection that was rejected.
    pub(super) fn report(&self, peer: Option<SocketAddr>, error: Error) {
        self.lock().report(peer, error);
        self.changed.notify_all();
    }

    /// Waits at most this long for rejected connections or a session that can be taken.
    pub(super) fn wait(self: &Arc<SessionRegistry>, at_most: Duration) -> (Vec<Rejected>, Option<Complete>) {
        let nothing_new = |state: &mut State| state.rejected.is_empty() && state.ready().is_none();
        let (mut state, _) = self
            .changed
            .wait_timeout_while(self.lock(), at_most, nothing_new)
            .unwrap_or_else(PoisonError::into_inner);
        (state.rejected.drain(..).collect(), self.take_from(&mut state))
    }

    /// A session that can be taken.
    #[cfg(test)]
    pub(super) fn take(self: &Arc<SessionRegistry>) -> Option<Complete> {
        self.take_from(&mut self.lock())
    }

    fn take_from(self: &Arc<SessionRegistry>, state: &mut State) -> Option<Complete> {
        let gathering = state.gathering.remove(state.ready()?);
        state.taken = Taken::Judged;
        Some(Complete {
            session: gathering.session,
            clock: gathering.clock,
            control: gathering.control.joined()?,
            data: gathering.data.into_values().filter_map(Member::joined).collect(),
            opening: gathering.opening?,
            busy: Busy { registry: Arc::clone(self) },
        })
    }

    /// Ready when `session` no longer gathers or waits here.
    pub(super) fn poll_left(&self, session: SessionId, context: &Context<'_>) -> Poll<Left> {
        let mut state = self.lock();
        if let Some(at) = state.position(session) {
            state.gathering[at].watcher.0 = Some(context.waker().clone());
            return Poll::Pending;
        }
        match state.too_late.iter().position(|&late| late == session) {
            Some(at) => {
                state.too_late.swap_remove(at);
                Poll::Ready(Left::TooLate)
            }
            None => Poll::Ready(Left::Gone),
        }
    }

    /// Whether every connection of `session` is there.
    pub(super) fn is_complete(&self, session: SessionId) -> bool {
        let state = self.lock();
        state.position(session).is_some_and(|at| state.gathering[at].is_complete())
    }

    /// The first message of a session came, or what can be none.
    pub(super) fn open(&self, session: SessionId, opening: Vec<u8>) {
        if let Some(gathering) = self.lock().progressed(session) {
            gathering.opening = Some(opening);
        }
        self.changed.notify_all();
    }

    /// The time limit for connections has passed: drops `session` unless it is complete.
    pub(super) fn expire(&self, session: SessionId) {
        self.drop_gathering(session, |gathering| {
            let channels = usize::from(gathering.channels);
            let came = gathering.data.values().filter(|member| member.has_joined()).count();
            (came < channels).then_some(PeerError::GatherTimeout { came, channels })
        });
    }

    /// The time limit for settings has passed: drops `session` unless they came.
    pub(super) fn give_up(&self, session: SessionId) {
        self.drop_gathering(session, |gathering| {
            gathering.opening.is_none().then_some(PeerError::AgreementTimeout)
        });
    }

    /// The control connection is closed: drops `session`.
    pub(super) fn abandon(&self, session: SessionId) {
        self.drop_gathering(session, |_| {
            Some(PeerError::Closed { place: Place::Control, phase: Phase::Gathering })
        });
    }

    /// This host has run out of something: the session that has made no progress for longest is closed.
    pub(super) fn displace_one(&self) {
        self.lock().displace();
    }

    fn drop_gathering(&self, session: SessionId, reason: impl FnOnce(&Gathering) -> Option<PeerError>) {
        let mut state = self.lock();
        let Some(at) = state.position(session) else { return };
        if let Some(error) = reason(&state.gathering[at]) {
            let gathering = state.gathering.remove(at);
            state.report(gathering.peer, error.into());
            drop((state, gathering));
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn position(&self, session: SessionId) -> Option<usize> {
        self.gathering.iter().position(|gathering| gathering.session == session)
    }

    /// A session that has made progress: now it is the last to make room.
    fn progressed(&mut self, session: SessionId) -> Option<&mut Gathering> {
        let at = self.position(session)?;
        let gathering = self.gathering.remove(at);
        self.gathering.push(gathering);
        self.gathering.last_mut()
    }

    /// The session to be taken next. Of several it is the one that made progress last: a session that nobody took for
    /// long is more likely a stranger's than the newest one.
    fn ready(&self) -> Option<usize> {
        let is_ready = |gathering: &Gathering| gathering.is_complete() && gathering.opening.is_some();
        self.gathering.iter().rposition(is_ready).filter(|_| self.taken == Taken::None)
    }

    /// Closes sessions until there are not too many, nor too many connections in them. The newest is kept.
    fn make_room(&mut self) -> bool {
        let mut displaced = false;
        let connections =
            |gathering: &[Gathering]| gathering.iter().map(Gathering::connections).sum::<usize>();
        while self.gathering.len() > 1
            && (self.gathering.len() > limits::GATHERINGS_MAX
                || connections(&self.gathering) > limits::GATHERED_CONNECTIONS_MAX)
        {
            self.displace();
            displaced = true;
        }
        displaced
    }

    /// Closes a session: of those that have brought no data connection, or else of all, the one that has made no progress
    /// for longest. The newest is closed last.
    fn displace(&mut self) {
        let Some((_, older)) = self.gathering.split_last() else { return };
        let at = older.iter().position(|gathering| gathering.data.is_empty()).unwrap_or(0);
        let peer = self.gathering.remove(at).peer;
        self.report(peer, PeerError::Displaced { place: Place::Control }.into());
    }

    fn report(&mut self, peer: Option<SocketAddr>, error: Error) {
        if self.rejected.len() == REJECTED_MAX {
            self.rejected.pop_front();
        }
        self.rejected.push_back((peer, error));
    }
}

impl Gathering {
    fn is_complete(&self) -> bool {
        self.control.has_joined()
            && self.data.len() == usize::from(self.channels)
            && self.data.values().all(Member::has_joined)
    }

    fn connections(&self) -> usize {
        1 + self.data.len()
    }

    fn member(&mut self, role: Role) -> Option<&mut Member> {
        match role {
            Role::Control { .. } => Some(&mut self.control),
            Role::Data { channel } => self.data.get_mut(&channel),
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
            Member::Reserved => None,
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
    /// The answer was sent: the connection is a member. A session that has left meanwhile drops it.
    pub(super) fn join(self, connection: Connection) {
        if let Some(member) = self.registry.lock().progressed(self.session).and_then(|g| g.member(self.role))
        {
            *member = Member::Joined(connection);
        }
        self.registry.changed.notify_all();
    }
}

impl Drop for Admission<'_> {
    /// Does nothing to a member that has joined. Without its control connection a session is over.
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        let Some(at) = state.position(self.session) else { return };
        let Some(member) = state.gathering[at].member(self.role) else { return };
        if !member.has_joined() {
            match self.role {
                Role::Control { .. } => drop(state.gathering.remove(at)),
                Role::Data { channel } => drop(state.gathering[at].data.remove(&channel)),
            }
        }
    }
}

/// The one session that is in a caller's hands. While it lives, no other one is taken.
#[derive(Debug)]
pub(crate) struct Busy {
    registry: Arc<SessionRegistry>,
}

impl Busy {
    /// The settings are accepted: from now on other sessions are refused as busy.
    pub(crate) fn agreed(&self) {
        let mut state = self.registry.lock();
        state.taken = Taken::Running;
        let late: Vec<Gathering> = state.gathering.drain(..).collect();
        state.too_late = late.iter().map(|gathering| gathering.session).collect();
        drop(state);
        // Their watchers keep the control connections, and tell the peers.
        drop(late);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.registry.lock().taken = Taken::None;
        self.registry.changed.notify_all();
    }
}

#[cfg(test)]
mod tests;

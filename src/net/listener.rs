//! Before station 1: listen, connect and the hello on each connection, until a session has all its connections.
//!
//! The only place that uses tokio-uring and tokio (this file and the folder of the same name); neither appears in any
//! signature. It must not know settings, devices or packets: the first message after the hello is awaited here, and read
//! by the caller that takes its session. Its invariants: no
//! wait without a bound or a cancel; a socket that is handed on has nothing in flight, is blocking and has one owner;
//! any other is shut down, so that its peer sees the end immediately.
//!
//! Sockets are accepted and connected by readiness, because tokio-uring's accept loses a connection when it is
//! cancelled and gives none back to std. Hellos are read and written through the ring, on a second descriptor.

mod acceptor;
mod opening;
mod pending;
mod registry;
mod runtime;

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread;

use tokio::sync::oneshot;

use super::host::{Host, random_session};
use super::{Connection, Connections, socket};
use crate::error::{Error, KernelError, KernelOperation, Place};
use crate::limits;
use crate::limits::CANCEL_POLL;
use crate::wire::{Hello, Role, SessionId};

use self::acceptor::accept_connections;
use self::pending::{PendingConnection, within};
pub(crate) use self::registry::Busy;
use self::registry::{Complete, SessionRegistry};
use runtime::{all, thread_gone, unless_cancelled};

/// Connections that a sender sets up at the same time: half of those that a listener answers at the same time, so that
/// there is room for two senders.
const WAVE: u16 = 32;
const _: () = assert!(2 * WAVE as usize <= limits::PENDING_HELLOS_MAX);

/// A listening address. It is open from [`bind`](Listener::bind) until the last clone is dropped. One session at a time
/// can run; others are refused as busy.
#[derive(Debug, Clone)]
pub struct Listener {
    acceptor: Arc<Acceptor>,
}

/// The accept thread, and the state that it shares with callers that wait for sessions.
#[derive(Debug)]
struct Acceptor {
    addr: SocketAddr,
    registry: Arc<SessionRegistry>,
    host: Host,
    /// Dropping it ends the accept thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Listener {
    /// Listens on `addr`; with port 0 the kernel chooses one, see [`local_addr`](Listener::local_addr).
    pub fn bind(addr: SocketAddr) -> Result<Listener, Error> {
        Listener::bind_as(addr, Host::here()?)
    }

    fn bind_as(addr: SocketAddr, host: Host) -> Result<Listener, Error> {
        let listening = socket::listen(addr)?;
        let addr =
            listening.local_addr().map_err(|error| KernelError::new(KernelOperation::LocalAddress, error))?;
        let registry = SessionRegistry::new(1..=limits::CHANNELS_MAX);
        let (stop, stopped) = oneshot::channel();
        let (tell_ready, ready) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("ringlift-accept".into())
            .spawn({
                let registry = Arc::clone(&registry);
                move || accept_connections(listening, registry, host, stopped, &tell_ready)
            })
            .map_err(|error| KernelError::new(KernelOperation::StartThread, error))?;
        let acceptor = Acceptor { addr, registry, host, stop: Some(stop), thread: Some(thread) };
        ready.recv().unwrap_or_else(|_| Err(thread_gone()))?;
        Ok(Listener { acceptor: Arc::new(acceptor) })
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.acceptor.addr
    }

    /// Checks that this host has a congestion control, before any peer connects.
    pub(crate) fn check_congestion(&self, name: &str) -> Result<(), KernelError> {
        socket::unconnected(self.acceptor.addr, Some(name)).map(drop)
    }

    /// Waits for the next session whose connections are all there. Connections that are rejected meanwhile, or were
    /// rejected since the last call, go to `reject`.
    pub(crate) fn next(
        &self,
        cancel: &dyn Fn() -> bool,
        reject: &mut dyn FnMut(Option<SocketAddr>, Error),
    ) -> Result<Connections, Error> {
        while !cancel() {
            let (rejected, complete) = self.acceptor.registry.wait(CANCEL_POLL);
            for (peer, error) in rejected {
                reject(peer, error);
            }
            if let Some(complete) = complete {
                return Ok(listened(complete, self.acceptor.host));
            }
            if self.acceptor.thread.as_ref().is_none_or(thread::JoinHandle::is_finished) {
                return Err(thread_gone().into());
            }
        }
        Err(Error::Cancelled)
    }
}

impl Drop for Acceptor {
    /// The port is free once this returns.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The connections of a session that a caller has taken.
fn listened(complete: Complete, host: Host) -> Connections {
    Connections {
        control: complete.control,
        data: complete.data,
        opening: complete.opening,
        session: complete.session,
        same_clock: complete.clock == host.clock,
        busy: Some(complete.busy),
    }
}

/// The sender's side: connects to a listener, first for control, then for `channels` data connections.
pub(crate) fn connect(
    addr: SocketAddr,
    channels: u16,
    congestion: Option<&str>,
    cancel: &dyn Fn() -> bool,
) -> Result<Connections, Error> {
    connect_as(Host::here()?, addr, channels, congestion, cancel)
}

fn connect_as(
    host: Host,
    addr: SocketAddr,
    channels: u16,
    congestion: Option<&str>,
    cancel: &dyn Fn() -> bool,
) -> Result<Connections, Error> {
    let session = random_session()?;
    unless_cancelled(cancel, move || async move {
        let dial = async |_: Place| PendingConnection::dial(addr, congestion).await;
        introduce(host, session, channels, &dial).await
    })
}

/// Sends a hello on every connection of a session, control first, and checks the answers.
async fn introduce(
    host: Host,
    session: SessionId,
    channels: u16,
    open: &impl AsyncFn(Place) -> Result<PendingConnection, Error>,
) -> Result<Connections, Error> {
    let hello = async |role: Role| {
        let place = match role {
            Role::Control { .. } => Place::Control,
            Role::Data { channel } => Place::Channel(channel),
        };
        let hello = Hello { session, role, boot_id: host.clock };
        within(host.hello_timeout, place, async { open(place).await?.greet(hello, place).await }).await
    };
    let (control, clock) = hello(Role::Control { channels }).await?;
    let mut data = Vec::with_capacity(usize::from(channels));
    for first in (0..channels).step_by(usize::from(WAVE)) {
        let wave = first..channels.min(first.saturating_add(WAVE));
        let greeted = all(wave.map(|channel| hello(Role::Data { channel })).collect()).await?;
        data.extend(greeted.into_iter().map(|(connection, _)| connection));
    }
    Ok(Connections {
        control,
        data,
        session,
        same_clock: clock == host.clock,
        opening: Vec::new(),
        busy: None,
    })
}

#[cfg(test)]
mod tests;

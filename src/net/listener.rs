//! Before station 1: listen, connect and the hello on each connection, until a session has all its connections.
//!
//! The only place that uses tokio-uring and tokio (here and in the folder of this name), and neither is in any
//! signature. It must not know settings, devices or packets: what comes after the hello is not read here. It keeps these: no wait without a bound or a cancel; a
//! socket that is handed on has nothing in flight, is blocking and has one owner; one that is not handed on is shut
//! down, so that its peer sees the end at once.
//!
//! Sockets are accepted and connected by readiness, because tokio-uring's accept loses a connection when it is
//! cancelled and gives none back to std. Hellos are read and written through the ring, on a second descriptor.

mod acceptor;
mod host;
mod pending;
mod registry;
mod runtime;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use socket2::Socket;
use tokio::sync::oneshot;

use super::socket;
use super::socket::Congestion;
use crate::error::{Error, KernelError, KernelOperation, Misuse, PeerError, Place};
use crate::limits;
use crate::limits::CANCEL_POLL;
use crate::phase::Phase;
use crate::wire::{Hello, Role, SessionId};

use self::acceptor::keep_door;
use self::pending::{Line, answer, within};
pub(crate) use self::registry::Busy;
use self::registry::{Complete, Hall};
use runtime::{all, thread_gone, unless_cancelled};

/// Connections that a sender sets up at once: half of what a listener answers at once, so that there is room for two.
const WAVE: u16 = 32;
const _: () = assert!(2 * WAVE as usize <= limits::PENDING_HELLOS_MAX);

/// A listening address. It is open from [`bind`](Listener::bind) until the last clone is dropped; one session at a time
/// can gather or run, and others are told that it is busy.
#[derive(Debug, Clone)]
pub struct Listener {
    door: Arc<Door>,
}

#[derive(Debug)]
struct Door {
    addr: SocketAddr,
    hall: Arc<Hall>,
    host: Host,
    /// Dropped, it ends the doorkeeper.
    stop: Option<oneshot::Sender<()>>,
    doorkeeper: Option<thread::JoinHandle<()>>,
}

/// Every connection of a session, greeted. All sockets are blocking.
#[derive(Debug)]
pub(crate) struct Connections {
    /// The control connection.
    pub(crate) control: OwnedFd,
    /// The data connections, by channel number.
    pub(crate) data: Vec<OwnedFd>,
    /// The other end, if it has an address.
    pub(crate) peer: Option<SocketAddr>,
    /// Which session it is.
    #[cfg_attr(not(test), expect(dead_code, reason = "names the session for tests"))]
    pub(crate) session: SessionId,
    /// Both sides read one monotonic clock, so that their timestamps can be compared.
    pub(crate) same_clock: bool,
    /// While it lives, a listener turns others away. None on the sender's side and with an embedder's sockets.
    pub(crate) busy: Option<Busy>,
}

/// This side, in every hello: the name of its clock, and its patience.
#[derive(Debug, Clone, Copy)]
struct Host {
    clock: [u8; 16],
    hello_timeout: Duration,
    gather_timeout: Duration,
}

impl Listener {
    /// Opens `addr`; with port 0 the kernel chooses one, see [`local_addr`](Listener::local_addr).
    pub fn bind(addr: SocketAddr) -> Result<Listener, Error> {
        Listener::bind_as(addr, Host::here()?)
    }

    fn bind_as(addr: SocketAddr, host: Host) -> Result<Listener, Error> {
        let listening = socket::listen(addr)?;
        let addr =
            listening.local_addr().map_err(|error| KernelError::new(KernelOperation::LocalAddress, error))?;
        let hall = Hall::new(1..=limits::CHANNELS_MAX);
        let (stop, stopped) = oneshot::channel();
        let (tell_ready, ready) = mpsc::sync_channel(1);
        let doorkeeper = thread::Builder::new()
            .name("ringlift-door".into())
            .spawn({
                let hall = Arc::clone(&hall);
                move || keep_door(listening, hall, host, stopped, &tell_ready)
            })
            .map_err(|error| KernelError::new(KernelOperation::StartThread, error))?;
        let door = Door { addr, hall, host, stop: Some(stop), doorkeeper: Some(doorkeeper) };
        ready.recv().unwrap_or_else(|_| Err(thread_gone()))?;
        Ok(Listener { door: Arc::new(door) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.door.addr
    }

    /// Whether this host has a congestion control: found out before any peer comes.
    pub(crate) fn check_congestion(&self, name: &str) -> Result<(), KernelError> {
        socket::unconnected(self.door.addr, Some(name)).map(drop)
    }

    /// Waits for the next session whose connections are all there. Whoever is turned away meanwhile, or was since the
    /// last call, goes to `stray`.
    pub(crate) fn next(
        &self,
        cancel: &dyn Fn() -> bool,
        stray: &mut dyn FnMut(Option<SocketAddr>, Error),
    ) -> Result<Connections, Error> {
        while !cancel() {
            let (strays, complete) = self.door.hall.wait(CANCEL_POLL);
            for (peer, error) in strays {
                stray(peer, error);
            }
            if let Some(complete) = complete {
                return Ok(Connections::listened(complete, self.door.host));
            }
            if self.door.doorkeeper.as_ref().is_none_or(thread::JoinHandle::is_finished) {
                return Err(thread_gone().into());
            }
        }
        Err(Error::Cancelled)
    }
}

impl Drop for Door {
    /// The port is free when this returns.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(doorkeeper) = self.doorkeeper.take() {
            let _ = doorkeeper.join();
        }
    }
}

impl Connections {
    fn listened(complete: Complete, host: Host) -> Connections {
        Connections {
            control: complete.control,
            data: complete.data,
            peer: complete.peer,
            session: complete.session,
            same_clock: complete.clock == host.clock,
            busy: Some(complete.busy),
        }
    }

    /// The congestion control in effect; none unless the data connections are TCP.
    pub(crate) fn congestion(&self) -> Option<Congestion> {
        self.data.first().and_then(Congestion::of)
    }

    /// Sets the congestion control of every TCP connection.
    pub(crate) fn set_congestion(&self, name: &str) -> Result<(), KernelError> {
        socket::set_congestion(std::iter::once(&self.control).chain(&self.data), name)
    }
}

impl Host {
    fn here() -> Result<Host, KernelError> {
        Ok(Host {
            clock: host::clock_name()?,
            hello_timeout: limits::HELLO_TIMEOUT,
            gather_timeout: limits::GATHER_TIMEOUT,
        })
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
    let session = host::random_session()?;
    unless_cancelled(cancel, move || async move {
        let dial = async |_: Place| Line::dial(addr, congestion).await;
        let introduced = introduce(host, session, channels, &dial).await?;
        Ok(Connections { peer: Some(addr), ..introduced })
    })
}

/// The sender's side over sockets that are already connected.
pub(crate) fn greet(
    control: OwnedFd,
    data: Vec<OwnedFd>,
    cancel: &dyn Fn() -> bool,
) -> Result<Connections, Error> {
    greet_as(Host::here()?, control, data, cancel)
}

fn greet_as(
    host: Host,
    control: OwnedFd,
    data: Vec<OwnedFd>,
    cancel: &dyn Fn() -> bool,
) -> Result<Connections, Error> {
    let session = host::random_session()?;
    let channels = count(&data)?;
    unless_cancelled(cancel, move || async move {
        let control = Socket::from(control);
        let peer = socket::peer_of(&control);
        // Each is taken once, by its number: the control connection behind the data connections.
        let lines = RefCell::new(lines(data.into_iter().map(Socket::from).chain([control]))?);
        let pick = async |place: Place| {
            let number = if let Place::Channel(number) = place { number } else { channels };
            let line = lines.borrow_mut().get_mut(usize::from(number)).and_then(Option::take);
            line.ok_or_else(|| KernelError::new(KernelOperation::FindSocket, nix::errno::Errno::EBADF).into())
        };
        let introduced = introduce(host, session, channels, &pick).await?;
        Ok(Connections { peer, ..introduced })
    })
}

/// The receiver's side over sockets that are already connected. The data sockets may come in any order: their hellos
/// say which is which.
pub(crate) fn welcome(
    control: OwnedFd,
    data: Vec<OwnedFd>,
    cancel: &dyn Fn() -> bool,
) -> Result<Connections, Error> {
    welcome_as(Host::here()?, control, data, cancel)
}

fn welcome_as(
    host: Host,
    control: OwnedFd,
    data: Vec<OwnedFd>,
    cancel: &dyn Fn() -> bool,
) -> Result<Connections, Error> {
    let channels = usize::from(count(&data)?);
    unless_cancelled(cancel, move || async move {
        let hall = Hall::new(channels..=channels);
        let control = Socket::from(control);
        let peer = socket::peer_of(&control);
        answer(Line::new(control)?, &hall, peer, host, Place::Control).await?;
        let mut answers = Vec::with_capacity(channels);
        for line in lines(data.into_iter().map(Socket::from))?.into_iter().flatten() {
            answers.push(answer(line, &hall, peer, host, Place::New));
        }
        all(answers).await?;
        let complete = hall.take().ok_or(PeerError::Closed { place: Place::Control, phase: Phase::Hello })?;
        Ok(Connections { busy: None, ..Connections::listened(complete, host) })
    })
}

fn count(data: &[OwnedFd]) -> Result<u16, Error> {
    let given = data.len();
    let fits = (1..=limits::CHANNELS_MAX).contains(&given);
    u16::try_from(given).ok().filter(|_| fits).ok_or(Misuse::BadChannels { given }.into())
}

fn lines(sockets: impl Iterator<Item = Socket>) -> Result<Vec<Option<Line>>, Error> {
    sockets.map(|socket| Line::new(socket).map(Some).map_err(Error::from)).collect()
}

/// Says hello on every connection of a session, control first, and checks the answers.
async fn introduce(
    host: Host,
    session: SessionId,
    channels: u16,
    open: &impl AsyncFn(Place) -> Result<Line, Error>,
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
    Ok(Connections { control, data, peer: None, session, same_clock: clock == host.clock, busy: None })
}

#[cfg(test)]
mod tests;

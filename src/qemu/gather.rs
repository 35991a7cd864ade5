//! Gathers the connections of one QEMU migration: the main one and the multifd ones, in any order, identified by their
//! first bytes.
//!
//! QEMU has no hello. A source connects its main connection first, and sends nothing there until its multifd
//! connections are set up; each of those begins with an init immediately. So a connection is unidentified until its
//! first bytes arrive, and one that stays silent is dropped after a timeout. Invariants: no byte of the main connection
//! is consumed, and of a multifd connection only its init; sockets that are handed on are blocking; a connection from
//! anyone else costs the others nothing.

mod connect;
mod newcomer;

pub(crate) use self::connect::connect;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::SockRef;

use self::newcomer::{Identity, Newcomer};
use crate::error::{Error, KernelError, KernelOperation, PeerError, Place, QemuError, Uuid};
use crate::limits;
use crate::limits::{CANCEL_POLL, PENDING_HELLOS_MAX};
use crate::net::socket::Congestion;
use crate::net::{Connection, socket};
use crate::phase::Phase;
use crate::time::Nanos;
use crate::time::nanos;
use crate::time::now;
use crate::wire::qemu::Init;
use crate::worker::caller::{Caller, Event};

/// The listening socket's key in epoll events. The newcomers' keys follow, by index, then those of identified
/// connections.
const LISTENING: u64 = 0;
const NEWCOMER: u64 = 1;
const IDENTIFIED: u64 = NEWCOMER + PENDING_HELLOS_MAX as u64;

/// An address that a QEMU can migrate to: `migrate tcp:ADDR` on its side.
///
/// Clones share one listening socket: a connection goes to the clone that accepts it first.
#[derive(Debug, Clone)]
pub struct Listener {
    listening: Arc<TcpListener>,
    addr: SocketAddr,
    patience: Duration,
}

/// Every connection of a migration. All sockets are blocking.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// The main connection, from its first byte on.
    pub(crate) main: Connection,
    /// The multifd connections by their number, behind their inits.
    pub(crate) multifd: Vec<Connection>,
    /// The virtual machine, as the inits name it.
    pub(crate) uuid: Option<[u8; 16]>,
}

impl Listener {
    /// Listens on `addr`; with port 0 the kernel chooses one, see [`local_addr`](Listener::local_addr).
    pub fn bind(addr: SocketAddr) -> Result<Listener, Error> {
        let listening = socket::listen(addr)?;
        let addr =
            listening.local_addr().map_err(|error| KernelError::new(KernelOperation::LocalAddress, error))?;
        Ok(Listener { listening: Arc::new(listening), addr, patience: limits::GATHER_TIMEOUT })
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Checks that this host has a congestion control, before any peer connects.
    pub(crate) fn check_congestion(&self, name: &str) -> Result<(), KernelError> {
        socket::unconnected(self.addr, Some(name)).map(drop)
    }

    /// Waits for a migration with this many multifd connections. Connections that do not belong to one are rejected and
    /// reported to `reject`.
    pub(crate) fn gather(
        &self,
        channels: usize,
        cancel: &dyn Fn() -> bool,
        reject: &mut dyn FnMut(Option<SocketAddr>, Error),
    ) -> Result<Gathered, Error> {
        let mut gathering = Gathering::new(self, channels)?;
        while !cancel() {
            gathering.turn(reject)?;
            if gathering.is_complete() {
                return gathering.finish();
            }
        }
        Err(Error::Cancelled)
    }

    /// The same for a worker: its caller gets an event for each rejected connection and may cancel.
    pub(super) fn gather_for(
        &self,
        caller: &mut Caller,
        channels: usize,
        congestion: Option<&str>,
    ) -> Result<Gathered, Error> {
        let (cancel, panics) = (caller.cancel.clone(), caller.panics.clone());
        let wants_end = || cancel.is_cancelled() || panics.check().is_err();
        let mut reject = |peer, error| caller.tell(&Event::Rejected { peer, error });
        let gathered = self.gather(channels, &wants_end, &mut reject);
        let gathered = gathered.map_err(|error| caller.reason(error))?;
        gathered.begin_for(caller, congestion)?;
        Ok(gathered)
    }
}

impl Gathered {
    /// Tells the caller that all connections are there.
    pub(super) fn begin_for(&self, caller: &mut Caller, congestion: Option<&str>) -> Result<(), Error> {
        if let Some(name) = congestion {
            self.set_congestion(name)?;
        }
        caller.tell(&Event::Connected { peer: self.peer(), channels: self.channels(), session: None });
        Ok(())
    }

    /// The other end of the main connection.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.main.peer()
    }

    /// How many multifd connections there are.
    pub(crate) fn channels(&self) -> u16 {
        u16::try_from(self.multifd.len()).expect("channels are bounded by CHANNELS_MAX")
    }

    /// The congestion control in effect; none unless the connections are TCP.
    pub(crate) fn congestion(&self) -> Option<Congestion> {
        Congestion::of(&self.main)
    }

    /// Sets the congestion control of every TCP connection.
    pub(crate) fn set_congestion(&self, name: &str) -> Result<(), KernelError> {
        socket::set_congestion(std::iter::once(&self.main).chain(&self.multifd), name)
    }
}

/// The connections that have come so far.
struct Gathering<'a> {
    listener: &'a Listener,
    epoll: Epoll,
    /// Nothing is accepted until then, because the kernel had run out of a resource.
    paused_until: Option<Nanos>,
    /// Epoll watches the listening socket.
    accepts: bool,
    newcomers: [Option<Newcomer>; PENDING_HELLOS_MAX],
    main: Option<Connection>,
    multifd: Vec<Option<Connection>>,
    uuid: Option<[u8; 16]>,
    /// When the first connection was identified.
    began: Option<Nanos>,
    /// An identified connection whose peer has closed.
    closed: Option<Place>,
}

impl<'a> Gathering<'a> {
    fn new(listener: &'a Listener, channels: usize) -> Result<Gathering<'a>, KernelError> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|errno| KernelError::new(KernelOperation::EpollCreate, errno))?;
        let listening = EpollEvent::new(EpollFlags::EPOLLIN, LISTENING);
        epoll
            .add(&listener.listening, listening)
            .map_err(|errno| KernelError::new(KernelOperation::EpollControl, errno))?;
        Ok(Gathering {
            listener,
            epoll,
            paused_until: None,
            accepts: true,
            newcomers: [const { None }; PENDING_HELLOS_MAX],
            main: None,
            multifd: (0..channels).map(|_| None).collect(),
            uuid: None,
            began: None,
            closed: None,
        })
    }

    fn is_complete(&self) -> bool {
        self.main.is_some() && self.multifd.iter().all(Option::is_some)
    }

    fn finish(self) -> Result<Gathered, Error> {
        let main = self.main.expect("finished only when complete");
        let multifd: Vec<Connection> = self.multifd.into_iter().flatten().collect();
        for connection in std::iter::once(&main).chain(&multifd) {
            socket::prepare(&SockRef::from(connection))?;
        }
        Ok(Gathered { main, multifd, uuid: self.uuid })
    }

    /// Waits briefly for events and handles them.
    fn turn(&mut self, reject: &mut dyn FnMut(Option<SocketAddr>, Error)) -> Result<(), Error> {
        let now = now();
        self.expire(now, reject)?;
        self.watch_listener(now)?;
        let mut events = [EpollEvent::empty(); 16];
        let patience = EpollTimeout::try_from(CANCEL_POLL).expect("less than a second");
        let count = match self.epoll.wait(&mut events, patience) {
            Err(nix::errno::Errno::EINTR) => 0,
            other => other.map_err(|errno| KernelError::new(KernelOperation::EpollWait, errno))?,
        };
        for event in &events[..count] {
            match event.data() {
                LISTENING => self.accept(now, reject),
                key if key < IDENTIFIED => self.read(key, now, reject)?,
                key => {
                    let place = u8::try_from(key - IDENTIFIED).map_or(Place::Main, Place::Multifd);
                    self.closed.get_or_insert(place);
                }
            }
        }
        Ok(())
    }

    /// Rejects newcomers that stay silent, and gives up entirely when gathering takes too long.
    fn expire(&mut self, now: Nanos, reject: &mut dyn FnMut(Option<SocketAddr>, Error)) -> Result<(), Error> {
        let patience = nanos(self.listener.patience);
        for place in &mut self.newcomers {
            if let Some(silent) = place.take_if(|newcomer| now >= newcomer.since + patience) {
                reject(silent.peer, PeerError::from(QemuError::Silent).into());
            }
        }
        if self.began.is_none_or(|began| now < began + patience) {
            return Ok(());
        }
        if let Some(place) = self.closed {
            return Err(PeerError::Closed { place, phase: Phase::Gathering }.into());
        }
        let came = self.multifd.iter().flatten().count();
        let (main, channels) = (self.main.is_some(), self.multifd.len());
        Err(PeerError::from(QemuError::Gather { main, came, channels }).into())
    }

    /// Watches the listening socket while there is room for a newcomer.
    fn watch_listener(&mut self, now: Nanos) -> Result<(), KernelError> {
        let has_room = self.newcomers.iter().any(Option::is_none);
        let accepts = has_room && self.paused_until.is_none_or(|until| now >= until);
        if accepts != self.accepts {
            let interest = if accepts { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
            let mut listening = EpollEvent::new(interest, LISTENING);
            self.epoll
                .modify(&self.listener.listening, &mut listening)
                .map_err(|errno| KernelError::new(KernelOperation::EpollControl, errno))?;
            self.accepts = accepts;
        }
        Ok(())
    }

    fn accept(&mut self, now: Nanos, reject: &mut dyn FnMut(Option<SocketAddr>, Error)) {
        for (key, place) in (NEWCOMER..).zip(&mut self.newcomers) {
            if place.is_some() {
                continue;
            }
            let accepted = match self.listener.listening.accept() {
                Ok((socket, peer)) => Newcomer::new(socket.into(), peer, now, &self.epoll, key),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => continue,
                Err(error) => Err(KernelError::new(KernelOperation::Accept, &error)),
            };
            match accepted {
                Ok(newcomer) => *place = Some(newcomer),
                Err(error) => {
                    // Out of descriptors or memory: this may pass, so retry later rather than spin.
                    self.paused_until = Some(now + nanos(limits::HEARTBEAT_INTERVAL));
                    return reject(None, error.into());
                }
            }
        }
    }

    /// Bytes of a newcomer arrived: they may identify it.
    fn read(
        &mut self,
        key: u64,
        now: Nanos,
        reject: &mut dyn FnMut(Option<SocketAddr>, Error),
    ) -> Result<(), Error> {
        let place = usize::try_from(key - NEWCOMER).ok().and_then(|at| self.newcomers.get_mut(at));
        let Some(place) = place else { return Ok(()) };
        // gone since the kernel reported it
        let Some(newcomer) = place.as_mut() else { return Ok(()) };
        let identity = newcomer.identify();
        if matches!(identity, Ok(Identity::Unknown)) {
            return Ok(());
        }
        let Some(newcomer) = place.take() else { return Ok(()) };
        match identity {
            Ok(Identity::Unknown) => Ok(()),
            Ok(Identity::Main) => self.enter(newcomer, None, now),
            Ok(Identity::Multifd(init)) => self.enter(newcomer, Some(init), now),
            Err(error) if error.is_foreign => {
                reject(newcomer.peer, error.error.into());
                Ok(())
            }
            Err(error) => Err(error.error.into()),
        }
    }

    /// Puts an identified connection in its place.
    fn enter(&mut self, newcomer: Newcomer, init: Option<Init>, now: Nanos) -> Result<(), Error> {
        let (place, key) = match init {
            None => (Place::Main, IDENTIFIED + u64::from(u8::MAX) + 1),
            Some(init) => (Place::Multifd(init.id), IDENTIFIED + u64::from(init.id)),
        };
        let entry = match init {
            None => &mut self.main,
            Some(init) => {
                let channels = self.multifd.len();
                let beyond = QemuError::BeyondLast { id: init.id, channels };
                let entry = self.multifd.get_mut(usize::from(init.id)).ok_or(PeerError::from(beyond))?;
                let expected = *self.uuid.get_or_insert(init.uuid);
                if init.uuid != expected {
                    let (found, expected) = (Uuid(init.uuid), Uuid(expected));
                    return Err(PeerError::from(QemuError::OtherMachine { place, found, expected }).into());
                }
                entry
            }
        };
        if entry.is_some() {
            return Err(PeerError::from(QemuError::Twice { place }).into());
        }
        // from now on only its end matters
        let mut end = EpollEvent::new(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLONESHOT, key);
        self.epoll
            .modify(&newcomer.socket, &mut end)
            .map_err(|errno| KernelError::new(KernelOperation::EpollControl, errno))?;
        *entry = Some(Connection::plaintext(newcomer.socket, newcomer.peer));
        self.began.get_or_insert(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

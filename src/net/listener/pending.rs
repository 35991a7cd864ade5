//! One connection during its hello, from either side. Knows nothing of other connections: the registry does.
//!
//! A socket is handed on with nothing in flight; one that is not handed on is shut down.

use std::future::Future;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, Socket};
use tokio::io::Interest;
use tokio::time;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;

use super::registry::{Admission, SessionRegistry};
use super::runtime::readiness;
use super::{Connection, socket};
use crate::error::{Error, KernelError, KernelOperation, PeerError, Place, Side};
use crate::net::hello::{bytes_of, read_hello, read_welcome, welcome_of};
use crate::net::host::Host;
use crate::phase::Phase;
use crate::wire::{HELLO_LEN, Hello, SessionId, WELCOME_LEN};

/// Bytes that are read from a rejected connection and dropped, so that the answer is not lost in a reset.
const DRAIN_MAX: usize = 16 << 10;
const DRAIN_STEP: usize = 1 << 10;

/// One connection during its hello. Dropping it shuts it down, which also ends the ring's operations on it.
pub(super) struct PendingConnection {
    socket: Socket,
    peer: Option<SocketAddr>,
    ring: RingEnd,
}

/// The same connection, for the ring. Dropping it shuts the connection down, unless that was handed on.
struct RingEnd {
    stream: TcpStream,
    handed_on: bool,
}

impl PendingConnection {
    pub(super) fn new(socket: Socket, peer: Option<SocketAddr>) -> Result<PendingConnection, KernelError> {
        socket::prepare(&SockRef::from(&socket))?;
        let second = socket::duplicate(&socket)?;
        let ring = RingEnd { stream: TcpStream::from_std(second.into()), handed_on: false };
        Ok(PendingConnection { socket, peer, ring })
    }

    pub(super) async fn dial(addr: SocketAddr, congestion: Option<&str>) -> Result<PendingConnection, Error> {
        let socket = socket::unconnected(addr, congestion)?;
        let connected = async {
            match socket.connect(&addr.into()) {
                Err(error) if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => {}
                other => return other,
            }
            let waiting = readiness(socket.as_fd(), Interest::WRITABLE)?;
            let _ready = waiting.writable().await?;
            Ok(())
        };
        let failed = |error| KernelError::new(KernelOperation::Connect, error);
        connected.await.map_err(failed)?;
        let ended =
            socket.take_error().map_err(|error| KernelError::new(KernelOperation::ReadOptions, error))?;
        ended.map_or(Ok(()), |error| Err(failed(error)))?;
        Ok(PendingConnection::new(socket, Some(addr))?)
    }

    /// The sender's half of a hello: the connection, and the name of the other side's clock.
    pub(super) async fn greet(self, hello: Hello, place: Place) -> Result<(Connection, [u8; 16]), Error> {
        self.write(&bytes_of(&hello), place).await?;
        let clock = read_welcome(&self.read::<WELCOME_LEN>(place).await?, &hello, place)?;
        Ok((self.hand_on(), clock))
    }

    async fn read<const LEN: usize>(&self, place: Place) -> Result<[u8; LEN], PeerError> {
        let phase = Phase::Hello;
        let mut bytes = vec![0; LEN];
        let mut filled = 0;
        while filled < LEN {
            let (result, slice) = self.ring.stream.read(bytes.slice(filled..LEN)).await;
            bytes = slice.into_inner();
            match result {
                Ok(0) => return Err(PeerError::Closed { place, phase }),
                Ok(count) => filled += count,
                Err(error) => return Err(PeerError::Lost { place, phase, errno: error.into() }),
            }
        }
        let mut whole = [0; LEN];
        whole.copy_from_slice(&bytes);
        Ok(whole)
    }

    async fn write(&self, bytes: &[u8], place: Place) -> Result<(), PeerError> {
        let (result, _) = self.ring.stream.write_all(bytes.to_vec()).await;
        result.map_err(|error| PeerError::Lost { place, phase: Phase::Hello, errno: error.into() })
    }

    /// Sends the reason, and waits until the other side has read it and closed, within the caller's time limit.
    async fn turn_away(&self, answer: &[u8], place: Place) -> Result<(), PeerError> {
        self.write(answer, place).await?;
        // Nothing more is sent from this side. A failure means that the connection has ended already.
        let _ = self.socket.shutdown(Shutdown::Write);
        for _ in 0..DRAIN_MAX / DRAIN_STEP {
            self.read::<DRAIN_STEP>(place).await?;
        }
        Ok(())
    }

    /// Nothing is in flight on it: every read and write was awaited.
    fn hand_on(mut self) -> Connection {
        self.ring.handed_on = true;
        Connection::plaintext(self.socket, self.peer)
    }
}

impl Drop for RingEnd {
    fn drop(&mut self) {
        if !self.handed_on {
            // A failure means that the connection has ended already.
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

/// A connection whose hello fits a session.
pub(super) struct Admitted<'a> {
    pending: PendingConnection,
    hello: Hello,
    admission: Admission<'a>,
}

/// Reads a hello: `registry` admits the connection, or it is sent the reason why not.
pub(super) async fn admit(
    pending: PendingConnection,
    registry: &SessionRegistry,
    host: Host,
    place: Place,
) -> Result<Admitted<'_>, Error> {
    let mut session = SessionId([0; 16]);
    let admitted = async {
        let bytes = pending.read::<HELLO_LEN>(place).await?;
        session = SessionId::of_hello(&bytes);
        let hello = read_hello(&bytes, place)?;
        let admission = registry
            .admit(&hello, pending.peer)
            .map_err(|reason| Error::Refused { by: Side::Receiver, reason })?;
        Ok((hello, admission))
    };
    match within(host.hello_timeout, place, admitted).await {
        Ok((hello, admission)) => Ok(Admitted { pending, hello, admission }),
        Err(error) => {
            if let Error::Refused { reason, .. } = &error {
                let answer = welcome_of(session, host, reason.to_wire().0);
                // The connection is rejected anyway; further errors on it do not matter.
                let _ = time::timeout(host.hello_timeout, pending.turn_away(&answer, place)).await;
            }
            Err(error)
        }
    }
}

impl Admitted<'_> {
    /// Sends the welcome, and the connection joins its session. Returns a second descriptor of it.
    pub(super) async fn welcome(self, host: Host, place: Place) -> Result<(Hello, Socket), Error> {
        let Admitted { pending, hello, admission } = self;
        let welcomed = async {
            let second = socket::duplicate(&pending.socket)?;
            pending.write(&welcome_of(hello.session, host, 0), place).await?;
            Ok(second)
        };
        let second = within(host.hello_timeout, place, welcomed).await?;
        admission.join(pending.hand_on());
        Ok((hello, second))
    }
}

pub(super) async fn within<T>(
    limit: Duration,
    place: Place,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let in_time = time::timeout(limit, work).await;
    in_time.unwrap_or_else(|_| Err(PeerError::HelloTimeout { place }.into()))
}

//! One connection of a session: its socket, its peer, and how its bytes are protected.
//!
//! Knows nothing of what it carries. A connection has one owner, which keeps it open while a ring works on it:
//! operations name it by [`Connection::fd`].

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::socket;
use crate::ring::{Directions, Ring};

/// A connected, blocking stream socket.
#[derive(Debug)]
pub(crate) struct Connection {
    fd: OwnedFd,
    peer: Option<SocketAddr>,
    #[expect(dead_code, reason = "never read while there is only one variant")]
    security: Security,
}

/// How a connection's bytes are protected between the two hosts.
///
/// There is one variant today. The type exists because every connection has to state it, whatever uses the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    /// Not at all: the bytes travel as they are sent.
    Plaintext,
}

impl Connection {
    /// Wraps `socket`, connected to `peer` if that has an address.
    pub(crate) fn plaintext(socket: impl Into<OwnedFd>, peer: Option<SocketAddr>) -> Connection {
        Connection { fd: socket.into(), peer, security: Security::Plaintext }
    }

    /// The number by which operations on a ring name it. Valid while this is alive.
    pub(crate) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The peer's address, if it has one.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// This side's address, if it has one.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        socket::local_of(&self.fd)
    }

    /// Closes these directions; operations on them end.
    pub(crate) fn shut_down(&self, ring: &mut impl Ring, directions: Directions) {
        ring.shut_down(self.fd(), directions);
    }
}

impl From<OwnedFd> for Connection {
    /// A socket that an embedder has connected.
    fn from(fd: OwnedFd) -> Connection {
        let peer = socket::peer_of(&fd);
        Connection::plaintext(fd, peer)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_connection_knows_the_address_of_its_peer_where_there_is_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let connection = Connection::from(OwnedFd::from(stream));
        assert_eq!(connection.peer(), listener.local_addr().ok());
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(Connection::from(OwnedFd::from(one)).peer(), None);
    }
}

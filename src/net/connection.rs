//! One connection of a session: its socket, who is at the other end, and how its bytes are protected.
//!
//! Knows nothing of what it carries. A connection has one owner, who keeps it open while a ring works on it: operations name
//! it by [`Connection::fd`].

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::socket;
use crate::ring::{Directions, Ring};

/// A connected stream socket that is blocking.
#[derive(Debug)]
pub(crate) struct Connection {
    fd: OwnedFd,
    peer: Option<SocketAddr>,
    #[expect(dead_code, reason = "nothing asks while there is one answer")]
    security: Security,
}

/// What protects the bytes of a connection between the two hosts.
///
/// There is one answer today. The type is here because each connection has to say it, whoever sends and receives on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    /// Nothing: what is sent is what travels.
    Plaintext,
}

impl Connection {
    /// `socket`, connected to `peer` if that has an address.
    pub(crate) fn plaintext(socket: impl Into<OwnedFd>, peer: Option<SocketAddr>) -> Connection {
        Connection { fd: socket.into(), peer, security: Security::Plaintext }
    }

    /// The number that operations on a ring name it by. Valid while this is alive.
    pub(crate) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The other end, if it has an address.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Closes these directions; operations on them end.
    pub(crate) fn shut_down(&self, ring: &mut impl Ring, directions: Directions) {
        ring.shut_down(self.fd(), directions);
    }
}

impl From<OwnedFd> for Connection {
    /// A socket that somebody else has connected.
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

//! The options of a session's sockets, and the meaning of the kernel's errors about them. Knows no protocol.
//!
//! Every socket that a session uses is blocking: the ring waits for it inside the kernel, and would get `EAGAIN` from a
//! non-blocking one.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use nix::errno::Errno as Name;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::error::{KernelError, KernelOperation};
use crate::limits;

/// Connections that may wait to be accepted: every data connection of a session, and some strangers.
const BACKLOG: i32 = 1024;

/// A listening socket, non-blocking because its owner waits for readiness.
pub(crate) fn listen(addr: SocketAddr) -> Result<TcpListener, KernelError> {
    let listening = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    listening().map_err(|error| KernelError::new(KernelOperation::Listen, &error))
}

/// A TCP socket that is ready to be connected. It is non-blocking until [`prepare`].
pub(crate) fn unconnected(addr: SocketAddr, congestion: Option<&str>) -> Result<Socket, KernelError> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))
        .map_err(|error| KernelError::new(KernelOperation::Socket, &error))?;
    if let Some(name) = congestion {
        set_one_congestion(&SockRef::from(&socket), name)?;
    }
    socket
        .set_nonblocking(true)
        .map_err(|error| KernelError::new(KernelOperation::SetNonBlocking, &error))?;
    Ok(socket)
}

/// Prepares a connected socket for a session: blocking, not inherited by child processes, and for TCP without delay for
/// small messages and with a time limit for a peer whose host is gone.
///
/// The bound on unacknowledged data is `STANDSTILL_MAX` and not `SILENCE_MAX`, because the kernel also counts the time
/// during which a live peer has no room. Heartbeats detect a silent peer earlier.
pub(crate) fn prepare(socket: &SockRef<'_>) -> Result<(), KernelError> {
    let read = |error| KernelError::new(KernelOperation::ReadOptions, error);
    if socket.r#type().map_err(read)? != Type::STREAM {
        return Err(read(Name::EPROTOTYPE.into()));
    }
    socket
        .set_nonblocking(false)
        .map_err(|error| KernelError::new(KernelOperation::SetNonBlocking, &error))?;
    let prepared = || -> io::Result<()> {
        socket.set_cloexec(true)?;
        if is_tcp(socket) {
            socket.set_tcp_nodelay(true)?;
            socket.set_tcp_user_timeout(Some(limits::STANDSTILL_MAX))?;
            socket.set_tcp_keepalive(
                &TcpKeepalive::new().with_time(limits::SILENCE_MAX).with_interval(limits::SILENCE_MAX),
            )?;
        }
        Ok(())
    };
    prepared().map_err(|error| KernelError::new(KernelOperation::SetOptions, &error))
}

/// A second descriptor of the same socket.
#[cfg(feature = "listener")]
pub(crate) fn duplicate(socket: &Socket) -> Result<Socket, KernelError> {
    socket.try_clone().map_err(|error| KernelError::new(KernelOperation::Duplicate, &error))
}

/// The peer's address, if it has one.
pub(crate) fn peer_of(socket: &impl AsFd) -> Option<SocketAddr> {
    SockRef::from(socket).peer_addr().ok().and_then(|addr| addr.as_socket())
}

/// This side's address, if it has one.
pub(crate) fn local_of(socket: &impl AsFd) -> Option<SocketAddr> {
    SockRef::from(socket).local_addr().ok().and_then(|addr| addr.as_socket())
}

/// Sets the congestion control of every TCP socket among `sockets`; others have none.
pub(crate) fn set_congestion<'a>(
    sockets: impl IntoIterator<Item = &'a (impl AsFd + 'a)>,
    name: &str,
) -> Result<(), KernelError> {
    sockets
        .into_iter()
        .map(SockRef::from)
        .filter(is_tcp)
        .try_for_each(|socket| set_one_congestion(&socket, name))
}

fn set_one_congestion(socket: &SockRef<'_>, name: &str) -> Result<(), KernelError> {
    socket
        .set_tcp_congestion(name.as_bytes())
        .map_err(|error| KernelError::new(KernelOperation::SetCongestion, &error))
}

fn is_tcp(socket: &SockRef<'_>) -> bool {
    socket.domain().is_ok_and(|domain| domain == Domain::IPV4 || domain == Domain::IPV6)
}

/// The name of a congestion control.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Congestion {
    /// Padded with zeros; the kernel's bound (`TCP_CA_NAME_MAX`).
    name: [u8; 16],
}

impl Congestion {
    /// The one in effect on `socket`; `None` unless it is a TCP socket.
    pub(crate) fn of(socket: &impl AsFd) -> Option<Congestion> {
        let found = SockRef::from(socket).tcp_congestion().ok()?;
        let mut name = [0; 16];
        for (to, from) in name.iter_mut().zip(found.into_iter().take_while(|&byte| byte != 0)) {
            *to = from;
        }
        Some(Congestion { name })
    }

    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        let len = self.name.iter().position(|&byte| byte == 0).unwrap_or(self.name.len());
        std::str::from_utf8(&self.name[..len]).unwrap_or("?")
    }
}

impl fmt::Display for Congestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Congestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_congestion_control_that_is_set_is_read_back() {
        let socket = unconnected("127.0.0.1:1".parse().unwrap(), Some("reno")).unwrap();
        let socket = OwnedFd::from(socket);
        assert_eq!(Congestion::of(&socket).unwrap().as_str(), "reno");
    }

    #[test]
    fn an_unknown_congestion_control_says_where_the_known_ones_are_listed() {
        let error = unconnected("127.0.0.1:1".parse().unwrap(), Some("no-such")).unwrap_err();
        assert_eq!(error.errno.raw(), nix::libc::ENOENT);
        assert!(error.hint().unwrap().contains("tcp_available_congestion_control"));
    }

    #[test]
    fn a_unix_socket_has_no_congestion_control_and_takes_none() {
        let (one, _other) = UnixStream::pair().unwrap();
        let one = OwnedFd::from(one);
        assert_eq!(set_congestion([&one], "reno"), Ok(()));
        assert_eq!(Congestion::of(&one), None);
    }

    fn tcp_pair() -> (Socket, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near.into(), listener.accept().unwrap().0.into())
    }

    #[test]
    fn a_prepared_socket_gives_a_lost_host_up_when_the_session_would() {
        let (near, far) = tcp_pair();
        for socket in [near, far] {
            assert_eq!(socket.tcp_user_timeout().unwrap(), None, "the kernel's own says nothing of the test");
            prepare(&SockRef::from(&socket)).unwrap();
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(limits::STANDSTILL_MAX));
            // The number of unanswered probes does not matter: with a user timeout only that time decides (tcp(7)).
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), limits::SILENCE_MAX);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), limits::SILENCE_MAX);
        }
    }

    #[test]
    fn a_prepared_socket_is_blocking_without_delay_and_not_inherited_however_it_was_made() {
        use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
        let (near, _far) = tcp_pair();
        near.set_nonblocking(true).unwrap();
        near.set_cloexec(false).unwrap();
        near.set_tcp_nodelay(false).unwrap();
        prepare(&SockRef::from(&near)).unwrap();
        let near = OwnedFd::from(near);
        let inherited =
            !FdFlag::from_bits_retain(fcntl(&near, FcntlArg::F_GETFD).unwrap()).contains(FdFlag::FD_CLOEXEC);
        let blocks =
            !OFlag::from_bits_retain(fcntl(&near, FcntlArg::F_GETFL).unwrap()).contains(OFlag::O_NONBLOCK);
        assert!(!inherited && blocks && SockRef::from(&near).tcp_nodelay().unwrap());
    }

    #[test]
    fn what_is_no_stream_socket_is_refused_with_advice() {
        let (one, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let error = prepare(&SockRef::from(&one)).unwrap_err();
        assert_eq!(error.hint(), Some("a session needs connected stream sockets"));
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let error = prepare(&SockRef::from(&file)).unwrap_err();
        assert_eq!(error.hint(), Some("a session needs connected stream sockets"));
    }
}

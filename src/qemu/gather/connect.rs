//! The source's side: connects as a migrating QEMU does.

use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{SockRef, Socket};

use super::Gathered;
use crate::error::{Error, KernelError, KernelOperation};
use crate::limits::{CANCEL_POLL, HELLO_TIMEOUT};
use crate::net::{Connection, socket};
use crate::time::nanos;
use crate::time::now;
use crate::wire::qemu::{INIT_LEN, Init};

/// Connects main, on which nothing is sent, and then each multifd connection, on which its init is sent. `inits` are in
/// the order of their numbers.
pub(crate) fn connect(
    addr: SocketAddr,
    inits: &[Init],
    congestion: Option<&str>,
    cancel: &dyn Fn() -> bool,
) -> Result<Gathered, Error> {
    let main = dial(addr, congestion, cancel)?;
    let mut multifd = Vec::with_capacity(inits.len());
    for init in inits {
        let mut socket = dial(addr, congestion, cancel)?;
        let mut bytes = [0; INIT_LEN];
        init.encode(&mut bytes);
        // a new connection's buffer always has room for an init
        socket.write_all(&bytes).map_err(|error| KernelError::new(KernelOperation::Send, &error))?;
        multifd.push(Connection::plaintext(socket, Some(addr)));
    }
    let uuid = inits.first().map(|init| init.uuid);
    Ok(Gathered { main: Connection::plaintext(main, Some(addr)), multifd, uuid })
}

fn dial(addr: SocketAddr, congestion: Option<&str>, cancel: &dyn Fn() -> bool) -> Result<Socket, Error> {
    let socket = socket::unconnected(addr, congestion)?;
    match socket.connect(&addr.into()) {
        Err(error) if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => await_end(&socket, cancel)?,
        other => other.map_err(|error| KernelError::new(KernelOperation::ConnectToQemu, &error))?,
    }
    socket::prepare(&SockRef::from(&socket))?;
    Ok(socket)
}

fn await_end(socket: &Socket, cancel: &dyn Fn() -> bool) -> Result<(), Error> {
    let end = now() + nanos(HELLO_TIMEOUT);
    let patience = PollTimeout::try_from(CANCEL_POLL).expect("less than a second");
    loop {
        let mut waited = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut waited, patience) {
            Ok(0) | Err(Errno::EINTR) if cancel() => return Err(Error::Cancelled),
            Ok(0) | Err(Errno::EINTR) if now() >= end => {
                return Err(KernelError::new(KernelOperation::ConnectToQemu, Errno::ETIMEDOUT).into());
            }
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => break,
            Err(errno) => return Err(KernelError::new(KernelOperation::Poll, errno).into()),
        }
    }
    let ended = socket.take_error().map_or_else(Err, |error| error.map_or(Ok(()), Err));
    ended.map_err(|error| KernelError::new(KernelOperation::ConnectToQemu, &error).into())
}

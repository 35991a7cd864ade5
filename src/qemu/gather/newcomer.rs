//! A connection that is not identified yet.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{MsgFlags, recv};
use socket2::Socket;

use crate::error::{KernelError, KernelOperation, PeerError, Place, QemuError};
use crate::phase::Phase;
use crate::time::Nanos;
use crate::wire::Malformed;
use crate::wire::qemu::{INIT_LEN, Init, Kind};

/// A connection that is not identified yet.
pub(super) struct Newcomer {
    pub(super) socket: Socket,
    pub(super) peer: Option<SocketAddr>,
    pub(super) since: Nanos,
    /// The bytes of its init that have come, once it is known to send one.
    init: Option<([u8; INIT_LEN], usize)>,
}

/// What a newcomer's first bytes identify it as.
pub(super) enum Identity {
    /// Too few bytes have come.
    Unknown,
    Main,
    Multifd(Init),
}

/// Why a newcomer is rejected.
pub(super) struct Rejected {
    pub(super) error: PeerError,
    /// It is not a QEMU's: gathering goes on without it.
    pub(super) is_foreign: bool,
}

impl Newcomer {
    /// Registers with epoll, which reports under `key` whenever more bytes have come.
    pub(super) fn new(
        socket: Socket,
        peer: SocketAddr,
        since: Nanos,
        epoll: &Epoll,
        key: u64,
    ) -> Result<Newcomer, KernelError> {
        socket
            .set_nonblocking(true)
            .map_err(|error| KernelError::new(KernelOperation::SetNonBlocking, &error))?;
        // edge-triggered: otherwise too few bytes would be reported again and again
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        epoll
            .add(&socket, EpollEvent::new(interest, key))
            .map_err(|errno| KernelError::new(KernelOperation::EpollControl, errno))?;
        Ok(Newcomer { socket, peer: Some(peer), since, init: None })
    }

    /// Looks at what came. The main connection's first bytes stay in the socket; an init is consumed.
    pub(super) fn identify(&mut self) -> Result<Identity, Rejected> {
        loop {
            let Some((bytes, filled)) = &mut self.init else {
                let mut first = [0; 4];
                if receive(&self.socket, &mut first, MsgFlags::MSG_PEEK)? < first.len() {
                    return Ok(Identity::Unknown);
                }
                match Kind::of(first).map_err(|what| Rejected { is_foreign: true, ..malformed(what) })? {
                    Kind::Main => return Ok(Identity::Main),
                    Kind::Multifd => self.init = Some(([0; INIT_LEN], 0)),
                }
                continue;
            };
            match receive(&self.socket, &mut bytes[*filled..], MsgFlags::empty())? {
                0 => return Ok(Identity::Unknown),
                count => *filled += count,
            }
            if *filled == INIT_LEN {
                return Init::decode(bytes).map(Identity::Multifd).map_err(malformed);
            }
        }
    }
}

fn malformed(what: Malformed) -> Rejected {
    let error = QemuError::Malformed { place: Place::New, offset: 0, what }.into();
    Rejected { error, is_foreign: false }
}

/// How many bytes were received; 0 when none have come yet.
fn receive(socket: &Socket, buffer: &mut [u8], flags: MsgFlags) -> Result<usize, Rejected> {
    const PHASE: Phase = Phase::Gathering;
    let error = loop {
        match recv(socket.as_raw_fd(), buffer, flags) {
            Ok(0) => break PeerError::Closed { place: Place::New, phase: PHASE },
            Ok(count) => return Ok(count),
            Err(Errno::EAGAIN) => return Ok(0),
            Err(Errno::EINTR) => {}
            Err(errno) => break PeerError::Lost { place: Place::New, phase: PHASE, errno: errno.into() },
        }
    };
    Err(Rejected { error, is_foreign: true })
}

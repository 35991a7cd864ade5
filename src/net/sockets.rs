//! Before station 1, for sockets that an embedder has connected: the hello on each of them.
//!
//! It needs no ring, no runtime and no thread: system calls that do not wait, and `poll` with a deadline. It must not know
//! settings, devices or packets. Its invariants are the listener's: no wait without a bound or a cancel; a socket that is
//! handed on is blocking and has one owner; any other is shut down, so that its peer sees the end immediately.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use socket2::{SockRef, Socket};

use super::hello::{bytes_of, read_hello, read_welcome, welcome_of};
use super::host::{Host, random_session};
use super::{Connection, Connections, socket};
use crate::error::{Error, KernelError, KernelOperation, Misuse, PeerError, Place, Refusal, Side};
use crate::limits::{CANCEL_POLL, CHANNELS_MAX};
use crate::phase::Phase;
use crate::time::{Nanos, nanos, now};
use crate::wire::{HELLO_LEN, Hello, Role, SessionId, WELCOME_LEN};

/// A hello and its answer have the same length.
const LEN: usize = HELLO_LEN;
const _: () = assert!(HELLO_LEN == WELCOME_LEN);

/// Most bytes that are read from a rejected connection and dropped, so that the answer is not lost in a reset.
const DRAIN_MAX: usize = 16 << 10;

/// The sender's side. The data sockets are numbered in their order.
pub(crate) fn greet(
    control: OwnedFd,
    data: Vec<OwnedFd>,
    cancel: &dyn Fn() -> bool,
) -> Result<Connections, Error> {
    greet_as(Host::here()?, control, data, cancel)
}

/// The receiver's side. The data sockets may be in any order: their hellos identify them.
pub(crate) fn welcome(
    control: OwnedFd,
    data: Vec<OwnedFd>,
    cancel: &dyn Fn() -> bool,
) -> Result<Connections, Error> {
    welcome_as(Host::here()?, control, data, cancel)
}

pub(super) fn greet_as(
    host: Host,
    control: OwnedFd,
    data: Vec<OwnedFd>,
    cancel: &dyn Fn() -> bool,
) -> Result<Connections, Error> {
    let (session, channels) = (random_session()?, count(&data)?);
    let hello = |role| Hello { session, role, boot_id: host.clock };
    let greet = |mut sockets: Vec<Unanswered>, hellos: &[Hello]| {
        let wait = Wait { until: now() + nanos(host.hello_timeout), cancel };
        let mut clock = [0; 16];
        for (socket, hello) in sockets.iter().zip(hellos) {
            socket.send(&bytes_of(hello), &wait)?;
        }
        receive_all(&mut sockets, &wait, |socket, at| {
            clock = read_welcome(&socket.bytes, &hellos[at], socket.place)?;
            Ok(())
        })?;
        Ok::<_, Error>((sockets.into_iter().map(Unanswered::hand_on).collect::<Vec<_>>(), clock))
    };
    let control = vec![Unanswered::new(control, Place::Control)?];
    let (control, clock) = greet(control, &[hello(Role::Control { channels })])?;
    let data = (0..channels).zip(data).map(|(channel, fd)| Unanswered::new(fd, Place::Channel(channel)));
    let hellos: Vec<Hello> = (0..channels).map(|channel| hello(Role::Data { channel })).collect();
    let (data, _) = greet(data.collect::<Result<_, _>>()?, &hellos)?;
    let control = control.into_iter().next().expect("one socket was greeted");
    Ok(Connections {
        control,
        data,
        session,
        same_clock: clock == host.clock,
        opening: Vec::new(),
        busy: None,
    })
}

pub(super) fn welcome_as(
    host: Host,
    control: OwnedFd,
    data: Vec<OwnedFd>,
    cancel: &dyn Fn() -> bool,
) -> Result<Connections, Error> {
    let channels = count(&data)?;
    let mut gathered = Gathered { channels, control: None, taken: vec![false; usize::from(channels)] };
    let mut control = vec![Unanswered::new(control, Place::Control)?];
    gathered.answer(&mut control, host, cancel)?;
    let data = data.into_iter().map(|fd| Unanswered::new(fd, Place::New));
    let mut data = data.collect::<Result<Vec<_>, _>>()?;
    gathered.answer(&mut data, host, cancel)?;
    data.sort_by_key(|socket| socket.channel);
    let control = control.into_iter().next().expect("one socket was answered");
    let hello = gathered.control.expect("it was answered");
    Ok(Connections {
        control: control.hand_on(),
        data: data.into_iter().map(Unanswered::hand_on).collect(),
        opening: Vec::new(),
        session: hello.session,
        same_clock: hello.boot_id == host.clock,
        busy: None,
    })
}

fn count(data: &[OwnedFd]) -> Result<u16, Misuse> {
    let given = data.len();
    let fits = (1..=CHANNELS_MAX).contains(&given);
    u16::try_from(given).ok().filter(|_| fits).ok_or(Misuse::BadChannels { given })
}

/// What the hellos so far say of the session.
struct Gathered {
    channels: u16,
    control: Option<Hello>,
    /// By channel number.
    taken: Vec<bool>,
}

impl Gathered {
    /// Receives a hello on each socket and answers it.
    fn answer(
        &mut self,
        sockets: &mut [Unanswered],
        host: Host,
        cancel: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let wait = Wait { until: now() + nanos(host.hello_timeout), cancel };
        receive_all(sockets, &wait, |socket, _| {
            let session = SessionId::of_hello(&socket.bytes);
            let admitted = read_hello(&socket.bytes, socket.place).and_then(|hello| {
                self.admit(&hello).map_err(|reason| Error::Refused { by: Side::Receiver, reason })
            });
            match admitted {
                Ok(channel) => {
                    socket.channel = channel;
                    Ok(socket.send(&welcome_of(session, host, 0), &wait)?)
                }
                Err(error) => {
                    if let Error::Refused { reason, .. } = &error {
                        socket.turn_away(&welcome_of(session, host, reason.to_wire().0), host, cancel);
                    }
                    Err(error)
                }
            }
        })
    }

    /// The channel of a data connection, 0 for the control connection.
    fn admit(&mut self, hello: &Hello) -> Result<u16, Refusal> {
        match (hello.role, self.control) {
            (Role::Control { .. }, Some(_)) => Err(Refusal::Busy),
            (Role::Control { channels }, None) if channels != self.channels => Err(Refusal::Channel),
            (Role::Control { .. }, None) => {
                self.control = Some(*hello);
                Ok(0)
            }
            (Role::Data { channel }, Some(control)) if control.session == hello.session => {
                match self.taken.get_mut(usize::from(channel)) {
                    Some(taken @ false) => *taken = true,
                    Some(true) | None => return Err(Refusal::Channel),
                }
                Ok(channel)
            }
            (Role::Data { .. }, _) => Err(Refusal::UnknownSession),
        }
    }
}

/// How long to wait.
struct Wait<'a> {
    until: Nanos,
    cancel: &'a dyn Fn() -> bool,
}

impl Wait<'_> {
    /// Waits for one of these to be ready. The caller looks at all of them.
    fn for_any(&self, waited: &mut [PollFd<'_>], place: Place) -> Result<(), Error> {
        let patience = PollTimeout::try_from(CANCEL_POLL).expect("less than a second");
        loop {
            if (self.cancel)() {
                return Err(Error::Cancelled);
            }
            if now() >= self.until {
                return Err(PeerError::HelloTimeout { place }.into());
            }
            match poll(waited, patience) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(KernelError::new(KernelOperation::Poll, errno).into()),
            }
        }
    }
}

/// A connection whose hello or answer is not complete. Dropping it shuts it down.
struct Unanswered {
    /// `None` once it is handed on.
    socket: Option<Socket>,
    peer: Option<SocketAddr>,
    place: Place,
    channel: u16,
    bytes: [u8; LEN],
    filled: usize,
}

impl Unanswered {
    fn new(fd: OwnedFd, place: Place) -> Result<Unanswered, KernelError> {
        let socket = Socket::from(fd);
        let peer = socket::peer_of(&socket);
        socket::prepare(&SockRef::from(&socket))?;
        Ok(Unanswered { socket: Some(socket), peer, place, channel: 0, bytes: [0; LEN], filled: 0 })
    }

    fn socket(&self) -> &Socket {
        self.socket.as_ref().expect("it is handed on last")
    }

    fn is_complete(&self) -> bool {
        self.filled == LEN
    }

    fn send(&self, mut bytes: &[u8], wait: &Wait<'_>) -> Result<(), Error> {
        let socket = self.socket();
        while !bytes.is_empty() {
            match send(socket.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    wait.for_any(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], self.place)?;
                }
                Err(errno) => return Err(self.lost(errno)),
            }
        }
        Ok(())
    }

    /// Takes what has come.
    fn receive(&mut self) -> Result<(), Error> {
        let fd = self.socket().as_raw_fd();
        match recv(fd, &mut self.bytes[self.filled..], MsgFlags::MSG_DONTWAIT) {
            Ok(0) => Err(PeerError::Closed { place: self.place, phase: Phase::Hello }.into()),
            Ok(count) => {
                self.filled += count;
                Ok(())
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(errno) => Err(self.lost(errno)),
        }
    }

    fn lost(&self, errno: Errno) -> Error {
        PeerError::Lost { place: self.place, phase: Phase::Hello, errno: errno.into() }.into()
    }

    /// Sends the reason, and waits until the other side has read it and closed. It is rejected anyway: further errors on
    /// it do not matter.
    fn turn_away(&self, answer: &[u8], host: Host, cancel: &dyn Fn() -> bool) {
        let wait = Wait { until: now() + nanos(host.hello_timeout), cancel };
        if self.send(answer, &wait).is_err() {
            return;
        }
        let socket = self.socket();
        let _ = socket.shutdown(Shutdown::Write);
        let (mut dropped, mut rest) = (0, [0; 1 << 10]);
        while dropped < DRAIN_MAX
            && wait.for_any(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], self.place).is_ok()
        {
            match recv(socket.as_raw_fd(), &mut rest, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return,
                Ok(count) => dropped += count,
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    fn hand_on(mut self) -> Connection {
        Connection::plaintext(self.socket.take().expect("it is handed on once"), self.peer)
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        // A failure means that the connection has ended already.
        let _ =
            self.socket.as_ref().map_or(Ok::<(), io::Error>(()), |socket| socket.shutdown(Shutdown::Both));
    }
}

/// Fills every socket's bytes, and hands each to `on_complete` when it is full.
fn receive_all(
    sockets: &mut [Unanswered],
    wait: &Wait<'_>,
    mut on_complete: impl FnMut(&mut Unanswered, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    loop {
        let missing: Vec<&Unanswered> = sockets.iter().filter(|socket| !socket.is_complete()).collect();
        let Some(first) = missing.first() else { return Ok(()) };
        let place = first.place;
        let mut waited: Vec<PollFd<'_>> =
            missing.iter().map(|socket| PollFd::new(socket.socket().as_fd(), PollFlags::POLLIN)).collect();
        wait.for_any(&mut waited, place)?;
        for (at, socket) in sockets.iter_mut().enumerate().filter(|(_, socket)| !socket.is_complete()) {
            socket.receive()?;
            if socket.is_complete() {
                on_complete(socket, at)?;
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! The control connection, both directions.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::buffer::{Lease, Pool, Slot};
use crate::channel::{ControlRx, ControlTx};
use crate::error::{Errno, Error, PeerError, Place};
use crate::phase::Phase;
use crate::ring::{Directions, Ring};
use crate::wire::Control;
use crate::worker::operation::Duty;

/// The control connection.
pub(super) struct Link {
    socket: OwnedFd,
    rx: ControlRx,
    tx: ControlTx,
    closed: bool,
}

impl Link {
    /// Begins to listen.
    pub(super) fn new(ring: &mut impl Ring, socket: OwnedFd, lines: &mut Pool) -> Link {
        let fd = socket.as_raw_fd();
        let mut line = || lines.take().expect("there are lines for both directions");
        let mut rx = ControlRx::new(fd, Duty::Hear.tag(), line());
        let tx = ControlTx::new(fd, Duty::Speak.tag(), line());
        rx.resume(ring);
        Link { socket, rx, tx, closed: false }
    }

    fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Sends what `next` gives, unless something is being sent.
    pub(super) fn speak(&mut self, ring: &mut impl Ring, next: impl FnMut() -> Option<Control>) {
        if self.tx.is_idle() {
            self.tx.send(ring, next);
        }
    }

    /// Whether all that was said has been taken by the socket.
    pub(super) fn has_spoken(&self) -> bool {
        self.tx.is_idle()
    }

    /// Whether the peer has closed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn on_spoken(
        &mut self,
        ring: &mut impl Ring,
        lease: Option<Lease>,
        result: Result<usize, Errno>,
        phase: Phase,
    ) -> Result<(), Error> {
        let lost = |errno| PeerError::Lost { place: Place::Control, phase, errno };
        Ok(self.tx.on_sent(ring, lease, result).map_err(lost)?)
    }

    /// Bytes came: hands each message to `take`, then listens on. Messages that came before the end are taken first.
    pub(super) fn on_heard(
        &mut self,
        ring: &mut impl Ring,
        line: Slot,
        result: Result<usize, Errno>,
        phase: Phase,
        mut take: impl FnMut(Control) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let place = Place::Control;
        let heard = self.rx.on_received(line, result);
        self.closed |= !matches!(heard, Ok(true));
        let malformed = |what| Error::from(PeerError::Malformed { place, what });
        let taken = self.take_all(malformed, &mut take);
        // it listens on whatever the messages were: the peer's end must be heard, too
        let ended = match heard {
            Ok(true) => {
                self.rx.resume(ring);
                return taken;
            }
            Ok(false) if self.rx.is_cut() => malformed(crate::wire::Malformed::Truncated),
            Ok(false) => PeerError::Closed { place, phase }.into(),
            Err(errno) => PeerError::Lost { place, phase, errno }.into(),
        };
        taken.and(Err(ended))
    }

    fn take_all(
        &mut self,
        malformed: impl Fn(crate::wire::Malformed) -> Error,
        take: &mut impl FnMut(Control) -> Result<(), Error>,
    ) -> Result<(), Error> {
        while let Some(message) = self.rx.message().map_err(&malformed)? {
            take(message)?;
        }
        Ok(())
    }

    /// Says no more, but still listens.
    pub(super) fn say_goodbye(&mut self, ring: &mut impl Ring) {
        ring.shut_down(self.fd(), Directions::Sending);
    }

    pub(super) fn shut_down(&mut self, ring: &mut impl Ring) {
        ring.shut_down(self.fd(), Directions::Both);
    }
}

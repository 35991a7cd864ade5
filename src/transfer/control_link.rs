//! The control connection, both directions.

use crate::buffer::{Lease, Pool, Slot};
use crate::channel::{ControlRx, ControlTx};
use crate::error::{Errno, Error, PeerError, Place};
use crate::net::Connection;
use crate::phase::Phase;
use crate::ring::{Directions, Ring};
use crate::wire::{AbortCode, Control};
use crate::worker::ending;
use crate::worker::event_loop::Loop;
use crate::worker::operation::Operation;

/// A data connection that fails is often the second sign of a failure whose reason is on the control connection.
pub(super) fn await_abort_reason<L: Loop>(owner: &mut L, error: Error, link: fn(&L) -> &Link) -> Error {
    let is_reason = |error: &Error| match error {
        Error::Peer(error) => error.is_last_word(),
        error => matches!(error, Error::Refused { .. }),
    };
    match &error {
        Error::Peer(sign) if sign.is_sign() => {
            ending::await_abort_reason(owner, error, is_reason, |owner| !link(owner).is_closed())
        }
        _ => error,
    }
}

/// What tells the peer that this side ends with an error.
pub(super) fn final_message(error: &Error) -> Control {
    match error {
        Error::Cancelled => Control::Cancel,
        other => Control::Abort { code: AbortCode::from(other).number(), text: other.to_string().into() },
    }
}

/// The control connection.
pub(super) struct Link {
    connection: Connection,
    rx: ControlRx,
    tx: ControlTx,
    closed: bool,
}

impl Link {
    /// Begins to receive.
    pub(super) fn new(ring: &mut impl Ring, connection: Connection, buffers: &mut Pool) -> Link {
        let mut link = Link::opened(connection, buffers, &[]);
        link.rx.resume(ring, link.connection.fd());
        link
    }

    /// A connection on which these bytes came already. It does not receive before [`begin`](Link::begin).
    pub(super) fn opened(connection: Connection, buffers: &mut Pool, opening: &[u8]) -> Link {
        let mut buffer = || buffers.take().expect("there are buffers for both directions");
        let rx = ControlRx::new(Operation::ControlReceive.tag(), buffer(), opening);
        let tx = ControlTx::new(Operation::ControlSend.tag(), buffer());
        Link { connection, rx, tx, closed: false }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Hands the messages that came already to `take`, and begins to receive.
    pub(super) fn begin(
        &mut self,
        ring: &mut impl Ring,
        mut take: impl FnMut(Control) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let taken = self.take_all(malformed, &mut take);
        self.rx.resume(ring, self.connection.fd());
        taken
    }

    /// Sends what `next` gives, unless something is being sent.
    pub(super) fn send(&mut self, ring: &mut impl Ring, next: impl FnMut() -> Option<Control>) {
        if self.tx.is_idle() {
            self.tx.send(ring, self.connection.fd(), next);
        }
    }

    /// Whether the socket has taken all that was given to it.
    pub(super) fn has_sent_all(&self) -> bool {
        self.tx.is_idle()
    }

    /// Whether the peer has closed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// A send ended.
    pub(super) fn on_sent(
        &mut self,
        ring: &mut impl Ring,
        lease: Option<Lease>,
        result: Result<usize, Errno>,
        phase: Phase,
    ) -> Result<(), Error> {
        let lost = |errno| PeerError::Lost { place: Place::Control, phase, errno };
        Ok(self.tx.on_sent(ring, self.connection.fd(), lease, result).map_err(lost)?)
    }

    /// Bytes came: hands each message to `take`, then receives on. Messages that came before the end are taken first.
    pub(super) fn on_received(
        &mut self,
        ring: &mut impl Ring,
        buffer: Slot,
        result: Result<usize, Errno>,
        phase: Phase,
        mut take: impl FnMut(Control) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let place = Place::Control;
        let received = self.rx.on_received(buffer, result);
        self.closed |= !matches!(received, Ok(true));
        let taken = self.take_all(malformed, &mut take);
        // it receives on whatever the messages were: the peer's end must be noticed, too
        let ended = match received {
            Ok(true) => {
                self.rx.resume(ring, self.connection.fd());
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

    /// Sends no more, but still receives.
    pub(super) fn end_sending(&mut self, ring: &mut impl Ring) {
        self.connection.shut_down(ring, Directions::Sending);
    }

    pub(super) fn shut_down(&mut self, ring: &mut impl Ring) {
        self.connection.shut_down(ring, Directions::Both);
    }
}

fn malformed(what: crate::wire::Malformed) -> Error {
    PeerError::Malformed { place: Place::Control, what }.into()
}

//! What both sides do alike when a transfer is over.

use crate::error::Error;
use crate::limits::{LINGER_MAX, REASON_PATIENCE};
use crate::ring::{Completion, Ring};
use crate::time::nanos;

/// A side whose transfer is over.
pub(crate) trait Ending {
    type Ring: Ring;

    fn ring(&mut self) -> &mut Self::Ring;

    /// Whether the peer has closed the connection that it says its last word on.
    fn peer_has_left(&self) -> bool;

    fn on_completion(&mut self, completion: Completion) -> Result<(), Error>;

    /// Takes completions when errors do not matter any more.
    fn drain(&mut self) {
        while let Some(completion) = self.ring().next() {
            let _ = self.on_completion(completion);
        }
    }

    /// A data connection that fails is often the second sign of a failure whose reason is on the control connection.
    fn hear_reason(&mut self, error: Error) -> Error {
        let is_sign = matches!(&error, Error::Peer(error) if error.is_sign());
        let end = self.ring().now() + nanos(REASON_PATIENCE);
        while is_sign && !self.peer_has_left() && self.ring().now() < end {
            if self.ring().wait(Some(end)).is_err() {
                break;
            }
            while let Some(completion) = self.ring().next() {
                match self.on_completion(completion) {
                    Err(Error::Peer(reason)) if reason.is_last_word() => return reason.into(),
                    Err(reason @ Error::Refused { .. }) => return reason,
                    Ok(()) | Err(_) => {}
                }
            }
        }
        error
    }

    /// Waits a little for the peer to close (P-42): a connection that is closed with bytes unread is reset, and the last word
    /// with it.
    fn linger(&mut self) {
        let end = self.ring().now() + nanos(LINGER_MAX);
        while !self.peer_has_left() && self.ring().now() < end && self.ring().wait(Some(end)).is_ok() {
            self.drain();
        }
    }
}

//! Sockets: making and tuning them, the hello on each, and the listener that turns connections into a session.
//!
//! It knows nothing of what a [`Connection`] carries. Only `listener`, which listens and connects, knows tokio and
//! tokio-uring; without that feature an embedder hands connected sockets over.

mod connection;
mod connections;
mod hello;
mod host;
#[cfg(feature = "listener")]
pub(crate) mod listener;
pub(crate) mod socket;
pub(crate) mod sockets;

pub(crate) use connection::Connection;
pub(crate) use connections::Connections;
#[cfg(feature = "listener")]
pub use listener::Listener;

/// While it lives, a listener rejects other sessions.
#[cfg(feature = "listener")]
pub(crate) use listener::Busy;
/// Without a listener there is no other session to reject.
#[cfg(not(feature = "listener"))]
#[derive(Debug)]
pub(crate) enum Busy {}

#[cfg(not(feature = "listener"))]
impl Busy {
    pub(crate) fn agreed(&self) {
        match *self {}
    }
}

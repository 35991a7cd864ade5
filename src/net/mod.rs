//! Sockets: making and tuning them, and the rendezvous that turns connections into a session.
//!
//! The only room that knows tokio. What a [`Connection`] carries is no concern of this room.

mod connection;
pub(crate) mod listener;
pub(crate) mod socket;

pub(crate) use connection::Connection;
pub use listener::Listener;

//! Sockets: making and tuning them, and the listener that turns connections into a session.
//!
//! The only module that knows tokio. It knows nothing of what a [`Connection`] carries.

mod connection;
pub(crate) mod listener;
pub(crate) mod socket;

pub(crate) use connection::Connection;
pub use listener::Listener;

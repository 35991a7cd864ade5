//! Sockets: making and tuning them, and the rendezvous that turns connections into a session.
//!
//! The only room that knows tokio. What a connection carries is no concern of this room.

pub(crate) mod listener;
pub(crate) mod socket;

pub use listener::Listener;

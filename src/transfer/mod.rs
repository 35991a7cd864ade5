//! The native transfer: it brings sources, sinks, sessions, channels and rings together.
//!
//! [`Sender`] and [`Receiver`] mirror each other. Each runs one transfer on the thread that calls `run`: one worker,
//! with one ring, that owns every channel and device of its side. What blocks (a device's state changes) runs beside
//! it.

mod control_link;
mod least_loaded;
mod receive;
mod receiver;
mod send;
mod sender;
#[cfg(test)]
pub(crate) mod simulation;

pub use receiver::{Receiver, ReceiverBuilder};
pub use sender::{Sender, SenderBuilder};

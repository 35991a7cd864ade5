//! Stations 4, 5 and 6: one connection on a ring.
//!
//! [`Tx`] sends packets, [`Rx`] receives them, [`ControlTx`] and [`ControlRx`] do the same for messages. They move
//! bytes and slots and continue partial sends and receives ([`Outgoing`] and [`MessageRx`] also do this for other uses
//! of a connection). The session decides whether a packet is the right one, and what a message means.

mod control;
mod message_rx;
mod native;
mod outgoing;
mod rx;
mod tx;
mod zero_copy;

pub(crate) use control::{ControlRx, ControlTx};
pub(crate) use message_rx::MessageRx;
pub(crate) use native::Native;
pub(crate) use outgoing::{Outgoing, Progress};
pub(crate) use rx::{Frame, Framing, Rx, RxEvent};
pub(crate) use tx::{Tx, TxEvent};
pub use zero_copy::ZeroCopy;

#[cfg(test)]
pub(crate) mod tests;

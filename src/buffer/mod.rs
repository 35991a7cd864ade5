//! Station 2: the memory that packets live in.
//!
//! [`Pool`] is the only data memory of a transfer: made once, never grown. It hands out [`Slot`]s, and a slot is the right
//! to the bytes of one buffer: whoever holds it is their only owner, and who has given it away cannot touch them.
//! This folder knows nothing of packets' numbers, of sockets or of phases.

mod pool;
mod region;

pub(crate) use pool::Pool;
pub(crate) use region::{HugePages, InFlight, Lease, RegionId, Slot, stride};

//! Station 2: the memory that packets live in.
//!
//! [`Pool`] is the only data memory of a transfer: allocated once, never grown. It hands out [`Slot`]s. A slot is the
//! right to the bytes of one buffer: its holder is their only owner, and code that has given it away cannot touch them.
//! This module knows nothing of packets' numbers, of sockets or of phases.

mod pool;
mod region;

pub(crate) use pool::Pool;
pub(crate) use region::{HugePages, InFlight, Lease, RegionId, Slot, Spare, check_memory, stride};

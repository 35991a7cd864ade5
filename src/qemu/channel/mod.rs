//! QEMU's connections, on a ring.

mod main_rx;
mod multifd;

pub(crate) use main_rx::{MainRx, MainStep};
pub(crate) use multifd::Multifd;

#[cfg(test)]
mod tests;

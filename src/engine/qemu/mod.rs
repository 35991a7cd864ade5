//! QEMU at the other end: its connections, and what is done with them.
//!
//! A migration of QEMU's has one main connection and as many multifd connections as both sides were told; see
//! `docs/QEMU.md`. [`crate::wire::qemu`] knows the bytes.

mod ack;
mod answer;
mod capture;
mod extract;
mod gather;

pub use capture::{Capture, CaptureBuilder, Captured};
pub use extract::Extract;
pub use gather::Listener;

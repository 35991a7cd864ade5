//! QEMU at the other end: its connections, and what is done with them.
//!
//! A migration of QEMU's has one main connection and as many multifd connections as both sides were told; see
//! `docs/QEMU.md`. [`crate::wire::qemu`] knows the bytes.

mod answer;
pub mod capture;
mod channel;
mod connection_idx;
mod extract;
mod follow;
mod gather;
mod reader;
mod receive;
mod receiver;
mod record;
mod replay;
mod session;
mod tail;

pub use extract::Extract;
pub use gather::Listener;
pub use receiver::{Receiver, ReceiverBuilder};
pub use record::{Capture, CaptureBuilder, Captured};
pub use replay::{Answer, Pace, Replay, ReplayBuilder, Replayed};

use crate::error::Error;
use crate::report::AnswerReport;
use crate::time::Nanos;
use crate::wire::qemu::Reply;

/// How a report calls an end.
fn outcome(error: Option<&Error>) -> &'static str {
    match error {
        None => "complete",
        Some(Error::Cancelled) => "cancelled",
        Some(_) => "failed",
    }
}

/// An answer on the return path, as a report has it.
fn answer_report(&(reply, at): &(Reply, Nanos), began_at: Nanos) -> AnswerReport {
    let (message, value) = match reply {
        Reply::Shut(value) => ("shut", Some(value)),
        Reply::Pong(value) => ("pong", Some(value)),
        Reply::SwitchoverAck => ("switchover_ack", None),
        Reply::Other { .. } => ("other", None),
    };
    AnswerReport { message, value, at_ns: at.saturating_sub(began_at) }
}

/// Bytes per second.
#[expect(clippy::cast_precision_loss, reason = "a rate of 2^53 bytes per second is far off")]
fn rate(bytes: u64, ns: u64) -> f64 {
    if ns == 0 { 0.0 } else { bytes as f64 * 1e9 / ns as f64 }
}

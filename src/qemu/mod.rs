//! Migrations with a QEMU at the other end: receiving, recording, replaying and inspecting them.
//!
//! A QEMU migration has one main connection and as many multifd connections as both sides are configured for; see
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
use crate::report::{self, AnswerReport, StreamOutcome};
use crate::time::Nanos;
use crate::wire::qemu::Reply;

/// The outcome that a report gives for this error.
fn outcome(error: Option<&Error>) -> StreamOutcome {
    match error {
        None => StreamOutcome::Complete,
        Some(Error::Cancelled) => StreamOutcome::Cancelled,
        Some(_) => StreamOutcome::Failed,
    }
}

/// An answer on the return path, in a report's form.
fn answer_report(&(reply, at): &(Reply, Nanos), began_at: Nanos) -> AnswerReport {
    let (message, value) = match reply {
        Reply::Shut(value) => (report::Answer::Shut, Some(value)),
        Reply::Pong(value) => (report::Answer::Pong, Some(value)),
        Reply::SwitchoverAck => (report::Answer::SwitchoverAck, None),
        Reply::Other { .. } => (report::Answer::Other, None),
    };
    AnswerReport { message, value, at_ns: at.saturating_sub(began_at) }
}

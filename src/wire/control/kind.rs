//! The kinds of control message: their numbers, names and lengths. Knows no body.

use std::fmt;

use super::figures::{PIECE_MAX, PIECE_MIN, PING_LEN, PONG_LEN, WARM_UP_LEN};
use super::offer::{OFFER_MAX, OFFER_MIN};
use super::{CreditLayout, LoadedLayout, REASON_MAX, REASON_MIN};
use crate::wire::Malformed;

/// Which message, by its number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
#[non_exhaustive]
pub enum ControlKind {
    /// [`Control::Offer`](super::Control::Offer).
    Offer = 1,
    /// [`Control::Accept`](super::Control::Accept).
    Accept = 2,
    /// [`Control::Refuse`](super::Control::Refuse).
    Refuse = 3,
    /// [`Control::Ready`](super::Control::Ready).
    Ready = 4,
    /// [`Control::Credit`](super::Control::Credit).
    Credit = 5,
    /// [`Control::Switchover`](super::Control::Switchover).
    Switchover = 6,
    /// [`Control::Loaded`](super::Control::Loaded).
    Loaded = 7,
    /// [`Control::Commit`](super::Control::Commit).
    Commit = 8,
    /// [`Control::Committed`](super::Control::Committed).
    Committed = 9,
    /// [`Control::Abort`](super::Control::Abort).
    Abort = 10,
    /// [`Control::Cancel`](super::Control::Cancel).
    Cancel = 11,
    /// [`Control::Heartbeat`](super::Control::Heartbeat).
    Heartbeat = 12,
    /// [`Control::Ping`](super::Control::Ping).
    Ping = 13,
    /// [`Control::Pong`](super::Control::Pong).
    Pong = 14,
    /// [`Control::Report`](super::Control::Report).
    Report = 15,
    /// [`Control::WarmUp`](super::Control::WarmUp).
    WarmUp = 16,
}

impl ControlKind {
    const ALL: [ControlKind; 16] = [
        ControlKind::Offer,
        ControlKind::Accept,
        ControlKind::Refuse,
        ControlKind::Ready,
        ControlKind::Credit,
        ControlKind::Switchover,
        ControlKind::Loaded,
        ControlKind::Commit,
        ControlKind::Committed,
        ControlKind::Abort,
        ControlKind::Cancel,
        ControlKind::Heartbeat,
        ControlKind::Ping,
        ControlKind::Pong,
        ControlKind::Report,
        ControlKind::WarmUp,
    ];

    /// The number on the wire.
    pub fn code(self) -> u16 {
        self as u16
    }

    /// P-10: an unknown number is rejected.
    pub(super) fn of(code: u16) -> Result<ControlKind, Malformed> {
        let found = ControlKind::ALL.into_iter().find(|kind| kind.code() == code);
        found.ok_or(Malformed::Value { field: "kind", found: code.into() })
    }

    /// The message's name, for errors.
    pub fn name(self) -> &'static str {
        match self {
            ControlKind::Offer => "offer",
            ControlKind::Accept => "accept",
            ControlKind::Refuse => "refuse",
            ControlKind::Ready => "ready",
            ControlKind::Credit => "credit",
            ControlKind::Switchover => "switchover",
            ControlKind::Loaded => "loaded",
            ControlKind::Commit => "commit",
            ControlKind::Committed => "committed",
            ControlKind::Abort => "abort",
            ControlKind::Cancel => "cancel",
            ControlKind::Heartbeat => "heartbeat",
            ControlKind::Ping => "ping",
            ControlKind::Pong => "pong",
            ControlKind::Report => "report",
            ControlKind::WarmUp => "warm-up",
        }
    }

    /// The smallest and the largest body in bytes.
    pub(super) fn body_bounds(self) -> (usize, usize) {
        let exactly = |len| (len, len);
        match self {
            ControlKind::Offer => (OFFER_MIN, OFFER_MAX),
            ControlKind::Refuse | ControlKind::Abort => (REASON_MIN, REASON_MAX),
            ControlKind::Credit => exactly(size_of::<CreditLayout>()),
            ControlKind::Loaded => exactly(size_of::<LoadedLayout>()),
            ControlKind::Accept | ControlKind::Ready | ControlKind::Switchover => exactly(0),
            ControlKind::Commit | ControlKind::Committed => exactly(0),
            ControlKind::Cancel | ControlKind::Heartbeat => exactly(0),
            ControlKind::Ping => exactly(PING_LEN),
            ControlKind::Pong => exactly(PONG_LEN),
            ControlKind::Report => (PIECE_MIN, PIECE_MAX),
            ControlKind::WarmUp => exactly(WARM_UP_LEN),
        }
    }
}

impl fmt::Display for ControlKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

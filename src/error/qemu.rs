//! Protocol violations by a QEMU peer.

use std::fmt;

use super::{CaptureProblem, Errno, ErrorCode, PacketProblem, Place, StreamPart, UnexpectedState};
use crate::limits;
use crate::wire::Malformed;

/// A protocol violation by a QEMU peer, or by a peer that turned out not to be QEMU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QemuError {
    /// Invalid bytes.
    #[error("{place}, offset {offset}: {what}")]
    Malformed {
        /// On which connection.
        place: Place,
        /// Where the packet or section with them begins.
        offset: u64,
        /// What was wrong.
        what: Malformed,
    },
    /// A connection that sent nothing to identify it.
    #[error("it said nothing for {} s", limits::GATHER_TIMEOUT.as_secs())]
    Silent,
    /// Two connections that claim the same place.
    #[error("two connections say that they are {place}")]
    Twice {
        /// Which.
        place: Place,
    },
    /// A multifd connection beyond the number that was expected.
    #[error("a connection says that it is multifd channel {id}, and {channels} were expected, from 0 on")]
    BeyondLast {
        /// Its number.
        id: u8,
        /// Connections that were expected.
        channels: usize,
    },
    /// Connections from two virtual machines.
    #[error("{place} comes from virtual machine {found}, another connection from {expected}")]
    OtherMachine {
        /// Which connection.
        place: Place,
        /// The virtual machine that it comes from.
        found: Uuid,
        /// The virtual machine that the others come from.
        expected: Uuid,
    },
    /// Some connections did not arrive in time.
    #[error(
        "{came} of {channels} multifd connections{} came within {} s",
        if *.main { "" } else { " and not a word of the main connection" },
        limits::GATHER_TIMEOUT.as_secs()
    )]
    Gather {
        /// Whether the main connection arrived.
        main: bool,
        /// Multifd connections that arrived.
        came: usize,
        /// Multifd connections that were expected.
        channels: usize,
    },
    /// A connection that ends in the middle of something.
    #[error("{place} ended at offset {offset}, within {within}")]
    Cut {
        /// Which connection.
        place: Place,
        /// Bytes that arrived.
        offset: u64,
        /// What was incomplete.
        within: StreamPart,
    },
    /// A connection that does not end where it should.
    #[error("{place} is at offset {offset}, and that is not its end")]
    Unended {
        /// Which connection.
        place: Place,
        /// Bytes that arrived.
        offset: u64,
    },
    /// A connection that ended while something was missing.
    #[error("{place} ended at offset {offset}, and something is missing: {missing}")]
    Left {
        /// Which connection.
        place: Place,
        /// Bytes that arrived.
        offset: u64,
        /// What is missing, in a sentence.
        missing: Box<str>,
    },
    /// A packet that is out of order.
    #[error("{place}, offset {offset}: device {device}: packet {idx} came {problem}")]
    Order {
        /// On which connection.
        place: Place,
        /// Where the packet begins.
        offset: u64,
        /// The device.
        device: Box<str>,
        /// The packet's number.
        idx: u32,
        /// What was wrong with it.
        problem: PacketProblem,
    },
    /// A packet that never came.
    #[error("device {device}: packet {idx} never came")]
    Missing {
        /// The device.
        device: Box<str>,
        /// The first packet that is missing.
        idx: u64,
    },
    /// Barriers that do not fit together.
    #[error(
        "{place} has {found} SYNC packets, and {expected} belong there: one for each flush of the main connection"
    )]
    Sync {
        /// On which connection.
        place: Place,
        /// How many arrived.
        found: u64,
        /// How many were expected.
        expected: u64,
    },
    /// More devices than a machine can have.
    #[error("{place} brings more than {} devices", limits::DEVICES_MAX)]
    TooManyDevices {
        /// The connection with the one too many.
        place: Place,
    },
    /// The source keeps pinging but never reads the replies.
    #[error("the source waits for more than {} answers and reads none", limits::QEMU_ANSWERS_MAX)]
    TooManyAnswers,
    /// The destination closed a connection early.
    #[error(
        "the destination closed {place} when {sent} of its {total} bytes were sent{}",
        errno.map_or(String::new(), |errno| format!(": {errno}"))
    )]
    DestinationLeft {
        /// Which connection.
        place: Place,
        /// Bytes that this host's kernel had accepted for sending.
        sent: u64,
        /// Bytes that were to be sent.
        total: u64,
        /// The kernel's error number, unless the connection was closed in order.
        errno: Option<Errno>,
    },
    /// The destination reported failure.
    #[error(
        "the destination {} (SHUT {value}) when {sent} of {total} bytes were sent",
        if *.value == 0 { "said that it has everything" } else { "could not load the state" }
    )]
    DestinationShut {
        /// 0 means that everything was loaded.
        value: u32,
        /// Bytes of all connections that this host's kernel had accepted for sending.
        sent: u64,
        /// Bytes that were to be sent.
        total: u64,
    },
    /// The destination sent bytes on a connection that carries none from it.
    #[error("the destination sent something on {place}, where it has nothing to say")]
    Unasked {
        /// Which connection.
        place: Place,
    },
    /// Something that the source must not send there.
    #[error("device {device}: the source sent {what}")]
    Unexpected {
        /// The device.
        device: Box<str>,
        /// What came, and why it is wrong.
        what: UnexpectedState,
    },
    /// Every connection holds a packet that must wait for the same missing one.
    #[error(
        "device {device}: packet {idx} is behind later ones on every multifd channel, and they wait for it"
    )]
    Disorder {
        /// The device.
        device: Box<str>,
        /// The packet's number.
        idx: u64,
    },
    /// More state of other devices than this crate keeps for examination.
    #[error("the sections behind the live ones have more than {} MiB", limits::QEMU_TAIL_MAX >> 20)]
    LongTail,
    /// The sections after the live ones differ from their description.
    #[error("the sections behind the live ones, byte {offset}: {problem}")]
    Tail {
        /// Where in them.
        offset: u64,
        /// What is wrong there.
        problem: Box<CaptureProblem>,
    },
}

impl QemuError {
    pub(super) fn hint(&self) -> &'static str {
        match self {
            QemuError::Malformed { place: Place::New, .. } | QemuError::Silent => {
                "only the connections of a QEMU that migrates belong here: check who knows this address"
            }
            QemuError::Malformed { .. } | QemuError::TooManyDevices { .. } | QemuError::TooManyAnswers => {
                "QEMU 10.0 to 10.2 with multifd and without compression or postcopy is understood"
            }
            QemuError::Twice { .. } | QemuError::OtherMachine { .. } => {
                "two migrations may have been sent to this address: cancel one of them"
            }
            QemuError::Cut { .. }
            | QemuError::Unended { .. }
            | QemuError::Left { .. }
            | QemuError::Order { .. }
            | QemuError::Unexpected { .. }
            | QemuError::Disorder { .. }
            | QemuError::Missing { .. }
            | QemuError::Sync { .. } => {
                "the source gave up or is broken: look at its own message, and at the network between"
            }
            QemuError::DestinationLeft { .. } | QemuError::DestinationShut { .. } => {
                "look at the destination's log: its machine type, memory, devices with their addresses and number of multifd channels must be those of the source"
            }
            QemuError::Unasked { .. } => "check that it is a QEMU that waits for a migration there",
            QemuError::LongTail | QemuError::Tail { .. } => {
                "let the device's state travel on the multifd channels: x-migration-multifd-transfer=on"
            }
            QemuError::BeyondLast { .. } | QemuError::Gather { .. } => {
                "expect as many multifd connections as the source's multifd-channels, and 0 if its multifd capability is off"
            }
        }
    }
}

/// A virtual machine's UUID; zeros when it has none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Uuid(pub [u8; 16]);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<&QemuError> for ErrorCode {
    fn from(error: &QemuError) -> ErrorCode {
        match error {
            QemuError::Malformed { .. } => ErrorCode::QemuMalformed,
            QemuError::Silent => ErrorCode::QemuSilent,
            QemuError::Twice { .. } => ErrorCode::QemuTwice,
            QemuError::BeyondLast { .. } => ErrorCode::QemuBeyondLast,
            QemuError::OtherMachine { .. } => ErrorCode::QemuOtherMachine,
            QemuError::Gather { .. } => ErrorCode::QemuGather,
            QemuError::Cut { .. } => ErrorCode::QemuCut,
            QemuError::Unended { .. } => ErrorCode::QemuUnended,
            QemuError::Left { .. } => ErrorCode::QemuLeft,
            QemuError::Order { .. } => ErrorCode::QemuOrder,
            QemuError::Missing { .. } => ErrorCode::QemuMissing,
            QemuError::Sync { .. } => ErrorCode::QemuSync,
            QemuError::TooManyDevices { .. } => ErrorCode::QemuTooManyDevices,
            QemuError::TooManyAnswers => ErrorCode::QemuTooManyAnswers,
            QemuError::DestinationLeft { .. } => ErrorCode::QemuDestinationLeft,
            QemuError::DestinationShut { .. } => ErrorCode::QemuDestinationShut,
            QemuError::Unasked { .. } => ErrorCode::QemuUnasked,
            QemuError::Unexpected { .. } => ErrorCode::QemuUnexpected,
            QemuError::Disorder { .. } => ErrorCode::QemuDisorder,
            QemuError::LongTail => ErrorCode::QemuLongTail,
            QemuError::Tail { .. } => ErrorCode::QemuTail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_shown_in_five_groups() {
        let uuid = Uuid(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f_u128.to_be_bytes());
        assert_eq!(uuid.to_string(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }

    #[test]
    fn what_did_not_come_is_told() {
        let gather = |main, came| QemuError::Gather { main, came, channels: 2 }.to_string();
        assert_eq!(gather(true, 1), "1 of 2 multifd connections came within 10 s");
        assert_eq!(
            gather(false, 2),
            "2 of 2 multifd connections and not a word of the main connection came within 10 s"
        );
    }
}

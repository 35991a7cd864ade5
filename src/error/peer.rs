//! The peer broke the protocol, fell silent or went away. Knows no descriptor and no clock; keeps that what the peer did is
//! a value that can be matched, and that words are made of it in `Display` alone.

use std::fmt;

use super::{Errno, QemuError};
use crate::limits;
use crate::phase::Phase;
use crate::wire::ControlKind;

/// The peer broke the protocol, fell silent or went away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// Bytes that are no message of this protocol.
    #[error("the peer sent what is no message of this protocol on {place}: {what}")]
    Malformed {
        /// On which connection.
        place: Place,
        /// What was wrong.
        what: crate::wire::Malformed,
    },
    /// A well-formed message at the wrong time.
    #[error("the peer sent {message} {}", phase.during())]
    Unexpected {
        /// Which message.
        message: ControlKind,
        /// What this side was doing.
        phase: Phase,
    },
    /// A welcome to a session that this side did not ask for.
    #[error("the peer answered the hello on {place} with a welcome to another session")]
    WrongSession {
        /// On which connection.
        place: Place,
    },
    /// Credit that cannot be right.
    #[error("device {device}: the peer sent {problem}")]
    Credit {
        /// The device's number, as the peer sent it.
        device: u32,
        /// What was wrong with it.
        problem: CreditProblem,
    },
    /// A packet outside the order that the protocol promises.
    #[error("device {device}: the peer sent packet {idx} {problem}")]
    Order {
        /// The device's number in this session.
        device: u32,
        /// The packet's number.
        idx: u64,
        /// What was wrong with it.
        problem: OrderProblem,
    },
    /// Payload that is not what was sent.
    #[error(
        "device {device}: packet {idx} arrived damaged on {place} (CRC32C {found:08x}, expected {expected:08x})"
    )]
    Checksum {
        /// The device's number in this session.
        device: u32,
        /// The packet's number.
        idx: u64,
        /// On which connection.
        place: Place,
        /// Of the bytes that arrived.
        found: u32,
        /// In the packet's header.
        expected: u32,
    },
    /// The receiver says that it got something else than was sent.
    #[error(
        "device {device}: the receiver reports {found_bytes} bytes with CRC32C {found_crc32c:08x}, sent were {sent_bytes} with {sent_crc32c:08x}"
    )]
    LoadedDiffers {
        /// The device's number in this session.
        device: u32,
        /// As the receiver reports.
        found_bytes: u64,
        /// As the receiver reports.
        found_crc32c: u32,
        /// As this side counted.
        sent_bytes: u64,
        /// As this side counted.
        sent_crc32c: u32,
    },
    /// A connection ended in the middle.
    #[error("the peer closed {place} {}", phase.during())]
    Closed {
        /// Which connection.
        place: Place,
        /// What this side was doing.
        phase: Phase,
    },
    /// A connection failed.
    #[error("{place} failed {}: {errno}", phase.during())]
    Lost {
        /// Which connection.
        place: Place,
        /// What this side was doing.
        phase: Phase,
        /// The kernel's word.
        errno: Errno,
    },
    /// No word for too long.
    #[error("the peer has said nothing for {} s {}", limits::SILENCE_MAX.as_secs(), phase.during())]
    Silent {
        /// What this side was doing.
        phase: Phase,
    },
    /// Words, but no progress for too long.
    #[error("no data has moved for {} s {}", limits::STANDSTILL_MAX.as_secs(), phase.during())]
    Standstill {
        /// What this side was doing.
        phase: Phase,
    },
    /// Hello was not answered in time.
    #[error("no answer to the hello on {place} within {} s", limits::HELLO_TIMEOUT.as_secs())]
    HelloTimeout {
        /// Which connection.
        place: Place,
    },
    /// Not every data connection came in time.
    #[error("only {came} of {channels} data connections came within {} s", limits::GATHER_TIMEOUT.as_secs())]
    GatherTimeout {
        /// How many came.
        came: usize,
        /// How many were announced.
        channels: usize,
    },
    /// The peer gave up and said why.
    #[error("the peer aborted: {text}")]
    Aborted {
        /// The peer's words, made printable.
        text: Box<str>,
    },
    /// A QEMU at the other end did what it must not.
    #[error(transparent)]
    Qemu(#[from] QemuError),
    /// The peer's owner cancelled.
    #[error("the peer cancelled")]
    Cancelled,
}

impl PeerError {
    /// Whether it may be the second sign of a failure whose reason is on the control connection.
    pub(crate) fn is_sign(&self) -> bool {
        matches!(self, PeerError::Lost { .. } | PeerError::Closed { place: Place::Channel(_), .. })
    }

    /// Whether the peer itself said that it is over.
    pub(crate) fn is_last_word(&self) -> bool {
        matches!(self, PeerError::Aborted { .. } | PeerError::Cancelled)
    }

    pub(super) fn hint(&self) -> Option<&'static str> {
        Some(match self {
            PeerError::Malformed { .. }
            | PeerError::Unexpected { .. }
            | PeerError::WrongSession { .. }
            | PeerError::Credit { .. }
            | PeerError::Order { .. } => {
                "the other end is no ringlift, or a broken one: check the address and the versions"
            }
            PeerError::Checksum { .. } | PeerError::LoadedDiffers { .. } => {
                "something between the hosts changes bytes: check NIC offloads and memory"
            }
            PeerError::Closed { .. } | PeerError::Lost { .. } => {
                "look at the other side's message, and at the network between"
            }
            PeerError::Silent { .. } | PeerError::Standstill { .. } => {
                "the other side hangs, or the network between is cut"
            }
            PeerError::HelloTimeout { .. } => {
                "check that a receiver is listening there and that no firewall blocks the port"
            }
            PeerError::GatherTimeout { .. } => "a firewall may let one connection through, but not several",
            PeerError::Aborted { .. } => "the other side's own message says more",
            PeerError::Qemu(error) => error.hint(),
            PeerError::Cancelled => return None,
        })
    }
}

/// Why a packet does not belong where its number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OrderProblem {
    /// It came before.
    Duplicate,
    /// It is past the limit.
    BeyondCredit,
    /// It is past the config packet.
    AfterConfig,
    /// A config packet came already.
    SecondConfig,
    /// It is a config packet, and data past it came already.
    ConfigBeforeData,
}

impl OrderProblem {
    /// In words that follow "the peer sent packet 5".
    pub(crate) fn words(self) -> &'static str {
        match self {
            OrderProblem::Duplicate => "twice",
            OrderProblem::BeyondCredit => "without credit for it",
            OrderProblem::AfterConfig => "after the config packet",
            OrderProblem::SecondConfig => "as a second config packet",
            OrderProblem::ConfigBeforeData => "as config packet, but data after it",
        }
    }
}

impl fmt::Display for OrderProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// Why credit cannot be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CreditProblem {
    /// No device of the session has this number.
    UnknownDevice,
    /// The limit is lower than the one before.
    Shrinks,
}

impl fmt::Display for CreditProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CreditProblem::UnknownDevice => "credit for a device that does not exist",
            CreditProblem::Shrinks => "a credit limit that shrinks",
        })
    }
}

/// Which connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The control connection.
    Control,
    /// Data connection number n.
    Channel(u16),
    /// QEMU's main connection.
    Main,
    /// QEMU's multifd connection number n.
    Multifd(u8),
    /// A connection that has not said yet what it is.
    New,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Control => f.write_str("the control connection"),
            Place::Channel(number) => write!(f, "channel {number}"),
            Place::Main => f.write_str("the main connection"),
            Place::Multifd(number) => write!(f, "multifd channel {number}"),
            Place::New => f.write_str("a new connection"),
        }
    }
}

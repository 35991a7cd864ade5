//! The peer broke the protocol, fell silent or went away. Knows no descriptor and no clock. What the peer did is a
//! value that can be matched, and only `Display` turns it into text.

use std::fmt;

use super::{Errno, QemuError};
use crate::limits;
use crate::phase::Phase;
use crate::wire::{AbortCode, ControlKind};

/// The peer broke the protocol, fell silent or went away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// Bytes that are not a message of this protocol.
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
    /// A welcome to another session than the one this side asked for.
    #[error("the peer answered the hello on {place} with a welcome to another session")]
    WrongSession {
        /// On which connection.
        place: Place,
    },
    /// Invalid credit.
    #[error("device {device}: the peer sent {problem}")]
    Credit {
        /// The device's number, as the peer sent it.
        device: u32,
        /// What was wrong with it.
        problem: CreditProblem,
    },
    /// A packet outside the order that the protocol guarantees.
    #[error("device {device}: the peer sent packet {idx} {problem}")]
    Order {
        /// The device's number in this session.
        device: u32,
        /// The packet's number.
        idx: u64,
        /// What was wrong with it.
        problem: OrderProblem,
    },
    /// The payload differs from what was sent.
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
        /// CRC32C of the bytes that arrived.
        found: u32,
        /// CRC32C in the packet's header.
        expected: u32,
    },
    /// The receiver reports other state than was sent.
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
    /// The peer closed a connection before the transfer was over.
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
        /// The kernel's error number.
        errno: Errno,
    },
    /// The peer sent nothing for too long.
    #[error("the peer has said nothing for {} s {}", limits::SILENCE_MAX.as_secs(), phase.during())]
    Silent {
        /// What this side was doing.
        phase: Phase,
    },
    /// Messages arrived, but nothing progressed for too long.
    #[error("no data has moved for at least {} s {}", limits::STANDSTILL_MAX.as_secs(), phase.during())]
    Standstill {
        /// What this side was doing.
        phase: Phase,
    },
    /// The hello was not answered in time.
    #[error("no answer to the hello on {place} within {} s", limits::HELLO_TIMEOUT.as_secs())]
    HelloTimeout {
        /// Which connection.
        place: Place,
    },
    /// Some data connections did not arrive in time.
    #[error("only {came} of {channels} data connections came within {} s", limits::GATHER_TIMEOUT.as_secs())]
    GatherTimeout {
        /// How many arrived.
        came: usize,
        /// How many were announced.
        channels: usize,
    },
    /// The settings did not arrive in time, whatever else did.
    #[error("the peer sent no settings within {} s", limits::AGREEMENT_MAX.as_secs())]
    AgreementTimeout,
    /// Too many connections or sessions were being set up, and this one had made no progress for longest.
    #[error("{place} was closed to make room for newer ones: nothing had come on it for longest")]
    Displaced {
        /// Which connection.
        place: Place,
    },
    /// The peer gave up and sent the reason.
    #[error("the peer aborted: {text}")]
    Aborted {
        /// What it blames.
        code: AbortCode,
        /// The peer's text, made printable.
        text: Box<str>,
    },
    /// A device of the receiver refused what was read in pre-copy: no device here was stopped for it.
    #[error("a device of the receiver refused the state that was read in pre-copy: {text}")]
    DeviceRefused {
        /// The peer's text, which names the device, made printable.
        text: Box<str>,
    },
    /// A protocol violation by a QEMU peer.
    #[error(transparent)]
    Qemu(#[from] QemuError),
    /// The sender's caller wanted a prediction, and no transfer.
    #[error("the sender made a dry run: it moved nothing")]
    DryRun,
    /// The peer's caller cancelled.
    #[error("the peer cancelled")]
    Cancelled,
}

impl PeerError {
    /// Whether this may be a symptom of a failure whose reason arrives on the control connection.
    pub(crate) fn is_sign(&self) -> bool {
        matches!(self, PeerError::Lost { .. } | PeerError::Closed { place: Place::Channel(_), .. })
    }

    /// Whether this is the peer's own final message: it ended the transfer itself.
    pub(crate) fn is_last_word(&self) -> bool {
        use PeerError::{Aborted, Cancelled, DeviceRefused, DryRun};
        matches!(self, Aborted { .. } | DeviceRefused { .. } | Cancelled | DryRun)
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
            PeerError::Silent { .. } | PeerError::Standstill { .. } | PeerError::AgreementTimeout => {
                "the other side hangs, or the network between is cut"
            }
            PeerError::HelloTimeout { .. } => {
                "check that a receiver is listening there and that no firewall blocks the port"
            }
            PeerError::GatherTimeout { .. } => "a firewall may let one connection through, but not several",
            PeerError::Displaced { .. } => {
                "something opens more connections than it uses: keep strangers off the port"
            }
            PeerError::Aborted { .. } => "the other side's own message says more",
            PeerError::DeviceRefused { .. } => {
                "no device here was stopped; both sides need the same device, driver and firmware"
            }
            PeerError::Qemu(error) => error.hint(),
            PeerError::Cancelled | PeerError::DryRun => return None,
        })
    }
}

/// Why a packet cannot have the number that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OrderProblem {
    /// A packet with this number came before.
    Duplicate,
    /// It is beyond the credit limit.
    BeyondCredit,
    /// It is after the config packet.
    AfterConfig,
    /// A config packet came before.
    SecondConfig,
    /// It is a config packet, and data after it came already.
    ConfigBeforeData,
}

/// Its text follows "the peer sent packet 5".
impl fmt::Display for OrderProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OrderProblem::Duplicate => "twice",
            OrderProblem::BeyondCredit => "without credit for it",
            OrderProblem::AfterConfig => "after the config packet",
            OrderProblem::SecondConfig => "as a second config packet",
            OrderProblem::ConfigBeforeData => "as config packet, but data after it",
        })
    }
}

/// Why credit is invalid.
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
    /// A connection that has not been identified yet.
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

//! Why two peers do not fit together. Knows no number: `wire` gives each reason the one that travels.

/// Why two peers do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No common protocol version.
    #[error("it speaks another protocol version")]
    Version,
    /// A feature bit that the receiver does not know.
    #[error("it does not know a feature that the other asked for")]
    Feature,
    /// Another session is running.
    #[error("it is busy with another transfer")]
    Busy,
    /// The session id is not the one of the session that is being set up.
    #[error("the connection belongs to no session here")]
    UnknownSession,
    /// A channel number that is taken or too large.
    #[error("the channel number is taken or out of range")]
    Channel,
    /// The sender offers a device that the receiver has no sink for, or the other way round.
    #[error("device {name} is on one side only")]
    DeviceMismatch {
        /// Its name.
        name: Box<str>,
    },
    /// Packet size, pool or checksum are outside the receiver's bounds.
    #[error("the settings ask for more than its limits allow: {text}")]
    Settings {
        /// Which, in the receiver's words.
        text: Box<str>,
    },
    /// The receiver could not get its devices or buffers ready.
    #[error("it could not get ready: {text}")]
    NotReady {
        /// What failed, in the receiver's words.
        text: Box<str>,
    },
    /// A reason that only a later version knows.
    #[error("its reason has number {code}, which this version does not know{}{text}", if text.is_empty() { "" } else { ": " })]
    Other {
        /// The number that travelled.
        code: u16,
        /// The other's words, may be empty.
        text: Box<str>,
    },
}

impl Refusal {
    pub(super) fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Refusal::Version | Refusal::Feature => "run the same version of ringlift on both sides",
            Refusal::Busy => "wait for the other transfer to end, or use another receiver",
            Refusal::UnknownSession | Refusal::Channel => {
                "something else connected to this port: check the address"
            }
            Refusal::DeviceMismatch { .. } => "give both sides the same device names",
            Refusal::Settings { .. } => "use a smaller packet size or pool",
            Refusal::NotReady { .. } => "look at the receiver's own message",
            Refusal::Other { .. } => "the other side is newer: its own message says more",
        })
    }
}

//! Why two peers do not fit together. The number travels, the sentence is ours.

/// Why two peers do not fit together. The number travels; the sentence is ours.
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
    /// The number that travels, never 0, and the words that go with it (`docs/PROTOCOL.md` has the table).
    pub fn to_wire(&self) -> (u16, &str) {
        match self {
            Refusal::Version => (1, ""),
            Refusal::Feature => (2, ""),
            Refusal::Busy => (3, ""),
            Refusal::UnknownSession => (4, ""),
            Refusal::Channel => (5, ""),
            Refusal::DeviceMismatch { name } => (6, name),
            Refusal::Settings { text } => (7, text),
            Refusal::NotReady { text } => (8, text),
            Refusal::Other { code, text } => (*code, text),
        }
    }

    /// From what travelled. A welcome has no words: its `text` is empty.
    pub fn from_wire(code: u16, text: &str) -> Refusal {
        match code {
            1 => Refusal::Version,
            2 => Refusal::Feature,
            3 => Refusal::Busy,
            4 => Refusal::UnknownSession,
            5 => Refusal::Channel,
            6 => Refusal::DeviceMismatch { name: text.into() },
            7 => Refusal::Settings { text: text.into() },
            8 => Refusal::NotReady { text: text.into() },
            _ => Refusal::Other { code, text: text.into() },
        }
    }

    pub(super) fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Refusal::Version | Refusal::Feature => "run the same version of ringlift on both sides",
            Refusal::Busy => "wait for the other transfer to end, or use another receiver",
            Refusal::UnknownSession | Refusal::Channel => {
                "something else connected to this port: check the address"
            }
            Refusal::DeviceMismatch { .. } => "give both sides the same device names",
            Refusal::Settings { .. } => "use a smaller --packet-size or --pool",
            Refusal::NotReady { .. } => "look at the receiver's own message",
            Refusal::Other { .. } => "the other side is newer: its own message says more",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_comes_back_from_the_wire_as_itself() {
        for code in 1..=9 {
            let refusal = Refusal::from_wire(code, "net0");
            let (again, text) = refusal.to_wire();
            assert_eq!(again, code);
            assert_eq!(Refusal::from_wire(again, text), refusal);
            assert_eq!(matches!(refusal, Refusal::Other { .. }), code == 9);
        }
    }

    #[test]
    fn a_refusal_of_a_later_version_can_still_be_shown() {
        assert_eq!(
            Refusal::from_wire(900, "moon phase").to_string(),
            "its reason has number 900, which this version does not know: moon phase"
        );
        assert_eq!(
            Refusal::from_wire(900, "").to_string(),
            "its reason has number 900, which this version does not know"
        );
    }
}

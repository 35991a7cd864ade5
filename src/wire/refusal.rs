//! Refusals on the wire: a number, and a text that belongs to some of them. Knows nothing of why a side refuses. Every
//! reason comes back from the wire as itself, and the number of a later version is kept.

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
        /// Which one, as the receiver's text.
        text: Box<str>,
    },
    /// The receiver could not get its devices or buffers ready.
    #[error("it could not get ready: {text}")]
    NotReady {
        /// What failed, as the receiver's text.
        text: Box<str>,
    },
    /// A reason that only a later version knows.
    #[error("its reason has number {code}, which this version does not know{}{text}", if text.is_empty() { "" } else { ": " })]
    Other {
        /// The number on the wire.
        code: u16,
        /// The other side's text, may be empty.
        text: Box<str>,
    },
}

/// The numbers of the reasons on the wire. 0 means welcome.
mod code {
    pub(super) const VERSION: u16 = 1;
    pub(super) const FEATURE: u16 = 2;
    pub(super) const BUSY: u16 = 3;
    pub(super) const UNKNOWN_SESSION: u16 = 4;
    pub(super) const CHANNEL: u16 = 5;
    pub(super) const DEVICE_MISMATCH: u16 = 6;
    pub(super) const SETTINGS: u16 = 7;
    pub(super) const NOT_READY: u16 = 8;
}

impl Refusal {
    /// The number on the wire, never 0, and the text that goes with it (`docs/PROTOCOL.md` has the table).
    pub fn to_wire(&self) -> (u16, &str) {
        match self {
            Refusal::Version => (code::VERSION, ""),
            Refusal::Feature => (code::FEATURE, ""),
            Refusal::Busy => (code::BUSY, ""),
            Refusal::UnknownSession => (code::UNKNOWN_SESSION, ""),
            Refusal::Channel => (code::CHANNEL, ""),
            Refusal::DeviceMismatch { name } => (code::DEVICE_MISMATCH, name),
            Refusal::Settings { text } => (code::SETTINGS, text),
            Refusal::NotReady { text } => (code::NOT_READY, text),
            Refusal::Other { code, text } => (*code, text),
        }
    }

    /// From the wire. A welcome has no text: `text` is empty.
    pub fn from_wire(code: u16, text: &str) -> Refusal {
        match code {
            code::VERSION => Refusal::Version,
            code::FEATURE => Refusal::Feature,
            code::BUSY => Refusal::Busy,
            code::UNKNOWN_SESSION => Refusal::UnknownSession,
            code::CHANNEL => Refusal::Channel,
            code::DEVICE_MISMATCH => Refusal::DeviceMismatch { name: text.into() },
            code::SETTINGS => Refusal::Settings { text: text.into() },
            code::NOT_READY => Refusal::NotReady { text: text.into() },
            _ => Refusal::Other { code, text: text.into() },
        }
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

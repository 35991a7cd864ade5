//! What an operation is for: travels with it as its tag.

use crate::ring::Tag;

/// What an operation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Reading or writing a device's state.
    State { device: usize },
    /// A state change or another step of a device, beside the loop.
    Step { device: usize },
    /// A packet on a data connection.
    Packet { channel: usize },
    /// Messages from the peer.
    Hear,
    /// Messages to the peer.
    Speak,
    /// What comes on a connection that says little: its end above all.
    Listen { connection: usize },
}

impl Duty {
    pub(crate) fn tag(self) -> Tag {
        let (kind, number) = match self {
            Duty::State { device } => (0, device),
            Duty::Step { device } => (1, device),
            Duty::Packet { channel } => (2, channel),
            Duty::Hear => (3, 0),
            Duty::Speak => (4, 0),
            Duty::Listen { connection } => (5, connection),
        };
        Tag((number as u64) << 8 | kind)
    }

    pub(crate) fn of(tag: Tag) -> Duty {
        let number = usize::try_from(tag.0 >> 8).expect("made from a usize");
        match tag.0 & 0xff {
            0 => Duty::State { device: number },
            1 => Duty::Step { device: number },
            2 => Duty::Packet { channel: number },
            3 => Duty::Hear,
            4 => Duty::Speak,
            _ => Duty::Listen { connection: number },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duty_survives_its_tag() {
        for duty in [
            Duty::State { device: 255 },
            Duty::Step { device: 7 },
            Duty::Packet { channel: 254 },
            Duty::Hear,
            Duty::Speak,
            Duty::Listen { connection: 255 },
        ] {
            assert_eq!(Duty::of(duty.tag()), duty);
        }
    }
}

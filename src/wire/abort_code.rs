//! The reason that an abort gives, as a number: `docs/PROTOCOL.md` has the same table.

/// What an abort blames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AbortCode {
    /// None of the kinds below.
    Other,
    /// The peer of the side that aborts: it broke the protocol, fell silent or went away.
    Peer,
    /// A device, or a captured stream.
    Device,
    /// The host of the side that aborts.
    Host,
    /// A deadline of the side that aborts, or its bound of the downtime.
    Deadline,
    /// No failure: the sender made a dry run.
    DryRun,
    /// A number that this version does not know.
    Unknown(u16),
}

impl AbortCode {
    /// The number on the wire.
    pub fn number(self) -> u16 {
        match self {
            AbortCode::Other => 0,
            AbortCode::Peer => 1,
            AbortCode::Device => 2,
            AbortCode::Host => 3,
            AbortCode::Deadline => 4,
            AbortCode::DryRun => 5,
            AbortCode::Unknown(number) => number,
        }
    }
}

impl From<u16> for AbortCode {
    fn from(number: u16) -> AbortCode {
        match number {
            0 => AbortCode::Other,
            1 => AbortCode::Peer,
            2 => AbortCode::Device,
            3 => AbortCode::Host,
            4 => AbortCode::Deadline,
            5 => AbortCode::DryRun,
            number => AbortCode::Unknown(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_survives_the_wire() {
        for number in [0, 1, 2, 3, 4, 5, 6, u16::MAX] {
            assert_eq!(AbortCode::from(number).number(), number);
        }
        assert_eq!(AbortCode::from(9), AbortCode::Unknown(9));
    }
}

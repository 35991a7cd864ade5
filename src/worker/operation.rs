//! What an operation is for: travels with it as its tag, and comes back with its completion.
//!
//! One pair of functions packs and unpacks tags. The numbers of devices, channels and connections are different things,
//! and each has variants of its own; nothing unpacks to a variant that was not packed.

use crate::numbers::{ChannelIdx, ConnectionIdx, DeviceIdx};
use crate::ring::Tag;

/// What an operation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Reading or writing a device's state.
    DeviceState { device: DeviceIdx },
    /// A state change or another step of a device, beside the loop.
    DeviceStep { device: DeviceIdx },
    /// Making the pool, beside the loop.
    MakePool,
    /// A packet on a data connection.
    Packet { channel: ChannelIdx },
    /// Messages from the peer.
    ControlReceive,
    /// Messages to the peer.
    ControlSend,
    /// Bytes from the peer on a connection of a captured stream; the main one is 0, channel n is n + 1.
    ConnectionReceive { connection: ConnectionIdx },
    /// Bytes to the peer on a connection of a captured stream.
    ConnectionSend { connection: ConnectionIdx },
    /// Reading or writing the file that a connection's bytes are kept in.
    ConnectionFile { connection: ConnectionIdx },
    /// A hook of the caller's, beside the loop. One at a time.
    Hook,
}

/// Bits of a tag that say which variant it is; the others are the number.
const KIND_BITS: u32 = 8;

impl Operation {
    pub(crate) fn tag(self) -> Tag {
        let (kind, number) = match self {
            Operation::DeviceState { device } => (0, device.index()),
            Operation::DeviceStep { device } => (1, device.index()),
            Operation::Packet { channel } => (2, channel.index()),
            Operation::ControlReceive => (3, 0),
            Operation::ControlSend => (4, 0),
            Operation::ConnectionReceive { connection } => (5, connection.index()),
            Operation::ConnectionSend { connection } => (6, connection.index()),
            Operation::ConnectionFile { connection } => (7, connection.index()),
            Operation::MakePool => (8, 0),
            Operation::Hook => (9, 0),
        };
        Tag((number as u64) << KIND_BITS | kind)
    }

    /// Whose tag it is. A ring gives tags back as they were, so one that no operation has is a bug of ours.
    pub(crate) fn of(tag: Tag) -> Operation {
        Operation::unpack(tag).expect("every tag is made by Operation::tag")
    }

    /// It ended as no operation of its kind ends here: a bug of ours.
    #[track_caller]
    #[expect(clippy::panic, reason = "an assertion that no value makes true")]
    pub(crate) fn misplaced(self) -> ! {
        panic!("{self:?} cannot end like this")
    }

    fn unpack(tag: Tag) -> Option<Operation> {
        let number = usize::try_from(tag.0 >> KIND_BITS).ok()?;
        Some(match tag.0 & ((1 << KIND_BITS) - 1) {
            0 => Operation::DeviceState { device: DeviceIdx::from_index(number) },
            1 => Operation::DeviceStep { device: DeviceIdx::from_index(number) },
            2 => Operation::Packet { channel: ChannelIdx::from_index(number) },
            3 => Operation::ControlReceive,
            4 => Operation::ControlSend,
            5 => Operation::ConnectionReceive { connection: ConnectionIdx::from_index(number) },
            6 => Operation::ConnectionSend { connection: ConnectionIdx::from_index(number) },
            7 => Operation::ConnectionFile { connection: ConnectionIdx::from_index(number) },
            8 => Operation::MakePool,
            9 => Operation::Hook,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_survives_its_tag() {
        for operation in [
            Operation::DeviceState { device: DeviceIdx(255) },
            Operation::DeviceStep { device: DeviceIdx(7) },
            Operation::Packet { channel: ChannelIdx(254) },
            Operation::ControlReceive,
            Operation::ControlSend,
            Operation::ConnectionReceive { connection: ConnectionIdx(255) },
            Operation::ConnectionSend { connection: ConnectionIdx(0) },
            Operation::ConnectionFile { connection: ConnectionIdx(1) },
            Operation::Hook,
        ] {
            assert_eq!(Operation::of(operation.tag()), operation);
        }
    }

    #[test]
    fn a_tag_that_no_operation_has_is_none() {
        assert_eq!(Operation::unpack(Tag(10)), None);
        assert_eq!(Operation::unpack(Tag(u64::MAX)), None);
    }
}

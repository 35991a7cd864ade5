//! The index of a connection within its migration: neither a device's number nor a channel's.

use crate::error::Place;
use crate::numbers::ChannelIdx;

/// A connection of one migration: the main one, or a channel.
///
/// As a number (its index in lists and in the tags of ring operations) main is 0 and channel n is n + 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionIdx(u16);

impl ConnectionIdx {
    /// The main connection.
    pub(crate) const MAIN: ConnectionIdx = ConnectionIdx(0);

    /// The connection at this index of a list.
    pub(crate) fn from_index(index: usize) -> ConnectionIdx {
        ConnectionIdx(u16::try_from(index).expect("at most limits::QEMU_CONNECTIONS_MAX connections"))
    }

    /// The index in a list.
    pub(crate) fn index(self) -> usize {
        self.0.into()
    }

    /// The channel's number, unless it is the main connection.
    pub(crate) fn channel(self) -> Option<ChannelIdx> {
        self.index().checked_sub(1).map(ChannelIdx::from_index)
    }

    /// The name that errors use.
    pub(crate) fn place(self) -> Place {
        self.channel().map_or(Place::Main, |channel| Place::Multifd(channel.0))
    }
}

impl From<ChannelIdx> for ConnectionIdx {
    fn from(channel: ChannelIdx) -> ConnectionIdx {
        ConnectionIdx(u16::from(channel.0) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_comes_first_and_the_channels_follow() {
        assert_eq!((ConnectionIdx::MAIN.channel(), ConnectionIdx::MAIN.place()), (None, Place::Main));
        for number in 0..255 {
            let connection = ConnectionIdx::from(ChannelIdx::new(number));
            assert_eq!(connection, ConnectionIdx::from_index(usize::from(number) + 1));
            assert_eq!(connection.channel(), Some(ChannelIdx::new(number)));
            assert_eq!(connection.place(), Place::Multifd(number));
        }
    }
}

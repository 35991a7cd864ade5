//! Numbers of devices, channels and connections, each with its own type, so that they cannot be confused.
//!
//! Nothing here knows what is counted. Every value fits its field on the wire.

use std::fmt;

/// What all of these numbers are: an index in lists of one kind of thing.
pub(crate) trait Number: Copy {
    fn from_index(index: usize) -> Self;

    fn index(self) -> usize;
}

/// What is counted in tests of lists.
#[cfg(test)]
impl Number for usize {
    fn from_index(index: usize) -> usize {
        index
    }

    fn index(self) -> usize {
        self
    }
}

/// Defines one kind of number: its type, its constructors and how it is printed.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $bound:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) struct $name(pub(crate) $inner);

        impl $name {
            /// The number of the entry at `index`. A list that is longer than its bound is our own bug.
            pub(crate) fn from_index(index: usize) -> Self {
                Self(<$inner>::try_from(index).expect($bound))
            }

            /// The numbers of the first `count` entries of a list.
            pub(crate) fn below(count: usize) -> impl Iterator<Item = Self> {
                (0..count).map(Self::from_index)
            }

            /// The index in a list.
            pub(crate) fn index(self) -> usize {
                usize::try_from(self.0).expect("a number of 64 bits at most, on a host of 64 bits")
            }
        }

        impl Number for $name {
            fn from_index(index: usize) -> Self {
                Self::from_index(index)
            }

            fn index(self) -> usize {
                self.index()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A device's number in its session.
    DeviceIdx(u16), "at most limits::DEVICES_MAX devices"
}
number! {
    /// A channel's number: the index of a data connection among those of one session.
    ChannelIdx(u8), "at most limits::CHANNELS_MAX channels"
}
number! {
    /// A connection's number in its migration, which is neither a device's nor a channel's: the main connection is 0,
    /// channel n is n + 1.
    ConnectionIdx(u16), "at most limits::QEMU_CONNECTIONS_MAX connections"
}
impl ConnectionIdx {
    /// The main connection.
    pub(crate) const MAIN: ConnectionIdx = ConnectionIdx(0);

    /// The channel's number, unless it is the main connection.
    pub(crate) fn channel(self) -> Option<ChannelIdx> {
        self.index().checked_sub(1).map(ChannelIdx::from_index)
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
    fn a_number_and_its_place_in_a_list_are_the_same() {
        assert_eq!(DeviceIdx::from_index(255), DeviceIdx(255));
        assert_eq!(ChannelIdx(254).index(), 254);
    }

    #[test]
    #[should_panic(expected = "CHANNELS_MAX")]
    fn a_place_past_the_bound_is_a_defect() {
        let _ = ChannelIdx::from_index(256);
    }
}

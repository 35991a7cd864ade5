//! Numbers of devices, channels, connections and packets, and the size of a packet, each with its own type, so that they
//! cannot be confused.
//!
//! Nothing here knows what is counted. Every value fits its field on the wire.

use std::fmt;

use crate::limits::{PACKET_SIZE_MAX, PACKET_SIZE_MIN};

/// What the numbers of devices, channels and connections are: an index in lists of one kind of thing.
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
            pub(crate) fn below(count: usize) -> impl Iterator<Item = Self> + Clone {
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

/// A packet's number among those of its device. A limit is a number, too: the first that may not be sent yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PacketIdx(pub(crate) u64);

impl PacketIdx {
    /// The limit in a protocol without credit: no packet has this number.
    pub(crate) const UNLIMITED: PacketIdx = PacketIdx(u64::MAX);

    /// The number of the packet behind this one.
    pub(crate) fn next(self) -> PacketIdx {
        self.plus(1)
    }

    /// The number of the packet that comes `count` packets later.
    pub(crate) fn plus(self, count: u64) -> PacketIdx {
        PacketIdx(self.0.checked_add(count).expect("no device has 2^64 packets"))
    }

    /// How many packets it is ahead of `other`; 0 if it is behind.
    pub(crate) fn ahead_of(self, other: PacketIdx) -> u64 {
        self.0.saturating_sub(other.0)
    }

    /// Its place in a ring of `places` (at least one).
    pub(crate) fn place_in(self, places: usize) -> usize {
        usize::try_from(self.0 % places as u64).expect("less than the number of places")
    }
}

impl From<u32> for PacketIdx {
    fn from(number: u32) -> PacketIdx {
        PacketIdx(number.into())
    }
}

/// The agreed size of packets: the most bytes of payload in one. It is within the bounds in [`limits`](crate::limits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PacketSize(u32);

impl PacketSize {
    /// The smallest.
    pub(crate) const MIN: PacketSize = PacketSize(PACKET_SIZE_MIN);

    /// `None` when `bytes` is out of bounds.
    pub(crate) const fn new(bytes: u32) -> Option<PacketSize> {
        match bytes {
            PACKET_SIZE_MIN..=PACKET_SIZE_MAX => Some(PacketSize(bytes)),
            _ => None,
        }
    }

    /// In bytes, as on the wire.
    pub(crate) const fn get(self) -> u32 {
        self.0
    }

    /// In bytes, as a length in memory.
    pub(crate) const fn bytes(self) -> usize {
        self.0 as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_size_is_within_its_bounds() {
        for (bytes, fits) in [
            (0, false),
            (PACKET_SIZE_MIN - 1, false),
            (PACKET_SIZE_MIN, true),
            (PACKET_SIZE_MAX, true),
            (PACKET_SIZE_MAX + 1, false),
            (u32::MAX, false),
        ] {
            let expected = fits.then_some((bytes, bytes as usize));
            assert_eq!(PacketSize::new(bytes).map(|size| (size.get(), size.bytes())), expected, "{bytes}");
        }
        assert_eq!(PacketSize::new(PACKET_SIZE_MIN), Some(PacketSize::MIN));
    }

    #[test]
    fn the_distance_between_packets_counts_forwards_only() {
        let (first, later) = (PacketIdx::default(), PacketIdx(7));
        assert_eq!((first.next(), first.plus(7)), (PacketIdx(1), later));
        assert_eq!((later.ahead_of(first), first.ahead_of(later)), (7, 0));
        assert_eq!(PacketIdx::UNLIMITED.ahead_of(first), u64::MAX);
        assert_eq!((later.place_in(4), PacketIdx::UNLIMITED.place_in(1)), (3, 0));
    }

    #[test]
    #[should_panic(expected = "2^64 packets")]
    fn a_number_past_the_last_is_a_defect() {
        let _ = PacketIdx::UNLIMITED.next();
    }

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

//! Numbers of devices, channels and packets, each with its own type, so that they cannot be confused.
//!
//! Nothing here knows what is counted. Every value fits its field on the wire.

use std::fmt;

/// Defines one kind of number: its type, its constructors and how it is printed.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $bound:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number, unchanged.
            #[must_use]
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }

            /// The number of the entry at `index` of a list.
            ///
            /// # Panics
            ///
            /// When the list is longer than its bound allows, which is a defect in the caller.
            #[must_use]
            pub fn from_index(index: usize) -> Self {
                Self(<$inner>::try_from(index).expect($bound))
            }

            /// The index in a list.
            ///
            /// # Panics
            ///
            /// Never where `usize` has 64 bits, which is every host with VFIO that this runs on.
            #[must_use]
            pub fn index(self) -> usize {
                usize::try_from(self.0).expect("a number of 64 bits at most, on a host of 64 bits")
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
    /// A packet's number among those of one device.
    PacketIdx(u64), "a list never has more than 2^64 entries"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_its_place_in_a_list_are_the_same() {
        assert_eq!(DeviceIdx::from_index(255), DeviceIdx::new(255));
        assert_eq!(ChannelIdx::new(254).index(), 254);
        assert_eq!(PacketIdx::from_index(7).to_string(), "7");
    }

    #[test]
    #[should_panic(expected = "CHANNELS_MAX")]
    fn a_place_past_the_bound_is_a_defect() {
        let _ = ChannelIdx::from_index(256);
    }
}

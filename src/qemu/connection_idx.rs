//! How errors name the connections of a migration.

use crate::error::Place;
use crate::numbers::ConnectionIdx;

impl ConnectionIdx {
    /// The name that errors use.
    pub(crate) fn place(self) -> Place {
        self.channel().map_or(Place::Main, |channel| Place::Multifd(channel.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::ChannelIdx;

    #[test]
    fn main_comes_first_and_the_channels_follow() {
        assert_eq!((ConnectionIdx::MAIN.channel(), ConnectionIdx::MAIN.place()), (None, Place::Main));
        for number in 0..255 {
            let connection = ConnectionIdx::from(ChannelIdx(number));
            assert_eq!(connection, ConnectionIdx::from_index(usize::from(number) + 1));
            assert_eq!(connection.channel(), Some(ChannelIdx(number)));
            assert_eq!(connection.place(), Place::Multifd(number));
        }
    }
}

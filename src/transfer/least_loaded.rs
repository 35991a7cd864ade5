//! Which channel a packet leaves on. A pure choice.

/// The idle channel with the fewest bytes outstanding; among equals the one that has carried least. `channels` gives
/// each idle channel's number, bytes outstanding and bytes carried.
pub(crate) fn least_loaded<C>(channels: impl Iterator<Item = (C, u64, u64)>) -> Option<C> {
    channels.min_by_key(|&(_, outstanding, carried)| (outstanding, carried)).map(|(channel, ..)| channel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefers_the_channel_with_least_outstanding() {
        assert_eq!(least_loaded([(0, 5, 0), (1, 2, 9), (2, 3, 1)].into_iter()), Some(1));
        assert_eq!(least_loaded([(0, 2, 7), (1, 2, 3)].into_iter()), Some(1));
        assert_eq!(least_loaded(std::iter::empty::<(usize, u64, u64)>()), None);
    }
}

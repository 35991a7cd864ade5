//! Which packet goes next, and on which channel. Pure choices.

/// The idle channel with the fewest bytes outstanding; among equals the one that has carried least. `channels` gives
/// each idle channel's number, bytes outstanding and bytes carried.
pub(crate) fn least_loaded(channels: impl Iterator<Item = (usize, u64, u64)>) -> Option<usize> {
    channels.min_by_key(|&(_, outstanding, carried)| (outstanding, carried)).map(|(channel, ..)| channel)
}

/// Takes turns: the first of `count` candidates after the last one chosen for which `ready` holds.
#[derive(Debug, Default)]
pub(crate) struct RoundRobin {
    last: usize,
}

impl RoundRobin {
    pub(crate) fn choose(&mut self, count: usize, mut ready: impl FnMut(usize) -> bool) -> Option<usize> {
        let chosen =
            (1..=count).map(|step| (self.last + step) % count).find(|&candidate| ready(candidate))?;
        self.last = chosen;
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefers_the_channel_with_least_outstanding() {
        assert_eq!(least_loaded([(0, 5, 0), (1, 2, 9), (2, 3, 1)].into_iter()), Some(1));
        assert_eq!(least_loaded([(0, 2, 7), (1, 2, 3)].into_iter()), Some(1));
        assert_eq!(least_loaded(std::iter::empty()), None);
    }

    #[test]
    fn devices_take_turns() {
        let mut turn = RoundRobin::default();
        let order: Vec<_> = (0..4).map(|_| turn.choose(3, |device| device != 1)).collect();
        assert_eq!(order, [Some(2), Some(0), Some(2), Some(0)]);
        assert_eq!(turn.choose(3, |_| false), None);
        assert_eq!(turn.choose(0, |_| true), None);
    }
}

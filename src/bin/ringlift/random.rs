//! Random order that a seed repeats. It must not know what is put in order.

use crate::exit::Exit;
use crate::show::warnings;

/// The seed as given, or one from the kernel.
pub(crate) fn seed(given: Option<u32>) -> Result<u32, Exit> {
    let drawn = || {
        getrandom::u32().map_err(|error| {
            warnings::usage(&format!("the kernel gives no random number: {error}"), "give one with --seed")
        })
    };
    given.map_or_else(drawn, Ok)
}

/// The same numbers for the same seed (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u32) -> Random {
        Random(seed.into())
    }

    /// A fair coin.
    pub(crate) fn toss(&mut self) -> bool {
        self.next() >> 63 == 1
    }

    /// Every order is as likely as any other.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for left in (1..items.len()).rev() {
            // the bias of a remainder is below 2^-50 for lists that fit into memory
            let other = self.next() % (left as u64 + 1);
            items.swap(left, usize::try_from(other).expect("no larger than an index"));
        }
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coin_is_fair_and_a_seed_repeats_it() {
        let tosses = |seed| {
            let mut coin = Random::new(seed);
            (0..1000).map(|_| coin.toss()).collect::<Vec<_>>()
        };
        assert_eq!(tosses(7), tosses(7));
        assert_ne!(tosses(7), tosses(8));
        let heads = tosses(7).into_iter().filter(|heads| *heads).count();
        assert!((440..=560).contains(&heads), "{heads}");
    }

    #[test]
    fn a_shuffle_keeps_every_item_and_puts_each_everywhere() {
        let mut random = Random::new(7);
        let mut firsts = [0; 4];
        for _ in 0..1000 {
            let mut items = [0, 1, 2, 3];
            random.shuffle(&mut items);
            firsts[items[0]] += 1;
            items.sort_unstable();
            assert_eq!(items, [0, 1, 2, 3]);
        }
        assert!(firsts.iter().all(|count| (200..=300).contains(count)), "{firsts:?}");
    }
}

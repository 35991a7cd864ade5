//! A set of small indices: devices or channels that are ready for something. Pure.
//!
//! It has room for every device or channel of a session from the start, so nothing allocates, and finding a member
//! looks at four words however many devices there are.

use std::marker::PhantomData;

use crate::limits::{CHANNELS_MAX, DEVICES_MAX};
use crate::numbers::Number;

const WORDS: usize = 4;
const WORD_BITS: usize = u64::BITS as usize;
const _: () = assert!(DEVICES_MAX <= WORDS * WORD_BITS && CHANNELS_MAX <= WORDS * WORD_BITS);

/// A set of indices below [`DEVICES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexSet<I> {
    words: [u64; WORDS],
    members: PhantomData<I>,
}

impl<I> Default for IndexSet<I> {
    fn default() -> IndexSet<I> {
        IndexSet::of([0; WORDS])
    }
}

impl<I> IndexSet<I> {
    fn of(words: [u64; WORDS]) -> IndexSet<I> {
        IndexSet { words, members: PhantomData }
    }
}

impl<I: Number> IndexSet<I> {
    /// All indices below `count`.
    pub(crate) fn below(count: usize) -> IndexSet<I> {
        let mut set = IndexSet::default();
        (0..count).for_each(|idx| set.insert(I::from_index(idx)));
        set
    }

    pub(crate) fn insert(&mut self, idx: I) {
        let idx = idx.index();
        self.words[idx / WORD_BITS] |= 1 << (idx % WORD_BITS);
    }

    pub(crate) fn remove(&mut self, idx: I) {
        let idx = idx.index();
        self.words[idx / WORD_BITS] &= !(1 << (idx % WORD_BITS));
    }

    /// Inserts or removes an index.
    pub(crate) fn set(&mut self, idx: I, is_member: bool) {
        if is_member {
            self.insert(idx);
        } else {
            self.remove(idx);
        }
    }

    pub(crate) fn contains(&self, idx: I) -> bool {
        let idx = idx.index();
        self.words[idx / WORD_BITS] >> (idx % WORD_BITS) & 1 == 1
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words == [0; WORDS]
    }

    pub(crate) fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Members of either.
    pub(crate) fn union(&self, other: &IndexSet<I>) -> IndexSet<I> {
        let mut words = self.words;
        words.iter_mut().zip(other.words).for_each(|(word, other)| *word |= other);
        IndexSet::of(words)
    }

    /// Members of both.
    pub(crate) fn intersection(&self, other: &IndexSet<I>) -> IndexSet<I> {
        let mut words = self.words;
        words.iter_mut().zip(other.words).for_each(|(word, other)| *word &= other);
        IndexSet::of(words)
    }

    /// The first member from `start` on; if there is none, the first of all. `start` may be one past the last index.
    pub(crate) fn next_from(&self, start: usize) -> Option<I> {
        let behind = (start / WORD_BITS..WORDS).find_map(|at| {
            let skipped = if at == start / WORD_BITS { start % WORD_BITS } else { 0 };
            lowest(self.words[at] >> skipped).map(|bit| I::from_index(at * WORD_BITS + skipped + bit))
        });
        behind.or_else(|| self.first())
    }

    /// The lowest member.
    pub(crate) fn first(&self) -> Option<I> {
        (0..WORDS).find_map(|at| lowest(self.words[at]).map(|bit| I::from_index(at * WORD_BITS + bit)))
    }

    /// Takes the lowest member out.
    pub(crate) fn pop_first(&mut self) -> Option<I> {
        let first = self.first()?;
        self.remove(first);
        Some(first)
    }

    /// The members, in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = I> + use<I> {
        let mut left = *self;
        std::iter::from_fn(move || left.pop_first())
    }
}

fn lowest(word: u64) -> Option<usize> {
    (word != 0).then(|| word.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_below_a_count_are_members_and_no_other() {
        assert!(IndexSet::<usize>::below(0).is_empty());
        assert_eq!(IndexSet::<usize>::below(256).len(), 256);
        assert_eq!(IndexSet::<usize>::below(65).iter().last(), Some(64));
    }

    #[test]
    fn looking_from_past_the_last_index_begins_anew() {
        let mut set = IndexSet::<usize>::default();
        assert_eq!(set.next_from(256), None);
        set.insert(3);
        assert_eq!(set.next_from(256), Some(3));
    }

    proptest! {
        /// Oracle: an ordered set of the standard library.
        #[test]
        fn it_does_what_an_ordered_set_does(
            changes in prop::collection::vec((0_usize..256, any::<bool>()), 0..200), start in 0_usize..257
        ) {
            let (mut set, mut oracle) = (IndexSet::<usize>::default(), BTreeSet::new());
            for (idx, is_member) in changes {
                set.set(idx, is_member);
                if is_member { oracle.insert(idx) } else { oracle.remove(&idx) };
                prop_assert_eq!(set.contains(idx), is_member);
            }
            prop_assert_eq!(set.len(), oracle.len());
            prop_assert_eq!(set.next_from(start), oracle.range(start..).chain(&oracle).next().copied());
            prop_assert!(set.iter().eq(oracle.iter().copied()));
            let below = IndexSet::<usize>::below(100);
            prop_assert!(set.intersection(&below).iter().eq(oracle.range(..100).copied()));
            prop_assert!(set.union(&below).iter().eq((0..100).chain(oracle.range(100..).copied())));
        }
    }
}

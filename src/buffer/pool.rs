//! The free slots.
//!
//! Last in, first out: the bytes of the slot that was just given back are still in the processor's cache.

use super::region;
use super::region::{HugePages, RegionId, Slot};
use crate::error::KernelError;

/// A fixed number of slots of one size.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Vec<Slot>,
    region: RegionId,
    total: u32,
    huge: HugePages,
}

impl Pool {
    /// Maps a pool of `count` slots (at least one) with `capacity` bytes of payload each, and touches its pages.
    pub(crate) fn new(count: u32, capacity: u32) -> Result<Pool, KernelError> {
        let count = count.max(1);
        let (mut free, huge) = region::cut(count, capacity)?;
        free.iter().try_for_each(Slot::populate)?;
        free.reverse();
        let region = free[0].region();
        Ok(Pool { free, region, total: count, huge })
    }

    /// How many slots of `capacity` fit in `bytes` of memory.
    pub(crate) fn slots_in(bytes: u64, capacity: u32) -> u32 {
        u32::try_from(bytes / region::stride(capacity) as u64).unwrap_or(u32::MAX)
    }

    /// Bytes of memory that `slots` slots of `capacity` take.
    pub(crate) fn bytes_for(slots: u64, capacity: u32) -> u64 {
        slots * region::stride(capacity) as u64
    }

    /// Takes the slot that was given back last.
    pub(crate) fn take(&mut self) -> Option<Slot> {
        self.free.pop()
    }

    /// Gives a slot back.
    pub(crate) fn put(&mut self, slot: Slot) {
        assert!(slot.region() == self.region, "a slot comes back to its own pool");
        self.free.push(slot);
    }

    /// Free slots.
    pub(crate) fn free(&self) -> u32 {
        u32::try_from(self.free.len()).expect("a pool has at most u32::MAX slots")
    }

    /// Slots, used or not.
    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    pub(crate) fn huge_pages(&self) -> HugePages {
        self.huge
    }

    /// Any slot of the pool, for registering its memory.
    pub(crate) fn sample(&self) -> Option<&Slot> {
        self.free.first()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hands_out_the_slot_that_came_back_last() {
        let mut pool = Pool::new(3, 4096).unwrap();
        let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
        assert_eq!((first.index(), second.index()), (0, 1));
        pool.put(first);
        pool.put(second);
        assert_eq!(pool.take().unwrap().index(), 1);
        assert_eq!(pool.free(), 2);
    }

    #[test]
    fn is_empty_when_every_slot_is_out() {
        let mut pool = Pool::new(1, 4096).unwrap();
        let slot = pool.take().unwrap();
        assert!(pool.take().is_none());
        pool.put(slot);
        assert_eq!((pool.free(), pool.total()), (1, 1));
    }

    #[test]
    #[should_panic(expected = "a slot comes back to its own pool")]
    fn refuses_a_slot_of_another_pool() {
        let (mut one, mut other) = (Pool::new(1, 4096).unwrap(), Pool::new(1, 4096).unwrap());
        one.put(other.take().unwrap());
    }

    proptest! {
        /// Oracle: a plain stack of numbers.
        #[test]
        fn behaves_as_a_stack(operations in prop::collection::vec(any::<bool>(), 0..200)) {
            let mut pool = Pool::new(8, 4096).unwrap();
            let mut oracle: Vec<u32> = (0..8).rev().collect();
            let mut out = Vec::new();
            for take in operations {
                if take {
                    let slot = pool.take();
                    prop_assert_eq!(slot.as_ref().map(Slot::index), oracle.pop());
                    out.extend(slot);
                } else if !out.is_empty() {
                    let slot = out.swap_remove(out.len() / 2);
                    oracle.push(slot.index());
                    pool.put(slot);
                }
                prop_assert_eq!(pool.free() as usize, oracle.len());
            }
        }
    }
}

//! Order and completeness: packets that arrive in any order leave in idx order, each exactly once.
//!
//! A packet's number is *claimed* when its header comes, before its payload is received, so two connections cannot
//! bring the same packet, and every error is found before a byte is stored. Memory is one place per packet of the
//! window, allocated once; nothing a peer sends makes it grow.

/// Why a packet is not wanted.
pub(crate) use crate::error::OrderProblem as Problem;
use crate::numbers::PacketIdx;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place<H> {
    Empty,
    Claimed,
    Here(H),
}

/// The packets of one device that wait for earlier ones.
#[derive(Debug)]
pub(crate) struct Reorder<H> {
    /// The next idx.
    next: PacketIdx,
    /// One past the highest idx that was claimed.
    claimed: PacketIdx,
    /// How many were claimed.
    count: u64,
    /// The config packet's idx, once claimed.
    config: Option<PacketIdx>,
    /// `idx % window` is the place of idx. Claims are below `next + window`, so no two share one.
    places: Box<[Place<H>]>,
}

impl<H> Reorder<H> {
    /// For packets that are less than `window` (at least one) ahead of the next one.
    pub(crate) fn new(window: usize) -> Reorder<H> {
        let places = (0..window.max(1)).map(|_| Place::Empty).collect();
        let first = PacketIdx::default();
        Reorder { next: first, claimed: first, count: 0, config: None, places }
    }

    fn at(&self, idx: PacketIdx) -> usize {
        idx.place_in(self.places.len())
    }

    fn place(&mut self, idx: PacketIdx) -> &mut Place<H> {
        let at = self.at(idx);
        &mut self.places[at]
    }

    /// The next idx.
    pub(crate) fn next(&self) -> PacketIdx {
        self.next
    }

    /// Whether there is a place for idx, or it has been passed already.
    pub(crate) fn is_near(&self, idx: PacketIdx) -> bool {
        idx.ahead_of(self.next) < self.places.len() as u64
    }

    /// Whether the next packet has been claimed.
    pub(crate) fn is_next_claimed(&self) -> bool {
        !matches!(self.places[self.at(self.next)], Place::Empty)
    }

    /// Whether a packet can have this number, however long it would have to wait.
    pub(crate) fn check(&self, idx: PacketIdx, config: bool) -> Result<(), Problem> {
        match self.config {
            Some(_) if config => Err(Problem::SecondConfig),
            _ if idx < self.next => Err(Problem::Duplicate),
            Some(last) if idx > last => Err(Problem::AfterConfig),
            None if config && self.claimed.ahead_of(idx) > 1 => Err(Problem::ConfigBeforeData),
            _ => Ok(()),
        }
    }

    /// A packet's header arrived; `limit` is the first idx without credit.
    pub(crate) fn claim(&mut self, idx: PacketIdx, config: bool, limit: PacketIdx) -> Result<(), Problem> {
        if idx >= self.next && (idx >= limit || !self.is_near(idx)) {
            return Err(Problem::BeyondCredit);
        }
        self.check(idx, config)?;
        let place = self.place(idx);
        if !matches!(place, Place::Empty) {
            return Err(Problem::Duplicate);
        }
        *place = Place::Claimed;
        self.claimed = self.claimed.max(idx.next());
        self.count += 1;
        if config {
            self.config = Some(idx);
        }
        Ok(())
    }

    /// A claimed packet is complete.
    pub(crate) fn fill(&mut self, idx: PacketIdx, handle: H) {
        let place = self.place(idx);
        assert!(matches!(place, Place::Claimed), "a packet is claimed before it is filled");
        *place = Place::Here(handle);
    }

    /// The next packet, if it is here.
    pub(crate) fn pop(&mut self) -> Option<(PacketIdx, H)> {
        let idx = self.next;
        let place = self.place(idx);
        if !matches!(place, Place::Here(_)) {
            return None;
        }
        let Place::Here(handle) = std::mem::replace(place, Place::Empty) else { return None };
        self.next = self.next.next();
        Some((idx, handle))
    }

    /// The first packet that has not been claimed; `None` when none is missing.
    pub(crate) fn missing(&self) -> Option<PacketIdx> {
        if self.has_claimed_all() {
            return None;
        }
        let is_claimed = |idx: PacketIdx| !matches!(self.places[self.at(idx)], Place::Empty);
        let end = self.next.plus(self.places.len() as u64);
        let mut missing = self.next;
        while missing < end && is_claimed(missing) {
            missing = missing.next();
        }
        Some(missing)
    }

    /// Whether every packet has been claimed. Each is claimed once and the config packet has the highest idx, so it is
    /// enough to count.
    pub(crate) fn has_claimed_all(&self) -> bool {
        self.config.is_some_and(|config| PacketIdx(self.count) == config.next())
    }

    /// Whether every packet has been popped, the config packet last.
    pub(crate) fn is_complete(&self) -> bool {
        self.config.is_some_and(|config| self.next == config.next())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn take(reorder: &mut Reorder<u64>, idx: u64, config: bool) {
        claim(reorder, idx, config, u64::MAX).unwrap();
        reorder.fill(PacketIdx(idx), idx * 10);
    }

    fn claim(reorder: &mut Reorder<u64>, idx: u64, config: bool, limit: u64) -> Result<(), Problem> {
        reorder.claim(PacketIdx(idx), config, PacketIdx(limit))
    }

    #[test]
    fn packets_leave_in_order_whatever_the_order_of_arrival() {
        let mut reorder = Reorder::new(4);
        take(&mut reorder, 2, false);
        take(&mut reorder, 1, false);
        assert_eq!(reorder.pop(), None);
        take(&mut reorder, 0, false);
        assert_eq!(
            std::iter::from_fn(|| reorder.pop()).collect::<Vec<_>>(),
            [(0, 0), (1, 10), (2, 20)].map(|(idx, handle)| (PacketIdx(idx), handle))
        );
    }

    #[test]
    fn a_claimed_packet_is_not_here_yet() {
        let mut reorder = Reorder::<u64>::new(2);
        claim(&mut reorder, 0, false, 2).unwrap();
        assert_eq!(reorder.pop(), None);
    }

    #[test]
    fn rejects_duplicates_before_and_after_their_turn() {
        let mut reorder = Reorder::new(4);
        take(&mut reorder, 0, false);
        assert_eq!(claim(&mut reorder, 0, false, 4), Err(Problem::Duplicate));
        reorder.pop();
        assert_eq!(claim(&mut reorder, 0, false, 4), Err(Problem::Duplicate));
        claim(&mut reorder, 1, false, 4).unwrap();
        assert_eq!(claim(&mut reorder, 1, false, 4), Err(Problem::Duplicate));
    }

    #[test]
    fn rejects_what_is_beyond_credit_even_if_it_is_huge() {
        let mut reorder = Reorder::<u64>::new(4);
        assert_eq!(claim(&mut reorder, 4, false, 4), Err(Problem::BeyondCredit));
        assert_eq!(claim(&mut reorder, u64::MAX, false, u64::MAX), Err(Problem::BeyondCredit));
        assert_eq!(claim(&mut reorder, 0xffff_fffe, true, 4), Err(Problem::BeyondCredit));
    }

    #[test]
    fn rejects_a_second_config_packet_and_data_after_the_config_packet() {
        let mut reorder = Reorder::new(8);
        take(&mut reorder, 2, true);
        assert_eq!(claim(&mut reorder, 1, true, 8), Err(Problem::SecondConfig));
        assert_eq!(claim(&mut reorder, 3, false, 8), Err(Problem::AfterConfig));
        take(&mut reorder, 0, false);
        take(&mut reorder, 1, false);
        while reorder.pop().is_some() {}
        assert!(reorder.is_complete());
        assert_eq!(claim(&mut reorder, 2, true, 8), Err(Problem::SecondConfig));
    }

    #[test]
    fn rejects_a_config_packet_below_data_that_came() {
        let mut reorder = Reorder::new(8);
        take(&mut reorder, 3, false);
        assert_eq!(claim(&mut reorder, 1, true, 8), Err(Problem::ConfigBeforeData));
    }

    #[test]
    fn what_is_missing_is_the_first_packet_that_was_not_claimed() {
        let mut reorder = Reorder::new(2);
        assert_eq!(reorder.missing(), Some(PacketIdx(0)));
        take(&mut reorder, 1, true);
        assert_eq!((reorder.missing(), reorder.is_next_claimed()), (Some(PacketIdx(0)), false));
        claim(&mut reorder, 0, false, u64::MAX).unwrap();
        assert_eq!((reorder.missing(), reorder.is_next_claimed()), (None, true));
        reorder.fill(PacketIdx(0), 0);
        while reorder.pop().is_some() {}
        assert_eq!((reorder.missing(), reorder.is_complete()), (None, true));
    }

    #[test]
    fn a_device_without_data_is_complete_with_its_config_packet() {
        let mut reorder = Reorder::new(1);
        assert!(!reorder.is_complete());
        take(&mut reorder, 0, true);
        reorder.pop();
        assert!(reorder.is_complete());
    }

    proptest! {
        /// Oracle: a map of everything that was accepted.
        #[test]
        fn every_packet_comes_out_once_and_in_order(
            window in 1_usize..9, arrivals in prop::collection::vec((0_u64..40, any::<bool>()), 0..300)
        ) {
            let mut reorder = Reorder::new(window);
            let mut oracle = BTreeMap::new();
            let mut expected = 0;
            for (idx, pop) in arrivals {
                let limit = expected + window as u64;
                let wanted = idx >= expected && idx < limit && !oracle.contains_key(&idx);
                prop_assert_eq!(claim(&mut reorder, idx, false, limit).is_ok(), wanted);
                if wanted {
                    oracle.insert(idx, idx);
                    reorder.fill(PacketIdx(idx), idx);
                }
                if pop {
                    let next = oracle.remove(&expected).map(|handle| (PacketIdx(expected), handle));
                    prop_assert_eq!(reorder.pop(), next);
                    expected += u64::from(next.is_some());
                }
            }
        }
    }
}

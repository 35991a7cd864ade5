//! How far a sender may go: backpressure without deadlock.
//!
//! The receiver promises room for a *window* of packets per device, and the windows of all devices together never
//! exceed the slots of its pool. So every packet that may be sent finds a slot, whatever order packets arrive in. The
//! promise is sent as a *limit*: the first idx that may not be sent yet. It only ever grows.

use crate::numbers::PacketIdx;

/// Packets that each of `devices` is promised room for in a pool of `slots`: rounded down, so that the promises
/// together never exceed the pool. `None` without room for one packet per device.
pub(crate) fn window(slots: usize, devices: usize) -> Option<usize> {
    slots.checked_div(devices).filter(|&window| window > 0)
}

/// The receiver's half: what is promised for one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    window: u64,
    /// The first packet that has not left its slot.
    unwritten: PacketIdx,
    announced: PacketIdx,
}

impl Grant {
    /// A window of `window` packets (at least one), none of which is announced yet.
    pub(crate) fn new(window: u64) -> Grant {
        Grant { window: window.max(1), unwritten: PacketIdx::default(), announced: PacketIdx::default() }
    }

    /// One more packet has left its slot.
    pub(crate) fn written(&mut self) {
        self.unwritten = self.unwritten.next();
    }

    /// The announced limit: packets from here on break the protocol.
    pub(crate) fn limit(&self) -> PacketIdx {
        self.announced
    }

    /// A new limit, when it is worth a message: once it has grown by a quarter of the window. The peer stalls only when
    /// it has used up its limit, and by then the limit can grow by the whole window.
    pub(crate) fn announce(&mut self) -> Option<PacketIdx> {
        let limit = self.unwritten.plus(self.window);
        if limit.ahead_of(self.announced) < (self.window / 4).max(1) {
            return None;
        }
        self.announced = limit;
        Some(limit)
    }
}

/// The sender's half: how much of one device may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Allowance {
    limit: PacketIdx,
}

impl Allowance {
    /// Applies a new limit. A shrinking limit is a protocol violation.
    pub(crate) fn raise(&mut self, limit: PacketIdx) -> Result<(), PacketIdx> {
        if limit < self.limit {
            return Err(self.limit);
        }
        self.limit = limit;
        Ok(())
    }

    /// How many packets from this one on are allowed.
    pub(crate) fn left(&self, idx: PacketIdx) -> u64 {
        self.limit.0.saturating_sub(idx.0)
    }

    pub(crate) fn allows(&self, idx: PacketIdx) -> bool {
        idx < self.limit
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn announces_the_whole_window_first_and_then_quarters() {
        let mut grant = Grant::new(8);
        assert_eq!(grant.announce(), Some(PacketIdx(8)));
        assert_eq!(grant.announce(), None);
        grant.written();
        assert_eq!(grant.announce(), None);
        grant.written();
        assert_eq!(grant.announce(), Some(PacketIdx(10)));
    }

    #[test]
    fn a_window_of_one_announces_every_packet() {
        let mut grant = Grant::new(1);
        assert_eq!(grant.announce(), Some(PacketIdx(1)));
        grant.written();
        assert_eq!(grant.announce(), Some(PacketIdx(2)));
    }

    #[test]
    fn a_shrinking_limit_is_refused() {
        let mut allowance = Allowance::default();
        assert_eq!(allowance.raise(PacketIdx(5)), Ok(()));
        assert_eq!(allowance.raise(PacketIdx(4)), Err(PacketIdx(5)));
        assert!(allowance.allows(PacketIdx(4)) && !allowance.allows(PacketIdx(5)));
    }

    /// Devices on few slots, with packets delivered in any order and messages delayed at will.
    #[derive(Debug)]
    struct Model {
        grants: Vec<Grant>,
        allowances: Vec<Allowance>,
        sent: Vec<PacketIdx>,
        arrived: Vec<Vec<PacketIdx>>,
        written: Vec<PacketIdx>,
        network: Vec<(usize, PacketIdx)>,
        credits: VecDeque<(usize, PacketIdx)>,
    }

    impl Model {
        fn new(devices: usize, window: u64) -> Model {
            Model {
                grants: vec![Grant::new(window); devices],
                allowances: vec![Allowance::default(); devices],
                sent: vec![PacketIdx::default(); devices],
                arrived: vec![Vec::new(); devices],
                written: vec![PacketIdx::default(); devices],
                network: Vec::new(),
                credits: VecDeque::new(),
            }
        }

        /// Takes one possible step, chosen by `choice`. False when none is possible.
        fn step(&mut self, choice: usize, goal: PacketIdx) -> bool {
            let devices = self.grants.len();
            for turn in 0..4 {
                let (action, at) = ((choice + turn) % 4, choice / 4);
                let device = (0..devices).map(|k| (at + k) % devices).find(|&device| match action {
                    0 => self.sent[device] < goal && self.allowances[device].allows(self.sent[device]),
                    1 => self.arrived[device].contains(&self.written[device]),
                    _ => true,
                });
                match (action, device) {
                    (0, Some(device)) => {
                        self.network.push((device, self.sent[device]));
                        self.sent[device] = self.sent[device].next();
                    }
                    (1, Some(device)) => {
                        self.grants[device].written();
                        self.written[device] = self.written[device].next();
                    }
                    (2, _) if !self.network.is_empty() => {
                        let (device, idx) = self.network.swap_remove(at % self.network.len());
                        self.arrived[device].push(idx);
                    }
                    (3, _) if !self.credits.is_empty() => {
                        let (device, limit) = self.credits.pop_front().unwrap();
                        self.allowances[device].raise(limit).unwrap();
                    }
                    _ => continue,
                }
                return true;
            }
            let mut announced = false;
            for device in 0..devices {
                if let Some(limit) = self.grants[device].announce() {
                    self.credits.push_back((device, limit));
                    announced = true;
                }
            }
            announced
        }
    }

    #[test]
    fn a_pool_with_fewer_slots_than_devices_has_no_window() {
        assert_eq!([window(2, 3), window(3, 3), window(8, 3)], [None, Some(1), Some(2)]);
        assert_eq!(window(8, 0), None);
    }

    proptest! {
        #[test]
        fn all_windows_together_fit_into_the_pool_and_use_what_they_can(
            slots in 0_usize..10_000, devices in 1_usize..=crate::limits::DEVICES_MAX
        ) {
            let window = window(slots, devices).unwrap_or(0);
            prop_assert!(window * devices <= slots, "more is promised than there is");
            prop_assert!((window + 1) * devices > slots, "a whole window is left over");
        }

        #[test]
        fn never_needs_more_slots_than_promised_and_never_deadlocks(
            devices in 1_usize..5, window in 1_u64..6, choices in prop::collection::vec(0_usize..1000, 1..50)
        ) {
            let mut model = Model::new(devices, window);
            let goal = PacketIdx(20);
            for step in 0.. {
                if !model.step(choices[step % choices.len()] + step, goal) {
                    break;
                }
                let ahead = |device: usize| model.sent[device].ahead_of(model.written[device]);
                let used: u64 = (0..devices).map(ahead).sum();
                prop_assert!(used <= window * devices as u64);
            }
            prop_assert_eq!(model.written, vec![goal; devices]);
        }
    }

    /// Why there are credits: two devices on two channels, two slots at the receiver. Without a promise per device both
    /// slots may be taken by packets that are not next, and the packets that are next have nowhere to go.
    #[test]
    fn without_credit_two_devices_block_each_other_for_ever() {
        let mut slots_free = 2;
        let next = [0, 0];
        let mut waiting = Vec::new();
        // packet 1 of each device overtakes packet 0 on the other channel
        for (device, idx) in [(0, 1), (1, 1), (0, 0), (1, 0)] {
            if slots_free > 0 {
                slots_free -= 1;
                waiting.push((device, idx));
            }
        }
        let can_write = waiting.iter().any(|&(device, idx): &(usize, u64)| next[device] == idx);
        assert!(!can_write && slots_free == 0, "deadlock: {waiting:?}");

        // With credit for one packet of each device the overtaking packets are not sent yet.
        let mut allowance = Allowance::default();
        allowance.raise(Grant::new(1).announce().unwrap()).unwrap();
        assert!(allowance.allows(PacketIdx(0)) && !allowance.allows(PacketIdx(1)));
    }
}

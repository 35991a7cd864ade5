//! Credit: who gets how much of a pool, and that nothing ever waits for ever.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::limits::DEVICES_MAX;

const FIRST: DeviceIdx = DeviceIdx(0);
const SECOND: DeviceIdx = DeviceIdx(1);

fn credit(slots: u32, expected: &[Option<u64>]) -> Credit {
    Credit::new(slots, expected.iter().copied()).unwrap()
}

/// Packets that may be sent of each device at first.
fn first_limits(credit: &mut Credit) -> Vec<u64> {
    let devices = DeviceIdx::below(credit.devices.len());
    devices.map(|device| credit.announce(device).map_or(0, |limit| limit.0)).collect()
}

/// A packet that is written as soon as it comes.
fn pass(credit: &mut Credit, device: DeviceIdx, is_last: bool) {
    let idx = credit.devices[device.index()].unwritten;
    credit.arrived(device, idx, is_last);
    credit.written(device);
    credit.announce(device);
}

#[test]
fn announces_the_whole_pool_to_one_device_first_and_then_quarters() {
    let mut credit = credit(8, &[None]);
    assert_eq!(credit.announce(FIRST), Some(PacketIdx(8)));
    assert_eq!(credit.announce(FIRST), None);
    credit.written(FIRST);
    assert_eq!(credit.announce(FIRST), None);
    credit.written(FIRST);
    assert_eq!(credit.announce(FIRST), Some(PacketIdx(10)));
}

#[test]
fn a_pool_of_one_slot_announces_every_packet() {
    let mut credit = credit(1, &[Some(100)]);
    assert_eq!(credit.announce(FIRST), Some(PacketIdx(1)));
    credit.written(FIRST);
    assert_eq!(credit.announce(FIRST), Some(PacketIdx(2)));
}

#[test]
fn a_pool_with_fewer_slots_than_devices_has_no_credit() {
    assert!(Credit::new(2, [None; 3].into_iter()).is_none());
    assert!(Credit::new(8, std::iter::empty()).is_none());
    assert_eq!(first_limits(&mut credit(3, &[None, Some(0), Some(u64::MAX)])), [1, 1, 1]);
}

#[test]
fn devices_that_are_larger_than_the_pool_get_the_same() {
    assert_eq!(first_limits(&mut credit(64, &[Some(1000); 4])), [16; 4]);
    assert_eq!(first_limits(&mut credit(64, &[Some(1000), Some(900), Some(u64::MAX)])), [21, 21, 22]);
}

#[test]
fn a_large_device_has_beside_tiny_ones_what_they_do_not_need() {
    let mut expected = vec![Some(1); 32];
    expected[0] = Some(1000);
    let limits = first_limits(&mut credit(64 + 2 * 31, &expected));
    assert_eq!((limits[0], &limits[1..]), (64, &[2; 31][..]), "as much as alone, and they wait for nothing");
}

#[test]
fn a_large_device_gets_what_it_uses_even_if_nobody_knows_who_is_large() {
    let mut credit = credit(64 + 2 * 31, &[None; 32]);
    assert_eq!(first_limits(&mut credit), [2; 32]);
    for _ in 0..200 {
        pass(&mut credit, FIRST, false);
    }
    assert_eq!(credit.devices[0].held(), 52, "a fifth is left for others");
    // one that was idle so far begins to need it
    for _ in 0..200 {
        pass(&mut credit, SECOND, false);
        pass(&mut credit, FIRST, false);
    }
    let (first, second) = (credit.devices[0].held(), credit.devices[1].held());
    assert!(first.abs_diff(second) <= LENT_TO_FREE_MAX && first + second >= 56, "{first} {second}");
}

#[test]
fn devices_that_have_ended_leave_everything_to_the_others() {
    let mut credit = credit(64, &[Some(1000); 4]);
    first_limits(&mut credit);
    for device in DeviceIdx::below(4).skip(1) {
        pass(&mut credit, device, true);
        assert_eq!(credit.devices[device.index()].reserved(credit.guarantee), 0);
    }
    for _ in 0..100 {
        pass(&mut credit, FIRST, false);
    }
    assert_eq!(credit.devices[0].held(), 64);
}

#[test]
fn what_waits_for_a_slow_device_is_not_lent_more() {
    let mut credit = credit(64, &[None; 2]);
    assert_eq!(first_limits(&mut credit), [16; 2]);
    // eight of its packets always wait to be written; the other's are written as they come
    for idx in 0..8 {
        credit.arrived(FIRST, PacketIdx(idx), false);
    }
    for idx in 8..100 {
        credit.arrived(FIRST, PacketIdx(idx), false);
        credit.written(FIRST);
        pass(&mut credit, SECOND, false);
    }
    let held = [credit.devices[0].held(), credit.devices[1].held()];
    assert_eq!((held[0], held[1] > 32), (16, true), "{held:?}");
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
    credit: Credit,
    devices: Vec<Modelled>,
    network: Vec<(DeviceIdx, PacketIdx)>,
    messages: VecDeque<(DeviceIdx, PacketIdx)>,
}

#[derive(Debug)]
struct Modelled {
    /// Its packets, the config packet included.
    packets: u64,
    allowance: Allowance,
    sent: PacketIdx,
    here: Vec<PacketIdx>,
    written: PacketIdx,
    /// It never writes again from here on.
    stuck_at: Option<u64>,
}

impl Modelled {
    fn may_send(&self) -> bool {
        self.sent.0 < self.packets && self.allowance.allows(self.sent)
    }

    fn may_write(&self) -> bool {
        self.here.contains(&self.written) && self.stuck_at.is_none_or(|at| self.written.0 < at)
    }

    fn is_done(&self) -> bool {
        self.written.0 == self.stuck_at.map_or(self.packets, |at| at.min(self.packets))
    }
}

impl Model {
    fn new(slots: u32, devices: &[(u64, Option<u64>, Option<u64>)]) -> Model {
        let mut model = Model {
            credit: Credit::new(slots, devices.iter().map(|device| device.1)).unwrap(),
            devices: Vec::new(),
            network: Vec::new(),
            messages: VecDeque::new(),
        };
        let modelled = |&(packets, _, stuck_at): &(u64, Option<u64>, Option<u64>)| Modelled {
            packets,
            allowance: Allowance::default(),
            sent: PacketIdx::default(),
            here: Vec::new(),
            written: PacketIdx::default(),
            stuck_at,
        };
        model.devices = devices.iter().map(modelled).collect();
        DeviceIdx::below(devices.len()).for_each(|device| model.announce(device));
        model
    }

    fn announce(&mut self, device: DeviceIdx) {
        let limit = self.credit.announce(device);
        self.messages.extend(limit.map(|limit| (device, limit)));
    }

    fn find(&self, from: usize, what: impl Fn(&Modelled) -> bool) -> Option<DeviceIdx> {
        let count = self.devices.len();
        (0..count)
            .map(|at| (from + at) % count)
            .find(|&at| what(&self.devices[at]))
            .map(DeviceIdx::from_index)
    }

    /// Takes one possible step, chosen by `choice`. False when none is possible.
    fn step(&mut self, choice: usize) -> bool {
        (0..4).any(|turn| {
            let at = choice / 4;
            match (choice + turn) % 4 {
                0 => self.find(at, Modelled::may_send).is_some_and(|device| {
                    let modelled = &mut self.devices[device.index()];
                    self.network.push((device, modelled.sent));
                    modelled.sent = modelled.sent.next();
                    true
                }),
                1 => self.find(at, Modelled::may_write).is_some_and(|device| {
                    let modelled = &mut self.devices[device.index()];
                    modelled.written = modelled.written.next();
                    self.credit.written(device);
                    self.announce(device);
                    true
                }),
                2 if !self.network.is_empty() => {
                    let (device, idx) = self.network.swap_remove(at % self.network.len());
                    let modelled = &mut self.devices[device.index()];
                    assert!(idx < self.credit.limit(device));
                    self.credit.arrived(device, idx, idx.0 + 1 == modelled.packets);
                    modelled.here.push(idx);
                    true
                }
                3 => self.messages.pop_front().is_some_and(|(device, limit)| {
                    self.devices[device.index()].allowance.raise(limit).unwrap();
                    true
                }),
                _ => false,
            }
        })
    }

    /// What must hold after every step.
    fn check(&self) {
        let Credit { slots, free, guarantee, .. } = self.credit;
        let reserved: u64 = self.credit.devices.iter().map(|share| share.reserved(guarantee)).sum();
        assert_eq!(reserved + free, slots, "more is promised than there is: {self:?}");
        let under_way = |device: &Modelled| device.sent.ahead_of(device.written);
        assert!(self.devices.iter().map(under_way).sum::<u64>() <= slots, "{self:?}");
        for (share, device) in self.credit.devices.iter().zip(&self.devices) {
            assert!(share.held() <= share.most && under_way(device) <= share.most, "{self:?}");
            assert!(share.has_ended || share.held() >= 1, "it can never go on: {self:?}");
        }
    }
}

fn expected() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![Just(None), (0_u64..30).prop_map(Some), Just(Some(u64::MAX))]
}

proptest! {
    #[test]
    fn at_first_all_that_is_needed_is_granted_and_no_more_than_there_is(
        slots in 0_u32..10_000, expected in prop::collection::vec(expected(), 1..=DEVICES_MAX)
    ) {
        let Some(mut credit) = Credit::new(slots, expected.iter().copied()) else {
            prop_assert!((slots as usize) < expected.len());
            return Ok(());
        };
        let limits = first_limits(&mut credit);
        prop_assert!(limits.iter().sum::<u64>() <= u64::from(slots));
        prop_assert!(limits.iter().all(|&limit| limit >= credit.guarantee));
        let places: u64 = credit.devices.iter().map(|share| share.most).sum();
        prop_assert!(places <= u64::from(slots) + LENT_PLACES_MAX as u64, "memory has a bound");
    }

    /// Whatever devices expect, however large they are and whatever is delayed; some never write again.
    #[test]
    fn never_needs_more_slots_than_there_are_and_never_deadlocks(
        devices in prop::collection::vec((1_u64..40, expected(), prop::option::weighted(0.2, 0_u64..40)), 1..8),
        spare in 0_u32..30,
        choices in prop::collection::vec(0_usize..1000, 1..80)
    ) {
        let mut model = Model::new(u32::try_from(devices.len()).unwrap() + spare, &devices);
        for step in 0.. {
            model.check();
            if !model.step(choices[step % choices.len()] + step) {
                break;
            }
        }
        prop_assert!(model.devices.iter().all(Modelled::is_done), "{:?}", model);
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
    allowance.raise(credit(2, &[None; 2]).announce(FIRST).unwrap()).unwrap();
    assert!(allowance.allows(PacketIdx(0)) && !allowance.allows(PacketIdx(1)));
}

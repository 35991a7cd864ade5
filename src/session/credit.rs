//! How far a sender may go: backpressure without deadlock, and credit that follows need.
//!
//! The receiver lends the slots of its pool to devices. Each device is guaranteed a few until its last packet has come;
//! the others go to the devices that use them. What is lent is sent as a *limit*: the first idx that may not be sent
//! yet. It only ever grows, so what a device was lent comes back only as its packets are written, or when it ends.
//!
//! Nothing here knows a clock, or relies on what a peer estimates. The invariant: what devices hold and what they are
//! guaranteed is together never more than the pool, so every packet that may be sent finds a slot, whatever order
//! packets arrive in, and every device can always go on.

use crate::limits::{LENT_PLACES_MAX, PACKETS_PER_DEVICE};
use crate::numbers::{DeviceIdx, PacketIdx};

/// A device above the average may hold this many times what is free: some is always left for one that begins to need it.
const LENT_TO_FREE_MAX: u64 = 4;

/// The receiver's half: what each device holds of the pool.
#[derive(Debug, Default)]
pub(crate) struct Credit {
    slots: u64,
    /// Slots that no device holds or is guaranteed.
    free: u64,
    guarantee: u64,
    /// Devices whose last packet has not come.
    open: u64,
    devices: Box<[Share]>,
}

/// What one device holds: the packets from the first that is not written to the last that may be sent.
#[derive(Debug, Clone, Copy)]
struct Share {
    /// The most that it may hold.
    most: u64,
    /// The first packet that has not left its slot.
    unwritten: PacketIdx,
    /// Packets that came.
    arrived: u64,
    granted: PacketIdx,
    announced: PacketIdx,
    /// Its last packet came: it needs nothing more.
    has_ended: bool,
}

impl Share {
    fn new(most: u64, granted: u64) -> Share {
        let first = PacketIdx::default();
        let granted = first.plus(granted);
        Share { most, unwritten: first, arrived: 0, granted, announced: first, has_ended: false }
    }

    fn held(&self) -> u64 {
        self.granted.ahead_of(self.unwritten)
    }

    /// What is kept for it, whether it holds it or not.
    fn reserved(&self, guarantee: u64) -> u64 {
        if self.has_ended { self.held() } else { self.held().max(guarantee) }
    }
}

impl Credit {
    /// A pool of `slots` for devices that expect to send so many packets beside their config packet, if they know.
    /// `None` without a slot for each device.
    pub(crate) fn new(slots: u32, expected: impl Iterator<Item = Option<u64>>) -> Option<Credit> {
        let expected: Vec<Option<u64>> = expected.collect();
        let (slots, count) = (u64::from(slots), expected.len() as u64);
        let average = slots.checked_div(count).filter(|&average| average > 0)?;
        let guarantee = average.min(PACKETS_PER_DEVICE);
        let most = average.max(LENT_PLACES_MAX as u64 / count).min(slots);
        let need = |expected: Option<u64>| match expected {
            _ if count == 1 => slots,
            Some(packets) => {
                packets.saturating_add(1).clamp(PACKETS_PER_DEVICE, most.max(PACKETS_PER_DEVICE))
            }
            None => (average / 2).max(PACKETS_PER_DEVICE),
        };
        let needs: Vec<u64> = expected.into_iter().map(need).collect();
        let devices: Box<[Share]> =
            divide(slots, &needs).into_iter().map(|granted| Share::new(most, granted)).collect();
        let reserved: u64 = devices.iter().map(|share| share.reserved(guarantee)).sum();
        Some(Credit { slots, free: slots - reserved, guarantee, open: count, devices })
    }

    /// The most packets that a device may hold at a time.
    pub(crate) fn most(&self, device: DeviceIdx) -> usize {
        usize::try_from(self.devices[device.index()].most).expect("a pool has at most u32::MAX slots")
    }

    /// The announced limit: packets from here on break the protocol.
    pub(crate) fn limit(&self, device: DeviceIdx) -> PacketIdx {
        self.devices[device.index()].announced
    }

    /// One more packet came. Behind the last one no slot is needed: what was granted beyond it is free.
    pub(crate) fn arrived(&mut self, device: DeviceIdx, idx: PacketIdx, is_last: bool) {
        self.change(device, |share| {
            share.arrived += 1;
            if is_last {
                share.has_ended = true;
                share.granted = idx.next();
            }
        });
        self.open -= u64::from(is_last);
    }

    /// One more packet has left its slot, which is lent again: to the same device, unless others need it more.
    pub(crate) fn written(&mut self, device: DeviceIdx) {
        self.change(device, |share| share.unwritten = share.unwritten.next());
        for _ in 0..self.wanted(device) {
            if !self.may_lend(device) {
                break;
            }
            self.change(device, |share| share.granted = share.granted.next());
        }
    }

    /// A new limit, when it is worth a message: once it has grown by a quarter of what the device holds. The peer stalls
    /// only when it has used up its limit, and by then the limit can grow by all of it.
    pub(crate) fn announce(&mut self, device: DeviceIdx) -> Option<PacketIdx> {
        let share = &mut self.devices[device.index()];
        if share.has_ended || share.granted.ahead_of(share.announced) < (share.held() / 4).max(1) {
            return None;
        }
        share.announced = share.granted;
        Some(share.granted)
    }

    /// How many slots to lend for one that came back. A device whose packets are written as they come may be waiting
    /// for credit: it gets one more each time, so what it holds doubles in a round trip. One with packets to spare is
    /// as fast as its writes, and needs no more than it has, or less if that is more than the average.
    fn wanted(&self, device: DeviceIdx) -> u64 {
        let share = &self.devices[device.index()];
        let (held, waiting) = (share.held(), share.arrived.saturating_sub(share.unwritten.0));
        match (share.has_ended, 4 * waiting <= held) {
            (true, _) => 0,
            (false, true) => 2,
            (false, false) if held >= self.average() && 2 * waiting > held => 0,
            (false, false) => 1,
        }
    }

    fn may_lend(&self, device: DeviceIdx) -> bool {
        let share = &self.devices[device.index()];
        let held = share.held();
        let is_fair = || held < self.average() || held < LENT_TO_FREE_MAX * self.free;
        held < self.guarantee || (held < share.most && self.free > 0 && is_fair())
    }

    /// What each device that is not at its end would hold if all held the same.
    fn average(&self) -> u64 {
        self.slots / self.open.max(1)
    }

    fn change(&mut self, device: DeviceIdx, change: impl FnOnce(&mut Share)) {
        let share = &mut self.devices[device.index()];
        self.free += share.reserved(self.guarantee);
        change(share);
        self.free =
            self.free.checked_sub(share.reserved(self.guarantee)).expect("no more is lent than is free");
    }
}

/// Divides slots by need: whoever needs less than an equal part gets what it needs, and the others share the rest.
fn divide(slots: u64, needs: &[u64]) -> Vec<u64> {
    let mut order: Vec<usize> = (0..needs.len()).collect();
    order.sort_by_key(|&device| needs[device]);
    let (mut left, mut parts) = (slots, vec![0; needs.len()]);
    for (at, device) in order.into_iter().enumerate() {
        let part = needs[device].min(left / (needs.len() - at) as u64);
        left -= part;
        parts[device] = part;
    }
    parts
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
mod tests;

//! The devices of a migration from a QEMU: puts their packets in order, and decides which packet may have a slot.
//!
//! QEMU's protocol has no credit: packets come on whichever connection was free, as fast as it takes them. A connection
//! whose packet has no slot waits, and TCP holds the source back. That no wait lasts for ever follows from one rule and
//! one fact.
//!
//! *The rule*: a slot is reserved for each device's next packet, unless that packet has a slot or the one before it is
//! being written; and one for the main connection, unless it has one. Any other packet gets a slot only while there are
//! more.
//!
//! *The fact*: a source hands packets to its connections in one order for all devices, in which each device's packets
//! are in order of idx. Suppose nothing is on its way and everything waits, and take the earliest packet that has no
//! slot. Everything before it on its connection has been received, so it is at the head. All earlier packets of its
//! device have slots, so they have been written, and it is its device's next. So a slot is reserved for it: it does not
//! wait.
//!
//! A source that breaks that order cannot make the receiver hang: when every connection waits or has ended and no
//! device is being written, nothing more can come, and that is an error that names what is missing.

use crate::numbers::{DeviceIdx, PacketIdx};
use std::collections::VecDeque;

use super::unexpected;
use crate::error::{Error, PacketProblem, PeerError, Place, UnexpectedState};
use crate::limits::QEMU_WINDOW_MAX;
use crate::qemu::follow::{DeviceId, Follower, check_order, claim, disorder};
use crate::session::index_set::IndexSet;
use crate::session::queue::NextPacket;
use crate::session::reorder::Reorder;
use crate::session::totals::Totals;
use crate::time::Nanos;
use crate::wire::qemu::{DevicePacket, Event, Idstr, Reply};

/// Which way a packet came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Main,
    Channels,
}

#[derive(Debug)]
struct Incoming<H> {
    /// What came on the main connection, in order.
    main: VecDeque<NextPacket<H>>,
    reorder: Reorder<NextPacket<H>>,
    /// Which way the stopped device's state travels, once that is known.
    way: Option<Way>,
    /// Which way the packet that is being written came.
    writing: Option<Way>,
    totals: Totals,
    precopy_bytes: u64,
    /// How often it was asked whether a slot is reserved for it.
    #[cfg(test)]
    looked_at: std::cell::Cell<usize>,
}

impl<H> Incoming<H> {
    fn new(window: usize) -> Incoming<H> {
        Incoming {
            main: VecDeque::new(),
            reorder: Reorder::new(window),
            way: None,
            writing: None,
            totals: Totals::default(),
            precopy_bytes: 0,
            #[cfg(test)]
            looked_at: std::cell::Cell::default(),
        }
    }

    /// Whether a slot is reserved for its next packet.
    fn is_owed(&self) -> bool {
        #[cfg(test)]
        self.looked_at.set(self.looked_at.get() + 1);
        let has_one = self.reorder.is_next_claimed() || self.writing == Some(Way::Channels);
        !has_one && self.way != Some(Way::Main) && !self.reorder.is_complete()
    }

    /// Whether a packet that travels on a channel has not come.
    fn lacks_packets(&self) -> bool {
        self.way != Some(Way::Main) && !self.reorder.has_claimed_all()
    }
}

/// Whether a packet may be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Yes: a slot has been taken for it.
    Slot,
    /// Not yet.
    Wait,
}

/// A device with no packet on channels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unclear {
    pub(crate) device: DeviceIdx,
    pub(crate) id: DeviceId,
    /// State of the stopped device came on the main connection.
    pub(crate) needs_config: bool,
}

impl Unclear {
    /// Why it cannot run.
    pub(crate) fn without_config(&self) -> Error {
        unexpected(self.id, UnexpectedState::MainWithoutConfig)
    }
}

/// The devices of one migration.
#[derive(Debug)]
pub(crate) struct Devices<H> {
    follower: Follower<Incoming<H>>,
    /// Free slots.
    free: usize,
    /// Slots that hold state from the main connection.
    main_has: usize,
    /// What is true of which devices, so that a packet is work for its own device only.
    standing: Standing,
}

/// What is true of which devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    /// A slot is reserved for their next packet.
    owed: IndexSet<DeviceIdx>,
    /// Packets of theirs came on channels.
    on_channels: IndexSet<DeviceIdx>,
    /// A packet of theirs that travels on a channel has not come.
    lacking: IndexSet<DeviceIdx>,
}

impl Standing {
    /// Nothing has come of this many devices.
    fn new(devices: usize) -> Standing {
        let all = IndexSet::below(devices);
        Standing { owed: all, on_channels: IndexSet::default(), lacking: all }
    }

    /// A device has changed.
    fn update<H>(&mut self, device: DeviceIdx, incoming: &Incoming<H>) {
        self.owed.set(device, incoming.is_owed());
        self.on_channels.set(device, incoming.way == Some(Way::Channels));
        self.lacking.set(device, incoming.lacks_packets());
    }
}

impl<H> Devices<H> {
    pub(super) fn new(names: Vec<(Idstr, u32)>, slots: usize) -> Devices<H> {
        assert!(slots > names.len(), "a slot for each device and one for the main connection");
        let standing = Standing::new(names.len());
        let window = slots.min(QEMU_WINDOW_MAX);
        let all =
            names.into_iter().map(|(idstr, instance)| (DeviceId { idstr, instance }, Incoming::new(window)));
        Devices { follower: Follower::closed(all), free: slots, main_has: 0, standing }
    }

    /// What a device has been given so far, and how many bytes of that are from before it stopped.
    pub(crate) fn totals(&self, device: DeviceIdx) -> (Totals, u64) {
        let incoming = &self.follower.devices[device.index()].state;
        (incoming.totals, incoming.precopy_bytes)
    }

    /// Takes an event of the main connection at this offset. Returns what to answer the source if it listens.
    pub(super) fn on_main(&mut self, event: &Event<'_>, begin: u64) -> Result<Option<Reply>, Error> {
        self.follower.on_main(event, begin).map_err(|wrong| wrong.on(Place::Main))
    }

    /// A device that the source has not announced.
    pub(super) fn never_began(&self) -> Option<DeviceId> {
        self.follower.unannounced()
    }

    /// A device whose packets came on channels.
    pub(super) fn on_channels(&self) -> Option<DeviceId> {
        self.standing.on_channels.first().map(|device| self.follower.devices[device.index()].id)
    }

    /// How many slots are reserved.
    fn owed(&self) -> usize {
        self.standing.owed.len() + usize::from(self.main_has == 0)
    }

    /// Whether a packet may be received now, whose header came at this place or waited there.
    pub(crate) fn admit(&mut self, packet: &DevicePacket, at: (Place, u64)) -> Result<Admission, Error> {
        let (idx, has_more) = (PacketIdx::from(packet.idx), self.free > self.owed());
        let place = self.follower.place(packet.into()).map_err(|wrong| wrong.on(at.0))?;
        let device = DeviceIdx::from_index(place);
        let incoming = &mut self.follower.devices[place].state;
        if incoming.way == Some(Way::Main) {
            return Err(PeerError::from(disorder(packet, at, PacketProblem::AfterMainState)).into());
        }
        check_order(&incoming.reorder, packet, at).map_err(PeerError::from)?;
        let is_owed = idx == incoming.reorder.next() && self.standing.owed.contains(device);
        if !incoming.reorder.is_near(idx) || !(is_owed || has_more) {
            return Ok(Admission::Wait);
        }
        claim(&mut incoming.reorder, packet, at).map_err(PeerError::from)?;
        incoming.way = Some(Way::Channels);
        self.standing.update(device, incoming);
        self.free -= 1;
        Ok(Admission::Slot)
    }

    /// The device of an admitted packet.
    pub(crate) fn device_of(&self, packet: &DevicePacket) -> DeviceIdx {
        DeviceIdx::from_index(self.follower.position(packet.into()).expect("it was admitted"))
    }

    /// An admitted packet is complete. Gives its device.
    pub(crate) fn fill(&mut self, packet: &DevicePacket, handle: H, now: Nanos) -> DeviceIdx {
        let device = self.follower.position(packet.into()).expect("it was admitted");
        let turn = NextPacket {
            handle,
            len: packet.len as usize,
            config: packet.config,
            read_at: 0,
            arrived_at: now,
        };
        self.follower.devices[device].state.reorder.fill(packet.idx.into(), turn);
        DeviceIdx::from_index(device)
    }

    /// Whether a piece of state on the main connection may be received now. If so, a slot has been taken for it.
    pub(crate) fn admit_main(&mut self) -> bool {
        let fits = self.main_has == 0 || self.free > self.owed();
        if fits {
            self.free -= 1;
            self.main_has += 1;
        }
        fits
    }

    /// A piece of state on the main connection is complete. Returns the device whose section is open: the piece is its.
    pub(crate) fn fill_main(&mut self, handle: H, len: usize, now: Nanos) -> Result<DeviceIdx, Error> {
        let open = self.follower.open_position().expect("state travels in a device's section");
        let (device, has_stopped) = self.follower.open().expect("state travels in a device's section");
        let open = DeviceIdx::from_index(open);
        let incoming = &mut device.state;
        if has_stopped {
            let before = incoming.way.replace(Way::Main);
            self.standing.update(open, incoming);
            if before == Some(Way::Channels) {
                return Err(unexpected(device.id, UnexpectedState::MainAfterChannels));
            }
        } else {
            incoming.precopy_bytes += len as u64;
        }
        incoming.main.push_back(NextPacket { handle, len, config: false, read_at: 0, arrived_at: now });
        Ok(open)
    }

    /// Devices whose config state may be on the main connection, because none of their packets came on channels.
    pub(crate) fn unclear(&self) -> impl Iterator<Item = Unclear> {
        let unclear = self
            .follower
            .devices
            .iter()
            .enumerate()
            .filter(|(_, device)| device.state.way != Some(Way::Channels));
        unclear.map(|(at, device)| Unclear {
            device: DeviceIdx::from_index(at),
            id: device.id,
            needs_config: device.state.way == Some(Way::Main),
        })
    }

    /// The config state of a device came on the main connection; it has a slot.
    pub(crate) fn fill_config(&mut self, device: DeviceIdx, handle: H, len: usize, now: Nanos) {
        let incoming = &mut self.follower.devices[device.index()].state;
        incoming.way = Some(Way::Main);
        self.standing.update(device, incoming);
        incoming.main.push_back(NextPacket { handle, len, config: true, read_at: 0, arrived_at: now });
    }

    /// The first device that lacks a packet, and which one. A device with no packet on channels counts only once the
    /// main connection is over.
    pub(super) fn missing(&self, main_is_over: bool) -> Option<(DeviceId, PacketIdx)> {
        let Standing { on_channels, lacking, .. } = &self.standing;
        let known = if main_is_over { *lacking } else { lacking.intersection(on_channels) };
        let device = &self.follower.devices[known.first()?.index()];
        Some((device.id, device.state.reorder.missing()?))
    }

    /// Whether any device lacks a packet, once the main connection is over.
    pub(super) fn lacks_packets(&self) -> bool {
        !self.standing.lacking.is_empty()
    }

    pub(super) fn pop(&mut self, device: DeviceIdx) -> Option<NextPacket<H>> {
        let has_switched = self.follower.has_switched;
        let incoming = &mut self.follower.devices[device.index()].state;
        let (way, turn) = match incoming.main.pop_front() {
            Some(turn) => (Way::Main, turn),
            None if has_switched => (Way::Channels, incoming.reorder.pop()?.1),
            None => return None,
        };
        incoming.writing = Some(way);
        self.standing.update(device, incoming);
        incoming.totals.packets += 1;
        incoming.totals.bytes += turn.len as u64;
        if turn.config {
            incoming.totals.config_bytes = turn.len as u64;
        }
        Some(turn)
    }

    pub(super) fn written(&mut self, device: DeviceIdx) {
        let incoming = &mut self.follower.devices[device.index()].state;
        if incoming.writing.take() == Some(Way::Main) {
            self.main_has -= 1;
        }
        self.standing.update(device, incoming);
        self.free += 1;
    }
}

/// What tests look at.
#[cfg(test)]
impl<H> Devices<H> {
    /// Checks what is known of the devices against the devices themselves.
    pub(super) fn check_standing(&self) {
        let mut found = Standing::new(0);
        for (place, device) in self.follower.devices.iter().enumerate() {
            found.update(DeviceIdx::from_index(place), &device.state);
        }
        assert_eq!(self.standing, found);
    }

    /// The devices that were looked at since the last call.
    pub(super) fn looked_at(&self) -> Vec<usize> {
        let devices = self.follower.devices.iter().enumerate();
        devices.filter(|(_, device)| device.state.looked_at.take() > 0).map(|(place, _)| place).collect()
    }
}

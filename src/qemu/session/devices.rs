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
        }
    }

    /// Whether a slot is reserved for its next packet.
    fn is_owed(&self) -> bool {
        let has_one = self.reorder.is_next_claimed() || self.writing == Some(Way::Channels);
        !has_one && self.way != Some(Way::Main) && !self.reorder.is_complete()
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
}

impl<H> Devices<H> {
    pub(super) fn new(names: Vec<(Idstr, u32)>, slots: usize) -> Devices<H> {
        assert!(slots > names.len(), "a slot for each device and one for the main connection");
        let window = slots.min(QEMU_WINDOW_MAX);
        let all =
            names.into_iter().map(|(idstr, instance)| (DeviceId { idstr, instance }, Incoming::new(window)));
        Devices { follower: Follower::closed(all), free: slots, main_has: 0 }
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
        self.follower.devices.iter().find(|device| device.announced.is_none()).map(|device| device.id)
    }

    /// A device whose packets came on channels.
    pub(super) fn on_channels(&self) -> Option<DeviceId> {
        self.follower
            .devices
            .iter()
            .find(|device| device.state.way == Some(Way::Channels))
            .map(|device| device.id)
    }

    /// How many slots are reserved.
    fn owed(&self) -> usize {
        self.follower.devices.iter().filter(|device| device.state.is_owed()).count()
            + usize::from(self.main_has == 0)
    }

    /// Whether a packet may be received now, whose header came at this place or waited there.
    pub(crate) fn admit(&mut self, packet: &DevicePacket, at: (Place, u64)) -> Result<Admission, Error> {
        let (idx, has_more) = (PacketIdx::from(packet.idx), self.free > self.owed());
        let incoming = &mut self.follower.device(packet.into()).map_err(|wrong| wrong.on(at.0))?.state;
        if incoming.way == Some(Way::Main) {
            return Err(PeerError::from(disorder(packet, at, PacketProblem::AfterMainState)).into());
        }
        check_order(&incoming.reorder, packet, at).map_err(PeerError::from)?;
        let is_owed = idx == incoming.reorder.next() && incoming.is_owed();
        if !incoming.reorder.is_near(idx) || !(is_owed || has_more) {
            return Ok(Admission::Wait);
        }
        claim(&mut incoming.reorder, packet, at).map_err(PeerError::from)?;
        incoming.way = Some(Way::Channels);
        self.free -= 1;
        Ok(Admission::Slot)
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
        let incoming = &mut device.state;
        if has_stopped && incoming.way.replace(Way::Main) == Some(Way::Channels) {
            return Err(unexpected(device.id, UnexpectedState::MainAfterChannels));
        }
        if !has_stopped {
            incoming.precopy_bytes += len as u64;
        }
        incoming.main.push_back(NextPacket { handle, len, config: false, read_at: 0, arrived_at: now });
        Ok(DeviceIdx::from_index(open))
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
        incoming.main.push_back(NextPacket { handle, len, config: true, read_at: 0, arrived_at: now });
    }

    /// The first device that lacks a packet, and which one. A device with no packet on channels counts only once the
    /// main connection is over.
    pub(super) fn missing(&self, main_is_over: bool) -> Option<(DeviceId, PacketIdx)> {
        self.follower.devices.iter().find_map(|device| {
            let Incoming { way, reorder, .. } = &device.state;
            let is_known = main_is_over || *way == Some(Way::Channels);
            let idx = reorder.missing().filter(|_| is_known && *way != Some(Way::Main))?;
            Some((device.id, idx))
        })
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
        incoming.totals.packets += 1;
        incoming.totals.bytes += turn.len as u64;
        if turn.config {
            incoming.totals.config_bytes = turn.len as u64;
        }
        Some(turn)
    }

    pub(super) fn written(&mut self, device: DeviceIdx) {
        if self.follower.devices[device.index()].state.writing.take() == Some(Way::Main) {
            self.main_has -= 1;
        }
        self.free += 1;
    }
}

//! The receiver's side of the protocol: checks packets, puts them in order, grants credit, and keeps its half of the
//! hand-over.

use crate::numbers::{DeviceIdx, PacketIdx, PacketSize};
use std::collections::VecDeque;
use std::time::Duration;

use super::credit::Credit;
use super::handover::{Outcome, ReceiverHandover};
use super::index_set::IndexSet;
use super::liveness::Liveness;
use super::other_side::parts;
use super::queue::{NextPacket, PacketQueue};
use super::reorder::Reorder;
use super::totals::Totals;
use crate::error::{Error, PeerError, Place, Refusal};
use crate::limits::{CONTROL_QUEUE_MAX, HOOK_MAX, STANDSTILL_MAX, WARM_UP_MAX};
use crate::phase::Phase;
use crate::time::Nanos;
use crate::wire::{AbortCode, Checksum, Control, DataHeader, FEATURE_FIGURES, FEATURE_WARM_UP, Offer};

/// A packet that waits for earlier ones.
#[derive(Debug)]
struct Arrived<H> {
    header: DataHeader,
    /// Where its payload is.
    handle: H,
    /// When its last byte arrived.
    arrived_at: Nanos,
}

#[derive(Debug)]
struct Incoming<H> {
    reorder: Reorder<Arrived<H>>,
    totals: Totals,
    /// Bytes of the packet that is being written; all there are for config state, whose end is progress in any case.
    writing: u64,
}

/// How far the exchange of messages has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Offered,
    Accepted,
    Ready,
}

/// The receiver's side of one session.
#[derive(Debug)]
pub(crate) struct ReceiverSession<H> {
    offer: Option<Offer>,
    devices: Vec<Incoming<H>>,
    /// What each device holds of the pool.
    credit: Credit,
    /// Devices whose limit may have become worth a message.
    credit_due: IndexSet<DeviceIdx>,
    /// The smallest until an offer is accepted; no packet comes before that.
    packet_size: PacketSize,
    checksum: Checksum,
    stage: Stage,
    handover: ReceiverHandover,
    live: Liveness,
    outbox: VecDeque<Control>,
    switched_over: Option<Nanos>,
    /// Packets that came and are not written yet.
    unwritten: usize,
    /// The sender asks for figures.
    figures: bool,
    /// The time that its last ping said, and when it came.
    ping: Option<(Nanos, Nanos)>,
    /// The last loaded, which is this side's vote for commit.
    vote: Option<(DeviceIdx, Control)>,
    /// What the receiver is doing, for error messages.
    phase: Phase,
}

impl<H> ReceiverSession<H> {
    /// Waits for the offer.
    pub(crate) fn new(now: Nanos) -> ReceiverSession<H> {
        let mut live = Liveness::new(now);
        live.await_offer(now);
        ReceiverSession {
            offer: None,
            devices: Vec::new(),
            credit: Credit::default(),
            credit_due: IndexSet::default(),
            packet_size: PacketSize::MIN,
            checksum: Checksum::None,
            stage: Stage::New,
            handover: ReceiverHandover::new(0),
            live,
            outbox: VecDeque::with_capacity(CONTROL_QUEUE_MAX),
            switched_over: None,
            unwritten: 0,
            figures: false,
            ping: None,
            vote: None,
            phase: Phase::Settings,
        }
    }

    pub(crate) fn enter(&mut self, phase: Phase, now: Nanos) {
        self.phase = phase;
        self.moved(now);
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// The sender's offer, once it came.
    pub(crate) fn take_offer(&mut self) -> Option<Offer> {
        self.offer.take()
    }

    /// Refuses the offer.
    pub(crate) fn refuse(&mut self, reason: &Refusal) {
        let (code, text) = reason.to_wire();
        self.send_last(Control::Refuse { code, text: text.into() });
    }

    /// Accepts the offer: `credit` is granted to its devices as soon as they are ready.
    pub(crate) fn accept(&mut self, offer: &Offer, packet_size: PacketSize, credit: Credit) {
        let incoming = |device| Incoming {
            reorder: Reorder::new(credit.most(device)),
            totals: Totals::default(),
            writing: 0,
        };
        self.devices = DeviceIdx::below(offer.devices.len()).map(incoming).collect();
        self.credit = credit;
        self.credit_due = IndexSet::below(self.devices.len());
        self.handover = ReceiverHandover::new(self.devices.len());
        self.packet_size = packet_size;
        self.checksum = offer.checksum;
        self.figures = offer.features & FEATURE_FIGURES != 0;
        self.stage = Stage::Accepted;
        self.outbox.push_back(Control::Accept);
    }

    /// Says how many bytes may warm each data connection up, if the sender asks: these are dropped (P-46).
    pub(crate) fn grant_warm_up(&mut self, offer: &Offer, channels: usize) -> u64 {
        if offer.features & FEATURE_WARM_UP == 0 {
            return 0;
        }
        let bytes = WARM_UP_MAX / channels.max(1) as u64;
        self.outbox.push_back(Control::WarmUp { bytes });
        bytes
    }

    /// Every device can be written to.
    pub(crate) fn ready(&mut self, now: Nanos) {
        self.stage = Stage::Ready;
        self.outbox.push_back(Control::Ready);
        self.moved(now);
    }

    /// Something moved, or it is this side's own caller that everything waits for.
    pub(crate) fn moved(&mut self, now: Nanos) {
        self.live.moved(now, self.patience());
    }

    /// How long the next progress may take: the sender's caller may hold the switchover back, and commit.
    fn patience(&self) -> Duration {
        let awaits_caller = match self.switched_over {
            None => self.stage == Stage::Ready && self.unwritten == 0,
            Some(_) => self.handover.is_loaded(),
        };
        if awaits_caller { HOOK_MAX } else { STANDSTILL_MAX }
    }

    /// Packets that came and are not written yet.
    pub(crate) fn unwritten(&self) -> u64 {
        self.unwritten as u64
    }

    pub(crate) fn totals(&self, device: DeviceIdx) -> Totals {
        self.devices[device.index()].totals
    }

    /// When the sender's devices began to stop.
    pub(crate) fn switched_over(&self) -> Option<Nanos> {
        self.switched_over
    }

    /// A packet's header came: checks whether its payload may be received.
    pub(crate) fn on_header(&mut self, header: &DataHeader, place: Place) -> Result<(), PeerError> {
        let Some(incoming) = self.devices.get_mut(usize::from(header.device)) else {
            let what = crate::wire::Malformed::Value { field: "device", found: header.device.into() };
            return Err(PeerError::Malformed { place, what });
        };
        // P-15
        if !header.config && header.len > self.packet_size.get() {
            let (found, max) = (header.len.into(), self.packet_size.get().into());
            return Err(PeerError::Malformed {
                place,
                what: crate::wire::Malformed::TooLong { field: "payload", found, max },
            });
        }
        // P-26, P-27
        let (device, idx) = (DeviceIdx(header.device), PacketIdx(header.idx));
        let claimed = incoming.reorder.claim(idx, header.config, self.credit.limit(device));
        claimed.map_err(|problem| PeerError::Order { device: header.device.into(), idx: idx.0, problem })?;
        self.credit.arrived(device, idx, header.config);
        Ok(())
    }

    /// A packet is complete; `crc32c` is the sum of its payload as received.
    pub(crate) fn on_packet(
        &mut self,
        header: DataHeader,
        handle: H,
        crc32c: u32,
        place: Place,
        now: Nanos,
    ) -> Result<(), (PeerError, H)> {
        // P-16
        if self.checksum == Checksum::Crc32c && crc32c != header.crc32c {
            let (device, idx, expected) = (header.device.into(), header.idx, header.crc32c);
            return Err((PeerError::Checksum { device, idx, place, found: crc32c, expected }, handle));
        }
        let incoming = &mut self.devices[usize::from(header.device)];
        incoming.reorder.fill(PacketIdx(header.idx), Arrived { header, handle, arrived_at: now });
        self.unwritten += 1;
        match header.config {
            true => self.moved(now),
            false => self.live.moved_bytes(header.len.into(), now, self.patience()),
        }
        Ok(())
    }

    /// Whether every device has everything and is ready to run.
    pub(crate) fn is_complete(&self) -> bool {
        self.vote.is_some() || self.handover.is_loaded()
    }

    /// This side agrees: reports the last device, after which the sender may commit.
    pub(crate) fn vote(&mut self, now: Nanos) {
        let (device, loaded) = self.vote.take().expect("every device has everything");
        self.handover.loaded(device);
        self.outbox.push_back(loaded);
        self.moved(now);
    }

    pub(crate) fn is_committed(&self) -> bool {
        self.handover.is_committed()
    }

    /// Whether no packet of any device is missing: every device is loaded.
    pub(crate) fn has_everything(&self) -> bool {
        self.is_complete() || self.is_committed()
    }

    /// Every device runs.
    pub(crate) fn committed(&mut self) {
        self.handover.committed();
        self.outbox.push_back(Control::Committed);
    }

    /// Whether the sender takes this side's report when everything is over.
    pub(crate) fn wants_report(&self) -> bool {
        self.figures && self.handover.outcome() == Outcome::Complete
    }

    /// Queues this side's report, behind committed.
    pub(crate) fn send_report(&mut self, report: &[u8]) {
        self.outbox.extend(parts(report));
    }

    /// The outcome if the transfer ends now.
    pub(crate) fn outcome(&self) -> Outcome {
        self.handover.outcome()
    }

    /// Queues the final message of a side that gives up.
    pub(crate) fn send_last(&mut self, message: Control) {
        self.outbox.clear();
        self.stage = Stage::New;
        self.outbox.push_back(message);
    }

    /// Whether every queued message has been handed to the connection.
    pub(crate) fn has_sent_all(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Fails when the peer is silent or makes no progress. After Commit that no longer matters (P-37).
    pub(crate) fn check(&mut self, now: Nanos) -> Result<(), Error> {
        if self.is_committed() {
            return Ok(());
        }
        Ok(self.live.check(now, self.phase)?)
    }

    /// When `check` or `poll_control` must be called again at the latest.
    pub(crate) fn next_deadline(&self) -> Nanos {
        if self.is_committed() { self.live.next_heartbeat() } else { self.live.next() }
    }

    /// The next message to send: queued messages first, then credit, then a heartbeat.
    pub(crate) fn poll_control(&mut self, now: Nanos) -> Option<Control> {
        let message = self
            .outbox
            .pop_front()
            .or_else(|| self.pong(now))
            .or_else(|| self.credit())
            .or_else(|| self.live.heartbeat_due(now).then_some(Control::Heartbeat))?;
        self.live.sent(now);
        Some(message)
    }

    fn pong(&mut self, now: Nanos) -> Option<Control> {
        let (at, received_at) = self.ping.take().filter(|_| self.stage == Stage::Ready)?;
        Some(Control::Pong { at, received_at, sent_at: now })
    }

    fn credit(&mut self) -> Option<Control> {
        // P-24
        if self.stage != Stage::Ready {
            return None;
        }
        loop {
            let device = self.credit_due.pop_first()?;
            if let Some(limit) = self.credit.announce(device) {
                return Some(Control::Credit { device: device.0, limit: limit.0 });
            }
        }
    }

    /// A message came.
    pub(crate) fn on_control(&mut self, message: Control, now: Nanos) -> Result<(), Error> {
        self.live.received(now);
        match message {
            Control::Heartbeat => return Ok(()),
            // P-44
            Control::Ping { at } if self.figures && self.stage == Stage::Ready => {
                self.ping = Some((at, now));
                return Ok(());
            }
            // P-21
            Control::Offer(offer) if self.stage == Stage::New && self.offer.is_none() => {
                self.stage = Stage::Offered;
                self.live.offered();
                self.offer = Some(offer);
            }
            // P-29
            Control::Switchover if self.stage == Stage::Ready && self.switched_over.is_none() => {
                self.switched_over = Some(now);
            }
            // P-33
            Control::Commit if self.switched_over.is_some() && self.handover.commit() => {}
            Control::Abort { code, .. } if AbortCode::from(code) == AbortCode::DryRun => {
                return Err(PeerError::DryRun.into());
            }
            Control::Abort { code, text } => {
                return Err(PeerError::Aborted { code: code.into(), text }.into());
            }
            Control::Cancel => return Err(PeerError::Cancelled.into()),
            // P-10
            other => return Err(PeerError::Unexpected { message: other.kind(), phase: self.phase }.into()),
        }
        self.moved(now);
        Ok(())
    }
}

impl<H> PacketQueue<H> for ReceiverSession<H> {
    fn pop(&mut self, device: DeviceIdx) -> Option<NextPacket<H>> {
        let incoming = &mut self.devices[device.index()];
        let (_, Arrived { header, handle, arrived_at }) = incoming.reorder.pop()?;
        incoming.totals.add(&header);
        incoming.writing = if header.config { u64::MAX } else { header.len.into() };
        let (len, read_at) = (header.len as usize, header.read_at_ns);
        Some(NextPacket { handle, len, config: header.config, read_at, arrived_at })
    }

    fn written(&mut self, device: DeviceIdx, now: Nanos) {
        self.credit.written(device);
        let len = std::mem::take(&mut self.devices[device.index()].writing);
        self.unwritten -= 1;
        self.credit_due.insert(device);
        self.live.moved_bytes(len, now, self.patience());
    }

    /// Reports the device to the sender (P-30), unless it is the last one: that waits for the vote.
    fn loaded(&mut self, device: DeviceIdx) {
        let incoming = &self.devices[device.index()];
        assert!(incoming.reorder.is_complete(), "a device is loaded after its last packet");
        let Totals { packets, bytes, crc32c, .. } = incoming.totals;
        let crc32c = if self.checksum == Checksum::None { 0 } else { crc32c };
        let loaded = Control::Loaded { device: device.0, packets, bytes, crc32c };
        if self.handover.missing() == 1 {
            self.vote = Some((device, loaded));
            return;
        }
        self.handover.loaded(device);
        self.outbox.push_back(loaded);
    }
}

#[cfg(test)]
mod tests;

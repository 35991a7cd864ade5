//! The sender's side of the protocol: numbers packets, spends credit, and keeps its half of the hand-over.

use crate::numbers::{DeviceIdx, PacketIdx};
use std::collections::VecDeque;

use super::clock::{Clock, Offset};
use super::credit::Allowance;
use super::handover::{Outcome, SenderHandover};
use super::index_set::IndexSet;
use super::liveness::Liveness;
use super::other_side::OtherSide;
use super::queue::ReadPacket;
use super::round_robin::RoundRobin;
use super::totals::Totals;
use crate::error::{CreditProblem, Error, PeerError, Refusal, Side};
use crate::limits::{CONTROL_QUEUE_MAX, HOOK_MAX, STANDSTILL_MAX};
use crate::phase::Phase;
use crate::time::Nanos;
use crate::wire::{
    AbortCode, Checksum, Control, ControlKind, DataHeader, FEATURE_FIGURES, FEATURE_WARM_UP, Offer,
};

/// A packet on its way to a channel.
#[derive(Debug)]
pub(crate) struct Queued<H> {
    /// Complete except for the time of sending.
    pub(crate) header: DataHeader,
    /// Where its payload is.
    pub(crate) handle: H,
    /// When it was queued.
    pub(crate) queued_at: Nanos,
}

#[derive(Debug)]
struct Outgoing<H> {
    queue: VecDeque<Queued<H>>,
    allowance: Allowance,
    totals: Totals,
}

/// How far the exchange of messages has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Stage {
    Offered,
    Accepted,
    Ready,
}

/// The sender's side of one session.
#[derive(Debug)]
pub(crate) struct SenderSession<H> {
    devices: Vec<Outgoing<H>>,
    /// Devices whose first packet may be sent, those that have packets, and those whose config packet was queued.
    sendable: IndexSet<DeviceIdx>,
    waiting: IndexSet<DeviceIdx>,
    config_queued: IndexSet<DeviceIdx>,
    checksum: Checksum,
    round_robin: RoundRobin,
    stage: Stage,
    handover: SenderHandover,
    live: Liveness,
    outbox: VecDeque<Control>,
    promised: bool,
    /// The receiver was asked for figures.
    figures: bool,
    clock: Clock,
    /// How much may warm each data connection up, if the receiver was asked.
    warm_up: Option<u64>,
    other_side: OtherSide,
    /// What the sender is doing, for error messages.
    phase: Phase,
}

impl<H> SenderSession<H> {
    /// Begins with the offer. At most `slots` packets will be queued.
    pub(crate) fn new(offer: Offer, slots: usize, now: Nanos) -> SenderSession<H> {
        let outgoing = || Outgoing {
            queue: VecDeque::with_capacity(slots),
            allowance: Allowance::default(),
            totals: Totals::default(),
        };
        let mut outbox = VecDeque::with_capacity(CONTROL_QUEUE_MAX);
        let (count, checksum) = (offer.devices.len(), offer.checksum);
        let figures = offer.features & FEATURE_FIGURES != 0;
        let warm_up = (offer.features & FEATURE_WARM_UP != 0).then_some(0);
        outbox.push_back(Control::Offer(offer));
        SenderSession {
            devices: (0..count).map(|_| outgoing()).collect(),
            sendable: IndexSet::default(),
            waiting: IndexSet::default(),
            config_queued: IndexSet::default(),
            checksum,
            round_robin: RoundRobin::default(),
            stage: Stage::Offered,
            handover: SenderHandover::new(count),
            live: Liveness::new(now),
            outbox,
            promised: false,
            figures,
            clock: Clock::default(),
            warm_up,
            other_side: OtherSide::default(),
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

    pub(crate) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    pub(crate) fn totals(&self, device: DeviceIdx) -> Totals {
        self.devices[device.index()].totals
    }

    /// The next bytes of a device were read. Gives them their number.
    pub(crate) fn push(&mut self, packet: ReadPacket<H>, now: Nanos) {
        let ReadPacket { device, handle, len, config, crc32c, read_at } = packet;
        assert!(!self.config_queued.contains(device), "the config packet is the last");
        self.config_queued.set(device, config);
        let outgoing = &mut self.devices[device.index()];
        let idx = outgoing.totals.next().0;
        let header =
            DataHeader { device: device.0, idx, config, len, crc32c, read_at_ns: read_at, sent_at_ns: 0 };
        outgoing.totals.add(&header);
        outgoing.queue.push_back(Queued { header, handle, queued_at: now });
        self.refresh(device);
        self.moved(now);
    }

    /// Whether a device has packets, and whether the first may be sent.
    fn refresh(&mut self, device: DeviceIdx) {
        let outgoing = &self.devices[device.index()];
        let first = outgoing.queue.front().map(|packet| PacketIdx(packet.header.idx));
        self.waiting.set(device, first.is_some());
        self.sendable.set(device, first.is_some_and(|idx| outgoing.allowance.allows(idx)));
    }

    /// The next packet that may be sent, round robin over the devices.
    pub(crate) fn pop(&mut self, now: Nanos) -> Option<Queued<H>> {
        let device = self.round_robin.choose(&self.sendable)?;
        let mut packet = self.devices[device.index()].queue.pop_front()?;
        self.refresh(device);
        packet.header.sent_at_ns = now;
        Some(packet)
    }

    /// Packets of a device that may be sent, beyond those that were.
    pub(crate) fn credit_left(&self, device: DeviceIdx) -> u64 {
        let outgoing = &self.devices[device.index()];
        let waiting = outgoing.queue.front().map(|packet| PacketIdx(packet.header.idx));
        outgoing.allowance.left(waiting.unwrap_or(outgoing.totals.next()))
    }

    /// Whether packets wait but none may be sent: the receiver is slower.
    pub(crate) fn lacks_credit(&self) -> bool {
        self.sendable.is_empty() && !self.waiting.is_empty()
    }

    /// Whether the last packet of every device has been popped.
    pub(crate) fn is_drained(&self) -> bool {
        self.waiting.is_empty() && self.config_queued.len() == self.devices.len()
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.handover.is_loaded()
    }

    pub(crate) fn is_committed(&self) -> bool {
        self.handover.is_committed()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.handover.is_over()
    }

    /// Bytes with which each data connection may be warmed up; none when the receiver does not know that.
    pub(crate) fn warm_up_limit(&self) -> u64 {
        self.warm_up.unwrap_or(0)
    }

    /// Whether the round trip will not be known better.
    pub(crate) fn knows_round_trip(&self) -> bool {
        self.clock.is_done()
    }

    /// How the receiver's clock relates to this side's, as far as it is known.
    pub(crate) fn clock(&self) -> Option<Offset> {
        self.clock.offset()
    }

    /// Whether the receiver's report may still come.
    pub(crate) fn awaits_report(&self) -> bool {
        self.figures && !self.other_side.is_over()
    }

    /// The receiver's report, if all of it came.
    pub(crate) fn take_report(&mut self) -> Option<Vec<u8>> {
        self.other_side.whole()
    }

    /// The outcome if the transfer ends now.
    pub(crate) fn outcome(&self) -> Outcome {
        self.handover.outcome(self.promised)
    }

    pub(crate) fn switch_over(&mut self) {
        self.outbox.push_back(Control::Switchover);
    }

    /// Hands the devices over (P-32): only after every one of them was reported loaded.
    pub(crate) fn commit(&mut self) {
        self.handover.commit();
        self.clock.stop();
        self.outbox.push_back(Control::Commit);
    }

    /// Queues the final message of a side that gives up.
    pub(crate) fn send_last(&mut self, message: Control) {
        self.outbox.clear();
        self.clock.stop();
        self.outbox.push_back(message);
    }

    /// Whether every queued message has been handed to the connection.
    pub(crate) fn has_sent_all(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Something moved: a socket has taken a packet, or it is this side's own caller that everything waits for.
    pub(crate) fn moved(&mut self, now: Nanos) {
        // the last loaded comes when the receiver's caller has agreed
        let awaits_caller = self.phase == Phase::Loading && self.handover.missing() <= 1;
        self.live.moved(now, if awaits_caller { HOOK_MAX } else { STANDSTILL_MAX });
    }

    /// Whether no packet waits for a channel or for credit.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn check(&mut self, now: Nanos) -> Result<(), Error> {
        Ok(self.live.check(now, self.phase)?)
    }

    /// When `check` or `poll_control` must be called again at the latest.
    pub(crate) fn next_deadline(&self) -> Nanos {
        self.live.next()
    }

    /// The next message to send.
    pub(crate) fn poll_control(&mut self, now: Nanos) -> Option<Control> {
        let message = self
            .outbox
            .pop_front()
            .or_else(|| self.clock.ask(now).map(|at| Control::Ping { at }))
            .or_else(|| self.live.heartbeat_due(now).then_some(Control::Heartbeat))?;
        self.live.sent(now);
        Some(message)
    }

    /// A message came.
    pub(crate) fn on_control(&mut self, message: Control, now: Nanos) -> Result<(), Error> {
        self.live.received(now);
        match message {
            Control::Heartbeat => return Ok(()),
            // P-24
            Control::Credit { device, limit } if self.stage == Stage::Ready => {
                self.raise(device, PacketIdx(limit))?
            }
            Control::Accept if self.stage == Stage::Offered => self.stage = Stage::Accepted,
            Control::Ready if self.stage == Stage::Accepted => {
                self.stage = Stage::Ready;
                if self.figures {
                    self.clock.begin();
                }
            }
            // P-46
            Control::WarmUp { bytes } if self.stage == Stage::Accepted && self.warm_up == Some(0) => {
                self.warm_up = Some(bytes);
            }
            // P-44
            Control::Pong { at, received_at, sent_at }
                if self.clock.answered(at, received_at, sent_at, now) =>
            {
                return Ok(());
            }
            // P-45
            Control::Report { total, offset, bytes } if self.figures && self.is_over() => {
                self.other_side.take(total, offset, &bytes);
                return Ok(());
            }
            Control::Refuse { code, text } if self.stage < Stage::Ready => {
                self.promised = true;
                return Err(Error::Refused { by: Side::Receiver, reason: Refusal::from_wire(code, &text) });
            }
            Control::Loaded { device, packets, bytes, crc32c } => {
                self.loaded(device, packets, bytes, crc32c)?
            }
            // P-33
            Control::Committed if self.handover.committed() => {}
            // P-34
            Control::Abort { code, text } => {
                self.promised = true;
                return Err(match (code.into(), self.phase) {
                    (AbortCode::Device, Phase::PreCopy) => PeerError::DeviceRefused { text }.into(),
                    (code, _) => PeerError::Aborted { code, text }.into(),
                });
            }
            Control::Cancel => {
                self.promised = true;
                return Err(PeerError::Cancelled.into());
            }
            // P-10
            other => return Err(PeerError::Unexpected { message: other.kind(), phase: self.phase }.into()),
        }
        self.moved(now);
        Ok(())
    }

    fn raise(&mut self, device: u16, limit: PacketIdx) -> Result<(), PeerError> {
        let wrong = |problem| PeerError::Credit { device: device.into(), problem };
        let outgoing = self.devices.get_mut(usize::from(device));
        let outgoing = outgoing.ok_or(wrong(CreditProblem::UnknownDevice))?;
        // P-25
        outgoing.allowance.raise(limit).map_err(|_| wrong(CreditProblem::Shrinks))?;
        self.refresh(DeviceIdx(device));
        Ok(())
    }

    fn loaded(&mut self, device: u16, packets: u64, bytes: u64, crc32c: u32) -> Result<(), PeerError> {
        let unexpected = PeerError::Unexpected { message: ControlKind::Loaded, phase: self.phase };
        let Some(outgoing) = self.devices.get(usize::from(device)) else { return Err(unexpected) };
        if !self.config_queued.contains(DeviceIdx(device)) || !outgoing.queue.is_empty() {
            return Err(unexpected);
        }
        // P-31
        let sent = outgoing.totals;
        let checked = self.checksum == Checksum::None || sent.crc32c == crc32c;
        if (packets, bytes) != (sent.packets, sent.bytes) || !checked {
            return Err(PeerError::LoadedDiffers {
                device: device.into(),
                found_bytes: bytes,
                found_crc32c: crc32c,
                sent_bytes: sent.bytes,
                sent_crc32c: sent.crc32c,
            });
        }
        if self.handover.loaded(DeviceIdx(device)) { Ok(()) } else { Err(unexpected) }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use std::time::Duration;

    use super::*;
    use crate::time::nanos;
    use crate::wire::DeviceOffer;

    fn offer(devices: usize) -> Offer {
        let device =
            |number: usize| DeviceOffer { name: format!("dev{number}").into(), instance: 0, estimate: 0 };
        Offer {
            features: 0,
            packet_size: 4096,
            pool_size: 1 << 20,
            checksum: Checksum::Crc32c,
            devices: (0..devices).map(device).collect(),
        }
    }

    fn packet(device: usize, handle: u32, len: u32, config: bool, crc32c: u32) -> ReadPacket<u32> {
        let device = DeviceIdx::from_index(device);
        ReadPacket { device, handle, len, config, crc32c, read_at: 0 }
    }

    fn ready(devices: usize) -> SenderSession<u32> {
        let mut session = SenderSession::new(offer(devices), 8, 0);
        session.on_control(Control::Accept, 0).unwrap();
        session.on_control(Control::Ready, 0).unwrap();
        session
    }

    #[test]
    fn begins_with_the_offer() {
        let mut session = SenderSession::<u32>::new(offer(1), 8, 0);
        assert_eq!(session.poll_control(0), Some(Control::Offer(offer(1))));
        assert_eq!(session.poll_control(0), None);
    }

    #[test]
    fn takes_a_warm_up_between_accept_and_ready_and_only_when_it_asked() {
        let session = |features| SenderSession::<u32>::new(Offer { features, ..offer(1) }, 8, 0);
        let warm_up = Control::WarmUp { bytes: 77 };
        let mut asked = session(FEATURE_WARM_UP);
        asked.on_control(warm_up.clone(), 0).unwrap_err();
        asked.on_control(Control::Accept, 0).unwrap();
        assert_eq!(asked.warm_up_limit(), 0);
        asked.on_control(warm_up.clone(), 0).unwrap();
        assert_eq!(asked.warm_up_limit(), 77);
        asked.on_control(warm_up.clone(), 0).unwrap_err();
        let mut not_asked = session(0);
        not_asked.on_control(Control::Accept, 0).unwrap();
        not_asked.on_control(warm_up, 0).unwrap_err();
    }

    #[test]
    fn sends_nothing_without_credit() {
        let mut session = ready(1);
        session.push(packet(0, 7, 10, false, 1), 0);
        assert!(session.pop(0).is_none() && session.lacks_credit());
        session.on_control(Control::Credit { device: 0, limit: 1 }, 0).unwrap();
        assert!(!session.lacks_credit());
        assert_eq!(session.pop(0).map(|packet| packet.handle), Some(7));
    }

    #[test]
    fn a_device_without_credit_does_not_hold_another_up() {
        let mut session = ready(2);
        session.push(packet(0, 10, 1, false, 0), 0);
        session.push(packet(1, 20, 1, false, 0), 0);
        session.on_control(Control::Credit { device: 1, limit: 5 }, 0).unwrap();
        assert_eq!(session.pop(0).map(|packet| packet.handle), Some(20));
        assert!(session.pop(0).is_none());
    }

    #[test]
    fn commits_only_when_the_receiver_has_what_was_sent() {
        let mut session = ready(1);
        session.on_control(Control::Credit { device: 0, limit: 5 }, 0).unwrap();
        session.push(packet(0, 1, 3, false, crate::wire::crc32c(0, b"abc")), 0);
        session.push(packet(0, 2, 2, true, crate::wire::crc32c(0, b"de")), 0);
        let (packets, bytes, crc32c) = (2, 5, crate::wire::crc32c(0, b"abcde"));
        let early = session.on_control(Control::Loaded { device: 0, packets, bytes, crc32c }, 0);
        assert!(matches!(early, Err(Error::Peer(PeerError::Unexpected { .. }))));
        while session.pop(0).is_some() {}
        assert!(session.is_drained());
        let wrong = session.on_control(Control::Loaded { device: 0, packets, bytes, crc32c: crc32c ^ 1 }, 0);
        assert!(matches!(wrong, Err(Error::Peer(PeerError::LoadedDiffers { .. }))));
        session.on_control(Control::Loaded { device: 0, packets, bytes, crc32c }, 0).unwrap();
        assert!(session.is_loaded());
        session.commit();
        assert_eq!(session.outcome(), Outcome::InDoubt);
        session.on_control(Control::Committed, 0).unwrap();
        assert_eq!(session.outcome(), Outcome::Complete);
    }

    #[test]
    fn an_abort_after_commit_is_a_promise() {
        let mut session = ready(1);
        session.on_control(Control::Credit { device: 0, limit: 1 }, 0).unwrap();
        session.push(packet(0, 1, 0, true, 0), 0);
        session.pop(0).unwrap();
        session.on_control(Control::Loaded { device: 0, packets: 1, bytes: 0, crc32c: 0 }, 0).unwrap();
        session.commit();
        session.on_control(Control::Abort { code: 1, text: "would not run".into() }, 0).unwrap_err();
        assert_eq!(session.outcome(), Outcome::Aborted);
    }

    #[test]
    fn refuses_messages_at_the_wrong_time() {
        let mut fresh = SenderSession::<u32>::new(offer(1), 8, 0);
        for message in
            [Control::Ready, Control::Committed, Control::Commit, Control::Credit { device: 0, limit: 1 }]
        {
            assert!(matches!(fresh.on_control(message, 0), Err(Error::Peer(PeerError::Unexpected { .. }))));
        }
        let mut session = ready(1);
        for message in [Control::Accept, Control::Loaded { device: 9, packets: 0, bytes: 0, crc32c: 0 }] {
            assert!(matches!(session.on_control(message, 0), Err(Error::Peer(PeerError::Unexpected { .. }))));
        }
    }

    #[test]
    fn refuses_credit_for_no_device_and_credit_that_shrinks() {
        let mut session = ready(1);
        session.on_control(Control::Credit { device: 0, limit: 4 }, 0).unwrap();
        for (device, limit, expected) in
            [(1, 4, CreditProblem::UnknownDevice), (0, 3, CreditProblem::Shrinks)]
        {
            let Err(Error::Peer(PeerError::Credit { device: found, problem })) =
                session.on_control(Control::Credit { device, limit }, 0)
            else {
                panic!("it cannot be right")
            };
            assert_eq!((found, problem), (device.into(), expected));
        }
    }

    #[test]
    fn says_something_every_second() {
        let mut session = ready(1);
        while session.poll_control(0).is_some() {}
        assert_eq!(session.poll_control(1_000_000_000), Some(Control::Heartbeat));
        assert_eq!(session.poll_control(1_000_000_000), None);
    }

    #[test]
    fn packets_that_are_read_and_packets_that_are_sent_are_no_standstill() {
        const SECOND: Nanos = 1_000_000_000;
        let mut session = ready(1);
        session.on_control(Control::Heartbeat, 119 * SECOND).unwrap();
        let fails = |session: &mut _, seconds: RangeInclusive<Nanos>| {
            let mut looks = seconds.map(|second| SenderSession::<u32>::check(session, second * SECOND));
            looks.any(|look| look.is_err())
        };
        assert!(fails(&mut session, 0..=60), "heartbeats alone are one");

        session.push(packet(0, 7, 10, false, 1), 59 * SECOND);
        assert!(session.check(60 * SECOND).is_ok(), "a packet was read");
        assert!(fails(&mut session, 61..=119));

        session.moved(118 * SECOND);
        assert!(session.check(119 * SECOND).is_ok(), "it was sent");
    }

    /// The second in which a receiver that sends only heartbeats is given up.
    fn given_up(session: &mut SenderSession<u32>) -> Option<u64> {
        (0..=HOOK_MAX.as_secs()).find(|second| {
            let now = second * nanos(Duration::from_secs(1));
            session.on_control(Control::Heartbeat, now).unwrap();
            session.check(now).is_err()
        })
    }

    #[test]
    fn the_last_loaded_may_take_as_long_as_the_receivers_caller() {
        let mut session = ready(2);
        for device in [0, 1] {
            session.on_control(Control::Credit { device, limit: 1 }, 0).unwrap();
            session.push(packet(device.into(), 1, 0, true, 0), 0);
        }
        while session.pop(0).is_some() {}
        session.enter(Phase::Loading, 0);
        let standstill = Some(STANDSTILL_MAX.as_secs());
        assert_eq!(given_up(&mut session), standstill, "two are missing");
        let loaded = |device| Control::Loaded { device, packets: 1, bytes: 0, crc32c: 0 };
        session.on_control(loaded(0), 0).unwrap();
        assert_eq!(given_up(&mut session), Some(HOOK_MAX.as_secs()), "the last one is missing");
        session.on_control(loaded(1), 0).unwrap();
        session.enter(Phase::Commit, 0);
        assert_eq!(given_up(&mut session), standstill, "committed is not held back");
    }
}

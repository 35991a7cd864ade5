//! The receiver's side of the protocol: checks packets, puts them in order, grants credit, and keeps its half of the
//! hand-over.

use crate::numbers::{DeviceIdx, PacketIdx, PacketSize};
use std::collections::VecDeque;
use std::time::Duration;

use super::credit::Grant;
use super::handover::{Outcome, ReceiverHandover};
use super::index_set::IndexSet;
use super::liveness::Liveness;
use super::queue::{NextPacket, PacketQueue};
use super::reorder::Reorder;
use super::totals::Totals;
use crate::error::{Error, PeerError, Place, Refusal};
use crate::limits::{CONTROL_QUEUE_MAX, HOOK_MAX, STANDSTILL_MAX};
use crate::phase::Phase;
use crate::time::Nanos;
use crate::wire::{Checksum, Control, DataHeader, Offer};

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
    grant: Grant,
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

/// What the receiver accepts.
#[derive(Debug, Clone)]
pub(crate) struct Terms<'a> {
    /// Names and instances of the devices for which it has sinks.
    pub(crate) devices: &'a [(Box<str>, u32)],
    /// Largest pool that it makes because the peer asked for it, in bytes.
    pub(crate) pool_max: u64,
}

/// What both sides agreed on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// For each offered device the index of the sink that takes it.
    pub(crate) sinks: Vec<usize>,
    pub(crate) packet_size: PacketSize,
}

/// Checks an offer.
pub(crate) fn agree(offer: &Offer, terms: &Terms<'_>) -> Result<Agreed, Refusal> {
    // P-13
    if offer.features != 0 {
        return Err(Refusal::Feature);
    }
    // P-22
    let find = |name: &str, instance: u32| {
        let fits = |own: &(Box<str>, u32)| &*own.0 == name && own.1 == instance;
        terms.devices.iter().position(fits).ok_or_else(|| Refusal::DeviceMismatch { name: name.into() })
    };
    let sinks = offer.devices.iter().map(|device| find(&device.name, device.instance));
    let sinks: Vec<usize> = sinks.collect::<Result<_, _>>()?;
    let missing = terms.devices.iter().enumerate().find(|(own, _)| !sinks.contains(own));
    if let Some((_, (name, _))) = missing {
        return Err(Refusal::DeviceMismatch { name: name.clone() });
    }
    if offer.pool_size > terms.pool_max {
        let text = format!("a pool of {} bytes, at most {} here", offer.pool_size, terms.pool_max);
        return Err(Refusal::Settings { text: text.into() });
    }
    let packet_size = PacketSize::new(offer.packet_size).ok_or_else(|| {
        let text = format!("a packet size of {} bytes is not possible", offer.packet_size);
        Refusal::Settings { text: text.into() }
    })?;
    Ok(Agreed { sinks, packet_size })
}

/// The receiver's side of one session.
#[derive(Debug)]
pub(crate) struct ReceiverSession<H> {
    offer: Option<Offer>,
    devices: Vec<Incoming<H>>,
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
            credit_due: IndexSet::default(),
            packet_size: PacketSize::MIN,
            checksum: Checksum::None,
            stage: Stage::New,
            handover: ReceiverHandover::new(0),
            live,
            outbox: VecDeque::with_capacity(CONTROL_QUEUE_MAX),
            switched_over: None,
            unwritten: 0,
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

    /// Accepts the offer: room for `window` packets of each device is promised as soon as the devices are ready.
    pub(crate) fn accept(&mut self, offer: &Offer, packet_size: PacketSize, window: usize) {
        let incoming = || Incoming {
            reorder: Reorder::new(window),
            grant: Grant::new(window as u64),
            totals: Totals::default(),
            writing: 0,
        };
        self.devices = offer.devices.iter().map(|_| incoming()).collect();
        self.credit_due = IndexSet::below(self.devices.len());
        self.handover = ReceiverHandover::new(self.devices.len());
        self.packet_size = packet_size;
        self.checksum = offer.checksum;
        self.stage = Stage::Accepted;
        self.outbox.push_back(Control::Accept);
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
        let limit = incoming.grant.limit();
        let claimed = incoming.reorder.claim(PacketIdx(header.idx), header.config, limit);
        claimed.map_err(|problem| PeerError::Order { device: header.device.into(), idx: header.idx, problem })
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
            .or_else(|| self.credit())
            .or_else(|| self.live.heartbeat_due(now).then_some(Control::Heartbeat))?;
        self.live.sent(now);
        Some(message)
    }

    fn credit(&mut self) -> Option<Control> {
        // P-24
        if self.stage != Stage::Ready {
            return None;
        }
        loop {
            let device = self.credit_due.pop_first()?;
            if let Some(limit) = self.devices[device.index()].grant.announce() {
                return Some(Control::Credit { device: device.0, limit: limit.0 });
            }
        }
    }

    /// A message came.
    pub(crate) fn on_control(&mut self, message: Control, now: Nanos) -> Result<(), Error> {
        self.live.received(now);
        match message {
            Control::Heartbeat => return Ok(()),
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
        let incoming = &mut self.devices[device.index()];
        incoming.grant.written();
        let len = std::mem::take(&mut incoming.writing);
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
mod tests {
    use std::ops::RangeInclusive;
    use std::time::Duration;

    use super::*;
    use crate::limits::PROGRESS_MIN;
    use crate::time::nanos;
    use crate::wire::{DeviceOffer, Malformed, crc32c};

    fn offer(names: &[&str]) -> Offer {
        let device = |name: &&str| DeviceOffer { name: (*name).into(), instance: 0, estimate: 0 };
        Offer {
            features: 0,
            packet_size: 4096,
            pool_size: 1 << 20,
            checksum: Checksum::Crc32c,
            devices: names.iter().map(device).collect(),
        }
    }

    fn header(device: u16, idx: u64, config: bool, payload: &[u8]) -> DataHeader {
        let (len, crc32c) = (u32::try_from(payload.len()).unwrap(), crc32c(0, payload));
        DataHeader { device, idx, config, len, crc32c, read_at_ns: 0, sent_at_ns: 0 }
    }

    fn ready(window: usize) -> ReceiverSession<u32> {
        let mut session = ReceiverSession::new(0);
        session.on_control(Control::Offer(offer(&["a"])), 0).unwrap();
        let offer = session.take_offer().unwrap();
        session.accept(&offer, PacketSize::MIN, window);
        session.ready(0);
        while session.poll_control(0).is_some() {}
        session
    }

    fn arrive(session: &mut ReceiverSession<u32>, header: DataHeader) {
        session.on_header(&header, Place::Channel(0)).unwrap();
        session.on_packet(header, 0, header.crc32c, Place::Channel(0), 0).unwrap();
    }

    #[test]
    fn agrees_when_both_sides_name_the_same_devices_and_refuses_otherwise() {
        let own = [("a".into(), 0), ("b".into(), 0)];
        let terms = Terms { devices: &own, pool_max: 1 << 20 };
        assert_eq!(
            agree(&offer(&["b", "a"]), &terms),
            Ok(Agreed { sinks: vec![1, 0], packet_size: PacketSize::MIN })
        );
        let one_side_only = |name: &str| Err(Refusal::DeviceMismatch { name: name.into() });
        assert_eq!(agree(&offer(&["a"]), &terms), one_side_only("b"));
        assert_eq!(agree(&offer(&["a", "b", "c"]), &terms), one_side_only("c"));
        let features = Offer { features: 1 << 40, ..offer(&["a", "b"]) };
        assert_eq!(agree(&features, &terms), Err(Refusal::Feature));
        let size = Offer { packet_size: 4095, ..offer(&["a", "b"]) };
        assert!(matches!(agree(&size, &terms), Err(Refusal::Settings { .. })));
        let pool = Offer { pool_size: 2 << 20, ..offer(&["a", "b"]) };
        assert!(matches!(agree(&pool, &terms), Err(Refusal::Settings { .. })));
    }

    #[test]
    fn sends_accept_then_ready_then_credit() {
        let mut session = ReceiverSession::<u32>::new(0);
        session.on_control(Control::Offer(offer(&["a", "b"])), 0).unwrap();
        let offer = session.take_offer().unwrap();
        session.accept(&offer, PacketSize::MIN, 4);
        session.ready(0);
        let sent: Vec<_> = std::iter::from_fn(|| session.poll_control(0)).collect();
        let credit = |device| Control::Credit { device, limit: 4 };
        assert_eq!(sent, [Control::Accept, Control::Ready, credit(0), credit(1)]);
    }

    #[test]
    fn grants_credit_as_packets_are_written() {
        let mut session = ready(2);
        arrive(&mut session, header(0, 0, false, b"x"));
        assert!(session.pop(DeviceIdx(0)).is_some());
        assert_eq!(session.poll_control(0), None);
        session.written(DeviceIdx(0), 0);
        assert_eq!(session.poll_control(0), Some(Control::Credit { device: 0, limit: 3 }));
    }

    #[test]
    fn rejects_packets_that_break_the_order() {
        let mut session = ready(2);
        let place = Place::Channel(1);
        let order = |result: Result<(), PeerError>| matches!(result, Err(PeerError::Order { .. }));
        assert!(order(session.on_header(&header(0, 2, false, b"x"), place)), "beyond credit");
        session.on_header(&header(0, 0, false, b"x"), place).unwrap();
        assert!(
            order(session.on_header(&header(0, 0, false, b"x"), place)),
            "twice, before its payload came"
        );
        let unknown = session.on_header(&header(1, 0, false, b"x"), place);
        assert!(matches!(unknown, Err(PeerError::Malformed { what: Malformed::Value { .. }, .. })));
        let long = DataHeader { len: 4097, ..header(0, 1, false, b"x") };
        let long = session.on_header(&long, place);
        assert!(matches!(long, Err(PeerError::Malformed { what: Malformed::TooLong { .. }, .. })));
    }

    #[test]
    fn rejects_a_payload_with_another_checksum() {
        let mut session = ready(2);
        let header = header(0, 0, false, b"x");
        session.on_header(&header, Place::Channel(0)).unwrap();
        let result = session.on_packet(header, 9, header.crc32c ^ 1, Place::Channel(0), 0);
        assert!(matches!(result, Err((PeerError::Checksum { idx: 0, .. }, 9))));
    }

    #[test]
    fn reports_loaded_with_the_checksum_of_the_whole_state() {
        let mut session = ready(4);
        arrive(&mut session, header(0, 1, true, b"de"));
        arrive(&mut session, header(0, 0, false, b"abc"));
        while session.pop(DeviceIdx(0)).is_some() {}
        session.loaded(DeviceIdx(0));
        assert!(session.is_complete());
        assert_eq!(session.poll_control(0), None, "it is the last one");
        session.vote(0);
        let expected = Control::Loaded { device: 0, packets: 2, bytes: 5, crc32c: crc32c(0, b"abcde") };
        assert_eq!(session.poll_control(0), Some(expected));
    }

    #[test]
    fn commit_is_refused_before_every_device_is_loaded() {
        let mut session = ready(4);
        assert!(matches!(
            session.on_control(Control::Commit, 0),
            Err(Error::Peer(PeerError::Unexpected { .. }))
        ));
    }

    #[test]
    fn runs_only_after_commit() {
        let mut session = ready(4);
        arrive(&mut session, header(0, 0, true, b""));
        session.pop(DeviceIdx(0)).unwrap();
        session.loaded(DeviceIdx(0));
        assert!(!session.is_committed());
        let early = |session: &mut ReceiverSession<u32>| {
            let early = session.on_control(Control::Commit, 0);
            matches!(early, Err(Error::Peer(PeerError::Unexpected { .. })))
        };
        assert!(early(&mut session), "before switchover");
        session.on_control(Control::Switchover, 0).unwrap();
        assert!(early(&mut session), "before the vote");
        session.vote(0);
        session.on_control(Control::Commit, 0).unwrap();
        assert!(session.is_committed());
        assert_eq!(session.outcome(), Outcome::Aborted);
        session.committed();
        assert_eq!(session.outcome(), Outcome::Complete);
    }

    #[test]
    fn a_second_offer_and_messages_of_the_receiver_itself_are_refused() {
        let mut session = ready(1);
        for message in [Control::Offer(offer(&["a"])), Control::Accept, Control::Ready, Control::Committed] {
            assert!(matches!(session.on_control(message, 0), Err(Error::Peer(PeerError::Unexpected { .. }))));
        }
    }

    #[test]
    fn packets_that_arrive_and_packets_that_are_written_are_no_standstill() {
        const SECOND: Nanos = 1_000_000_000;
        let mut session = ready(16);
        session.on_control(Control::Switchover, 0).unwrap();
        session.on_control(Control::Heartbeat, 119 * SECOND).unwrap();
        let fails = |session: &mut _, seconds: RangeInclusive<Nanos>| {
            let mut looks = seconds.map(|second| ReceiverSession::<u32>::check(session, second * SECOND));
            looks.any(|look| look.is_err())
        };
        assert!(fails(&mut session, 0..=60), "heartbeats alone are one");

        let payload = [7; 4096];
        let packets = PROGRESS_MIN / 4096;
        for idx in 0..packets {
            assert!(fails(&mut session, 60..=60), "too few bytes came");
            let packet = header(0, idx, false, &payload);
            session.on_header(&packet, Place::Channel(0)).unwrap();
            session.on_packet(packet, 0, packet.crc32c, Place::Channel(0), 59 * SECOND).unwrap();
        }
        assert!(!fails(&mut session, 60..=118), "packets came");
        for _ in 0..packets {
            assert!(fails(&mut session, 119..=119), "too few bytes were written");
            session.pop(DeviceIdx(0)).unwrap();
            session.written(DeviceIdx(0), 118 * SECOND);
        }
        assert!(!fails(&mut session, 119..=119), "they were written");
    }

    #[test]
    fn config_state_is_progress_however_short_it_is() {
        const SECOND: Nanos = 1_000_000_000;
        let mut session = ready(1);
        arrive(&mut session, header(0, 0, true, b""));
        session.on_control(Control::Heartbeat, 119 * SECOND).unwrap();
        for second in 0..=59 {
            session.check(second * SECOND).unwrap();
        }
        session.pop(DeviceIdx(0)).unwrap();
        session.written(DeviceIdx(0), 59 * SECOND);
        assert!(session.check(60 * SECOND).is_ok());
    }

    /// The second in which a sender that sends only heartbeats is given up.
    fn given_up(session: &mut ReceiverSession<u32>) -> Option<u64> {
        (0..=HOOK_MAX.as_secs()).find(|second| {
            let now = second * nanos(Duration::from_secs(1));
            session.on_control(Control::Heartbeat, now).unwrap();
            session.check(now).is_err()
        })
    }

    #[test]
    fn the_senders_caller_may_hold_the_switchover_and_commit_back_and_nothing_else() {
        let (standstill, hook) = (Some(STANDSTILL_MAX.as_secs()), Some(HOOK_MAX.as_secs()));
        let mut session = ready(2);
        assert_eq!(given_up(&mut session), hook, "nothing is dirty");
        arrive(&mut session, header(0, 0, false, b"x"));
        assert_eq!(given_up(&mut session), standstill, "a packet waits to be written");
        session.pop(DeviceIdx(0)).unwrap();
        session.written(DeviceIdx(0), 0);
        assert_eq!(given_up(&mut session), hook, "nothing is dirty again");
        session.on_control(Control::Switchover, 0).unwrap();
        assert_eq!(given_up(&mut session), standstill, "the devices are stopped");
        arrive(&mut session, header(0, 1, true, b""));
        session.pop(DeviceIdx(0)).unwrap();
        session.written(DeviceIdx(0), 0);
        session.loaded(DeviceIdx(0));
        session.vote(0);
        assert_eq!(given_up(&mut session), hook, "commit is held back");
    }
}

//! Keeps what became of each packet while packets move. It must not know a slot from another memory: a packet is known by the
//! number of the slot that it is in, and by nothing else until it has left it. The invariants: all memory is taken before the
//! first packet; nothing that is noted can fail; and without a caller who asked there is nothing but one comparison.

use super::{Trace, TraceSample, TraceSpan, TracedPacket};
use crate::limits::{CHANNELS_MAX, TRACE_PACKETS_MAX};
use crate::phase::Phase;
use crate::time::Nanos;

/// A moment that has not come.
const NEVER: Nanos = Nanos::MAX;
/// Phases that are kept: every one that a side enters, with room to spare.
const PHASES: usize = 16;
/// The moments of a packet: of the sender, and of the receiver.
const MOMENTS: usize = 5;

/// The moments of a packet that is sent.
const READ: usize = 0;
const READ_END: usize = 1;
const QUEUED: usize = 2;
const SENDING: usize = 3;
const SENT: usize = 4;
/// The moments of a packet that is received.
const RECEIVING: usize = 0;
const ARRIVED: usize = 1;
const WRITING: usize = 2;
const WRITTEN: usize = 3;

/// Which packet it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) device: u16,
    pub(crate) idx: u64,
    pub(crate) config: bool,
    pub(crate) bytes: u32,
}

/// One packet and its moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet {
    label: Label,
    channel: Option<u8>,
    is_sent: bool,
    moments: [Nanos; MOMENTS],
    free_slots: u32,
    /// Bytes in flight and credit of a packet that is sent; depth of one that is received.
    counted: [u64; 2],
}

impl Packet {
    fn new(label: Label, is_sent: bool) -> Packet {
        let moments = [NEVER; MOMENTS];
        Packet { label, channel: None, is_sent, moments, free_slots: 0, counted: [0; 2] }
    }

    /// As it is shown, in nanoseconds since `zero`.
    pub(super) fn since(&self, zero: Nanos) -> TracedPacket {
        let moment = |which: usize| {
            let at = self.moments[which];
            (at != NEVER).then(|| at.saturating_sub(zero))
        };
        let span = |is_sent, begin, end| {
            let begin_ns = moment(begin).filter(|_| self.is_sent == is_sent)?;
            Some(TraceSpan { begin_ns, end_ns: moment(end) })
        };
        let Label { device, idx, config, bytes } = self.label;
        let [first, second] = self.counted;
        let sampled = moment(if self.is_sent { SENDING } else { ARRIVED });
        TracedPacket {
            device: device.into(),
            idx,
            config,
            bytes: bytes.into(),
            channel: self.channel.map(u64::from),
            read: span(true, READ, READ_END),
            queue: span(true, QUEUED, SENDING),
            send: span(true, SENDING, SENT),
            receive: span(false, RECEIVING, ARRIVED),
            reorder: span(false, ARRIVED, WRITING),
            write: span(false, WRITING, WRITTEN),
            sample: sampled.map(|at_ns| TraceSample {
                at_ns,
                free_slots: self.free_slots.into(),
                in_flight_bytes: self.is_sent.then_some(first),
                credit: self.is_sent.then_some(second),
                reorder_depth: (!self.is_sent).then_some(first),
            }),
        }
    }
}

const _: () = assert!(size_of::<Option<Packet>>() <= 80, "as `limits` has it");

/// Records one side of one transfer, if its caller asked for that.
#[derive(Debug, Default)]
pub(crate) struct Tracer(Option<Box<Recording>>);

/// What is recorded.
#[derive(Debug)]
pub(crate) struct Recording {
    capacity: usize,
    /// Packets that are in a slot, by its number.
    open: Vec<Option<Packet>>,
    /// The slot of the packet that each channel sends.
    sending: [u32; CHANNELS_MAX + 1],
    /// Packets that have left their slots; the oldest at `first`.
    done: Vec<Packet>,
    first: usize,
    dropped: u64,
    /// Packets that have arrived and are not written.
    depth: u64,
    phases: Vec<(Phase, Nanos)>,
}

impl Tracer {
    /// Keeps so many packets at most; nothing at all for 0. Where there is no memory for that, it keeps none and counts them.
    pub(crate) fn new(packets: usize) -> Tracer {
        if packets == 0 {
            return Tracer(None);
        }
        let mut done = Vec::new();
        let wanted = packets.min(TRACE_PACKETS_MAX);
        let capacity = done.try_reserve_exact(wanted).map_or(0, |()| wanted);
        let recording = Recording {
            capacity,
            open: Vec::new(),
            sending: [u32::MAX; CHANNELS_MAX + 1],
            done,
            first: 0,
            dropped: 0,
            depth: 0,
            phases: Vec::with_capacity(PHASES),
        };
        Tracer(Some(Box::new(recording)))
    }

    /// Whether anything is recorded.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// What is recorded, if anything is.
    #[inline]
    pub(crate) fn on(&mut self) -> Option<&mut Recording> {
        self.0.as_deref_mut()
    }

    /// All of it, those packets included that are still on their way.
    pub(crate) fn take(&mut self, zero: Nanos) -> Option<Trace> {
        let mut recording = *self.0.take()?;
        let open = std::mem::take(&mut recording.open);
        open.into_iter().flatten().for_each(|packet| recording.keep(packet));
        let Recording { capacity, done, first, dropped, phases, .. } = recording;
        Some(Trace { capacity, dropped, packets: done, first, phases, zero })
    }
}

impl Recording {
    /// A pool of so many slots is there.
    pub(crate) fn pool(&mut self, slots: u32) {
        // without memory for it packets are counted as dropped
        if self.open.try_reserve_exact(slots as usize).is_ok() {
            self.open.resize(slots as usize, None);
        }
    }

    /// Its memory is needed for something that matters: from now on packets are only counted.
    pub(crate) fn forgo(&mut self) {
        self.dropped += self.done.len() as u64;
        (self.open, self.done, self.capacity, self.first) = (Vec::new(), Vec::new(), 0, 0);
    }

    /// A phase has begun.
    pub(crate) fn phase(&mut self, phase: Phase, now: Nanos) {
        if self.phases.len() < PHASES {
            self.phases.push((phase, now));
        }
    }

    /// A packet was read into a slot; its number is not known yet.
    pub(crate) fn read(&mut self, slot: u32, label: Label, (begin, end): (Nanos, Nanos)) {
        let mut packet = Packet::new(label, true);
        packet.moments[READ] = begin;
        packet.moments[READ_END] = end;
        self.open(slot, packet);
    }

    /// It has got its number, and waits to be sent.
    pub(crate) fn queued(&mut self, slot: u32, idx: u64, now: Nanos) {
        self.at(slot, QUEUED, now).into_iter().for_each(|packet| packet.label.idx = idx);
    }

    /// A channel sends it.
    pub(crate) fn sending(
        &mut self,
        slot: u32,
        channel: u8,
        now: Nanos,
        (free_slots, in_flight_bytes, credit): (u32, u64, u64),
    ) {
        self.sending[usize::from(channel)] = slot;
        if let Some(packet) = self.at(slot, SENDING, now) {
            packet.channel = Some(channel);
            packet.free_slots = free_slots;
            packet.counted = [in_flight_bytes, credit];
        }
    }

    /// The socket has taken what this channel sent.
    pub(crate) fn sent(&mut self, channel: u8, now: Nanos) {
        let slot = self.sending[usize::from(channel)];
        self.close(slot, SENT, now);
    }

    /// A packet's payload is received into a slot, from now on.
    pub(crate) fn receiving(&mut self, slot: u32, label: Label, channel: Option<u8>, now: Nanos) {
        let mut packet = Packet { channel, ..Packet::new(label, false) };
        packet.moments[RECEIVING] = now;
        self.open(slot, packet);
    }

    /// It has arrived.
    pub(crate) fn arrived(&mut self, slot: u32, now: Nanos, free_slots: u32) {
        let depth = self.depth + 1;
        if let Some(packet) = self.at(slot, ARRIVED, now) {
            packet.free_slots = free_slots;
            packet.counted = [depth, 0];
            self.depth = depth;
        }
    }

    /// It is written from now on.
    pub(crate) fn writing(&mut self, slot: u32, now: Nanos) {
        self.at(slot, WRITING, now);
    }

    /// It has been written.
    pub(crate) fn written(&mut self, slot: u32, now: Nanos) {
        self.depth = self.depth.saturating_sub(1);
        self.close(slot, WRITTEN, now);
    }

    fn open(&mut self, slot: u32, packet: Packet) {
        match self.open.get_mut(slot as usize) {
            Some(place) => *place = Some(packet),
            None => self.dropped += 1,
        }
    }

    fn at(&mut self, slot: u32, moment: usize, now: Nanos) -> Option<&mut Packet> {
        let packet = self.open.get_mut(slot as usize)?.as_mut()?;
        packet.moments[moment] = now;
        Some(packet)
    }

    fn close(&mut self, slot: u32, moment: usize, now: Nanos) {
        self.at(slot, moment, now);
        let done = self.open.get_mut(slot as usize).and_then(Option::take);
        done.into_iter().for_each(|packet| self.keep(packet));
    }

    /// The oldest goes when there is no room: how a transfer ends is worth more than how it began.
    fn keep(&mut self, packet: Packet) {
        if self.done.len() < self.capacity {
            return self.done.push(packet);
        }
        self.dropped += 1;
        if let Some(oldest) = self.done.get_mut(self.first) {
            *oldest = packet;
            self.first = (self.first + 1) % self.capacity;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(idx: u64) -> Label {
        Label { device: 3, idx, config: false, bytes: 4096 }
    }

    fn tracer(packets: usize, slots: u32) -> Tracer {
        let mut tracer = Tracer::new(packets);
        tracer.on().unwrap().pool(slots);
        tracer
    }

    fn send(tracer: &mut Tracer, idx: u64, at: Nanos) {
        let (recording, slot) = (tracer.on().unwrap(), u32::try_from(idx % 2).unwrap());
        recording.read(slot, label(0), (at, at + 1));
        recording.queued(slot, idx, at + 2);
        recording.sending(slot, 7, at + 3, (5, 4096, 9));
        recording.sent(7, at + 4);
    }

    fn span(begin_ns: u64, end_ns: u64) -> Option<TraceSpan> {
        Some(TraceSpan { begin_ns, end_ns: Some(end_ns) })
    }

    #[test]
    fn a_packet_that_was_sent_has_all_of_its_moments_since_the_agreement() {
        let mut tracer = tracer(8, 2);
        tracer.on().unwrap().phase(Phase::StopCopy, 110);
        send(&mut tracer, 17, 120);
        let trace = tracer.take(100).unwrap();
        assert_eq!((trace.capacity(), trace.dropped()), (8, 0));
        assert_eq!(trace.phases().collect::<Vec<_>>(), [(Phase::StopCopy, 10)]);
        let packets: Vec<_> = trace.packets().collect();
        let expected = TracedPacket {
            device: 3,
            idx: 17,
            config: false,
            bytes: 4096,
            channel: Some(7),
            read: span(20, 21),
            queue: span(22, 23),
            send: span(23, 24),
            receive: None,
            reorder: None,
            write: None,
            sample: Some(TraceSample {
                at_ns: 23,
                free_slots: 5,
                in_flight_bytes: Some(4096),
                credit: Some(9),
                reorder_depth: None,
            }),
        };
        assert_eq!(packets, [expected]);
    }

    #[test]
    fn a_packet_that_was_received_has_all_of_its_moments() {
        let mut tracer = tracer(8, 2);
        let recording = tracer.on().unwrap();
        recording.receiving(1, label(4), Some(0), 10);
        recording.arrived(1, 20, 3);
        recording.writing(1, 30);
        recording.written(1, 40);
        let trace = tracer.take(0).unwrap();
        let packet = trace.packets().next().unwrap();
        assert_eq!(
            (packet.receive, packet.reorder, packet.write),
            (span(10, 20), span(20, 30), span(30, 40))
        );
        assert_eq!((packet.read, packet.queue, packet.send), (None, None, None));
        let sample = packet.sample.unwrap();
        assert_eq!((sample.free_slots, sample.reorder_depth, sample.credit), (3, Some(1), None));
    }

    #[test]
    fn what_is_on_its_way_at_the_end_is_there_without_an_end() {
        let mut tracer = tracer(8, 2);
        tracer.on().unwrap().receiving(1, label(4), Some(0), 10);
        let trace = tracer.take(0).unwrap();
        let packet = trace.packets().next().unwrap();
        assert_eq!(packet.receive, Some(TraceSpan { begin_ns: 10, end_ns: None }));
        assert_eq!((packet.reorder, packet.sample), (None, None));
    }

    #[test]
    fn when_there_is_no_room_the_oldest_goes_and_no_memory_is_taken() {
        let mut tracer = tracer(4, 2);
        let before = tracer.on().unwrap().done.capacity();
        (0..10).for_each(|idx| send(&mut tracer, idx, 10 * idx));
        assert_eq!(tracer.on().unwrap().done.capacity(), before);
        let trace = tracer.take(0).unwrap();
        assert_eq!(trace.dropped(), 6);
        assert_eq!(trace.packets().map(|packet| packet.idx).collect::<Vec<_>>(), [6, 7, 8, 9]);
    }

    #[test]
    fn a_recording_that_forgoes_its_memory_counts_every_packet() {
        let mut tracer = tracer(4, 2);
        send(&mut tracer, 0, 10);
        tracer.on().unwrap().forgo();
        send(&mut tracer, 1, 20);
        let trace = tracer.take(0).unwrap();
        assert_eq!((trace.packets().count(), trace.dropped(), trace.capacity()), (0, 2, 0));
    }

    #[test]
    fn nothing_is_kept_for_one_who_did_not_ask_and_without_a_pool_packets_are_counted() {
        let mut off = Tracer::new(0);
        assert!(off.on().is_none() && off.take(0).is_none());
        let mut tracer = Tracer::new(4);
        send(&mut tracer, 0, 10);
        assert_eq!(tracer.take(0).unwrap().dropped(), 1);
        assert_eq!(Tracer::new(usize::MAX).take(0).unwrap().capacity(), TRACE_PACKETS_MAX);
    }
}

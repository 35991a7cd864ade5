//! When what was done with which device. It must not know why, nor read a clock. The invariant: what it keeps was
//! allocated when it was made, so that noting something costs two stores.

use crate::limits::ARCS_MAX;
use crate::numbers::{ChannelIdx, DeviceIdx};
use crate::report::{Role, TimelineEntry, TimelineWhat as What};
use crate::time::Nanos;
use crate::vfio::ArcTime;
use crate::worker::caller::DeviceStep;

/// How often a device is asked what pre-copy has left, as far as a report shows it.
const ASKED_MAX: usize = 16;

/// When something began and when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) begin: Nanos,
    pub(crate) end: Nanos,
}

/// What was done with each device, by its number.
#[derive(Debug)]
pub(crate) struct Timeline {
    devices: Vec<Device>,
}

#[derive(Debug, Clone)]
struct Device {
    spans: [Option<Span>; What::COUNT],
    /// Single changes of state, as many as there is room for.
    arcs: Vec<ArcTime>,
    /// When it was asked what pre-copy has left.
    asked: Vec<Span>,
    /// The connection of the packet that was sent last.
    channel: Option<ChannelIdx>,
}

impl Timeline {
    pub(crate) fn new(devices: usize) -> Timeline {
        let device = |_| Device {
            spans: [None; What::COUNT],
            arcs: Vec::with_capacity(ARCS_MAX),
            asked: Vec::with_capacity(ASKED_MAX),
            channel: None,
        };
        Timeline { devices: (0..devices).map(device).collect() }
    }

    /// A step of a device has ended.
    pub(crate) fn step(&mut self, device: DeviceIdx, step: DeviceStep, span: Span) {
        let what = match step {
            DeviceStep::Start | DeviceStep::Prepare => What::Start,
            DeviceStep::Quiesce => What::Quiesce,
            DeviceStep::Stop => What::Stop,
            DeviceStep::Config => What::Config,
            DeviceStep::Load => What::Load,
            DeviceStep::PreRun | DeviceStep::Run => What::Run,
            DeviceStep::Release => What::Release,
            DeviceStep::Rollback => What::Rollback,
            DeviceStep::PreCopyInfo => return self.asked(device, span),
            DeviceStep::Park => return,
        };
        self.extend(device, what, span);
    }

    /// A device changed its state once.
    pub(crate) fn arc(&mut self, device: DeviceIdx, arc: ArcTime) {
        let arcs = &mut self.devices[device.index()].arcs;
        if arcs.len() < ARCS_MAX {
            arcs.push(arc);
        }
    }

    /// A device was asked what pre-copy has left. When there is no room, the last time replaces the one before.
    fn asked(&mut self, device: DeviceIdx, span: Span) {
        let asked = &mut self.devices[device.index()].asked;
        if asked.len() == ASKED_MAX {
            asked.pop();
        }
        asked.push(span);
    }

    /// A device that runs was read, and had something.
    pub(crate) fn precopied(&mut self, device: DeviceIdx, span: Span) {
        self.extend(device, What::Precopy, span);
    }

    /// A device that stopped was read, whether it had something or not.
    pub(crate) fn read(&mut self, device: DeviceIdx, span: Span) {
        self.first_and_last(device, What::FirstRead, What::LastRead, span);
    }

    /// A packet of a device was written.
    pub(crate) fn written(&mut self, device: DeviceIdx, span: Span) {
        self.first_and_last(device, What::FirstWrite, What::LastWrite, span);
    }

    /// A packet of a device was sent. Only the last one matters.
    pub(crate) fn sent(&mut self, device: DeviceIdx, channel: ChannelIdx, span: Span) {
        let device = &mut self.devices[device.index()];
        device.spans[What::LastSent as usize] = Some(span);
        device.channel = Some(channel);
    }

    fn first_and_last(&mut self, device: DeviceIdx, first: What, last: What, span: Span) {
        let spans = &mut self.devices[device.index()].spans;
        spans[first as usize].get_or_insert(span);
        spans[last as usize] = Some(span);
    }

    /// From the first time to the last.
    fn extend(&mut self, device: DeviceIdx, what: What, span: Span) {
        let known = &mut self.devices[device.index()].spans[what as usize];
        known.get_or_insert(span).end = span.end;
    }

    /// As the report has it: in the order in which things began, in nanoseconds since `start`, without what was over by
    /// then; of the first `devices` devices, which are those that the report has.
    pub(crate) fn entries(&self, side: Role, start: Nanos, devices: usize) -> Vec<TimelineEntry> {
        let mut entries = Vec::new();
        for (idx, device) in (0..).zip(self.devices.iter().take(devices)) {
            let entry = |what, Span { begin, end }| TimelineEntry {
                side,
                device: Some(idx),
                channel: None,
                what,
                from: None,
                to: None,
                begin_ns: begin.saturating_sub(start),
                end_ns: end.saturating_sub(start),
            };
            let spans = SPANS.into_iter().filter_map(|what| Some((what, device.spans[what as usize]?)));
            entries.extend(spans.filter(|(_, span)| span.end >= start).map(|(what, span)| TimelineEntry {
                channel: device.channel.filter(|_| what == What::LastSent).map(|channel| channel.0.into()),
                ..entry(what, span)
            }));
            let asked = device.asked.iter().filter(|span| span.end >= start);
            entries.extend(asked.map(|&span| entry(What::PrecopyInfo, span)));
            let arcs = device.arcs.iter().filter(|arc| arc.end_ns >= start);
            entries.extend(arcs.map(|arc| TimelineEntry {
                from: Some(arc.from),
                to: Some(arc.to),
                ..entry(What::Arc, Span { begin: arc.begin_ns, end: arc.end_ns })
            }));
        }
        entries.sort_by_key(|entry| (entry.begin_ns, entry.device, entry.what));
        entries
    }
}

/// Everything that a device has one span of.
const SPANS: [What; 14] = [
    What::Start,
    What::Quiesce,
    What::Stop,
    What::FirstRead,
    What::LastRead,
    What::Config,
    What::LastSent,
    What::FirstWrite,
    What::LastWrite,
    What::Load,
    What::Run,
    What::Release,
    What::Rollback,
    What::Precopy,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfio::State;

    fn span(begin: Nanos, end: Nanos) -> Span {
        Span { begin, end }
    }

    /// What, begin and end of each entry.
    fn entries(timeline: &Timeline) -> Vec<(What, u64, u64)> {
        let entries = timeline.entries(Role::Sender, 100, 1);
        entries.iter().map(|entry| (entry.what, entry.begin_ns, entry.end_ns)).collect()
    }

    const DEVICE: DeviceIdx = DeviceIdx(0);

    #[test]
    fn the_first_and_the_last_of_many_are_kept_and_what_was_over_before_the_start_is_not() {
        let mut timeline = Timeline::new(2);
        timeline.step(DEVICE, DeviceStep::Prepare, span(10, 99));
        for at in [200, 210, 220] {
            timeline.precopied(DEVICE, span(at - 50, at - 45));
            timeline.read(DEVICE, span(at, at + 5));
            timeline.sent(DEVICE, ChannelIdx(u8::try_from(at - 200).unwrap()), span(at + 5, at + 9));
        }
        timeline.step(DeviceIdx(1), DeviceStep::Stop, span(300, 301));

        let expected = [
            (What::Precopy, 50, 75),
            (What::FirstRead, 100, 105),
            (What::LastRead, 120, 125),
            (What::LastSent, 125, 129),
        ];
        assert_eq!(entries(&timeline), expected);
        assert_eq!(timeline.entries(Role::Sender, 100, 1)[3].channel, Some(20));
    }

    #[test]
    fn letting_a_device_run_lasts_from_its_first_half_to_its_second() {
        let mut timeline = Timeline::new(1);
        timeline.step(DEVICE, DeviceStep::PreRun, span(200, 210));
        timeline.step(DEVICE, DeviceStep::Run, span(250, 260));
        timeline.step(DEVICE, DeviceStep::Park, span(270, 280));
        assert_eq!(entries(&timeline), [(What::Run, 100, 160)]);
    }

    #[test]
    fn of_the_times_that_a_device_was_asked_the_first_ones_and_the_last_are_kept() {
        let mut timeline = Timeline::new(1);
        (0..40).for_each(|at| timeline.step(DEVICE, DeviceStep::PreCopyInfo, span(200 + at, 201 + at)));
        let kept = entries(&timeline);
        assert_eq!((kept.len(), timeline.devices[0].asked.capacity()), (ASKED_MAX, ASKED_MAX));
        assert_eq!(kept.last(), Some(&(What::PrecopyInfo, 139, 140)));
    }

    #[test]
    fn no_more_arcs_are_kept_than_there_is_room_for() {
        let mut timeline = Timeline::new(1);
        let arc = ArcTime { from: State::Running, to: State::Stop, begin_ns: 200, end_ns: 201 };
        (0..2 * ARCS_MAX).for_each(|_| timeline.arc(DEVICE, arc));
        assert_eq!(timeline.devices[0].arcs.capacity(), ARCS_MAX);
        assert_eq!(entries(&timeline), vec![(What::Arc, 100, 101); ARCS_MAX]);
    }
}

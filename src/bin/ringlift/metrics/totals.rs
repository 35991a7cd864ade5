//! What the transfers of a process have moved and cost so far. Pure: it is told of intervals and reports, and never reads a clock.
//!
//! Invariant: no counter ever decreases. What was counted while a transfer ran stays, even where the report of one that failed
//! has less. And whatever names peers give to devices, only [`DEVICES_MAX`] of them are kept: the rest are counted together.

use std::collections::BTreeMap;

use ringlift::limits::DEVICES_MAX;
use ringlift::report::{Distribution, Interval, Report, Role, TransferOutcome};

use super::buckets::Buckets;

/// The totals of each side that this process knows of.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals {
    pub(super) sender: Option<Side>,
    pub(super) receiver: Option<Side>,
}

impl Totals {
    /// A side, which is shown from now on, with zeros at first.
    pub(super) fn side(&mut self, role: Role) -> &mut Side {
        let side = match role {
            Role::Sender => &mut self.sender,
            Role::Receiver => &mut self.receiver,
        };
        side.get_or_insert_default()
    }
}

/// The totals of one side.
#[derive(Debug, Clone, Default)]
pub(super) struct Side {
    /// In the order of [`OUTCOMES`].
    pub(super) outcomes: [u64; OUTCOMES.len()],
    /// Of all transfers that have ended.
    ended: Counts,
    /// Of the one that is under way.
    running: Option<Counts>,
    /// Its devices, in its own order.
    order: Vec<String>,
    pub(super) in_flight_bytes: u64,
    pub(super) reorder_depth: u64,
    pub(super) credit_stalls: u64,
    pub(super) pool_stalls: u64,
    pub(super) user_ns: u64,
    pub(super) system_ns: u64,
    /// In the order of [`STAGES`].
    pub(super) stages: [Buckets; STAGES.len()],
    pub(super) downtime: Buckets,
    pub(super) warnings: BTreeMap<String, u64>,
    pub(super) last: Option<Last>,
}

/// What is counted while a transfer runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) devices: BTreeMap<String, Moved>,
    pub(super) channels: BTreeMap<u64, Moved>,
    pub(super) credit_stall_ns: u64,
    pub(super) pool_stall_ns: u64,
    pub(super) retransmits: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) bytes: u64,
    pub(super) packets: u64,
}

/// The last transfer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    /// Nanoseconds since 1970.
    pub(super) end_ns: u64,
    pub(super) duration_ns: u64,
    pub(super) downtime_ns: u64,
    pub(super) simulated: bool,
    pub(super) throughput: f64,
}

/// The names of the outcomes.
pub(super) const OUTCOMES: [(&str, TransferOutcome); 3] = [
    ("complete", TransferOutcome::Complete),
    ("aborted", TransferOutcome::Aborted),
    ("in_doubt", TransferOutcome::InDoubt),
];

/// The stages of a packet's journey, in its order.
pub(super) const STAGES: [&str; 6] = ["read", "queue", "send", "reorder", "write", "end_to_end"];

fn distributions(report: &Report) -> [&Distribution; STAGES.len()] {
    let latency = &report.latency_ns;
    [&latency.read, &latency.queue, &latency.send, &latency.reorder, &latency.write, &latency.end_to_end]
}

impl Side {
    /// These devices have zeros from the beginning.
    pub(super) fn devices(&mut self, names: &[String]) {
        names.iter().for_each(|name| drop(self.kept(name.clone())));
    }

    /// The name that a device is counted by: its own, while there is room for it, or none.
    fn kept(&mut self, name: String) -> String {
        let kept = &mut self.ended.devices;
        let has_room = kept.contains_key(&name) || kept.len() < DEVICES_MAX;
        let name = if has_room { name } else { String::new() };
        kept.entry(name.clone()).or_default();
        name
    }

    /// A transfer begins.
    pub(super) fn begin(&mut self) {
        self.running.get_or_insert_default();
        self.order.clear();
    }

    /// The next of its devices is prepared.
    pub(super) fn next_device(&mut self, name: &str, instance: u32) {
        let name = self.kept(label(name, instance));
        self.order.push(name);
    }

    /// Whether a transfer is under way.
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// What a transfer moved in an interval.
    pub(super) fn interval(&mut self, interval: &Interval) {
        let counts = self.running.get_or_insert_default();
        for (name, bytes) in self.order.iter().zip(&interval.device_bytes) {
            counts.devices.entry(name.clone()).or_default().bytes += bytes;
        }
        for (id, bytes) in (0..).zip(&interval.channel_bytes) {
            counts.channels.entry(id).or_default().bytes += bytes;
        }
        counts.credit_stall_ns += interval.credit_stall_ns;
        counts.pool_stall_ns += interval.pool_stall_ns;
        counts.retransmits += interval.retransmits;
        self.in_flight_bytes = interval.in_flight_bytes;
        self.reorder_depth = interval.reorder_depth;
    }

    /// A transfer has ended.
    pub(super) fn end(&mut self, report: &Report, end_ns: u64) {
        let mut counts = self.running.take().unwrap_or_default();
        counts.raise_to(&Counts::of(report, |name| self.kept(name)));
        self.ended.add(&counts);
        (self.in_flight_bytes, self.reorder_depth) = (0, 0);
        for ((_, outcome), count) in OUTCOMES.iter().zip(&mut self.outcomes) {
            *count += u64::from(*outcome == report.outcome);
        }
        self.credit_stalls += report.backpressure.credit_stalls;
        self.pool_stalls += report.backpressure.pool_stalls;
        for (buckets, distribution) in self.stages.iter_mut().zip(distributions(report)) {
            distribution.decode().iter().for_each(|histogram| buckets.add(histogram));
        }
        if report.downtime.total_ns > 0 {
            self.downtime.observe(report.downtime.total_ns);
        }
        for warning in &report.warnings {
            *self.warnings.entry(warning.code.to_string()).or_default() += 1;
        }
        self.last = Some(Last {
            end_ns,
            duration_ns: report.duration_ns,
            downtime_ns: report.downtime.total_ns,
            simulated: report.downtime.simulated,
            throughput: report.throughput_bytes_per_s,
        });
    }

    /// The processor time of the side's process so far.
    pub(super) fn cpu(&mut self, user_ns: u64, system_ns: u64) {
        self.user_ns = self.user_ns.max(user_ns);
        self.system_ns = self.system_ns.max(system_ns);
    }

    /// Of all transfers, the one that is under way included.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = self.ended.clone();
        self.running.iter().for_each(|running| counts.add(running));
        counts
    }
}

impl Counts {
    fn of(report: &Report, mut kept: impl FnMut(String) -> String) -> Counts {
        let mut counts = Counts {
            credit_stall_ns: report.backpressure.credit_stalled_ns,
            pool_stall_ns: report.backpressure.pool_stalled_ns,
            ..Counts::default()
        };
        for device in &report.devices {
            let moved = counts.devices.entry(kept(label(&device.name, device.instance))).or_default();
            moved.add(Moved { bytes: device.bytes, packets: device.packets });
        }
        for channel in &report.channels {
            let moved = counts.channels.entry(channel.id).or_default();
            moved.add(Moved { bytes: channel.bytes, packets: channel.packets });
            counts.retransmits += channel.tcp.and_then(|tcp| tcp.retransmits).unwrap_or(0);
        }
        counts
    }

    fn add(&mut self, other: &Counts) {
        self.each(other, Moved::add, |own, other| *own += other);
    }

    fn raise_to(&mut self, other: &Counts) {
        self.each(other, Moved::raise_to, |own, other| *own = other.max(*own));
    }

    fn each(&mut self, other: &Counts, moved: fn(&mut Moved, Moved), count: fn(&mut u64, u64)) {
        for (name, theirs) in &other.devices {
            moved(self.devices.entry(name.clone()).or_default(), *theirs);
        }
        for (id, theirs) in &other.channels {
            moved(self.channels.entry(*id).or_default(), *theirs);
        }
        count(&mut self.credit_stall_ns, other.credit_stall_ns);
        count(&mut self.pool_stall_ns, other.pool_stall_ns);
        count(&mut self.retransmits, other.retransmits);
    }
}

impl Moved {
    fn add(&mut self, other: Moved) {
        self.bytes += other.bytes;
        self.packets += other.packets;
    }

    fn raise_to(&mut self, other: Moved) {
        self.bytes = self.bytes.max(other.bytes);
        self.packets = self.packets.max(other.packets);
    }
}

/// A device as it is typed with `--device`.
pub(super) fn label(name: &str, instance: u32) -> String {
    if instance == 0 { name.to_owned() } else { format!("{name}#{instance}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringlift::report::{Backpressure, ChannelReport, DeviceReport};

    use super::*;
    use crate::show::samples::report;

    fn interval(bytes: u64, stall_ns: u64) -> Interval {
        Interval {
            device_bytes: vec![bytes, 1],
            channel_bytes: vec![bytes + 1],
            credit_stall_ns: stall_ns,
            in_flight_bytes: 7,
            ..Interval::default()
        }
    }

    fn ended(bytes: u64, stall_ns: u64) -> Report {
        let moved = |name: &str, instance, bytes| DeviceReport {
            name: name.to_owned(),
            instance,
            bytes,
            packets: 2,
            ..DeviceReport::default()
        };
        Report {
            devices: vec![moved("net0", 0, bytes), moved("net0", 1, 1)],
            channels: vec![ChannelReport { bytes: bytes + 1, packets: 4, ..ChannelReport::default() }],
            backpressure: Backpressure {
                credit_stalls: 1,
                credit_stalled_ns: stall_ns,
                ..Backpressure::default()
            },
            ..report()
        }
    }

    /// A side whose transfer has begun.
    fn begun() -> Side {
        let mut side = Side::default();
        side.begin();
        side.next_device("net0", 0);
        side.next_device("net0", 1);
        side
    }

    #[test]
    fn a_transfer_counts_while_it_runs_and_once_when_it_has_ended() {
        let mut side = begun();
        side.interval(&interval(10, 3));
        assert!(side.is_running() && side.in_flight_bytes == 7);
        assert_eq!(side.counts().devices["net0"], Moved { bytes: 10, packets: 0 });
        side.end(&ended(15, 4), 99);
        assert!(!side.is_running() && side.in_flight_bytes == 0);
        let counts = side.counts();
        assert_eq!(counts.devices["net0"], Moved { bytes: 15, packets: 2 });
        assert_eq!(counts.devices["net0#1"], Moved { bytes: 1, packets: 2 });
        assert_eq!((counts.channels[&0].bytes, counts.credit_stall_ns), (16, 4));
        assert_eq!((side.outcomes, side.last.unwrap().end_ns), ([1, 0, 0], 99));
    }

    #[test]
    fn a_report_without_intervals_before_it_is_all_that_is_counted() {
        let mut side = Side::default();
        for _ in 0..3 {
            side.end(&ended(15, 4), 99);
        }
        assert_eq!(side.counts().devices["net0"], Moved { bytes: 45, packets: 6 });
        assert_eq!((side.outcomes, side.downtime.count()), ([3, 0, 0], 3));
    }

    #[test]
    fn a_device_has_its_zeros_before_anything_moves() {
        let mut side = Side::default();
        side.devices(&["net0".to_owned()]);
        assert_eq!(side.counts().devices["net0"], Moved::default());
    }

    /// Each of a peer's transfers may have devices of other names.
    #[test]
    fn names_without_end_take_no_memory_without_end() {
        let mut side = Side::default();
        side.devices(&["net0".to_owned()]);
        for transfer in 0..2 * DEVICES_MAX as u64 {
            let name = format!("other{transfer}");
            side.begin();
            side.next_device(&name, 0);
            side.interval(&interval(10, 0));
            side.end(
                &Report {
                    devices: vec![DeviceReport { name, bytes: 10, ..DeviceReport::default() }],
                    ..report()
                },
                1,
            );
        }
        let counts = side.counts();
        assert_eq!((counts.devices.len(), counts.devices["other7"].bytes), (DEVICES_MAX + 1, 10));
        let all: u64 = counts.devices.values().map(|moved| moved.bytes).sum();
        assert_eq!(all, 20 * DEVICES_MAX as u64, "those without a name are counted, too");
    }

    fn is_at_least(now: &Counts, then: &Counts) -> bool {
        let moved = |now: Moved, then: &Moved| now.bytes >= then.bytes && now.packets >= then.packets;
        then.devices.iter().all(|(name, then)| moved(now.devices[name], then))
            && then.channels.iter().all(|(id, then)| moved(now.channels[id], then))
            && now.credit_stall_ns >= then.credit_stall_ns
            && now.pool_stall_ns >= then.pool_stall_ns
            && now.retransmits >= then.retransmits
    }

    proptest! {
        /// A report of a failed transfer may have less than its intervals, as what was read need not have been sent.
        #[test]
        fn no_counter_ever_decreases(steps in prop::collection::vec((any::<bool>(), 0..50_u64, 0..50_u64), 1..40)) {
            let mut side = begun();
            let mut then = side.counts();
            for (is_end, bytes, stall_ns) in steps {
                match is_end {
                    true => side.end(&ended(bytes, stall_ns), 1),
                    false => side.interval(&interval(bytes, stall_ns)),
                }
                let now = side.counts();
                prop_assert!(is_at_least(&now, &then), "{now:?} after {then:?}");
                then = now;
            }
        }
    }
}

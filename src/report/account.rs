//! Of what a downtime was made, device by device: derived from a report, and never stored in one. Pure.

use super::header::Role;
use super::timeline::{TimelineEntry, TimelineWhat};
use super::transfer::Report;
use crate::vfio::State;

/// A phase of the downtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DowntimePhase {
    /// Stopping the devices.
    Stop,
    /// Moving what was left of the state.
    Transfer,
    /// Taking the state in.
    Load,
    /// From Commit to running.
    Commit,
    /// Going back to where the devices were.
    Rollback,
}

/// One phase of the downtime, and the devices that it waited for, as far as this side knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseAccount {
    /// Which phase.
    pub phase: DowntimePhase,
    /// How long it took.
    pub took_ns: u64,
    /// Its steps, one after the other. The devices do each in parallel, so each takes as long as its slowest device.
    pub steps: Vec<SlowestDevice>,
}

/// The device that a step of all devices waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowestDevice {
    /// The step. For a transfer: `last_sent` or `last_write`, since the device's first read or write.
    pub what: TimelineWhat,
    /// The device that was the last to end it, by its place in the report's `devices`.
    pub device: usize,
    /// How long the device took for it. It may have begun before the phase: a device is loaded while another one is still
    /// being written.
    pub took_ns: u64,
    /// The single change of state that took most of that.
    pub arc: Option<SlowestArc>,
}

/// A single change of a device's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowestArc {
    /// The state that it began in.
    pub from: State,
    /// The state that it led to.
    pub to: State,
    /// How long it took.
    pub took_ns: u64,
}

/// How long one side took for the steps of one device; none for a step that it did not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceTimes {
    /// Quiescing it.
    pub quiesce_ns: Option<u64>,
    /// Stopping it.
    pub stop_ns: Option<u64>,
    /// The change of state that took most of quiescing and stopping it.
    pub stop_arc: Option<SlowestArc>,
    /// Reading what was left of its state, from the first read to the last.
    pub read_ns: Option<u64>,
    /// Reading its config state.
    pub config_ns: Option<u64>,
    /// Writing its state, from the first write to the last.
    pub write_ns: Option<u64>,
    /// Taking its state in.
    pub load_ns: Option<u64>,
    /// The change of state that took most of that.
    pub load_arc: Option<SlowestArc>,
    /// Letting it run.
    pub run_ns: Option<u64>,
    /// Bringing it back.
    pub rollback_ns: Option<u64>,
}

impl Report {
    /// Of what this side's downtime was made: the phases that took time, in order, each with the devices that it waited
    /// for.
    pub fn downtime_account(&self) -> Vec<PhaseAccount> {
        use TimelineWhat::{FirstRead, FirstWrite, LastSent, LastWrite, Load, Quiesce, Rollback, Run, Stop};
        let downtime = &self.downtime;
        let moved = if self.role == Role::Sender { (FirstRead, LastSent) } else { (FirstWrite, LastWrite) };
        let phases = [
            (DowntimePhase::Stop, downtime.stop_ns, vec![(Quiesce, Quiesce), (Stop, Stop)]),
            (DowntimePhase::Transfer, downtime.transfer_ns, vec![moved]),
            (DowntimePhase::Load, downtime.load_ns, vec![(Load, Load)]),
            (DowntimePhase::Commit, downtime.commit_ns, vec![(Run, Run)]),
            (DowntimePhase::Rollback, downtime.rollback_ns, vec![(Rollback, Rollback)]),
        ];
        let happened = phases.into_iter().filter(|(_, took_ns, _)| *took_ns > 0);
        let account = |(phase, took_ns, steps): (_, _, Vec<_>)| {
            let mut steps: Vec<_> =
                steps.iter().filter_map(|&(begin, end)| self.slowest(begin, end)).collect();
            if phase == DowntimePhase::Transfer {
                // a receiver's first write may be one of pre-copy
                steps.iter_mut().for_each(|step| step.took_ns = step.took_ns.min(took_ns));
            }
            PhaseAccount { phase, took_ns, steps }
        };
        happened.map(account).collect()
    }

    /// How long this side took for the steps of each device, in the order of the report's devices.
    pub fn device_times(&self) -> Vec<DeviceTimes> {
        use TimelineWhat as What;
        let times = |device| {
            let of =
                |begin, end| self.stretch(device, begin, end).map(|(begin, end)| end.saturating_sub(begin));
            let step = |what| of(what, what);
            DeviceTimes {
                quiesce_ns: step(What::Quiesce),
                stop_ns: step(What::Stop),
                stop_arc: self.slowest_arc(device, self.stretch(device, What::Quiesce, What::Stop)),
                read_ns: of(What::FirstRead, What::LastRead),
                config_ns: step(What::Config),
                write_ns: of(What::FirstWrite, What::LastWrite),
                load_ns: step(What::Load),
                load_arc: self.slowest_arc(device, self.stretch(device, What::Load, What::Load)),
                run_ns: step(What::Run),
                rollback_ns: step(What::Rollback),
            }
        };
        (0..self.devices.len()).map(times).collect()
    }

    /// What this side did with a device.
    fn entries(&self, device: usize) -> impl Iterator<Item = &TimelineEntry> {
        let is_it = move |entry: &&TimelineEntry| entry.device == Some(device as u64);
        self.timeline.iter().filter(|entry| entry.side == self.role).filter(is_it)
    }

    /// From the beginning of one thing that was done with a device to the end of another.
    fn stretch(&self, device: usize, begin: TimelineWhat, end: TimelineWhat) -> Option<(u64, u64)> {
        let entry = |what| self.entries(device).find(|entry| entry.what == what);
        let (begin, end) = (entry(begin)?, entry(end)?);
        Some((begin.begin_ns, end.end_ns))
    }

    /// The change of state that took longest within a stretch of time.
    fn slowest_arc(&self, device: usize, stretch: Option<(u64, u64)>) -> Option<SlowestArc> {
        let (begin, end) = stretch?;
        let within = |entry: &&TimelineEntry| entry.begin_ns >= begin && entry.end_ns <= end;
        let arc = |entry: &TimelineEntry| {
            Some(SlowestArc { from: entry.from?, to: entry.to?, took_ns: entry.took_ns() })
        };
        let arcs = self.entries(device).filter(|entry| entry.what == TimelineWhat::Arc).filter(within);
        arcs.filter_map(arc).max_by_key(|arc| arc.took_ns)
    }

    /// The device that was the last to end something.
    fn slowest(&self, begin: TimelineWhat, end: TimelineWhat) -> Option<SlowestDevice> {
        let stretches =
            (0..self.devices.len()).filter_map(|device| Some((device, self.stretch(device, begin, end)?)));
        let (device, stretch) = stretches.max_by_key(|(_, (_, end))| *end)?;
        let (took_ns, arc) = (stretch.1.saturating_sub(stretch.0), self.slowest_arc(device, Some(stretch)));
        Some(SlowestDevice { what: end, device, took_ns, arc })
    }
}

//! Pre-copy: which devices are read while they run, when they are asked what is left, and when it has done what it can.
//!
//! A device is asked in a step of its own, beside the loop: on some it is a round trip to the firmware. Its descriptor is
//! read meanwhile. The invariant: nothing is asked while reading is paused.

use super::remaining::Verdict;
use super::{Readers, Reading};
use crate::error::{DeviceError, Error};
use crate::numbers::DeviceIdx;
use crate::report::PreCopyEnd;
use crate::ring::Ring;
use crate::session::index_set::IndexSet;
use crate::source::{Flow, PreCopyInfo};
use crate::time::Nanos;
use crate::time::deadlines::Deadline;
use crate::worker::Worker;
use crate::worker::caller::{DeviceMoment, DeviceStep};
use crate::worker::steps::{StepOutput, StepResult};

/// What all devices in pre-copy have in common.
pub(super) struct PreCopy {
    /// The devices that can be read while they run.
    devices: IndexSet<DeviceIdx>,
    /// When the first of them has to be asked.
    due: Nanos,
    /// Bytes that a device may have left without being asked early: its share of what may be left of all.
    enough: u64,
    /// How often they were asked.
    asked: u64,
    /// Something has happened since the last verdict that may change it.
    has_news: bool,
}

impl PreCopy {
    pub(super) fn new() -> PreCopy {
        PreCopy { devices: IndexSet::default(), due: Nanos::MAX, enough: 0, asked: 0, has_news: false }
    }
}

impl Readers {
    /// The devices have started: notes which of them can be read while they run. True when there are any.
    pub(crate) fn note_flows(&mut self) -> bool {
        for device in DeviceIdx::below(self.all.len()) {
            let is_early =
                matches!(self.devices.take_result(device), Some(Ok(StepOutput::Flow(Flow::PreCopy))));
            self.precopy.devices.set(device, is_early);
        }
        !self.precopy.devices.is_empty()
    }

    /// From now on devices that can be read while they run are, and asked what they have.
    pub(crate) fn begin_precopy(&mut self, now: Nanos) -> Result<(), Error> {
        for device in self.precopy.devices.iter() {
            self.open(device)?;
            self.enter(device, Reading::Wanted);
            self.all[device.index()].remaining.ask_by(now);
        }
        self.precopy.due = now;
        Ok(())
    }

    /// Bytes of a device that were read while it ran.
    pub(crate) fn precopy_bytes(&self, device: DeviceIdx) -> u64 {
        self.all[device.index()].remaining.bytes
    }

    /// How often devices were asked what is left.
    pub(crate) fn precopy_asked(&self) -> u64 {
        self.precopy.asked
    }

    /// The devices are about to stop: what they have from now on has an end.
    pub(crate) fn switch_over(&mut self) {
        self.running = false;
    }

    /// From now on no read begins, and nothing is asked.
    pub(crate) fn pause<R: Ring>(&mut self, worker: &mut Worker<R>) {
        self.paused = true;
        worker.deadlines.stop(Deadline::PreCopyPoll);
    }

    /// Whether no device is read, and none is asked.
    pub(crate) fn is_settled(&self) -> bool {
        self.under_way.is_empty() && !self.devices.is_any_away()
    }

    /// So many bytes may be left of all devices together.
    pub(crate) fn set_precopy_limit(&mut self, limit: u64) {
        let devices = self.precopy.devices.len().max(1) as u64;
        self.precopy.enough = limit / devices;
        self.precopy.has_news = true;
    }

    /// Why pre-copy has done what it can, if it has: no device has initial bytes left, and all of them together have no more
    /// than `limit` dirty ones, of those that do not give more than they ever expected to.
    pub(crate) fn precopy_end(&mut self, limit: u64) -> Option<PreCopyEnd> {
        if !std::mem::take(&mut self.precopy.has_news) {
            return None;
        }
        let (mut dirty, mut end) = (0_u64, PreCopyEnd::Converged);
        for device in self.precopy.devices.iter() {
            match self.all[device.index()].remaining.verdict() {
                Verdict::Open => return None,
                Verdict::Dirty(bytes) => dirty = dirty.saturating_add(bytes),
                Verdict::Endless => end = PreCopyEnd::Volume,
            }
        }
        (dirty <= limit).then_some(end)
    }

    /// Bytes that the devices in pre-copy could still read, if there are any and all of them can tell.
    pub(crate) fn precopy_left(&self) -> Option<u64> {
        let mut left = self.precopy.devices.iter().map(|device| self.all[device.index()].remaining.left());
        let first = left.next()??;
        left.try_fold(first, |sum, left| Some(sum.saturating_add(left?)))
    }

    /// Bytes that are left of all devices, if all of them can tell: what pre-copy left, and what the others expect.
    pub(crate) fn left(&self) -> Option<u64> {
        let devices = DeviceIdx::below(self.all.len()).zip(&self.all);
        let left = |(device, reader): (DeviceIdx, &super::Reader)| match self.precopy.devices.contains(device)
        {
            true => reader.remaining.left(),
            false => reader.estimate,
        };
        devices.map(left).try_fold(0_u64, |sum, left| Some(sum.saturating_add(left?)))
    }

    /// The devices are quiet, and nothing is read: asks each of those in pre-copy once more. Those that had no initial bytes
    /// left.
    pub(crate) fn ask_all<R: Ring>(&mut self, worker: &mut Worker<R>) -> IndexSet<DeviceIdx> {
        let mut had_none = IndexSet::default();
        for device in self.precopy.devices.iter() {
            let remaining = &mut self.all[device.index()].remaining;
            had_none.set(device, remaining.has_no_initial());
            self.ask(worker, device);
        }
        had_none
    }

    /// Reads go on of those of the devices whose initial bytes have begun anew, and of no other. False when there are none.
    pub(crate) fn reread_initial(&mut self, devices: IndexSet<DeviceIdx>) -> bool {
        for device in DeviceIdx::below(self.all.len()) {
            let remaining = &mut self.all[device.index()].remaining;
            let is_meant = devices.contains(device) && remaining.initial_left() > 0;
            if !is_meant {
                remaining.stop_asking();
            }
            self.enter(device, if is_meant { Reading::Wanted } else { Reading::Idle });
        }
        self.paused = !self.has_initial_left();
        !self.paused
    }

    /// Whether initial bytes are left of a device that is being read.
    pub(crate) fn has_initial_left(&self) -> bool {
        let is_left =
            |reader: &super::Reader| reader.reading != Reading::Idle && reader.remaining.initial_left() > 0;
        self.precopy.devices.iter().any(|device| is_left(&self.all[device.index()]))
    }

    /// Asks the devices that it is time to ask.
    pub(super) fn ask_due<R: Ring>(&mut self, worker: &mut Worker<R>, now: Nanos) {
        if now >= self.precopy.due {
            let mut next = Nanos::MAX;
            for device in self.precopy.devices.iter() {
                if self.all[device.index()].remaining.due() <= now {
                    self.ask(worker, device);
                }
                next = next.min(self.all[device.index()].remaining.due());
            }
            self.precopy.due = next;
        }
        match self.precopy.due {
            Nanos::MAX => worker.deadlines.stop(Deadline::PreCopyPoll),
            due => worker.deadlines.set(Deadline::PreCopyPoll, due),
        }
    }

    fn ask<R: Ring>(&mut self, worker: &mut Worker<R>, device: DeviceIdx) {
        self.precopy.asked += 1;
        self.all[device.index()].remaining.ask();
        self.refresh(device);
        self.devices.begin(worker, device, DeviceStep::PreCopyInfo, |source| {
            source.precopy_info().map(StepOutput::PreCopyInfo)
        });
    }

    /// A device has answered, or failed in it.
    pub(super) fn on_answer<R: Ring>(
        &mut self,
        worker: &mut Worker<R>,
        device: DeviceIdx,
        result: StepResult,
    ) -> Result<(), DeviceError> {
        let now = worker.ring.now();
        let info = match result {
            Ok(StepOutput::PreCopyInfo(info)) => info,
            Ok(_) => None,
            Err(error) => {
                self.all[device.index()].remaining.fail();
                self.enter(device, Reading::Idle);
                return Err(error);
            }
        };
        if let Some(PreCopyInfo { initial, dirty }) = info {
            worker.caller.tell_device(self.devices.name(device), DeviceMoment::PreCopy { initial, dirty });
        }
        let reader = &mut self.all[device.index()];
        reader.remaining.answer(info, now);
        let is_quiet = reader.reading == Reading::Quiet;
        self.note_due(device);
        if is_quiet {
            self.enter(device, Reading::Wanted);
        } else {
            self.refresh(device);
        }
        Ok(())
    }

    /// Bytes of a running device were read.
    pub(super) fn on_precopy_read(&mut self, device: DeviceIdx, bytes: u64) {
        self.all[device.index()].remaining.read(bytes, self.precopy.enough);
        self.note_due(device);
    }

    /// A running device has nothing now: it is asked before it is read again.
    pub(super) fn on_precopy_nothing(&mut self, device: DeviceIdx, now: Nanos) {
        self.all[device.index()].remaining.nothing(now);
        self.note_due(device);
        self.enter(device, Reading::Quiet);
    }

    fn note_due(&mut self, device: DeviceIdx) {
        self.precopy.has_news = true;
        self.precopy.due = self.precopy.due.min(self.all[device.index()].remaining.due());
    }
}

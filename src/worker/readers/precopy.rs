//! Pre-copy: which devices are read while they run, when they are asked again, and when it has done what it can.

use super::{Readers, Reading, unless_panicked};
use crate::error::{DeviceError, Error};
use crate::limits::PRECOPY_FACTOR_MAX;
use crate::numbers::DeviceIdx;
use crate::ring::Ring;
use crate::source::Flow;
use crate::time::Nanos;
use crate::time::deadlines::Deadline;
use crate::worker::Worker;
use crate::worker::steps::StepOutput;

impl Readers {
    /// The devices have started: notes which of them can be read while they run. True when there are any.
    pub(crate) fn note_flows(&mut self) -> bool {
        for (device, reader) in DeviceIdx::below(self.all.len()).zip(&mut self.all) {
            if let Some(Ok(StepOutput::Flow(flow))) = self.devices.take_result(device) {
                reader.flow = flow;
            }
        }
        self.all.iter().any(|reader| reader.flow != Flow::StopCopyOnly)
    }

    /// From now on devices that can be read while they run are.
    pub(crate) fn begin_precopy(&mut self) -> Result<(), Error> {
        for device in DeviceIdx::below(self.all.len()) {
            if self.all[device.index()].flow == Flow::PreCopy {
                self.open(device)?;
                self.converging.insert(device);
                self.enter(device, Reading::Wanted);
            }
        }
        Ok(())
    }

    /// Bytes of a device that were read while it ran.
    pub(crate) fn precopy_bytes(&self, device: DeviceIdx) -> u64 {
        self.all[device.index()].precopy_bytes
    }

    /// The devices are about to stop: what they have from now on has an end.
    pub(crate) fn switch_over(&mut self) {
        self.running = false;
    }

    /// From now on no read begins.
    pub(crate) fn pause<R: Ring>(&mut self, worker: &mut Worker<R>) {
        self.paused = true;
        worker.deadlines.stop(Deadline::PreCopyPoll);
    }

    /// Whether pre-copy of some device has not done what it can.
    pub(crate) fn is_converging(&self) -> bool {
        !self.converging.is_empty()
    }

    /// Bytes that the devices in pre-copy could still read, if there are any and all of them can tell.
    pub(crate) fn precopy_remaining(&mut self) -> Result<Option<u64>, Error> {
        let mut sum = None;
        for device in DeviceIdx::below(self.all.len()) {
            if self.all[device.index()].flow != Flow::PreCopy {
                continue;
            }
            match self.ask_remaining(device) {
                Ok(Some(left)) => sum = Some(sum.unwrap_or(0_u64).saturating_add(left)),
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.devices.error(device, error)),
            }
        }
        Ok(sum)
    }

    /// Bytes that one device could still read, if it can tell. It has failed only if it panics.
    fn ask_remaining(&mut self, device: DeviceIdx) -> Result<Option<u64>, DeviceError> {
        let source = self.devices.here(device).expect("no step is under way while a device is read");
        match unless_panicked(|| source.precopy_remaining()) {
            Err(DeviceError::Panicked) => Err(DeviceError::Panicked),
            left => Ok(left.ok()),
        }
    }

    /// Devices that have been left alone for long enough are asked again.
    pub(super) fn wake_quiet<R: Ring>(&mut self, worker: &mut Worker<R>, now: Nanos) {
        while let Some(&(_, device)) = self.quiet.front().filter(|(until, _)| now >= *until) {
            self.quiet.pop_front();
            self.enter(device, Reading::Wanted);
        }
        match self.quiet.front() {
            Some(&(until, _)) => worker.deadlines.set(Deadline::PreCopyPoll, until),
            None => worker.deadlines.stop(Deadline::PreCopyPoll),
        }
    }

    /// Whether pre-copy has done what it can: little is left, or it gives more than it ever expected to. A device that
    /// cannot tell goes on; only one that panics has failed.
    pub(super) fn judge(&mut self, device: DeviceIdx, read: u64) -> Result<(), DeviceError> {
        let packet_size = u64::from(self.packet_size.get());
        let reader = &mut self.all[device.index()];
        reader.precopy_bytes += read;
        let expected = reader.estimate.unwrap_or(0).max(packet_size);
        if reader.precopy_bytes >= expected.saturating_mul(PRECOPY_FACTOR_MAX) {
            self.converging.remove(device);
        } else if read < packet_size {
            let left = self.ask_remaining(device)?;
            self.converging.set(device, left.is_none_or(|left| left > packet_size));
        }
        Ok(())
    }
}

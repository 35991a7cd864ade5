//! What a device's driver does that no tool tells: takes an idle device to STOP_COPY and back, and measures.
//!
//! It reads with plain system calls, one after the other, and discards what it reads. The invariant: whatever fails on
//! the way, the device is brought back to where it was, or the report says why not.

use hdrhistogram::Histogram;

use self::reading::{Reading, Stopped, Until};
use super::device::Device;
use super::state::{Features, State};
use crate::cancel::Cancel;
use crate::error::{DeviceError, Error};
use crate::limits::PACKET_SIZE_DEFAULT;
use crate::report::{ErrorReport, ProbeOutcome, ProbeReport, ProbedArc, ProbedInfo, ProbedReads};
use crate::time::{Nanos, now};

mod reading;

/// Bytes that each read asks for: as a transfer does unless it is told otherwise.
const ASKED: usize = PACKET_SIZE_DEFAULT as usize;
/// A device that runs is read until it has brought this multiple of its estimate,
const PRE_COPY_FACTOR: u64 = 4;
/// or for this long,
const PRE_COPY_MAX: Nanos = 10_000_000_000;
/// or until it had nothing this often although it announced initial bytes.
const NOTHING_MAX: u64 = 100;
/// How long a device that had nothing is left alone.
const REST_MS: u16 = 20;

/// What a probe found.
#[derive(Debug)]
pub struct Probed {
    /// What was measured, as it is written as JSON.
    pub report: ProbeReport,
    /// Why it did not go the whole way.
    pub error: Option<Error>,
    /// How long reads took that brought bytes, in nanoseconds.
    pub read_times: Histogram<u64>,
}

/// Takes a device to STOP_COPY and back, reads its state and discards it.
///
/// A running device goes through PRE_COPY and PRE_COPY_P2P as far as it has them. **It stands still** from the first
/// change of state that stops it until it runs again, for as long as its state takes to be read: nothing should be using
/// it. It is brought back to where it was whatever fails, and when `cancel` is called from another thread. A read that
/// its driver never ends is not interrupted.
///
/// `name` is for the report.
pub fn probe(device: &mut Device, name: &str, cancel: &Cancel) -> Probed {
    let mut probe = Probe::new(device, name, cancel);
    let way = probe.run();
    let back = probe.bring_back();
    probe.conclude(way, back)
}

struct Probe<'a> {
    device: &'a mut Device,
    cancel: &'a Cancel,
    home: State,
    report: ProbeReport,
    read_times: Histogram<u64>,
    buffer: Vec<u8>,
    /// Since when it stands still.
    stopped_at: Option<Nanos>,
}

impl<'a> Probe<'a> {
    fn new(device: &'a mut Device, name: &str, cancel: &'a Cancel) -> Probe<'a> {
        let home = device.state().without_session();
        let report = ProbeReport {
            device: name.to_owned(),
            kernel: nix::sys::utsname::uname()
                .map_or_else(|_| String::new(), |host| host.release().to_string_lossy().into_owned()),
            ringlift: env!("CARGO_PKG_VERSION").to_owned(),
            features: device.features().to_string().split(' ').map(str::to_owned).collect(),
            found_in: device.state().to_string(),
            estimate_before: device.stop_copy_size().ok(),
            ..ProbeReport::default()
        };
        let read_times = Histogram::new(2).expect("two digits are possible");
        Probe { device, cancel, home, report, read_times, buffer: vec![0; ASKED], stopped_at: None }
    }

    fn run(&mut self) -> Result<(), Stopped> {
        if matches!(self.home, State::Error | State::Resuming) {
            return Err(Stopped::Failed(DeviceError::WrongState { state: self.home }));
        }
        // ends the session that an interrupted transfer may have left: its data file is lost
        self.go(self.home)?;
        for state in there(self.home, self.device.features()) {
            self.go(state)?;
            match state {
                State::PreCopy => self.pre_copy()?,
                State::PreCopyP2p if self.home == State::RunningP2p => self.pre_copy()?,
                State::PreCopyP2p => drop(self.ask()),
                _ => {}
            }
        }
        self.stop_copy()?;
        for state in back(self.home, self.device.features()) {
            self.go(state)?;
        }
        Ok(())
    }

    /// One change of state, timed.
    fn go(&mut self, to: State) -> Result<(), Stopped> {
        if self.cancel.is_cancelled() {
            return Err(Stopped::Cancelled);
        }
        let from = self.device.state();
        if from == to {
            return Ok(());
        }
        let before = now();
        let result = self.device.set_state(to);
        let after = now();
        if matches!(to, State::Stop | State::StopCopy) {
            self.stopped_at.get_or_insert(before);
        }
        if matches!(to, State::Running | State::RunningP2p) && result.is_ok() {
            self.runs_again(after);
        }
        let error = result.as_ref().err().map(DeviceError::to_string);
        let arc = ProbedArc { from: from.to_string(), to: to.to_string(), time_ns: after - before, error };
        self.report.arcs.push(arc);
        result.map_err(Stopped::Failed)
    }

    /// Reads a running device until it has nothing more, and has nothing initial left.
    fn pre_copy(&mut self) -> Result<(), Stopped> {
        self.ask();
        let estimate = self.report.estimate_before.unwrap_or(0).max(ASKED as u64);
        let until =
            Until::Nothing { bytes: estimate.saturating_mul(PRE_COPY_FACTOR), time: now() + PRE_COPY_MAX };
        let Some(data) = self.device.data_fd() else { return Ok(()) };
        let mut reading = Reading::begin(&data, ASKED, &mut self.read_times);
        let result = loop {
            let result = reading.run(&data, &mut self.buffer, until, self.cancel);
            let has_more = reading.found.end == crate::report::ProbedEnd::More;
            if result.is_err() || has_more || reading.found.nothing_now >= NOTHING_MAX {
                break result;
            }
            // nothing now: the driver's own word says whether that is the end
            match self.device.precopy_info() {
                Ok(info) if info.initial_bytes > 0 => {
                    reading.found.nothing_now += 1;
                    rest();
                }
                _ => break result,
            }
        };
        let found = reading.end(&data);
        self.report.pre_copy = Some(found);
        result?;
        self.ask();
        Ok(())
    }

    /// Asks for what is left of pre-copy.
    fn ask(&mut self) {
        let before = now();
        let info = self.device.precopy_info();
        let time_ns = now() - before;
        let error = info.as_ref().err().map(DeviceError::to_string);
        let info = info.unwrap_or_default();
        self.report.pre_copy_info.push(ProbedInfo {
            state: self.device.state().to_string(),
            time_ns,
            initial_bytes: info.initial_bytes,
            dirty_bytes: info.dirty_bytes,
            error,
        });
    }

    /// Reads a stopped device to its end, and once more.
    fn stop_copy(&mut self) -> Result<(), Stopped> {
        self.report.estimate_stopped = self.device.stop_copy_size().ok();
        let Some(data) = self.device.data_fd() else { return Ok(()) };
        let mut reading = Reading::begin(&data, ASKED, &mut self.read_times);
        let result = reading.run(&data, &mut self.buffer, Until::End, self.cancel);
        if result.is_ok() {
            reading.look_behind_end(&data, &mut self.buffer);
        }
        let found: ProbedReads = reading.end(&data);
        self.report.stop_copy = Some(found);
        result
    }

    fn runs_again(&mut self, at: Nanos) {
        if let Some(since) = self.stopped_at.take() {
            self.report.standstill_ns += at - since;
        }
    }

    /// To where it was, from wherever it is now.
    fn bring_back(&mut self) -> Result<(), DeviceError> {
        if matches!(self.home, State::Error | State::Resuming) {
            return Ok(());
        }
        let result = self.device.bring_back(self.home);
        if self.home != State::Stop {
            self.runs_again(now());
        }
        result
    }

    fn conclude(mut self, way: Result<(), Stopped>, back: Result<(), DeviceError>) -> Probed {
        let of_device = |error| Error::Device { device: self.report.device.as_str().into(), error };
        let error = match (way, back) {
            // that its state is lost is worse than whatever led there
            (_, Err(error)) | (Err(Stopped::Failed(error)), Ok(())) => Some(of_device(error)),
            (Err(Stopped::Cancelled), Ok(())) => Some(Error::Cancelled),
            (Ok(()), Ok(())) => None,
        };
        self.report.outcome = if error.is_none() { ProbeOutcome::Complete } else { ProbeOutcome::Aborted };
        self.report.error = error
            .as_ref()
            .map(|error| ErrorReport { text: error.to_string(), hint: error.hint().map(str::to_owned) });
        self.report.left_in = self.device.state().to_string();
        self.report.was_reset = self.device.was_reset();
        Probed { report: self.report, error, read_times: self.read_times }
    }
}

/// Nothing is watched for: the next read says whether there is something.
fn rest() {
    // a failure would only shorten the rest
    let _ = nix::poll::poll(&mut [], nix::poll::PollTimeout::from(REST_MS));
}

/// The single arcs from where a device is found to STOP_COPY.
fn there(home: State, features: Features) -> Vec<State> {
    use State::{PreCopy, PreCopyP2p, Running, RunningP2p, Stop, StopCopy};
    let way: &[State] = match (home, features.pre_copy()) {
        (Running, true) => &[PreCopy, PreCopyP2p, StopCopy],
        (Running, false) => &[RunningP2p, Stop, StopCopy],
        (RunningP2p, true) => &[PreCopyP2p, StopCopy],
        (RunningP2p, false) => &[Stop, StopCopy],
        _ => &[StopCopy],
    };
    way.iter().copied().filter(|state| state.exists(features)).collect()
}

/// The single arcs from STOP_COPY to where the device was found.
fn back(home: State, features: Features) -> Vec<State> {
    use State::{Running, RunningP2p, Stop};
    let way: &[State] = match home {
        Running => &[Stop, RunningP2p, Running],
        RunningP2p => &[Stop, RunningP2p],
        _ => &[Stop],
    };
    way.iter().copied().filter(|state| state.exists(features)).collect()
}

#[cfg(test)]
mod tests;

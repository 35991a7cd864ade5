//! What a device's driver does that no tool tells: takes an idle device to STOP_COPY and back, and measures.
//!
//! It reads with plain system calls, one after the other, and discards what it reads. The invariant: whatever fails on
//! the way, the device is brought back to where it was, or the report says why not.

use hdrhistogram::Histogram;

use self::reading::{Reading, Stopped, Until};
use crate::cancel::Cancel;
use crate::error::{DeviceError, Error};
use crate::limits::PACKET_SIZE_DEFAULT;
use crate::report::{ErrorReport, ProbeOutcome, ProbeReport, ProbedArc, ProbedInfo, ProbedReads};
use crate::time::{Nanos, now};
use crate::vfio::{ArcTime, Device, Features, State};

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
        let read_times = reading::read_times();
        Probe { device, cancel, home, report, read_times, buffer: vec![0; ASKED] }
    }

    fn run(&mut self) -> Result<(), Stopped> {
        if matches!(self.home, State::Error | State::Resuming) {
            return Err(Stopped::Failed(DeviceError::WrongState { state: self.home }));
        }
        // ends the session that an interrupted transfer may have left: its data file is lost
        self.go(self.home)?;
        for state in way(self.home, self.device.features()) {
            self.go(state)?;
            match state {
                State::PreCopyP2p if self.home == State::Running => self.ask(),
                State::PreCopy | State::PreCopyP2p => self.pre_copy()?,
                _ => self.stop_copy()?,
            }
        }
        self.go(self.home)
    }

    fn go(&mut self, to: State) -> Result<(), Stopped> {
        if self.cancel.is_cancelled() {
            return Err(Stopped::Cancelled);
        }
        self.device.set_state(to).map_err(Stopped::Failed)
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

    /// To where it was, from wherever it is now.
    fn bring_back(&mut self) -> Result<(), DeviceError> {
        match self.home {
            State::Error | State::Resuming => Ok(()),
            home => self.device.bring_back(home),
        }
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
        let arcs = self.device.take_arcs();
        self.report.standstill_ns = if self.home == State::Stop { 0 } else { standstill(&arcs, now()) };
        self.report.arcs = arcs.iter().map(probed).collect();
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

/// Where to go and what to read on the way; single arcs lie between.
fn way(home: State, features: Features) -> impl Iterator<Item = State> {
    let in_pre_copy: &[State] = match home {
        State::Running => &[State::PreCopy, State::PreCopyP2p],
        State::RunningP2p => &[State::PreCopyP2p],
        // from STOP the way to PRE_COPY leads through RUNNING, which must not happen to a stopped device
        _ => &[],
    };
    let in_pre_copy = in_pre_copy.iter().copied().filter(move |state| state.exists(features));
    in_pre_copy.chain([State::StopCopy])
}

/// From the first arc that stopped the device to the last one that let it run; one that was reset runs at the end.
fn standstill(arcs: &[ArcTime], end: Nanos) -> Nanos {
    let stops = |arc: &&ArcTime| matches!(arc.to, State::Stop | State::StopCopy);
    let runs = |arc: &&ArcTime| matches!(arc.to, State::Running | State::RunningP2p);
    let Some(since) = arcs.iter().find(stops) else { return 0 };
    let until = arcs.last().filter(runs).map_or(end, |last| {
        // RUNNING_P2P is no standstill for a device, although its neighbours cannot reach it
        let again = arcs.iter().rev().take_while(runs).last().unwrap_or(last);
        again.end_ns
    });
    until.saturating_sub(since.begin_ns)
}

fn probed(arc: &ArcTime) -> ProbedArc {
    let time_ns = arc.end_ns - arc.begin_ns;
    ProbedArc { from: arc.from.to_string(), to: arc.to.to_string(), time_ns }
}

#[cfg(test)]
mod tests;

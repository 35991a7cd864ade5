//! A VFIO device that state is loaded into. [`crate::source::VfioSource`] is its mirror image.
//!
//! It knows which state the device has to be in at each step. It must not know how its state is written. The invariant:
//! the device runs a state only after [`run`](Sink::run), and never after [`rollback`](Sink::rollback).

use std::os::fd::BorrowedFd;
use std::path::Path;

use super::{FdKind, Sink};
use crate::error::DeviceError;
use crate::phase::DeviceStep;
use crate::vfio::{ArcTime, Device, State};

/// A [`Sink`] over a VFIO device with v2 migration.
///
/// | step | the device goes |
/// |---|---|
/// | `prepare` | to RESUMING |
/// | `config` | nowhere: registers are written while it is in RESUMING |
/// | `seal` | to STOP |
/// | `pre_run` | to RUNNING_P2P, if it has that |
/// | `run` | to RUNNING |
/// | `rollback` | through a reset to RUNNING, with nothing in it |
///
/// `prepare` discards the earlier state of the device, so a device that failed, or that an interrupted transfer left in
/// RESUMING, is reset there and can be used.
///
/// A write to its descriptor accepts any number of bytes; too many (`ENOMEM`, `ENOSPC`) or wrong ones may fail
/// immediately, or only in `seal`.
#[derive(Debug)]
pub struct VfioSink {
    device: Device,
    /// Whether there is something to roll back.
    prepared: bool,
}

impl VfioSink {
    /// Opens the device at `path`: a PCI address, an mdev's UUID or folder, a node or a group's device, as
    /// [`Device::open`] explains.
    pub fn open(path: impl AsRef<Path>) -> Result<VfioSink, DeviceError> {
        VfioSink::new(Device::open(path)?)
    }

    /// Loads a device that is already open. Infallible today, but fallible in form, as its mirror image in the source
    /// is.
    pub fn new(device: Device) -> Result<VfioSink, DeviceError> {
        Ok(VfioSink { device, prepared: false })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Goes to `state` if this device has it.
    fn set_state_if_exists(&mut self, state: State) -> Result<(), DeviceError> {
        if state.exists(self.device.features()) { self.device.set_state(state) } else { Ok(()) }
    }
}

impl Sink for VfioSink {
    fn prepare(&mut self) -> Result<(), DeviceError> {
        self.prepared = true;
        if matches!(self.device.state(), State::Error | State::Resuming) || self.device.is_poisoned() {
            self.device.reset()?;
        }
        self.device.set_state(State::Resuming)
    }

    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        self.device.data_fd().map(|fd| (fd, FdKind::Device))
    }

    /// Applied in RESUMING, as QEMU does: a driver may need the config space when it assembles the state, which happens
    /// on leaving RESUMING.
    fn config(&mut self, blob: &[u8]) -> Result<(), DeviceError> {
        self.device.load_config(blob)
    }

    /// Leaves RESUMING for STOP already here, and not only when the device may run: on this arc the driver takes the
    /// state in and checks it to the end. If it is broken or truncated, or belongs to another firmware, the sender
    /// learns of it while its own device can still go on. After Commit it would be too late. It also moves the longest
    /// part of loading out of the time between Commit and running.
    fn seal(&mut self) -> Result<(), DeviceError> {
        self.device.set_state(State::Stop)
    }

    fn pre_run(&mut self) -> Result<(), DeviceError> {
        self.set_state_if_exists(State::RunningP2p)
    }

    /// Whatever calls the kernel may wait for the device. Without P2P there is nothing to do before it runs.
    fn is_instant(&self, step: DeviceStep) -> bool {
        step == DeviceStep::PreRun && !State::RunningP2p.exists(self.device.features())
    }

    fn run(&mut self) -> Result<(), DeviceError> {
        self.device.set_state(State::Running)
    }

    /// When the reset fails, the device is stopped if possible, and the error says that it was not reset; calling again
    /// retries.
    fn rollback(&mut self) -> Result<(), DeviceError> {
        if !self.prepared {
            return Ok(());
        }
        if let Err(error) = self.device.reset() {
            // STOP and never RUNNING: it may hold the whole state, which the sender's device also holds. The error to
            // report is that of the reset.
            let _ = self.device.set_state(State::Stop);
            return Err(error);
        }
        self.prepared = false;
        Ok(())
    }

    fn take_arcs(&mut self) -> Vec<ArcTime> {
        self.device.take_arcs()
    }

    fn was_reset(&self) -> bool {
        self.device.was_reset()
    }
}

#[cfg(test)]
mod tests {
    use State::{PreCopy, Resuming, Running, RunningP2p, Stop, StopCopy};
    use nix::errno::Errno as Raw;

    use super::*;
    use crate::error::DeviceOperation;
    use crate::source::{Source, VfioSource};
    use crate::vfio::fake::{Call, FakeKernel, Operation};

    const STOP_COPY: u64 = 0b001;
    const WITH_P2P: u64 = 0b011;
    const ALL: u64 = 0b111;
    const EVERY: [u64; 4] = [STOP_COPY, WITH_P2P, 0b101, ALL];

    fn sink(kernel: &FakeKernel) -> VfioSink {
        VfioSink::new(Device::with_kernel(Box::new(kernel.clone())).unwrap()).unwrap()
    }

    fn prepared(kernel: &FakeKernel) -> VfioSink {
        let mut sink = sink(kernel);
        sink.prepare().unwrap();
        sink
    }

    fn blob() -> Vec<u8> {
        let device = Device::with_kernel(Box::new(FakeKernel::new(ALL))).unwrap();
        let mut buffer = vec![0; 512];
        let length = VfioSource::new(device).unwrap().config(&mut buffer).unwrap();
        buffer.truncate(length);
        buffer
    }

    #[test]
    fn a_transfer_takes_the_way_that_the_features_allow() {
        for (flags, expected) in [
            (STOP_COPY, vec![Stop, Resuming, Stop, Running]),
            (WITH_P2P, vec![RunningP2p, Stop, Resuming, Stop, RunningP2p, Running]),
            (0b101, vec![Stop, Resuming, Stop, Running]),
            (ALL, vec![RunningP2p, Stop, Resuming, Stop, RunningP2p, Running]),
        ] {
            let kernel = FakeKernel::new(flags);

            let mut sink = prepared(&kernel);
            assert!(sink.fd().is_some());
            sink.config(&blob()).unwrap();
            sink.seal().unwrap();
            assert!(sink.fd().is_none());
            sink.pre_run().unwrap();
            sink.run().unwrap();

            assert_eq!(kernel.take_log(), expected.into_iter().map(Call::Set).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_device_does_not_run_before_it_is_told_to() {
        let kernel = FakeKernel::new(ALL);
        let mut sink = prepared(&kernel);

        sink.seal().unwrap();

        assert_eq!(kernel.device_state(), Stop);
    }

    #[test]
    fn a_state_that_the_driver_refuses_is_an_error_of_seal_and_the_device_is_reset() {
        let kernel = FakeKernel::new(ALL);
        let mut sink = prepared(&kernel);
        kernel.fail(Operation::SetState, 0, Raw::EINVAL);

        let error = sink.seal().unwrap_err();

        let (arc, errno) = ((Resuming, Stop), Raw::EINVAL.into());
        assert_eq!(error, DeviceError::StateLost { from: Resuming, to: Stop, arc, errno });
        assert_eq!(kernel.device_state(), Running);
        assert!(sink.fd().is_none());
        sink.rollback().unwrap();
    }

    #[test]
    fn a_config_state_of_another_device_is_refused() {
        let kernel = FakeKernel::new(ALL);
        kernel.set_config(0, &[0x86, 0x80]);
        let mut sink = prepared(&kernel);

        let error = sink.config(&blob()).unwrap_err();

        assert!(matches!(error, DeviceError::Identity { field: "vendor", .. }), "{error}");
        assert_eq!(kernel.device_state(), Resuming);
        sink.rollback().unwrap();
        assert_eq!(kernel.device_state(), Running);
    }

    #[test]
    fn an_empty_config_state_applies_nothing() {
        let kernel = FakeKernel::new(ALL);
        kernel.fail(Operation::Read, 0, Raw::EIO);

        prepared(&kernel).config(&[]).unwrap();
    }

    #[test]
    fn rollback_from_every_step_resets_once_and_is_idempotent() {
        type Step = fn(&mut VfioSink);
        let steps: [Step; 5] = [
            |sink| sink.prepare().unwrap(),
            |sink| sink.config(&blob()).unwrap(),
            |sink| sink.seal().unwrap(),
            |sink| sink.pre_run().unwrap(),
            |sink| sink.run().unwrap(),
        ];
        for flags in EVERY {
            for count in 1..=steps.len() {
                let kernel = FakeKernel::new(flags);
                let mut sink = sink(&kernel);
                steps[..count].iter().for_each(|step| step(&mut sink));
                kernel.take_log();

                sink.rollback().unwrap();
                sink.rollback().unwrap();

                assert_eq!(kernel.take_log(), [Call::Reset], "{flags:#b}, after {count} steps");
                assert!(sink.was_reset());
                assert_eq!(kernel.device_state(), Running);
                assert!(sink.fd().is_none());
            }
        }
    }

    #[test]
    fn rollback_of_a_sink_that_was_never_prepared_touches_nothing() {
        let kernel = FakeKernel::in_state(ALL, StopCopy);

        let mut sink = sink(&kernel);
        sink.rollback().unwrap();

        assert!(!sink.was_reset());
        assert_eq!((kernel.device_state(), kernel.take_log()), (StopCopy, vec![]));
    }

    #[test]
    fn a_device_that_cannot_be_reset_is_at_least_stopped() {
        let kernel = FakeKernel::new(ALL);
        let mut sink = prepared(&kernel);
        sink.seal().unwrap();
        sink.pre_run().unwrap();
        kernel.fail(Operation::Reset, 0, Raw::ENOTTY);

        let error = sink.rollback().unwrap_err();

        assert_eq!(error, DeviceError::Io { operation: DeviceOperation::Reset, errno: Raw::ENOTTY.into() });
        assert_eq!(kernel.device_state(), Stop);
        sink.rollback().unwrap();
        assert_eq!(kernel.device_state(), Running);
    }

    #[test]
    fn a_half_loaded_device_that_cannot_be_reset_never_runs() {
        let kernel = FakeKernel::new(ALL);
        let mut sink = prepared(&kernel);
        for number in 0..2 {
            kernel.fail(Operation::Reset, number, Raw::ENOTTY);
        }
        kernel.fail(Operation::SetState, 0, Raw::EINVAL);

        assert!(sink.rollback().is_err());
        assert_eq!(kernel.device_state(), Resuming);
        assert!(matches!(sink.run(), Err(DeviceError::Poisoned { .. })));

        sink.rollback().unwrap();
        assert_eq!(kernel.device_state(), Running);
    }

    #[test]
    fn prepare_takes_a_device_in_any_state() {
        for state in State::ALL {
            let kernel = FakeKernel::in_state(ALL, state);

            let sink = prepared(&kernel);

            assert_eq!(kernel.device_state(), Resuming);
            assert!(sink.fd().is_some(), "{state}");
            let reset = kernel.take_log().contains(&Call::Reset);
            assert_eq!(reset, matches!(state, State::Error | Resuming), "{state}");
        }
    }

    #[test]
    fn a_prepare_that_fails_leaves_a_clean_device() {
        for left_in in [Running, Stop, PreCopy, State::Error] {
            let kernel = FakeKernel::new(ALL);
            let mut sink = sink(&kernel);
            kernel.fail_change(0, Raw::EIO, left_in);

            assert!(matches!(sink.prepare(), Err(DeviceError::StateLost { .. })));
            assert_eq!(kernel.device_state(), Running);
            sink.rollback().unwrap();
        }
    }

    #[test]
    fn a_pre_run_or_run_that_keeps_failing_ends_in_a_reset() {
        for skip in [0, 1] {
            let kernel = FakeKernel::new(ALL);
            let mut sink = prepared(&kernel);
            sink.seal().unwrap();
            kernel.fail(Operation::SetState, skip, Raw::EIO);
            kernel.fail(Operation::SetState, skip + 1, Raw::EIO);

            let result = sink.pre_run().and_then(|()| sink.run());

            assert!(matches!(result, Err(DeviceError::StateLost { .. })));
            sink.rollback().unwrap();
            assert_eq!(kernel.device_state(), Running);
        }
    }
}

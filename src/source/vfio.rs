//! A VFIO device whose state is sent away. [`crate::sink::VfioSink`] is its mirror image.
//!
//! It knows which state the device has to be in at each step, and where it was before. It must not know how its state
//! is read. The invariant: until [`release`](Source::release) the state stays in the device, so that
//! [`rollback`](Source::rollback) can bring it back to where it was.

use std::os::fd::BorrowedFd;
use std::path::Path;

use super::{FdKind, Flow, PreCopyInfo, Source};
use crate::descriptor::make_nonblocking;
use crate::error::{DeviceError, DeviceOperation, Errno};
use crate::phase::DeviceStep;
use crate::vfio::{ArcTime, Device, State};

/// A [`Source`] over a VFIO device with v2 migration.
///
/// | step | the device goes |
/// |---|---|
/// | `start` | to PRE_COPY, if it has that and runs |
/// | `quiesce` | to the corresponding P2P state, if it has that and runs |
/// | `stop` | to STOP_COPY |
/// | `release` | to STOP |
/// | `rollback` | back to where it was: RUNNING, RUNNING_P2P, or STOP for that of a paused virtual machine |
/// | `park` | nowhere |
///
/// A device that an interrupted transfer left in a state with a data file counts as being in the state without one:
/// PRE_COPY counts as RUNNING, STOP_COPY as STOP.
///
/// Reads of its descriptor: while the device is in PRE_COPY, a read returns `ENOMSG` when nothing more is available
/// now. With some drivers (the kernel's sample mtty is one) it returns 0, which is then not the end of the state; the
/// next read may return more. What is left is for the driver to say (`VFIO_MIG_GET_PRECOPY_INFO`), initial bytes that
/// begin anew included where the kernel can report them; with some drivers that is what starts saving the next part. After [`stop`](Source::stop) reads continue, on the same descriptor or on a new one, and
/// a read of 0 is the end. `poll` need not tell the truth.
#[derive(Debug)]
pub struct VfioSource {
    device: Device,
    /// The state that the device was in, and that rollback brings it back to.
    home: State,
    /// Whether there is something to roll back: from `start` to `release`.
    started: bool,
}

impl VfioSource {
    /// Opens the device at `path`: a PCI address, an mdev's UUID or folder, a node or a group's device, as
    /// [`Device::open`] explains.
    pub fn open(path: impl AsRef<Path>) -> Result<VfioSource, DeviceError> {
        VfioSource::new(Device::open(path)?)
    }

    /// Moves a device that is already open. Refuses one that failed or is being loaded.
    pub fn new(device: Device) -> Result<VfioSource, DeviceError> {
        let home = device.state().without_session();
        if matches!(home, State::Error | State::Resuming) {
            return Err(DeviceError::WrongState { state: home });
        }
        Ok(VfioSource { device, home, started: false })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Goes to `state` if this device has it.
    fn set_state_if_exists(&mut self, state: State) -> Result<(), DeviceError> {
        if state.exists(self.device.features()) { self.device.set_state(state) } else { Ok(()) }
    }

    /// A descriptor that can be polled (mlx5 has one) is read by a thread of the ring only when it is ready, unless
    /// `O_NONBLOCK` is set. While a device in PRE_COPY has nothing it is not, so its `ENOMSG` would never be seen, and the
    /// read would be under way until the device has something new. Drivers without `poll` ignore the flag.
    fn make_reads_return(&self) -> Result<(), DeviceError> {
        let data = self.device.data_fd();
        data.map_or(Ok(()), |fd| make_nonblocking(fd, DeviceOperation::ReadFromDescriptor))
    }
}

impl Source for VfioSource {
    /// Size of the STOP_COPY state, as the driver estimates it.
    fn estimate(&self) -> Option<u64> {
        self.device.stop_copy_size().ok()
    }

    fn start(&mut self) -> Result<Flow, DeviceError> {
        self.started = true;
        // Ends the session that an interrupted transfer may have left: its data file is lost.
        self.device.set_state(self.home)?;
        self.device.opt_in_to_reinit();
        match self.home {
            State::Running => self.set_state_if_exists(State::PreCopy)?,
            State::RunningP2p => self.set_state_if_exists(State::PreCopyP2p)?,
            // From STOP the way to PRE_COPY leads through RUNNING, which must not happen to a stopped device.
            _ => {}
        }
        self.make_reads_return()?;
        Ok(if self.device.state().saves() { Flow::PreCopy } else { Flow::StopCopyOnly })
    }

    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        self.device.data_fd().map(|fd| (fd, FdKind::Device))
    }

    fn precopy_info(&mut self) -> Result<Option<PreCopyInfo>, DeviceError> {
        if !matches!(self.device.state(), State::PreCopy | State::PreCopyP2p) {
            return Ok(None);
        }
        match self.device.precopy_info() {
            Ok(info) => Ok(Some(PreCopyInfo { initial: info.initial_bytes, dirty: info.dirty_bytes })),
            Err(DeviceError::Io { errno, .. }) if is_unknown(errno) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn quiesce(&mut self) -> Result<(), DeviceError> {
        match self.device.state() {
            State::PreCopy => self.set_state_if_exists(State::PreCopyP2p),
            State::Running => self.set_state_if_exists(State::RunningP2p),
            _ => Ok(()),
        }
    }

    fn stop(&mut self) -> Result<(), DeviceError> {
        self.device.set_state(State::StopCopy)?;
        self.make_reads_return()
    }

    /// For a PCI device: its config space, in ringlift's own format.
    fn config(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        self.device.save_config(buffer)
    }

    /// From here on a rollback does nothing: the destination runs, so this device never may again.
    fn release(&mut self) -> Result<(), DeviceError> {
        self.started = false;
        let result = self.device.set_state(State::Stop);
        if result.is_err() && !self.device.is_poisoned() {
            // It was reset: nothing is left in it, but it should not run either. The first error is the one to report.
            let _ = self.device.set_state(State::Stop);
        }
        result
    }

    /// After an error here the device has lost its state: it was reset, or even the reset failed.
    fn rollback(&mut self) -> Result<(), DeviceError> {
        if !self.started {
            return Ok(());
        }
        self.device.bring_back(self.home)
    }

    fn take_arcs(&mut self) -> Vec<ArcTime> {
        self.device.take_arcs()
    }

    /// The device stays in STOP_COPY with its data file open, and its state stays in it as long as this object (or
    /// another descriptor of the same device, such as the virtual machine monitor's) exists. The state does not survive
    /// the last descriptor with most drivers: those of physical devices reset a device when it is closed, also when the
    /// process ends or is killed. (Mediated devices may keep it: the kernel's sample mtty does.)
    ///
    /// So when in doubt, check the destination first, while this process lives. If the destination does not run,
    /// [`rollback`](Source::rollback) lets the device here go on; if it does, [`release`](Source::release) ends it.
    fn park(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Whatever calls the kernel may wait for the device. Without P2P there is nothing to quiesce.
    fn is_instant(&self, step: DeviceStep) -> bool {
        match step {
            DeviceStep::Quiesce => !State::RunningP2p.exists(self.device.features()),
            DeviceStep::Park => true,
            _ => false,
        }
    }
}

/// Whether a driver has no answer to give, and has not failed.
fn is_unknown(errno: Errno) -> bool {
    use nix::libc::{EINVAL, ENOTTY, EOPNOTSUPP};
    matches!(errno.raw(), EINVAL | ENOTTY | EOPNOTSUPP)
}

#[cfg(test)]
mod tests {
    use State::{PreCopy, PreCopyP2p, Resuming, Running, RunningP2p, Stop, StopCopy};
    use nix::errno::Errno as Raw;

    use super::*;
    use crate::vfio::fake::{Call, FakeKernel, Operation};

    const STOP_COPY: u64 = 0b001;
    const WITH_P2P: u64 = 0b011;
    const WITH_PRE_COPY: u64 = 0b101;
    const ALL: u64 = 0b111;
    const EVERY: [u64; 4] = [STOP_COPY, WITH_P2P, WITH_PRE_COPY, ALL];

    fn source(kernel: &FakeKernel) -> VfioSource {
        VfioSource::new(Device::with_kernel(Box::new(kernel.clone())).unwrap()).unwrap()
    }

    fn run_to_stop_copy(kernel: &FakeKernel) -> VfioSource {
        let mut source = source(kernel);
        source.start().unwrap();
        source.quiesce().unwrap();
        source.stop().unwrap();
        source
    }

    fn states(kernel: &FakeKernel) -> Vec<State> {
        let state = |call| match call {
            Call::Set(state) => state,
            Call::Reset => panic!("a reset"),
        };
        kernel.take_log().into_iter().map(state).collect()
    }

    /// A sender on an mlx5 waited for ever in pre-copy: the device had nothing, so `poll` kept its read from beginning.
    #[test]
    fn a_read_of_a_device_that_has_nothing_returns() {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        for flags in EVERY {
            let mut source = source(&FakeKernel::new(flags));
            source.start().unwrap();
            source.quiesce().unwrap();
            source.stop().unwrap();
            let (fd, _) = source.fd().unwrap();
            let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap());
            assert!(flags.contains(OFlag::O_NONBLOCK));
        }
    }

    #[test]
    fn a_transfer_takes_the_way_that_the_features_allow() {
        for (flags, expected) in [
            (STOP_COPY, vec![Stop, StopCopy, Stop]),
            (WITH_P2P, vec![RunningP2p, Stop, StopCopy, Stop]),
            (WITH_PRE_COPY, vec![PreCopy, StopCopy, Stop]),
            (ALL, vec![PreCopy, PreCopyP2p, StopCopy, Stop]),
        ] {
            let kernel = FakeKernel::new(flags);

            let mut source = run_to_stop_copy(&kernel);
            assert!(source.fd().is_some());
            source.release().unwrap();

            assert_eq!(states(&kernel), expected);
            assert!(source.fd().is_none());
        }
    }

    #[test]
    fn pre_copy_is_announced_when_there_is_some() {
        assert_eq!(source(&FakeKernel::new(ALL)).start().unwrap(), Flow::PreCopy);
        assert_eq!(source(&FakeKernel::new(WITH_PRE_COPY)).start().unwrap(), Flow::PreCopy);
        assert_eq!(source(&FakeKernel::new(WITH_P2P)).start().unwrap(), Flow::StopCopyOnly);
        assert_eq!(source(&FakeKernel::new(STOP_COPY)).start().unwrap(), Flow::StopCopyOnly);
    }

    #[test]
    fn a_paused_device_is_never_let_run() {
        for flags in EVERY {
            let kernel = FakeKernel::in_state(flags, Stop);

            let mut source = source(&kernel);
            assert_eq!(source.start().unwrap(), Flow::StopCopyOnly);
            source.quiesce().unwrap();
            source.stop().unwrap();
            source.rollback().unwrap();

            assert_eq!(states(&kernel), [StopCopy, Stop]);
        }
    }

    #[test]
    fn a_quiet_device_stays_quiet() {
        let kernel = FakeKernel::in_state(ALL, RunningP2p);

        let mut source = run_to_stop_copy(&kernel);
        source.rollback().unwrap();

        assert_eq!(states(&kernel), [PreCopyP2p, StopCopy, Stop, RunningP2p]);
    }

    #[test]
    fn sessions_that_were_cut_off_are_ended_first() {
        let kernel = FakeKernel::in_state(ALL, StopCopy);
        let mut source_of_stopped = source(&kernel);
        source_of_stopped.start().unwrap();
        source_of_stopped.stop().unwrap();
        assert!(source_of_stopped.fd().is_some());
        assert_eq!(states(&kernel), [Stop, StopCopy]);

        let kernel = FakeKernel::in_state(ALL, PreCopy);
        let mut source_of_running = source(&kernel);
        assert_eq!(source_of_running.start().unwrap(), Flow::PreCopy);
        assert!(source_of_running.fd().is_some());
        assert_eq!(states(&kernel), [Running, PreCopy]);
    }

    #[test]
    fn a_device_that_failed_or_is_being_loaded_is_refused() {
        for state in [State::Error, Resuming] {
            let device = Device::with_kernel(Box::new(FakeKernel::in_state(ALL, state))).unwrap();
            assert_eq!(VfioSource::new(device).unwrap_err(), DeviceError::WrongState { state });
        }
    }

    #[test]
    fn rollback_from_every_step_leads_back_and_is_idempotent() {
        type Step = fn(&mut VfioSource);
        let steps: [Step; 3] = [
            |source| assert!(source.start().is_ok()),
            |source| source.quiesce().unwrap(),
            |source| source.stop().unwrap(),
        ];
        for (flags, home) in EVERY.into_iter().flat_map(|flags| [(flags, Running), (flags, Stop)]) {
            for count in 0..=steps.len() {
                let kernel = FakeKernel::in_state(flags, home);
                let mut source = source(&kernel);
                steps[..count].iter().for_each(|step| step(&mut source));

                source.rollback().unwrap();
                assert_eq!(kernel.device_state(), home, "{flags:#b}, after {count} steps");
                assert!(source.fd().is_none());
                kernel.take_log();
                source.rollback().unwrap();
                assert_eq!(kernel.take_log(), []);
            }
        }
    }

    #[test]
    fn rollback_of_a_source_that_never_started_touches_nothing() {
        let kernel = FakeKernel::in_state(ALL, StopCopy);

        source(&kernel).rollback().unwrap();

        assert_eq!(kernel.device_state(), StopCopy);
        assert_eq!(kernel.take_log(), []);
    }

    #[test]
    fn a_step_that_fails_leaves_a_device_that_runs_on() {
        for (flags, skip) in [(ALL, 0), (ALL, 1), (ALL, 2), (STOP_COPY, 0), (WITH_P2P, 0), (WITH_P2P, 1)] {
            let kernel = FakeKernel::new(flags);
            let mut source = source(&kernel);
            kernel.fail(Operation::SetState, skip, Raw::EIO);

            let result = source.start().and_then(|_| source.quiesce()).and_then(|()| source.stop());
            assert!(matches!(result, Err(DeviceError::Transition { errno, .. }) if errno == Raw::EIO.into()));
            source.rollback().unwrap();

            assert_eq!(kernel.device_state(), Running, "{flags:#b}, change {skip}");
            assert!(!kernel.take_log().contains(&Call::Reset));
        }
    }

    #[test]
    fn a_rollback_that_fails_twice_resets_and_says_so() {
        let kernel = FakeKernel::new(ALL);
        let mut source = run_to_stop_copy(&kernel);
        kernel.fail(Operation::SetState, 0, Raw::EIO);
        kernel.fail(Operation::SetState, 1, Raw::EIO);

        let error = source.rollback().unwrap_err();

        let (arc, errno) = ((StopCopy, Stop), Raw::EIO.into());
        assert_eq!(error, DeviceError::StateLost { from: StopCopy, to: Running, arc, errno });
        assert_eq!(kernel.device_state(), Running);
        source.rollback().unwrap();
    }

    #[test]
    fn a_paused_device_that_had_to_be_reset_is_stopped_again() {
        let kernel = FakeKernel::in_state(ALL, Stop);
        let mut source = run_to_stop_copy(&kernel);
        kernel.fail(Operation::SetState, 0, Raw::EIO);
        kernel.fail(Operation::SetState, 1, Raw::EIO);

        assert!(matches!(source.rollback(), Err(DeviceError::StateLost { .. })));

        assert_eq!(kernel.device_state(), Stop);
    }

    #[test]
    fn rollback_of_a_poisoned_device_tries_the_reset_again() {
        let kernel = FakeKernel::new(ALL);
        let mut source = source(&kernel);
        source.start().unwrap();
        kernel.fail_change(0, Raw::EIO, State::Error);
        kernel.fail(Operation::Reset, 0, Raw::EIO);
        kernel.fail(Operation::Reset, 1, Raw::EAGAIN);

        assert!(matches!(source.stop(), Err(DeviceError::Poisoned { .. })));
        assert!(
            matches!(source.rollback(), Err(DeviceError::Poisoned { reset, .. }) if reset == Raw::EAGAIN.into())
        );
        assert!(matches!(source.rollback(), Err(DeviceError::StateLost { .. })));
        source.rollback().unwrap();

        assert_eq!(kernel.device_state(), Running);
    }

    #[test]
    fn a_release_that_fails_never_leaves_the_device_running() {
        let kernel = FakeKernel::new(ALL);
        let mut source = run_to_stop_copy(&kernel);
        kernel.fail(Operation::SetState, 0, Raw::EIO);
        kernel.fail(Operation::SetState, 1, Raw::EIO);

        assert!(matches!(source.release(), Err(DeviceError::StateLost { .. })));

        assert_eq!(kernel.device_state(), Stop);
    }

    #[test]
    fn rollback_after_release_never_lets_the_device_run() {
        let kernel = FakeKernel::new(ALL);
        let mut source = run_to_stop_copy(&kernel);

        source.release().unwrap();
        source.rollback().unwrap();

        assert_eq!(kernel.device_state(), Stop);
    }

    #[test]
    fn park_leaves_the_state_and_its_file_alone() {
        let kernel = FakeKernel::new(ALL);
        let mut source = run_to_stop_copy(&kernel);
        kernel.take_log();

        source.park().unwrap();

        assert_eq!((kernel.device_state(), kernel.take_log()), (StopCopy, vec![]));
        assert!(source.fd().is_some());
        source.rollback().unwrap();
        assert_eq!(kernel.device_state(), Running);
    }

    #[test]
    fn what_pre_copy_could_give_is_asked_only_in_pre_copy() {
        let kernel = FakeKernel::new(ALL);
        let mut source = source(&kernel);

        assert_eq!(source.precopy_info().unwrap(), None);
        source.start().unwrap();
        assert_eq!(source.precopy_info().unwrap(), Some(PreCopyInfo { initial: 24, dirty: 3 }));
        source.quiesce().unwrap();
        assert_eq!(source.precopy_info().unwrap(), Some(PreCopyInfo { initial: 24, dirty: 3 }));
        source.stop().unwrap();
        assert_eq!(source.precopy_info().unwrap(), None);
    }

    #[test]
    fn a_driver_without_an_answer_cannot_tell_and_one_that_has_died_has_failed() {
        for (errno, cannot_tell) in
            [(Raw::ENOTTY, true), (Raw::EINVAL, true), (Raw::EIO, false), (Raw::ENODEV, false)]
        {
            let kernel = FakeKernel::new(ALL);
            let mut source = source(&kernel);
            source.start().unwrap();
            kernel.fail(Operation::Precopy, 0, errno);
            assert_eq!(source.precopy_info() == Ok(None), cannot_tell, "{errno}");
        }
    }

    #[test]
    fn the_kernel_is_asked_to_report_new_initial_bytes_before_pre_copy_and_need_not_know_how() {
        let kernel = FakeKernel::new(ALL);
        source(&kernel).start().unwrap();
        assert_eq!(kernel.opted_in(), Some(Running));

        let kernel = FakeKernel::new(ALL);
        kernel.fail(Operation::OptIn, 0, Raw::ENOTTY);
        assert_eq!(source(&kernel).start().unwrap(), Flow::PreCopy);
        assert_eq!(kernel.opted_in(), None);
    }

    #[test]
    fn an_estimate_is_given_when_the_driver_has_one() {
        let kernel = FakeKernel::new(ALL);
        let source = source(&kernel);

        assert_eq!(source.estimate(), Some(96));
        kernel.fail(Operation::StopCopySize, 0, Raw::ENOTTY);
        assert_eq!(source.estimate(), None);
    }

    #[test]
    fn the_config_state_is_that_of_the_device() {
        let mut buffer = [0; 512];

        assert_eq!(source(&FakeKernel::new(ALL)).config(&mut buffer).unwrap(), 16 + 256);
        assert_eq!(source(&FakeKernel::new(ALL).without_config()).config(&mut buffer).unwrap(), 0);
    }
}

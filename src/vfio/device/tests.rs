//! The device against a fake kernel: what it is asked and in which order, and what comes of each failure.

use State::{PreCopy, PreCopyP2p, Resuming, Running, RunningP2p, Stop, StopCopy};

use super::*;
use crate::vfio::fake::{self, Call, FakeKernel, Operation};
use crate::vfio::locate::tests::Host;

const ALL: u64 = 0b111;

fn device(kernel: &FakeKernel) -> Device {
    Device::with_kernel(Box::new(kernel.clone())).unwrap()
}

fn data_number(device: &Device) -> i32 {
    device.data_fd().unwrap().as_raw_fd()
}

/// A change that failed on its first arc.
fn transition(from: State, to: State, errno: Raw) -> DeviceError {
    let next = from.next_arc(to, Features::from_kernel(ALL)).unwrap_or(to);
    DeviceError::Transition { from, to, arc: (from, next), errno: errno.into() }
}

fn lost(from: State, to: State, errno: Raw) -> DeviceError {
    let next = from.next_arc(to, Features::from_kernel(ALL)).unwrap_or(to);
    DeviceError::StateLost { from, to, arc: (from, next), errno: errno.into() }
}

#[test]
fn a_device_that_cannot_migrate_is_refused() {
    let kernel = FakeKernel::new(ALL);
    kernel.fail(Operation::Features, 0, Raw::ENOTTY);

    let error = Device::with_kernel(Box::new(kernel)).unwrap_err();

    assert!(matches!(error, DeviceError::Unsupported { .. }));
    assert!(Device::with_kernel(Box::new(FakeKernel::new(0))).is_err());
}

#[test]
fn a_descriptor_that_is_no_vfio_device_is_refused() {
    for path in ["/dev/null", "/proc/self/status"] {
        let error = Device::from_fd(File::open(path).unwrap().into()).unwrap_err();
        assert!(matches!(error, DeviceError::Io { errno, .. } if errno == Raw::ENOTTY.into()), "{path}");
    }
}

#[test]
fn a_given_device_is_asked_where_nothing_else_tells_what_it_is() {
    // without /proc, as after chroot, every descriptor was refused
    let given = |known, kernel: &FakeKernel| Device::given(known, Box::new(kernel.clone()));
    let kernel = FakeKernel::new(ALL);
    assert!(given(None, &kernel).is_ok() && given(Some(true), &kernel).is_ok());

    let other = FakeKernel::new(ALL);
    other.fail(Operation::Info, 0, Raw::ENOTTY);
    for error in [given(Some(false), &kernel), given(None, &other)].map(Result::unwrap_err) {
        assert!(matches!(error, DeviceError::Io { errno, .. } if errno == Raw::ENOTTY.into()));
    }
}

#[test]
fn a_descriptor_whose_kind_cannot_be_looked_up_is_unknown_unless_it_has_another_type() {
    use nix::sys::eventfd::EventFd;
    let host = Host::new();
    let nowhere = Roots { sys: "/nonexistent".into(), proc: "/nonexistent".into(), ..host.roots.clone() };
    let null = File::open("/dev/null").unwrap();
    let anonymous = File::from(OwnedFd::from(EventFd::new().unwrap()));
    assert_eq!(is_vfio_device(&null, &nowhere), None);
    assert_eq!(is_vfio_device(&anonymous, &nowhere), None);
    assert_eq!(is_vfio_device(&File::open("Cargo.toml").unwrap(), &nowhere), Some(false));
    for file in [null, anonymous] {
        assert_eq!(is_vfio_device(&file, &Roots::default()), Some(false));
        // neither answers as a device
        assert!(!OpenDevice::from_file(file).is_device());
    }
}

#[test]
fn a_node_is_a_device_if_its_class_says_so() {
    let host = Host::new();
    let null = File::open("/dev/null").unwrap();
    for (class, is_device) in [("vfio-dev", true), ("mem", false)] {
        let (node, class) = (host.roots.sys.join("dev/char/1:3"), host.roots.sys.join("class").join(class));
        fs::create_dir_all(&node).unwrap();
        fs::create_dir_all(&class).unwrap();
        std::os::unix::fs::symlink(&class, node.join("subsystem")).unwrap();
        assert_eq!(is_vfio_device(&null, &host.roots), Some(is_device));
        fs::remove_dir_all(&node).unwrap();
    }
    assert_eq!(
        is_vfio_device(&null, &host.roots),
        Some(false),
        "the kernel shows its devices, and not this one"
    );
}

#[test]
fn a_region_is_read_and_written_within_its_bounds_alone() {
    let mut device = device(&FakeKernel::new(ALL));
    let mut byte = [0];

    device.write_region(7, 0x3c, &[0xa5]).unwrap();
    device.read_region(7, 0x3c, &mut byte).unwrap();

    assert_eq!(byte, [0xa5]);
    for (idx, offset) in [(7, 256), (7, u64::MAX), (0, 0)] {
        assert!(device.read_region(idx, offset, &mut byte).is_err());
        assert!(device.write_region(idx, offset, &byte).is_err());
    }
}

#[test]
fn the_same_state_again_asks_the_kernel_for_nothing() {
    let kernel = FakeKernel::new(ALL);

    device(&kernel).set_state(Running).unwrap();

    assert_eq!(kernel.take_log(), []);
}

#[test]
fn an_illegal_change_touches_nothing() {
    let kernel = FakeKernel::new(ALL);
    let mut device = device(&kernel);
    device.set_state(StopCopy).unwrap();
    kernel.take_log();

    assert_eq!(device.set_state(PreCopy).unwrap_err(), transition(StopCopy, PreCopy, Raw::EINVAL));
    assert_eq!(device.set_state(State::Error).unwrap_err(), transition(StopCopy, State::Error, Raw::EINVAL));

    assert_eq!(kernel.take_log(), []);
    assert!(device.data_fd().is_some());
}

#[test]
fn one_data_file_lasts_from_pre_copy_to_the_end_of_stop_copy() {
    let kernel = FakeKernel::new(ALL);
    let mut device = device(&kernel);

    device.set_state(PreCopy).unwrap();
    let number = data_number(&device);
    device.set_state(PreCopyP2p).unwrap();
    device.set_state(StopCopy).unwrap();
    assert_eq!(data_number(&device), number);

    device.set_state(Stop).unwrap();
    assert!(device.data_fd().is_none());
}

#[test]
fn a_new_session_has_a_new_data_file() {
    let kernel = FakeKernel::new(ALL);
    let mut device = device(&kernel);
    let inode = |device: &Device| nix::sys::stat::fstat(device.data_fd().unwrap()).unwrap().st_ino;

    device.set_state(StopCopy).unwrap();
    let saving = inode(&device);
    device.set_state(Resuming).unwrap();

    assert_ne!(inode(&device), saving);
    device.set_state(Running).unwrap();
    assert!(device.data_fd().is_none());
}

#[test]
fn a_session_without_a_data_file_is_a_failed_change() {
    let kernel = FakeKernel::new(ALL);
    let mut device = device(&kernel);
    kernel.stop_giving_files();

    assert_eq!(device.set_state(PreCopy).unwrap_err(), transition(Running, PreCopy, Raw::EBADF));
    assert_eq!((device.state(), kernel.device_state()), (Running, Running));
}

#[test]
fn a_stale_data_file_never_serves_another_session() {
    let kernel = FakeKernel::new(ALL);
    let mut device = device(&kernel);
    device.set_state(StopCopy).unwrap();
    kernel.stop_giving_files();

    let arc = (Stop, Resuming);
    let lost = DeviceError::StateLost { from: StopCopy, to: Resuming, arc, errno: Raw::EBADF.into() };
    assert_eq!(device.set_state(Resuming).unwrap_err(), lost);
    assert!(device.data_fd().is_none());
}

#[test]
fn a_failed_begin_brings_the_device_back_to_what_it_did() {
    // When the change fails, the kernel may leave the device anywhere on the way.
    for (start, to, left_in, back) in [
        (Running, PreCopy, Running, Running),
        (Running, StopCopy, RunningP2p, Running),
        (Running, StopCopy, Stop, Running),
        (Running, RunningP2p, Running, Running),
        (PreCopy, StopCopy, PreCopy, Running),
        (PreCopy, StopCopy, PreCopyP2p, Running),
        (PreCopyP2p, StopCopy, PreCopyP2p, RunningP2p),
        (Stop, StopCopy, Stop, Stop),
    ] {
        let kernel = FakeKernel::new(ALL);
        let mut device = device(&kernel);
        device.set_state(start).unwrap();
        kernel.fail_change(0, Raw::EIO, left_in);

        assert_eq!(device.set_state(to).unwrap_err(), transition(start, to, Raw::EIO));

        assert_eq!(
            (device.state(), kernel.device_state()),
            (back, back),
            "{start} -> {to}, left in {left_in}"
        );
        assert!(device.data_fd().is_none());
    }
}

#[test]
fn a_failed_end_is_tried_twice() {
    for (start, to, left_in, calls) in [
        (StopCopy, Running, Stop, vec![Stop, RunningP2p, Running]),
        (StopCopy, Stop, StopCopy, vec![Stop, Stop]),
        (Stop, Running, RunningP2p, vec![RunningP2p, Running]),
        (PreCopy, Running, PreCopy, vec![Running, Running]),
    ] {
        let kernel = FakeKernel::new(ALL);
        let mut device = device(&kernel);
        device.set_state(start).unwrap();
        kernel.take_log();
        kernel.fail_change(0, Raw::EBUSY, left_in);

        device.set_state(to).unwrap();

        assert_eq!((device.state(), kernel.device_state()), (to, to));
        assert!(kernel.take_log().into_iter().eq(calls.into_iter().map(Call::Set)), "{start} -> {to}");
    }
}

#[test]
fn a_device_that_cannot_be_brought_back_is_reset() {
    let kernel = FakeKernel::new(ALL);
    let mut device = device(&kernel);
    device.set_state(PreCopy).unwrap();
    kernel.take_log();
    kernel.fail_change(0, Raw::EIO, Stop);
    kernel.fail_change(1, Raw::EIO, Stop);

    assert_eq!(device.set_state(StopCopy).unwrap_err(), lost(PreCopy, StopCopy, Raw::EIO));

    assert_eq!(kernel.take_log(), [Call::Set(PreCopyP2p), Call::Set(RunningP2p), Call::Reset]);
    assert_eq!((device.state(), device.data_fd().is_none()), (Running, true));
}

#[test]
fn a_device_in_error_is_reset_without_asking_it_for_anything() {
    let kernel = FakeKernel::new(ALL);
    let mut device = device(&kernel);
    kernel.fail_change(0, Raw::EIO, State::Error);

    assert_eq!(device.set_state(StopCopy).unwrap_err(), lost(Running, StopCopy, Raw::EIO));

    assert_eq!(kernel.take_log(), [Call::Set(RunningP2p), Call::Reset]);
}

#[test]
fn a_device_that_does_not_say_where_it_is_counts_as_failed() {
    let kernel = FakeKernel::new(ALL);
    let mut device = device(&kernel);
    kernel.fail(Operation::SetState, 0, Raw::EIO);
    kernel.fail(Operation::State, 0, Raw::EIO);

    assert_eq!(device.set_state(StopCopy).unwrap_err(), lost(Running, StopCopy, Raw::EIO));
}

#[test]
fn a_half_loaded_device_is_reset() {
    let kernel = FakeKernel::new(ALL);
    let mut device = device(&kernel);
    device.set_state(Resuming).unwrap();
    kernel.take_log();
    kernel.fail(Operation::SetState, 0, Raw::EINVAL);

    assert_eq!(device.set_state(Stop).unwrap_err(), lost(Resuming, Stop, Raw::EINVAL));

    assert_eq!(kernel.take_log(), [Call::Set(Stop), Call::Reset]);
    assert_eq!(device.state(), Running);
}

#[test]
fn a_device_whose_reset_fails_is_poisoned_until_a_reset_works() {
    let kernel = FakeKernel::new(ALL);
    let mut device = device(&kernel);
    device.set_state(Resuming).unwrap();
    kernel.fail(Operation::SetState, 0, Raw::EINVAL);
    kernel.fail(Operation::Reset, 0, Raw::ENOTTY);

    let error = device.set_state(Stop).unwrap_err();
    assert_eq!(
        error.to_string(),
        "state change RESUMING -> STOP failed: EINVAL (Invalid argument); the reset after it failed, too: \
         ENOTTY (Not a typewriter); the device cannot be used"
    );
    kernel.take_log();
    assert_eq!(device.set_state(Running).unwrap_err(), error);
    assert_eq!(kernel.take_log(), []);

    device.reset().unwrap();
    device.set_state(Resuming).unwrap();
}

#[test]
fn a_reset_that_leads_elsewhere_than_to_running_has_failed() {
    let kernel = FakeKernel::new(ALL);
    let mut device = device(&kernel);
    kernel.fail(Operation::State, 0, Raw::ENODEV);

    assert!(matches!(device.reset(), Err(DeviceError::Io { errno, .. }) if errno == Raw::ENODEV.into()));
}

#[test]
fn pre_copy_is_asked_only_of_an_open_session() {
    let kernel = FakeKernel::new(ALL);
    let mut device = device(&kernel);
    assert!(
        matches!(device.precopy_info(), Err(DeviceError::Io { errno, .. }) if errno == Raw::EBADF.into())
    );

    device.set_state(PreCopy).unwrap();
    let expected = PrecopyInfo { initial_bytes: 24, dirty_bytes: 3, reinitialised: false };
    assert_eq!(device.precopy_info().unwrap(), expected);
    assert_eq!(device.stop_copy_size().unwrap(), 96);
}

#[test]
fn initial_bytes_that_begin_anew_are_believed_only_of_a_kernel_that_agreed_to_report_them() {
    // before the opt-in a kernel gives back whatever flags it was given
    let anew = PrecopyInfo { initial_bytes: 8, dirty_bytes: 0, reinitialised: true };
    for knows in [true, false] {
        let kernel = FakeKernel::new(ALL);
        let mut device = device(&kernel);
        if !knows {
            kernel.fail(Operation::OptIn, 0, Raw::ENOTTY);
        }
        device.opt_in_to_reinit();
        device.set_state(PreCopy).unwrap();
        kernel.set_precopy_info(anew);
        assert_eq!(device.precopy_info().unwrap(), PrecopyInfo { reinitialised: knows, ..anew });
    }
}

/// Every change that a device with these features can make, as from, to.
fn changes(features: Features) -> impl Iterator<Item = (State, State)> {
    let pairs = State::ALL.into_iter().flat_map(|from| State::ALL.into_iter().map(move |to| (from, to)));
    pairs.filter(move |(from, to)| from != to && from.can_go(*to, features))
}

/// A device in `state`, with the session that belongs to it; its log is empty.
fn device_in(kernel: &FakeKernel, state: State) -> Device {
    let mut device = device(kernel);
    device.set_state(state).unwrap();
    device.take_arcs();
    kernel.take_log();
    device
}

#[test]
fn every_change_asks_for_the_arcs_of_the_kernels_chain_and_for_nothing_else() {
    for flags in [0b001, 0b011, 0b101, ALL] {
        let features = Features::from_kernel(flags);
        for (from, to) in changes(features) {
            let kernel = FakeKernel::new(flags);
            let mut device = device_in(&kernel, from);

            device.set_state(to).unwrap();

            let chain = fake::walk(from, to, features).unwrap();
            let arcs: Vec<_> = device.take_arcs().iter().map(|arc| (arc.from, arc.to)).collect();
            let begins = std::iter::once(from).chain(chain.iter().copied());
            assert_eq!(arcs, begins.zip(chain.iter().copied()).collect::<Vec<_>>());
            assert_eq!(kernel.take_log(), chain.into_iter().map(Call::Set).collect::<Vec<_>>());
            assert_eq!(device.data_fd().is_some(), to.has_session(), "{from} -> {to}");
        }
    }
}

#[test]
fn the_time_of_each_arc_is_that_of_the_kernel() {
    let kernel = FakeKernel::new(ALL);
    let mut device = device_in(&kernel, Running);
    kernel.slow_down(Running, RunningP2p, 5);
    kernel.slow_down(Stop, StopCopy, 700);

    device.set_state(StopCopy).unwrap();

    let took: Vec<_> = device.take_arcs().iter().map(|arc| (arc.to, arc.end_ns - arc.begin_ns)).collect();
    assert_eq!(took, [(RunningP2p, 5), (Stop, 0), (StopCopy, 700)]);
    assert!(device.take_arcs().is_empty());
}

#[test]
fn a_failure_on_any_arc_ends_as_one_of_the_whole_change_and_is_named() {
    for flags in [0b001, 0b011, 0b101, ALL] {
        let features = Features::from_kernel(flags);
        for (from, to) in changes(features) {
            let chain = fake::walk(from, to, features).unwrap();
            for number in 0..chain.len() {
                let kernel = FakeKernel::new(flags);
                let mut device = device_in(&kernel, from);
                kernel.fail(Operation::SetState, number, Raw::EIO);

                let result = device.set_state(to);

                let begin = number.checked_sub(1).map_or(from, |before| chain[before]);
                let (arc, errno) = ((begin, chain[number]), Raw::EIO.into());
                let (expected, back) = match from.recover(to) {
                    Recover::To(back) if back == to => (Ok(()), to),
                    Recover::To(back) => (Err(DeviceError::Transition { from, to, arc, errno }), back),
                    Recover::Reset => (Err(DeviceError::StateLost { from, to, arc, errno }), Running),
                };
                assert_eq!(result, expected, "{from} -> {to} with {features}, arc {number}");
                assert_eq!((device.state(), kernel.device_state()), (back, back));
                assert_eq!(device.data_fd().is_some(), back.has_session());
            }
        }
    }
}

#[test]
fn the_error_of_a_longer_change_names_the_arc_that_failed() {
    let kernel = FakeKernel::new(ALL);
    let mut device = device_in(&kernel, Running);
    kernel.fail(Operation::SetState, 1, Raw::EIO);

    let error = device.set_state(StopCopy).unwrap_err();

    let text = "state change RUNNING -> STOP_COPY, at RUNNING_P2P -> STOP, failed: EIO (I/O error)";
    assert_eq!(error.to_string(), text);
}

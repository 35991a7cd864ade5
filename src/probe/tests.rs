//! Probes of a device in the model of the kernel: the way there, the way back, and what is found.

use nix::errno::Errno as Raw;

use super::*;
use crate::report::ProbedEnd;
use crate::vfio::fake::{Call, FakeKernel, Operation};
use State::{PreCopy, PreCopyP2p, Running, RunningP2p, Stop, StopCopy};

const STOP_COPY: u64 = 0b001;
const WITH_P2P: u64 = 0b011;
const WITH_PRE_COPY: u64 = 0b101;
const ALL: u64 = 0b111;

fn probed_whole(kernel: &FakeKernel) -> Probed {
    probed_until(kernel, &Cancel::new())
}

fn probed_until(kernel: &FakeKernel, cancel: &Cancel) -> Probed {
    let mut device = Device::with_kernel(Box::new(kernel.clone())).unwrap();
    probe(&mut device, "net0", cancel)
}

fn states(kernel: &FakeKernel) -> Vec<State> {
    let set = |call| if let Call::Set(state) = call { Some(state) } else { None };
    kernel.take_log().into_iter().filter_map(set).collect()
}

fn arc(from: State, to: State, begin_ns: Nanos, end_ns: Nanos) -> ArcTime {
    ArcTime { from, to, begin_ns, end_ns }
}

#[test]
fn a_device_goes_to_stop_copy_and_back_by_single_arcs() {
    for (flags, home, way) in [
        (STOP_COPY, Running, vec![Stop, StopCopy, Stop, Running]),
        (WITH_P2P, Running, vec![RunningP2p, Stop, StopCopy, Stop, RunningP2p, Running]),
        (WITH_PRE_COPY, Running, vec![PreCopy, StopCopy, Stop, Running]),
        (ALL, Running, vec![PreCopy, PreCopyP2p, StopCopy, Stop, RunningP2p, Running]),
        (ALL, RunningP2p, vec![PreCopyP2p, StopCopy, Stop, RunningP2p]),
        (WITH_P2P, RunningP2p, vec![Stop, StopCopy, Stop, RunningP2p]),
        (ALL, Stop, vec![StopCopy, Stop]),
        (STOP_COPY, Stop, vec![StopCopy, Stop]),
    ] {
        let kernel = FakeKernel::in_state(flags, home);
        kernel.set_initial_bytes(0);
        let Probed { report, error, .. } = probed_whole(&kernel);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(states(&kernel), way, "{flags:#b} from {home}");
        assert_eq!(kernel.device_state(), home);
        let to: Vec<_> = report.arcs.iter().map(|arc| arc.to.clone()).collect();
        assert_eq!(to, way.iter().map(State::to_string).collect::<Vec<_>>());
        let mut at = home;
        for state in way {
            assert!(at.is_single_arc(state, Features::from_kernel(flags)), "{at} -> {state}");
            at = state;
        }
        assert_eq!(report.outcome, ProbeOutcome::Complete);
        assert_eq!((report.found_in, report.left_in), (home.to_string(), home.to_string()));
        assert_eq!(report.pre_copy.is_some(), flags & 0b100 != 0 && home != Stop);
    }
}

#[test]
fn what_a_stopped_device_has_is_read_to_its_end_and_compared_with_the_estimate() {
    let kernel = FakeKernel::in_state(ALL, Stop);
    kernel.set_data(&[7; 3_000_000]);
    let Probed { report, read_times, .. } = probed_whole(&kernel);
    let found = report.stop_copy.unwrap();
    assert_eq!((found.bytes, found.reads, found.longest), (3_000_000, 3, 1 << 20));
    assert_eq!((found.end, found.behind_end), (ProbedEnd::Zero, Some(ProbedEnd::Zero)));
    assert_eq!((report.estimate_before, report.estimate_stopped), (Some(96), Some(96)));
    assert_eq!(read_times.len(), 3);
    assert!(found.latency_ns.max > 1000 && read_times.max() > 1000, "it copied a MiB: {found:?}");
}

#[test]
fn a_running_device_is_read_while_it_runs_and_asked_what_is_left() {
    let kernel = FakeKernel::new(ALL);
    kernel.set_data(&[7; 1000]);
    kernel.set_initial_bytes(0);
    let report = probed_whole(&kernel).report;
    assert_eq!(report.pre_copy.as_ref().map(|found| (found.bytes, found.end)), Some((1000, ProbedEnd::Zero)));
    let asked: Vec<_> = report.pre_copy_info.iter().map(|info| (&*info.state, info.dirty_bytes)).collect();
    assert_eq!(asked, [("PRE_COPY", 3), ("PRE_COPY", 3), ("PRE_COPY_P2P", 3)]);
    assert_eq!(report.stop_copy.unwrap().bytes, 0);
}

#[test]
fn a_driver_that_cannot_tell_what_is_left_is_no_failure() {
    let kernel = FakeKernel::new(WITH_PRE_COPY);
    kernel.fail(Operation::Precopy, 0, Raw::ENOTTY);
    kernel.set_initial_bytes(0);
    let Probed { report, error, .. } = probed_whole(&kernel);
    assert!(error.is_none(), "{error:?}");
    assert!(report.pre_copy_info[0].error.as_ref().unwrap().contains("ENOTTY"));
}

#[test]
fn a_change_that_fails_anywhere_brings_the_device_back() {
    for (flags, changes) in [(ALL, 6), (WITH_P2P, 6), (STOP_COPY, 4)] {
        for number in 0..changes {
            let kernel = FakeKernel::new(flags);
            kernel.set_initial_bytes(0);
            kernel.fail(Operation::SetState, number, Raw::EIO);
            let Probed { report, error, .. } = probed_whole(&kernel);
            assert_eq!(kernel.device_state(), Running, "{flags:#b}, change {number}");
            assert_eq!(report.left_in, "RUNNING");
            assert!(!report.was_reset);
            // ending something is tried twice, and has succeeded then
            let is_ending = number >= changes / 2;
            assert_eq!(error.is_none(), is_ending, "{flags:#b}, change {number}: {error:?}");
            assert_eq!(report.outcome == ProbeOutcome::Complete, is_ending);
            assert!(number == 0 || report.arcs.last().unwrap().to == "RUNNING");
        }
    }
}

#[test]
fn a_device_that_had_to_be_reset_is_said_to_have_lost_its_state() {
    let kernel = FakeKernel::new(STOP_COPY);
    kernel.fail(Operation::SetState, 2, Raw::EIO);
    kernel.fail(Operation::SetState, 3, Raw::EIO);
    let Probed { report, error, .. } = probed_whole(&kernel);
    assert!(report.was_reset);
    assert!(matches!(error, Some(Error::Device { error: DeviceError::StateLost { .. }, .. })), "{error:?}");
    assert_eq!(kernel.device_state(), Running);
}

#[test]
fn a_cancelled_probe_leaves_the_device_where_it_was() {
    for home in [Running, Stop] {
        let kernel = FakeKernel::in_state(ALL, home);
        let cancel = Cancel::new();
        cancel.cancel();
        let Probed { report, error, .. } = probed_until(&kernel, &cancel);
        assert!(matches!(error, Some(Error::Cancelled)));
        assert_eq!((kernel.device_state(), report.outcome), (home, ProbeOutcome::Aborted));
    }
}

#[test]
fn a_device_that_failed_or_is_being_loaded_is_not_touched() {
    for state in [State::Error, State::Resuming] {
        let kernel = FakeKernel::in_state(ALL, state);
        let Probed { error, .. } = probed_whole(&kernel);
        assert!(matches!(error, Some(Error::Device { error: DeviceError::WrongState { .. }, .. })));
        assert_eq!(kernel.take_log(), []);
    }
}

#[test]
fn it_stands_still_from_the_arc_that_stops_it_to_the_one_that_lets_it_run() {
    let whole = [
        arc(Running, PreCopy, 0, 10),
        arc(PreCopy, PreCopyP2p, 20, 30),
        arc(PreCopyP2p, StopCopy, 40, 50),
        arc(StopCopy, Stop, 60, 70),
        arc(Stop, RunningP2p, 80, 90),
        arc(RunningP2p, Running, 100, 110),
    ];
    assert_eq!(standstill(&whole, 999), 90 - 40);
    // one that was reset has no arc for it, and one that never stopped stood never still
    assert_eq!(standstill(&whole[..4], 999), 999 - 40);
    assert_eq!(standstill(&whole[..2], 999), 0);
}

#[test]
fn the_time_of_each_arc_is_the_kernels() {
    let kernel = FakeKernel::in_state(ALL, Stop);
    kernel.slow_down(Stop, StopCopy, 5_000_000);
    let report = probed_whole(&kernel).report;
    assert_eq!(report.arcs.iter().map(|arc| arc.time_ns).collect::<Vec<_>>(), [5_000_000, 0]);
    assert_eq!(report.standstill_ns, 0, "it was found stopped");
}

//! That the report says when what was done with which device, and of what the downtime was made.

use std::collections::BTreeSet;
use std::sync::Mutex;

use super::*;
use crate::report::{DowntimePhase, Report, Role, TimelineEntry, TimelineWhat as What};
use crate::sink::VfioSink;
use crate::source::VfioSource;
use crate::vfio::State::{PreCopy, PreCopyP2p, Resuming, Running, RunningP2p, Stop, StopCopy};
use crate::vfio::fake::FakeKernel;
use crate::vfio::{ArcTime, Device as VfioDevice, State};
use crate::worker::caller::{DeviceMoment, Event};

/// What a side notes of every device of a transfer that completes, beside pre-copy.
const SENDER: [What; 8] = [
    What::Start,
    What::Quiesce,
    What::Stop,
    What::FirstRead,
    What::LastRead,
    What::Config,
    What::LastSent,
    What::Release,
];
const RECEIVER: [What; 5] = [What::Start, What::FirstWrite, What::LastWrite, What::Load, What::Run];

fn of(report: &Report, device: usize) -> impl Iterator<Item = &TimelineEntry> {
    report.timeline.iter().filter(move |entry| entry.device == Some(device as u64))
}

fn entry(report: &Report, device: usize, what: What) -> &TimelineEntry {
    let mut found = of(report, device).filter(|entry| entry.what == what);
    let entry = found.next().unwrap_or_else(|| panic!("no {what} of {device}: {:?}", report.timeline));
    assert!(found.next().is_none(), "more than one {what} of {device}: {:?}", report.timeline);
    entry
}

/// What must hold of every timeline.
fn check_timeline(report: &Report) {
    for entry in &report.timeline {
        assert!(entry.begin_ns <= entry.end_ns && entry.end_ns <= report.duration_ns, "{entry:?}");
        assert_eq!(entry.side, report.role);
        let is_arc = entry.what == What::Arc;
        assert_eq!((entry.from.is_some(), entry.to.is_some()), (is_arc, is_arc), "{entry:?}");
        assert_eq!(entry.channel.is_some(), entry.what == What::LastSent, "{entry:?}");
    }
    assert!(report.timeline.is_sorted_by_key(|entry| entry.begin_ns));
    let known = |device: u64| device < report.devices.len() as u64;
    assert!(report.timeline.iter().all(|entry| entry.device.is_some_and(known)));
}

#[test]
fn each_side_has_each_entry_of_each_device_once_and_within_the_downtime() {
    for seed in seeds(40) {
        let mut dice = Dice(seed);
        let flow = if dice.chance(50) { Flow::PreCopy } else { Flow::StopCopyOnly };
        let scenario = Scenario { devices: 1 + dice.below(4), flow, ..scenario(seed) };
        let played = simulate(&scenario);
        assert_eq!(played.sender.outcome, Outcome::Complete);
        let (sent, taken) = (&played.sender.report, &played.receiver.report);
        check_timeline(sent);
        check_timeline(taken);
        for device in 0..scenario.devices {
            let kinds = |report: &Report| of(report, device).map(|entry| entry.what).collect::<BTreeSet<_>>();
            // a device is asked more than once
            let mut of_this_sender = kinds(sent);
            assert_eq!(of_this_sender.remove(&What::PrecopyInfo), flow == Flow::PreCopy, "{scenario:?}");
            let mut of_sender = BTreeSet::from(SENDER);
            of_sender.extend((flow == Flow::PreCopy).then_some(What::Precopy));
            assert_eq!(of_this_sender, of_sender, "{scenario:?}");
            assert_eq!(kinds(taken), BTreeSet::from(RECEIVER), "{scenario:?}");
            for what in of_sender {
                entry(sent, device, what);
            }
            // what the downtime is made of follows one another, within it
            let begin = entry(sent, device, What::Quiesce).begin_ns;
            let order = [What::Quiesce, What::Stop, What::FirstRead, What::LastRead, What::Config];
            assert!(order.map(|what| entry(sent, device, what).begin_ns).is_sorted(), "{sent:?}");
            // the packet that is sent last need not be the one that was read last: channels differ
            assert!(entry(sent, device, What::LastSent).end_ns >= entry(sent, device, What::Config).end_ns);
            let downtime = &sent.downtime;
            let end = begin + downtime.stop_ns + downtime.transfer_ns;
            assert!(entry(sent, device, What::Stop).end_ns <= begin + downtime.stop_ns);
            assert!(entry(sent, device, What::LastSent).end_ns <= end, "{sent:?}");
            let order = RECEIVER.map(|what| entry(taken, device, what).begin_ns);
            assert!(
                order.is_sorted() && order[3] >= entry(taken, device, What::LastWrite).end_ns,
                "{taken:?}"
            );
        }
    }
}

#[test]
fn a_transfer_that_is_rolled_back_says_so_of_each_device() {
    for (source_fails, sink_fails) in [(Some("stop"), None), (None, Some("seal")), (None, Some("run"))] {
        for seed in seeds(6) {
            let played = simulate(&Scenario { source_fails, sink_fails, ..scenario(seed) });
            for report in [&played.sender.report, &played.receiver.report] {
                check_timeline(report);
                for device in 0..report.devices.len() {
                    let rollback = entry(report, device, What::Rollback);
                    assert!(of(report, device).all(|entry| entry.begin_ns <= rollback.begin_ns));
                    assert!(of(report, device).all(|entry| entry.what != What::Release));
                }
                assert!(report.devices.len() == 2 && report.device_times()[1].rollback_ns.is_some());
            }
        }
    }
}

/// A VFIO device over a fake kernel, whose state the world has.
struct OverFake<D> {
    device: D,
    fd: OwnedFd,
}

impl Source for OverFake<VfioSource> {
    fn start(&mut self) -> Result<Flow, DeviceError> {
        self.device.start()
    }
    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        Some((self.fd.as_fd(), FdKind::Waits))
    }
    fn quiesce(&mut self) -> Result<(), DeviceError> {
        self.device.quiesce()
    }
    fn stop(&mut self) -> Result<(), DeviceError> {
        self.device.stop()
    }
    fn release(&mut self) -> Result<(), DeviceError> {
        self.device.release()
    }
    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.device.rollback()
    }
    fn take_arcs(&mut self) -> Vec<ArcTime> {
        self.device.take_arcs()
    }
}

impl Sink for OverFake<VfioSink> {
    fn prepare(&mut self) -> Result<(), DeviceError> {
        self.device.prepare()
    }
    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        Some((self.fd.as_fd(), FdKind::Waits))
    }
    fn seal(&mut self) -> Result<(), DeviceError> {
        self.device.seal()
    }
    fn pre_run(&mut self) -> Result<(), DeviceError> {
        self.device.pre_run()
    }
    fn run(&mut self) -> Result<(), DeviceError> {
        self.device.run()
    }
    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.device.rollback()
    }
    fn take_arcs(&mut self) -> Vec<ArcTime> {
        self.device.take_arcs()
    }
}

const MS: u64 = 1_000_000;

/// The arcs of the device, with the time that each took.
fn arcs(report: &Report) -> Vec<(State, State, u64)> {
    let arcs = of(report, 0).filter(|entry| entry.what == What::Arc);
    arcs.map(|arc| (arc.from.unwrap(), arc.to.unwrap(), arc.took_ns())).collect()
}

/// The arcs that a side's caller was told of.
type Told = Arc<Mutex<Vec<(State, State, u64)>>>;

fn telling(told: &Told) -> Caller {
    let told = Arc::clone(told);
    let on_event = move |event: &Event| {
        if let Event::Device { moment: DeviceMoment::Arc { from, to, took }, .. } = event {
            let took = u64::try_from(took.as_nanos()).unwrap();
            told.lock().unwrap().push((*from, *to, took));
        }
    };
    Caller::new(Cancel::new(), Some(Box::new(on_event)))
}

/// A transfer of one device between two fake kernels, in which each of these arcs takes long.
fn with_slow_arcs(slow: &[(State, State, u64)]) -> ([Finished; 2], [Told; 2]) {
    let world = World::new(5);
    let vfio = || {
        let kernel = FakeKernel::new(0b111).with_clock(world.clock());
        slow.iter().for_each(|(from, to, by)| kernel.slow_down(*from, *to, *by));
        VfioDevice::with_kernel(Box::new(kernel)).unwrap()
    };
    let (from, to) = (descriptor(), descriptor());
    world.add_file(from.as_raw_fd(), SimFile { content: vec![7; 50_000], ..SimFile::default() });
    world.add_file(to.as_raw_fd(), SimFile::default());
    let source = OverFake { device: VfioSource::new(vfio()).unwrap(), fd: from };
    let sink = OverFake { device: VfioSink::new(vfio()).unwrap(), fd: to };
    let (mut sending, mut receiving) = one_device(&world, source, sink);
    let told = [Told::default(), Told::default()];
    (sending.caller, receiving.caller) = (telling(&told[0]), telling(&told[1]));
    let (sender, receiver) = run(&world, sending, receiving);
    ([sender, receiver], told)
}

#[test]
fn a_slow_arc_is_seen_in_the_report_in_the_events_and_in_what_the_downtime_was_made_of() {
    let slow = [(RunningP2p, PreCopyP2p, MS), (PreCopyP2p, StopCopy, 300 * MS), (Resuming, Stop, 200 * MS)];
    let slow = [&slow[..], &[(Stop, RunningP2p, 70 * MS), (RunningP2p, Running, 20 * MS)]].concat();
    let ([sender, receiver], told) = with_slow_arcs(&slow);
    assert_eq!((sender.outcome, receiver.outcome), (Outcome::Complete, Outcome::Complete));

    let sent = [
        (Running, PreCopy, 0),
        (PreCopy, PreCopyP2p, 0),
        (PreCopyP2p, StopCopy, 300 * MS),
        (StopCopy, Stop, 0),
    ];
    assert_eq!(arcs(&sender.report), sent);
    let taken = [
        (Running, RunningP2p, 0),
        (RunningP2p, Stop, 0),
        (Stop, Resuming, 0),
        (Resuming, Stop, 200 * MS),
        (Stop, RunningP2p, 70 * MS),
        (RunningP2p, Running, 20 * MS),
    ];
    assert_eq!(arcs(&receiver.report), taken);
    assert_eq!(*told[0].lock().unwrap(), sent);
    assert_eq!(*told[1].lock().unwrap(), taken);

    let made_of = |report: &Report, phase| {
        let account = report.downtime_account();
        let found = account.into_iter().find(|account| account.phase == phase).unwrap();
        let step = *found.steps.last().unwrap();
        let arc = step.arc.map(|arc| (arc.from, arc.to, arc.took_ns));
        assert!(step.took_ns <= found.took_ns, "{found:?}");
        (step.what, step.device, arc)
    };
    let stop = made_of(&sender.report, DowntimePhase::Stop);
    assert_eq!(stop, (What::Stop, 0, Some((PreCopyP2p, StopCopy, 300 * MS))));
    let load = made_of(&receiver.report, DowntimePhase::Load);
    assert_eq!(load, (What::Load, 0, Some((Resuming, Stop, 200 * MS))));
    let commit = made_of(&receiver.report, DowntimePhase::Commit);
    assert_eq!(commit, (What::Run, 0, Some((Stop, RunningP2p, 70 * MS))));
    assert_eq!(made_of(&sender.report, DowntimePhase::Transfer), (What::LastSent, 0, None));
    assert_eq!(made_of(&receiver.report, DowntimePhase::Transfer), (What::LastWrite, 0, None));

    let times = sender.report.device_times()[0];
    assert_eq!(times.stop_arc.map(|arc| arc.took_ns), Some(300 * MS));
    assert!(times.stop_ns.is_some_and(|took| took >= 300 * MS) && times.load_ns.is_none());
    let times = receiver.report.device_times()[0];
    assert!(times.load_ns.is_some_and(|took| took >= 200 * MS) && times.stop_ns.is_none());
    assert!(times.run_ns.is_some_and(|took| took >= 90 * MS));
    for report in [&sender.report, &receiver.report] {
        check_timeline(report);
        for arc in of(report, 0).filter(|entry| entry.what == What::Arc) {
            let holds = |step: &&TimelineEntry| {
                step.what != What::Arc && step.begin_ns <= arc.begin_ns && arc.end_ns <= step.end_ns
            };
            assert!(of(report, 0).find(holds).is_some(), "{arc:?} is in no step: {:?}", report.timeline);
        }
    }
    assert_eq!((sender.report.role, receiver.report.role), (Role::Sender, Role::Receiver));
}

#[test]
fn arcs_of_a_device_with_another_clock_stay_within_its_step() {
    struct Elsewhere(FakeSource);
    impl Source for Elsewhere {
        fn start(&mut self) -> Result<Flow, DeviceError> {
            self.0.start()
        }
        fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
            self.0.fd()
        }
        fn stop(&mut self) -> Result<(), DeviceError> {
            self.0.stop()
        }
        fn config(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
            self.0.config(buffer)
        }
        fn release(&mut self) -> Result<(), DeviceError> {
            self.0.release()
        }
        fn rollback(&mut self) -> Result<(), DeviceError> {
            self.0.rollback()
        }
        fn take_arcs(&mut self) -> Vec<ArcTime> {
            let arc = |begin_ns, end_ns| ArcTime { from: Running, to: Stop, begin_ns, end_ns };
            [arc(0, u64::MAX), arc(u64::MAX, 0)].repeat(100)
        }
    }
    let world = World::new(1);
    let (from, to) = (descriptor(), descriptor());
    world.add_file(from.as_raw_fd(), SimFile { content: vec![7; 50_000], ..SimFile::default() });
    world.add_file(to.as_raw_fd(), SimFile::default());
    let source = FakeSource { fd: from, flow: Flow::StopCopyOnly, log: Log::default(), fails: None };
    let sink = FakeSink { fd: to, log: Log::default(), fails: None, config: b"config".to_vec() };
    let (sending, receiving) = one_device(&world, Elsewhere(source), sink);

    let (sender, _) = run(&world, sending, receiving);

    assert_eq!(sender.outcome, Outcome::Complete);
    check_timeline(&sender.report);
    assert_eq!(arcs(&sender.report).len(), crate::limits::ARCS_MAX);
}

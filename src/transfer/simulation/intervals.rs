//! That a caller who asked for intervals is told of them by the clock, whatever moves or does not, and that they are what the
//! report counts.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::numbers::DeviceIdx;
use crate::phase::Phase;
use crate::report::{Interval, Report};
use crate::time::Nanos;
use crate::worker::caller::Event;
use crate::worker::operation::Operation;

const SECOND: Nanos = 1_000_000_000;
const SIZE: usize = 500_000;
/// How long each step of the sender's device takes.
const STEP: Nanos = 5 * SECOND + SECOND / 2;

/// An interval that a caller was told of, with bytes and packets so far, and the phase.
type Told = (Interval, u64, u64, Phase);

/// A caller that wants to know every second, and then does something.
fn watching(told: &Arc<Mutex<Vec<Told>>>, after: impl Fn() + Send + 'static) -> Caller {
    let told = Arc::clone(told);
    let on_event = move |event: &Event| {
        if let Event::Interval { interval, bytes, packets, phase } = event {
            told.lock().unwrap().push((interval.clone(), *bytes, *packets, *phase));
            after();
        }
    };
    let mut caller = Caller::new(Cancel::new(), Some(Box::new(on_event)));
    caller.interval = Some(SECOND);
    caller
}

/// A transfer of one device whose steps at the source are slow.
fn slow_source(seed: u64, sink_fails: Option<&'static str>) -> (Arc<World>, send::Parts, receive::Parts) {
    let world = World::new(seed);
    let (from, to) = (descriptor(), descriptor());
    world.add_file(from.as_raw_fd(), SimFile { content: vec![7; SIZE], ..SimFile::default() });
    world.add_file(to.as_raw_fd(), SimFile::default());
    let source = FakeSource { fd: from, flow: Flow::PreCopy, log: Log::default(), fails: None };
    let sink = FakeSink { fd: to, log: Log::default(), fails: sink_fails, config: b"config".to_vec() };
    let (sending, receiving) = one_device(&world, source, sink);
    world.slow_down(0, Operation::DeviceStep { device: DeviceIdx(0) }.tag(), STEP);
    (world, sending, receiving)
}

/// It, with both callers watching.
fn play(seed: u64, sink_fails: Option<&'static str>) -> ([Finished; 2], [Vec<Told>; 2]) {
    let (world, mut sending, mut receiving) = slow_source(seed, sink_fails);
    let told = [Arc::default(), Arc::default()];
    (sending.caller, receiving.caller) = (watching(&told[0], || {}), watching(&told[1], || {}));
    let (sender, receiver) = run(&world, sending, receiving);
    ([sender, receiver], told.map(|told| told.lock().unwrap().clone()))
}

/// What must hold of all intervals of a side.
fn check_told(report: &Report, told: &[Told]) {
    let intervals: Vec<_> = told.iter().map(|(interval, ..)| interval).collect();
    let (last, whole) = intervals.split_last().expect("a transfer has an interval at least");
    for (number, interval) in whole.iter().enumerate() {
        let due = (number as u64 + 1) * SECOND;
        assert!((due..due + SECOND / 4).contains(&interval.end_ns), "{number}: {interval:?}");
    }
    assert_eq!(intervals[0].begin_ns, 0);
    assert!(intervals.windows(2).all(|pair| pair[0].end_ns == pair[1].begin_ns));
    assert!(last.end_ns <= report.duration_ns && last.end_ns - last.begin_ns < SECOND + SECOND / 4);
    let reported = report.intervals.last().unwrap();
    assert_eq!(last.end_ns, reported.end_ns, "the last one ends with the report's");

    let sum = |of: &dyn Fn(&Interval) -> u64| intervals.iter().map(|interval| of(interval)).sum::<u64>();
    let counted = |of: &dyn Fn(&Interval) -> u64| report.intervals.iter().map(of).sum::<u64>();
    assert_eq!(sum(&|interval| interval.device_bytes[0]), report.devices[0].bytes);
    assert_eq!(sum(&|interval| interval.channel_bytes[0]), report.channels[0].bytes);
    assert_eq!(sum(&|interval| interval.credit_stall_ns), counted(&|interval| interval.credit_stall_ns));
    assert_eq!(
        told.last().map(|(_, bytes, packets, _)| (*bytes, *packets)),
        Some((report.bytes, report.packets))
    );
    assert!(told.windows(2).all(|pair| pair[0].1 <= pair[1].1 && pair[0].2 <= pair[1].2));
}

#[test]
fn both_callers_are_told_each_second_what_moved_and_the_sums_are_the_reports() {
    for seed in seeds(10) {
        let ([sender, receiver], told) = play(seed, None);
        assert_eq!((sender.outcome, receiver.outcome), (Outcome::Complete, Outcome::Complete));
        check_told(&sender.report, &told[0]);
        check_told(&receiver.report, &told[1]);
        assert!(sender.report.bytes > SIZE as u64, "config state, too");
        // start, quiesce, stop, config and release
        assert!(told[0].len() as u64 > 5 * STEP / SECOND, "{:?}", told[0]);
        let phases: Vec<_> = told[0].iter().map(|(.., phase)| *phase).collect();
        let expected = [Phase::Settings, Phase::Switchover, Phase::StopCopy, Phase::Commit];
        assert!(expected.iter().all(|phase| phases.contains(phase)), "{phases:?}");
        let still = |told: &[Told]| told.iter().filter(|(one, ..)| one.device_bytes == [0]).count();
        assert!(still(&told[0]) > 20 && still(&told[1]) > 15, "a stall is told of: {told:?}");
    }
}

#[test]
fn intervals_go_on_while_a_failed_transfer_brings_its_devices_back() {
    let ([sender, receiver], told) = play(3, Some("seal"));
    assert_eq!((sender.outcome, receiver.outcome), (Outcome::Aborted, Outcome::Aborted));
    check_told(&sender.report, &told[0]);
    check_told(&receiver.report, &told[1]);
    let back = told[0].iter().filter(|(.., phase)| *phase == Phase::RollingBack).count();
    assert!((5..=7).contains(&back), "{back} of a step of 5.5 s");
}

#[test]
fn a_handler_that_was_slow_has_missed_intervals_and_shifted_none() {
    let (world, mut sending, receiving) = slow_source(4, None);
    let (told, clock) = (Arc::default(), world.clock());
    let takes = AtomicU64::new(5 * SECOND / 2);
    sending.caller = watching(&told, move || {
        clock.fetch_add(takes.swap(0, Ordering::SeqCst), Ordering::SeqCst);
    });
    let (sender, _) = run(&world, sending, receiving);
    assert_eq!(sender.outcome, Outcome::Complete);
    let told = told.lock().unwrap();
    let tenths: Vec<_> = told.iter().map(|(interval, ..)| interval.end_ns * 10 / SECOND).collect();
    assert_eq!(tenths[..5], [10, 35, 40, 50, 60]);
    let sum: u64 = told.iter().map(|(interval, ..)| interval.device_bytes[0]).sum();
    assert_eq!(sum, sender.report.bytes);
}

#[test]
fn a_handler_that_panics_at_an_interval_ends_the_transfer_as_at_any_event() {
    let (world, mut sending, receiving) = slow_source(2, None);
    let told = Arc::default();
    sending.caller = watching(&told, || panic!("no more, please"));
    let (sender, receiver) = run(&world, sending, receiving);
    assert_eq!((sender.outcome, receiver.outcome), (Outcome::Aborted, Outcome::Aborted));
    let error = sender.error.unwrap();
    assert!(matches!(error, Error::HookPanicked { hook: crate::error::Hook::OnEvent, .. }), "{error:?}");
    assert_eq!(told.lock().unwrap().len(), 1, "it is told of nothing more");
}

#[test]
fn a_caller_that_did_not_ask_is_told_of_none() {
    let (world, mut sending, receiving) = slow_source(1, None);
    let told = Arc::default();
    sending.caller = watching(&told, || {});
    sending.caller.interval = None;
    let (sender, _) = run(&world, sending, receiving);
    assert_eq!(sender.outcome, Outcome::Complete);
    assert!(told.lock().unwrap().is_empty());
}

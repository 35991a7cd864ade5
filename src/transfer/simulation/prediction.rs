//! That what is predicted before the devices stop comes true where everything is as it was measured, and is said not to have
//! where it is not; and that a dry run does nothing but predict.

use super::credit::Estimating;
use super::*;
use crate::report::{Prediction, RateFrom};
use crate::worker::operation::Operation;

const MS: u64 = 1_000_000;
/// Of a link of 1 MB/s.
const NS_PER_BYTE: u64 = 1000;

/// What a test does to a transfer.
#[derive(Debug, Clone, Copy, Default)]
struct Twist {
    is_dry_run: bool,
    without_warm_up: bool,
    /// How long the device takes to stop.
    stop_ns: u64,
    forgets_estimate: bool,
}

struct Told {
    sender: Finished,
    receiver: Finished,
    source: Vec<&'static str>,
    sink: Vec<&'static str>,
}

/// 300 KB over a link of 1 MB/s.
fn play(seed: u64, twist: Twist) -> Told {
    let world = World::new(seed);
    let (from, to) = (descriptor(), descriptor());
    world.add_file(from.as_raw_fd(), SimFile { content: vec![7; 300_000], ..SimFile::default() });
    world.add_file(to.as_raw_fd(), SimFile::default());
    let (source_log, sink_log) = (Log::default(), Log::default());
    let source = FakeSource { fd: from, flow: Flow::StopCopyOnly, log: Arc::clone(&source_log), fails: None };
    let source = Estimating { source, estimate: (!twist.forgets_estimate).then_some(300_000) };
    let sink = FakeSink { fd: to, log: Arc::clone(&sink_log), fails: None, config: b"config".to_vec() };
    let (sending, receiving) = one_device(&world, source, sink);
    world.pace(sending.data[0].fd(), NS_PER_BYTE);
    // the steps before stopping: start and quiesce
    let step = Operation::DeviceStep { device: crate::numbers::DeviceIdx(0) }.tag();
    world.slow_down_after(0, step, 2, twist.stop_ns);
    let sending = send::Parts { warms_up: !twist.without_warm_up, is_dry_run: twist.is_dry_run, ..sending };
    let (sender, receiver) = run(&world, sending, receiving);
    let taken = |log: &Log| log.lock().unwrap().clone();
    Told { sender, receiver, source: taken(&source_log), sink: taken(&sink_log) }
}

fn prediction(told: &Told) -> &Prediction {
    told.sender.report.prediction.as_ref().expect("the device knows its size, and the path was measured")
}

#[test]
fn what_the_warm_up_measured_is_what_the_downtime_comes_to() {
    for seed in seeds(8) {
        let told = play(seed, Twist::default());
        assert_eq!(told.sender.outcome, Outcome::Complete, "{:?}", told.sender.error);
        let found = prediction(&told);
        assert_eq!(found.rate_from, RateFrom::WarmUp);
        assert!((900_000..1_100_000).contains(&found.rate_bytes_per_s), "{found:?}");
        assert!((270 * MS..350 * MS).contains(&found.downtime_ns), "{found:?}");
        assert_eq!(found.came_true, Some(true), "{found:?} {:?}", told.sender.report.downtime);
        // none of it is the transfer's
        let report = &told.sender.report;
        assert_eq!(report.bytes, report.channels.iter().map(|channel| channel.bytes).sum::<u64>());
        assert_eq!((report.bytes, told.receiver.report.bytes), (300_006, 300_006));
        assert_eq!(report.latency_ns.send.count, report.packets);
        assert!(report.duration_ns < 500 * MS, "the time of the warm-up does not count");
    }
}

#[test]
fn a_device_that_is_slow_to_stop_makes_it_untrue() {
    let told = play(1, Twist { stop_ns: 400 * MS, ..Twist::default() });
    assert_eq!(told.sender.outcome, Outcome::Complete);
    let found = prediction(&told);
    assert_eq!(found.came_true, Some(false), "{found:?} {:?}", told.sender.report.downtime);
    assert_eq!(found.unknown, ["stop_ns", "load_ns"]);
    assert!(told.sender.report.downtime.stop_ns >= 400 * MS);
}

#[test]
fn without_a_rate_or_a_size_nothing_is_predicted() {
    let without_rate = Twist { without_warm_up: true, ..Twist::default() };
    for twist in [without_rate, Twist { forgets_estimate: true, ..Twist::default() }] {
        let told = play(2, twist);
        assert_eq!((told.sender.outcome, &told.sender.report.prediction), (Outcome::Complete, &None));
    }
}

#[test]
fn a_dry_run_predicts_and_stops_no_device() {
    for seed in seeds(8) {
        let told = play(seed, Twist { is_dry_run: true, ..Twist::default() });
        assert!(matches!(told.sender.error, Some(Error::DryRun)), "{:?}", told.sender.error);
        let error = &told.receiver.error;
        assert!(matches!(error, Some(Error::Peer(PeerError::DryRun))), "{error:?}");
        assert_eq!((told.sender.outcome, told.receiver.outcome), (Outcome::Aborted, Outcome::Aborted));
        // to go back where it was is all that a device is asked for when it was not touched
        assert_eq!((told.source, told.sink), (vec!["rollback"], vec!["prepare", "rollback"]));
        let found = told.sender.report.prediction.as_ref().unwrap();
        assert!((270 * MS..350 * MS).contains(&found.downtime_ns), "{found:?}");
        assert_eq!((found.came_true, found.left_bytes), (None, 300_000));
        assert_eq!(told.sender.report.bytes + told.receiver.report.bytes, 0);
        assert_eq!(told.sender.report.downtime, crate::report::Downtime::default());
    }
}

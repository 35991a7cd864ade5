//! A receiver that opens a sink for each device that the sender has: whatever it decides, and whenever the connection
//! breaks meanwhile, each device ends on one side.

use super::*;
use crate::error::{ErrorCode, Hook, Misuse, Refusal};
use crate::limits::{SILENCE_MAX, STANDSTILL_MAX};
use crate::time::nanos;
use crate::worker::guard::Guarded;
use crate::worker::operation::Operation;

const NAMES: [&str; 3] = ["net0", "net1", "gpu0"];

/// What is answered when `gpu0` is asked for; the others are there.
#[derive(Debug, Clone, Copy)]
enum Answer {
    IsThere,
    Unknown,
    Fails,
    Panics,
}

type Names = Vec<(Box<str>, u64)>;

struct Asked {
    sender: Finished,
    receiver: Finished,
    sources: Vec<Log>,
    sinks: Vec<Log>,
    intact: bool,
    /// Names and estimates, in the order in which they were asked for.
    asked: Names,
    control: [Vec<u8>; 2],
}

fn transfer(seed: u64, answer: Answer, prepare: impl FnOnce(&Arc<World>, RawFd)) -> Asked {
    let world = World::new(seed);
    let unused = || FakeSink { fd: descriptor(), log: Log::default(), fails: None, config: Vec::new() };
    let source = FakeSource { fd: descriptor(), flow: Flow::PreCopy, log: Log::default(), fails: None };
    let (mut sending, mut receiving) = one_device(&world, source, unused());
    (sending.devices, receiving.devices) = (Vec::new(), Vec::new());
    let control = sending.control.fd();
    prepare(&world, control);
    let (mut sources, mut sinks, mut targets, mut files) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for name in NAMES {
        let (from, to) = (descriptor(), descriptor());
        let content = (0..40_000 + seed).map(|at| at.to_le_bytes()[0] ^ name.as_bytes()[3]).collect();
        world.add_file(from.as_raw_fd(), SimFile { content, ..SimFile::default() });
        world.add_file(to.as_raw_fd(), SimFile::default());
        files.push((from.as_raw_fd(), to.as_raw_fd()));
        let (source_log, sink_log) = (Log::default(), Log::default());
        sources.push(Arc::clone(&source_log));
        sinks.push(Arc::clone(&sink_log));
        let source = FakeSource { fd: from, flow: Flow::PreCopy, log: source_log, fails: None };
        sending.devices.push(send::Device::new(name, 0, Box::new(source)));
        targets.push(FakeSink { fd: to, log: sink_log, fails: None, config: b"config".to_vec() });
    }
    let asked: Arc<Mutex<Names>> = Arc::default();
    let (noted, mut targets) = (Arc::clone(&asked), targets.into_iter());
    receiving.devices_by = Some(Guarded::new(Box::new(move |device| {
        noted.lock().unwrap().push((device.name.clone(), device.estimate));
        let sink: Box<dyn Sink> = Box::new(targets.next().expect("one for each device"));
        match answer {
            _ if &*device.name != "gpu0" => Ok(Some(sink)),
            Answer::IsThere => Ok(Some(sink)),
            Answer::Unknown => Ok(None),
            Answer::Fails => Err(DeviceError::Io {
                operation: DeviceOperation::Custom("open"),
                errno: Errno::from_raw(nix::libc::ENODEV),
            }),
            Answer::Panics => std::panic::resume_unwind(Box::new("as told")),
        }
    })));
    let (sender, receiver) = run(&world, sending, receiving);
    let intact = files.iter().all(|&(from, to)| world.file(from).content == world.file(to).content);
    let asked = asked.lock().unwrap().clone();
    let control = [world.tape(control, 0), world.tape(control, 1)];
    Asked { sender, receiver, sources, sinks, intact, asked, control }
}

/// Each device ends in one place.
fn check(result: &Asked, told: &str) {
    let (sender, receiver) = (&result.sender, &result.receiver);
    let told = format!("{told}: {:?} {:?}", sender.error, receiver.error);
    for (source, sink) in result.sources.iter().zip(&result.sinks) {
        let (source, sink) = (source.lock().unwrap(), sink.lock().unwrap());
        let has_run = sink.contains(&"run") && !sink.contains(&"rollback");
        assert!(!(source.contains(&"rollback") && has_run), "both sides run, {told}");
        assert!(has_run || !source.contains(&"release"), "the state is lost, {told}");
        assert!(has_run || sink.is_empty() || sink.contains(&"rollback"), "half loaded, {told}");
    }
    assert!(receiver.outcome != Outcome::Complete || result.intact, "{told}");
}

#[test]
fn sinks_that_were_opened_for_an_offer_get_the_devices_of_their_names() {
    for seed in seeds(40) {
        let result = transfer(seed, Answer::IsThere, |_, _| {});
        check(&result, &format!("seed {seed}"));
        assert_eq!(result.sender.outcome, Outcome::Complete, "seed {seed}: {:?}", result.sender.error);
        assert_eq!(result.receiver.outcome, Outcome::Complete, "seed {seed}: {:?}", result.receiver.error);
        assert_eq!(result.asked, NAMES.map(|name| (name.into(), 0)), "seed {seed}: in the sender's order");
        assert_eq!(result.receiver.devices.len(), NAMES.len());
        let reported: Vec<_> = result.receiver.report.devices.iter().map(|device| &*device.name).collect();
        assert_eq!(reported, NAMES);
        assert!(!result.receiver.report.timeline.is_empty(), "its steps were noted");
    }
}

#[test]
fn a_device_that_is_not_there_or_fails_to_open_refuses_the_sender_before_any_device_is_touched() {
    for seed in seeds(20) {
        for (answer, code) in
            [(Answer::Unknown, ErrorCode::RefusedDeviceMismatch), (Answer::Fails, ErrorCode::RefusedNotReady)]
        {
            let result = transfer(seed, answer, |_, _| {});
            let error = result.sender.error.expect("it was refused");
            assert_eq!(ErrorCode::from(&error), code, "seed {seed}: {error}");
            assert!(error.to_string().contains("device gpu0"), "{error}");
            let own = result.receiver.error.expect("it refused");
            assert!(
                matches!(
                    &own,
                    Error::Refused { reason: Refusal::DeviceMismatch { .. }, .. } | Error::Device { .. }
                ),
                "{own}"
            );
            let untouched = |log: &Log| matches!(&log.lock().unwrap()[..], [] | ["rollback"]);
            assert!(result.sources.iter().all(untouched), "seed {seed}");
            assert!(result.sinks.iter().all(|log| log.lock().unwrap().is_empty()), "seed {seed}");
            assert_eq!(result.receiver.report.settings.pool, 0, "nothing was made for it");
        }
    }
}

#[test]
fn devices_are_given_or_opened_for_the_sender_but_not_both() {
    let listed = || crate::Receiver::builder().sockets(descriptor(), Vec::new());
    let opened = || listed().devices_by(|_| Ok(None));
    assert!(opened().build().is_ok(), "it needs no device beside them");
    let both = opened().device("net0", crate::sink::Discard).build();
    assert_eq!(both.err(), Some(Misuse::DevicesTwice));
    assert_eq!(listed().build().err(), Some(Misuse::NoDevices));
}

#[test]
fn a_panic_while_devices_are_opened_aborts_the_transfer_and_is_kept() {
    for seed in seeds(10) {
        let result = transfer(seed, Answer::Panics, |_, _| {});
        check(&result, &format!("seed {seed}"));
        let error = result.receiver.error.expect("it panicked");
        assert!(matches!(error, Error::HookPanicked { hook: Hook::DevicesBy, .. }), "{error}");
        assert_eq!(result.receiver.panic.expect("it is kept").message(), "as told");
        let error = result.sender.error.expect("it was aborted");
        assert!(matches!(error, Error::Peer(PeerError::Aborted { .. })), "{error}");
    }
}

#[test]
fn a_sender_waits_for_devices_that_open_slowly_as_long_as_for_any_other_step() {
    let slow = |time| move |world: &Arc<World>, _| world.slow_down(1, Operation::Hook.tag(), time);
    let result = transfer(7, Answer::IsThere, slow(nanos(3 * SILENCE_MAX)));
    assert_eq!(result.sender.outcome, Outcome::Complete, "{:?}", result.sender.error);
    let result = transfer(7, Answer::IsThere, slow(nanos(STANDSTILL_MAX + SILENCE_MAX)));
    check(&result, "too slow");
    assert!(matches!(result.sender.error, Some(Error::Peer(PeerError::Standstill { .. }))));
}

#[test]
fn a_cut_after_any_message_leaves_exactly_one_owner_of_devices_that_were_opened_for_it() {
    for seed in seeds(2) {
        let whole = transfer(seed, Answer::IsThere, |_, _| {});
        for side in 0..2 {
            for after in boundaries(&whole.control[side]) {
                let cut = |world: &Arc<World>, socket| world.cut(Cut { socket, side, after });
                check(&transfer(seed, Answer::IsThere, cut), &format!("seed {seed}, {side} after {after}"));
            }
        }
    }
}

//! Pre-copy of devices that behave as the kernel's drivers do: it ends by their word, whatever their reads give.

use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::cancel::PreCopyHold;
use crate::limits::{PRECOPY_ASK_INTERVAL, PRECOPY_POLL, PRECOPY_TIME_MAX};
use crate::report::{PreCopyEnd, PreCopyReport, WarningCode};
use crate::time::{Nanos, nanos};
use crate::worker::operation::Operation;

const SECOND: Nanos = 1_000_000_000;
const MS: Nanos = 1_000_000;

/// Whose driver it is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driver {
    /// Images are saved by the firmware one after another, which takes a while: being asked waits for the one that is being
    /// saved and begins the next. Until then a read gives ENOMSG.
    Mlx5,
    /// Being asked saves the whole context, once a second at most. A read gives ENOMSG when it was read.
    Virtio,
    /// A setup part, and nothing after it: a read gives 0.
    Once,
    /// Gives whatever has changed, at any time.
    Tracker,
}

/// What being asked comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    Truly,
    /// It cannot tell.
    Never,
    /// That there are initial bytes left, for ever.
    Stuck,
    Fails,
    Panics,
}

#[derive(Debug)]
struct State {
    driver: Driver,
    answers: Answers,
    clock: Arc<AtomicU64>,
    /// Bytes of the device's memory.
    size: u64,
    /// Bytes that change in a second.
    dirty_rate: u64,
    /// Initial bytes that were not read, and changed ones.
    initial: u64,
    dirty: u64,
    /// Until when changes are counted.
    counted: Nanos,
    /// Bytes that are saved and can be read; others are being saved until then.
    saved: u64,
    saving: Option<(Nanos, u64)>,
    /// Initial bytes begin anew then, or when the device is quiet.
    anew_at: Option<Nanos>,
    anew_when_quiet: bool,
    is_stopped: bool,
    started: Nanos,
    asked: Vec<Nanos>,
    read_nothing: u64,
    given: u64,
    /// What had not been read when it stopped: initial bytes and all.
    left_at_stop: Option<(u64, u64)>,
    was_rolled_back: bool,
}

/// A device, which test and source share.
#[derive(Debug, Clone)]
struct Model(Arc<Mutex<State>>);

impl State {
    fn now(&self) -> Nanos {
        self.clock.load(Ordering::SeqCst)
    }

    /// Lets what changes by itself change.
    fn pass(&mut self, now: Nanos) {
        if self.anew_at.is_some_and(|at| now >= at) {
            self.anew_at = None;
            self.initial = self.size / 2;
        }
        if !self.is_stopped && self.driver != Driver::Virtio {
            let changed = u128::from(now.saturating_sub(self.counted)) * u128::from(self.dirty_rate);
            self.dirty = (self.dirty + u64::try_from(changed / 1_000_000_000).unwrap()).min(self.size);
        }
        self.counted = self.counted.max(now);
        if let Some((_, bytes)) = self.saving.take_if(|(until, _)| now >= *until) {
            self.saved += bytes;
        }
    }

    fn read(&mut self, now: Nanos, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.pass(now);
        let can_give = match self.driver {
            _ if self.is_stopped => self.initial + self.dirty + self.saved,
            Driver::Mlx5 | Driver::Virtio => self.saved,
            Driver::Once => self.initial,
            Driver::Tracker => self.initial + self.dirty,
        };
        let count = can_give.min(buffer.len() as u64);
        for (byte, at) in buffer.iter_mut().zip(self.given..self.given + count) {
            *byte = content(at);
        }
        self.given += count;
        let mut left = count;
        for part in [&mut self.saved, &mut self.initial, &mut self.dirty] {
            // what was saved was the initial bytes first
            let taken = left.min(*part);
            (*part, left) = (*part - taken, left - taken);
        }
        match (count, self.driver) {
            (0, _) if self.is_stopped => Ok(0),
            (0, driver) => {
                self.read_nothing += 1;
                if driver == Driver::Once { Ok(0) } else { Err(Errno::from_raw(nix::libc::ENOMSG)) }
            }
            _ => Ok(usize::try_from(count).unwrap()),
        }
    }

    fn info(&mut self) -> PreCopyInfo {
        let now = self.now();
        self.pass(now);
        let last = self.asked.last().copied();
        self.asked.push(now);
        match self.driver {
            Driver::Mlx5 => {
                if let Some((_, bytes)) = self.saving.take() {
                    self.saved += bytes;
                }
                let (initial, dirty) = (self.initial, self.dirty);
                let told = PreCopyInfo { initial, dirty: dirty + self.saved };
                if initial + dirty > 0 {
                    self.saving = Some((now + 5 * MS, initial + dirty));
                    (self.initial, self.dirty) = (0, 0);
                }
                told
            }
            Driver::Virtio => {
                if last.is_none_or(|last| now - last >= SECOND) {
                    self.saved = self.size;
                }
                PreCopyInfo { initial: 0, dirty: self.saved }
            }
            Driver::Once => PreCopyInfo { initial: self.initial, dirty: 0 },
            Driver::Tracker => PreCopyInfo { initial: self.initial, dirty: self.dirty },
        }
    }
}

fn content(at: u64) -> u8 {
    (at * 31 % 251).to_le_bytes()[0]
}

impl Model {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

struct ModelSource {
    fd: OwnedFd,
    model: Model,
}

impl Source for ModelSource {
    fn estimate(&self) -> Option<u64> {
        Some(self.model.state().size)
    }
    fn start(&mut self) -> Result<Flow, DeviceError> {
        let mut state = self.model.state();
        state.started = state.now();
        state.counted = state.now();
        Ok(Flow::PreCopy)
    }
    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        Some((self.fd.as_fd(), FdKind::Waits))
    }
    fn precopy_info(&mut self) -> Result<Option<PreCopyInfo>, DeviceError> {
        let mut state = self.model.state();
        let told = state.info();
        let answers = state.answers;
        drop(state);
        match answers {
            Answers::Truly => Ok(Some(told)),
            Answers::Never => Ok(None),
            Answers::Stuck => Ok(Some(PreCopyInfo { initial: 1, ..told })),
            Answers::Fails => Err(DeviceError::Io {
                operation: DeviceOperation::PrecopyInfo,
                errno: Errno::from_raw(nix::libc::EIO),
            }),
            Answers::Panics => std::panic::resume_unwind(Box::new("as told")),
        }
    }
    fn quiesce(&mut self) -> Result<(), DeviceError> {
        let mut state = self.model.state();
        let now = state.now();
        state.pass(now);
        // its processors are paused
        state.dirty_rate = 0;
        if state.anew_when_quiet {
            state.initial = state.size / 2;
        }
        Ok(())
    }
    fn stop(&mut self) -> Result<(), DeviceError> {
        let mut state = self.model.state();
        let saving = state.saving.take().map_or(0, |(_, bytes)| bytes);
        state.saved += saving;
        state.left_at_stop = Some((state.initial, state.initial + state.dirty + state.saved));
        state.dirty += 1000;
        state.is_stopped = true;
        Ok(())
    }
    fn config(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        buffer[..6].copy_from_slice(b"config");
        Ok(6)
    }
    fn release(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.model.state().was_rolled_back = true;
        Ok(())
    }
}

/// What to play: devices, and what is done to them on the way.
struct Play {
    world: Arc<World>,
    models: Vec<Model>,
    sending: Option<send::Parts>,
    receiving: Option<receive::Parts>,
    sinks: Vec<RawFd>,
}

const SIZE: u64 = 100_000;

impl Play {
    fn new(seed: u64, drivers: &[Driver]) -> Play {
        let world = World::new(seed);
        let (mut models, mut sinks) = (Vec::new(), Vec::new());
        let (mut sending, mut receiving) = (None, None);
        for (number, &driver) in drivers.iter().enumerate() {
            let (from, to) = (descriptor(), descriptor());
            let model = Model(Arc::new(Mutex::new(State {
                driver,
                answers: Answers::Truly,
                clock: world.clock(),
                size: SIZE,
                dirty_rate: 0,
                initial: if driver == Driver::Virtio { 0 } else { SIZE },
                dirty: 0,
                counted: 0,
                saved: 0,
                saving: None,
                anew_at: None,
                anew_when_quiet: false,
                is_stopped: false,
                started: 0,
                asked: Vec::new(),
                read_nothing: 0,
                given: 0,
                left_at_stop: None,
                was_rolled_back: false,
            })));
            let reads = model.clone();
            world.add_device(from.as_raw_fd(), Box::new(move |now, buffer| reads.state().read(now, buffer)));
            world.add_file(to.as_raw_fd(), SimFile::default());
            sinks.push(to.as_raw_fd());
            let source = ModelSource { fd: from, model: model.clone() };
            let sink = FakeSink { fd: to, log: Log::default(), fails: None, config: b"config".to_vec() };
            models.push(model);
            if let (Some(send), Some(receive)) = (&mut sending, &mut receiving) {
                let (send, receive): (&mut send::Parts, &mut receive::Parts) = (send, receive);
                send.devices.push(send::Device::new(format!("dev{number}"), 0, Box::new(source)));
                receive.devices.push(Device::new(format!("dev{number}"), 0, Box::new(sink)));
            } else {
                let (send, receive) = one_device(&world, source, sink);
                (sending, receiving) = (Some(send), Some(receive));
            }
        }
        Play { world, models, sending, receiving, sinks }
    }

    fn one(driver: Driver) -> Play {
        Play::new(5, &[driver])
    }

    fn sending(&mut self) -> &mut send::Parts {
        self.sending.as_mut().unwrap()
    }

    fn run(&mut self) -> (Finished, Finished) {
        run(&self.world, self.sending.take().unwrap(), self.receiving.take().unwrap())
    }

    /// Runs it to a good end, at which everything arrived that was read.
    fn complete(&mut self) -> PreCopyReport {
        let (sender, receiver) = self.run();
        assert_eq!(sender.outcome, Outcome::Complete, "{:?}", sender.error);
        assert_eq!(receiver.outcome, Outcome::Complete, "{:?}", receiver.error);
        for (model, &sink) in self.models.iter().zip(&self.sinks) {
            let written = self.world.file(sink).content;
            let state = model.state();
            assert_eq!(written.len() as u64, state.given);
            assert!(written.iter().zip(0..).all(|(&byte, at)| byte == content(at)), "the state changed");
            assert_eq!(state.saved + state.initial + state.dirty, 0);
        }
        let precopy = sender.report.precopy.clone().expect("there was pre-copy");
        let warns = sender.report.warnings.iter().any(|w| w.code == WarningCode::PrecopyNotConverged);
        assert_eq!(warns, matches!(precopy.end, PreCopyEnd::Time | PreCopyEnd::Volume));
        let asked: usize = self.models.iter().map(|model| model.state().asked.len()).sum();
        assert_eq!(precopy.asked, asked as u64);
        let early: u64 = sender.report.devices.iter().map(|device| device.precopy_bytes).sum();
        assert_eq!(precopy.bytes, early);
        assert_eq!(receiver.report.precopy, None);
        precopy
    }
}

#[test]
fn pre_copy_ends_by_the_word_of_the_device_and_not_by_what_a_read_gives() {
    for seed in seeds(10) {
        for driver in [Driver::Mlx5, Driver::Virtio, Driver::Once, Driver::Tracker] {
            let mut play = Play::new(seed, &[driver]);
            let precopy = play.complete();
            let told = format!("seed {seed}, {driver:?}: {precopy:?}");
            assert_eq!(precopy.end, PreCopyEnd::Converged, "{told}");
            assert!(precopy.bytes >= SIZE, "{told}");
            let (initial, left) = play.models[0].state().left_at_stop.unwrap();
            assert_eq!((initial, Some(left)), (0, precopy.left_bytes), "{told}");
            assert!(left <= precopy.limit_bytes, "{told}");
        }
    }
}

#[test]
fn a_driver_that_has_nothing_while_it_saves_is_not_stopped_before_it_has_given_it() {
    let mut play = Play::one(Driver::Mlx5);
    play.models[0].state().dirty_rate = 200_000;
    let precopy = play.complete();
    let state = play.models[0].state();
    assert!(state.read_nothing > 0, "it had nothing at first, and while it saved");
    assert!(precopy.bytes >= SIZE && state.left_at_stop.unwrap().0 == 0, "{precopy:?}");
}

#[test]
fn initial_bytes_that_begin_anew_are_read_before_any_device_stops() {
    // the second one keeps pre-copy going when the first one has nothing left
    let mut play = Play::new(3, &[Driver::Tracker, Driver::Tracker]);
    play.models[0].state().anew_at = Some(2 * SECOND);
    play.models[1].state().answers = Answers::Stuck;
    let precopy = play.complete();
    assert_eq!(precopy.end, PreCopyEnd::Time);
    assert_eq!(play.models[0].state().left_at_stop, Some((0, 0)));
    assert!(precopy.bytes >= 2 * SIZE + SIZE / 2, "{precopy:?}");

    // and they keep it going themselves
    let mut play = Play::one(Driver::Virtio);
    play.models[0].state().anew_when_quiet = true;
    play.models[0].state().driver = Driver::Tracker;
    let precopy = play.complete();
    assert_eq!(precopy.left_bytes, Some(SIZE / 2), "asked once more when it was quiet");
    assert_eq!(play.models[0].state().left_at_stop, Some((0, 0)));
}

#[test]
fn initial_bytes_that_begin_anew_at_the_switchover_are_read_for_as_long_as_the_downtime_limit() {
    let mut play = Play::one(Driver::Tracker);
    play.models[0].state().anew_when_quiet = true;
    play.sending().downtime_limit = std::time::Duration::ZERO;
    let precopy = play.complete();
    assert_eq!((precopy.left_bytes, precopy.limit_bytes), (Some(SIZE / 2), PACKET_SIZE.get().into()));
    assert!(play.models[0].state().left_at_stop.unwrap().0 > 0, "there was no time for it");
}

#[test]
fn a_device_that_never_converges_is_stopped_and_the_report_warns() {
    let mut stuck = Play::one(Driver::Tracker);
    stuck.models[0].state().answers = Answers::Stuck;
    let precopy = stuck.complete();
    assert_eq!(precopy.end, PreCopyEnd::Time);
    assert!((nanos(PRECOPY_TIME_MAX)..nanos(PRECOPY_TIME_MAX) + SECOND).contains(&precopy.duration_ns));
    let seconds = precopy.duration_ns / SECOND;
    assert!(precopy.asked <= seconds + 12, "a device with nothing to read is left alone: {precopy:?}");

    let mut busy = Play::one(Driver::Tracker);
    busy.models[0].state().dirty_rate = 10_000_000_000;
    busy.sending().downtime_limit = MS_10;
    let precopy = busy.complete();
    assert_eq!(precopy.end, PreCopyEnd::Volume);
    assert!((4 * SIZE..8 * SIZE).contains(&precopy.bytes), "{precopy:?}");
}

const MS_10: std::time::Duration = std::time::Duration::from_millis(10);

#[test]
fn a_device_that_cannot_tell_ends_when_it_has_nothing_or_has_given_too_much() {
    for (rate, end) in [(0, PreCopyEnd::Converged), (10_000_000_000, PreCopyEnd::Volume)] {
        for driver in [Driver::Once, Driver::Tracker] {
            let mut play = Play::one(driver);
            play.models[0].state().answers = Answers::Never;
            play.models[0].state().dirty_rate = rate;
            let precopy = play.complete();
            let expected = if driver == Driver::Once { PreCopyEnd::Converged } else { end };
            assert_eq!((precopy.end, precopy.left_bytes), (expected, None), "{driver:?}");
        }
    }
}

#[test]
fn a_device_that_fails_when_it_is_asked_has_failed() {
    for answers in [Answers::Fails, Answers::Panics] {
        let mut play = Play::new(1, &[Driver::Tracker, Driver::Tracker]);
        play.models[1].state().answers = answers;
        let (sender, receiver) = play.run();
        let is_it = match &sender.error {
            Some(Error::Device { device, error }) => {
                &**device == "dev1" && (*error == DeviceError::Panicked) == (answers == Answers::Panics)
            }
            _ => false,
        };
        assert!(is_it, "{:?}", sender.error);
        assert_eq!((sender.outcome, receiver.outcome), (Outcome::Aborted, Outcome::Aborted));
        assert!(play.models.iter().all(|model| model.state().was_rolled_back));
    }
}

#[test]
fn a_device_that_does_not_answer_stops_neither_heartbeats_nor_the_others_nor_a_cancel() {
    let mut play = Play::new(1, &[Driver::Tracker, Driver::Tracker]);
    play.models[1].state().dirty_rate = 10_000;
    let slow = Operation::DeviceStep { device: crate::numbers::DeviceIdx(0) }.tag();
    // after its start
    play.world.slow_down_after(0, slow, 1, 50 * SECOND);
    let deadline = play.world.now() + 25 * SECOND;
    play.sending().caller.deadline = Some(deadline);
    let (sender, receiver) = play.run();
    // a peer that hears nothing for ten seconds gives up by itself
    assert!(matches!(sender.error, Some(Error::Deadline)), "{:?}", sender.error);
    assert!(matches!(receiver.error, Some(Error::Peer(PeerError::Aborted { .. }))), "{:?}", receiver.error);
    assert!(play.models[0].state().given >= SIZE, "its descriptor was read meanwhile");
    assert!(play.models[1].state().given > SIZE + 100_000, "{:?}", play.models[1]);
    assert!(play.models.iter().all(|model| model.state().was_rolled_back));
}

#[test]
fn one_slow_answer_of_many_devices_only_delays_the_end() {
    let mut play = Play::new(9, &[Driver::Mlx5, Driver::Virtio, Driver::Once, Driver::Tracker]);
    let slow = Operation::DeviceStep { device: crate::numbers::DeviceIdx(3) }.tag();
    play.world.slow_down_after(0, slow, 1, 2 * SECOND);
    let precopy = play.complete();
    assert_eq!(precopy.end, PreCopyEnd::Converged);
    assert!(precopy.duration_ns >= 2 * SECOND, "{precopy:?}");
    let given = |at: usize| play.models[at].state().given;
    assert!(given(0) >= SIZE && given(1) >= SIZE && given(2) >= SIZE);
}

#[test]
fn devices_are_asked_once_a_second_and_less_and_less_often_when_they_have_nothing() {
    for driver in [Driver::Mlx5, Driver::Virtio, Driver::Once, Driver::Tracker] {
        let mut play = Play::one(driver);
        let hold = PreCopyHold::new();
        play.sending().hooks.hold_pre_copy = Some(hold.clone());
        let deadline = play.world.now() + 60 * SECOND;
        play.sending().caller.deadline = Some(deadline);
        let (sender, _) = play.run();
        assert!(matches!(sender.error, Some(Error::Deadline)), "{:?}", sender.error);
        let state = play.models[0].state();
        let asked = state.asked.len() as u64;
        // 10, 20, ..., 640 ms, and then once a second
        let expected = if driver == Driver::Virtio { 60 * 9 } else { 60 + 12 };
        assert!(asked <= expected && asked >= 58, "{driver:?}: {asked}");
        assert!(asked <= 61 + state.read_nothing, "{driver:?}: {asked}, {}", state.read_nothing);
        assert_eq!(hold.remaining(), Some(0).filter(|_| driver != Driver::Virtio).or(hold.remaining()));
        let closest = state.asked.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap();
        assert!(closest >= nanos(PRECOPY_POLL), "{driver:?}: {closest}");
        let furthest = state.asked.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(furthest <= nanos(PRECOPY_ASK_INTERVAL) + 10 * MS, "{driver:?}: {furthest}");
    }
}

/// Bytes a second that the world moves for a single device.
fn rate_of_the_link(seed: u64) -> u64 {
    let mut play = Play::new(seed, &[Driver::Tracker]);
    play.models[0].state().size = 4_000_000;
    play.models[0].state().initial = 4_000_000;
    play.complete().rate_bytes_per_s
}

#[test]
fn what_is_left_is_what_the_link_moves_in_the_downtime_limit_if_the_device_is_slower_than_the_link() {
    println!("dirty/link  limit_bytes  left_bytes  time_ms  asked  end");
    for seed in seeds(1) {
        let link = rate_of_the_link(seed);
        assert!(link > 1_000_000, "{link}");
        for percent in [0, 50, 100, 200] {
            let mut play = Play::new(seed, &[Driver::Tracker]);
            {
                let mut state = play.models[0].state();
                (state.size, state.initial, state.dirty_rate) = (4_000_000, 4_000_000, link * percent / 100);
            }
            play.sending().downtime_limit = MS_10;
            let precopy = play.complete();
            let (left, limit) = (precopy.left_bytes.unwrap(), precopy.limit_bytes);
            println!(
                "{percent:>9}%  {limit:>11}  {left:>10}  {:>7}  {:>5}  {}",
                precopy.duration_ns / MS,
                precopy.asked,
                precopy.end
            );
            match percent {
                0..=50 => {
                    assert_eq!(precopy.end, PreCopyEnd::Converged);
                    // it goes on changing until it is quiet
                    assert!(left <= limit + limit * percent / 100, "{precopy:?}");
                }
                200 => assert_eq!(precopy.end, PreCopyEnd::Volume),
                _ => {}
            }
        }
    }
}

//! How long a side waits for something that never happens, on the simulator's clock: as long as its bound allows, and
//! no longer.

use std::time::Duration;

use super::*;
use crate::limits::{HEADER_ROOM, PRECOPY_FACTOR_MAX, REASON_PATIENCE, SETTLE_MAX, SILENCE_MAX};
use crate::phase::Phase;
use crate::ring::{Completion, Directions, Ring, Tag};
use crate::time::{Nanos, nanos};
use crate::wire::{AbortCode, Control, DeviceOffer, Offer};
use crate::worker::caller::Event;
use crate::worker::operation::Operation;

const SECOND: Nanos = 1_000_000_000;
/// Tolerance: the simulated time of everything that is not waited for. The report counts from the agreement on
/// settings.
const SLACK: Nanos = SECOND / 4;

/// A hand-written peer: it sends the messages that a test names and reads nothing.
struct Peer {
    ring: SimRing,
    pool: Pool,
}

impl Peer {
    fn new(ring: SimRing) -> Peer {
        Peer { ring, pool: Pool::new(8, 4096).unwrap() }
    }

    fn send(&mut self, socket: &Connection, message: &Control) {
        let mut slot = self.pool.take().unwrap();
        let count = message.encode(slot.payload_mut());
        let mut flight = slot.into_flight();
        let range = HEADER_ROOM..HEADER_ROOM + count;
        self.ring.send(Tag(0), socket.fd(), flight.lease(), range.clone(), false);
        // the simulator may send any part of it at a time
        let mut sent = 0;
        while sent < count {
            self.ring.wait(None).unwrap();
            while let Some(Completion::Sent { lease: Some(lease), result, .. }) = self.ring.next() {
                flight.give_back(lease);
                sent += result.unwrap();
                if sent < count {
                    let rest = range.start + sent..range.end;
                    self.ring.send(Tag(0), socket.fd(), flight.lease(), rest, false);
                }
            }
        }
        self.pool.put(flight.land().unwrap());
    }

    /// Does nothing for a while: neither sends nor closes.
    fn stay(&mut self, time: Nanos) {
        let end = self.ring.now() + time;
        while self.ring.now() < end {
            self.ring.wait(Some(end)).unwrap();
        }
    }

    /// Does nothing until long after the other side has ended.
    fn stay_for_ever(mut self) {
        self.stay(1000 * SECOND);
    }
}

/// Runs a real sender against a hand-written receiver, which gets its control and its data connection.
fn send_to(play: impl FnOnce(Peer, &Connection, &Connection) + Send) -> Finished {
    let world = World::new(1);
    let (sending, receiving, _) = one_file(&world, 50_000);
    thread::scope(|scope| {
        let (near, far) = (world.ring(0), world.ring(1));
        scope.spawn(move || {
            far.arrive();
            play(Peer::new(far), &receiving.control, &receiving.data[0]);
        });
        send::Sending::new(near, sending).unwrap().run()
    })
}

/// A transfer of one device with `size` bytes of state, and the descriptors that it is read from and written to.
fn one_file(world: &Arc<World>, size: usize) -> (send::Parts, receive::Parts, [RawFd; 2]) {
    let (from, to) = (descriptor(), descriptor());
    let files = [from.as_raw_fd(), to.as_raw_fd()];
    world.add_file(files[0], SimFile { content: vec![7; size], ..SimFile::default() });
    world.add_file(files[1], SimFile::default());
    let source = FakeSource { fd: from, flow: Flow::StopCopyOnly, log: Log::default(), fails: None };
    let sink = FakeSink { fd: to, log: Log::default(), fails: None, config: b"config".to_vec() };
    let (sending, receiving) = one_device(world, source, sink);
    (sending, receiving, files)
}

/// A caller whose deadline is in a second.
fn impatient(world: &Arc<World>) -> Caller {
    let mut caller = Caller::new(Cancel::new(), None);
    caller.deadline = Some(world.now() + SECOND);
    caller
}

#[track_caller]
fn assert_took(finished: &Finished, expected: Nanos) {
    let took = finished.report.duration_ns;
    assert!(
        (expected - SLACK..expected + SLACK).contains(&took),
        "took {took} ns, not {expected}: {finished:?}"
    );
}

#[test]
fn a_receiver_that_never_closes_is_left_when_the_last_word_has_had_its_time() {
    let sender = send_to(|mut peer, control, _| {
        peer.send(control, &Control::Refuse { code: 1, text: "no".into() });
        peer.stay_for_ever();
    });
    assert!(matches!(sender.error, Some(Error::Refused { .. })), "{:?}", sender.error);
    assert_took(&sender, nanos(LINGER_MAX));
}

/// Agrees to everything, and then cuts the data connection.
fn agree_and_cut(peer: &mut Peer, control: &Connection, data: &Connection) {
    for message in [Control::Accept, Control::Ready, Control::Credit { device: 0, limit: 1 }] {
        peer.send(control, &message);
    }
    peer.ring.shut_down(data.fd(), Directions::Both);
}

#[test]
fn the_reason_for_a_cut_connection_is_waited_for_and_told() {
    let sender = send_to(|mut peer, control, data| {
        agree_and_cut(&mut peer, control, data);
        peer.stay(nanos(REASON_PATIENCE) / 2);
        peer.send(control, &Control::Abort { code: 2, text: "the disk is full".into() });
    });
    let Some(Error::Peer(PeerError::Aborted { code, text })) = sender.error else {
        panic!("{:?}", sender.error)
    };
    assert_eq!((code, &*text), (AbortCode::Device, "the disk is full"));
}

#[test]
fn a_reason_that_does_not_come_is_not_waited_for_long() {
    let sender = send_to(|mut peer, control, data| {
        agree_and_cut(&mut peer, control, data);
        peer.stay_for_ever();
    });
    assert!(matches!(sender.error, Some(Error::Peer(PeerError::Lost { .. }))), "{:?}", sender.error);
    assert_took(&sender, nanos(REASON_PATIENCE) + nanos(LINGER_MAX));
}

#[test]
fn a_sender_that_never_closes_is_left_when_the_last_word_has_had_its_time() {
    let world = World::new(1);
    let (sending, receiving, _) = one_file(&world, 0);
    let receiver = thread::scope(|scope| {
        let (near, far) = (world.ring(0), world.ring(1));
        let receiver = scope.spawn(move || {
            far.arrive();
            receive::Receiving::new(far, receiving).unwrap().run()
        });
        let mut peer = Peer::new(near);
        peer.send(&sending.control, &Control::Cancel);
        peer.stay_for_ever();
        receiver.join().unwrap()
    });
    assert!(matches!(receiver.error, Some(Error::Peer(PeerError::Cancelled))), "{:?}", receiver.error);
    assert_took(&receiver, nanos(LINGER_MAX));
}

#[test]
fn a_read_that_never_ends_is_given_up_and_the_deadline_named_to_the_peer() {
    let world = World::new(1);
    let (mut sending, receiving, [from, _]) = one_file(&world, 50_000);
    let control = sending.control.fd();
    world.hang(from, Hang::ForEver);
    sending.caller = impatient(&world);
    let (sender, receiver) = run(&world, sending, receiving);
    assert!(matches!(sender.error, Some(Error::Deadline)), "{:?}", sender.error);
    assert_took(&sender, SECOND + nanos(SETTLE_MAX));
    assert_took(&receiver, SECOND + nanos(LINGER_MAX));
    assert_eq!(last_word(&world.tape(control, 0)), DEADLINE_PASSED);
}

#[test]
fn a_read_that_waits_for_its_device_is_cancelled_and_not_waited_for() {
    let world = World::new(1);
    let (mut sending, receiving, [from, _]) = one_file(&world, 50_000);
    world.hang(from, Hang::UntilCancelled);
    sending.caller = impatient(&world);
    let (sender, _) = run(&world, sending, receiving);
    assert!(matches!(sender.error, Some(Error::Deadline)), "{:?}", sender.error);
    assert_took(&sender, SECOND);
}

#[test]
fn a_write_that_never_ends_is_given_up() {
    let world = World::new(1);
    let (sending, mut receiving, [_, to]) = one_file(&world, 50_000);
    let control = sending.control.fd();
    world.hang(to, Hang::ForEver);
    receiving.caller = impatient(&world);
    let (_, receiver) = run(&world, sending, receiving);
    assert!(matches!(receiver.error, Some(Error::Deadline)), "{:?}", receiver.error);
    assert_took(&receiver, SECOND + nanos(SETTLE_MAX));
    assert_eq!(last_word(&world.tape(control, 1)), DEADLINE_PASSED);
}

#[test]
fn a_write_that_waits_for_its_device_is_cancelled_and_not_waited_for() {
    let world = World::new(1);
    let (sending, mut receiving, [_, to]) = one_file(&world, 50_000);
    world.hang(to, Hang::UntilCancelled);
    receiving.caller = impatient(&world);
    let (_, receiver) = run(&world, sending, receiving);
    assert!(matches!(receiver.error, Some(Error::Deadline)), "{:?}", receiver.error);
    assert_took(&receiver, SECOND);
}

#[test]
fn a_source_device_that_does_not_come_back_from_its_last_step_is_given_up() {
    let world = World::new(1);
    let (mut sending, receiving, [_, to]) = one_file(&world, 50_000);
    // memory is made, it starts, is quiesced, stops and gives its config state; its rollback never ends
    world.hang_jobs_after(0, 5);
    world.hang(to, Hang::UntilCancelled);
    sending.caller = impatient(&world);
    let (sender, _) = run(&world, sending, receiving);
    assert!(matches!(sender.error, Some(Error::Deadline)), "{:?}", sender.error);
    assert_took(&sender, SECOND + nanos(SETTLE_MAX));
}

#[test]
fn a_device_that_does_not_come_back_after_commit_is_given_up_and_the_sender_left_in_doubt() {
    let world = World::new(1);
    let (sending, receiving, _) = one_file(&world, 50_000);
    // memory is made, it is prepared, loaded and passes `pre_run`; it never runs
    world.hang_jobs_after(1, 4);
    let (sender, receiver) = run(&world, sending, receiving);
    let error = receiver.error.as_ref().unwrap();
    assert!(matches!(error, Error::Device { error: DeviceError::Stuck, .. }), "{error:?}");
    // once for the step, and once more for the reset
    assert_took(&receiver, 2 * nanos(SETTLE_MAX));
    assert_eq!(sender.outcome, Outcome::InDoubt);
}

/// The code of the last message on a control connection, an abort.
fn last_word(tape: &[u8]) -> u16 {
    let ends = boundaries(tape);
    let last = &tape[ends[ends.len() - 2]..];
    let (head, body) = last.split_first_chunk::<CONTROL_HEADER_LEN>().unwrap();
    match Control::decode(&ControlHeader::decode(head).unwrap(), body) {
        Ok(Control::Abort { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

/// The abort code of a deadline that passed (`docs/PROTOCOL.md`).
const DEADLINE_PASSED: u16 = 4;

#[test]
fn pre_copy_of_a_device_that_makes_state_for_ever_ends_at_a_multiple_of_its_estimate() {
    struct Busy(FakeSource);
    impl Source for Busy {
        fn estimate(&self) -> Option<u64> {
            Some(5 * PACKET_SIZE.bytes() as u64)
        }
        fn precopy_info(&mut self) -> Result<Option<PreCopyInfo>, DeviceError> {
            Ok(Some(PreCopyInfo { initial: 0, dirty: u64::MAX }))
        }
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
    }
    let world = World::new(1);
    let from = descriptor();
    let content = vec![7; 50 * PACKET_SIZE.bytes()];
    world.add_file(from.as_raw_fd(), SimFile { content, ..SimFile::default() });
    let source = FakeSource { fd: from, flow: Flow::PreCopy, log: Log::default(), fails: None };
    let to = descriptor();
    world.add_file(to.as_raw_fd(), SimFile::default());
    let sink = FakeSink { fd: to, log: Log::default(), fails: None, config: b"config".to_vec() };
    let (sending, receiving) = one_device(&world, Busy(source), sink);
    let (sender, _) = run(&world, sending, receiving);
    assert_eq!(sender.outcome, Outcome::Complete, "{:?}", sender.error);
    let early = sender.report.devices[0].precopy_bytes;
    let least = PRECOPY_FACTOR_MAX * 5 * PACKET_SIZE.bytes() as u64;
    // and one read that was under way
    assert!((least..=least + 2 * PACKET_SIZE.bytes() as u64).contains(&early), "{early} bytes, not {least}");
}

#[test]
fn a_host_without_threads_says_so_before_any_device_is_touched() {
    for side in [0, 1] {
        let world = World::new(1);
        let (source_log, sink_log) = (Log::default(), Log::default());
        let source =
            FakeSource { fd: descriptor(), flow: Flow::PreCopy, log: Arc::clone(&source_log), fails: None };
        let sink = FakeSink {
            fd: descriptor(),
            log: Arc::clone(&sink_log),
            fails: None,
            config: b"config".to_vec(),
        };
        let (sending, receiving) = one_device(&world, source, sink);
        world.refuse_threads(side);
        let (sender, receiver) = run(&world, sending, receiving);
        assert_eq!((sender.outcome, receiver.outcome), (Outcome::Aborted, Outcome::Aborted));
        let own = if side == 0 { sender } else { receiver };
        let error = own.error.unwrap();
        assert!(error.to_string().starts_with("start a thread failed"), "{error}");
        assert_eq!(*source_log.lock().unwrap(), ["rollback"]);
        assert_eq!(*sink_log.lock().unwrap(), ["rollback"]);
    }
}

#[test]
fn a_side_that_was_busy_itself_does_not_blame_its_peer() {
    let world = World::new(1);
    let (sending, mut receiving, _) = one_file(&world, 0);
    let busy = {
        let world = Arc::clone(&world);
        // the offer of another device has come meanwhile, and nobody looked
        move |event: &Event| {
            if matches!(event, Event::Phase(Phase::Settings)) {
                world.advance(2 * nanos(SILENCE_MAX));
            }
        }
    };
    receiving.caller = Caller::new(Cancel::new(), Some(Box::new(busy)));
    let receiver = thread::scope(|scope| {
        let (near, far) = (world.ring(0), world.ring(1));
        let receiver = scope.spawn(move || {
            far.arrive();
            receive::Receiving::new(far, receiving).unwrap().run()
        });
        let mut peer = Peer::new(near);
        let device = DeviceOffer { name: "another".into(), instance: 0, estimate: 0 };
        let offer = Offer {
            features: 0,
            packet_size: PACKET_SIZE.get(),
            pool_size: 1 << 20,
            checksum: Checksum::None,
            devices: vec![device],
        };
        peer.send(&sending.control, &Control::Offer(offer));
        peer.stay_for_ever();
        receiver.join().unwrap()
    });
    assert!(matches!(receiver.error, Some(Error::Refused { .. })), "{:?}", receiver.error);
}

#[test]
fn devices_that_stand_still_for_too_long_go_back_whatever_the_receiver_says() {
    // it grants one packet every five seconds, which is neither silence nor standstill
    let world = World::new(1);
    let (mut sending, receiving, _) = one_file(&world, 500_000);
    sending.downtime_max = Duration::from_secs(30);
    let control = sending.control.fd();
    let sender = thread::scope(|scope| {
        let (near, far) = (world.ring(0), world.ring(1));
        scope.spawn(move || {
            far.arrive();
            let mut peer = Peer::new(far);
            peer.send(&receiving.control, &Control::Accept);
            peer.send(&receiving.control, &Control::Ready);
            for limit in 1..=6 {
                peer.send(&receiving.control, &Control::Credit { device: 0, limit });
                peer.stay(5 * SECOND);
            }
            peer.stay_for_ever();
        });
        send::Sending::new(near, sending).unwrap().run()
    });
    assert!(matches!(sender.error, Some(Error::Downtime { .. })), "{:?}", sender.error);
    assert_eq!(sender.outcome, Outcome::Aborted);
    assert_took(&sender, 30 * SECOND + nanos(LINGER_MAX));
    assert_eq!(last_word(&world.tape(control, 0)), DEADLINE_PASSED);
    let downtime = sender.report.downtime;
    let phases = downtime.stop_ns + downtime.transfer_ns + downtime.load_ns + downtime.commit_ns;
    assert_eq!(phases + downtime.rollback_ns, downtime.total_ns, "{downtime:?}");
}

#[test]
fn a_side_that_takes_long_to_make_its_memory_is_not_silent_meanwhile() {
    for side in [0, 1] {
        let world = World::new(1);
        let (sending, receiving, _) = one_file(&world, 50_000);
        let (begun, time) = (world.now(), 5 * nanos(SILENCE_MAX));
        world.slow_down(side, Operation::MakePool.tag(), time);
        let (sender, receiver) = run(&world, sending, receiving);
        assert!(world.now() >= begun + time, "it is made beside the loop");
        let outcomes = (sender.outcome, receiver.outcome);
        assert_eq!(
            outcomes,
            (Outcome::Complete, Outcome::Complete),
            "{:?} {:?}",
            sender.error,
            receiver.error
        );
    }
}

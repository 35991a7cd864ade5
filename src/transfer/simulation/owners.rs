//! Transfers that arrive, and transfers that are cut, cancelled, or fail at any step: there is always exactly one owner of each
//! device.

use super::*;

#[test]
fn every_transfer_arrives_whatever_the_order_of_completions() {
    for seed in seeds(60) {
        let mut dice = Dice(seed);
        let scenario = Scenario {
            devices: 1 + dice.below(4),
            channels: 1 + dice.below(5),
            size: [0, 1, 8192, 50_000, 200_000][dice.below(5)],
            slots: 4 + u32::try_from(dice.below(9)).unwrap(),
            flow: if dice.chance(50) { Flow::PreCopy } else { Flow::StopCopyOnly },
            ..scenario(seed)
        };
        let result = simulate(&scenario);
        check(&scenario, &result);
        assert_eq!(result.sender.outcome, Outcome::Complete, "{scenario:?}: {:?}", result.sender.error);
        assert_eq!(result.receiver.outcome, Outcome::Complete, "{scenario:?}: {:?}", result.receiver.error);
        assert_eq!(result.sender.report.devices.len(), scenario.devices);
        for (sent, taken) in result.sender.report.devices.iter().zip(&result.receiver.report.devices) {
            assert_eq!((&sent.name, sent.bytes, &sent.crc32c), (&taken.name, taken.bytes, &taken.crc32c));
        }
    }
}

#[test]
fn a_cut_after_any_message_leaves_exactly_one_owner() {
    for seed in seeds(4) {
        for flow in [Flow::StopCopyOnly, Flow::PreCopy] {
            let whole = Scenario { flow, ..scenario(seed) };
            let undisturbed = simulate(&whole);
            assert_eq!(undisturbed.sender.outcome, Outcome::Complete);
            let mut outcomes = Vec::new();
            for side in 0..2 {
                for after in boundaries(&undisturbed.control[side]) {
                    let scenario = Scenario { cut: Some((Link::Control, side, after)), ..whole.clone() };
                    let result = simulate(&scenario);
                    check(&scenario, &result);
                    outcomes.push(result.sender.outcome);
                }
            }
            let seen = |outcome| outcomes.contains(&outcome);
            assert!(
                seen(Outcome::Aborted) && seen(Outcome::InDoubt),
                "every way out was taken: {outcomes:?}"
            );
        }
    }
}

#[test]
fn a_cut_in_the_middle_of_messages_and_packets_leaves_exactly_one_owner() {
    for seed in seeds(80) {
        let whole = scenario(seed);
        let undisturbed = simulate(&whole);
        let mut dice = Dice(seed);
        let (link, side) = [(Link::Control, 0), (Link::Control, 1), (Link::Data, 0)][dice.below(3)];
        let sent = if link == Link::Data { undisturbed.data.len() } else { undisturbed.control[side].len() };
        let scenario = Scenario { cut: Some((link, side, dice.below(sent + 1))), ..whole };
        check(&scenario, &simulate(&scenario));
    }
}

#[test]
fn a_device_that_fails_at_any_step_leaves_exactly_one_owner() {
    for seed in seeds(6) {
        for step in ["start", "quiesce", "stop", "config"] {
            let scenario = Scenario { source_fails: Some(step), flow: Flow::PreCopy, ..scenario(seed) };
            let result = simulate(&scenario);
            check(&scenario, &result);
            assert!(matches!(result.sender.error, Some(Error::Device { .. })), "{:?}", result.sender.error);
            let told = matches!(result.receiver.error, Some(Error::Peer(PeerError::Aborted { .. })));
            assert!(told, "{step}: {:?}", result.receiver.error);
        }
        for step in ["prepare", "config", "seal", "pre_run", "run"] {
            let scenario = Scenario { sink_fails: Some(step), ..scenario(seed) };
            let result = simulate(&scenario);
            check(&scenario, &result);
            assert!(
                matches!(result.receiver.error, Some(Error::Device { .. })),
                "{:?}",
                result.receiver.error
            );
            assert_eq!(result.sender.outcome, Outcome::Aborted, "{step}");
            let told = matches!(
                result.sender.error,
                Some(Error::Peer(PeerError::Aborted { .. }) | Error::Refused { .. })
            );
            assert!(told, "{step}: {:?}", result.sender.error);
        }
    }
}

#[test]
fn a_destination_that_cannot_be_reset_after_commit_leaves_the_sender_in_doubt() {
    // "run" fails, and so does the rollback: nobody can promise that the device does not run
    struct Stubborn(FakeSink);
    impl Sink for Stubborn {
        fn prepare(&mut self) -> Result<(), DeviceError> {
            self.0.prepare()
        }
        fn seal(&mut self) -> Result<(), DeviceError> {
            self.0.seal()
        }
        fn run(&mut self) -> Result<(), DeviceError> {
            step(&self.0.log, Some("run"), "run")
        }
        fn rollback(&mut self) -> Result<(), DeviceError> {
            step(&self.0.log, Some("rollback"), "rollback")
        }
    }
    let world = World::new(7);
    let log = Log::default();
    let from = descriptor();
    world.add_file(from.as_raw_fd(), SimFile::default());
    let source = FakeSource { fd: from, flow: Flow::StopCopyOnly, log: Arc::clone(&log), fails: None };
    let sink =
        Stubborn(FakeSink { fd: descriptor(), log: Log::default(), fails: None, config: b"config".to_vec() });
    let (sending, receiving) = one_device(&world, source, sink);
    let (sender, receiver) = run(&world, sending, receiving);
    assert_eq!(receiver.outcome, Outcome::Aborted);
    assert_eq!(sender.outcome, Outcome::InDoubt, "{:?}", sender.error);
    assert_eq!(log.lock().unwrap().last(), Some(&"park"));
}

#[test]
fn a_source_that_cannot_be_read_in_the_middle_is_named_on_both_sides() {
    for seed in seeds(10) {
        let scenario = Scenario { read_fails_at: Some(30_000), ..scenario(seed) };
        let result = simulate(&scenario);
        check(&scenario, &result);
        let text = result.sender.error.unwrap().to_string();
        assert!(
            text.starts_with("device dev") && text.ends_with("reading its state failed: EIO (I/O error)"),
            "{text}"
        );
        assert!(result.receiver.error.unwrap().to_string().contains(&text));
    }
}

#[test]
fn a_sink_that_refuses_to_write_is_named_on_both_sides() {
    for seed in seeds(10) {
        let scenario = Scenario { write_fails_at: Some(30_000), ..scenario(seed) };
        let result = simulate(&scenario);
        check(&scenario, &result);
        let text = result.receiver.error.unwrap().to_string();
        assert!(text.ends_with("writing its state failed: EIO (I/O error)"), "{text}");
        assert!(result.sender.error.unwrap().to_string().contains(&text));
    }
}

#[test]
fn nobody_waits_for_a_peer_that_has_said_its_last_word_and_left() {
    for (read_fails_at, write_fails_at) in [(Some(30_000), None), (None, Some(30_000))] {
        let result = simulate(&Scenario { read_fails_at, write_fails_at, ..scenario(1) });
        for side in [&result.sender, &result.receiver] {
            assert!(u128::from(side.report.duration_ns) < LINGER_MAX.as_nanos(), "{:?}", side.report);
        }
    }
}

#[test]
fn pre_copy_is_quiesced_and_stopped_before_the_rest_is_read() {
    let result = simulate(&Scenario { flow: Flow::PreCopy, ..scenario(1) });
    assert_eq!(result.sources[0], ["start", "quiesce", "stop", "config", "release"]);
    assert_eq!(result.sinks[0], ["prepare", "config", "seal", "pre_run", "run"]);
    assert!(result.sender.report.devices[0].precopy_bytes > 0);
}

#[test]
fn a_cancel_that_comes_with_the_last_loaded_is_still_in_time() {
    // The sender looks at its caller at the beginning of a turn; the last "loaded" ends a turn. What came in between
    // was looked at nowhere but directly before commit.
    struct Late {
        sink: FakeSink,
        cancel: Cancel,
    }
    impl Sink for Late {
        fn prepare(&mut self) -> Result<(), DeviceError> {
            self.sink.prepare()
        }
        fn seal(&mut self) -> Result<(), DeviceError> {
            self.cancel.cancel();
            self.sink.seal()
        }
        fn run(&mut self) -> Result<(), DeviceError> {
            self.sink.run()
        }
        fn rollback(&mut self) -> Result<(), DeviceError> {
            self.sink.rollback()
        }
    }
    for seed in seeds(20) {
        let world = World::new(seed);
        let (source_log, sink_log, cancel) = (Log::default(), Log::default(), Cancel::new());
        let from = descriptor();
        world.add_file(from.as_raw_fd(), SimFile::default());
        let source =
            FakeSource { fd: from, flow: Flow::StopCopyOnly, log: Arc::clone(&source_log), fails: None };
        let sink = FakeSink {
            fd: descriptor(),
            log: Arc::clone(&sink_log),
            fails: None,
            config: b"config".to_vec(),
        };
        let (mut sending, receiving) = one_device(&world, source, Late { sink, cancel: cancel.clone() });
        sending.caller = Caller::new(cancel, None);
        let (sender, receiver) = run(&world, sending, receiving);
        assert!(matches!(sender.error, Some(Error::Cancelled)), "seed {seed}: {:?}", sender.error);
        assert_eq!((sender.outcome, receiver.outcome), (Outcome::Aborted, Outcome::Aborted), "seed {seed}");
        assert_eq!(source_log.lock().unwrap().last(), Some(&"rollback"), "seed {seed}");
        assert!(!sink_log.lock().unwrap().contains(&"run"), "seed {seed}");
    }
}

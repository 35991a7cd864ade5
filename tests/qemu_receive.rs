//! Migrations from QEMU that are loaded as they arrive: what a real one sent, larger generated ones, and every kind of
//! faulty source.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "checks that nothing takes long, and lets operations begin")]

mod common;

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use common::device::{Journal, TestSink, Trouble};
use common::handmade::{self, Migration};
use common::outcome::assert_aborted;
use common::source::{Source, Streams, dial, migrate};
use common::{POOL, Running, loopback};
use ringlift::error::{Error, Refusal};
use ringlift::qemu::{Listener, Receiver, ReceiverBuilder};
use ringlift::wire::qemu::{INIT_LEN, PREFIX_LEN, Packet};
use ringlift::{Cancel, Event, Finished, Outcome, Phase};

const DEVICE: &str = "0000:00:01.0/vfio";
const SHUT_0: &[u8] = &[0, 1, 0, 4, 0, 0, 0, 0];
const SHUT_1: &[u8] = &[0, 1, 0, 4, 0, 0, 0, 1];

/// What is done to a device that is loaded.
const LOADED: [&str; 5] = ["prepare", "config", "seal", "pre_run", "run"];

/// A receiver that waits, and its address.
fn begin(channels: usize) -> (SocketAddr, ReceiverBuilder) {
    let listener = Listener::bind(loopback()).unwrap();
    (listener.local_addr(), Receiver::builder().listener(&listener).channels(channels).pool_size(POOL))
}

fn start(builder: ReceiverBuilder) -> Running<Finished> {
    let receiver = builder.build().unwrap();
    Running::start(move || receiver.run())
}

/// A receiver of [`DEVICE`], the journal of what it does, and where it waits.
fn one_device(channels: usize) -> (SocketAddr, Running<Finished>, Journal) {
    let (addr, builder) = begin(channels);
    let (sink, journal) = TestSink::new();
    (addr, start(builder.device(DEVICE, sink)), journal)
}

/// Receives `streams`; returns what the source received, the result, and what was done to the device.
fn take(streams: &Streams, return_path: bool) -> (Vec<u8>, Finished, Journal) {
    let (addr, running, journal) = one_device(streams.multifd.len());
    let heard = migrate(addr, streams, return_path);
    (heard, running.finish(), journal)
}

/// A migration that must fail; returns the error's text. The device was reset, and never ran.
fn fail(streams: &Streams, return_path: bool) -> String {
    let begun = Instant::now();
    let (heard, finished, journal) = take(streams, return_path);
    if return_path {
        assert!(heard.ends_with(SHUT_1), "the source keeps its machine: {heard:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(8), "it does not wait for what cannot arrive");
    failed(&finished, &journal)
}

fn failed(finished: &Finished, journal: &Journal) -> String {
    let error = assert_aborted(finished);
    assert!(!journal.did("run") && journal.did("rollback"), "{error}: {:?}", journal.steps());
    error.to_string()
}

/// The streams of a generated migration.
fn streams(migration: &Migration) -> Streams {
    Streams { main: migration.main(), multifd: migration.multifd() }
}

/// The packets of one device, and nothing else, on two channels.
fn small() -> Migration {
    Migration::new(vec![handmade::Device::new(1, 6, 500)], 2)
}

/// The state of the device that `tests/fixtures/qemu` were made with: 96 bytes, and a config state.
fn assert_loaded(finished: &Finished, journal: &Journal) {
    assert!(finished.error.is_none(), "{:?}", finished.error);
    assert_eq!(finished.outcome, Outcome::Complete);
    let steps: Vec<_> = journal.steps().into_iter().filter(|&step| step != "drain").collect();
    assert_eq!(steps, LOADED);
    let (bytes, blob) = (journal.bytes(), journal.blob().unwrap());
    assert_eq!((bytes.len(), blob.len()), (96, 4132));
    assert!(blob.starts_with(&0xffff_ffff_ef10_0002_u64.to_be_bytes()));
    let device = &finished.report.devices[0];
    assert_eq!((device.name.as_str(), device.bytes, device.config_bytes), (DEVICE, 96 + 4132, 4132));
    assert_eq!(device.precopy_bytes, 24);
}

#[test]
fn what_a_real_qemu_sent_is_loaded_whichever_way_it_travelled() {
    for name in ["device-on-channels", "device-on-main", "one-connection"] {
        let (_, finished, journal) = take(&Streams::of(name), false);
        assert_loaded(&finished, &journal);
        assert_eq!(finished.report.settings.dialect, "qemu");
        assert!(finished.report.downtime.total_ns > 0);
    }
}

#[test]
fn the_state_is_what_the_packets_hold() {
    let streams = Streams::of("device-on-channels");
    let (_, _, journal) = take(&streams, false);
    let ((data, at, len), (config, config_at, config_len)) = (find(&streams, 0), find(&streams, 1));
    assert_eq!(journal.bytes()[24..], streams.multifd[data][at + PREFIX_LEN..at + len]);
    let blob = &streams.multifd[config][config_at + PREFIX_LEN..config_at + config_len];
    assert_eq!(journal.blob().as_deref(), Some(blob));
}

#[test]
fn the_way_back_is_answered_as_a_qemu_answers_it() {
    let streams = Streams::of("device-on-channels-ack");
    let (heard, finished, journal) = take(&streams, true);
    assert_loaded(&finished, &journal);
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qemu");
    assert_eq!(heard, std::fs::read(folder.join("device-on-channels-ack/main.back.bin")).unwrap());
}

#[test]
fn nothing_runs_before_the_source_was_told_and_it_is_told_when_everything_is_sealed() {
    let (addr, builder) = begin(2);
    let (sink, journal) = TestSink::new();
    journal.expect("seal", Trouble::Wait);
    journal.expect("pre_run", Trouble::Wait);
    let running = start(builder.device(DEVICE, sink));
    let streams = streams(&small());
    let mut source = Source::connect(addr, &streams);
    source.send(&streams);
    journal.await_step("seal");
    source.main.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let early = source.read_replies();
    assert!(early.len() < 20 && !early.ends_with(SHUT_0), "{early:?}");
    source.main.set_read_timeout(Some(common::PATIENCE)).unwrap();
    journal.let_go("seal");
    assert!(source.read_replies().ends_with(SHUT_0));
    journal.await_step("pre_run");
    assert!(!journal.did("run"));
    journal.let_go("pre_run");
    assert_eq!(running.finish().outcome, Outcome::Complete);
}

#[test]
fn the_source_is_told_only_after_the_caller_has_agreed() {
    let streams = Streams::of("device-on-channels-ack");
    let (addr, builder) = begin(streams.multifd.len());
    let (sink, journal) = TestSink::new();
    let seen = journal.clone();
    let agree = move || {
        assert!(seen.did("seal") && !seen.did("pre_run"));
        Ok::<_, std::convert::Infallible>(())
    };
    let running = start(builder.device(DEVICE, sink).before_run(agree));
    assert!(migrate(addr, &streams, true).ends_with(SHUT_0));
    assert_loaded(&running.finish(), &journal);

    let hooks: [fn() -> Result<(), &'static str>; 2] =
        [|| Err("no memory for it"), || std::panic::resume_unwind(Box::new("no memory for it"))];
    for hook in hooks {
        let (addr, builder) = begin(streams.multifd.len());
        let (sink, journal) = TestSink::new();
        let running = start(builder.device(DEVICE, sink).before_run(hook));
        assert!(migrate(addr, &streams, true).ends_with(SHUT_1), "the source keeps its machine");
        let finished = running.finish();
        let text = failed(&finished, &journal);
        assert!(text.starts_with("before_run ") && text.ends_with(": no memory for it"), "{text}");
        assert_eq!(finished.panic.is_some(), text.contains("panicked"));
    }
}

#[test]
fn many_devices_come_over_many_channels_through_a_small_pool() {
    let devices: Vec<_> = (1..=5).map(|number| handmade::Device::new(number, 20, 70_000)).collect();
    for on_channels in [true, false] {
        let migration = Migration { on_channels, ..Migration::new(devices.clone(), 4) };
        let (addr, mut builder) = begin(4);
        let mut journals = Vec::new();
        for device in devices.iter().rev() {
            let (sink, journal) = TestSink::new();
            builder = builder.device(&device.name, sink);
            journals.insert(0, journal);
        }
        let running = start(builder);
        let heard = migrate(addr, &streams(&migration), true);
        let finished = running.finish();
        assert!(finished.error.is_none(), "{:?}", finished.error);
        assert!(heard.ends_with(SHUT_0));
        for (device, journal) in devices.iter().zip(&journals) {
            assert!(journal.bytes() == device.content(), "{}", device.name);
            assert_eq!(journal.blob().as_ref(), Some(&device.config));
        }
        let on_channels: u64 = finished.report.channels.iter().map(|channel| channel.bytes).sum();
        assert_eq!(on_channels > 0, migration.on_channels);
    }
}

#[test]
fn the_report_adds_up() {
    let migration = small();
    let (_, finished, journal) = take(&streams(&migration), true);
    assert_eq!(journal.bytes(), migration.devices[0].content());
    let (report, device) = (&finished.report, &finished.report.devices[0]);
    assert_eq!((report.bytes, report.packets), (device.bytes, device.packets));
    assert_eq!((device.bytes, device.packets, device.precopy_bytes), (4000 + 4132, 2 + 6 + 1, 1000));
    let channels: Vec<u64> = report.channels.iter().map(|channel| channel.packets).collect();
    assert_eq!(channels.iter().sum::<u64>(), 7);
    let downtime = report.downtime;
    let phases = downtime.stop_ns + downtime.transfer_ns + downtime.load_ns + downtime.commit_ns;
    assert_eq!(downtime.total_ns, phases);
}

#[test]
fn a_wrong_magic_in_a_channel_is_told_with_its_place() {
    let mut streams = Streams::of("device-on-channels");
    let (channel, at) = streams.device_packet();
    streams.overwrite(channel, at, b"HTTP");
    let text = fail(&streams, false);
    assert_eq!(text, format!("multifd channel {channel}, offset {at}: its first bytes are 0x48545450"));
}

#[test]
fn a_connection_that_is_none_of_a_qemus_is_turned_away_and_the_migration_goes_on() {
    let (addr, builder) = begin(2);
    let (sink, journal) = TestSink::new();
    let rejected = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = std::sync::Arc::clone(&rejected);
    let running = start(builder.device(DEVICE, sink).on_event(move |event| {
        if let Event::Rejected { error, .. } = event {
            seen.lock().unwrap().push(error.to_string());
        }
    }));
    dial(addr).write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    migrate(addr, &Streams::of("device-on-channels"), false);
    assert_loaded(&running.finish(), &journal);
    assert!(rejected.lock().unwrap()[0].contains("0x47455420"));
}

#[test]
fn two_channels_with_one_number_are_an_error() {
    let mut streams = streams(&small());
    streams.overwrite(1, 24, &[0]);
    let (_, finished, journal) = take(&streams, false);
    assert_eq!(assert_aborted(&finished).to_string(), "two connections say that they are multifd channel 0");
    assert_eq!(journal.steps(), [""; 0], "it was never touched");
}

#[test]
fn an_absurd_idx_or_length_is_refused_before_anything_is_made_for_it() {
    for (at, value, what) in [
        (280, 0xffff_fffe_u32, "packet 4294967294 came further ahead of its turn than connections can hold"),
        (280, u32::MAX, "its idx is 4294967295"),
        (272, u32::MAX, "its state is 4294967283 bytes, at most 1048576 are allowed"),
    ] {
        let mut streams = Streams::of("device-on-channels");
        let (channel, packet) = streams.device_packet();
        streams.overwrite(channel, packet + at, &value.to_be_bytes());
        let text = fail(&streams, false);
        assert!(text.contains(what), "{text}");
    }
}

/// Where device packet `idx` is: channel, offset, length with its prefix.
fn find(streams: &Streams, wanted: u32) -> (usize, usize, usize) {
    let of = |channel| {
        streams.packets(channel).into_iter().find_map(|(at, packet)| match packet {
            Packet::Device(packet) if packet.idx == wanted => {
                Some((channel, at, PREFIX_LEN + packet.len as usize))
            }
            _ => None,
        })
    };
    (0..streams.multifd.len()).find_map(of).unwrap()
}

#[test]
fn a_packet_that_comes_twice_or_beyond_the_config_packet_is_an_error() {
    for (idx, other, what) in [(1, 0, "packet 0 came twice"), (5, 7, "packet 7 came after the config packet")]
    {
        let migration = Migration { choices: vec![0], ..small() };
        let mut streams = streams(&migration);
        let (channel, at, _) = find(&streams, idx);
        if other == 7 {
            // the config packet first: the modified packet follows it
            let (_, config, len) = find(&streams, 6);
            let moved: Vec<u8> = streams.multifd[channel].drain(config..config + len).collect();
            streams.multifd[channel].splice(at..at, moved);
        }
        let (_, at, _) = find(&streams, idx);
        streams.overwrite(channel, at + 280, &u32::to_be_bytes(other));
        let text = fail(&streams, true);
        assert!(text.starts_with("multifd channel 0, offset "), "{text}");
        assert!(text.ends_with(&format!(": device {DEVICE}: {what}")), "{text}");
    }
}

#[test]
fn a_missing_packet_is_named_when_every_channel_has_ended() {
    let mut streams = streams(&small());
    let (channel, at, len) = find(&streams, 3);
    streams.multifd[channel].drain(at..at + len);
    let (addr, running, journal) = one_device(2);
    let mut source = Source::connect(addr, &streams);
    source.send(&streams);
    source.multifd.iter().for_each(|stream| stream.shutdown(Shutdown::Write).unwrap());
    assert!(source.read_replies().ends_with(SHUT_1));
    let text = failed(&running.finish(), &journal);
    assert_eq!(text, format!("device {DEVICE}: packet 3 never came"));
}

#[test]
fn a_channel_that_dies_in_a_packet_is_an_error_before_and_after_the_main_connections_end() {
    for main_ends_first in [false, true] {
        let streams = streams(&small());
        let (channel, at, len) = find(&streams, 2);
        let (addr, running, journal) = one_device(2);
        let mut source = Source::connect(addr, &streams);
        if main_ends_first {
            source.main.write_all(&streams.main).unwrap();
        } else {
            // the live phase: RAM and every device have begun
            source.main.write_all(&streams.main[..200]).unwrap();
        }
        let cut = &streams.multifd[channel][INIT_LEN..at + len - 10];
        source.multifd[channel].write_all(cut).unwrap();
        source.close(channel);
        if main_ends_first {
            assert!(source.read_replies().ends_with(SHUT_1));
        }
        let text = failed(&running.finish(), &journal);
        assert!(text.starts_with(&format!("the peer closed multifd channel {channel} ")), "{text}");
    }
}

#[test]
fn the_main_connection_that_dies_is_an_error_wherever_it_was() {
    let streams = streams(&small());
    for len in [5, 60, 200, streams.main.len() / 2, streams.main.len() - 1] {
        let (addr, running, journal) = one_device(2);
        let mut source = Source::connect(addr, &streams);
        source.main.write_all(&streams.main[..len]).unwrap();
        source.main.shutdown(Shutdown::Write).unwrap();
        let text = failed(&running.finish(), &journal);
        assert!(text.starts_with("the peer closed the main connection "), "{text}");
    }
}

#[test]
fn a_missing_sync_is_no_matter_to_one_that_takes_no_memory() {
    let mut streams = streams(&small());
    let (at, _) = streams.packets(1)[0];
    let len = PREFIX_LEN + streams.packets(1)[0].1.rest() as usize;
    streams.multifd[1].drain(at..at + len);
    let (heard, finished, _) = take(&streams, true);
    assert_eq!(finished.outcome, Outcome::Complete);
    assert!(heard.ends_with(SHUT_0));
}

#[test]
fn a_device_that_one_side_alone_knows_is_refused_with_its_name() {
    let mut migration = small();
    migration.devices.push(handmade::Device::new(2, 1, 10));
    let (heard, finished, _) = take(&streams(&migration), true);
    let refused = |finished: &Finished, device: &str| match &finished.error {
        Some(Error::Refused { reason: Refusal::DeviceMismatch { name }, .. }) => assert_eq!(&**name, device),
        other => panic!("{other:?}"),
    };
    refused(&finished, "0000:00:02.0/vfio");
    assert!(heard.ends_with(SHUT_1));

    let (addr, builder) = begin(2);
    let ((one, first), (other, second)) = (TestSink::new(), TestSink::new());
    let running = start(builder.device(DEVICE, one).device("0000:00:09.0/vfio", other));
    let heard = migrate(addr, &streams(&small()), true);
    refused(&running.finish(), "0000:00:09.0/vfio");
    assert!(heard.ends_with(SHUT_1));
    assert!(first.did("rollback") && second.did("rollback") && !first.did("run"));
}

#[test]
fn a_device_that_cannot_be_loaded_tells_the_source_to_go_on() {
    for step in ["prepare", "drain", "config", "seal"] {
        let (addr, builder) = begin(2);
        let (sink, journal) = TestSink::new();
        journal.expect(step, Trouble::Fail);
        let running = start(builder.device(DEVICE, sink));
        let heard = migrate(addr, &streams(&small()), true);
        let finished = running.finish();
        assert!(matches!(assert_aborted(&finished), Error::Device { .. }), "{step}");
        // until its devices are ready nothing is read from the source, which notices when its connections end
        assert!(heard.ends_with(SHUT_1) || step == "prepare", "{step}: {heard:?}");
        assert!(!heard.ends_with(SHUT_0) && !journal.did("run") && journal.did("rollback"), "{step}");
    }
}

#[test]
fn a_device_that_cannot_run_when_the_source_has_let_go_is_reset() {
    let (addr, builder) = begin(2);
    let (sink, journal) = TestSink::new();
    journal.expect("run", Trouble::Fail);
    let running = start(builder.device(DEVICE, sink));
    let heard = migrate(addr, &streams(&small()), true);
    assert!(heard.ends_with(SHUT_0));
    let finished = running.finish();
    assert!(matches!(assert_aborted(&finished), Error::Device { .. }));
    assert!(journal.did("rollback"));
}

#[test]
fn a_source_that_has_left_before_it_was_told_keeps_its_devices() {
    let (addr, builder) = begin(2);
    let (sink, journal) = TestSink::new();
    journal.expect("seal", Trouble::Wait);
    let running = start(builder.device(DEVICE, sink));
    let streams = streams(&small());
    let mut source = Source::connect(addr, &streams);
    source.send(&streams);
    journal.await_step("seal");
    drop(source);
    std::thread::sleep(Duration::from_millis(200));
    journal.let_go("seal");
    let text = failed(&running.finish(), &journal);
    assert!(text.starts_with("the peer closed the main connection") || text.contains("failed"), "{text}");
}

#[test]
fn a_cancel_tells_the_source_and_resets_the_device() {
    let cancel = Cancel::new();
    let (addr, builder) = begin(2);
    let (sink, journal) = TestSink::new();
    let running = start(builder.device(DEVICE, sink).cancel(&cancel));
    let streams = streams(&small());
    let mut source = Source::connect(addr, &streams);
    source.main.write_all(&streams.main[..200]).unwrap();
    journal.await_step("prepare");
    std::thread::sleep(Duration::from_millis(100));
    cancel.cancel();
    assert!(source.read_replies().ends_with(SHUT_1));
    let finished = running.finish();
    assert!(matches!(assert_aborted(&finished), Error::Cancelled));
    assert!(journal.did("rollback"));
}

#[test]
fn phases_are_told_in_order() {
    let (addr, builder) = begin(2);
    let phases = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = std::sync::Arc::clone(&phases);
    let (sink, _) = TestSink::new();
    let running = start(builder.device(DEVICE, sink).on_event(move |event| {
        if let Event::Phase(phase) = event {
            seen.lock().unwrap().push(*phase);
        }
    }));
    migrate(addr, &streams(&small()), true);
    running.finish();
    assert_eq!(
        *phases.lock().unwrap(),
        [Phase::Connecting, Phase::Settings, Phase::PreCopy, Phase::StopCopy, Phase::Commit, Phase::Done]
    );
}

#[test]
fn connected_sockets_will_do() {
    let migration = small();
    let streams = streams(&migration);
    let (mut ours, mut theirs) = common::socket_pairs(3);
    let (sink, journal) = TestSink::new();
    let main = ours.remove(0);
    let running = start(Receiver::builder().device(DEVICE, sink).sockets(main, ours).pool_size(POOL));
    let mut main = std::os::unix::net::UnixStream::from(theirs.remove(0));
    let writers: Vec<_> = theirs
        .into_iter()
        .zip(streams.multifd.clone())
        .map(|(socket, bytes)| {
            Running::start(move || {
                let mut stream = std::os::unix::net::UnixStream::from(socket);
                stream.write_all(&bytes[INIT_LEN..]).map(|()| stream)
            })
        })
        .collect();
    main.write_all(&streams.main).unwrap();
    let streams: Vec<_> = writers.into_iter().map(Running::finish).collect();
    assert_eq!(running_end(main, running).outcome, Outcome::Complete);
    assert_eq!(journal.bytes(), migration.devices[0].content());
    drop(streams);
}

/// Reads the final message, closes, and returns the result.
fn running_end(mut main: std::os::unix::net::UnixStream, running: Running<Finished>) -> Finished {
    let mut heard = [0; 20];
    std::io::Read::read_exact(&mut main, &mut heard).unwrap();
    assert!(heard.ends_with(SHUT_0));
    drop(main);
    running.finish()
}

#[test]
fn what_cannot_be_received_is_refused_when_it_is_described() {
    let listener = Listener::bind(loopback()).unwrap();
    let builder = || Receiver::builder().listener(&listener);
    let device = |name: &str| builder().device(name, TestSink::new().0);
    let refused = |builder: ReceiverBuilder| builder.build().map(|_| ()).unwrap_err().to_string();
    assert_eq!(refused(builder()), "no device was given");
    assert_eq!(refused(device(DEVICE).channels(256)), "256 channels were asked for, 1 to 255 are possible");
    assert!(refused(device("a\u{1b}b")).contains("no control characters"));
    assert!(refused(device(DEVICE).pool_size(1 << 20)).contains("these settings need 2105344"));
    assert!(device(DEVICE).channels(0).build().is_ok());
}

#[test]
fn a_stranger_in_place_of_a_source_is_told_from_one() {
    let (addr, running, journal) = one_device(1);
    let mut multifd = dial(addr);
    multifd.write_all(&small().multifd()[0][..INIT_LEN]).unwrap();
    let mut main: TcpStream = dial(addr);
    main.write_all(b"QEVM\0\0\0\x02").unwrap();
    let text = failed(&running.finish(), &journal);
    assert!(text.starts_with("the main connection, offset 0: its "), "{text}");
}

//! Whole transfers through the library, over real sockets: every kind of source and sink, every shape of session, and
//! how each side ends when something goes wrong in the middle.

mod common;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::device::{TestSink, TestSource, Trouble, failure};
use common::{POOL, Running, content, listen, pair, receive, run, send, socket_pairs};
use nix::sys::memfd::{MFdFlags, memfd_create};
use ringlift::error::{DeviceError, Error, Misuse, PeerError, Refusal, Side};
use ringlift::sink::{Discard, FdSink, FileSink, Verify};
use ringlift::source::{FdSource, FileSource, Null, Synthetic};
use ringlift::stats::WarningCode;
use ringlift::{Cancel, Checksum, Event, Finished, Outcome, Phase, Receiver, Sender, ZeroCopy};

fn assert_complete(sent: &Finished, received: &Finished) {
    assert!(sent.error.is_none(), "the sender: {}", sent.error.as_ref().expect("some"));
    assert!(received.error.is_none(), "the receiver: {}", received.error.as_ref().expect("some"));
    assert_eq!((sent.outcome, received.outcome), (Outcome::Complete, Outcome::Complete));
    assert_consistent(sent, received);
}

/// Both sides counted the same, and their own totals add up.
fn assert_consistent(sent: &Finished, received: &Finished) {
    let (sent, received) = (&sent.report, &received.report);
    assert_eq!((sent.role, received.role), ("sender", "receiver"));
    for report in [sent, received] {
        assert_eq!(report.schema, "ringlift.report.v1");
        assert_eq!(report.outcome, "complete");
        assert_eq!(report.bytes, report.devices.iter().map(|device| device.bytes).sum::<u64>());
        assert_eq!(report.packets, report.devices.iter().map(|device| device.packets).sum::<u64>());
        assert_eq!(report.bytes, report.channels.iter().map(|channel| channel.bytes).sum::<u64>());
        assert_eq!(report.packets, report.channels.iter().map(|channel| channel.packets).sum::<u64>());
        assert_eq!(report.settings.channels, report.channels.len() as u64);
        let downtime = report.downtime;
        assert_eq!(
            downtime.total_ns,
            downtime.stop_ns + downtime.transfer_ns + downtime.load_ns + downtime.commit_ns
        );
    }
    assert_eq!(sent.settings.packet_size, received.settings.packet_size);
    assert_eq!(sent.devices.len(), received.devices.len());
    for (sent, received) in sent.devices.iter().zip(&received.devices) {
        assert_eq!((&sent.name, sent.instance), (&received.name, received.instance));
        assert_eq!((sent.bytes, sent.packets), (received.bytes, received.packets), "{}", sent.name);
        assert_eq!(sent.config_bytes, received.config_bytes);
        assert_eq!(sent.crc32c, received.crc32c);
    }
    for (sent, received) in sent.channels.iter().zip(&received.channels) {
        assert_eq!((sent.id, sent.bytes, sent.packets), (received.id, received.bytes, received.packets));
    }
    let data = sent.packets - sent.devices.len() as u64;
    assert_eq!(sent.latency_ns.read.count, data, "each packet but the config packets is read once");
    assert_eq!(sent.latency_ns.queue.count, sent.packets);
    assert_eq!(sent.latency_ns.send.count, sent.packets);
    assert_eq!(received.latency_ns.reorder.count, received.packets);
    assert_eq!(received.latency_ns.write.count, received.packets);
    assert_eq!(received.latency_ns.end_to_end.count, received.packets, "one host has one clock");
}

fn assert_aborted(finished: &Finished) -> &Error {
    assert_eq!(finished.outcome, Outcome::Aborted);
    assert_eq!(finished.report.outcome, "aborted");
    let error = finished.error.as_ref().expect("an aborted transfer says why");
    let told = finished.report.error.as_ref().expect("and so does its report");
    assert_eq!((told.text.as_str(), told.hint), (error.to_string().as_str(), error.hint()));
    error
}

#[test]
fn synthetic_state_arrives_and_is_verified() {
    let listener = listen();
    let (sender, receiver) = pair(&listener, Synthetic::new(5_000_001), Verify::new());
    let (sent, received) = run(sender, receiver);
    assert_complete(&sent, &received);
    assert_eq!(sent.report.devices[0].bytes - sent.report.devices[0].config_bytes, 5_000_001);
}

#[test]
fn synthetic_state_of_another_seed_is_seen_and_nothing_runs() {
    let listener = listen();
    let (sender, receiver) = pair(&listener, Synthetic::new(100_000).seed(1), Verify::new().seed(2));
    let (sent, received) = run(sender, receiver);
    let error = assert_aborted(&received);
    assert_eq!(error.to_string(), "device net0: content differs from the generator's at byte 0");
    assert!(error.hint().expect("a hint").contains("synthetic"));
    let error = assert_aborted(&sent);
    assert!(matches!(error, Error::Peer(PeerError::Aborted { text }) if text.contains("net0")), "{error}");
}

#[test]
fn a_state_without_content_goes_nowhere_at_any_size() {
    for size in [0, 1, 3 << 20] {
        let listener = listen();
        let (sender, receiver) = pair(&listener, Null::new(size), Discard);
        let (sent, received) = run(sender, receiver);
        assert_complete(&sent, &received);
        assert_eq!(sent.report.bytes, size);
    }
}

#[test]
fn a_file_arrives_as_it_was_whatever_its_length() {
    let packet = 4096;
    for len in [0, 1, packet - 1, packet, packet + 1, 3 * packet, 1_000_003] {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::write(&from, content(len)).expect("written");
        let listener = listen();
        let source = FileSource::open(&from).expect("there");
        let sink = FileSink::create(&to).expect("a folder that can be written to");
        let (sender, receiver) = pair(&listener, source, sink);
        let (sent, received) = run(sender.packet_size(4096), receiver);
        assert_complete(&sent, &received);
        assert_eq!(sent.report.packets, len.div_ceil(packet) as u64 + 1, "the config packet, too");
        assert!(std::fs::read(&to).expect("there") == content(len), "{len} bytes");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 2, "nothing stays beside it");
    }
}

#[test]
fn a_memfd_arrives_in_another() {
    let memfd = |name: &str| File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC).expect("a memfd"));
    let (mut from, mut to) = (memfd("from"), memfd("to"));
    from.write_all(&content(2_000_000)).expect("written");
    from.rewind().expect("rewound");
    let given: OwnedFd = to.try_clone().expect("a second descriptor").into();
    let listener = listen();
    let (sender, receiver) = pair(&listener, FdSource::new(from.into()), FdSink::new(given));
    let (sent, received) = run(sender.packet_size(64 << 10), receiver);
    assert_complete(&sent, &received);
    let mut found = Vec::new();
    to.rewind().expect("rewound");
    to.read_to_end(&mut found).expect("read");
    assert!(found == content(2_000_000));
}

#[test]
fn a_pipe_arrives_in_another() {
    let ((from, mut writer), (mut reader, to)) =
        (std::io::pipe().expect("a pipe"), std::io::pipe().expect("a pipe"));
    let writing = Running::start(move || writer.write_all(&content(700_000)).is_ok());
    let reading = Running::start(move || {
        let mut found = Vec::new();
        reader.read_to_end(&mut found).map(|_| found)
    });
    let listener = listen();
    let (sender, receiver) = pair(&listener, FdSource::new(from.into()), FdSink::new(to.into()));
    let (sent, received) = run(sender, receiver);
    assert_complete(&sent, &received);
    assert!(writing.finish());
    assert!(reading.finish().expect("read") == content(700_000));
}

#[test]
fn a_device_of_the_embedders_own_is_moved_step_by_step() {
    let (mut source, from) = TestSource::new(content(300_000));
    (source.piece, source.config) = (10_000, content(64 << 10));
    let (mut sink, to) = TestSink::new();
    sink.piece = 7_001;
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, sink);
    let (sent, received) = run(sender.packet_size(64 << 10), receiver);
    assert_complete(&sent, &received);
    assert!(to.bytes() == content(300_000));
    assert!(to.blob().expect("config state") == content(64 << 10));
    assert_eq!(sent.report.devices[0].config_bytes, 64 << 10);
    assert_eq!(sent.report.devices[0].packets, 31);
    let steps = |journal: &common::device::Journal| {
        let mut steps = journal.steps();
        steps.dedup();
        steps
    };
    assert_eq!(steps(&from), ["start", "quiesce", "stop", "fill", "config", "release"]);
    assert_eq!(steps(&to), ["prepare", "drain", "config", "seal", "wake", "run"]);
}

#[test]
fn what_a_running_device_gives_is_part_of_its_state() {
    let (mut source, from) = TestSource::new(content(500_000));
    source.early = 200_000;
    let (sink, to) = TestSink::new();
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, sink);
    let (sent, received) = run(sender.packet_size(64 << 10), receiver);
    assert_complete(&sent, &received);
    assert!(to.bytes() == content(500_000));
    assert_eq!(sent.report.devices[0].precopy_bytes, 200_000);
    let steps = from.steps();
    let first = |step| steps.iter().position(|found| *found == step).expect("it came");
    assert!(first("fill") < first("stop"), "{steps:?}");
}

#[test]
fn no_device_stops_before_all_are_quiet_and_none_runs_before_all_are_awake() {
    let listener = listen();
    let (order, running) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let mut sender = Sender::builder().connect(listener.local_addr()).pool_size(POOL);
    let mut receiver = Receiver::builder().listener(&listener);
    for number in 0..4 {
        let name = format!("dev{number}");
        sender = sender.device(&name, Ordered(Arc::clone(&order)));
        receiver = receiver.device(&name, Ordered(Arc::clone(&running)));
    }
    let (sent, received) = run(sender, receiver);
    assert_complete(&sent, &received);
    assert_eq!(*order.lock().expect("whole"), [vec!["quiesce"; 4], vec!["stop"; 4]].concat());
    assert_eq!(*running.lock().expect("whole"), [vec!["wake"; 4], vec!["run"; 4]].concat());
}

/// Devices that share one journal.
struct Ordered(Arc<Mutex<Vec<&'static str>>>);

impl Ordered {
    fn note(&self, step: &'static str) -> Result<(), DeviceError> {
        self.0.lock().map_err(|_| failure())?.push(step);
        Ok(())
    }
}

impl ringlift::source::Source for Ordered {
    fn start(&mut self) -> Result<ringlift::source::Flow, DeviceError> {
        Ok(ringlift::source::Flow::Later)
    }
    fn quiesce(&mut self) -> Result<(), DeviceError> {
        self.note("quiesce")
    }
    fn stop(&mut self) -> Result<(), DeviceError> {
        self.note("stop")
    }
    fn release(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.note("rollback")
    }
}

impl ringlift::sink::Sink for Ordered {
    fn prepare(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
    fn seal(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
    fn wake(&mut self) -> Result<(), DeviceError> {
        self.note("wake")
    }
    fn run(&mut self) -> Result<(), DeviceError> {
        self.note("run")
    }
    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.note("rollback")
    }
}

#[test]
fn every_number_of_channels_carries_every_number_of_devices() {
    for channels in [1_u16, 2, 4, 16] {
        for devices in [1_u16, 2, 3, 8] {
            let listener = listen();
            let mut sender = Sender::builder().connect(listener.local_addr()).channels(channels);
            let mut receiver = Receiver::builder().listener(&listener);
            for number in 0..devices {
                let size = 50_000 * u64::from(number) + 1;
                sender = sender.device(format!("dev{number}"), Synthetic::new(size));
                // the other way round: names count, not places
                receiver = receiver.device(format!("dev{}", devices - 1 - number), Verify::new());
            }
            let (sent, received) = run(sender.packet_size(4096).pool_size(POOL), receiver);
            assert_complete(&sent, &received);
            assert_eq!(sent.report.channels.len(), usize::from(channels));
            assert_eq!(sent.report.devices.len(), usize::from(devices));
        }
    }
}

#[test]
fn as_many_channels_as_there_can_be_carry_a_device() {
    let listener = listen();
    let (sender, receiver) = pair(&listener, Synthetic::new(3_000_000), Verify::new());
    let (sent, received) = run(sender.channels(255).packet_size(4096), receiver);
    assert_complete(&sent, &received);
    assert_eq!(sent.report.channels.len(), 255);
}

#[test]
fn as_many_devices_as_there_can_be_are_moved() {
    let listener = listen();
    let mut sender = Sender::builder().connect(listener.local_addr()).pool_size(64 << 20);
    let mut receiver = Receiver::builder().listener(&listener);
    for number in 0..256 {
        sender = sender.device(format!("dev{number}"), Synthetic::new(10_000));
        receiver = receiver.device(format!("dev{number}"), Verify::new());
    }
    let (sent, received) = run(sender.packet_size(4096), receiver);
    assert_complete(&sent, &received);
}

#[test]
fn devices_of_one_name_are_told_apart_by_their_instance() {
    let listener = listen();
    let sender = Sender::builder().connect(listener.local_addr()).pool_size(POOL);
    let sender = sender.device("gpu", Synthetic::new(1000)).device("gpu", Null::new(7)).instance(3);
    let receiver = Receiver::builder().listener(&listener);
    let receiver = receiver.device("gpu", Discard).instance(3).device("gpu", Verify::new());
    let (sent, received) = run(sender, receiver);
    assert_complete(&sent, &received);
    assert_eq!(received.report.devices[1].instance, 3);
}

#[test]
fn packets_of_any_size_carry_the_state() {
    for packet_size in [4096, 4097, 64 << 10, 1 << 20, 16 << 20] {
        let listener = listen();
        let (sender, receiver) = pair(&listener, Synthetic::new(1_500_000), Verify::new());
        let (sent, received) = run(sender.packet_size(packet_size).pool_size(64 << 20), receiver);
        assert_complete(&sent, &received);
        let packets = 1_500_000_u64.div_ceil(packet_size.into()) + 1;
        assert_eq!(sent.report.packets, packets);
    }
}

#[test]
fn a_pool_of_one_packet_for_each_device_is_enough() {
    let listener = listen();
    let mut sender = Sender::builder().connect(listener.local_addr()).pool_size(3 * ((64 << 10) + 4096));
    let mut receiver = Receiver::builder().listener(&listener);
    for number in 0..3 {
        sender = sender.device(format!("dev{number}"), Synthetic::new(200_000));
        receiver = receiver.device(format!("dev{number}"), Verify::new());
    }
    let (sent, received) = run(sender.packet_size(4096).channels(4), receiver);
    assert_complete(&sent, &received);
    assert_eq!(sent.report.settings.pool_slots, 3);
    assert!(sent.report.backpressure.credit_stalls + sent.report.backpressure.pool_stalls > 0);
}

#[test]
fn payloads_can_be_left_unchecked() {
    let listener = listen();
    let (sender, receiver) = pair(&listener, Synthetic::new(1_000_000), Verify::new());
    let (sent, received) = run(sender.checksum(Checksum::None), receiver);
    assert_complete(&sent, &received);
    assert_eq!((sent.report.settings.checksum, received.report.settings.checksum), ("none", "none"));
    assert_eq!(sent.report.devices[0].crc32c, None);
}

#[test]
fn the_sum_in_the_reports_is_that_of_the_whole_state() {
    let (source, _) = TestSource::new(content(100_000));
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, Discard);
    let (sent, received) = run(sender.packet_size(4096).channels(4), receiver);
    assert_complete(&sent, &received);
    let sum = format!("{:08x}", ringlift::wire::crc32c(0, &content(100_000)));
    assert_eq!(received.report.devices[0].crc32c.as_deref(), Some(sum.as_str()));
}

#[test]
fn every_kind_of_zero_copy_moves_the_state() {
    for zero_copy in [ZeroCopy::Off, ZeroCopy::On, ZeroCopy::Auto] {
        let listener = listen();
        let (sender, receiver) = pair(&listener, Null::new(32 << 20), Discard);
        let sender = sender.zero_copy(zero_copy).channels(1).packet_size(256 << 10);
        let (sent, received) = run(sender, receiver);
        assert_complete(&sent, &received);
        let by_zero_copy = sent.report.channels[0].zero_copy_sent;
        let warned = sent.report.warnings.iter().any(|one| one.code == WarningCode::ZeroCopyCopied);
        match zero_copy {
            ZeroCopy::Off => assert_eq!((by_zero_copy, warned), (0, false)),
            ZeroCopy::On => assert!(by_zero_copy >= 128 && warned, "{by_zero_copy}, and loopback copies"),
            ZeroCopy::Auto => assert!((1..=16).contains(&by_zero_copy) && warned, "{by_zero_copy}"),
        }
    }
}

#[test]
fn pairs_of_sockets_that_are_connected_already_carry_the_state() {
    let (mut ours, mut theirs) = socket_pairs(4);
    let (control, peer_control) = (ours.remove(0), theirs.remove(0));
    // an embedder need not keep them in order
    theirs.reverse();
    let sender = Sender::builder().device("net0", Synthetic::new(3_000_000)).sockets(control, ours);
    let receiver = Receiver::builder().device("net0", Verify::new()).sockets(peer_control, theirs);
    let (sent, received) = run(sender.pool_size(POOL), receiver);
    assert_complete(&sent, &received);
    assert_eq!(sent.report.channels.len(), 3);
    assert_eq!(sent.report.settings.congestion, "", "there is none on such a socket");
}

#[test]
fn tcp_sockets_that_are_connected_already_carry_the_state() {
    let door = TcpListener::bind(common::loopback()).expect("a free port");
    let addr = door.local_addr().expect("bound");
    let connection = || {
        let one = TcpStream::connect(addr).expect("connected");
        (OwnedFd::from(one), OwnedFd::from(door.accept().expect("connected").0))
    };
    let ((control, peer_control), (data, peer_data)) = (connection(), connection());
    let sender = Sender::builder().device("net0", Synthetic::new(3_000_000)).sockets(control, vec![data]);
    let receiver = Receiver::builder().device("net0", Verify::new()).sockets(peer_control, vec![peer_data]);
    let (sent, received) = run(sender.pool_size(POOL), receiver);
    assert_complete(&sent, &received);
    assert!(!sent.report.settings.congestion.is_empty());
}

#[test]
fn the_congestion_control_that_was_asked_for_is_in_effect() {
    let listener = listen();
    let (sender, receiver) = pair(&listener, Synthetic::new(100_000), Verify::new());
    let (sent, received) = run(sender.congestion("reno"), receiver.congestion("reno"));
    assert_complete(&sent, &received);
    assert_eq!(sent.report.settings.congestion, "reno");
    assert_eq!(received.report.settings.congestion, "reno");
}

#[test]
fn a_congestion_control_that_is_not_there_is_an_error_that_names_those_that_are() {
    let listener = listen();
    let sender = Sender::builder().device("net0", Null::new(1)).connect(listener.local_addr());
    let sent = send(sender.congestion("turtle")).finish();
    let error = assert_aborted(&sent);
    assert!(matches!(error, Error::Kernel(_)), "{error}");
    assert!(error.hint().expect("a hint").contains("tcp_available_congestion_control"), "{:?}", error.hint());
}

#[test]
fn events_come_in_the_order_of_the_transfer() {
    let (heard, told) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let note = |events: &Arc<Mutex<Vec<Event>>>| {
        let events = Arc::clone(events);
        move |event: &Event| events.lock().expect("whole").push(event.clone())
    };
    let (mut source, _) = TestSource::new(content(1_000_000));
    source.early = 300_000;
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, Discard);
    let (sent, received) = run(sender.on_event(note(&told)), receiver.on_event(note(&heard)));
    assert_complete(&sent, &received);
    let phases = |events: &Arc<Mutex<Vec<Event>>>| -> Vec<Phase> {
        let events = events.lock().expect("whole");
        let phase = |event: &Event| if let Event::Phase(phase) = event { Some(*phase) } else { None };
        events.iter().filter_map(phase).collect()
    };
    use Phase::{Commit, Connecting, Done, Loading, PreCopy, Settings, StopCopy, Switchover};
    assert_eq!(
        phases(&told),
        [Connecting, Settings, PreCopy, Switchover, StopCopy, Loading, Commit, Done],
        "the sender"
    );
    let receiving = phases(&heard);
    assert_eq!(receiving.first(), Some(&Connecting));
    assert_eq!(receiving.last(), Some(&Done));
    assert!(receiving.contains(&Settings) && receiving.contains(&Commit), "{receiving:?}");
    for events in [told, heard] {
        let events = events.lock().expect("whole");
        let connected = events.iter().position(|event| matches!(event, Event::Connected { channels: 2, .. }));
        assert_eq!(connected, Some(1), "between connecting and settings: {events:?}");
        let mut last = 0;
        for event in events.iter() {
            if let Event::Progress { bytes, estimate, .. } = event {
                assert!(*bytes >= last && *bytes <= 1_000_000, "progress never goes back");
                let settled = *estimate == Some(1_000_000);
                assert!(settled || (*bytes, *estimate) == (0, None), "{event:?}");
                last = *bytes;
            }
        }
    }
}

#[test]
fn the_owner_is_called_once_before_the_devices_stop() {
    let (source, from) = TestSource::new(content(1000));
    let (calls, journal) = (Arc::new(AtomicUsize::new(0)), from.clone());
    let counted = Arc::clone(&calls);
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, Discard);
    let sender = sender.before_switchover(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        assert!(journal.did("start") && !journal.did("quiesce") && !journal.did("stop"));
    });
    let (sent, received) = run(sender, receiver);
    assert_complete(&sent, &received);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert!(from.did("stop"));
}

#[test]
fn a_listener_takes_one_transfer_after_the_other() {
    let listener = listen();
    for size in [1, 100_000, 2_000_000] {
        let (sender, receiver) = pair(&listener, Synthetic::new(size), Verify::new());
        let (sent, received) = run(sender, receiver);
        assert_complete(&sent, &received);
    }
}

#[test]
fn transfers_through_several_listeners_do_not_disturb_each_other() {
    let transfer = |size| {
        Running::start(move || {
            let listener = listen();
            let (sender, receiver) = pair(&listener, Synthetic::new(size), Verify::new());
            run(sender, receiver)
        })
    };
    let transfers: Vec<_> = (1..5).map(|number| transfer(number * 500_000)).collect();
    for transfer in transfers {
        let (sent, received) = transfer.finish();
        assert_complete(&sent, &received);
    }
}

/// How a transfer ended that the sender's owner cancelled while `step` of one of the devices was under way.
fn cancelled_by_the_sender(step: &'static str, at_the_source: bool) {
    let (mut source, from) = TestSource::new(content(300_000));
    source.early = 100_000;
    let (sink, to) = TestSink::new();
    let held = if at_the_source { from.clone() } else { to.clone() };
    held.expect(step, Trouble::Wait);
    let (listener, cancel) = (listen(), Cancel::new());
    let (sender, receiver) = pair(&listener, source, sink);
    let receiving = receive(receiver);
    let sending = send(sender.cancel(&cancel));
    held.await_step(step);
    cancel.cancel();
    held.let_go(step);
    let (sent, received) = (sending.finish(), receiving.finish());
    assert!(matches!(assert_aborted(&sent), Error::Cancelled), "{step}: {:?}", sent.error);
    let error = assert_aborted(&received);
    assert!(matches!(error, Error::Peer(PeerError::Cancelled)), "{step}: {error}");
    assert_eq!(from.steps().last(), Some(&"rollback"), "{step}: {:?}", from.steps());
    assert_eq!(to.steps().last(), Some(&"rollback"), "{step}: {:?}", to.steps());
    assert!(!to.did("run") && !to.did("wake") && !from.did("release"));
}

#[test]
fn a_sender_that_is_cancelled_rolls_both_sides_back_at_any_moment() {
    for step in ["start", "quiesce", "stop", "config"] {
        cancelled_by_the_sender(step, true);
    }
    for step in ["prepare", "config", "seal"] {
        cancelled_by_the_sender(step, false);
    }
}

/// How a transfer ended that the receiver's owner cancelled while `step` of one of the devices was under way.
fn cancelled_by_the_receiver(step: &'static str, at_the_source: bool) {
    let (source, from) = TestSource::new(content(300_000));
    let (sink, to) = TestSink::new();
    let held = if at_the_source { from.clone() } else { to.clone() };
    held.expect(step, Trouble::Wait);
    let (listener, cancel) = (listen(), Cancel::new());
    let (sender, receiver) = pair(&listener, source, sink);
    let receiving = receive(receiver.cancel(&cancel));
    let sending = send(sender);
    held.await_step(step);
    cancel.cancel();
    held.let_go(step);
    let (sent, received) = (sending.finish(), receiving.finish());
    assert!(matches!(assert_aborted(&received), Error::Cancelled), "{step}: {:?}", received.error);
    let error = assert_aborted(&sent);
    assert!(matches!(error, Error::Peer(PeerError::Cancelled)), "{step}: {error}");
    assert_eq!(to.steps().last(), Some(&"rollback"), "{step}: {:?}", to.steps());
    assert_eq!(from.steps().last(), Some(&"rollback"), "{step}: {:?}", from.steps());
    assert!(!to.did("run") && !to.did("wake") && !from.did("release"));
}

#[test]
fn a_receiver_that_is_cancelled_rolls_both_sides_back_at_any_moment() {
    for step in ["start", "quiesce", "stop", "config"] {
        cancelled_by_the_receiver(step, true);
    }
    for step in ["prepare", "config", "seal"] {
        cancelled_by_the_receiver(step, false);
    }
}

#[test]
fn a_receiver_that_is_cancelled_after_commit_goes_through() {
    let (sink, to) = TestSink::new();
    to.expect("wake", Trouble::Wait);
    let (listener, cancel) = (listen(), Cancel::new());
    let (sender, receiver) = pair(&listener, Synthetic::new(1000), sink);
    let receiving = receive(receiver.cancel(&cancel));
    let sending = send(sender.cancel(&cancel));
    to.await_step("wake");
    cancel.cancel();
    to.let_go("wake");
    assert_complete(&sending.finish(), &receiving.finish());
}

#[test]
fn both_sides_are_cancelled_at_once_and_both_roll_back() {
    let (source, from) = TestSource::new(content(300_000));
    let (sink, to) = TestSink::new();
    to.expect("seal", Trouble::Wait);
    let (listener, cancel) = (listen(), Cancel::new());
    let (sender, receiver) = pair(&listener, source, sink);
    let receiving = receive(receiver.cancel(&cancel));
    let sending = send(sender.cancel(&cancel));
    to.await_step("seal");
    cancel.cancel();
    to.let_go("seal");
    for finished in [sending.finish(), receiving.finish()] {
        let error = assert_aborted(&finished);
        assert!(matches!(error, Error::Cancelled | Error::Peer(PeerError::Cancelled)), "{error}");
    }
    assert_eq!((from.steps().last(), to.steps().last()), (Some(&"rollback"), Some(&"rollback")));
}

#[test]
fn a_receiver_that_waits_for_a_peer_can_be_cancelled() {
    let (sink, to) = TestSink::new();
    let (listener, cancel) = (listen(), Cancel::new());
    let (_, receiver) = pair(&listener, Null::new(1), sink);
    let receiving = receive(receiver.cancel(&cancel));
    cancel.cancel();
    let received = receiving.finish();
    assert!(matches!(assert_aborted(&received), Error::Cancelled));
    assert_eq!(to.steps(), [""; 0], "a device that nobody touched is left alone");
}

#[test]
fn what_was_cancelled_before_it_began_does_not_begin() {
    let (source, from) = TestSource::new(content(10));
    let (listener, cancel) = (listen(), Cancel::new());
    cancel.cancel();
    let sender = Sender::builder().device("net0", source).connect(listener.local_addr()).cancel(&cancel);
    let sent = send(sender).finish();
    assert!(matches!(assert_aborted(&sent), Error::Cancelled));
    assert!(!from.did("start"));
}

#[test]
fn a_source_that_waits_for_ever_can_be_cancelled() {
    let (from, _writer) = std::io::pipe().expect("a pipe");
    let (sink, to) = TestSink::new();
    let (listener, cancel) = (listen(), Cancel::new());
    let (sender, receiver) = pair(&listener, FdSource::new(from.into()), sink);
    let receiving = receive(receiver);
    let reading = cancel.clone();
    let sending = send(sender.cancel(&cancel).on_event(move |event| {
        if matches!(event, Event::Phase(Phase::StopCopy)) {
            reading.cancel();
        }
    }));
    assert!(matches!(assert_aborted(&sending.finish()), Error::Cancelled));
    assert!(matches!(assert_aborted(&receiving.finish()), Error::Peer(PeerError::Cancelled)));
    assert_eq!(to.steps().last(), Some(&"rollback"));
}

#[test]
fn a_sink_that_takes_nothing_more_can_be_cancelled_and_keeps_what_it_took() {
    let (reader, to) = std::io::pipe().expect("a pipe");
    let (listener, cancel) = (listen(), Cancel::new());
    let (sender, receiver) = pair(&listener, Synthetic::new(4_000_000), FdSink::new(to.into()));
    let receiving = receive(receiver.cancel(&cancel));
    let sending = send(sender);
    // a pipe that has bytes has taken some, and 4 MB are more than it takes
    let mut first = [0; 1];
    (&reader).read_exact(&mut first).expect("a byte");
    cancel.cancel();
    let received = receiving.finish();
    assert!(matches!(assert_aborted(&received), Error::Cancelled));
    assert!(matches!(assert_aborted(&sending.finish()), Error::Peer(PeerError::Cancelled)));
    drop(reader);
    // whether a part of a write counts is the kernel's to say; that nothing is claimed to be taken back is ours
    assert_eq!(received.report.outcome, "aborted");
}

#[test]
fn what_takes_longer_than_its_deadline_is_rolled_back() {
    let (source, from) = TestSource::new(content(300_000));
    let (sink, to) = TestSink::new();
    to.expect("seal", Trouble::Wait);
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, sink);
    let receiving = receive(receiver);
    let sent = send(sender.deadline(Duration::from_millis(200))).finish();
    let error = assert_aborted(&sent);
    assert_eq!(error.to_string(), "the deadline passed before every device was loaded");
    to.let_go("seal");
    let received = receiving.finish();
    let error = assert_aborted(&received);
    assert!(
        matches!(error, Error::Peer(PeerError::Aborted { text }) if text.contains("deadline")),
        "{error}"
    );
    assert_eq!(from.steps().last(), Some(&"rollback"));
    assert_eq!(to.steps().last(), Some(&"rollback"));
}

#[test]
fn a_deadline_that_passes_while_connecting_is_a_deadline() {
    let (source, from) = TestSource::new(content(10));
    // it listens and never answers
    let door = TcpListener::bind(common::loopback()).expect("a free port");
    let addr = door.local_addr().expect("bound");
    let sender = Sender::builder().device("net0", source).connect(addr).deadline(Duration::from_millis(50));
    let sent = send(sender).finish();
    assert!(matches!(assert_aborted(&sent), Error::Deadline), "{:?}", sent.error);
    assert!(!from.did("start"));
}

#[test]
fn a_transfer_that_is_done_in_time_does_not_care_for_its_deadline() {
    let listener = listen();
    let (sender, receiver) = pair(&listener, Synthetic::new(1000), Verify::new());
    let (sent, received) = run(sender.deadline(Duration::from_secs(30)), receiver);
    assert_complete(&sent, &received);
}

/// What each side says when a step of the source fails or panics.
fn trouble_at_the_source(step: &'static str, trouble: Trouble) {
    let (mut source, from) = TestSource::new(content(300_000));
    source.trouble_at = 100_000;
    from.expect(step, trouble);
    let (sink, to) = TestSink::new();
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, sink);
    let (sent, received) = run(sender.packet_size(64 << 10), receiver);
    let expected = if trouble == Trouble::Fail { failure() } else { DeviceError::Panicked };
    let error = assert_aborted(&sent);
    assert_eq!(error.to_string(), format!("device net0: {expected}"), "{step}");
    assert!(error.hint().is_some());
    let error = assert_aborted(&received);
    assert!(
        matches!(error, Error::Peer(PeerError::Aborted { text }) if text.contains("net0")),
        "{step}: {error}"
    );
    assert_eq!(from.steps().last(), Some(&"rollback"), "{step}: {:?}", from.steps());
    assert_eq!(to.steps().last(), Some(&"rollback"), "{step}: {:?}", to.steps());
    assert!(!to.did("run"));
    // and the same listener takes the next
    let (sender, receiver) = pair(&listener, Synthetic::new(1000), Verify::new());
    let (sent, received) = run(sender, receiver);
    assert_complete(&sent, &received);
}

#[test]
fn a_source_that_fails_in_any_step_rolls_both_sides_back() {
    for step in ["start", "quiesce", "stop", "fill", "config"] {
        trouble_at_the_source(step, Trouble::Fail);
    }
}

#[test]
fn a_source_whose_steps_panic_is_an_error_and_no_crash() {
    for step in ["start", "quiesce", "stop", "config"] {
        trouble_at_the_source(step, Trouble::Panic);
    }
}

#[test]
fn a_source_that_panics_while_it_is_read_is_an_error_and_no_crash() {
    trouble_at_the_source("fill", Trouble::Panic);
}

/// What each side says when a step of the sink fails or panics.
fn trouble_at_the_sink(step: &'static str, trouble: Trouble) {
    let (source, from) = TestSource::new(content(300_000));
    let (sink, to) = TestSink::new();
    to.expect(step, trouble);
    let (neighbour, beside) = TestSink::new();
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, sink);
    let sender = sender.device("net1", Synthetic::new(10));
    let (sent, received) = run(sender.packet_size(64 << 10), receiver.device("net1", neighbour));
    let expected = if trouble == Trouble::Fail { failure() } else { DeviceError::Panicked };
    let error = assert_aborted(&received);
    assert_eq!(error.to_string(), format!("device net0: {expected}"), "{step}");
    let error = assert_aborted(&sent);
    match error {
        Error::Refused { by: Side::Receiver, reason: Refusal::NotReady { text } } if step == "prepare" => {
            assert!(text.contains("net0"), "{text}");
        }
        Error::Peer(PeerError::Aborted { text }) => assert!(text.contains("net0"), "{text}"),
        other => unreachable!("{step}: {other}"),
    }
    for journal in [&to, &beside, &from] {
        assert_eq!(journal.steps().last(), Some(&"rollback"), "{step}: {:?}", journal.steps());
    }
    assert!(!from.did("release"));
}

#[test]
fn a_sink_that_fails_in_any_step_rolls_both_sides_back_even_after_commit() {
    for step in ["prepare", "drain", "config", "seal", "wake", "run"] {
        trouble_at_the_sink(step, Trouble::Fail);
    }
}

#[test]
fn a_sink_whose_steps_panic_is_an_error_and_no_crash() {
    for step in ["prepare", "config", "seal", "wake", "run"] {
        trouble_at_the_sink(step, Trouble::Panic);
    }
}

#[test]
fn a_sink_that_panics_while_it_is_written_is_an_error_and_no_crash() {
    trouble_at_the_sink("drain", Trouble::Panic);
}

#[test]
fn a_panic_of_the_owners_code_goes_on_after_the_devices_are_back() {
    for hook in [true, false] {
        let (source, from) = TestSource::new(content(300_000));
        let (sink, to) = TestSink::new();
        let listener = listen();
        let (sender, receiver) = pair(&listener, source, sink);
        let sender = if hook {
            sender.before_switchover(|| panic!("a panic that this test wants"))
        } else {
            sender.on_event(|event| {
                assert!(!matches!(event, Event::Phase(Phase::StopCopy)), "a panic that this test wants")
            })
        };
        let sender = sender.build().expect("a sender");
        let receiver = receiver.build().expect("a receiver");
        let receiving = std::thread::spawn(move || receiver.run());
        let sent = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sender.run()));
        assert!(sent.is_err(), "the panic is the owner's to see");
        let received = receiving.join().expect("the receiver ends");
        let error = assert_aborted(&received);
        assert!(matches!(error, Error::Peer(PeerError::Cancelled)), "{error}");
        assert_eq!((from.steps().last(), to.steps().last()), (Some(&"rollback"), Some(&"rollback")));
    }
}

#[test]
fn a_sink_that_cannot_be_reset_after_commit_leaves_the_sender_in_doubt() {
    let (source, from) = TestSource::new(content(1000));
    let (sink, to) = TestSink::new();
    to.expect("run", Trouble::Fail);
    to.expect("rollback", Trouble::Fail);
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, sink);
    let (sent, received) = run(sender, receiver);
    assert_eq!(sent.outcome, Outcome::InDoubt);
    assert!(matches!(sent.error, Some(Error::InDoubt { .. })));
    assert_eq!(from.steps().last(), Some(&"park"));
    assert!(received.report.warnings.iter().any(|one| one.code == WarningCode::RollbackFailed));
}

#[test]
fn a_source_that_cannot_be_read_is_named_with_its_errno() {
    let (sink, to) = TestSink::new();
    let folder = File::open("/").expect("a folder");
    let listener = listen();
    let (sender, receiver) = pair(&listener, FdSource::new(folder.into()), sink);
    let (sent, received) = run(sender, receiver);
    let error = assert_aborted(&sent);
    assert_eq!(error.to_string(), "device net0: reading its state failed: EISDIR (Is a directory)");
    assert_aborted(&received);
    assert_eq!(to.steps().last(), Some(&"rollback"));
}

#[test]
fn a_full_disk_is_named_with_its_errno() {
    let full = File::options().write(true).open("/dev/full").expect("every Linux has it");
    let listener = listen();
    let (sender, receiver) = pair(&listener, Synthetic::new(3_000_000), FdSink::new(full.into()));
    let (sent, received) = run(sender, receiver);
    let error = assert_aborted(&received);
    assert_eq!(error.to_string(), "device net0: writing its state failed: ENOSPC (No space left on device)");
    assert_aborted(&sent);
}

#[test]
fn a_sink_that_is_open_for_reading_alone_is_refused_before_anything_moves() {
    let (source, from) = TestSource::new(content(1000));
    let sink = FdSink::new(File::open("/dev/null").expect("every Linux has it").into());
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, sink);
    let (sent, received) = run(sender, receiver);
    let error = assert_aborted(&received);
    assert_eq!(error.to_string(), "device net0: write to descriptor failed: EBADF (Bad file number)");
    let error = assert_aborted(&sent);
    assert!(matches!(error, Error::Refused { reason: Refusal::NotReady { .. }, .. }), "{error}");
    assert!(!from.did("start") && !from.did("stop"), "the source never stood still");
}

#[test]
fn a_sink_that_is_full_is_an_error_that_says_where() {
    let (mut sink, to) = TestSink::new();
    sink.room = 100_000;
    let listener = listen();
    let (sender, receiver) = pair(&listener, Synthetic::new(300_000), sink);
    let (sent, received) = run(sender.packet_size(64 << 10), receiver);
    let error = assert_aborted(&received);
    assert_eq!(error.to_string(), "device net0: the device took no more bytes at byte 100000 of its state");
    assert_aborted(&sent);
    assert_eq!(to.steps().last(), Some(&"rollback"));
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn an_aborted_transfer_leaves_no_file_and_an_old_one_unharmed() {
    for old in [None, Some(b"old state".as_slice())] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        if let Some(old) = old {
            std::fs::write(&path, old).expect("written");
        }
        let (source, from) = TestSource::new(content(300_000));
        from.expect("config", Trouble::Fail);
        let listener = listen();
        let (sender, receiver) = pair(&listener, source, FileSink::create(&path).expect("writable"));
        let (sent, received) = run(sender, receiver);
        assert_aborted(&sent);
        assert_aborted(&received);
        match old {
            None => assert_eq!(names_in(folder.path()), [""; 0]),
            Some(old) => {
                assert_eq!(names_in(folder.path()), ["state"]);
                assert_eq!(std::fs::read(&path).expect("there"), old);
            }
        }
    }
}

#[test]
fn a_file_that_took_its_name_gives_it_back_when_another_device_cannot_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    std::fs::write(&path, b"old state").expect("written");
    let (sink, to) = TestSink::new();
    to.expect("run", Trouble::Fail);
    let listener = listen();
    let (sender, receiver) =
        pair(&listener, Synthetic::new(1000), FileSink::create(&path).expect("writable"));
    let (sent, received) = run(sender.device("net1", Null::new(1)), receiver.device("net1", sink));
    assert_aborted(&sent);
    assert_aborted(&received);
    assert_eq!(std::fs::read(&path).expect("there"), b"old state");
    assert_eq!(names_in(folder.path()), ["state"]);
}

#[test]
fn a_source_is_left_where_it_was_when_a_transfer_is_aborted() {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&content(100_000)).expect("written");
    file.seek(std::io::SeekFrom::Start(1000)).expect("there");
    let given: OwnedFd = file.try_clone().expect("a second descriptor").into();
    let (sink, to) = TestSink::new();
    to.expect("seal", Trouble::Fail);
    let listener = listen();
    let (sender, receiver) = pair(&listener, FdSource::new(given), sink);
    let (sent, received) = run(sender, receiver);
    assert_aborted(&sent);
    assert_aborted(&received);
    assert_eq!(file.stream_position().expect("a file"), 1000);
}

#[test]
fn devices_that_are_on_one_side_only_are_named_by_both() {
    for (theirs, named) in [(vec!["disk0"], "net0"), (vec!["net0", "disk0"], "disk0")] {
        let (source, from) = TestSource::new(content(1000));
        let listener = listen();
        let mut receiver = Receiver::builder().listener(&listener);
        for name in theirs {
            receiver = receiver.device(name, Discard);
        }
        let sender = Sender::builder().device("net0", source).connect(listener.local_addr());
        let (sent, received) = run(sender, receiver);
        for finished in [&sent, &received] {
            let error = assert_aborted(finished);
            let text = format!("refused by the receiver: device {named} is on one side only");
            assert_eq!(error.to_string(), text);
            assert!(error.hint().expect("a hint").contains("same device names"));
        }
        assert!(!from.did("start"));
    }
}

#[test]
fn a_pool_beyond_what_the_receiver_allows_is_refused() {
    let listener = listen();
    let (sender, receiver) = pair(&listener, Null::new(1), Discard);
    let (sent, received) = run(sender.pool_size(64 << 20), receiver.pool_max(32 << 20));
    for finished in [&sent, &received] {
        let error = assert_aborted(finished);
        assert!(matches!(error, Error::Refused { reason: Refusal::Settings { .. }, .. }), "{error}");
        assert!(error.to_string().contains("67108864"), "{error}");
    }
}

#[test]
fn a_port_in_use_is_an_error_with_a_hint() {
    let listener = listen();
    let error = ringlift::Listener::bind(listener.local_addr()).expect_err("one at a time");
    assert!(matches!(error, Error::Kernel(_)), "{error}");
    assert!(error.to_string().contains("EADDRINUSE"), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn a_port_where_nobody_listens_is_an_error_with_a_hint() {
    let addr = listen().local_addr();
    let (source, from) = TestSource::new(content(10));
    let sent = send(Sender::builder().device("net0", source).connect(addr)).finish();
    let error = assert_aborted(&sent);
    assert!(error.to_string().contains("ECONNREFUSED"), "{error}");
    assert!(error.hint().expect("a hint").contains("ringlift recv"), "{:?}", error.hint());
    assert!(!from.did("start"));
}

#[test]
fn a_second_sender_is_told_that_the_receiver_is_busy_and_the_first_goes_on() {
    let (sink, to) = TestSink::new();
    to.expect("seal", Trouble::Wait);
    let listener = listen();
    let (sender, receiver) = pair(&listener, Synthetic::new(1000), sink);
    let receiving = receive(receiver);
    let sending = send(sender);
    to.await_step("seal");
    let second = Sender::builder().device("net0", Null::new(1)).connect(listener.local_addr());
    let error = send(second).finish().error.expect("one at a time");
    assert!(matches!(error, Error::Refused { reason: Refusal::Busy, .. }), "{error}");
    to.let_go("seal");
    assert_complete(&sending.finish(), &receiving.finish());
}

#[test]
fn no_sockets_at_all_are_misuse() {
    let (mut ours, _theirs) = socket_pairs(1);
    let control = ours.remove(0);
    let sender = Sender::builder().device("net0", Null::new(1)).sockets(control, Vec::new());
    assert_eq!(sender.build().err(), Some(Misuse::BadChannels { given: 0 }));
}

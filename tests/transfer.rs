//! Whole transfers through the library, over real sockets: every kind of source and sink, and every shape of
//! session.

mod common;

use std::convert::Infallible;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::device::{TestSink, TestSource, Trouble, failure};
use common::outcome::{assert_aborted, assert_complete};
use common::{POOL, Running, content, listen, pair, run, send, socket_pairs};
use nix::sys::memfd::{MFdFlags, memfd_create};
use ringlift::error::{DeviceError, Error, ErrorCode, PeerError};
use ringlift::report::WarningCode;
use ringlift::sink::{Discard, FdSink, FileSink, Verify};
use ringlift::source::{FdSource, FileSource, Null, Synthetic};
use ringlift::{Checksum, Event, Phase, PreCopyHold, Receiver, Sender, ZeroCopy};

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
    assert!(
        matches!(error, Error::Peer(PeerError::Aborted { text, .. }) if text.contains("net0")),
        "{error}"
    );
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
    assert_eq!(steps(&to), ["prepare", "drain", "config", "seal", "pre_run", "run"]);
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
fn no_device_stops_before_all_are_quiet_and_none_runs_before_all_have_pre_run() {
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
    assert_eq!(*running.lock().expect("whole"), [vec!["pre_run"; 4], vec!["run"; 4]].concat());
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
        Ok(ringlift::source::Flow::StopCopyOnly)
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
    fn pre_run(&mut self) -> Result<(), DeviceError> {
        self.note("pre_run")
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
                // in reverse order: devices are matched by name, not by position
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

/// The default pool had no room for more than 63 devices, and the sender was told of a pool that it had never asked for.
#[test]
fn as_many_devices_as_there_can_be_are_moved_with_the_default_settings() {
    let listener = listen();
    let mut sender = Sender::builder().connect(listener.local_addr());
    let mut receiver = Receiver::builder().listener(&listener);
    for number in 0..256 {
        sender = sender.device(format!("dev{number}"), Synthetic::new(96));
        receiver = receiver.device(format!("dev{number}"), Verify::new());
    }
    let (sent, received) = run(sender, receiver);
    assert_complete(&sent, &received);
    assert!(sent.report.settings.pool_slots >= 2 * 256, "each has room for its state and its config state");
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
    let checksums = [&sent, &received].map(|finished| finished.report.settings.checksum);
    assert_eq!(checksums, [Checksum::None.into(); 2]);
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
    assert_eq!(sent.report.settings.congestion, "", "such a socket has none");
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
fn the_caller_is_called_once_before_the_devices_stop() {
    let (source, from) = TestSource::new(content(1000));
    let (calls, journal) = (Arc::new(AtomicUsize::new(0)), from.clone());
    let counted = Arc::clone(&calls);
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, Discard);
    let sender = sender.before_switchover(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        assert!(journal.did("start") && !journal.did("quiesce") && !journal.did("stop"));
        Ok::<_, Infallible>(())
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

/// Drivers such as hisi_acc's and qat's check early in pre-copy whether the state can be theirs.
#[test]
fn a_device_that_refuses_state_in_pre_copy_costs_no_downtime_and_both_sides_say_so() {
    let (mut source, from) = TestSource::new(content(300_000));
    source.early = 100_000;
    let (sink, to) = TestSink::new();
    to.expect("drain", Trouble::Fail);
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, sink);
    // the sender stays in pre-copy for as long as the receiver is content
    let hold = PreCopyHold::new();
    let (sent, received) = run(sender.hold_pre_copy(&hold), receiver);
    let (ours, theirs) = (assert_aborted(&sent), assert_aborted(&received));
    assert_eq!(
        theirs.to_string(),
        "device net0: failing as told failed: EIO (I/O error); the sender had not announced yet that it stops its devices"
    );
    assert_eq!(theirs.code(), ErrorCode::DeviceRefusedEarly as u32);
    assert_eq!(
        ours.to_string(),
        format!("a device of the receiver refused the state that was read in pre-copy: {theirs}")
    );
    assert_eq!(ours.code(), ErrorCode::PeerDeviceRefused as u32);
    assert!(ours.hint().unwrap().starts_with("no device here was stopped"));
    let steps: Vec<_> = from.steps().into_iter().filter(|step| *step != "fill").collect();
    assert_eq!(steps, ["start", "rollback"]);
    assert_eq!(sent.report.downtime.total_ns, 0);
}

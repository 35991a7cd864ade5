//! Captures of what a real QEMU sent: complete migrations, and broken ones.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use common::source::{Source, Streams, dial, migrate};
use common::{Running, loopback};
use ringlift::error::{Error, PeerError, Place, QemuError, StreamPart};
use ringlift::qemu::{Capture, CaptureBuilder, Captured, Listener};
use ringlift::report::{Answer, StreamOutcome};
use ringlift::wire::qemu::{PREFIX_LEN, Packet};
use ringlift::{Cancel, Event};
use tempfile::TempDir;

const DEVICE: &str = "0000:00:01.0/vfio";
const SHUT_1: &[u8] = &[0, 1, 0, 4, 0, 0, 0, 1];

/// A capture that waits, and its address.
fn begin(channels: usize) -> (SocketAddr, CaptureBuilder) {
    let listener = Listener::bind(loopback()).unwrap();
    (listener.local_addr(), Capture::builder().listener(listener).channels(channels).pool_size(8 << 20))
}

fn start(builder: CaptureBuilder) -> Running<Captured> {
    let capture = builder.build().unwrap();
    Running::start(move || capture.run())
}

/// A capture of `streams` into a new folder, and what the source received.
fn capture(streams: &Streams, return_path: bool) -> (Captured, TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let (addr, builder) = begin(streams.multifd.len());
    let running = start(builder.folder(folder.path()));
    let heard = migrate(addr, streams, return_path);
    (running.finish(), folder, heard)
}

fn error_of(captured: &Captured) -> &QemuError {
    match captured.error.as_ref() {
        Some(Error::Peer(PeerError::Qemu(error))) => error,
        other => panic!("{other:?}"),
    }
}

/// Asserts that what was recorded is a prefix of what was sent; all of it if `complete`.
fn assert_recorded(folder: &Path, streams: &Streams, complete: bool) {
    let name = |id| format!("multifd-{id}.bin");
    let files = streams.multifd.iter().enumerate().map(|(id, bytes)| (name(id), bytes));
    for (name, sent) in files.chain([("main.bin".to_owned(), &streams.main)]) {
        let found = fs::read(folder.join(&name)).unwrap();
        assert!(sent.starts_with(&found), "{name}");
        assert!(!complete || found.len() == sent.len(), "{name} has {} of {}", found.len(), sent.len());
        assert_times(&folder.join(name.replace(".bin", ".times")), found.len() as u64);
    }
}

/// Asserts that times and offsets only grow, and that the last offset is the end of the file.
fn assert_times(path: &Path, len: u64) {
    let bytes = fs::read(path).unwrap();
    let numbers: Vec<u64> =
        bytes.chunks(8).map(|number| u64::from_be_bytes(number.try_into().unwrap())).collect();
    let records: Vec<&[u64]> = numbers.chunks(2).collect();
    assert!(records.windows(2).all(|pair| pair[0][0] < pair[1][0] && pair[0][1] <= pair[1][1]), "{path:?}");
    assert_eq!(records.last().map_or(0, |last| last[0]), len, "{path:?}");
}

#[test]
fn a_migration_is_recorded_byte_by_byte_and_answered_as_qemu_answers_it() {
    let streams = Streams::of("device-on-channels-ack");
    let (captured, folder, heard) = capture(&streams, true);
    assert!(captured.error.is_none(), "{captured:?}");
    assert_recorded(folder.path(), &streams, true);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qemu/device-on-channels-ack");
    assert_eq!(heard, fs::read(fixture.join("main.back.bin")).unwrap(), "as a QEMU destination sent");
    assert_eq!(fs::read(folder.path().join("main.back.bin")).unwrap(), heard);
}

#[test]
fn a_report_has_what_travelled_where() {
    let streams = Streams::of("device-on-channels-ack");
    let report = capture(&streams, true).0.report;
    assert_eq!((report.outcome, report.machine.as_deref()), (StreamOutcome::Complete, Some("pc-q35-10.0")));
    assert_eq!(report.uuid.as_deref(), Some("00000000-0000-0000-0000-000000000000"));
    let device = &report.devices[0];
    assert_eq!((device.idstr.as_str(), device.instance, device.packets), (DEVICE, 0, 2));
    assert_eq!((device.data_bytes, device.config_bytes, device.precopy_bytes), (72, 4132, 24));
    assert!(device.switchover_ns.is_some() && report.switchover_ns == device.switchover_ns);
    assert!(report.main.ended && report.main.return_path);
    for (id, channel) in report.channels.iter().enumerate() {
        let packets = streams.packets(id);
        let count = |is: fn(&Packet) -> bool| packets.iter().filter(|(_, packet)| is(packet)).count() as u64;
        assert_eq!((channel.id, channel.packets), (id as u64, packets.len() as u64));
        assert_eq!(channel.sync, count(|packet| matches!(packet, Packet::Sync(_))));
        assert_eq!(channel.sync, report.main.flushes);
        assert_eq!(channel.device_packets, count(|packet| matches!(packet, Packet::Device(_))));
        assert_eq!(channel.ram_packets, channel.packets - channel.device_packets);
    }
    let sent = streams.main.len() + streams.multifd.iter().map(Vec::len).sum::<usize>();
    assert_eq!(report.bytes, sent as u64);
    assert_eq!((report.packets.device.size_bytes.count, report.packets.device.size_bytes.min), (2, 276 + 84));
    let answers: Vec<_> = report.answers.iter().map(|answer| (answer.message, answer.value)).collect();
    assert_eq!(answers, [(Answer::Pong, Some(1)), (Answer::SwitchoverAck, None), (Answer::Shut, Some(0))]);
}

#[test]
fn a_source_without_return_path_closes_and_that_is_the_end() {
    for name in ["device-on-channels", "device-on-main", "one-connection"] {
        let streams = Streams::of(name);
        let (captured, folder, _) = capture(&streams, false);
        assert!(captured.error.is_none(), "{name}: {captured:?}");
        assert_recorded(folder.path(), &streams, true);
        assert!(!folder.path().join("main.back.bin").exists());
        let device = &captured.report.devices[0];
        let on_main = name != "device-on-channels";
        let stopped = if on_main { (0, 0, 72) } else { (72, 4132, 0) };
        assert_eq!((device.data_bytes, device.config_bytes, device.stopcopy_bytes), stopped, "{name}");
        assert!(captured.report.warnings.iter().all(|warning| !warning.text.contains(DEVICE)));
    }
}

#[test]
fn a_source_that_does_not_close_is_not_waited_for() {
    let streams = Streams::of("device-on-channels");
    let (addr, builder) = begin(2);
    let running = start(builder);
    let mut source = Source::connect(addr, &streams);
    source.send(&streams);
    assert!(running.finish().error.is_none());
}

#[test]
fn nothing_is_kept_when_nothing_is_to_be_kept() {
    let streams = Streams::of("device-on-channels-ack");
    let (addr, builder) = begin(2);
    let running = start(builder);
    migrate(addr, &streams, true);
    let captured = running.finish();
    assert!(captured.error.is_none() && captured.report.folder.is_none());
    assert_eq!(captured.report.devices[0].packets, 2);
}

#[test]
fn a_stranger_is_told_of_and_the_capture_goes_on() {
    let streams = Streams::of("device-on-channels-ack");
    let (addr, builder) = begin(2);
    let (tell, told) = std::sync::mpsc::channel();
    let running = start(builder.on_event(move |event| {
        if let Event::Rejected { error, .. } = event {
            tell.send(error.to_string()).unwrap();
        }
    }));
    let mut stranger = dial(addr);
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(told.recv().unwrap(), "a new connection, offset 0: its first bytes are 0x47455420");
    migrate(addr, &streams, true);
    assert!(running.finish().error.is_none());
}

#[test]
fn two_channels_with_one_number_are_an_error_that_names_it() {
    let mut streams = Streams::of("device-on-channels");
    streams.multifd[0] = streams.multifd[1].clone();
    let (captured, ..) = capture(&streams, false);
    assert_eq!(*error_of(&captured), QemuError::Twice { place: Place::Multifd(1) });
    assert_eq!(captured.report.outcome, StreamOutcome::Failed);
}

#[test]
fn an_idx_far_ahead_is_refused_where_it_stands() {
    let mut streams = Streams::of("device-on-channels-ack");
    let (channel, at) = streams.device_packet();
    streams.overwrite(channel, at + 280, &0xffff_fffe_u32.to_be_bytes());
    let (captured, folder, heard) = capture(&streams, true);
    let QemuError::Order { place, offset, idx, .. } = error_of(&captured) else { panic!("{captured:?}") };
    assert_eq!((*place, *offset, *idx), (multifd(channel), at as u64, 0xffff_fffe));
    assert_recorded(folder.path(), &streams, false);
    assert!(heard.ends_with(SHUT_1), "{heard:?}");
}

#[test]
fn a_packet_of_four_gigabytes_is_refused_before_a_byte_of_it_is_taken() {
    let mut streams = Streams::of("device-on-channels-ack");
    let (channel, at) = streams.device_packet();
    streams.overwrite(channel, at + 272, &u32::MAX.to_be_bytes());
    let (captured, ..) = capture(&streams, true);
    let QemuError::Malformed { place, offset, .. } = error_of(&captured) else { panic!("{captured:?}") };
    assert_eq!((*place, *offset), (multifd(channel), at as u64));
}

fn multifd(channel: usize) -> Place {
    Place::Multifd(u8::try_from(channel).unwrap())
}

/// `streams` without the last packet of a kind on a channel.
fn without(mut streams: Streams, channel: usize, is: fn(&Packet) -> bool) -> Streams {
    let packets = streams.packets(channel);
    let (at, packet) = packets.iter().rfind(|(_, packet)| is(packet)).unwrap();
    streams.multifd[channel].drain(*at..at + PREFIX_LEN + packet.rest() as usize);
    streams
}

#[test]
fn a_sync_that_is_missing_on_one_channel_is_named() {
    let streams = without(Streams::of("device-on-channels"), 1, |packet| matches!(packet, Packet::Sync(_)));
    let (captured, ..) = capture(&streams, false);
    let QemuError::Sync { place, found, expected } = *error_of(&captured) else { panic!("{captured:?}") };
    assert_eq!((place, found + 1), (multifd(1), expected));
}

#[test]
fn a_packet_that_is_missing_is_named_and_not_waited_for() {
    let streams = Streams::of("device-on-channels");
    let (channel, _) = streams.device_packet();
    let streams = without(streams, channel, |packet| matches!(packet, Packet::Device(_)));
    let (captured, folder, _) = capture(&streams, false);
    let QemuError::Missing { device, .. } = error_of(&captured) else { panic!("{captured:?}") };
    assert_eq!(&**device, DEVICE);
    assert_recorded(folder.path(), &streams, true);
}

#[test]
fn a_channel_that_dies_before_the_main_connection_has_ended_is_named() {
    let streams = Streams::of("device-on-channels-ack");
    let (addr, builder) = begin(2);
    let running = start(builder);
    let mut source = Source::connect(addr, &streams);
    source.main.write_all(&streams.main[..400]).unwrap();
    source.close(1);
    let captured = running.finish();
    let QemuError::Left { place, missing, .. } = error_of(&captured) else { panic!("{captured:?}") };
    assert_eq!(*place, multifd(1));
    assert_eq!(&**missing, "the main connection is at offset 400, and that is not its end");
    assert!(source.read_replies().ends_with(SHUT_1));
}

#[test]
fn a_channel_that_dies_after_the_main_connection_has_ended_is_named() {
    let streams = Streams::of("device-on-channels-ack");
    let (channel, at) = streams.device_packet();
    let (addr, builder) = begin(2);
    let running = start(builder);
    let mut source = Source::connect(addr, &streams);
    source.main.write_all(&streams.main).unwrap();
    for (id, bytes) in streams.multifd.iter().enumerate() {
        let end = if id == channel { at } else { bytes.len() };
        source.multifd[id].write_all(&bytes[64..end]).unwrap();
    }
    source.close(channel);
    let captured = running.finish();
    let QemuError::Left { place, offset, missing } = error_of(&captured) else { panic!("{captured:?}") };
    assert_eq!((*place, *offset), (multifd(channel), at as u64));
    assert!(missing.contains("never came") || missing.contains("SYNC"), "{missing}");
    assert!(source.read_replies().ends_with(SHUT_1));
}

#[test]
fn a_channel_that_dies_within_a_packet_is_named_at_once() {
    let mut streams = Streams::of("device-on-channels-ack");
    let (channel, at) = streams.device_packet();
    streams.multifd[channel].truncate(at + 300);
    let (addr, builder) = begin(2);
    let running = start(builder);
    let mut source = Source::connect(addr, &streams);
    source.send(&streams);
    source.close(channel);
    let captured = running.finish();
    let place = multifd(channel);
    assert_eq!(
        *error_of(&captured),
        QemuError::Cut { place, offset: at as u64 + 300, within: StreamPart::Packet }
    );
}

#[test]
fn a_main_connection_that_ends_early_is_named() {
    let mut streams = Streams::of("device-on-channels");
    for cut in [200, 2000, streams.main.len() - 1] {
        streams.main.truncate(cut);
        let (captured, folder, _) = capture(&streams, false);
        let offset = streams.main.len() as u64;
        assert_eq!(
            *error_of(&captured),
            QemuError::Cut { place: Place::Main, offset, within: StreamPart::MainStream }
        );
        assert_recorded(folder.path(), &streams, false);
    }
}

#[test]
fn a_main_connection_that_is_broken_is_named_with_the_place() {
    let mut streams = Streams::of("device-on-channels-ack");
    streams.main[24] = 0x55;
    let (captured, ..) = capture(&streams, true);
    let QemuError::Malformed { place, offset, .. } = error_of(&captured) else { panic!("{captured:?}") };
    assert_eq!((*place, *offset), (Place::Main, 24));
}

#[test]
fn a_cancel_ends_it_and_keeps_what_came() {
    let streams = Streams::of("device-on-channels-ack");
    let folder = tempfile::tempdir().unwrap();
    let cancel = Cancel::new();
    let (addr, builder) = begin(2);
    let running = start(builder.folder(folder.path()).cancel(&cancel));
    let mut source = Source::connect(addr, &streams);
    source.main.write_all(&streams.main[..500]).unwrap();
    let main = folder.path().join("main.bin");
    while fs::metadata(&main).map_or(0, |found| found.len()) < 500 {
        std::thread::yield_now();
    }
    cancel.cancel();
    let captured = running.finish();
    assert!(matches!(captured.error, Some(Error::Cancelled)), "{captured:?}");
    assert_eq!(captured.report.outcome, StreamOutcome::Cancelled);
    assert_recorded(folder.path(), &streams, false);
    assert!(source.read_replies().ends_with(SHUT_1));
}

#[test]
fn a_folder_that_is_not_empty_is_refused_before_anybody_comes() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("main.bin"), "precious").unwrap();
    let error = Error::from(begin(2).1.folder(folder.path()).build().err().unwrap());
    assert!(matches!(error, Error::Misuse(_)) && error.hint().is_some(), "{error}");
    assert_eq!(fs::read(folder.path().join("main.bin")).unwrap(), b"precious");
}

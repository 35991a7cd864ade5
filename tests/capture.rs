//! Captures of a real QEMU, intact and damaged: what is there is found, each fault is reported in one sentence, and
//! nothing that a file contains makes the reader crash, wait or grow without bound.

#![expect(clippy::disallowed_methods, reason = "checks that nothing takes long")]

mod common;

use std::time::{Duration, Instant};

use common::captures::{CONFIG_AT, Capture, DATA_AT, DEVICE, fixture};
use common::damage::{Damage, damage};
use proptest::prelude::*;
use ringlift::qemu::capture::{self, Connection, Inspection, Note};
use ringlift::wire::qemu::Kind;

const ON_CHANNELS: &str = "device-on-channels";
/// In its main connection: where the full sections begin, and where their description begins.
const TAIL_AT: usize = 531;
const DESCRIPTION_AT: usize = 33092;
/// Bytes of a packet of device state before the state.
const PREFIX: usize = 288;
const INIT: usize = 64;
const SYNC: usize = 1344;

fn whole(name: &str) -> Inspection {
    let inspection = capture::inspect(&[fixture(name)]);
    assert!(inspection.is_ok(), "{name}: {:?}", inspection.errors);
    assert_eq!(inspection.notes, []);
    inspection
}

fn counts(connection: &Connection) -> [u64; 7] {
    let Connection { bytes, packets, ram_packets, syncs, normal_pages, zero_pages, device_packets, .. } =
        connection;
    [*bytes, *packets, *ram_packets, *syncs, *normal_pages, *zero_pages, *device_packets]
}

// ── whole captures ───────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn state_on_the_channels_is_found() {
    let found = whole("device-on-channels-ack");
    let [main, first, second] = &found.connections[..] else { unreachable!("three connections") };
    assert_eq!((main.kind, main.id, main.bytes, main.syncs), (Kind::Main, None, 77143, 5));
    assert_eq!((first.id, counts(first)), (Some(0), [284_228, 72, 71, 5, 45, 8190, 1]));
    assert_eq!((second.id, counts(second)), (Some(1), [468_520, 75, 74, 5, 90, 8210, 1]));

    let stream = &found.stream;
    assert_eq!(stream.machine.unwrap().as_str(), "pc-q35-10.0");
    assert_eq!((stream.page_size, stream.ram_bytes, stream.ram_blocks), (4096, 0x0408_2000, 6));
    assert_eq!((stream.flushes, stream.pings), (5, 1));
    assert_eq!(
        (stream.return_path_at, stream.switchover_at, stream.tail_at),
        (Some(24), Some(432), Some(489))
    );
    assert_eq!(stream.full_sections, 30);

    let device = found.device(DEVICE, 0).unwrap();
    let packets: Vec<_> =
        device.packets.iter().map(|packet| (packet.idx, packet.config, packet.offset())).collect();
    assert_eq!(packets, [(0, false, 423_168), (1, true, 277_120)]);
    assert_eq!((device.precopy_bytes(), device.data_bytes(), device.config_bytes()), (24, 72, 4132));
    assert_eq!(device.init_data_sent_at, Some(331));
    let order: Vec<_> = device.state().map(|piece| (piece.connection, piece.offset, piece.len)).collect();
    assert_eq!(order, [(0, 307, 24), (2, 423_168 + 288, 72)]);
}

#[test]
fn state_on_the_main_connection_is_found() {
    for (name, connections, data_at, config_at) in
        [("device-on-main", 3, 426, 32889), ("one-connection", 1, 50037, 82500)]
    {
        let found = whole(name);
        assert_eq!(found.connections.len(), connections);
        let device = found.device(DEVICE, 0).unwrap();
        assert_eq!((device.precopy_bytes(), device.data_bytes(), device.config_bytes()), (24, 72, 4132));
        assert_eq!((device.packets.len(), device.main_data[0].offset), (0, data_at), "{name}");
        assert_eq!(device.config().unwrap().offset, config_at, "{name}");
    }
}

#[test]
fn pages_on_the_main_connection_are_counted() {
    let found = whole("one-connection");
    let [_, packets, _, flushes, normal_pages, zero_pages, _] = counts(&found.connections[0]);
    assert_eq!((packets, flushes, normal_pages, zero_pages), (0, 0, 12, 26));
}

#[test]
fn files_may_be_named_one_by_one_and_in_any_order() {
    let folder = fixture(ON_CHANNELS);
    let files = ["multifd-1.bin", "main.bin", "multifd-0.bin"].map(|name| folder.join(name));
    let found = capture::inspect(&files);
    assert!(found.is_ok(), "{:?}", found.errors);
    let names: Vec<_> = found.connections.iter().map(|connection| connection.path.clone()).collect();
    assert_eq!(names, ["main.bin", "multifd-0.bin", "multifd-1.bin"].map(|name| folder.join(name)));
}

// ── broken ones ──────────────────────────────────────────────────────────────────────────────────────────────────────

/// The same capture each time, small enough to be modified often.
fn good() -> Capture {
    Capture::of(ON_CHANNELS)
}

fn assert_one_error(capture: &Capture, expected: &str) {
    assert_eq!(capture.errors(), [expected]);
}

#[test]
fn what_is_no_connection_is_named() {
    let stranger = good().patched("multifd-0.bin", 0, b"GET ");
    assert_one_error(
        &stranger,
        "multifd-0.bin, byte 0: the beginning of a connection cannot be right: its first bytes are 0x47455420",
    );
    assert_one_error(
        &good().with("multifd-0.bin", |bytes| bytes.truncate(3)),
        "multifd-0.bin, byte 3: the file ends within the beginning of a connection",
    );
}

#[test]
fn connections_that_do_not_belong_together_are_named() {
    let copy = |capture: Capture, from: &str, to: &str| {
        let bytes = capture.0[from].clone();
        capture.with(to, |file| *file = bytes)
    };
    let errors = copy(good(), "multifd-0.bin", "multifd-1.bin").errors();
    assert_eq!(errors[0], "multifd-1.bin, byte 24: this is multifd channel 0, and so is multifd-0.bin");

    let errors = copy(good(), "main.bin", "multifd-1.bin").errors();
    assert_eq!(errors[0], "multifd-1.bin, byte 0: this is a second main connection; the first is main.bin");

    assert_one_error(
        &good().patched("multifd-1.bin", 24, &[2]),
        "multifd-1.bin, byte 24: this is multifd channel 2, but there are 2, numbered from 0",
    );
    assert_one_error(
        &good().patched("multifd-1.bin", 8, &[7]),
        "multifd-1.bin, byte 8: it comes from another virtual machine than multifd-0.bin",
    );
}

#[test]
fn swapped_files_make_no_difference() {
    let mut capture = good();
    let (zero, one) =
        (capture.0.remove("multifd-0.bin").unwrap(), capture.0.remove("multifd-1.bin").unwrap());
    capture.0.insert("multifd-0.bin".to_owned(), one);
    capture.0.insert("multifd-1.bin".to_owned(), zero);
    let found = capture.inspect();
    assert!(found.is_ok(), "{:?}", found.errors);
    assert_eq!(found.connections[1].file.as_ref(), "multifd-1.bin");
}

#[test]
fn missing_connections_are_missed() {
    assert_one_error(
        &good().without("main.bin"),
        "multifd-0.bin, byte 0: no file has the main connection (its first bytes are QEVM)",
    );
    assert_eq!(
        good().without("multifd-0.bin").errors(),
        [
            "multifd-1.bin, byte 24: this is multifd channel 1, but there are 1, numbered from 0",
            "multifd-1.bin, byte 6784: device 0000:00:01.0/vfio: its packets go up to 1, and 1 of them never came; the \
             first of these is 0",
        ]
    );
    let errors = good().without("multifd-0.bin").without("multifd-1.bin").errors();
    assert_eq!(
        errors[0],
        "main.bin, byte 0: it has 3 flush flags for multifd connections, and none of these is here"
    );
}

#[test]
fn a_missing_sync_is_missed() {
    // the last packet of this connection is one
    let capture = good().with("multifd-0.bin", |bytes| bytes.truncate(bytes.len() - SYNC));
    assert_one_error(
        &capture,
        "multifd-0.bin, byte 16680: it has 2 SYNC packets, and the main connection waits for 3",
    );
}

/// Machine types before 8.1 have no flush flags: every end of a RAM section is a barrier.
#[test]
fn without_flush_flags_the_ends_of_ram_sections_count() {
    let word = |bytes: &[u8], at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    let is_flush =
        |bytes: &[u8], at: usize| word(bytes, at) == 0x200 && [0x200, 0x10].contains(&word(bytes, at + 8));
    let with_syncs = |wanted: usize| {
        let capture = good().with("main.bin", |bytes| {
            while let Some(at) = (0..TAIL_AT).find(|at| is_flush(bytes, *at)) {
                drop(bytes.drain(at..at + 8));
            }
        });
        let first = &capture.0["multifd-0.bin"];
        let more = first[first.len() - SYNC..].repeat(wanted - 3);
        let add = |bytes: &mut Vec<u8>| bytes.extend(&more);
        capture.clone().with("multifd-0.bin", add).with("multifd-1.bin", add)
    };
    let found = with_syncs(7).inspect();
    assert!(found.is_ok(), "{:?}", found.errors);
    assert_eq!((found.stream.flushes, found.connections[1].syncs), (0, 7));
    let text = with_syncs(6).errors().remove(0);
    assert!(text.ends_with("it has 6 SYNC packets, and the main connection waits for 7"), "{text}");
}

#[test]
fn packets_that_cannot_be_are_named_where_they_begin() {
    let at = format!("multifd-0.bin, byte {DATA_AT}: the packet that begins here cannot be right:");
    for (offset, bytes, what) in [
        (0, &[0x12][..], "its first bytes are 0x12223344"),
        (4, &[0, 0, 0, 2], "its version is 2"),
        (8, &[0, 0, 0, 0x41], "its flags is 65"),
        (8, &[0, 0, 0, 0x42], "its flags is 66"),
        (272, &[0xff; 4], "its state is 4294967283 bytes, at most 1048576 are allowed"),
        (272, &[0; 4], "its packet size is 0"),
        (276, &[0, 0, 0, 1], "its VFIO packet version is 1"),
        (280, &[0xff; 4], "its idx is 4294967295"),
        (284, &[0, 0, 0, 2], "its VFIO flags is 2"),
        (267, b"x", "its name is no printable text"),
    ] {
        assert_one_error(&good().patched("multifd-0.bin", DATA_AT + offset, bytes), &format!("{at} {what}"));
    }
}

#[test]
fn sparse_and_repeated_packets_are_named() {
    let idx =
        |capture: Capture, idx: u32| capture.patched("multifd-0.bin", DATA_AT + 280, &idx.to_be_bytes());
    let at = format!("multifd-0.bin, byte {DATA_AT}: device {DEVICE}:");
    assert_one_error(
        &idx(good(), 0xffff_fffe),
        &format!(
            "{at} its packets go up to 4294967294, and 4294967293 of them never came; the first of these is 0"
        ),
    );
    assert_one_error(
        &idx(good(), 1),
        &format!(
            "multifd-1.bin, byte {CONFIG_AT}: device {DEVICE}: packet 1 came twice, first at byte {DATA_AT} of multifd-0.bin"
        ),
    );
}

#[test]
fn config_state_comes_once_and_last() {
    let at = |file: &str, offset| format!("{file}, byte {offset}: device {DEVICE}:");
    let second = good().with("multifd-0.bin", |bytes| {
        let data = bytes[DATA_AT..DATA_AT + PREFIX + 72].to_vec();
        let end = bytes.len();
        bytes.extend(data);
        bytes[end + 280..end + 284].copy_from_slice(&2_u32.to_be_bytes());
    });
    assert_one_error(
        &second,
        &format!(
            "{} packet 1 is its config state and must be the last, but the last is 2",
            at("multifd-1.bin", CONFIG_AT)
        ),
    );
    let config = fixture_config();
    let both = second.with("multifd-0.bin", |bytes| {
        bytes.truncate(bytes.len() - PREFIX - 72);
        bytes.extend(config);
        let idx = bytes.len() - PREFIX - 4132 + 280;
        bytes[idx..idx + 4].copy_from_slice(&2_u32.to_be_bytes());
    });
    assert_one_error(
        &both,
        &format!(
            "{} its config state came twice, first at byte {CONFIG_AT} of multifd-1.bin",
            at("multifd-0.bin", 18024)
        ),
    );
    let none = good().patched("multifd-1.bin", CONFIG_AT + 284, &[0; 4]);
    assert_one_error(&none, &format!("{} its config state never came", at("multifd-1.bin", CONFIG_AT)));
    let broken = good().patched("multifd-1.bin", CONFIG_AT + PREFIX + 11, &[3]);
    assert_one_error(
        &broken,
        &format!(
            "{} its config state cannot be right: its PCI device version is 3",
            at("multifd-1.bin", CONFIG_AT + PREFIX)
        ),
    );
}

fn fixture_config() -> Vec<u8> {
    good().0["multifd-1.bin"][CONFIG_AT..CONFIG_AT + PREFIX + 4132].to_vec()
}

#[test]
fn bytes_behind_the_end_are_named() {
    let behind = |file: &str, more: &[u8]| good().with(file, |bytes| bytes.extend(more)).errors();
    assert_eq!(
        behind("multifd-0.bin", b"more"),
        ["multifd-0.bin, byte 18024: 4 bytes follow that belong to nothing"]
    );
    assert_eq!(
        behind("multifd-0.bin", &[0x11, 0x22, 0x33, 0x44, 0]),
        ["multifd-0.bin, byte 18029: the file ends within a packet"]
    );
    assert_eq!(behind("main.bin", b"x"), ["main.bin, byte 77185: 1 bytes follow that belong to nothing"]);
}

#[test]
fn a_device_that_nobody_announced_or_ended_is_named() {
    let other =
        good().patched("multifd-0.bin", DATA_AT + 12, b"1").patched("multifd-1.bin", CONFIG_AT + 12, b"1");
    assert_eq!(
        other.errors(),
        [
            format!("main.bin, byte 202: device {DEVICE}: its config state never came"),
            format!(
                "multifd-0.bin, byte {DATA_AT}: device 1000:00:01.0/vfio: its state is here, and the main connection does \
                 not know it"
            ),
        ]
    );
}

#[test]
fn full_sections_are_followed_to_the_last_byte() {
    let name = |capture: Capture| {
        let errors = capture.errors();
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors.into_iter().next().unwrap()
    };
    let at = format!("main.bin, byte {TAIL_AT}: section timer:");
    assert_eq!(
        name(good().patched("main.bin", TAIL_AT + 6, b"T")),
        format!("{at} it should begin here, and section Timer#0 does")
    );
    assert_eq!(
        name(good().patched("main.bin", TAIL_AT + 18, &[9])),
        format!("{at} its version is 9, and 2 in the description")
    );
    assert_eq!(
        name(good().with("main.bin", |bytes| _ = bytes.remove(TAIL_AT + 30))),
        "main.bin, byte 574: section timer: it should end here, and its footer is not here"
    );
    // the size of its first field, in the description
    let errors = name(good().with("main.bin", |bytes| {
        let text = b"\"size\": 8";
        let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
        bytes[at + 8] = b'9';
    }));
    assert_eq!(errors, "main.bin, byte 575: section timer: it should end here, and its footer is not here");
    let strange = name(good().with("main.bin", |bytes| {
        let text = b"\"devices\"";
        let at = bytes.windows(text.len()).rposition(|window| window == text).unwrap();
        bytes[at + 1] = b'D';
    }));
    let expected =
        "main.bin, byte 33092: the description of the machine's state is broken: missing field `devices`";
    assert!(strange.starts_with(expected), "{strange}");
}

#[test]
fn a_main_connection_without_a_description_is_noted() {
    let found = good().with("main.bin", |bytes| bytes.truncate(DESCRIPTION_AT - 5)).inspect();
    assert!(found.is_ok(), "{:?}", found.errors);
    let bytes = (DESCRIPTION_AT - 5 - TAIL_AT) as u64;
    assert_eq!(found.notes, [Note::NoDescription { offset: TAIL_AT as u64, bytes }]);

    // without the description, its config state cannot be found
    let hidden = Capture::of("device-on-main").with("main.bin", |bytes| bytes.truncate(37191));
    assert_one_error(
        &hidden,
        "main.bin, byte 202: device 0000:00:01.0/vfio: its config state must be in the full sections, which have no \
         description",
    );
}

#[test]
fn a_capture_that_is_cut_off_is_never_whole() {
    let around = |at: usize| at - 1..=at + 1;
    let packets = [INIT, DATA_AT, DATA_AT + PREFIX, 18024 - 2];
    for (file, ends) in [
        (
            "main.bin",
            (0..TAIL_AT + 60).chain((1000..77185).step_by(5077)).chain(77180..77185).collect::<Vec<_>>(),
        ),
        ("multifd-0.bin", [0, 1, 4, 5].into_iter().chain(packets.into_iter().flat_map(around)).collect()),
        ("multifd-1.bin", [INIT, CONFIG_AT, CONFIG_AT + PREFIX].into_iter().flat_map(around).collect()),
    ] {
        for end in ends {
            let errors = good().with(file, |bytes| bytes.truncate(end)).errors();
            assert!(!errors.is_empty(), "{file} cut at {end}");
            assert!(errors.iter().any(|error| error.starts_with(file)), "{file} cut at {end}: {errors:?}");
        }
    }
}

#[test]
fn a_connection_cut_off_between_packets_lacks_what_came_then() {
    let capture = good().with("multifd-0.bin", |bytes| bytes.truncate(INIT));
    assert_eq!(
        capture.errors(),
        [
            "multifd-0.bin, byte 64: it has 0 SYNC packets, and the main connection waits for 3",
            "multifd-1.bin, byte 6784: device 0000:00:01.0/vfio: its packets go up to 1, and 1 of them never came; the \
             first of these is 0",
        ]
    );
}

#[test]
fn folders_and_files_that_are_not_there_are_named() {
    let found = capture::inspect(&["/nowhere".into()]);
    assert_eq!(
        found.errors[0].to_string(),
        "/nowhere, byte 0: open failed: ENOENT (No such file or directory)"
    );
    let folder = tempfile::tempdir().unwrap();
    let text = capture::inspect(&[folder.path().to_owned()]).errors[0].to_string();
    assert!(text.ends_with("no connection is here: no file *.bin that is not *.back.bin"), "{text}");
    let found = capture::inspect(&["/dev/zero".into()]);
    assert_eq!(found.errors[0].to_string(), "/dev/zero, byte 0: it is no regular file");
}

// ── any damage ───────────────────────────────────────────────────────────────────────────────────────────────────────

const FILES: [&str; 3] = ["main.bin", "multifd-0.bin", "multifd-1.bin"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_damage_makes_the_reader_fall_or_wait(
        all in prop::collection::vec(damage(), 1..4),
        on_main: bool,
    ) {
        let name = if on_main { "device-on-main" } else { ON_CHANNELS };
        let damaged = |capture: Capture, damage: &Damage| {
            capture.with(FILES[damage.stream(FILES.len())], |bytes| damage.happen(bytes, 0))
        };
        let capture = all.iter().fold(Capture::of(name), damaged);
        let began = Instant::now();
        let found = capture.inspect();
        prop_assert!(began.elapsed() < Duration::from_secs(5));
        for error in &found.errors {
            let text = error.to_string();
            prop_assert!(!text.chars().any(char::is_control), "{text:?}");
            prop_assert!(text.len() < 1000, "{text}");
        }
    }
}

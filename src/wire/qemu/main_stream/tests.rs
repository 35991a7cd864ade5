//! Streams as QEMU writes them, and what it never writes.

use proptest::prelude::*;

use super::*;
use crate::limits::QEMU_STATE_MAX;
use crate::wire::golden::unhex;

/// The beginning of every stream: magic, version, machine type.
const BEGIN: &[u8] = b"QEVM\0\0\0\x03\x07\0\0\0\x0bpc-q35-10.0";
const RAM_EOS: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0x10];

/// An event without its borrow: the bytes as a length.
fn owned(event: Event<'_>) -> String {
    match event {
        Event::VfioData(bytes) => format!("VfioData({})", bytes.len()),
        other => format!("{other:?}"),
    }
}

/// Every event until the stream's tail or the end of `bytes`, and what was not taken.
fn walk(stream: &mut MainStream, bytes: &[u8], piece: usize) -> Result<(Vec<String>, usize), Malformed> {
    let (mut events, mut taken) = (Vec::new(), 0);
    while taken < bytes.len() {
        let end = bytes.len().min(taken.saturating_add(piece));
        let (n, event) = stream.next(&bytes[taken..end])?;
        taken += n;
        let is_tail = event == Some(Event::Tail);
        events.extend(event.map(owned));
        if is_tail {
            break;
        }
    }
    Ok((events, bytes.len() - taken))
}

fn events(parts: &[&[u8]]) -> Result<Vec<String>, Malformed> {
    walk(&mut MainStream::new(), &parts.concat(), usize::MAX).map(|(events, _)| events)
}

fn section(kind: u8, id: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0, id], body, &[0x7e, 0, 0, 0, id]].concat()
}

fn start(id: u8, idstr: &str, version: u8, body: &[u8]) -> Vec<u8> {
    let len = u8::try_from(idstr.len()).unwrap();
    let named = [&[len], idstr.as_bytes(), &[0, 0, 0, 0, 0, 0, 0, version], body].concat();
    section(SECTION_START, id, &named)
}

const SECTION_START: u8 = 1;
const PART: u8 = 2;
const END: u8 = 3;

/// RAM of 8 KiB in two blocks.
fn ram() -> Vec<u8> {
    let body: [u8; 49] = unhex(
        "0000000000002004 06 70632e72616d 0000000000001000 01 78 0000000000001000
         0000000000000200 0000000000000010",
    );
    start(1, "ram", 4, &body)
}

fn vfio() -> Vec<u8> {
    start(0x25, "0000:00:01.0/vfio", 1, &unhex::<16>("ffffffffef100003 ffffffffef100001"))
}

/// A whole migration up to its tail, with every kind of event that multifd allows.
fn stream() -> Vec<u8> {
    [
        BEGIN,
        b"\x08\0\x01\0\0\x08\0\x02\0\x04\0\0\0\x01",
        &ram(),
        &vfio(),
        &section(PART, 1, RAM_EOS),
        &section(PART, 0x25, &unhex::<27>("ffffffffef100004 0000000000000003 aabbcc ffffffffef100005")),
        b"\x08\0\x0b\0\0",
        &section(END, 1, &unhex::<16>("0000000000000200 0000000000000010")),
        &section(END, 0x25, &unhex::<8>("ffffffffef100001")),
        b"\x04\0\0\0\0\x05timer",
    ]
    .concat()
}

#[test]
fn a_migration_is_followed_to_its_tail() {
    let bytes = stream();
    let mut stream = MainStream::new();
    let (events, left) = walk(&mut stream, &bytes, usize::MAX).unwrap();
    let expected = [
        "Header",
        "Machine(\"pc-q35-10.0\")",
        "Command(OpenReturnPath)",
        "Command(Ping(1))",
        "Start(Section { id: 1, idstr: \"ram\", instance: 0, version: 4 })",
        "RamTotal(8192)",
        "RamBlock { name: \"pc.ram\", used: 4096 }",
        "RamBlock { name: \"x\", used: 4096 }",
        "RamFlush",
        "RamEnd",
        "Footer(1)",
        "Start(Section { id: 37, idstr: \"0000:00:01.0/vfio\", instance: 0, version: 1 })",
        "VfioSetup",
        "VfioEnd",
        "Footer(37)",
        "Part(1)",
        "RamEnd",
        "Footer(1)",
        "Part(37)",
        "VfioDataBegin(3)",
        "VfioData(3)",
        "VfioInitDataSent",
        "Footer(37)",
        "Command(SwitchoverStart)",
        "End(1)",
        "RamFlush",
        "RamEnd",
        "Footer(1)",
        "End(37)",
        "VfioEnd",
        "Footer(37)",
        "Tail",
    ];
    assert_eq!(events, expected);
    // the tail begins with the byte that says so
    assert_eq!(left, 11);
    assert_eq!(stream.offset(), (bytes.len() - 11) as u64);
    assert_eq!(stream.next(b"more"), Ok((0, Some(Event::Tail))));
}

#[test]
fn pages_on_the_main_connection_are_stepped_over() {
    let page = [0x53; 4096];
    let body = [
        &unhex::<15>("0000000000000008 06 70632e72616d")[..],
        &page,
        &unhex::<8>("0000000000001028"),
        &page,
        &unhex::<9>("0000000000002022 00"),
        RAM_EOS,
    ]
    .concat();
    let found = events(&[BEGIN, &ram(), &section(PART, 1, &body), b"\0"]).unwrap();
    let pages: Vec<&String> = found.iter().filter(|event| event.starts_with("RamPage")).collect();
    let (normal, zero) = ("RamPage { zero: false }", "RamPage { zero: true }");
    assert_eq!(pages, [normal, normal, zero]);
    assert_eq!(found.last().unwrap(), "Tail");
}

#[test]
fn what_the_machines_must_share_is_told() {
    let subsection = |name: &str, body: &[u8]| {
        [&[5, u8::try_from(name.len()).unwrap()], name.as_bytes(), &[0, 0, 0, 1], body].concat()
    };
    let bits = subsection("configuration/target-page-bits", &[0, 0, 0, 16]);
    let capabilities = subsection("configuration/capabilities", b"\0\0\0\x02\x07multifd\x06events");
    let uuid = subsection("configuration/uuid", b"sixteen bytes id");
    let found = events(&[BEGIN, &bits, &capabilities, &uuid, b"\0"]).unwrap();
    let expected = [
        "PageSize(PageSize { bits: 16 })".to_owned(),
        "Capability(\"multifd\")".to_owned(),
        "Capability(\"events\")".to_owned(),
        format!("Uuid({:?})", b"sixteen bytes id"),
        "Tail".to_owned(),
    ];
    assert_eq!(found[2..], expected);
}

#[test]
fn what_is_not_supported_is_named() {
    let ignore_shared = b"\x05\x1aconfiguration/capabilities\0\0\0\x01\0\0\0\x01\x0fx-ignore-shared";
    let unsupported = |what: &'static str, bytes: &[u8]| {
        assert_eq!(events(&[BEGIN, bytes]), Err(Malformed::Unsupported { what }));
    };
    unsupported("the capability x-ignore-shared or mapped-ram", ignore_shared);
    unsupported("postcopy", b"\x08\0\x03\0\x10");
    unsupported("COLO", b"\x08\0\x08\0\0");
    unsupported("XBZRLE", &[ram(), section(PART, 1, &unhex::<8>("0000000000000040"))].concat());
    unsupported("RDMA", &[ram(), section(PART, 1, &unhex::<8>("0000000000000080"))].concat());
    unsupported(
        "config state in a live section",
        &[vfio(), section(END, 0x25, &unhex::<8>("ffffffffef100002"))].concat(),
    );
    unsupported("a live section that is neither RAM nor a VFIO device", &start(3, "dirty-bitmap", 1, &[]));
    unsupported("an unknown subsection of the configuration", b"\x05\x01x\0\0\0\x01");
}

#[test]
fn what_qemu_never_writes_is_refused() {
    let refused = |parts: &[&[u8]]| events(parts).unwrap_err();
    let value = |field, found| Malformed::Value { field, found };
    assert_eq!(refused(&[b"GET / HT"]), Malformed::Magic { found: 0x4745_5420 });
    assert_eq!(refused(&[b"QEVM\0\0\0\x02"]), value("version", 2));
    assert_eq!(refused(&[b"QEVM\0\0\0\x03\x01"]), value("section type", 1));
    assert_eq!(refused(&[BEGIN, &[9]]), value("section type", 9));
    assert_eq!(refused(&[BEGIN, b"\x08\0\x0c\0\0"]), value("command", 12));
    assert_eq!(refused(&[BEGIN, b"\x08\0\x0b\0\x01"]), value("length of a command", 1));
    assert_eq!(refused(&[BEGIN, &section(PART, 1, RAM_EOS)]), value("section number", 1));
    assert_eq!(refused(&[BEGIN, &ram(), &ram()]), value("section number", 1));
    assert_eq!(refused(&[BEGIN, &start(1, "ram", 3, &[])]), value("section version", 3));
    assert_eq!(
        refused(&[BEGIN, &start(1, "ram", 4, &unhex::<8>("0000000000000400"))]),
        value("RAM flags", 0x400)
    );
    let footer = [BEGIN, &ram()[..], &[PART, 0, 0, 0, 1], RAM_EOS].concat();
    assert_eq!(refused(&[&footer, &[0x7f, 0, 0, 0, 1]]), value("section footer", 0x7f));
    assert_eq!(refused(&[&footer, &[0x7e, 0, 0, 0, 2]]), value("section number in a footer", 2));
    let block = unhex::<18>("0000000000002004 01 78 0000000000003000");
    assert_eq!(refused(&[BEGIN, &start(1, "ram", 4, &block)]), value("size of a RAM block", 0x3000));
    let long = section(PART, 0x25, &unhex::<16>("ffffffffef100004 ffffffffffffffff"));
    let max = QEMU_STATE_MAX.into();
    assert_eq!(
        refused(&[BEGIN, &vfio(), &long]),
        Malformed::TooLong { field: "state", found: u64::MAX, max }
    );
    let machine = refused(&[b"QEVM\0\0\0\x03\x07\0\0\x01\0"]);
    assert_eq!(machine, Malformed::TooLong { field: "machine type", found: 256, max: 255 });
}

/// Regression: when an invalid field came in two pieces, the reported offset was inside it, wherever the network had
/// cut it.
#[test]
fn the_field_that_is_wrong_is_named_by_where_it_begins() {
    let bytes = [BEGIN, &ram()[..], &[PART, 0, 0, 0, 9]].concat();
    for piece in 1..bytes.len() {
        let mut stream = MainStream::new();
        walk(&mut stream, &bytes, piece).unwrap_err();
        assert_eq!(stream.offset(), bytes.len() as u64 - 4, "in pieces of {piece}");
    }
}

#[test]
fn sections_are_bounded() {
    let mut bytes = BEGIN.to_vec();
    let id = |id: u16| [[SECTION_START, 0, 0].as_slice(), &id.to_be_bytes()].concat();
    for number in 0..=u16::try_from(DEVICES_MAX).unwrap() + 1 {
        let mut device = vfio();
        device[..5].copy_from_slice(&id(number));
        let end = device.len() - 2;
        device[end..].copy_from_slice(&number.to_be_bytes());
        bytes.extend(device);
    }
    let max = DEVICES_MAX as u64 + 1;
    let expected = Malformed::TooLong { field: "list of sections", found: max + 1, max };
    assert_eq!(events(&[&bytes]), Err(expected));
}

proptest! {
    /// Other pieces of the stream change only how data is divided.
    #[test]
    fn the_size_of_pieces_makes_no_difference(piece in 1_usize..60) {
        let without_data = |events: Vec<String>| -> Vec<String> {
            events.into_iter().filter(|event| !event.starts_with("VfioData(")).collect()
        };
        let bytes = stream();
        let (whole, _) = walk(&mut MainStream::new(), &bytes, usize::MAX).unwrap();
        let (pieces, left) = walk(&mut MainStream::new(), &bytes, piece).unwrap();
        prop_assert_eq!(without_data(pieces), without_data(whole));
        prop_assert_eq!(left, 11);
    }

    #[test]
    fn a_stream_with_a_wrong_byte_does_no_harm(at in 0_usize..300, value: u8, piece in 1_usize..400) {
        let mut bytes = stream();
        let at = at % bytes.len();
        bytes[at] = value;
        let mut stream = MainStream::new();
        let walked = walk(&mut stream, &bytes, piece);
        prop_assert!(walked.is_err() || stream.offset() <= bytes.len() as u64);
    }
}

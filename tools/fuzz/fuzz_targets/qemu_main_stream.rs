//! A main connection in pieces: what it comes by is in an order that a source can have sent, and how the bytes arrive makes no
//! difference.

#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use ringlift::limits::{DEVICES_MAX, QEMU_RAM_BLOCKS_MAX, QEMU_STATE_MAX};
use ringlift::wire::Malformed;
use ringlift::wire::qemu::{Event, MainStream};
use ringlift_fuzz::{Input, assert_says_what, input, seed, without_allocation};

/// A stream with something of everything: configuration, commands, RAM with and without pages, a device, the tail.
fn seeds() {
    let name = b"0000:00:01.0/vfio";
    let vfio = |word: u8| [0xff, 0xff, 0xff, 0xff, 0xef, 0x10, 0x00, word];
    let footer = |id: u8| [0x7e, 0, 0, 0, id];
    let mut bytes = b"QEVM\0\0\0\x03\x07\0\0\0\x0bpc-q35-10.0".to_vec();
    bytes.extend(b"\x05\x1econfiguration/target-page-bits\0\0\0\x01\0\0\0\x0c");
    bytes.extend(b"\x05\x1aconfiguration/capabilities\0\0\0\x01\0\0\0\x01\x07multifd");
    bytes.extend(b"\x05\x12configuration/uuid\0\0\0\x010123456789abcdef");
    bytes.extend(b"\x08\0\x01\0\0\x08\0\x02\0\x04\0\0\0\x01");
    seed("configuration", &input(&bytes));
    bytes.extend(b"\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\x20\x04\x06pc.ram\0\0\0\0\0\0\x20\0");
    bytes.extend(b"\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\x10");
    bytes.extend(footer(2));
    bytes.extend([&b"\x01\0\0\0\x28\x11"[..], name, b"\0\0\0\0\0\0\0\x01", &vfio(3), &vfio(1)].concat());
    bytes.extend(footer(0x28));
    seed("setup", &input(&bytes));
    bytes.extend([&b"\x02\0\0\0\x28"[..], &vfio(4), b"\0\0\0\0\0\0\0\x05state", &vfio(5)].concat());
    bytes.extend(footer(0x28));
    bytes.extend(b"\x02\0\0\0\x02\0\0\0\0\0\0\x10\x02\x06pc.ram\0\0\0\0\0\0\0\x20\x22\0\0\0\0\0\0\0\0\x10");
    bytes.extend(footer(2));
    bytes.extend(b"\x08\0\x0b\0\0");
    bytes.extend([&b"\x03\0\0\0\x28"[..], &vfio(1)].concat());
    bytes.extend(footer(0x28));
    bytes.extend(b"\x04\0\0\0\0\x05timer");
    seed("all", &input(&bytes));
    let all = walk([&bytes[..]].into_iter());
    assert_eq!(all.events.last(), Some(&(Event::Tail, 5)), "{:?}", all.error);
}

/// How a walk went. Only the cuts in a device's state may differ.
#[derive(Debug, Default, PartialEq)]
struct Walk<'a> {
    /// Each with the bytes of device state that came before it.
    events: Vec<(Event<'a>, usize)>,
    data: Vec<u8>,
    offset: u64,
    error: Option<Malformed>,
}

impl<'a> Walk<'a> {
    fn push(&mut self, event: Event<'a>) {
        match event {
            Event::VfioData(data) => self.data.extend(data),
            _ => self.events.push((event, self.data.len())),
        }
    }
}

fn walk<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Walk<'a> {
    let (mut stream, mut walk) = (MainStream::new(), Walk::default());
    'pieces: for mut piece in pieces {
        loop {
            let before = stream.offset();
            match without_allocation(|| stream.next(piece)) {
                Ok((taken, event)) => {
                    assert_eq!(stream.offset(), before + taken as u64);
                    piece = &piece[taken..];
                    let Some(event) = event else {
                        assert!(piece.is_empty(), "without an event it took all");
                        break;
                    };
                    walk.push(event);
                    if event == Event::Tail {
                        assert_eq!(stream.next(piece), Ok((0, Some(Event::Tail))));
                        break 'pieces;
                    }
                }
                Err(malformed) => {
                    assert_says_what(&malformed);
                    walk.error = Some(malformed);
                    break 'pieces;
                }
            }
        }
    }
    walk.offset = stream.offset();
    walk
}

fn assert_in_order(walk: &Walk<'_>, bytes: &[u8]) {
    assert!(walk.offset <= bytes.len() as u64);
    let (mut started, mut open, mut data) = (HashSet::new(), None, 0);
    let (mut total, mut blocks) = (0_u64, 0_usize);
    for (at, &(event, came)) in walk.events.iter().enumerate() {
        assert_eq!(came, data, "as much state as was announced, before anything else comes");
        match event {
            Event::Header => assert_eq!(at, 0),
            Event::Machine(_) => assert_eq!(at, 1),
            Event::Start(section) => {
                assert!(open.is_none() && started.insert(section.id) && started.len() <= DEVICES_MAX + 1);
                open = Some(section.id);
            }
            Event::Part(id) | Event::End(id) => {
                assert!(open.is_none() && started.contains(&id));
                open = Some(id);
            }
            Event::Footer(id) => assert_eq!(open.take(), Some(id)),
            Event::VfioDataBegin(len) => {
                assert!(open.is_some() && len <= QEMU_STATE_MAX);
                data += len as usize;
            }
            Event::RamTotal(bytes) => total = bytes,
            Event::RamBlock { used, .. } => {
                blocks += 1;
                assert!(used <= total && blocks <= QEMU_RAM_BLOCKS_MAX);
                total -= used;
            }
            Event::Command(_) => assert!(open.is_none()),
            Event::Tail => {
                let next = usize::try_from(walk.offset).expect("within the input");
                assert!(
                    open.is_none() && matches!(bytes[next], 0x00 | 0x04),
                    "nothing of the tail was taken"
                );
            }
            _ => {}
        }
    }
    assert!(walk.data.len() <= data);
}

fuzz_target!(init: seeds(), |input: &[u8]| {
    let Some(input) = Input::new(input) else { return };
    let whole = walk([input.bytes].into_iter());
    assert_in_order(&whole, input.bytes);
    assert_eq!(walk(input.pieces()), whole);
});

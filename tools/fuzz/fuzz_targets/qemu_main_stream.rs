//! A main connection in pieces: its events come in an order that a source can have sent, whatever pieces the bytes arrive
//! in.

#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use ringlift::limits::{DEVICES_MAX, QEMU_RAM_BLOCKS_MAX, QEMU_STATE_MAX};
use ringlift::wire::Malformed;
use ringlift::wire::qemu::{Event, MainStream};
use ringlift_fuzz::{Input, assert_says_what, example, input, seed, without_allocation};

fn seeds() {
    seed("setup", &input(&example::main_setup()));
    let live = [&example::main_live()[..], b"\x04\0\0\0\0\x05timer"].concat();
    seed("live", &input(&live));
    let walk = walk([&live[..]].into_iter());
    assert_eq!(walk.events.last(), Some(&(Event::Tail, 5)), "{:?}", walk.error);
}

/// The result of a walk. Only where a device's state is cut may differ.
#[derive(Debug, Default, PartialEq)]
struct Walk<'a> {
    /// Each event with the number of bytes of device state before it.
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
                        assert!(piece.is_empty(), "without an event the whole piece is taken");
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
        assert_eq!(came, data, "all of the announced state comes before anything else");
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

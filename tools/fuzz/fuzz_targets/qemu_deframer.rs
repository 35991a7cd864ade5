//! A multifd connection in pieces: packets follow each other without gaps, whatever pieces the bytes arrive in.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringlift::wire::Malformed;
use ringlift::wire::qemu::{Deframer, Frame, INIT_LEN, PREFIX_LEN, PageSize};
use ringlift_fuzz::{Input, accepted, example, input, seed, without_allocation};

fn seeds() {
    for id in 0..2 {
        let (ends, bytes) = example::channel(id);
        for end in ends {
            seed(&format!("{id}-{end}"), &input(&bytes[..end]));
            assert!(walk(Deframer::new(PageSize::default()), [&bytes[..end]].into_iter()).is_at_boundary);
        }
    }
}

/// The result of a walk.
#[derive(Debug, PartialEq)]
struct Walk {
    frames: Vec<Frame>,
    offset: u64,
    is_at_boundary: bool,
    error: Option<Malformed>,
}

fn walk<'a>(mut deframer: Deframer, pieces: impl Iterator<Item = &'a [u8]>) -> Walk {
    let mut frames = Vec::new();
    let mut error = None;
    'pieces: for mut piece in pieces {
        loop {
            let before = deframer.offset();
            match without_allocation(|| deframer.next(piece)) {
                Ok((taken, frame)) => {
                    assert_eq!(deframer.offset(), before + taken as u64);
                    piece = &piece[taken..];
                    let Some(frame) = frame else {
                        assert!(piece.is_empty(), "without a frame the whole piece is taken");
                        break;
                    };
                    frames.push(frame);
                }
                Err(malformed) => {
                    error = accepted::<()>(Err(malformed)).map_or(Some(malformed), |()| None);
                    break 'pieces;
                }
            }
        }
    }
    Walk { frames, offset: deframer.offset(), is_at_boundary: deframer.is_at_boundary(), error }
}

fn assert_without_gaps(walk: &Walk, len: usize) {
    assert!(walk.offset <= len as u64);
    let mut end = INIT_LEN as u64;
    for (at, frame) in walk.frames.iter().enumerate() {
        match *frame {
            Frame::Init(_) => assert_eq!(at, 0),
            Frame::Begin { packet, offset } => {
                assert_eq!((at % 2, offset), (1, end));
                end += PREFIX_LEN as u64 + u64::from(packet.rest());
            }
            Frame::End => assert!(at > 0 && at % 2 == 0 && end <= walk.offset),
        }
    }
    if walk.is_at_boundary {
        assert!(walk.offset == end && walk.frames.len() % 2 == 1);
    }
}

fuzz_target!(init: seeds(), |input: &[u8]| {
    let Some(input) = Input::new(input) else { return };
    let page_size = PageSize::new(input.choice().into()).unwrap_or_default();
    let whole = walk(Deframer::new(page_size), [input.bytes].into_iter());
    assert_without_gaps(&whole, input.bytes.len());
    assert_eq!(walk(Deframer::new(page_size), input.pieces()), whole);
    if let Some(Frame::Init(_)) = whole.frames.first() {
        let rest = [&input.bytes[INIT_LEN..]];
        let behind = walk(Deframer::after_init(page_size), rest.into_iter());
        assert_eq!(behind.frames, whole.frames[1..]);
        assert_eq!((behind.offset, behind.error), (whole.offset, whole.error));
    }
});

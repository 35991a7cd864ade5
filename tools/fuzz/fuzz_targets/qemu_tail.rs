//! The end of a main connection: it is found where a description ends and nowhere else, whatever comes before it and
//! whatever pieces the bytes arrive in.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringlift::wire::Malformed;
use ringlift::wire::qemu::TailScanner;
use ringlift_fuzz::{Input, accepted, example, input, seed, without_allocation};

const JSON: &[u8] = br#"{"page_size": 4096, "devices": [{"name": "timer \" ]", "fields": []}]}"#;

fn seeds() {
    seed("nothing", &input(b""));
    seed("complete", &input(&[b"\x04\0\0\0\0\x05timer".as_slice(), &example::close(JSON)].concat()));
    seed("cut", &input(&example::close(JSON)[..30]));
    seed("false", &input(&example::close(b"{\"a\0")));
}

/// The number of bytes taken, the description's length if the end was found, and whether more bytes followed it.
fn scan<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (u64, Option<u32>, bool) {
    let mut scanner = TailScanner::new();
    for piece in pieces {
        let result = without_allocation(|| scanner.take(piece));
        if let Err(error) = result {
            accepted::<()>(Err(error));
            assert!(
                matches!(error, Malformed::Trailing { found } if (1..=piece.len() as u64).contains(&found))
            );
            return (scanner.offset(), scanner.ended(), true);
        }
    }
    (scanner.offset(), scanner.ended(), false)
}

fuzz_target!(init: seeds(), |input: &[u8]| {
    let Some(input) = Input::new(input) else { return };
    let whole = scan([input.bytes].into_iter());
    assert_eq!(scan(input.pieces()), whole);
    let (offset, ended, has_more) = whole;
    let offset = usize::try_from(offset).expect("within the input");
    assert!(if has_more { offset < input.bytes.len() } else { offset == input.bytes.len() });
    if let Some(len) = ended {
        let (before, json) = input.bytes[..offset].split_at(offset - len as usize);
        assert!(before.ends_with(&len.to_be_bytes()) && before[..before.len() - 4].ends_with(&[0, 6]));
        assert!(json.starts_with(b"{") || json.starts_with(b"["));
        assert!(json.ends_with(b"}") || json.ends_with(b"]"));
    } else {
        // the end was not found yet: then a close is found, whatever came before it
        let (_, ended, has_more) = scan([input.bytes, &example::close(JSON)].into_iter());
        assert!(ended.is_some() && (has_more || ended == u32::try_from(JSON.len()).ok()));
    }
});

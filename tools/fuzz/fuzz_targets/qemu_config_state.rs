//! The config state of a device: its parts are exactly the bytes that were passed in, one after the other, none left out.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringlift::vfio::config_state::{CONFIG_STATE_TAG, ConfigState, END_OF_STATE_TAG};

use ringlift_fuzz::{accepted, seed, without_allocation};

/// The tags, the version and the levels of four pins.
const FIXED_LEN: usize = 8 + 4 + 16 + 8;

/// The same body with the tags and version that a fuzzer would have to guess.
fn tagged(body: &[u8]) -> Vec<u8> {
    [&CONFIG_STATE_TAG.to_be_bytes()[..], &[0, 0, 0, 2], body, &END_OF_STATE_TAG.to_be_bytes()].concat()
}

fn seeds() {
    for (name, len, vectors) in [("express", 4096, 0), ("plain", 256, 0), ("msix", 256, 3_u8)] {
        let mut body = vec![0; len + 16];
        if vectors > 0 {
            (body[0x06], body[0x34]) = (0x10, 0x40);
            body[0x40..0x44].copy_from_slice(&[0x11, 0, vectors - 1, 0]);
            body.resize(len + 16 + 16 * usize::from(vectors) + 1, 0xaa);
        }
        seed(name, &body);
        seed(&format!("{name}-tagged"), &tagged(&body));
    }
}

fn check(bytes: &[u8]) {
    let Some(state) = accepted(without_allocation(|| ConfigState::decode(bytes))) else { return };
    assert!(matches!(state.space.len(), 256 | 4096));
    assert!(state.subsections.is_empty() || state.subsections[0] == 0x05);
    // the largest number of vectors possible
    assert!(state.msix.len() <= 2048 * 16 + 256);
    let len = FIXED_LEN + state.space.len() + state.msix.len() + state.subsections.len();
    assert_eq!(len, bytes.len());
    let pins = state.pins.map(|pin| [0, 0, 0, u8::from(pin)]).concat();
    let body = [state.space, &pins, state.msix, state.subsections].concat();
    assert_eq!(tagged(&body), bytes);
}

fuzz_target!(init: seeds(), |bytes: &[u8]| {
    check(bytes);
    check(&tagged(bytes));
});

//! The first bytes of QEMU's connections: accepted bytes are written back byte by byte.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringlift::wire::qemu::{INIT_LEN, Init, Kind};
use ringlift_fuzz::{accepted, seed, without_allocation};

fn seeds() {
    let mut bytes = [0; INIT_LEN];
    Init { uuid: [7; 16], id: 3 }.encode(&mut bytes);
    seed("init", &bytes);
}

fuzz_target!(init: seeds(), |input: &[u8]| {
    let Some(bytes) = input.first_chunk::<INIT_LEN>() else { return };
    let kind = accepted(Kind::of([bytes[0], bytes[1], bytes[2], bytes[3]]));
    if let Some(init) = accepted(without_allocation(|| Init::decode(bytes))) {
        assert_eq!(kind, Some(Kind::Multifd));
        let mut again = [0; INIT_LEN];
        init.encode(&mut again);
        assert_eq!(&again, bytes);
    }
});

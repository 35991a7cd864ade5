//! What a destination sends to the source: an accepted message is written back byte by byte, and an incomplete one is never
//! taken for a whole one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringlift::limits::QEMU_REPLY_MAX;
use ringlift::wire::qemu::{REPLY_LEN_MAX, Reply};
use ringlift_fuzz::{accepted, seed, without_allocation};

fn seeds() {
    let mut all = Vec::new();
    for reply in [Reply::Pong(1), Reply::SwitchoverAck, Reply::Shut(0)] {
        let mut bytes = [0; REPLY_LEN_MAX];
        let len = reply.encode(&mut bytes);
        all.extend_from_slice(&bytes[..len]);
    }
    all.extend_from_slice(b"\0\x05\0\x07\x06pc.ram");
    seed("all", &all);
}

fuzz_target!(init: seeds(), |input: &[u8]| {
    let mut rest = input;
    while let Some(Some((len, reply))) = accepted(without_allocation(|| Reply::decode(rest))) {
        assert!((4..=4 + usize::from(QEMU_REPLY_MAX)).contains(&len));
        for cut in [0, 3, len - 1] {
            assert_eq!(Reply::decode(&rest[..cut.min(len - 1)]), Ok(None));
        }
        let mut again = [0; REPLY_LEN_MAX];
        match (reply, reply.encode(&mut again)) {
            (Reply::Other { len: body, .. }, written) => {
                assert_eq!((written, len), (0, 4 + usize::from(body)));
            }
            (_, written) => assert_eq!(again[..written], rest[..len]),
        }
        rest = &rest[len..];
    }
});

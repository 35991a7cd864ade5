//! The caller asked for something impossible.

use crate::limits;

/// The caller asked for something impossible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// A transfer needs devices.
    #[error("no device was given")]
    NoDevices,
    /// Too many devices.
    #[error("{given} devices were given, at most {} are possible", limits::DEVICES_MAX)]
    TooManyDevices {
        /// How many.
        given: usize,
    },
    /// Two devices with the same name and instance.
    #[error("device {name} was given twice")]
    DuplicateDevice {
        /// Its name.
        name: Box<str>,
    },
    /// A name must have 1 to 255 bytes of printable UTF-8.
    #[error("a device's name must have 1 to {} bytes and no control characters", limits::NAME_MAX)]
    BadName,
    /// The number of channels is outside its bounds.
    #[error("{given} channels were asked for, 1 to {} are possible", limits::CHANNELS_MAX)]
    BadChannels {
        /// How many.
        given: usize,
    },
    /// The packet size is outside its bounds.
    #[error(
        "a packet size of {given} bytes was asked for, {} to {} are possible",
        limits::PACKET_SIZE_MIN,
        limits::PACKET_SIZE_MAX
    )]
    BadPacketSize {
        /// Bytes that were asked for.
        given: u64,
    },
    /// The pool cannot hold what the settings need.
    #[error(
        "a pool of {given} bytes was asked for, these settings need {needed} to {}",
        limits::POOL_SIZE_MAX
    )]
    BadPool {
        /// Bytes that were asked for.
        given: u64,
        /// Bytes that the settings need.
        needed: u64,
    },
    /// The folder for a capture is not empty.
    #[error("the folder {path} is not empty")]
    FolderNotEmpty {
        /// Which folder.
        path: Box<str>,
    },
    /// More multifd connections than a migration can have.
    #[error("{given} multifd connections were asked for, 0 to {} are possible", limits::CHANNELS_MAX)]
    BadMultifd {
        /// How many.
        given: usize,
    },
    /// Neither an address nor sockets, or both.
    #[error("a transfer needs either an address or connected sockets")]
    NoPeer,
    /// Devices were given, and code that opens whatever the sender offers as well.
    #[error(
        "devices were given, and code that opens the devices of the sender: a transfer needs one or the other"
    )]
    DevicesTwice,
    /// Two devices that write the same file: one state would be lost.
    #[error("devices {one} and {other} write the same file")]
    SharedFile {
        /// A device.
        one: Box<str>,
        /// Another device.
        other: Box<str>,
    },
}

impl Misuse {
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            Misuse::BadPool { given, needed } if given < needed => {
                Some("use a larger pool, or the default one, which has room for every device")
            }
            Misuse::FolderNotEmpty { .. } => Some("name a new one: a capture never overwrites another"),
            Misuse::SharedFile { .. } => {
                Some("give each device a file or descriptor of its own; hard links are one file")
            }
            _ => None,
        }
    }
}

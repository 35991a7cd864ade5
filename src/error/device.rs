//! A device could not be read, written or brought to a state. Knows nothing of the device's name: the session adds it.

use super::{CallerError, DeviceOperation, Errno};
use crate::limits;
use crate::vfio::State;

/// A device could not be read, written or brought to a state. The session adds the device's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// An operation failed.
    #[error("{operation} failed: {errno}")]
    Io {
        /// What was attempted.
        operation: DeviceOperation,
        /// The kernel's error number.
        errno: Errno,
    },
    /// A read or write was interrupted, of a descriptor that loses bytes with that
    /// ([`FdKind::Device`](crate::source::FdKind::Device)).
    #[error("{operation} was interrupted (EINTR), which may have lost bytes of it")]
    CutShort {
        /// What was interrupted.
        operation: DeviceOperation,
    },
    /// The device refused state while the sender was still in pre-copy, as far as this side knows.
    #[error("{0}; the sender had not announced yet that it stops its devices")]
    RefusedEarly(#[source] Box<DeviceError>),
    /// The device could not be opened.
    #[error("{operation} {path} failed: {errno}")]
    Open {
        /// What was attempted.
        operation: DeviceOperation,
        /// On which path.
        path: Box<str>,
        /// The kernel's error number.
        errno: Errno,
    },
    /// A migration state change failed.
    #[error("state change {} failed: {errno}", change(*from, *to, *arc))]
    Transition {
        /// The state it was in.
        from: State,
        /// The state it should have gone to.
        to: State,
        /// The single arc of the way that failed: its first state and its last.
        arc: (State, State),
        /// The kernel's error number.
        errno: Errno,
    },
    /// A migration state change failed, and only a reset could recover the device.
    #[error(
        "state change {} failed: {errno}; the device was reset and the state in it is lost", change(*from, *to, *arc)
    )]
    StateLost {
        /// The state it was in.
        from: State,
        /// The state it should have gone to.
        to: State,
        /// The single arc of the way that failed: its first state and its last.
        arc: (State, State),
        /// The kernel's error number.
        errno: Errno,
    },
    /// A migration state change failed, and the reset after it failed as well.
    #[error(
        "state change {} failed: {errno}; the reset after it failed, too: {reset}; the device cannot be used",
        change(*from, *to, *arc)
    )]
    Poisoned {
        /// The state it was in.
        from: State,
        /// The state it should have gone to.
        to: State,
        /// The single arc of the way that failed: its first state and its last.
        arc: (State, State),
        /// The error number of the change.
        errno: Errno,
        /// The error number of the reset.
        reset: Errno,
    },
    /// The device is in a state in which nothing can be done.
    #[error("the device is in state {state}")]
    WrongState {
        /// Its state.
        state: State,
    },
    /// The device has no migration support, or less than is needed.
    #[error("the device does not support {what}")]
    Unsupported {
        /// What is missing.
        what: &'static str,
    },
    /// The config state belongs to another kind of device.
    #[error(
        "the config state belongs to another device: {field} is {found:#x} here and {expected:#x} at the source"
    )]
    Identity {
        /// Which field of the config space.
        field: &'static str,
        /// The value of the device here.
        found: u32,
        /// The value in the config state that came.
        expected: u32,
    },
    /// The config state cannot be read.
    #[error("the config state is broken: {what}")]
    BadConfig {
        /// What is wrong.
        what: &'static str,
    },
    /// The config state that a QEMU saved is invalid.
    #[error("the config state that QEMU saved cannot be right: {malformed}")]
    StreamConfig {
        /// What is wrong with it.
        malformed: crate::wire::Malformed,
    },
    /// The content differs from the generator's.
    #[error("content differs from the generator's at byte {offset}")]
    Content {
        /// Where in the device's state.
        offset: u64,
    },
    /// A device's own code panicked.
    #[error("its code panicked")]
    Panicked,
    /// A step never ended.
    #[error("it did not come back from its last step within {} s", limits::SETTLE_MAX.as_secs())]
    Stuck,
    /// The content has another length than the generator's.
    #[error("{found} bytes came, the source made {expected}")]
    Length {
        /// Bytes that arrived.
        found: u64,
        /// Bytes that the source reports to have made.
        expected: u64,
    },
    /// An error of an embedder's own source or sink, made with [`custom`](DeviceError::custom).
    #[error("{0}")]
    Custom(#[source] CallerError),
    /// The sink takes no more.
    #[error("the device took no more bytes at byte {offset} of its state")]
    Full {
        /// Where in the device's state.
        offset: u64,
    },
    /// Another sink writes this file, in this process or in another.
    #[error("another device or transfer writes the file {path}")]
    FileInUse {
        /// Which file.
        path: Box<str>,
    },
    /// Another user may have put this file there, to read what is written to it.
    #[error("the file {path} belongs to another user, and others can create files in its folder")]
    ForeignFile {
        /// Which file.
        path: Box<str>,
    },
    /// The file, or its folder, was replaced during the transfer.
    #[error("the file {path} or its folder was moved or replaced during the transfer")]
    FileChanged {
        /// Which file.
        path: Box<str>,
    },
    /// A killed process left several files half renamed, and that cannot be ended.
    #[error("an earlier transfer was interrupted, and its journal {journal} cannot be carried out: {errno}")]
    Interrupted {
        /// Where its journal is, or was.
        journal: Box<str>,
        /// The kernel's error number.
        errno: Errno,
    },
}

/// A change of state, and the arc of it that failed where the whole is more than that.
fn change(from: State, to: State, arc: (State, State)) -> String {
    let (begin, end) = arc;
    if arc == (from, to) {
        format!("{from} -> {to}")
    } else {
        format!("{from} -> {to}, at {begin} -> {end},")
    }
}

impl DeviceError {
    /// An error of an embedder's own source or sink, kept as it is: [`source`](std::error::Error::source) gives it back.
    ///
    /// ```
    /// use std::error::Error as _;
    /// use ringlift::error::DeviceError;
    ///
    /// let read = std::fs::read("/nowhere/at/all").map_err(DeviceError::custom);
    /// let error = read.unwrap_err();
    /// assert!(error.source().unwrap().is::<std::io::Error>());
    /// ```
    pub fn custom(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DeviceError {
        DeviceError::Custom(CallerError::new(error))
    }

    /// Whether the kernel refuses the device because it is open already, here or in another process.
    pub(crate) fn is_in_use(&self) -> bool {
        let DeviceError::Open { operation, errno, .. } = self else { return false };
        match errno.raw() {
            nix::libc::EBUSY => true,
            // a node can be opened any number of times; the kernel refuses the second binding with EINVAL
            nix::libc::EINVAL => *operation == DeviceOperation::BindIommufd,
            _ => false,
        }
    }

    pub(super) fn hint(&self) -> Option<&'static str> {
        Some(match self {
            DeviceError::Transition { .. } => {
                "the kernel log may say more; the device was brought back to what it did before"
            }
            DeviceError::StateLost { .. } => {
                "the kernel log may say more; whoever uses the device has to set it up again"
            }
            DeviceError::Poisoned { .. } => {
                "the kernel log may say more; close the device, and reset or rebind it before it is used again"
            }
            DeviceError::WrongState { .. } => {
                "another process may be migrating it, or a transfer was cut off: reset the device"
            }
            DeviceError::Open { operation, path, .. }
                if operation.is_on_a_file() && !path.starts_with("/dev/vfio") =>
            {
                "check the path and the permissions"
            }
            error if error.is_in_use() => {
                "another process has the device open, a virtual machine most likely: only one can"
            }
            DeviceError::Open { .. } => {
                "check the path and the permissions; a VFIO device must be bound to its vfio driver and not be in use"
            }
            DeviceError::Unsupported { .. } => {
                "the driver that it is bound to does not migrate: list the devices of this host to see which can"
            }
            DeviceError::Identity { .. }
            | DeviceError::BadConfig { .. }
            | DeviceError::StreamConfig { .. } => "both sides need the same device, driver and firmware",
            DeviceError::Content { .. } | DeviceError::Length { .. } => {
                "use a verifying sink only for a device that a synthetic source makes"
            }
            DeviceError::Io { operation: DeviceOperation::Write, .. } => {
                "both sides need the same device, driver and firmware, and a file needs room"
            }
            DeviceError::CutShort { .. } => {
                "transfer again, and let nothing stop, freeze or trace this process while it moves state"
            }
            DeviceError::Io { .. } | DeviceError::Stuck => "the kernel log may say more",
            DeviceError::Panicked => "this is a defect of that device's source or sink",
            DeviceError::FileInUse { .. } => {
                "name a file of its own for each device, or wait for the other transfer"
            }
            DeviceError::ForeignFile { .. } => {
                "name a file in a folder that nobody else can write to, or remove that file first"
            }
            DeviceError::FileChanged { .. } => {
                "let nothing else touch the file and its folder, and transfer again"
            }
            DeviceError::Interrupted { .. } => {
                "make the folders in it reachable and its files what they were; to keep all as it is, delete it and the locks"
            }
            DeviceError::RefusedEarly(error) => return error.hint(),
            DeviceError::Custom(_) => return None,
            DeviceError::Full { .. } => "both sides need the same device, and a file needs room",
        })
    }
}

//! Errors by blame: the variant tells who has to do something about it.
//!
//! | variant | whose | exit status of the command |
//! |---|---|---|
//! | [`Error::Misuse`] | the caller asked for something impossible | 2 |
//! | [`Error::Refused`] | the peers do not fit together | 4 |
//! | [`Error::Peer`] | the peer broke the protocol, fell silent or went away | 1 |
//! | [`Error::Capture`] | a file with a captured stream | 1 |
//! | [`Error::Device`] | a source or a sink, named | 1 |
//! | [`Error::File`] | an output file, named | 1 |
//! | [`Error::Kernel`] | this host: io_uring, memory, sockets | 1 |
//! | [`Error::Cancelled`], [`Error::Deadline`], [`Error::Downtime`] | the caller | 130, 1, 1 |
//! | [`Error::DryRun`] | no one: nothing was to be moved | 0 |
//! | [`Error::HookPanicked`], [`Error::HookRefused`] | the caller's own code | 1 |
//! | [`Error::InDoubt`] | neither side can tell which one runs the devices | 3 |
//!
//! No variant holds another's text; each keeps the operation and the errno.

mod capture;
mod code;
mod code_table;
mod device;
mod device_operation;
mod errno;
mod file_operation;
mod hook;
mod kernel;
mod misuse;
mod peer;
mod qemu;
mod refusal;
mod stream;

use std::fmt;
use std::time::Duration;

pub use crate::wire::Refusal;
pub use capture::{CaptureError, CaptureProblem, DeviceProblem, TailDifference};
pub use code::ErrorCode;
pub use device::DeviceError;
pub use device_operation::DeviceOperation;
pub use errno::Errno;
pub use file_operation::{CaptureOperation, FileOperation};
pub use hook::{CallerError, Hook};
pub use kernel::{KernelError, KernelOperation};
pub use misuse::Misuse;
pub use peer::{CreditProblem, OrderProblem, PeerError, Place};
pub use qemu::{QemuError, Uuid};
pub use stream::{Counted, OnlyOnce, PacketProblem, StreamPart, UnexpectedState};

/// Why a transfer did not end as asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller asked for something impossible.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// The peers do not fit together; nothing was moved.
    #[error("refused by the {by}: {reason}")]
    Refused {
        /// Which side refused.
        by: Side,
        /// Why.
        reason: Refusal,
    },
    /// The peer broke the protocol, fell silent or went away.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// A captured stream is broken.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// A device could not be read, written or brought to a state.
    #[error("device {device}: {error}")]
    Device {
        /// The device's name in this session.
        device: Box<str>,
        /// What failed.
        #[source]
        error: DeviceError,
    },
    /// A file or a folder could not be created or written.
    #[error("{operation} {path} failed: {errno}")]
    File {
        /// What was attempted.
        operation: FileOperation,
        /// On which path.
        path: Box<str>,
        /// The kernel's error number.
        errno: Errno,
    },
    /// This host's kernel reported an error.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The deadline passed before the hand-over.
    #[error("the deadline passed before every device was loaded")]
    Deadline,
    /// The source's devices stood still for longer than the caller allows, and were not all loaded yet.
    #[error("the devices were not loaded within {} s of being stopped", max.as_secs_f64())]
    Downtime {
        /// The bound.
        max: Duration,
    },
    /// The caller wanted to know how long the devices would stand still, and no transfer.
    #[error("this was a dry run: nothing was moved")]
    DryRun,
    /// Code that the caller set panicked, before the hand-over. [`Finished::panic`](crate::Finished::panic) has the panic.
    #[error("{hook} panicked: {message}")]
    HookPanicked {
        /// Which code.
        hook: Hook,
        /// What it panicked with, if that was a text.
        message: Box<str>,
    },
    /// Code that the caller set refused to go on.
    #[error("{hook} refused: {error}")]
    HookRefused {
        /// Which code.
        hook: Hook,
        /// Its error.
        #[source]
        error: CallerError,
    },
    /// Commit was sent and no answer came: the destination may or may not be running the devices.
    #[error("commit was sent and no answer came ({cause}): the destination may be running the devices")]
    InDoubt {
        /// Why the answer did not arrive.
        cause: Box<Error>,
    },
}

impl Error {
    /// Of a device that refused what it was sent in pre-copy: it has cost no downtime.
    pub(crate) fn before_switchover(self) -> Error {
        match self {
            Error::Device { device, error } => {
                Error::Device { device, error: DeviceError::RefusedEarly(Box::new(error)) }
            }
            other => other,
        }
    }

    /// What failed, as a number that never changes ([`ErrorCode`], `docs/ERRORS.md`).
    pub fn code(&self) -> u32 {
        ErrorCode::from(self).number()
    }

    /// What to do about it, in one sentence.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Misuse(error) => error.hint(),
            Error::Refused { reason, .. } => reason.hint(),
            Error::Peer(error) => error.hint(),
            Error::Capture(error) => Some(error.hint()),
            Error::Device { error, .. } => error.hint(),
            Error::File { .. } => Some("look at the path, its permissions, and the room on its disk"),
            Error::Kernel(error) => error.hint(),
            Error::Cancelled | Error::DryRun => None,
            Error::Deadline => Some(
                "the source devices are back where they were; raise the deadline, or find what is slow in the report's latency",
            ),
            Error::Downtime { .. } => Some(
                "the source devices are back where they were; raise the bound of the downtime, or find what is slow in the report's latency",
            ),
            Error::HookPanicked { hook: Hook::Internal, .. } => {
                Some("this is a defect of ringlift; the devices are back where they were")
            }
            Error::HookPanicked { .. } => {
                Some("this is a defect of the code that was set; the devices are back where they were")
            }
            Error::HookRefused { .. } => None,
            Error::InDoubt { .. } => Some(
                "look at the destination: if its devices run, discard the source; if it is down or says aborted, resume the source, whose state is intact",
            ),
        }
    }
}

/// One end of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The side that reads device state.
    Sender,
    /// The side that writes it.
    Receiver,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Sender => "sender",
            Side::Receiver => "receiver",
        })
    }
}

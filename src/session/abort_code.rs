//! The reason that an abort gives, as a number. Knows errors only by their blame. Every error has a code, and
//! `docs/PROTOCOL.md` has the same table.

use crate::error::Error;

/// The kind of failure that an abort reports to the peer. A later version may send others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub(crate) enum AbortCode {
    /// None of the kinds below.
    Other = 0,
    /// The peer broke the protocol, fell silent or went away.
    Peer = 1,
    /// A device, or a captured stream.
    Device = 2,
    /// The host that aborts.
    Host = 3,
    /// The deadline passed.
    Deadline = 4,
}

impl AbortCode {
    /// The number on the wire.
    pub(crate) fn code(self) -> u16 {
        self as u16
    }
}

impl From<&Error> for AbortCode {
    fn from(error: &Error) -> AbortCode {
        match error {
            Error::Peer(_) => AbortCode::Peer,
            Error::Capture(_) | Error::Device { .. } => AbortCode::Device,
            Error::Kernel(_) | Error::File { .. } => AbortCode::Host,
            Error::Deadline => AbortCode::Deadline,
            Error::Misuse(_) | Error::Refused { .. } | Error::Cancelled | Error::InDoubt { .. } => {
                AbortCode::Other
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{DeviceError, KernelError, KernelOperation, Misuse, PeerError};

    #[test]
    fn an_abort_names_who_is_to_blame() {
        let device = Error::Device { device: "net0".into(), error: DeviceError::Panicked };
        let kernel = KernelError::new(KernelOperation::Write, nix::errno::Errno::EIO).into();
        for (error, code) in [
            (Misuse::NoDevices.into(), 0),
            (Error::Cancelled, 0),
            (PeerError::Cancelled.into(), 1),
            (device, 2),
            (kernel, 3),
            (Error::Deadline, 4),
        ] {
            assert_eq!(AbortCode::from(&error).code(), code, "{error}");
        }
    }
}

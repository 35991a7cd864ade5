//! What an abort blames for an error. Knows errors only by their blame.

use crate::error::Error;
use crate::wire::AbortCode;

impl From<&Error> for AbortCode {
    fn from(error: &Error) -> AbortCode {
        match error {
            Error::Peer(_) => AbortCode::Peer,
            Error::Capture(_) | Error::Device { .. } => AbortCode::Device,
            Error::Kernel(_) | Error::File { .. } => AbortCode::Host,
            Error::Deadline | Error::Downtime { .. } => AbortCode::Deadline,
            Error::DryRun => AbortCode::DryRun,
            Error::Misuse(_)
            | Error::Refused { .. }
            | Error::Cancelled
            | Error::HookPanicked { .. }
            | Error::HookRefused { .. }
            | Error::InDoubt { .. } => AbortCode::Other,
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
            (Error::DryRun, 5),
        ] {
            assert_eq!(AbortCode::from(&error).number(), code, "{error}");
        }
    }
}

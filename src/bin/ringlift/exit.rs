//! How the command ends: the number that scripts check.

use std::process::ExitCode;

use ringlift::error::Error;
use ringlift::{Finished, Outcome};

/// The exit statuses of `ringlift --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Every device runs at the destination. Of a dry run: it was made.
    Complete = 0,
    /// Nothing was lost: the devices are back in their earlier state. Of a comparison: new is worse.
    Failed = 1,
    /// The command line makes no sense. Of a comparison: nothing was compared.
    Usage = 2,
    /// It is unknown which side runs.
    InDoubt = 3,
    /// The two sides do not match.
    Refused = 4,
    /// A comparison has too few rounds for its noise.
    CannotTell = 5,
    /// The transfer is complete, and a condition of `--fail-if` holds.
    ConditionHolds = 6,
    /// SIGINT or SIGTERM.
    Cancelled = 130,
}

impl Exit {
    /// The status after a transfer.
    pub(crate) fn of(finished: &Finished) -> Exit {
        match (finished.outcome, &finished.error) {
            (Outcome::Complete, _) => Exit::Complete,
            (Outcome::InDoubt, _) => Exit::InDoubt,
            (Outcome::Aborted, Some(error)) => Exit::of_error(error),
            (Outcome::Aborted, None) => Exit::Failed,
        }
    }

    /// The status after an error before or during a transfer.
    pub(crate) fn of_error(error: &Error) -> Exit {
        match error {
            Error::Misuse(_) => Exit::Usage,
            Error::DryRun => Exit::Complete,
            Error::Refused { .. } => Exit::Refused,
            Error::Cancelled => Exit::Cancelled,
            Error::InDoubt { .. } => Exit::InDoubt,
            _ => Exit::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use ringlift::error::{KernelError, KernelOperation, Misuse, PeerError, Refusal, Side};

    use super::*;

    #[test]
    fn statuses_are_those_of_the_contract() {
        let refused = Error::Refused { by: Side::Receiver, reason: Refusal::Busy };
        let kernel = KernelError::new(KernelOperation::Listen, nix::errno::Errno::EADDRINUSE);
        let in_doubt = Error::InDoubt { cause: Box::new(Error::Cancelled) };
        for (error, status) in [
            (Error::Misuse(Misuse::NoDevices), 2),
            (refused, 4),
            (Error::Peer(PeerError::Cancelled), 1),
            (Error::Kernel(kernel), 1),
            (Error::Deadline, 1),
            (Error::DryRun, 0),
            (Error::Peer(PeerError::DryRun), 1),
            (Error::Cancelled, 130),
            (in_doubt, 3),
        ] {
            assert_eq!(Exit::of_error(&error) as u8, status, "{error}");
        }
    }
}

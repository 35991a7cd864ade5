//! The engine's own types as a report writes them.

use crate::channel::ZeroCopy;
use crate::report::{self, TransferOutcome};
use crate::session::handover::Outcome;
use crate::wire::Checksum;

impl From<Outcome> for TransferOutcome {
    fn from(outcome: Outcome) -> TransferOutcome {
        match outcome {
            Outcome::Complete => TransferOutcome::Complete,
            Outcome::Aborted => TransferOutcome::Aborted,
            Outcome::InDoubt => TransferOutcome::InDoubt,
        }
    }
}

impl From<Checksum> for report::Checksum {
    fn from(checksum: Checksum) -> report::Checksum {
        match checksum {
            Checksum::None => report::Checksum::None,
            Checksum::Crc32c => report::Checksum::Crc32c,
        }
    }
}

impl From<ZeroCopy> for report::ZeroCopy {
    fn from(zero_copy: ZeroCopy) -> report::ZeroCopy {
        match zero_copy {
            ZeroCopy::Auto => report::ZeroCopy::Auto,
            ZeroCopy::On => report::ZeroCopy::On,
            ZeroCopy::Off => report::ZeroCopy::Off,
        }
    }
}

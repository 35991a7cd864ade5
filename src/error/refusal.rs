//! What to do about a refusal, whose reasons are those of the wire.

use crate::wire::Refusal;

impl Refusal {
    pub(super) fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Refusal::Version | Refusal::Feature => "run the same version of ringlift on both sides",
            Refusal::Busy => "wait for the other transfer to end, or use another receiver",
            Refusal::UnknownSession | Refusal::Channel => {
                "something else connected to this port: check the address"
            }
            Refusal::DeviceMismatch { .. } => "give both sides the same device names",
            Refusal::Settings { .. } => "use a smaller packet size or pool",
            Refusal::NotReady { .. } => "look at the receiver's own message",
            Refusal::Other { .. } => "the other side is newer: its own message says more",
        })
    }
}

//! The moments that the phases of the downtime lie between. It reads no clock.

use crate::report::Downtime;
use crate::time::Nanos;

/// When the devices began to stop, and what followed.
#[derive(Debug, Default)]
pub(super) struct Moments {
    pub(super) switchover: Option<Nanos>,
    /// All devices had stopped.
    pub(super) stopped: Option<Nanos>,
    /// All state had been moved.
    pub(super) transferred: Option<Nanos>,
    /// It was loaded.
    pub(super) loaded: Option<Nanos>,
    /// The devices ran on the other side.
    pub(super) committed: Option<Nanos>,
}

impl Moments {
    /// Phases follow one another: each begins where the previous one ended, and one that never came takes no time.
    pub(super) fn downtime(&self, end: Nanos, simulated: bool) -> Downtime {
        let Some(begin) = self.switchover else { return Downtime::default() };
        let mut last = begin;
        let mut phase = |moment: Option<Nanos>| {
            let at = moment.unwrap_or(last).max(last);
            let took = at - last;
            last = at;
            took
        };
        let (stop_ns, transfer_ns) = (phase(self.stopped), phase(self.transferred));
        let (load_ns, commit_ns) = (phase(self.loaded), phase(self.committed));
        let total_ns = self.committed.unwrap_or(end).saturating_sub(begin);
        // what is left of a transfer that was not completed is the way back
        let rollback_ns = total_ns.saturating_sub(stop_ns + transfer_ns + load_ns + commit_ns);
        Downtime { total_ns, stop_ns, transfer_ns, load_ns, commit_ns, rollback_ns, simulated }
    }
}

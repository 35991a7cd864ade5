//! Nothing hangs: when to send a heartbeat, and when to give up a peer that is silent or makes no progress.
//!
//! A peer is judged only for time in which this side looked. What a busy host takes away from this side is not the peer's
//! fault: its messages may have come long ago.

use std::time::Duration;

use crate::error::PeerError;
use crate::limits::{HEARTBEAT_INTERVAL, SILENCE_MAX, STANDSTILL_MAX};
use crate::phase::Phase;
use crate::time::Nanos;
use crate::time::deadlines::{Deadline, Deadlines};
use crate::time::nanos;

/// When messages and data last moved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Liveness {
    deadlines: Deadlines,
    /// When this side looked last.
    looked_at: Nanos,
}

impl Liveness {
    pub(crate) fn new(now: Nanos) -> Liveness {
        let mut live = Liveness { deadlines: Deadlines::NONE, looked_at: now };
        live.received(now);
        live.sent(now);
        live.moved(now, STANDSTILL_MAX);
        live
    }

    /// A message was received.
    pub(crate) fn received(&mut self, now: Nanos) {
        self.deadlines.set(Deadline::Silence, now + nanos(SILENCE_MAX));
    }

    /// A message was sent.
    pub(crate) fn sent(&mut self, now: Nanos) {
        self.deadlines.set(Deadline::Heartbeat, now + nanos(HEARTBEAT_INTERVAL));
    }

    /// Data moved, or the transfer made other progress; the next may take as long as `patience`. Heartbeats do not count:
    /// they cannot keep us waiting.
    pub(crate) fn moved(&mut self, now: Nanos, patience: Duration) {
        self.deadlines.set(Deadline::Standstill, now + nanos(patience));
    }

    /// Whether a heartbeat is due (P-38).
    pub(crate) fn heartbeat_due(&self, now: Nanos) -> bool {
        self.deadlines.has_expired(Deadline::Heartbeat, now)
    }

    /// Fails when the peer is silent or makes no progress (P-39, P-40). Called after each look at what has come.
    pub(crate) fn check(&mut self, now: Nanos, phase: Phase) -> Result<(), PeerError> {
        self.forgive(now.saturating_sub(self.looked_at).saturating_sub(nanos(HEARTBEAT_INTERVAL)));
        self.looked_at = now;
        if self.deadlines.has_expired(Deadline::Silence, now) {
            return Err(PeerError::Silent { phase });
        }
        if self.deadlines.has_expired(Deadline::Standstill, now) {
            return Err(PeerError::Standstill { phase });
        }
        Ok(())
    }

    /// This side looked that much later than the next heartbeat made it.
    fn forgive(&mut self, late: Nanos) {
        for reason in [Deadline::Silence, Deadline::Standstill] {
            self.deadlines.set(reason, self.deadlines.due(reason).saturating_add(late));
        }
    }

    /// When a heartbeat is due, if nothing else is sent.
    pub(crate) fn next_heartbeat(&self) -> Nanos {
        self.deadlines.due(Deadline::Heartbeat)
    }

    /// When to check again.
    pub(crate) fn next(&self) -> Nanos {
        self.deadlines.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    #[test]
    fn a_heartbeat_is_due_after_a_second_without_sending() {
        let mut live = Liveness::new(0);
        assert!(!live.heartbeat_due(SECOND - 1) && live.heartbeat_due(SECOND));
        live.sent(SECOND);
        assert!(!live.heartbeat_due(SECOND));
        assert_eq!(live.next(), 2 * SECOND);
    }

    /// Looks every second until `end`, and says when the peer was given up.
    fn look_until(live: &mut Liveness, begin: Nanos, end: Nanos) -> Option<(Nanos, PeerError)> {
        let looks = (begin / SECOND..=end / SECOND).map(|second| second * SECOND);
        looks.into_iter().find_map(|now| live.check(now, Phase::StopCopy).err().map(|error| (now, error)))
    }

    #[test]
    fn gives_a_silent_peer_up() {
        let mut live = Liveness::new(0);
        live.received(3 * SECOND);
        let given_up = look_until(&mut live, 0, 20 * SECOND);
        assert_eq!(given_up, Some((13 * SECOND, PeerError::Silent { phase: Phase::StopCopy })));
    }

    #[test]
    fn heartbeats_alone_do_not_keep_a_peer_alive() {
        let mut live = Liveness::new(0);
        live.received(90 * SECOND);
        let given_up = look_until(&mut live, 0, 90 * SECOND);
        assert_eq!(given_up, Some((60 * SECOND, PeerError::Standstill { phase: Phase::StopCopy })));
        live.moved(59 * SECOND, STANDSTILL_MAX);
        assert_eq!(live.check(60 * SECOND, Phase::StopCopy), Ok(()));
    }

    #[test]
    fn time_in_which_this_side_did_not_look_is_not_the_peers() {
        let mut live = Liveness::new(0);
        assert_eq!(live.check(5 * SECOND, Phase::StopCopy), Ok(()));
        assert_eq!(live.check(100 * SECOND, Phase::StopCopy), Ok(()), "its messages may wait in the socket");
        let given_up = look_until(&mut live, 101 * SECOND, 200 * SECOND).unwrap();
        // two looks came late, by four and by 94 seconds
        assert_eq!(given_up, (108 * SECOND, PeerError::Silent { phase: Phase::StopCopy }));
    }
}

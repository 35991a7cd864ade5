//! Nothing hangs: when to send a heartbeat, and when to give up a peer that is silent or makes no progress.

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
}

impl Liveness {
    pub(crate) fn new(now: Nanos) -> Liveness {
        let mut live = Liveness { deadlines: Deadlines::NONE };
        live.received(now);
        live.sent(now);
        live.moved(now);
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

    /// Data moved, or the transfer made other progress. Heartbeats do not count: they cannot keep us waiting.
    pub(crate) fn moved(&mut self, now: Nanos) {
        self.deadlines.set(Deadline::Standstill, now + nanos(STANDSTILL_MAX));
    }

    /// Whether a heartbeat is due (P-38).
    pub(crate) fn heartbeat_due(&self, now: Nanos) -> bool {
        self.deadlines.has_expired(Deadline::Heartbeat, now)
    }

    /// Fails when the peer is silent or makes no progress (P-39, P-40).
    pub(crate) fn check(&self, now: Nanos, phase: Phase) -> Result<(), PeerError> {
        if self.deadlines.has_expired(Deadline::Silence, now) {
            return Err(PeerError::Silent { phase });
        }
        if self.deadlines.has_expired(Deadline::Standstill, now) {
            return Err(PeerError::Standstill { phase });
        }
        Ok(())
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

    #[test]
    fn gives_a_silent_peer_up() {
        let mut live = Liveness::new(0);
        live.received(3 * SECOND);
        assert_eq!(live.check(13 * SECOND - 1, Phase::StopCopy), Ok(()));
        assert_eq!(
            live.check(13 * SECOND, Phase::StopCopy),
            Err(PeerError::Silent { phase: Phase::StopCopy })
        );
    }

    #[test]
    fn heartbeats_alone_do_not_keep_a_peer_alive() {
        let mut live = Liveness::new(0);
        live.received(60 * SECOND);
        assert_eq!(
            live.check(60 * SECOND, Phase::StopCopy),
            Err(PeerError::Standstill { phase: Phase::StopCopy })
        );
        live.moved(59 * SECOND);
        assert_eq!(live.check(60 * SECOND, Phase::StopCopy), Ok(()));
    }
}

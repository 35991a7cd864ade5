//! Nothing hangs: when to send a heartbeat, and when to give up a peer that is silent or makes no progress.
//!
//! A peer is judged only for time in which this side looked. What a busy host takes away from this side is not the peer's
//! fault: its messages may have come long ago.

use std::time::Duration;

use crate::error::PeerError;
use crate::limits::{AGREEMENT_MAX, HEARTBEAT_INTERVAL, PROGRESS_MIN, SILENCE_MAX, STANDSTILL_MAX};
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
    /// Bytes that moved and do not count as progress yet.
    few: u64,
    /// When data moved last, and how long the next may take.
    moved_at: Nanos,
    patience: Duration,
}

impl Liveness {
    pub(crate) fn new(now: Nanos) -> Liveness {
        let mut live = Liveness {
            deadlines: Deadlines::NONE,
            looked_at: now,
            few: 0,
            moved_at: now,
            patience: STANDSTILL_MAX,
        };
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
        self.few = 0;
        self.moved_at = now;
        self.patience = patience;
        self.deadlines.set(Deadline::Standstill, now + nanos(patience));
    }

    /// Data moved. A peer that sends a byte now and then cannot keep us waiting, either: only enough of them are progress.
    /// What it does change is how long the next may take: less than before from now on, or more since data moved.
    pub(crate) fn moved_bytes(&mut self, bytes: u64, now: Nanos, patience: Duration) {
        self.few = self.few.saturating_add(bytes);
        if self.few >= PROGRESS_MIN {
            return self.moved(now, patience);
        }
        let since = if patience < self.patience { now } else { self.moved_at };
        if patience != self.patience {
            self.patience = patience;
            self.deadlines.set(Deadline::Standstill, since + nanos(patience));
        }
    }

    /// The peer has to send an offer, and this is when its time begins. Nothing that it sends meanwhile extends it.
    pub(crate) fn await_offer(&mut self, now: Nanos) {
        self.deadlines.set(Deadline::Agreement, now + nanos(AGREEMENT_MAX));
    }

    /// The offer came.
    pub(crate) fn offered(&mut self) {
        self.deadlines.stop(Deadline::Agreement);
    }

    /// Whether a heartbeat is due (P-38).
    pub(crate) fn heartbeat_due(&self, now: Nanos) -> bool {
        self.deadlines.has_expired(Deadline::Heartbeat, now)
    }

    /// Fails when the peer is silent or makes no progress, or its offer is due (P-39, P-40, P-21). Called after each look at what has come.
    pub(crate) fn check(&mut self, now: Nanos, phase: Phase) -> Result<(), PeerError> {
        self.forgive(now.saturating_sub(self.looked_at).saturating_sub(nanos(HEARTBEAT_INTERVAL)));
        self.looked_at = now;
        if self.deadlines.has_expired(Deadline::Agreement, now) {
            return Err(PeerError::AgreementTimeout);
        }
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
        for reason in [Deadline::Silence, Deadline::Standstill, Deadline::Agreement] {
            if !self.deadlines.is_set(reason) {
                continue;
            }
            self.deadlines.set(reason, self.deadlines.due(reason).saturating_add(late));
        }
        self.moved_at = self.moved_at.saturating_add(late);
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
    fn a_byte_now_and_then_does_not_keep_a_peer_alive() {
        // One byte every 5 s held a receiver and its pool for as long as the peer liked.
        let mut live = Liveness::new(0);
        let ended = |second| Some((second * SECOND, PeerError::Standstill { phase: Phase::StopCopy }));
        for at in (0..60).map(|second| second * SECOND) {
            live.received(at);
            live.moved_bytes(1, at, STANDSTILL_MAX);
            assert_eq!(look_until(&mut live, at, at), None);
        }
        assert_eq!(look_until(&mut live, 60 * SECOND, 60 * SECOND), ended(60));
        live.moved_bytes(PROGRESS_MIN - 60, 59 * SECOND, STANDSTILL_MAX);
        assert_eq!(look_until(&mut live, 60 * SECOND, 60 * SECOND), None);
    }

    #[test]
    fn heartbeats_do_not_extend_the_time_for_an_offer() {
        let mut live = Liveness::new(0);
        live.await_offer(0);
        let end = nanos(AGREEMENT_MAX);
        live.received(end);
        assert_eq!(look_until(&mut live, 0, end), Some((end, PeerError::AgreementTimeout)));
        live.offered();
        assert_eq!(look_until(&mut live, end, end), None);
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

    #[test]
    fn few_bytes_change_how_long_the_next_may_take_and_extend_nothing() {
        let hour = Duration::from_secs(3600);
        let mut live = Liveness::new(0);
        live.moved(0, hour);
        live.received(3600 * SECOND);
        assert_eq!(look_until(&mut live, 0, 1000 * SECOND), None);
        live.moved_bytes(1, 1000 * SECOND, STANDSTILL_MAX);
        assert_eq!(look_until(&mut live, 1000 * SECOND, 1059 * SECOND), None);
        live.moved_bytes(1, 1059 * SECOND, hour);
        let given_up = look_until(&mut live, 1059 * SECOND, 4000 * SECOND);
        assert_eq!(given_up.map(|(at, _)| at), Some(3600 * SECOND), "an hour after data moved");
    }
}

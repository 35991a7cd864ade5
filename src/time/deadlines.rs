//! Every reason to wake at a certain time, in one table. Pure: points in time are handed in.
//!
//! A reason is set, stopped and found expired by its name, and how long to sleep is the earliest of those that are set:
//! no reason can be forgotten where a minimum is taken.

use super::Nanos;

/// A reason to wake at a certain time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// A heartbeat is due, unless something else is sent first.
    Heartbeat,
    /// The peer has sent nothing for too long.
    Silence,
    /// The peer has sent no offer.
    Agreement,
    /// Data has not moved for too long.
    Standstill,
    /// A connection of a QEMU has ended, and what is missing on the others has not come for too long.
    Leftovers,
    /// The caller wants it to be over.
    Caller,
    /// The devices have been stopped for as long as the caller allows.
    Downtime,
    /// A device in pre-copy that had nothing new is asked again.
    PreCopyPoll,
    /// Warming up ends, or looks whether everything has arrived; a dry run waits no longer for the round trip.
    WarmUp,
    /// Pre-copy ends, whether it has converged or not.
    PreCopyMax,
    /// A switchover that waits for the destination's acknowledgement goes on without it.
    Acknowledgement,
    /// Progress is due to be reported, by a worker that nothing else wakes.
    Progress,
    /// An interval ends that the caller is told of, whether anything has moved or not.
    Interval,
    /// What is under way on this host, steps of devices included, has to have ended.
    Settle,
    /// The reason of a failure is no longer waited for.
    AbortReason,
    /// The final message has to be sent.
    FinalMessage,
    /// The peer's kernel has to have confirmed the final message.
    Confirmation,
    /// The other side's report is no longer waited for.
    OtherSide,
    /// The peer has to have closed, or read what it was sent.
    Close,
    /// The clock of a recording lets the next bytes go. The last of the reasons: it says how many there are.
    Pace,
}

const COUNT: usize = Deadline::Pace as usize + 1;

/// When each of the reasons is due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    due: [Option<Nanos>; COUNT],
}

impl Deadlines {
    /// Nothing is due.
    pub(crate) const NONE: Deadlines = Deadlines { due: [None; COUNT] };

    pub(crate) fn set(&mut self, reason: Deadline, at: Nanos) {
        self.due[reason as usize] = Some(at);
    }

    pub(crate) fn stop(&mut self, reason: Deadline) {
        self.due[reason as usize] = None;
    }

    pub(crate) fn is_set(&self, reason: Deadline) -> bool {
        self.due[reason as usize].is_some()
    }

    /// When a reason is due; the end of time when it is not set.
    pub(crate) fn due(&self, reason: Deadline) -> Nanos {
        self.due[reason as usize].unwrap_or(Nanos::MAX)
    }

    pub(crate) fn has_expired(&self, reason: Deadline, now: Nanos) -> bool {
        self.due[reason as usize].is_some_and(|at| now >= at)
    }

    /// When the first reason is due; the end of time when none is set.
    pub(crate) fn next(&self) -> Nanos {
        self.due.iter().flatten().copied().min().unwrap_or(Nanos::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_for_the_first_reason_that_is_set() {
        let mut deadlines = Deadlines::NONE;
        assert_eq!(deadlines.next(), Nanos::MAX);
        deadlines.set(Deadline::Silence, 20);
        deadlines.set(Deadline::Heartbeat, 10);
        assert_eq!(deadlines.next(), 10);
        deadlines.stop(Deadline::Heartbeat);
        assert_eq!(deadlines.next(), 20);
    }

    #[test]
    fn a_reason_expires_at_its_time_and_only_when_it_is_set() {
        let mut deadlines = Deadlines::NONE;
        deadlines.set(Deadline::Pace, 10);
        assert!(!deadlines.has_expired(Deadline::Pace, 9) && deadlines.has_expired(Deadline::Pace, 10));
        deadlines.stop(Deadline::Pace);
        assert!(!deadlines.is_set(Deadline::Pace) && !deadlines.has_expired(Deadline::Pace, 10));
    }
}

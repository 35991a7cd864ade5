//! When a device went from state to state: the time of every single arc.
//!
//! It must not know why a device changes its state, nor read a clock. The invariant: what is kept has a bound, however
//! often the device changes its state.

use super::state::State;
use crate::limits::ARCS_MAX;
use crate::time::Nanos;

/// One single change of a device's migration state: an arc that its driver implements itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArcTime {
    /// The state it was in.
    pub from: State,
    /// The state it was asked to go to.
    pub to: State,
    /// When the kernel was asked, in nanoseconds of `CLOCK_MONOTONIC`.
    pub begin_ns: Nanos,
    /// When the kernel was done, well or not.
    pub end_ns: Nanos,
}

/// The arcs of one device that have not been taken yet; the first ones, when there are more than its bound.
#[derive(Debug)]
pub(super) struct Arcs(Vec<ArcTime>);

impl Arcs {
    pub(super) fn new() -> Arcs {
        Arcs(Vec::with_capacity(ARCS_MAX))
    }

    pub(super) fn push(&mut self, arc: ArcTime) {
        if self.0.len() < ARCS_MAX {
            self.0.push(arc);
        }
    }

    pub(super) fn take(&mut self) -> Vec<ArcTime> {
        self.0.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_arcs_are_kept_than_their_bound_until_they_are_taken() {
        let arc = |at| ArcTime {
            from: State::Running,
            to: State::Stop,
            begin_ns: at as Nanos,
            end_ns: at as Nanos,
        };
        let mut arcs = Arcs::new();
        (0..2 * ARCS_MAX).for_each(|at| arcs.push(arc(at)));

        let taken = arcs.take();

        assert!(taken.iter().map(|arc| arc.begin_ns).eq(0..ARCS_MAX as Nanos));
        arcs.push(arc(7));
        assert_eq!(arcs.take().len(), 1);
        assert!(arcs.take().is_empty());
    }
}

//! The loop of a worker, and waiting in it until something has happened or a deadline has passed.
//!
//! It knows neither protocols nor devices: the loop's owner decides what a completion means.

use std::time::Duration;

use crate::error::Error;
use crate::ring::{Completion, Ring};
use crate::time::deadlines::{Deadline, Deadlines};
use crate::time::{Nanos, nanos};

/// What waits for a ring's completions.
pub(crate) trait Loop {
    type Ring: Ring;

    fn ring(&mut self) -> &mut Self::Ring;

    /// The worker's reasons to wake.
    fn deadlines(&mut self) -> &mut Deadlines;

    /// Tells the caller what is due by the clock ([`Deadline::Interval`]). Nothing is in a loop that begins no intervals.
    fn on_clock(&mut self) {}

    /// An operation has ended.
    fn on_completion(&mut self, completion: Completion) -> Result<(), Error>;
}

/// The end of a wait that begins now.
pub(crate) fn within(owner: &mut impl Loop, patience: Duration) -> Nanos {
    owner.ring().now() + nanos(patience)
}

/// Turns until something `is_done`, or `deadline` has passed; meanwhile it is in the worker's table as `reason`. Each
/// turn gets the deadline and waits no longer. False when the deadline came first.
pub(crate) fn run_until<L: Loop>(
    owner: &mut L,
    (reason, deadline): (Deadline, Nanos),
    mut is_done: impl FnMut(&mut L) -> bool,
    mut turn: impl FnMut(&mut L, Nanos) -> Result<(), Error>,
) -> Result<bool, Error> {
    owner.deadlines().set(reason, deadline);
    let ended = loop {
        if is_done(owner) {
            break Ok(true);
        }
        let now = owner.ring().now();
        if owner.deadlines().has_expired(reason, now) {
            break Ok(false);
        }
        if let Err(error) = turn(owner, deadline) {
            break Err(error);
        }
    };
    owner.deadlines().stop(reason);
    ended
}

/// A turn that begins nothing, for when errors do not matter any more: waits, and takes what has ended.
pub(crate) fn drain<L: Loop>(owner: &mut L, deadline: Nanos) -> Result<(), Error> {
    drain_into(owner, deadline, |_| {})
}

/// A turn that begins nothing and collects what went wrong: waits, and takes what has ended.
pub(crate) fn drain_into<L: Loop>(
    owner: &mut L,
    deadline: Nanos,
    mut on_error: impl FnMut(Error),
) -> Result<(), Error> {
    owner.on_clock();
    let until = deadline.min(owner.deadlines().due(Deadline::Interval));
    owner.ring().wait(Some(until))?;
    while let Some(completion) = owner.ring().next() {
        if let Err(error) = owner.on_completion(completion) {
            on_error(error);
        }
    }
    Ok(())
}

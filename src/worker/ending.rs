//! How work on a ring ends, whatever the protocol: the reason, the final message, the last step of every device.
//!
//! Nothing here knows what a message means. The invariant: each device that is here begins its last step exactly once,
//! and whatever does not end in time is reported, not waited for.

use super::Worker;
use super::event_loop::{Loop, drain, run_until, within};
use super::guard::caught;
use super::steps::{Devices, HasSteps, NamedStep, StepOutput};
use super::write_signals::WriteSignals;
use crate::error::{DeviceError, Error, Hook};
use crate::limits::{FINAL_MESSAGE_MAX, LINGER_MAX, REASON_PATIENCE};
use crate::numbers::DeviceIdx;
use crate::ring::Ring;
use crate::time::Nanos;
use crate::time::deadlines::Deadline;
use crate::worker::finished::{EndState, Finished};

/// Runs a transfer to whatever end.
pub(crate) fn run<L: Loop>(
    mut owner: L,
    worker: fn(&mut L) -> &mut Worker<L::Ring>,
    transfer: fn(&mut L) -> Result<(), Error>,
    conclude: fn(L, Result<(), Error>) -> Finished,
) -> Finished {
    let _blocked = WriteSignals::block();
    // the caller's code is guarded where it is called, so what arrives here is a defect of ours: the devices come first
    let result = caught(|| transfer(&mut owner))
        .unwrap_or_else(|payload| Err(worker(&mut owner).caller.panics.keep(Hook::Internal, payload)));
    conclude(owner, result)
}

/// A connection that fails is often the second sign of a failure whose reason is on its way on another one. Waits for
/// an error that `is_reason`, as long as `may_come` says that one may still come, and gives it, or else the error as it
/// was.
pub(crate) fn await_abort_reason<L: Loop>(
    owner: &mut L,
    error: Error,
    is_reason: fn(&Error) -> bool,
    mut may_come: impl FnMut(&mut L) -> bool,
) -> Error {
    let end = within(owner, REASON_PATIENCE);
    let waited = run_until(
        owner,
        (Deadline::AbortReason, end),
        |owner| !may_come(owner),
        |owner, until| {
            owner.ring().wait(Some(until))?;
            while let Some(completion) = owner.ring().next() {
                match owner.on_completion(completion) {
                    Err(reason) if is_reason(&reason) => return Err(reason),
                    Ok(()) | Err(_) => {}
                }
            }
            Ok(())
        },
    );
    waited.err().filter(is_reason).unwrap_or(error)
}

/// Sends what is still to be sent, for a while. Errors do not matter any more.
pub(crate) fn send_final_message<L: Loop>(
    owner: &mut L,
    is_sent: impl FnMut(&mut L) -> bool,
    mut send: impl FnMut(&mut L),
) {
    let end = within(owner, FINAL_MESSAGE_MAX);
    // a ring that cannot wait cannot send
    let _ = run_until(owner, (Deadline::FinalMessage, end), is_sent, |owner, until| {
        send(owner);
        drain(owner, until)
    });
}

/// Waits a little for the peer to close (P-42): a connection that is closed with bytes unread is reset, and the final
/// message with it.
pub(crate) fn drain_close<L: Loop>(owner: &mut L, has_closed: impl FnMut(&mut L) -> bool) {
    let end = within(owner, LINGER_MAX);
    let _ = run_until(owner, (Deadline::Close, end), has_closed, drain);
}

/// Runs one step of every device, in parallel, and waits for all of them. Devices that are not back by `deadline` are
/// stuck.
pub(crate) fn step_all<L: Loop, D: ?Sized + HasSteps + Send + 'static>(
    owner: &mut L,
    parts: impl for<'a> Fn(&'a mut L) -> (&'a mut Worker<L::Ring>, &'a mut Devices<D>),
    (name, step): NamedStep<D>,
    deadline: Nanos,
    turn: impl FnMut(&mut L, Nanos) -> Result<(), Error>,
) -> Result<(), Error> {
    let (worker, devices) = parts(owner);
    devices.begin_all(worker, name, step);
    run_until(owner, (Deadline::Settle, deadline), |owner| !parts(owner).1.is_any_away(), turn)?;
    parts(owner).1.check_results()
}

/// The last step of every device that is here, whatever happens. True when each device was brought to where it belongs;
/// the report warns of the others.
pub(crate) fn finish_devices<L: Loop, D: ?Sized + HasSteps + Send + 'static>(
    owner: &mut L,
    parts: impl for<'a> Fn(&'a mut L) -> (&'a mut Worker<L::Ring>, &'a mut Devices<D>),
    (name, step): NamedStep<D>,
    deadline: Nanos,
) -> bool {
    let (worker, devices) = parts(owner);
    let untouched: Vec<bool> =
        DeviceIdx::below(devices.len()).map(|device| !devices.is_touched(device)).collect();
    let begun = devices.begin_all(worker, name, step);
    let _ = run_until(owner, (Deadline::Settle, deadline), |owner| !parts(owner).1.is_any_away(), drain);
    let (worker, devices) = parts(owner);
    let mut are_all = true;
    for (device, untouched) in DeviceIdx::below(devices.len()).zip(untouched) {
        // a device that came back too late to begin its last step has a result, but of another one
        let result = devices.take_result(device).filter(|_| begun.contains(device));
        are_all &= matches!(result, Some(Ok(_)));
        let end = match result {
            Some(Ok(_)) if untouched => EndState::Untouched,
            Some(Ok(StepOutput::End(end))) => end,
            Some(Ok(_)) => EndState::Back,
            Some(Err(error)) => EndState::Unknown(error),
            None => EndState::Unknown(DeviceError::Stuck),
        };
        worker.report.parted(devices.name(device), end);
    }
    are_all
}

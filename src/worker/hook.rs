//! The caller's hooks, and panics of their code. A hook runs beside the loop for as long as it needs: turns and heartbeats
//! go on meanwhile.
//!
//! It must not know what a hook is for. Two invariants: a hook is never left running, and the first panic is kept, with
//! its payload, until the transfer has ended.

use std::error;
use std::fmt;
use std::panic::resume_unwind;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Worker;
use super::event_loop::{Loop, drain};
use super::guard::{Guarded, Payload, caught, forget};
use super::operation::Operation;
use crate::error::{CallerError, Error, Hook, KernelError, KernelOperation};
use crate::ring::Ring;
use crate::time::Nanos;

/// Code of a hook.
pub(crate) type Code = Guarded<Box<dyn FnOnce() -> Result<(), CallerError> + Send>>;

/// Code of a hook, whatever errors it has.
pub(crate) fn code<E>(hook: impl FnOnce() -> Result<(), E> + Send + 'static) -> Code
where
    E: Into<Box<dyn error::Error + Send + Sync>>,
{
    Guarded::new(Box::new(move || hook().map_err(CallerError::new)))
}

/// The hook that runs beside the loop, if one does.
#[derive(Debug, Default)]
pub(crate) struct RunningHook {
    told: Option<mpsc::Receiver<Result<(), Error>>>,
    result: Option<Result<(), Error>>,
}

impl RunningHook {
    pub(crate) fn is_under_way(&self) -> bool {
        self.told.is_some()
    }

    fn begin(&mut self, ring: &mut impl Ring, panics: &Panics, (hook, code): (Hook, Code)) {
        let (tell, told) = mpsc::channel();
        self.told = Some(told);
        let panics = panics.clone();
        let job = move || {
            let result = match caught(code.into_inner()) {
                Ok(result) => result.map_err(|error| Error::HookRefused { hook, error }),
                Err(payload) => Err(panics.keep(hook, payload)),
            };
            // nothing is to be told to a worker that has gone, which it does only when it is broken
            let _ = tell.send(result);
        };
        ring.spawn(Operation::Hook.tag(), Box::new(job));
    }

    /// The hook has ended; waits for it if it has not.
    pub(crate) fn join(&mut self) {
        let Some(told) = self.told.take() else { return };
        let not_run = || KernelError::new(KernelOperation::StartThread, nix::errno::Errno::EAGAIN).into();
        self.result = Some(told.recv().unwrap_or_else(|_| Err(not_run())));
    }
}

/// Runs a hook, and turns until it has returned.
pub(crate) fn run_hook<L: Loop>(
    owner: &mut L,
    worker: fn(&mut L) -> &mut Worker<L::Ring>,
    hook: Hook,
    code: Option<Code>,
    turn: fn(&mut L) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(code) = code else { return Ok(()) };
    let Worker { ring, caller, hook: running, .. } = worker(owner);
    running.begin(ring, &caller.panics, (hook, code));
    while worker(owner).hook.is_under_way() {
        turn(owner)?;
    }
    worker(owner).hook.result.take().unwrap_or(Ok(()))
}

/// Waits for a hook that still runs, without a bound: it is the caller's own code.
pub(crate) fn await_hook<L: Loop>(owner: &mut L, worker: fn(&mut L) -> &mut Worker<L::Ring>) {
    while worker(owner).hook.is_under_way() {
        if drain(owner, Nanos::MAX).is_err() {
            // a ring that cannot wait does not tell of its end
            worker(owner).hook.join();
        }
    }
}

/// A panic of the caller's own code, caught so that the devices could be brought to where they belong.
///
/// ```no_run
/// # fn wait(sender: ringlift::Sender) {
/// let finished = sender.run();
/// // first what became of the devices, and only then the panic
/// println!("{:?}, {:?}", finished.outcome, finished.devices);
/// if let Some(panic) = finished.panic {
///     panic.resume();
/// }
/// # }
/// ```
pub struct HookPanic {
    hook: Hook,
    message: Box<str>,
    // a payload need not be Sync
    payload: Mutex<Payload>,
}

impl HookPanic {
    fn new(hook: Hook, payload: Payload) -> HookPanic {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        HookPanic { hook, message: text.unwrap_or("it gave no text").into(), payload: Mutex::new(payload) }
    }

    /// Which code panicked.
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// What it said, if it was a text.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What it panicked with.
    pub fn into_payload(self) -> Box<dyn std::any::Any + Send> {
        self.payload.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on with the panic where it was caught.
    pub fn resume(self) -> ! {
        resume_unwind(self.into_payload())
    }
}

impl fmt::Debug for HookPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookPanic")
            .field("hook", &self.hook)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

/// The first panic of the caller's code, once there was one. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Panics(Arc<Mutex<Option<HookPanic>>>);

impl Panics {
    /// Keeps a panic, unless there is one already. Gives the error of this one.
    pub(crate) fn keep(&self, hook: Hook, payload: Payload) -> Error {
        let panic = HookPanic::new(hook, payload);
        let error = panic.error();
        let mut first = self.first();
        if first.is_none() {
            *first = Some(panic);
        } else {
            forget(panic.into_payload());
        }
        error
    }

    /// Fails once there was a panic.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.first().as_ref().map_or(Ok(()), |panic| Err(panic.error()))
    }

    /// The panic, at the end.
    pub(crate) fn take(&self) -> Option<HookPanic> {
        self.first().take()
    }

    fn first(&self) -> MutexGuard<'_, Option<HookPanic>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HookPanic {
    fn error(&self) -> Error {
        Error::HookPanicked { hook: self.hook, message: self.message.clone() }
    }
}

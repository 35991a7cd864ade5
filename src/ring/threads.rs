//! The threads that carry out jobs beside the loop. All of them exist before the first job, so that no job can be
//! refused one: a host that has no thread to spare says so before any device has been touched.
//!
//! Nothing here knows what a job does. The invariant: a job that was given to it runs, and its end is reported.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::sys::signal::{SigSet, SigmaskHow};

use super::Job;
use super::waker::JobEnd;
use crate::error::{KernelError, KernelOperation};

/// Threads that wait for jobs. Dropped, they end: the idle ones before it is gone, the others after their job.
#[derive(Debug, Default)]
pub(super) struct JobThreads {
    shared: Arc<Shared>,
    threads: Vec<JobThread>,
}

#[derive(Debug)]
struct JobThread {
    handle: thread::JoinHandle<()>,
    number: usize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<(Job, JobEnd)>,
    /// Threads with a job, by number.
    busy: Vec<bool>,
    /// No more jobs come.
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("waiting", &self.jobs.len()).field("busy", &self.busy).finish()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job, once there is one; none when no more come.
    fn next(&self, number: usize) -> Option<(Job, JobEnd)> {
        let mut state = self.lock();
        state.busy[number] = false;
        let is_waiting = |state: &mut State| state.jobs.is_empty() && !state.closed;
        let mut state = self.changed.wait_while(state, is_waiting).unwrap_or_else(PoisonError::into_inner);
        let job = state.jobs.pop_front();
        state.busy[number] = job.is_some();
        job
    }
}

impl JobThreads {
    /// Makes sure that `count` jobs can be under way at once.
    pub(super) fn reserve(&mut self, count: usize) -> Result<(), KernelError> {
        without_signals(|| (self.threads.len()..count).try_for_each(|number| self.add(number)))?
    }

    fn add(&mut self, number: usize) -> Result<(), KernelError> {
        self.shared.lock().busy.push(true);
        let shared = Arc::clone(&self.shared);
        let handle = thread::Builder::new()
            .name("ringlift-job".into())
            .spawn(move || carry_out_all(&shared, number))
            .map_err(|error| KernelError::new(KernelOperation::StartThread, error))?;
        self.threads.push(JobThread { handle, number });
        Ok(())
    }

    /// Gives a job to a thread. With more jobs under way than threads were reserved, it waits for one of them; without any
    /// thread, it is carried out here: a device that goes back where it was is worth a loop that stands still.
    pub(super) fn give(&self, job: Job, end: JobEnd) {
        if self.threads.is_empty() {
            return carry_out(job, end);
        }
        self.shared.lock().jobs.push_back((job, end));
        self.shared.changed.notify_one();
    }
}

impl Drop for JobThreads {
    /// A job that never ends keeps its thread, which nobody waits for.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        for JobThread { handle, number } in self.threads.drain(..) {
            let is_idle = !self.shared.lock().busy[number];
            if is_idle {
                // it caught every panic
                let _ = handle.join();
            }
        }
    }
}

fn carry_out_all(shared: &Shared, number: usize) {
    while let Some((job, end)) = shared.next(number) {
        carry_out(job, end);
    }
}

fn carry_out(job: Job, end: JobEnd) {
    // whoever begins a job sees that it gave nothing
    let _ = catch_unwind(AssertUnwindSafe(job));
    drop(end);
}

/// What `make` gives, made with every signal blocked: new threads leave signals to the program's own.
fn without_signals<T>(make: impl FnOnce() -> T) -> Result<T, KernelError> {
    let failed = |errno: nix::errno::Errno| KernelError::new(KernelOperation::BlockSignals, errno);
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(failed)?;
    let made = make();
    before.thread_set_mask().map_err(failed)?;
    Ok(made)
}

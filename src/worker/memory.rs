//! Makes the pool beside the loop: mapping and populating many pages takes seconds, and heartbeats go on meanwhile.
//!
//! Nothing here knows what the pool is for. The invariant: a pool that is adopted has all of its pages.

use std::sync::{Arc, Mutex, PoisonError};

use super::Worker;
use super::event_loop::{Loop, run_until};
use super::operation::Operation;
use crate::buffer::Pool;
use crate::error::{Error, KernelError, KernelOperation};
use crate::ring::Ring;
use crate::time::Nanos;
use crate::time::deadlines::Deadline;

type Made = Arc<Mutex<Option<Result<Pool, KernelError>>>>;

/// Makes a pool of `count` slots, and adopts it. The loop goes on in turns meanwhile.
pub(crate) fn make_pool<L: Loop>(
    owner: &mut L,
    worker: fn(&mut L) -> &mut Worker<L::Ring>,
    (count, capacity): (u32, u32),
    turn: impl FnMut(&mut L, Nanos) -> Result<(), Error>,
) -> Result<(), Error> {
    let made = Made::default();
    let job = {
        let made = Arc::clone(&made);
        move || *made.lock().unwrap_or_else(PoisonError::into_inner) = Some(Pool::new(count, capacity))
    };
    worker(owner).ring.spawn(Operation::MakePool.tag(), Box::new(job));
    // the job is dropped, and its half of `made` with it, before its end is reported
    run_until(owner, (Deadline::Settle, Nanos::MAX), |_| Arc::strong_count(&made) == 1, turn)?;
    let pool = made.lock().unwrap_or_else(PoisonError::into_inner).take();
    let out_of_memory = || Err(KernelError::new(KernelOperation::MapPool, nix::errno::Errno::ENOMEM));
    worker(owner).adopt(pool.unwrap_or_else(out_of_memory)?);
    Ok(())
}

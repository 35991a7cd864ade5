//! Threads with a tokio-uring runtime, and the few combinators for futures that are needed here. Knows no socket.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::SigSet;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::error::{Error, KernelError, KernelOperation};
use crate::limits::CANCEL_POLL;
use crate::ring;

/// The result of `work`; `None` if `stop` ends first.
pub(super) async fn race<T>(stop: impl Future, work: impl Future<Output = T>) -> Option<T> {
    let (mut stop, mut work) = (pin!(stop), pin!(work));
    poll_fn(|context| match stop.as_mut().poll(context) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => work.as_mut().poll(context).map(Some),
    })
    .await
}

/// All results in order, or the first error.
pub(super) async fn all<T>(work: Vec<impl Future<Output = Result<T, Error>>>) -> Result<Vec<T>, Error> {
    let mut work: Vec<_> = work.into_iter().map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        for (future, result) in work.iter_mut().filter(|(_, result)| result.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(Ok(value)) => *result = Some(value),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        let done = work.iter().all(|(_, result)| result.is_some());
        if done { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await?;
    Ok(work.into_iter().filter_map(|(_, result)| result).collect())
}

/// Runs `work` on its own thread, because the caller's may belong to another runtime, and checks for a cancel
/// meanwhile.
pub(super) fn unless_cancelled<T, F>(
    cancel: &dyn Fn() -> bool,
    work: impl FnOnce() -> F + Send,
) -> Result<T, Error>
where
    T: Send,
    F: Future<Output = Result<T, Error>>,
{
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell_result, result) = mpsc::sync_channel(1);
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .name("ringlift-hello".into())
            .spawn_scoped(scope, move || {
                // None if it was stopped: then nothing waits for a result.
                if let Some(done) = run(async { race(stopped, work()).await }).transpose() {
                    let _ = tell_result.send(done.map_err(Error::from).flatten());
                }
            })
            .map_err(|error| KernelError::new(KernelOperation::StartThread, error))?;
        let outcome = loop {
            match result.recv_timeout(CANCEL_POLL) {
                Ok(done) => break done,
                Err(mpsc::RecvTimeoutError::Timeout) if !cancel() => {}
                Err(mpsc::RecvTimeoutError::Timeout) => break Err(Error::Cancelled),
                Err(mpsc::RecvTimeoutError::Disconnected) => break Err(thread_gone().into()),
            }
        };
        drop(stop);
        // A panic has been reported by now, and has become an error above.
        let _ = worker.join();
        outcome
    })
}

/// Waits until `owner`'s descriptor is ready, on this thread's runtime.
#[expect(
    deprecated,
    reason = "its successor is unsafe, for types that change their descriptor: these never do"
)]
pub(super) fn readiness<T: AsFd + AsRawFd>(owner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(owner, interest)
}

/// Runs `work` on a runtime on this thread, which is ours: a ring that ends interrupts its thread's system calls.
///
/// tokio-uring ends its operations in a destructor, which panics where `io_uring_enter` fails; during another panic that
/// aborts the process. So no runtime is made where a call that it needs is denied, and one that is no longer whole, or
/// whose ring may not be entered any more, is leaked.
pub(super) fn run<T>(work: impl Future<Output = T>) -> Result<T, KernelError> {
    // Signals are for the program's own threads, and a peer that went away must not kill the program with SIGPIPE.
    SigSet::all().thread_block().map_err(|errno| KernelError::new(KernelOperation::BlockSignals, errno))?;
    check_host()?;
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio_uring::Runtime::new(&tokio_uring::builder())
            .map_err(|error| KernelError::new(KernelOperation::RingSetup, &error))?;
        let runtime = ManuallyDrop::new(runtime);
        let done = runtime.block_on(work);
        if ring::check().is_ok() {
            drop(ManuallyDrop::into_inner(runtime));
        }
        Ok(done)
    }));
    ran.unwrap_or_else(|_| Err(thread_gone()))
}

/// Makes each of a runtime's system calls once, so that a failure is an error that names the call.
fn check_host() -> Result<(), KernelError> {
    let failed = |operation| move |errno: nix::errno::Errno| KernelError::new(operation, errno);
    ring::check()?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed(KernelOperation::EpollCreate))?;
    let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).map_err(failed(KernelOperation::EventFd))?;
    let interest = EpollEvent::new(EpollFlags::EPOLLIN, 0);
    epoll.add(&event, interest).map_err(failed(KernelOperation::EpollControl))?;
    match epoll.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(failed(KernelOperation::EpollWait)(errno)),
    }
}

pub(super) fn thread_gone() -> KernelError {
    KernelError::new(KernelOperation::KeepThread, nix::errno::Errno::EOWNERDEAD)
}

//! The signals that a failed write sends: SIGPIPE for a pipe without a reader, SIGXFSZ for a file beyond its limit.
//!
//! A write gives `EPIPE` or `EFBIG`, and that is what is reported; but where the program leaves these signals as they
//! are, as a C program does, they end the process. The kernel sends them to the thread that writes: the worker, the
//! ring's threads or the kernel's own workers, and the latter two block all signals. The invariant: while a worker runs
//! both are blocked on its thread, and afterwards the thread's mask is what it was, and neither is pending because of
//! us.

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

const SIGNALS: [Signal; 2] = [Signal::SIGPIPE, Signal::SIGXFSZ];

/// Blocks them on this thread until it is dropped.
#[derive(Debug)]
pub(crate) struct WriteSignals {
    before: Option<SigSet>,
}

impl WriteSignals {
    pub(crate) fn block() -> WriteSignals {
        // can fail only for a mask that does not exist
        let before = SigSet::from_iter(SIGNALS).thread_swap_mask(SigmaskHow::SIG_BLOCK).ok();
        WriteSignals { before }
    }
}

impl Drop for WriteSignals {
    fn drop(&mut self) {
        let Some(before) = self.before else { return };
        let ours = SIGNALS.into_iter().filter(|signal| !before.contains(*signal));
        if take_pending(&ours.collect()).is_ok() {
            // can fail only for a mask that does not exist
            let _ = before.thread_set_mask();
        }
        // or else better blocked than dead
    }
}

/// Takes those that are pending, without waiting.
fn take_pending(signals: &SigSet) -> nix::Result<()> {
    let pending = SignalFd::with_flags(signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    while pending.read_signal()?.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn a_signal_that_came_meanwhile_is_gone_and_the_mask_is_what_it_was() {
        let ours = SigSet::from_iter([Signal::SIGXFSZ]);
        ours.thread_block().unwrap();
        let before = SigSet::thread_get_mask().unwrap();
        let blocked = WriteSignals::block();
        SIGNALS.into_iter().for_each(|signal| raise(signal).unwrap());
        assert!(SIGNALS.into_iter().all(|signal| SigSet::thread_get_mask().unwrap().contains(signal)));
        drop(blocked);

        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
        // one that the caller blocks is the caller's: it is still there
        assert_eq!(ours.wait().unwrap(), Signal::SIGXFSZ);
    }
}

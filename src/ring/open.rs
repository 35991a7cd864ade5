//! Makes a worker's ring: the only place that chooses one. Says beforehand whether this process may use io_uring.

use std::sync::Arc;

use io_uring::IoUring;

use super::probe;
use super::uring::Uring;
use super::waker::Waker;
use crate::buffer::check_memory;
use crate::cancel::{Cancel, Signal};
use crate::error::{KernelError, KernelOperation};

/// The ring used by workers on this host.
pub(crate) type HostRing = Uring;

/// Fails where this process may not make an io_uring or not enter one: a sandbox may allow the first and deny the second.
pub(crate) fn check() -> Result<(), KernelError> {
    let ring = IoUring::new(2).map_err(|error| probe::setup_failed(&error))?;
    ring.submit().map_err(|error| KernelError::new(KernelOperation::RingEnter, error))?;
    Ok(())
}

/// A ring that `cancel` wakes up.
pub(crate) fn open(cancel: &Cancel) -> Result<HostRing, KernelError> {
    check()?;
    check_memory()?;
    let ring = Uring::new()?;
    wake_on(&ring, cancel.signal());
    Ok(ring)
}

/// Lets `signal` wake the ring up, too.
pub(crate) fn wake_on(ring: &HostRing, signal: &Signal) {
    let waker: std::sync::Weak<Waker> = Arc::downgrade(ring.waker());
    signal.attach(waker);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Ring;
    use crate::time::now;

    #[test]
    fn a_ring_waits_no_longer_when_its_transfer_is_cancelled() {
        let cancel = Cancel::new();
        let mut ring = open(&cancel).unwrap();
        let before = now();
        let canceller = std::thread::spawn(move || cancel.cancel());
        ring.wait(Some(before + 5_000_000_000)).unwrap();
        assert!(now() < before + 4_000_000_000);
        canceller.join().unwrap();
    }
}

//! Makes a worker's ring: the only place that chooses one.

use std::sync::Arc;

use super::uring::Uring;
use super::waker::Waker;
use crate::cancel::{Cancel, Signal};
use crate::error::KernelError;

/// The ring used by workers on this host.
pub(crate) type HostRing = Uring;

/// A ring that `cancel` wakes up.
pub(crate) fn open(cancel: &Cancel) -> Result<HostRing, KernelError> {
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

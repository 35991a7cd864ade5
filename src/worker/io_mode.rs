//! Who carries out a device's reads and writes: the ring, or the worker's own thread.
//!
//! The kernel hands reads and writes of most descriptors (a VFIO data_fd, a memfd) to a thread of its own. That overlaps with
//! everything else, and is what a device that waits for hardware needs. But where a read only copies memory and there is no
//! processor to spare, the hand-over costs four context switches a packet and a cold cache. So descriptors that never wait
//! are read by the worker itself when this process has no more than two processors; `docs/BENCHMARKING.md` has the figures.

use crate::ring::IoMode;
use crate::source::FdKind;

/// Processors up to which the worker reads and writes memory itself: with three there is one to spare beside the two sides of
/// a transfer on one host, or beside the worker and the network's own work.
const THREAD_CPUS_MAX: usize = 2;

/// Who carries out operations on a descriptor of this kind, on this machine.
pub(crate) fn choose(kind: FdKind, cpus: usize) -> IoMode {
    match kind {
        FdKind::Memory if cpus <= THREAD_CPUS_MAX => IoMode::Inline,
        FdKind::Memory | FdKind::Waits => IoMode::Ring,
    }
}

/// Processors that this process may use.
pub(crate) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_never_waits_for_a_device() {
        assert_eq!(choose(FdKind::Waits, 1), IoMode::Ring);
        assert_eq!(choose(FdKind::Waits, 64), IoMode::Ring);
    }

    #[test]
    fn memory_is_copied_by_the_worker_where_processors_are_few() {
        assert_eq!(choose(FdKind::Memory, 2), IoMode::Inline);
        assert_eq!(choose(FdKind::Memory, 8), IoMode::Ring);
    }
}

//! The I/O mode of a device: whether the ring or the worker's own thread carries out its reads and writes.
//!
//! The kernel hands reads and writes of most descriptors (a VFIO data_fd, a memfd) to a thread of its own. That
//! overlaps with everything else, and is what a device that waits for hardware needs. But where a read only copies
//! memory and no processor is spare, the hand-over costs four context switches per packet and a cold cache. So the
//! worker itself reads descriptors that never wait when this process has no more than two processors;
//! `docs/BENCHMARKING.md` has the figures.

use crate::ring::IoMode;
use crate::source::FdKind;

/// Up to this many processors the worker reads and writes memory itself: with three, one is spare beside the two sides
/// of a transfer on one host, or beside the worker and the kernel's network processing.
const THREAD_CPUS_MAX: usize = 2;

/// The I/O mode for a descriptor of this kind, on this machine.
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

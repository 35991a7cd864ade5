//! The I/O mode of a descriptor: whether the ring, a thread of the ring in the kernel, or the worker's own thread carries
//! out its reads and writes.
//!
//! A read or write that overlaps with everything else is what a device that waits for hardware needs. But where a read
//! only copies memory and no processor is spare, the hand-over to a thread costs four context switches per packet and a
//! cold cache. So the worker itself reads descriptors that never wait when this process has no more than two processors;
//! `docs/BENCHMARKING.md` has the figures.
//!
//! The kernel tries an operation on the submitting thread first. With pipes, sockets and reads of files it knows how not to
//! wait. With a terminal or a device it does not: a write to a terminal that nobody reads would stop the loop, and a
//! device that calls itself ready is tried over and over. Nor do all kernels when a file is written whose file system is
//! frozen. These go to a thread of the kernel at once.

use std::os::fd::BorrowedFd;

use nix::libc;

use crate::ring::IoMode;
use crate::source::FdKind;

/// Up to this many processors the worker reads and writes memory itself: with three, one is spare beside the two sides
/// of a transfer on one host, or beside the worker and the kernel's network processing.
const THREAD_CPUS_MAX: usize = 2;

/// What is done with a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// The I/O mode of a descriptor on this host.
pub(crate) fn of(fd: BorrowedFd<'_>, kind: FdKind, direction: Direction) -> IoMode {
    // nothing is known of a descriptor that has no type
    let mode = nix::sys::stat::fstat(fd).map_or(0, |stat| stat.st_mode);
    choose(kind, mode, direction, cpus())
}

/// The I/O mode for a descriptor of this kind and with this file mode, with so many processors.
fn choose(kind: FdKind, mode: libc::mode_t, direction: Direction, cpus: usize) -> IoMode {
    match (kind, mode & libc::S_IFMT, direction) {
        (FdKind::Memory, ..) if cpus <= THREAD_CPUS_MAX => IoMode::Inline,
        (FdKind::Memory, ..)
        | (FdKind::Waits, libc::S_IFIFO | libc::S_IFSOCK, _)
        | (FdKind::Waits, libc::S_IFREG, Direction::Read) => IoMode::Ring,
        (FdKind::Waits, ..) => IoMode::Thread,
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
        for (cpus, direction) in [(1, Direction::Read), (64, Direction::Write)] {
            assert_eq!(choose(FdKind::Waits, libc::S_IFIFO, direction, cpus), IoMode::Ring);
            assert_eq!(choose(FdKind::Waits, libc::S_IFSOCK, direction, cpus), IoMode::Ring);
            assert_eq!(choose(FdKind::Waits, libc::S_IFCHR, direction, cpus), IoMode::Thread);
            // an anonymous inode, as VFIO's migration data has
            assert_eq!(choose(FdKind::Waits, 0, direction, cpus), IoMode::Thread);
        }
    }

    #[test]
    fn a_file_on_a_disk_is_read_as_far_as_it_is_cached_and_written_by_a_thread() {
        assert_eq!(choose(FdKind::Waits, libc::S_IFREG, Direction::Read, 2), IoMode::Ring);
        assert_eq!(choose(FdKind::Waits, libc::S_IFREG, Direction::Write, 2), IoMode::Thread);
    }

    #[test]
    fn memory_is_copied_by_the_worker_where_processors_are_few() {
        for direction in [Direction::Read, Direction::Write] {
            assert_eq!(choose(FdKind::Memory, libc::S_IFREG, direction, 2), IoMode::Inline);
            assert_eq!(choose(FdKind::Memory, libc::S_IFREG, direction, 8), IoMode::Ring);
        }
    }
}

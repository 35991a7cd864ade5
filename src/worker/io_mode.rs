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

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::libc;

use crate::error::{DeviceError, DeviceOperation, Errno};
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

/// A descriptor that a device's state is read from or written to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeviceFd {
    pub(crate) fd: RawFd,
    pub(crate) io_mode: IoMode,
    kind: FdKind,
}

impl DeviceFd {
    /// A descriptor on this host.
    pub(crate) fn new(fd: BorrowedFd<'_>, kind: FdKind, direction: Direction) -> DeviceFd {
        DeviceFd { fd: fd.as_raw_fd(), io_mode: of(fd, kind, direction), kind }
    }

    /// Whether it is read or written while the worker does other things.
    pub(crate) fn overlaps(self) -> bool {
        self.io_mode != IoMode::Inline
    }

    /// What is wrong when a read or write has failed; `None` if it is to be begun again as it was.
    pub(crate) fn failure(self, operation: DeviceOperation, errno: Errno) -> Option<DeviceError> {
        match (self.kind, errno.raw()) {
            (FdKind::Device, libc::EINTR) => Some(DeviceError::CutShort { operation }),
            _ if errno.is_retryable() => None,
            _ => Some(DeviceError::Io { operation, errno }),
        }
    }
}

/// The I/O mode for a descriptor of this kind and with this file mode, with so many processors.
fn choose(kind: FdKind, mode: libc::mode_t, direction: Direction, cpus: usize) -> IoMode {
    match (kind, mode & libc::S_IFMT, direction) {
        (FdKind::Memory, ..) if cpus <= THREAD_CPUS_MAX => IoMode::Inline,
        (FdKind::Memory, ..)
        | (FdKind::Waits, libc::S_IFIFO | libc::S_IFSOCK, _)
        | (FdKind::Waits, libc::S_IFREG, Direction::Read) => IoMode::Ring,
        (FdKind::Waits | FdKind::Device, ..) => IoMode::Thread,
    }
}

/// Processors that this process may use.
pub(crate) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_worker_never_waits_for_a_device() {
        for (cpus, direction) in [(1, Direction::Read), (64, Direction::Write)] {
            assert_eq!(choose(FdKind::Waits, libc::S_IFIFO, direction, cpus), IoMode::Ring);
            assert_eq!(choose(FdKind::Waits, libc::S_IFSOCK, direction, cpus), IoMode::Ring);
            assert_eq!(choose(FdKind::Waits, libc::S_IFCHR, direction, cpus), IoMode::Thread);
            // an anonymous inode, as VFIO's migration data has
            assert_eq!(choose(FdKind::Waits, 0, direction, cpus), IoMode::Thread);
            for mode in [0, libc::S_IFCHR, libc::S_IFIFO, libc::S_IFREG] {
                assert_eq!(choose(FdKind::Device, mode, direction, cpus), IoMode::Thread);
            }
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

    #[test]
    fn an_interruption_is_the_failure_of_a_device_and_nothing_to_a_pipe() {
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        let failure = |kind, errno| {
            let fd = DeviceFd::new(reader.as_fd(), kind, Direction::Read);
            fd.failure(DeviceOperation::Read, Errno::from_raw(errno))
        };
        let cut_short = DeviceError::CutShort { operation: DeviceOperation::Read };
        assert_eq!(failure(FdKind::Device, libc::EINTR), Some(cut_short));
        assert_eq!(failure(FdKind::Waits, libc::EINTR), None);
        for kind in [FdKind::Device, FdKind::Waits] {
            assert_eq!(failure(kind, libc::EAGAIN), None);
            assert!(matches!(failure(kind, libc::EIO), Some(DeviceError::Io { .. })));
        }
    }
}

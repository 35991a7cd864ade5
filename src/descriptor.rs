//! Descriptors that were passed to a source, a sink or a replay: what to expect of one, and whether it can be used.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::statfs::{HUGETLBFS_MAGIC, TMPFS_MAGIC, fstatfs};

use crate::error::{DeviceError, DeviceOperation, Errno};

/// What to expect of reads from a source's descriptor, and of writes to a sink's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FdKind {
    /// They copy memory and return: a memfd, a file in tmpfs.
    Memory,
    /// They may wait: a pipe, a terminal, a file on a disk or on another host. One that a signal interrupts is begun
    /// again: it has moved nothing.
    Waits,
    /// They may wait, and one that is interrupted may have moved bytes that nobody will see again: the migration data of
    /// a VFIO device. With some drivers (xe is one) an interrupted read takes its bytes from the device and returns only
    /// `EINTR`. So an interruption is the device's failure ([`DeviceError::CutShort`]), and never retried.
    Device,
}

/// What to expect of a descriptor. Only a regular file whose file system is in memory cannot wait: a disk may fail to
/// answer, and a file system may be frozen. A memfd is such a file.
pub(crate) fn kind_of(fd: BorrowedFd<'_>) -> FdKind {
    let in_memory = |kind| kind == TMPFS_MAGIC || kind == HUGETLBFS_MAGIC;
    match fstatfs(fd) {
        Ok(system) if in_memory(system.filesystem_type()) && is_file(fd) => FdKind::Memory,
        _ => FdKind::Waits,
    }
}

/// Whether it is a regular file, which has a position and can be synced.
pub(crate) fn is_file(fd: BorrowedFd<'_>) -> bool {
    nix::sys::stat::fstat(fd).is_ok_and(|stat| stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFREG)
}

/// Clears `O_NONBLOCK`, with which the ring would get `EAGAIN`, and fails early when the descriptor is open only for
/// the other direction.
pub(crate) fn make_ready(
    fd: BorrowedFd<'_>,
    wrong: OFlag,
    operation: DeviceOperation,
) -> Result<(), DeviceError> {
    let failed = |errno: nix::errno::Errno| DeviceError::Io { operation, errno: errno.into() };
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).map_err(failed)?);
    if flags & OFlag::O_ACCMODE == wrong {
        return Err(failed(nix::errno::Errno::EBADF));
    }
    if flags.contains(OFlag::O_NONBLOCK) {
        fcntl(fd, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK)).map_err(failed)?;
    }
    Ok(())
}

/// Sets `O_NONBLOCK`.
pub(crate) fn make_nonblocking(fd: BorrowedFd<'_>, operation: DeviceOperation) -> Result<(), DeviceError> {
    fcntl(fd, FcntlArg::F_GETFL)
        .and_then(|flags| fcntl(fd, FcntlArg::F_SETFL(OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK)))
        .map(drop)
        .map_err(|errno| DeviceError::Io { operation, errno: errno.into() })
}

/// An error that names the path.
pub(crate) fn open_error(operation: DeviceOperation, path: &Path, error: &io::Error) -> DeviceError {
    DeviceError::Open { operation, path: path.display().to_string().into(), errno: Errno::from(error) }
}

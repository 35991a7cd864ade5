//! Descriptors that were passed to a source, a sink or a replay: what to expect of one, and whether it can be used.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::error::{DeviceError, DeviceOperation, Errno};

/// What to expect of reads from a source's descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FdKind {
    /// A read copies memory and returns: a regular file, a memfd.
    Memory,
    /// A read may wait: a pipe, a device.
    Waits,
}

/// What to expect of a descriptor: only a regular file (a memfd is one) is read from memory.
pub(crate) fn kind_of(fd: BorrowedFd<'_>) -> FdKind {
    match nix::sys::stat::fstat(fd) {
        Ok(stat) if stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFREG => FdKind::Memory,
        _ => FdKind::Waits,
    }
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

/// An error that names the path.
pub(crate) fn open_error(operation: DeviceOperation, path: &Path, error: &io::Error) -> DeviceError {
    DeviceError::Open { operation, path: path.display().to_string().into(), errno: Errno::from(error) }
}

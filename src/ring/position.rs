//! The position of a file during an operation that begins at it.
//!
//! When the kernel has moved a part of what an operation asks for and then fails, it reports the part as moved, but
//! leaves the position in front of it (`kiocb_done` in `io_uring/rw.c`). Going on from there would move other bytes over
//! the same place. Knows no operation and no packet. Invariant: after an operation the file stands behind what was
//! moved.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::libc::off_t;
use nix::unistd::{Whence, lseek};

use crate::error::Errno;

/// Where a file stood when an operation began that is to move `len` bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    fd: RawFd,
    offset: off_t,
    len: usize,
}

impl Position {
    /// `None` for what has no position: a pipe, a socket, a device's stream.
    pub(super) fn of(file: BorrowedFd<'_>, len: usize) -> Option<Position> {
        let offset = lseek(file, 0, Whence::SeekCur).ok()?;
        Some(Position { fd: file.as_raw_fd(), offset, len })
    }

    /// The file's number.
    pub(super) fn fd(self) -> RawFd {
        self.fd
    }

    /// Puts `file` behind the bytes that were moved, if they are only a part; returns how many they are.
    pub(super) fn pass(self, file: BorrowedFd<'_>, moved: usize) -> Result<usize, Errno> {
        if moved < self.len {
            let moved = off_t::try_from(moved).expect("a slot is shorter than 4 GiB");
            lseek(file, self.offset + moved, Whence::SeekSet).map_err(Errno::from)?;
        }
        Ok(moved)
    }
}

//! A kernel error number with its name.

use std::fmt;

/// A kernel error number, shown with its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(nix::errno::Errno);

impl Errno {
    /// From a raw, positive error number.
    pub fn from_raw(raw: i32) -> Errno {
        Errno(nix::errno::Errno::from_raw(raw))
    }

    /// The raw, positive error number.
    pub fn raw(self) -> i32 {
        self.0 as i32
    }

    /// Whether a failed operation is to be tried again as it was.
    pub(crate) fn is_retryable(self) -> bool {
        matches!(self.0, nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN)
    }
}

impl From<nix::errno::Errno> for Errno {
    fn from(errno: nix::errno::Errno) -> Errno {
        Errno(errno)
    }
}

impl From<&std::io::Error> for Errno {
    /// Errors that did not come from the kernel are shown as `EIO`.
    fn from(error: &std::io::Error) -> Errno {
        Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO))
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Errno {
        Errno::from(&error)
    }
}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> std::io::Error {
        std::io::Error::from_raw_os_error(errno.raw())
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", self.0, self.0.desc())
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

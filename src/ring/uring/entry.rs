//! The length of an entry's range, and what an enter's failure means. Knows no memory and no descriptors.

use std::ops::Range;

use nix::libc;

pub(super) fn length(range: &Range<usize>) -> u32 {
    u32::try_from(range.len()).expect("a slot is shorter than 4 GiB")
}

/// Whether a failed `io_uring_enter` only ends a wait: the time is up, a signal came, or completions have to be taken.
pub(super) fn is_passing(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN))
}

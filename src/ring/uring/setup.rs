//! The kernel's ring, made as well as this kernel can, and what is to be known of it. Knows no operation.

use io_uring::{IoUring, Probe};
use nix::libc;

use super::super::probe::{self, Facts};
use super::{COMPLETIONS, ENTRIES};
use crate::error::KernelError;

/// The best ring that this kernel can make: one that runs completions only on this thread (6.1), or an ordinary one.
pub(super) fn build() -> std::io::Result<IoUring> {
    let mut modern = IoUring::builder();
    modern.setup_cqsize(COMPLETIONS).setup_submit_all().setup_single_issuer();
    let modern = modern.setup_defer_taskrun().setup_taskrun_flag().build(ENTRIES);
    match modern {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            IoUring::builder().setup_cqsize(COMPLETIONS).build(ENTRIES)
        }
        other => other,
    }
}

/// What this kernel can do.
pub(super) fn facts(ring: &IoUring) -> Result<Facts, KernelError> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| probe::setup_failed(&error))?;
    Ok(Facts {
        timed_wait: ring.params().is_feature_ext_arg(),
        current_position: ring.params().is_feature_rw_cur_pos(),
        fast_poll: ring.params().is_feature_fast_poll(),
        operations: (0..u8::MAX).filter(|&code| probe.is_supported(code)).collect(),
    })
}

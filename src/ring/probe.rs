//! Judges in one place what this kernel's io_uring can do. Pure: facts in, verdict out.

use io_uring::opcode;

use crate::error::{KernelError, KernelOperation};

/// What the kernel reported about itself.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Waiting takes a time-out (5.11).
    pub(crate) timed_wait: bool,
    /// Reads and writes at a file's current position (5.6).
    pub(crate) current_position: bool,
    /// Sockets that are not ready are polled instead of being handed to a thread (5.7).
    pub(crate) fast_poll: bool,
    /// Operation codes that it knows.
    pub(crate) operations: Vec<u8>,
}

/// What the ring may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// SEND_ZC that reports whether the kernel copied (6.2, with SEND_ZC itself from 6.0).
    pub(crate) zero_copy: bool,
}

/// Whether this kernel is new enough, and which abilities it has.
pub(crate) fn judge(facts: &Facts) -> Result<Abilities, KernelError> {
    let knows = |code: u8| facts.operations.contains(&code);
    let needed = [
        opcode::Read::CODE,
        opcode::Write::CODE,
        opcode::Send::CODE,
        opcode::Recv::CODE,
        opcode::PollAdd::CODE,
        opcode::Timeout::CODE,
    ];
    let will_do =
        facts.timed_wait && facts.current_position && facts.fast_poll && needed.into_iter().all(knows);
    if !will_do {
        return Err(KernelError::new(KernelOperation::RingFeatures, nix::errno::Errno::ENOSYS));
    }
    Ok(Abilities { zero_copy: knows(opcode::SendZc::CODE) })
}

/// Why `io_uring_setup` failed.
pub(super) fn setup_failed(error: &std::io::Error) -> KernelError {
    KernelError::new(KernelOperation::RingSetup, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modern() -> Facts {
        Facts { timed_wait: true, current_position: true, fast_poll: true, operations: (0..=62).collect() }
    }

    #[test]
    fn accepts_a_modern_kernel() {
        assert_eq!(judge(&modern()), Ok(Abilities { zero_copy: true }));
    }

    #[test]
    fn does_without_zero_copy_on_a_kernel_before_6_0() {
        let facts = Facts { operations: (0..40).collect(), ..modern() };
        assert_eq!(judge(&facts), Ok(Abilities { zero_copy: false }));
    }

    #[test]
    fn refuses_a_kernel_that_is_too_old_and_says_which_would_do() {
        let old = [
            Facts { timed_wait: false, ..modern() },
            Facts { current_position: false, ..modern() },
            Facts { fast_poll: false, ..modern() },
            Facts { operations: (0..20).collect(), ..modern() },
        ];
        for facts in old {
            let error = judge(&facts).unwrap_err();
            assert!(error.hint().unwrap().contains("Linux 5.11"), "{facts:?}");
        }
    }

    #[test]
    fn names_the_sysctl_when_io_uring_is_disabled() {
        let error = setup_failed(&std::io::Error::from_raw_os_error(nix::libc::EPERM));
        assert_eq!(error.to_string(), "io_uring_setup failed: EPERM (Operation not permitted)");
        assert!(error.hint().unwrap().contains("kernel.io_uring_disabled"));
    }
}

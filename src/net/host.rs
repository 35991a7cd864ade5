//! What this host sends about itself in a hello, and random numbers. Knows no socket.

use std::fs;
use std::io;

use std::time::Duration;

use crate::error::{KernelError, KernelOperation};
use crate::limits;
use crate::wire::SessionId;

/// This side in every hello: the name of its clock, and its time limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Host {
    pub(super) clock: [u8; 16],
    pub(super) hello_timeout: Duration,
    #[cfg(feature = "listener")]
    pub(super) gather_timeout: Duration,
    #[cfg(feature = "listener")]
    pub(super) agreement_max: Duration,
}

impl Host {
    pub(super) fn here() -> Result<Host, KernelError> {
        Ok(Host {
            clock: clock_name()?,
            hello_timeout: limits::HELLO_TIMEOUT,
            #[cfg(feature = "listener")]
            gather_timeout: limits::GATHER_TIMEOUT,
            #[cfg(feature = "listener")]
            agreement_max: limits::AGREEMENT_MAX,
        })
    }
}

/// A session id that cannot be guessed.
pub(super) fn random_session() -> Result<SessionId, KernelError> {
    random().map(SessionId)
}

/// The name of this host's monotonic clock: the boot id. A process whose clock is shifted (a time namespace), or that
/// cannot read the boot id, gets a random name, so that it never equals another's.
fn clock_name() -> Result<[u8; 16], KernelError> {
    let boot_id =
        fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().and_then(|text| parse_uuid(&text));
    match boot_id {
        Some(boot_id) if !clock_is_shifted() => Ok(boot_id),
        _ => random(),
    }
}

fn clock_is_shifted() -> bool {
    // Lines such as `monotonic  0  0`; kernels without time namespaces have no such file.
    fs::read_to_string("/proc/self/timens_offsets").is_ok_and(|text| {
        text.lines().any(|line| line.split_whitespace().skip(1).any(|number| number != "0"))
    })
}

fn random() -> Result<[u8; 16], KernelError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| KernelError::new(KernelOperation::Random, io::Error::from(error)))?;
    Ok(bytes)
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|&c| c != '-').collect();
    if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_id_is_sixteen_bytes_in_the_order_of_its_text() {
        let id = parse_uuid("00010203-0405-0607-0809-0a0b0c0d0e0f\n");
        assert_eq!(id, Some([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]));
    }

    #[test]
    fn what_is_no_boot_id_is_not_taken_for_one() {
        for text in
            ["", "0001", "+0010203-0405-0607-0809-0a0b0c0d0e0f", "é0010203-0405-0607-0809-0a0b0c0d0e0f"]
        {
            assert_eq!(parse_uuid(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_process_that_may_open_no_file_has_a_clock_name_and_session_ids() {
        // /dev/urandom was read for them: no session began in a Landlock domain without files.
        let confined = std::thread::spawn(|| {
            deny_files();
            assert!(fs::File::open("/dev/urandom").is_err());
            (clock_name(), random_session())
        });
        let (clock, session) = confined.join().unwrap();
        assert!(clock.is_ok() && session.is_ok(), "{clock:?} {session:?}");
    }

    /// This thread opens no files from now on.
    fn deny_files() {
        use nix::libc;
        use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};
        let calls = [(libc::SYS_openat, vec![]), (libc::SYS_openat2, vec![])].into_iter().collect();
        let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
        let denied = SeccompAction::Errno(libc::EACCES.unsigned_abs());
        let filter = SeccompFilter::new(calls, SeccompAction::Allow, denied, arch).unwrap();
        apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
    }

    #[test]
    fn two_sessions_never_have_one_id() {
        assert_ne!(random_session().unwrap(), random_session().unwrap());
    }
}

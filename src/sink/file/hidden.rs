//! The names of the hidden files beside a target. Pure.
//!
//! The invariant: two targets of one folder never share a hidden name, and every hidden name fits into a folder.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What a hidden file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hidden {
    /// Locked while a sink writes the target.
    Lock,
    /// The unfinished file; after the exchange of names, the old one.
    Part,
    /// Which files are given their names together.
    Journal,
}

impl Hidden {
    /// `.NAME.ringlift.lock` and so on. File systems allow 255 bytes: of a long name there is the beginning and a hash.
    pub(super) fn beside(self, target: &OsStr) -> OsString {
        /// Leaves room for the rest.
        const WHOLE_MAX: usize = 220;
        const BEGINNING: usize = 200;
        let name = target.as_bytes();
        let mut hidden = vec![b'.'];
        if name.len() <= WHOLE_MAX {
            hidden.extend(name);
        } else {
            hidden.extend(&name[..BEGINNING]);
            hidden.extend(format!("-{:016x}", hash(name)).as_bytes());
        }
        hidden.extend(match self {
            Hidden::Lock => &b".ringlift.lock"[..],
            Hidden::Part => b".ringlift.part",
            Hidden::Journal => b".ringlift.journal",
        });
        OsString::from_vec(hidden)
    }
}

/// FNV-1a: the same in every version, unlike the standard library's.
fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Whether this can be a name in a folder.
pub(super) fn is_name(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    !matches!(bytes, b"" | b"." | b"..") && !bytes.iter().any(|byte| matches!(byte, b'/' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_names_fit_and_differ_even_where_long_names_begin_alike() {
        for len in [1, 219, 220, 221, 254, 255] {
            let target = OsString::from_vec(vec![b'n'; len]);
            let mut other = target.clone().into_vec();
            *other.last_mut().unwrap() = b'm';
            for kind in [Hidden::Lock, Hidden::Part, Hidden::Journal] {
                let hidden = kind.beside(&target);
                assert!(hidden.len() <= 255, "{len}");
                assert_ne!(hidden, kind.beside(&OsString::from_vec(other.clone())), "{len}");
            }
        }
        assert_eq!(Hidden::Part.beside(OsStr::new("net0")), ".net0.ringlift.part");
    }

    #[test]
    fn a_path_is_no_name() {
        for path in ["", ".", "..", "a/b", "/", "a\0b"] {
            assert!(!is_name(OsStr::new(path)), "{path:?}");
        }
        assert!(is_name(OsStr::new(".net0")));
    }
}

//! The names that QEMU gives to devices, memory blocks and machines, without allocation.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::limits::NAME_MAX;
use crate::wire::Malformed;
use crate::wire::text::check_name;

/// A name: 1 to 255 bytes of printable text. The name of a VFIO device ends in `/vfio`.
#[derive(Clone, Copy)]
pub struct Idstr {
    len: u8,
    bytes: [u8; NAME_MAX],
}

impl Idstr {
    /// A name that was received.
    pub fn new(name: &[u8]) -> Result<Idstr, Malformed> {
        let name = check_name(name)?;
        let mut bytes = [0; NAME_MAX];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Idstr { len: u8::try_from(name.len()).expect("a name is at most NAME_MAX bytes"), bytes })
    }

    /// A name in a fixed-size field: it ends at the first zero, and only zeros follow.
    pub(super) fn padded(field: &[u8]) -> Result<Idstr, Malformed> {
        let end = field.iter().position(|&byte| byte == 0).ok_or(Malformed::TooLong {
            field: "name",
            found: field.len() as u64,
            max: NAME_MAX as u64,
        })?;
        match field[end..].iter().find(|&&byte| byte != 0) {
            None => Idstr::new(&field[..end]),
            Some(_) => Err(Malformed::Text { field: "name" }),
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).expect("checked when it was made")
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether it names a VFIO device: `0000:00:01.0/vfio`.
    pub fn is_vfio(&self) -> bool {
        self.as_bytes().ends_with(b"/vfio")
    }
}

impl TryFrom<&str> for Idstr {
    type Error = Malformed;

    fn try_from(name: &str) -> Result<Idstr, Malformed> {
        Idstr::new(name.as_bytes())
    }
}

impl PartialEq for Idstr {
    fn eq(&self, other: &Idstr) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Idstr {}

impl PartialOrd for Idstr {
    fn partial_cmp(&self, other: &Idstr) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Idstr {
    fn cmp(&self, other: &Idstr) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Idstr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for Idstr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Idstr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_padded_name_ends_at_its_zero() {
        let name = Idstr::padded(b"0000:00:01.0/vfio\0\0\0").unwrap();
        assert_eq!(name.as_str(), "0000:00:01.0/vfio");
        assert!(name.is_vfio());
        assert!(!Idstr::new(b"ram").unwrap().is_vfio());
    }

    #[test]
    fn a_field_without_end_or_with_something_behind_it_is_refused() {
        assert_eq!(
            Idstr::padded(&[b'x'; 256]),
            Err(Malformed::TooLong { field: "name", found: 256, max: 255 })
        );
        assert_eq!(Idstr::padded(b"a\0b\0"), Err(Malformed::Text { field: "name" }));
        assert!(Idstr::padded(b"\0\0").is_err());
        assert_eq!(Idstr::padded(b"a\x1b[m\0"), Err(Malformed::Text { field: "name" }));
    }
}

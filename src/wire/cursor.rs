//! Writing and reading the fields of a body one after the other. No field reaches beyond the buffer.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Malformed;

/// Appends to a buffer of a fixed size.
pub(super) struct Writer<'a> {
    pub(super) out: &'a mut [u8],
    /// Bytes written, at most `out.len()`.
    pub(super) len: usize,
}

impl Writer<'_> {
    /// `None`, with nothing written, when there is no room.
    pub(super) fn put(&mut self, value: &(impl IntoBytes + Immutable + ?Sized)) -> Option<()> {
        let bytes = value.as_bytes();
        self.out.get_mut(self.len..)?.get_mut(..bytes.len())?.copy_from_slice(bytes);
        self.len += bytes.len();
        Some(())
    }
}

/// Takes from the front of a body.
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn take<T: FromBytes>(&mut self) -> Result<T, Malformed> {
        let (value, rest) = T::read_from_prefix(self.rest).map_err(|_| Malformed::Truncated)?;
        self.rest = rest;
        Ok(value)
    }

    pub(super) fn take_bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }
}

/// The `N` bytes at `at`; the caller upholds that they are there.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the range has N bytes")
}

/// The big-endian number at `at`; the caller upholds that it is there.
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(bytes, at))
}

/// The big-endian number at `at`; the caller upholds that it is there.
pub(crate) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(array(bytes, at))
}

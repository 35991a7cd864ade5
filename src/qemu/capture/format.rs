//! The files of a capture: their names and the layout of a record of times, for the code that writes them and the code
//! that reads them.
//!
//! | file | content |
//! |---|---|
//! | `main.bin`, `multifd-N.bin` | the bytes of a connection, from source to destination |
//! | the same with `.times` | when they came: [`Record`]s, the last of them at the end of the connection |
//! | `main.back.bin` | what the destination answered |
//!
//! Pure: names and bytes; no file is opened here. Any other `*.bin` counts as a connection, too.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::numbers::ConnectionIdx;
use crate::time::Nanos;

/// The file with the destination's answers.
pub(crate) const ANSWERS: &str = "main.back.bin";

/// The file with a connection's bytes.
pub(crate) fn bytes_name(connection: ConnectionIdx) -> String {
    match connection.channel() {
        None => "main.bin".to_owned(),
        Some(channel) => format!("multifd-{channel}.bin"),
    }
}

/// The file that records when the bytes of a connection's file came.
pub(crate) fn times_of(bytes: &Path) -> PathBuf {
    bytes.with_extension("times")
}

/// Whether a file of this name is a connection: `*.bin`, but not the destination's answers.
pub(crate) fn is_connection(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.ends_with(b".bin") && !name.ends_with(b".back.bin")
}

/// How much of a connection had come, and when: two big-endian 64-bit numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// The offset that was reached.
    pub(crate) offset: u64,
    /// Nanoseconds since the capture's first byte.
    pub(crate) at_ns: Nanos,
}

impl Record {
    /// The size of a record in bytes.
    pub(crate) const LEN: usize = 16;

    /// Encodes the record.
    pub(crate) fn encode(self) -> [u8; Record::LEN] {
        (u128::from(self.offset) << 64 | u128::from(self.at_ns)).to_be_bytes()
    }

    /// Decodes a record.
    pub(crate) fn decode(bytes: [u8; Record::LEN]) -> Record {
        let [offset, at_ns] = [0, 8].map(|at| crate::wire::be64(&bytes, at));
        Record { offset, at_ns }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::QEMU_CONNECTIONS_MAX;

    #[test]
    fn every_connection_has_a_name_of_its_own_that_is_known_again() {
        let names: Vec<String> =
            (0..QEMU_CONNECTIONS_MAX).map(|index| bytes_name(ConnectionIdx::from_index(index))).collect();
        assert_eq!((&*names[0], &*names[1], &*names[255]), ("main.bin", "multifd-0.bin", "multifd-254.bin"));
        for name in &names {
            assert!(is_connection(name.as_ref()));
            assert!(!is_connection(times_of(name.as_ref()).as_os_str()));
        }
        assert!(!is_connection(ANSWERS.as_ref()));
        assert_eq!(times_of("a/multifd-3.bin".as_ref()), Path::new("a/multifd-3.times"));
    }

    #[test]
    fn a_record_has_its_golden_bytes() {
        let record = Record { offset: 0x0102, at_ns: 0x0304 };
        assert_eq!(record.encode(), *b"\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\x03\x04");
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(offset: u64, at_ns: u64) {
            let record = Record { offset, at_ns };
            prop_assert_eq!(Record::decode(record.encode()), record);
        }
    }
}

//! A file that is read forward, skipping the parts that are not needed. It knows its position and its length, so it
//! never reads beyond the end; its memory is one small buffer.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::{CaptureOperation, CaptureProblem, StreamPart};
use crate::wire::Malformed;

/// Holds the headers of many small packets; large payloads are skipped without being read.
const BUFFER_LEN: usize = 16 << 10;

/// A problem, and its offset in the file.
#[derive(Debug)]
pub(in crate::qemu) struct At {
    pub(in crate::qemu) offset: u64,
    pub(in crate::qemu) problem: CaptureProblem,
}

impl At {
    pub(in crate::qemu) fn new(offset: u64, problem: CaptureProblem) -> At {
        At { offset, problem }
    }
}

/// A file of a capture.
#[derive(Debug)]
pub(in crate::qemu) struct Reader {
    file: BufReader<File>,
    offset: u64,
    len: u64,
}

impl Reader {
    /// Opens a regular file. Opening anything else (a pipe) could block for ever.
    pub(in crate::qemu) fn open(path: &Path) -> Result<Reader, CaptureProblem> {
        let failed =
            |operation| move |error: std::io::Error| CaptureProblem::Io { operation, errno: error.into() };
        let found = fs::metadata(path).map_err(failed(CaptureOperation::Open))?;
        if !found.is_file() {
            return Err(CaptureProblem::NotAFile);
        }
        Reader::of(File::open(path).map_err(failed(CaptureOperation::Open))?)
    }

    /// Reads an open regular file from its beginning, where it must stand.
    pub(in crate::qemu) fn of(file: File) -> Result<Reader, CaptureProblem> {
        let failed = |error: std::io::Error| CaptureProblem::Io {
            operation: CaptureOperation::Status,
            errno: error.into(),
        };
        let len = file.metadata().map_err(failed)?.len();
        Ok(Reader { file: BufReader::with_capacity(BUFFER_LEN, file), offset: 0, len })
    }

    /// The offset of the next byte.
    pub(in crate::qemu) fn offset(&self) -> u64 {
        self.offset
    }

    /// The length of the file in bytes.
    pub(in crate::qemu) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes from here to the end.
    pub(in crate::qemu) fn remaining(&self) -> u64 {
        self.len.saturating_sub(self.offset)
    }

    /// The next bytes, as many as are buffered; none at the end of the file.
    pub(in crate::qemu) fn peek(&mut self) -> Result<&[u8], At> {
        let offset = self.offset;
        loop {
            match self.file.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(read_error(offset, &error)),
                Ok(_) => break,
            }
        }
        Ok(self.file.buffer())
    }

    /// Skips bytes that [`peek`](Reader::peek) returned.
    pub(in crate::qemu) fn consume(&mut self, bytes: usize) {
        self.file.consume(bytes);
        self.offset += bytes as u64;
    }

    /// Fills the buffer, or fails with what the file ends within.
    pub(in crate::qemu) fn fill(&mut self, buffer: &mut [u8], within: StreamPart) -> Result<(), At> {
        let cut = At { offset: self.len, problem: CaptureProblem::Cut { within } };
        if (buffer.len() as u64) > self.remaining() {
            return Err(cut);
        }
        match self.file.read_exact(buffer) {
            Ok(()) => {
                self.offset += buffer.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(cut),
            Err(error) => Err(read_error(self.offset, &error)),
        }
    }

    /// The next bytes as an array.
    pub(in crate::qemu) fn take<const N: usize>(&mut self, within: StreamPart) -> Result<[u8; N], At> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, within)?;
        Ok(bytes)
    }

    /// The next bytes. The caller bounds `len`.
    pub(in crate::qemu) fn take_vec(&mut self, len: u32, within: StreamPart) -> Result<Vec<u8>, At> {
        if u64::from(len) > self.remaining() {
            return Err(At { offset: self.len, problem: CaptureProblem::Cut { within } });
        }
        let mut bytes = vec![0; len as usize];
        self.fill(&mut bytes, within)?;
        Ok(bytes)
    }

    /// Skips bytes without reading them, or fails with what the file ends within.
    pub(in crate::qemu) fn skip(&mut self, bytes: u64, within: StreamPart) -> Result<(), At> {
        match i64::try_from(bytes) {
            Ok(distance) if bytes <= self.remaining() => {
                self.file.seek_relative(distance).map_err(|error| read_error(self.offset, &error))?;
                self.offset += bytes;
                Ok(())
            }
            _ => Err(At { offset: self.len, problem: CaptureProblem::Cut { within } }),
        }
    }

    /// Moves to an offset in the file.
    pub(in crate::qemu) fn seek(&mut self, offset: u64) -> Result<(), At> {
        self.file.seek(SeekFrom::Start(offset)).map_err(|error| read_error(offset, &error))?;
        self.offset = offset;
        Ok(())
    }
}

fn read_error(offset: u64, error: &std::io::Error) -> At {
    At { offset, problem: CaptureProblem::Io { operation: CaptureOperation::Read, errno: error.into() } }
}

/// Bytes that do not decode as what should be there.
pub(in crate::qemu) fn broken(what: StreamPart, malformed: Malformed) -> CaptureProblem {
    CaptureProblem::Malformed { what, malformed }
}

//! Reads when the pieces of a connection came: a file of records beside the connection's own.

use super::format::{self, Record};
use super::inspection::Connection;
use crate::error::{CaptureError, CaptureProblem, StreamPart};
use crate::qemu::reader::{At, Reader};
use crate::time::Nanos;

/// Reads one connection's times, forward.
#[derive(Debug)]
pub struct Times {
    reader: Reader,
    file: Box<str>,
    /// The size of the connection in bytes.
    bytes: u64,
    last: Record,
    next: Option<Record>,
}

impl Times {
    /// Opens the file beside a connection's own: `main.times` for `main.bin`.
    pub fn open(connection: &Connection) -> Result<Times, CaptureError> {
        let path = format::times_of(&connection.path);
        let error = |problem| CaptureError { file: connection.file.clone(), offset: 0, problem };
        if !path.exists() {
            return Err(error(CaptureProblem::NoTimes));
        }
        let reader = Reader::open(&path).map_err(error)?;
        let file = path.file_name().map_or(connection.file.clone(), |name| name.to_string_lossy().into());
        let bytes = connection.bytes;
        let mut times = Times { reader, file, bytes, last: Record::default(), next: None };
        times.next = times.record()?;
        Ok(times)
    }

    /// The offset up to which bytes had come after `elapsed` nanoseconds.
    pub fn reached(&mut self, elapsed: Nanos) -> Result<u64, CaptureError> {
        while let Some(next) = self.next.filter(|next| next.at_ns <= elapsed) {
            self.last = next;
            self.next = self.record()?;
        }
        Ok(self.last.offset)
    }

    /// When the next bytes came.
    pub fn next(&self) -> Option<Nanos> {
        self.next.map(|next| next.at_ns)
    }

    /// Reads a record. Neither number may decrease, and the last record must be at the end of the connection.
    fn record(&mut self) -> Result<Option<Record>, CaptureError> {
        let begin = self.reader.offset();
        let last = self.next.unwrap_or(self.last);
        let file = &self.file;
        let wrong = |problem| CaptureError { file: file.clone(), offset: begin, problem };
        if self.reader.remaining() == 0 {
            let problem = CaptureProblem::TimesEnd { offset: last.offset, bytes: self.bytes };
            return if last.offset == self.bytes { Ok(None) } else { Err(wrong(problem)) };
        }
        let failed = |At { offset, problem }| CaptureError { file: file.clone(), offset, problem };
        let record = Record::decode(self.reader.take(StreamPart::TimeRecord).map_err(failed)?);
        match record.offset < last.offset || record.at_ns < last.at_ns || record.offset > self.bytes {
            true => Err(wrong(CaptureProblem::TimesOrder)),
            false => Ok(Some(record)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::qemu::capture::files::Named;
    use crate::wire::qemu::Kind;

    fn connection(folder: &Path, records: &[u64]) -> Connection {
        let numbers: Vec<u8> = records.iter().flat_map(|number| number.to_be_bytes()).collect();
        fs::write(folder.join("main.times"), numbers).unwrap();
        let file = Named { name: "main.bin".into(), path: folder.join("main.bin") };
        super::super::connection(&file, Kind::Main, 300)
    }

    fn problem(records: &[u64]) -> CaptureProblem {
        let folder = tempfile::tempdir().unwrap();
        let opened = Times::open(&connection(folder.path(), records));
        opened.and_then(|mut times| times.reached(Nanos::MAX)).unwrap_err().problem
    }

    #[test]
    fn times_tell_how_much_had_come_when() {
        let folder = tempfile::tempdir().unwrap();
        let mut times = Times::open(&connection(folder.path(), &[64, 0, 100, 50, 200, 50, 300, 70])).unwrap();
        assert_eq!(times.next(), Some(0));
        assert_eq!((times.reached(0).unwrap(), times.next()), (64, Some(50)));
        assert_eq!((times.reached(49).unwrap(), times.next()), (64, Some(50)));
        assert_eq!((times.reached(50).unwrap(), times.next()), (200, Some(70)));
        assert_eq!((times.reached(1000).unwrap(), times.next()), (300, None));
    }

    #[test]
    fn times_that_do_not_fit_the_connection_are_refused() {
        assert_eq!(problem(&[]), CaptureProblem::TimesEnd { offset: 0, bytes: 300 });
        assert_eq!(problem(&[100, 1]), CaptureProblem::TimesEnd { offset: 100, bytes: 300 });
        assert_eq!(problem(&[100, 1, 301, 2]), CaptureProblem::TimesOrder);
        assert_eq!(problem(&[100, 5, 300, 4]), CaptureProblem::TimesOrder);
        assert_eq!(problem(&[100, 5, 90, 6, 300, 7]), CaptureProblem::TimesOrder);
        assert_eq!(problem(&[100, 5, 300]), CaptureProblem::Cut { within: StreamPart::TimeRecord });
    }

    #[test]
    fn a_connection_without_times_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let connection = connection(folder.path(), &[300, 1]);
        fs::remove_file(folder.path().join("main.times")).unwrap();
        let error = Times::open(&connection).unwrap_err();
        assert_eq!((&*error.file, &error.problem), ("main.bin", &CaptureProblem::NoTimes));
    }
}

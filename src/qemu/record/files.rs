//! Writes the files of a capture: each connection's bytes, and when they came.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, FileOperation, Misuse};
use crate::numbers::ChannelIdx;
use crate::numbers::ConnectionIdx;
use crate::qemu::capture::format::{self, Record};
use crate::time::Nanos;
use crate::wire::qemu::{INIT_LEN, Init, REPLY_LEN_MAX, Reply};

/// The folder that a capture is written to.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

/// The files of one connection.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) bytes: File,
    pub(super) bytes_path: PathBuf,
    times: BufWriter<File>,
    times_path: PathBuf,
    /// How many bytes the times cover so far.
    offset: u64,
}

impl Folder {
    /// Refuses a folder with anything in it.
    pub(super) fn check(path: &Path) -> Result<(), Misuse> {
        match fs::read_dir(path).is_ok_and(|mut inside| inside.next().is_some()) {
            true => Err(Misuse::FolderNotEmpty { path: path.display().to_string().into() }),
            false => Ok(()),
        }
    }

    /// Creates the folder if it is missing, and refuses one with anything in it.
    pub(super) fn make(path: &Path) -> Result<Folder, Error> {
        fs::create_dir_all(path).map_err(|error| failed(FileOperation::CreateFolder, path, &error))?;
        Folder::check(path)?;
        Ok(Folder { path: path.to_owned() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The main connection's files.
    pub(super) fn main(&self) -> Result<Files, Error> {
        Files::create(&self.path, ConnectionIdx::MAIN)
    }

    /// A multifd connection's files, with the init already written.
    pub(super) fn multifd(&self, init: &Init) -> Result<Files, Error> {
        let mut files = Files::create(&self.path, ChannelIdx(init.id).into())?;
        let mut bytes = [0; INIT_LEN];
        init.encode(&mut bytes);
        files
            .bytes
            .write_all(&bytes)
            .map_err(|error| failed(FileOperation::Write, &files.bytes_path, &error))?;
        files.came(INIT_LEN, 0)?;
        Ok(files)
    }

    /// Appends an answer that was sent on the return path.
    pub(super) fn answered(&self, reply: Reply) -> Result<(), Error> {
        let path = self.path.join(format::ANSWERS);
        let mut bytes = [0; REPLY_LEN_MAX];
        let len = reply.encode(&mut bytes);
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(&bytes[..len]));
        written.map_err(|error| failed(FileOperation::Write, &path, &error))
    }
}

impl Files {
    fn create(folder: &Path, connection: ConnectionIdx) -> Result<Files, Error> {
        let create = |path: &Path| {
            let file = OpenOptions::new().write(true).create_new(true).open(path);
            file.map_err(|error| failed(FileOperation::Create, path, &error))
        };
        let bytes_path = folder.join(format::bytes_name(connection));
        let times_path = format::times_of(&bytes_path);
        let (bytes, times) = (create(&bytes_path)?, BufWriter::new(create(&times_path)?));
        Ok(Files { bytes, bytes_path, times, times_path, offset: 0 })
    }

    /// A piece came; `at` is the time since the capture's first byte.
    pub(super) fn came(&mut self, len: usize, at: Nanos) -> Result<(), Error> {
        self.offset += len as u64;
        let record = Record { offset: self.offset, at_ns: at };
        self.times
            .write_all(&record.encode())
            .map_err(|error| failed(FileOperation::Write, &self.times_path, &error))
    }

    /// Flushes the times: nothing more comes.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        self.times.flush().map_err(|error| failed(FileOperation::Write, &self.times_path, &error))
    }
}

/// An error that names the file.
pub(super) fn failed(operation: FileOperation, path: &Path, error: &io::Error) -> Error {
    Error::File { operation, path: path.display().to_string().into(), errno: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_something_in_it_is_refused_and_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b");
        assert!(Folder::make(&path).is_ok(), "it is made with those above it");
        assert!(Folder::make(&path).is_ok(), "an empty one will do");
        fs::write(path.join("main.bin"), "QEVM").unwrap();
        let error = Folder::make(&path).unwrap_err();
        assert!(matches!(&error, Error::Misuse(Misuse::FolderNotEmpty { .. })), "{error}");
        let error = Folder::make(&path.join("main.bin")).unwrap_err();
        assert!(error.to_string().contains("main.bin") && error.hint().is_some(), "{error}");
    }

    #[test]
    fn a_connections_files_hold_its_bytes_and_when_they_came() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::make(temp.path()).unwrap();
        let mut files = folder.multifd(&Init { uuid: [1; 16], id: 7 }).unwrap();
        files.came(100, 5000).unwrap();
        files.finish().unwrap();
        let bytes = fs::read(temp.path().join("multifd-7.bin")).unwrap();
        assert_eq!(Init::decode(&bytes.try_into().unwrap()).unwrap().id, 7);
        let times = fs::read(temp.path().join("multifd-7.times")).unwrap();
        let numbers: Vec<u64> =
            times.chunks(8).map(|number| u64::from_be_bytes(number.try_into().unwrap())).collect();
        assert_eq!(numbers, [64, 0, 164, 5000]);
    }

    #[test]
    fn answers_are_kept_as_they_were_sent() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::make(temp.path()).unwrap();
        for reply in [Reply::Pong(1), Reply::SwitchoverAck, Reply::Shut(0)] {
            folder.answered(reply).unwrap();
        }
        let bytes = fs::read(temp.path().join("main.back.bin")).unwrap();
        assert_eq!(bytes, b"\0\x02\0\x04\0\0\0\x01\0\x07\0\0\0\x01\0\x04\0\0\0\0");
    }
}

//! State that goes into a descriptor: a file, a memfd, a pipe, a socket, a character device.
//!
//! Knows descriptors and paths, and never writes: the engine does. The mirror of [`crate::source::FdSource`] and
//! [`crate::source::FileSource`]. Invariant: until [`Sink::run`], nothing but a hidden file beside the target exists,
//! and after [`Sink::rollback`] the target is what it was.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno as Number;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};
use nix::unistd::{AccessFlags, access};

use super::{FdKind, Sink};
use crate::descriptor::{is_file, kind_of, make_ready, open_error};
use crate::error::{DeviceError, DeviceOperation};

/// Writes into a descriptor from its current position on.
///
/// A given descriptor is made blocking (`O_NONBLOCK` is cleared, also for every process that shares it). What was
/// written cannot be taken back: after an aborted transfer the bytes that arrived are still there, and the report warns
/// of it.
#[derive(Debug)]
pub struct FdSink {
    file: File,
    kind: FdKind,
}

impl FdSink {
    /// Takes a descriptor that is open for writing.
    pub fn new(fd: OwnedFd) -> FdSink {
        let kind = kind_of(fd.as_fd());
        FdSink { file: File::from(fd), kind }
    }
}

impl Sink for FdSink {
    fn prepare(&mut self) -> Result<(), DeviceError> {
        make_ready(self.file.as_fd(), OFlag::O_RDONLY, DeviceOperation::WriteToDescriptor)
    }

    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        Some((self.file.as_fd(), self.kind))
    }

    fn seal(&mut self) -> Result<(), DeviceError> {
        match is_file(self.file.as_fd()) {
            true => sync(&self.file).map_err(|error| failed(DeviceOperation::Sync, error)),
            false => Ok(()),
        }
    }

    fn run(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn rollback(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn keeps_written(&self) -> bool {
        true
    }
}

/// Writes a file that gets its name only when the transfer is complete.
///
/// The bytes go to `.NAME.ringlift-PID-N.part` in the same folder. [`seal`](Sink::seal) makes them durable,
/// [`run`](Sink::run) renames the file and keeps an old file of that name aside until the sink is dropped, so that
/// [`rollback`](Sink::rollback) can restore it even then. Dropping the sink deletes an unfinished file; only a process
/// that is killed leaves one behind, and that one may be deleted.
///
/// The new file gets the permissions of the old one; without an old one, only its owner can read and write it, because
/// device state holds whatever the guest's devices saw. A symbolic link is followed: the file that it names is
/// replaced.
#[derive(Debug)]
pub struct FileSink {
    target: PathBuf,
    part: Option<Part>,
    placed: Placed,
}

/// The hidden file. After the exchange of names, its path holds the old file.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    file: File,
}

/// What became of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placed {
    /// Untouched.
    No,
    /// It did not exist and does now.
    New,
    /// It and the hidden file exchanged names.
    Exchanged,
    /// The old one is gone: this file system cannot exchange names.
    Replaced,
}

impl FileSink {
    /// Will write to `path`. Nothing is created yet, but what would certainly fail later fails here.
    pub fn create(path: impl AsRef<Path>) -> Result<FileSink, DeviceError> {
        let path = path.as_ref();
        let target =
            resolve(path).map_err(|error| open_error(DeviceOperation::OpenForWriting, path, &error))?;
        check_target(&target).map_err(|error| open_error(DeviceOperation::OpenForWriting, path, &error))?;
        check_folder(folder(&target))
            .map_err(|error| open_error(DeviceOperation::CreateIn, folder(&target), &error))?;
        Ok(FileSink { target, part: None, placed: Placed::No })
    }

    fn discard_part(&mut self) -> io::Result<()> {
        match self.part.take() {
            Some(part) => fs::remove_file(part.path),
            None => Ok(()),
        }
    }

    fn place(&mut self, part: &Path) -> io::Result<()> {
        match fs::symlink_metadata(&self.target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                rename(part, &self.target)?;
                self.placed = Placed::New;
            }
            _ if exchange(part, &self.target).is_ok() => self.placed = Placed::Exchanged,
            _ => {
                rename(part, &self.target)?;
                self.placed = Placed::Replaced;
            }
        }
        sync(&File::open(folder(&self.target))?)
    }

    fn unplace(&mut self) -> io::Result<()> {
        match (self.placed, &self.part) {
            (Placed::No, _) => {}
            (Placed::Exchanged, Some(part)) => exchange(&part.path, &self.target)?,
            (Placed::New, _) => {
                fs::remove_file(&self.target)?;
                self.part = None;
            }
            (Placed::Exchanged | Placed::Replaced, _) => return Err(Number::EOPNOTSUPP.into()),
        }
        self.placed = Placed::No;
        Ok(())
    }
}

impl Sink for FileSink {
    fn prepare(&mut self) -> Result<(), DeviceError> {
        self.rollback()?;
        let part = create_part(&self.target)
            .map_err(|error| open_error(DeviceOperation::CreateIn, folder(&self.target), &error))?;
        self.part = Some(part);
        Ok(())
    }

    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        self.part.as_ref().map(|part| (part.file.as_fd(), kind_of(part.file.as_fd())))
    }

    fn seal(&mut self) -> Result<(), DeviceError> {
        let part = self.part.as_ref().ok_or(failed(DeviceOperation::Sync, Number::ENOENT.into()))?;
        if let Ok(old) = fs::metadata(&self.target) {
            let mode = Permissions::from_mode(old.permissions().mode() & 0o777);
            part.file
                .set_permissions(mode)
                .map_err(|error| failed(DeviceOperation::SetPermissions, error))?;
        }
        sync(&part.file).map_err(|error| failed(DeviceOperation::Sync, error))
    }

    fn run(&mut self) -> Result<(), DeviceError> {
        let part =
            self.part.as_ref().ok_or(failed(DeviceOperation::Rename, Number::ENOENT.into()))?.path.clone();
        self.place(&part).map_err(|error| failed(DeviceOperation::Rename, error))
    }

    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.unplace().map_err(|error| failed(DeviceOperation::RestoreFile, error))?;
        self.discard_part().map_err(|error| failed(DeviceOperation::RemoveFile, error))
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        if matches!(self.placed, Placed::No | Placed::Exchanged) {
            // The unfinished file, or the old one that the new one replaced. A failure here can no longer be reported.
            let _ = self.discard_part();
        }
    }
}

/// The file that a symbolic link names; a path that does not exist yet is returned unchanged.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::symlink_metadata(path) {
        Ok(_) => fs::canonicalize(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.file_name().is_some() => {
            Ok(path.to_owned())
        }
        Err(error) => Err(error),
    }
}

/// Only a regular file can be replaced, and a read-only one is left alone.
fn check_target(target: &Path) -> io::Result<()> {
    match fs::metadata(target) {
        Ok(old) if old.is_dir() => Err(Number::EISDIR.into()),
        Ok(old) if !old.is_file() => Err(Number::EEXIST.into()),
        Ok(_) => Ok(access(target, AccessFlags::W_OK)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn check_folder(folder: &Path) -> io::Result<()> {
    if !fs::metadata(folder)?.is_dir() {
        return Err(Number::ENOTDIR.into());
    }
    Ok(access(folder, AccessFlags::W_OK | AccessFlags::X_OK)?)
}

fn folder(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn create_part(target: &Path) -> io::Result<Part> {
    /// Numbers the files of this process, so that no name is used twice.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    /// How many names a killed process with the same PID may have left behind.
    const TAKEN_MAX: usize = 16;

    let name = target.file_name().ok_or(Number::EISDIR)?.as_bytes();
    let mut taken = Number::EEXIST.into();
    for _ in 0..TAKEN_MAX {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder(target).join(part_name(name, number));
        match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok(Part { path, file }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
            Err(error) => return Err(error),
        }
    }
    Err(taken)
}

/// `.NAME.ringlift-PID-N.part`, with a long name truncated: file systems allow 255 bytes.
fn part_name(name: &[u8], number: u64) -> OsString {
    const NAME_MAX: usize = 200;
    let mut part = OsString::from(".");
    part.push(std::ffi::OsStr::from_bytes(&name[..name.len().min(NAME_MAX)]));
    part.push(format!(".ringlift-{}-{number}.part", std::process::id()));
    part
}

/// Makes a file or a folder durable. Only a power cut would show that the call is missing, so tests log it.
fn sync(file: &File) -> io::Result<()> {
    file.sync_all()?;
    #[cfg(test)]
    durability::log_sync(file);
    Ok(())
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    #[cfg(test)]
    durability::log_rename(to);
    Ok(())
}

fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)?;
    #[cfg(test)]
    durability::log_rename(other);
    Ok(())
}

fn failed(operation: DeviceOperation, error: io::Error) -> DeviceError {
    DeviceError::Io { operation, errno: error.into() }
}

#[cfg(test)]
mod durability;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Writes as the engine does: to the descriptor, at its position.
    pub(super) fn write_all(sink: &impl Sink, bytes: &[u8]) {
        let (fd, _) = sink.fd().unwrap();
        File::from(fd.try_clone_to_owned().unwrap()).write_all(bytes).unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn errno(error: DeviceError) -> i32 {
        match error {
            DeviceError::Open { errno, .. } | DeviceError::Io { errno, .. } => errno.raw(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_takes_its_name_at_the_end_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut sink = FileSink::create(&path).unwrap();
        assert!(names(folder.path()).is_empty());

        sink.prepare().unwrap();
        write_all(&sink, b"new");
        sink.config(b"").unwrap();
        sink.seal().unwrap();
        assert!(!path.exists());
        sink.pre_run().unwrap();
        sink.run().unwrap();
        drop(sink);

        assert_eq!(names(folder.path()), ["state"]);
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_old_file_is_replaced_whole_and_lends_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        fs::write(&path, b"old and longer").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();

        let mut sink = FileSink::create(&path).unwrap();
        sink.prepare().unwrap();
        write_all(&sink, b"new");
        sink.seal().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old and longer");
        sink.run().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        drop(sink);

        assert_eq!(names(folder.path()), ["state"]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn rollback_in_any_phase_leaves_no_new_file_and_the_old_one_as_it_was() {
        for old in [None, Some("old")] {
            for phases in 0..=3 {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("state");
                if let Some(old) = old {
                    fs::write(&path, old).unwrap();
                }
                let mut sink = FileSink::create(&path).unwrap();
                if phases >= 1 {
                    sink.prepare().unwrap();
                    write_all(&sink, b"new");
                }
                if phases >= 2 {
                    sink.seal().unwrap();
                }
                if phases >= 3 {
                    sink.run().unwrap();
                }

                sink.rollback().unwrap();
                sink.rollback().unwrap();

                assert_eq!(fs::read_to_string(&path).ok().as_deref(), old, "after {phases} phases");
                drop(sink);
                assert_eq!(fs::read_to_string(&path).ok().as_deref(), old, "after {phases} phases");
                assert_eq!(names(folder.path()).len(), old.iter().len());
            }
        }
    }

    #[test]
    fn an_unfinished_file_goes_away_with_its_sink() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = FileSink::create(folder.path().join("state")).unwrap();
        sink.prepare().unwrap();
        assert_eq!(names(folder.path()).len(), 1);
        drop(sink);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_sink_can_be_used_again_after_rollback() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut sink = FileSink::create(&path).unwrap();
        sink.prepare().unwrap();
        write_all(&sink, b"first");
        sink.rollback().unwrap();
        assert!(sink.fd().is_none());

        sink.prepare().unwrap();
        write_all(&sink, b"second");
        sink.seal().unwrap();
        sink.run().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
    }

    #[test]
    fn a_symbolic_link_stays_and_what_it_names_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("state"), folder.path().join("link"));
        fs::write(&path, b"old").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();

        let mut sink = FileSink::create(&link).unwrap();
        sink.prepare().unwrap();
        write_all(&sink, b"new");
        sink.seal().unwrap();
        sink.run().unwrap();

        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_stranger_at_the_hidden_name_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let first = create_part(&path).unwrap();
        let second = create_part(&path).unwrap();
        assert_ne!(first.path, second.path);
        assert_eq!(names(folder.path()).len(), 2);
    }

    #[test]
    fn the_longest_name_works() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = FileSink::create(folder.path().join("n".repeat(255))).unwrap();
        sink.prepare().unwrap();
        sink.seal().unwrap();
        sink.run().unwrap();
        drop(sink);
        assert_eq!(names(folder.path()), ["n".repeat(255)]);
    }

    #[test]
    fn what_cannot_be_a_target_is_refused_before_anything_happens() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: &Path| errno(FileSink::create(path).unwrap_err());
        assert_eq!(refused(folder.path()), nix::libc::EISDIR);
        assert_eq!(refused(&folder.path().join("missing/state")), nix::libc::ENOENT);
        assert_eq!(refused(Path::new("/dev/null")), nix::libc::EEXIST);
        assert_eq!(refused(Path::new("/")), nix::libc::EISDIR);
        assert_eq!(refused(Path::new("")), nix::libc::ENOENT);

        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        assert_eq!(refused(&file.join("state")), nix::libc::ENOTDIR);
        fs::set_permissions(&file, Permissions::from_mode(0o400)).unwrap();
        let writable_by_root = OpenOptions::new().write(true).open(&file).is_ok();
        if !writable_by_root {
            assert_eq!(refused(&file), nix::libc::EACCES);
        }
    }

    #[test]
    fn a_descriptor_is_memory_or_waits_as_its_mirror_image_says() {
        let (_rx, tx) = io::pipe().unwrap();
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(FdSink::new(tx.into()).fd().unwrap().1, FdKind::Waits);
        assert_eq!(FdSink::new(one.into()).fd().unwrap().1, FdKind::Waits);
        let in_memory = tempfile::tempfile_in("/dev/shm").unwrap();
        assert_eq!(FdSink::new(in_memory.into()).fd().unwrap().1, FdKind::Memory);
    }

    #[test]
    fn a_descriptor_keeps_what_was_written_and_says_so() {
        let (mut rx, tx) = io::pipe().unwrap();
        let mut sink = FdSink::new(tx.into());
        sink.prepare().unwrap();
        write_all(&sink, b"state");
        sink.seal().unwrap();
        sink.run().unwrap();
        sink.rollback().unwrap();
        assert!(sink.keeps_written());
        drop(sink);

        let mut found = Vec::new();
        rx.read_to_end(&mut found).unwrap();
        assert_eq!(found, b"state");
    }

    #[test]
    fn a_descriptor_that_is_open_for_reading_alone_is_refused_at_once() {
        let (rx, _tx) = io::pipe().unwrap();
        assert_eq!(errno(FdSink::new(rx.into()).prepare().unwrap_err()), nix::libc::EBADF);
    }
}

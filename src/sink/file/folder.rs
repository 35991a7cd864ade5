//! A folder by its descriptor, and what can be done with the names in it.
//!
//! Knows nothing of devices and transfers. Every operation is relative to the descriptor, so a folder that is moved or
//! replaced meanwhile is still the same folder. The invariant: nothing here replaces or removes a file that the caller
//! did not name, and a rename to a free name never replaces a file that appeared meanwhile.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use nix::errno::Errno as Number;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use serde::{Deserialize, Serialize};

use crate::sink::durable;

/// Which file it is, as long as it exists, on the file system of its folder.
///
/// The number of the file system is left out, because it may be another after a restart. The time of birth, where the
/// file system has one, tells a file from a later one that got the same inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    inode: u64,
    born_ns: u64,
}

impl Identity {
    pub(super) fn of(found: &Metadata) -> Identity {
        let born = found.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let born_ns =
            born.map_or(0, |since| since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos()));
        Identity { inode: found.ino(), born_ns }
    }
}

/// How two names became one file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replaced {
    /// The old file has the other's name now.
    Exchanged,
    /// The old file is gone: this file system cannot exchange names.
    Gone,
}

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    file: File,
    path: PathBuf,
    identity: Identity,
}

impl Folder {
    /// Opens a folder by its path, which becomes absolute and free of symbolic links.
    pub(super) fn open(path: &Path) -> io::Result<Folder> {
        let path = fs::canonicalize(path)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let file = File::from(nix::fcntl::open(&path, flags, Mode::empty())?);
        let identity = Identity::of(&file.metadata()?);
        Ok(Folder { file, path, identity })
    }

    /// Where it was when it was opened.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// Owner and permissions.
    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// Whether its path still leads to it.
    pub(super) fn is_in_place(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|found| Identity::of(&found) == self.identity)
    }

    /// What has this name, if anything. A symbolic link is not followed.
    pub(super) fn find(&self, name: &OsStr) -> io::Result<Option<Metadata>> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.file, name, flags, Mode::empty()) {
            Ok(found) => File::from(found).metadata().map(Some),
            Err(Number::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Which file has this name, if any.
    pub(super) fn identity_of(&self, name: &OsStr) -> io::Result<Option<Identity>> {
        Ok(self.find(name)?.as_ref().map(Identity::of))
    }

    /// Whether an open file has this name. Needs no further descriptor.
    pub(super) fn is_named(&self, name: &OsStr, opened: &Metadata) -> io::Result<bool> {
        match fstatat(&self.file, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // the number of an open file is not used again
            Ok(found) => Ok(found.st_ino == opened.ino()),
            Err(Number::ENOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A new file.
    pub(super) fn create(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(openat(&self.file, name, flags, Mode::from_bits_truncate(mode))?.into())
    }

    /// An existing file, for reading and writing. Whatever it is, this does not wait.
    pub(super) fn open_file(&self, name: &OsStr) -> io::Result<Option<File>> {
        let flags =
            OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        match openat(&self.file, name, flags, Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(Number::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Renames to a name that is free; `EEXIST` if it is not.
    pub(super) fn rename_to_free(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        match renameat2(&self.file, from, &self.file, to, RenameFlags::RENAME_NOREPLACE) {
            // a file system without this flag: a hard link never replaces a name either
            Err(Number::EINVAL | Number::ENOSYS) => {
                linkat(&self.file, from, &self.file, to, AtFlags::empty())?;
                self.remove(from)?;
            }
            other => other?,
        }
        self.log_rename(to);
        Ok(())
    }

    /// Gives the file `from` the name of the existing file `to`, which gets the other one where that is possible.
    pub(super) fn replace(&self, from: &OsStr, to: &OsStr) -> io::Result<Replaced> {
        let replaced = match self.exchange(from, to) {
            Ok(()) => return Ok(Replaced::Exchanged),
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => {
                nix::fcntl::renameat(&self.file, from, &self.file, to)?;
                Replaced::Gone
            }
            Err(error) => return Err(error),
        };
        self.log_rename(to);
        Ok(replaced)
    }

    /// Exchanges the names of two files.
    pub(super) fn exchange(&self, one: &OsStr, other: &OsStr) -> io::Result<()> {
        renameat2(&self.file, one, &self.file, other, RenameFlags::RENAME_EXCHANGE)?;
        self.log_rename(other);
        Ok(())
    }

    /// Removes a name; one that is gone already counts as removed.
    pub(super) fn remove(&self, name: &OsStr) -> io::Result<()> {
        match unlinkat(&self.file, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Number::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Removes a name if it is this file's.
    pub(super) fn remove_if(&self, name: &OsStr, identity: Identity) -> io::Result<()> {
        match self.identity_of(name)? {
            Some(found) if found == identity => self.remove(name),
            _ => Ok(()),
        }
    }

    /// Whether the caller may write to this file.
    pub(super) fn check_writable(&self, name: &OsStr) -> io::Result<()> {
        let (mode, flags) = (nix::unistd::AccessFlags::W_OK, AtFlags::AT_EACCESS);
        Ok(nix::unistd::faccessat(&self.file, name, mode, flags)?)
    }

    /// Makes the names in it durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        durable::sync(&self.file)
    }

    fn log_rename(&self, to: &OsStr) {
        durable::log_rename(|| self.path.join(to));
    }
}

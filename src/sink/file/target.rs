//! The file that a path names, as a folder and a name in it; and what it is when a sink looks.
//!
//! The invariant: a target is a regular file that may be written, or a free name, in a folder that is open.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno as Number;

use super::folder::{Folder, Identity};
use super::lock::{foreign, shown};
use super::owner::Ours;
use crate::descriptor::open_error;
use crate::error::{DeviceError, DeviceOperation};

/// A folder, and a name in it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) folder: Arc<Folder>,
    pub(super) name: OsString,
}

impl Target {
    /// Follows a symbolic link: the file that it names is the target.
    pub(super) fn of(path: &Path) -> Result<Target, DeviceError> {
        let failed = |error: io::Error| open_error(DeviceOperation::OpenForWriting, path, &error);
        let resolved = resolve(path).map_err(failed)?;
        let name = resolved.file_name().ok_or(Number::EISDIR.into()).map_err(failed)?;
        let parent = match resolved.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let folder =
            Folder::open(parent).map_err(|error| open_error(DeviceOperation::OpenFolder, parent, &error))?;
        Ok(Target { folder: Arc::new(folder), name: name.to_owned() })
    }

    /// The file that is to be replaced, if there is one. Only a regular file can be, and a read-only one is left alone.
    pub(super) fn old(&self) -> Result<Option<Metadata>, DeviceError> {
        self.find_old().map_err(|error| self.failed(DeviceOperation::OpenForWriting, &error))
    }

    fn find_old(&self) -> io::Result<Option<Metadata>> {
        let Some(old) = self.folder.find(&self.name)? else { return Ok(None) };
        if old.is_dir() {
            return Err(Number::EISDIR.into());
        }
        if !old.is_file() {
            return Err(Number::EEXIST.into());
        }
        self.folder.check_writable(&self.name)?;
        Ok(Some(old))
    }

    /// Which file has its name, if any.
    pub(super) fn identity(&self) -> io::Result<Option<Identity>> {
        self.folder.identity_of(&self.name)
    }

    /// Refuses a file that another user may have put there to be able to read what replaces it.
    pub(super) fn check_owner(&self, old: &Metadata, ours: &Ours) -> Result<(), DeviceError> {
        let folder = self.folder.metadata();
        let folder = folder.map_err(|error| self.failed(DeviceOperation::OpenForWriting, &error))?;
        match ours.may_be_planted(old, &folder) {
            true => Err(foreign(&self.folder, &self.name)),
            false => Ok(()),
        }
    }

    /// The error for a target that is not what it was.
    pub(super) fn changed(&self) -> DeviceError {
        DeviceError::FileChanged { path: shown(&self.folder, &self.name) }
    }

    /// An error of an operation on it.
    pub(super) fn failed(&self, operation: DeviceOperation, error: &io::Error) -> DeviceError {
        open_error(operation, &self.folder.path().join(&self.name), error)
    }

    /// The error where no file can be created beside it.
    pub(super) fn cannot_create(&self, error: &io::Error) -> DeviceError {
        open_error(DeviceOperation::CreateIn, self.folder.path(), error)
    }
}

/// The file that a symbolic link names; a path that is none, or does not exist yet, is returned unchanged.
fn resolve(path: &Path) -> io::Result<std::path::PathBuf> {
    if !is_a_files(path) {
        return Err(if path.as_os_str().is_empty() { Number::ENOENT } else { Number::EISDIR }.into());
    }
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => fs::canonicalize(path),
        Ok(_) => Ok(path.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path.to_owned()),
        Err(error) => Err(error),
    }
}

/// Whether its last component is a name: `name/` and `name/.` are folders even where nothing is there.
fn is_a_files(path: &Path) -> bool {
    let last = path.as_os_str().as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    super::hidden::is_name(OsStr::from_bytes(last))
}

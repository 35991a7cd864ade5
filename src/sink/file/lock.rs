//! The lock of one target: a hidden file beside it that is locked while a sink writes the target.
//!
//! It also holds the *pointer*: where the journal is that lists the target, should this process be killed while several
//! files are given their names. The invariant: at most one sink, in any process, has the lock of a target; a killed
//! process leaves an unlocked file behind, which the next sink takes over.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::stat::{Mode, fchmod};
use serde::{Deserialize, Serialize};

use super::folder::{Folder, Identity};
use super::hidden::Hidden;
use super::owner::Ours;
use crate::descriptor::open_error;
use crate::error::{DeviceError, DeviceOperation};
use crate::sink::durable;

/// Where the journal of a target is, which may be in another folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pointer {
    pub(super) folder: OsString,
    pub(super) identity: Identity,
    pub(super) name: OsString,
}

/// The lock of one target.
#[derive(Debug)]
pub(super) struct Lock {
    folder: Arc<Folder>,
    name: OsString,
    file: File,
    /// A journal may need what is in it: the file stays.
    kept: bool,
}

impl Lock {
    /// Takes it, or says who has it. Never waits.
    pub(super) fn take(folder: &Arc<Folder>, target: &OsStr, ours: &Ours) -> Result<Lock, DeviceError> {
        /// How often the file may go away between two steps because its owner ended.
        const ATTEMPTS: usize = 16;
        let name = Hidden::Lock.beside(target);
        let failed = |error: io::Error| open_error(DeviceOperation::Lock, &folder.path().join(&name), &error);
        for _ in 0..ATTEMPTS {
            let file = match folder.find(&name).map_err(failed)? {
                None => match create(folder, &name) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                    created => created.map_err(failed)?,
                },
                Some(found) if !ours.is_private(&found) => return Err(foreign(folder, &name)),
                Some(_) => match folder.open_file(&name).map_err(failed)? {
                    Some(file) => file,
                    None => continue,
                },
            };
            // the kernel gives it up when the file is closed
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(in_use(folder, target)),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            let opened = file.metadata().map_err(failed)?;
            if opened.nlink() > 0 && !ours.is_private(&opened) {
                return Err(foreign(folder, &name));
            }
            if folder.is_named(&name, &opened).map_err(failed)? {
                let kept = opened.len() > 0;
                return Ok(Lock { folder: Arc::clone(folder), name, file, kept });
            }
        }
        Err(in_use(folder, target))
    }

    /// The pointer that a killed process left, if it is whole.
    pub(super) fn pointer(&self) -> io::Result<Option<Pointer>> {
        /// A path and a name, as numbers in JSON.
        const POINTER_MAX: u64 = 64 * 1024;
        let mut text = Vec::new();
        (&self.file).take(POINTER_MAX).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text).ok())
    }

    /// Makes it say where the journal will be, durably.
    pub(super) fn point(&self, pointer: &Pointer) -> io::Result<()> {
        let text = serde_json::to_vec(pointer)?;
        self.file.set_len(0)?;
        self.file.write_all_at(&text, 0)?;
        durable::sync(&self.file)
    }

    /// The journal that it pointed to is gone.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.kept = false;
        Ok(())
    }

    /// Leaves the file when the lock is given back: somebody has to end the journal.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if !self.kept {
            // An empty file that stays is taken over by the next lock.
            let _ = self.folder.remove(&self.name);
        }
    }
}

fn create(folder: &Folder, name: &OsStr) -> io::Result<File> {
    let file = folder.create(name, 0o600)?;
    // whatever the umask is
    fchmod(&file, Mode::S_IRUSR | Mode::S_IWUSR)?;
    Ok(file)
}

/// The error for a target that another sink writes.
pub(super) fn in_use(folder: &Folder, target: &OsStr) -> DeviceError {
    DeviceError::FileInUse { path: shown(folder, target) }
}

/// The error for a file of another user's.
pub(super) fn foreign(folder: &Folder, name: &OsStr) -> DeviceError {
    DeviceError::ForeignFile { path: shown(folder, name) }
}

/// A path for a message.
pub(super) fn shown(folder: &Folder, name: &OsStr) -> Box<str> {
    let path: PathBuf = folder.path().join(name);
    path.display().to_string().into()
}

/// Opens a hidden file of ours, unless somebody else may have made it.
pub(super) fn open_private(folder: &Folder, name: &OsStr, ours: &Ours) -> io::Result<Option<File>> {
    let is_private = |found: &Metadata| ours.is_private(found);
    match folder.find(name)? {
        Some(found) if is_private(&found) => {}
        _ => return Ok(None),
    }
    match folder.open_file(name)? {
        Some(file) if is_private(&file.metadata()?) => Ok(Some(file)),
        _ => Ok(None),
    }
}

//! Whose files are written here, and who may read them.
//!
//! Device state holds whatever the guest's devices saw. The invariant: what is written can be read by no more users than
//! both the umask and the file that it replaces allow, and a file that another user may have planted is not replaced.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::stat::{Mode, fchmod};

use super::folder::Folder;

/// What a new file of this process gets in a folder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ours {
    uid: u32,
    gid: u32,
    /// The permissions that the umask, or the folder's default ACL, leaves.
    allowed: u32,
}

impl Ours {
    /// Finds out with an empty file, which is removed again. Fails where no file can be created.
    pub(super) fn probe(folder: &Folder) -> io::Result<Ours> {
        with_probe(folder, |file| {
            let found = file.metadata()?;
            Ok(Ours { uid: found.uid(), gid: found.gid(), allowed: found.mode() & 0o777 })
        })
    }

    /// Fails where a new file could not be given the owner and group of `old`.
    pub(super) fn check_can_adopt(&self, folder: &Folder, old: &Metadata) -> io::Result<()> {
        match (old.uid(), old.gid()) == (self.uid, self.gid) {
            true => Ok(()),
            false => with_probe(folder, |file| self.adopt(file, old)),
        }
    }

    /// Gives a new file the owner and group of `old`, and then as many of its permissions as are allowed.
    pub(super) fn adopt(&self, file: &File, old: &Metadata) -> io::Result<()> {
        let now = file.metadata()?;
        let uid = (old.uid() != now.uid()).then(|| old.uid());
        let gid = (old.gid() != now.gid()).then(|| old.gid());
        if uid.is_some() || gid.is_some() {
            fchown(file, uid, gid)?;
        }
        Ok(fchmod(file, Mode::from_bits_truncate(old.mode() & 0o777 & self.allowed))?)
    }

    /// Whether another user may have put this file here: others can create files in the folder, and it belongs neither to
    /// this process, nor to root, nor to the owner of the folder, or has other names elsewhere. The kernel's own rules are
    /// `fs.protected_regular` and `fs.protected_hardlinks`.
    pub(super) fn may_be_planted(&self, found: &Metadata, folder: &Metadata) -> bool {
        let is_shared = folder.mode() & 0o022 != 0;
        is_shared && (found.nlink() > 1 || ![self.uid, 0, folder.uid()].contains(&found.uid()))
    }

    /// Whether this is a hidden file that only this process's user can have written.
    pub(super) fn is_private(&self, found: &Metadata) -> bool {
        found.is_file() && found.uid() == self.uid && found.mode() & 0o077 == 0 && found.nlink() == 1
    }

    /// Whether this can be what a killed process left in place of an unfinished file: a file of this user's, or one that
    /// was given to the owner of the target already.
    pub(super) fn is_left_over(&self, found: &Metadata, target: Option<&Metadata>) -> bool {
        let is_targets = target.is_some_and(|target| target.uid() == found.uid());
        found.is_file() && (found.uid() == self.uid || is_targets)
    }
}

/// Tries something with an empty file.
fn with_probe<T>(folder: &Folder, attempt: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
    let (name, file) = create_probe(folder)?;
    let attempted = attempt(&file);
    folder.remove(&name)?;
    attempted
}

fn create_probe(folder: &Folder) -> io::Result<(OsString, File)> {
    /// Numbers the probes of this process.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    /// How many names a killed process with the same PID may have left behind.
    const TAKEN_MAX: usize = 16;
    let mut taken = nix::errno::Errno::EEXIST.into();
    for _ in 0..TAKEN_MAX {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = OsString::from(format!(".ringlift-{}-{number}.probe", std::process::id()));
        match folder.create(&name, 0o666) {
            Ok(file) => return Ok((name, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
            Err(error) => return Err(error),
        }
    }
    Err(taken)
}

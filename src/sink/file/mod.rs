//! State that goes into a file.
//!
//! Knows paths and names, and never writes: the engine does. The mirror of [`crate::source::FileSource`]. Invariants:
//! until [`Sink::run`], nothing but hidden files beside the target exists, and after [`Sink::rollback`] the target is
//! what it was; a target is written by one sink at a time, in any process.

mod commit;
mod folder;
mod hidden;
mod journal;
mod lock;
mod owner;
mod target;

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno as Number;

pub(super) use self::commit::Commit;
use self::commit::Ticket;
use self::folder::{Identity, Replaced};
use self::hidden::Hidden;
use self::journal::{Entry, Recovery};
use self::lock::{Lock, Pointer};
use self::owner::Ours;
use self::target::Target;
use super::{FdKind, Sink, Together, durable};
use crate::descriptor::{kind_of, open_error};
use crate::error::{DeviceError, DeviceOperation};

/// Writes a file that gets its name only when the transfer is complete.
///
/// The bytes go to `.NAME.ringlift.part` in the same folder. [`seal`](Sink::seal) makes them durable,
/// [`run`](Sink::run) renames the file and keeps an old file of that name aside until the sink is dropped, so that
/// [`rollback`](Sink::rollback) can restore it even then. Dropping the sink deletes an unfinished file; a process that is
/// killed leaves it behind, and the next sink of the same target deletes it.
///
/// From [`create`](FileSink::create) until it is dropped, the sink has the target to itself: it locks
/// `.NAME.ringlift.lock` beside it.
///
/// The new file gets the owner, the group and the permissions of the old one, without those that the umask takes away;
/// without an old one, only its owner can read and write it, because device state holds whatever the guest's devices
/// saw. ACLs, extended attributes, labels and hard links of the old file are not kept. A symbolic link is followed: the
/// file that it names is replaced.
#[derive(Debug)]
pub struct FileSink {
    target: Target,
    /// The hidden file's name. After the exchange of names, the old file has it.
    part_name: OsString,
    part: Option<File>,
    /// The file that had the target's name when this one was sealed.
    old: Option<Identity>,
    placed: Placed,
    /// The receiver's other files.
    commit: Commit,
    ticket: Option<Ticket>,
    /// Roll-back failed: whatever is there stays.
    is_stuck: bool,
    ours: Ours,
    // dropped last: until then no other sink touches these names
    lock: Lock,
}

/// What became of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placed {
    /// Untouched.
    No,
    /// It did not exist and does now.
    New,
    /// It did exist.
    Over(Replaced),
}

impl FileSink {
    /// Will write to `path`. Refuses what would certainly fail later, and a target that another sink is writing, here or
    /// in another process. Only the hidden lock is created yet.
    pub fn create(path: impl AsRef<Path>) -> Result<FileSink, DeviceError> {
        let target = Target::of(path.as_ref())?;
        target.old()?;
        let ours = Ours::probe(&target.folder).map_err(|error| target.cannot_create(&error))?;
        let mut lock = Lock::take(&target.folder, &target.name, &ours)?;
        end_interrupted(&target, &mut lock, &ours)?;

        let old = target.old()?;
        if let Some(old) = &old {
            target.check_owner(old, &ours)?;
            let adopted = ours.check_can_adopt(&target.folder, old);
            adopted.map_err(|error| target.failed(DeviceOperation::KeepOwner, &error))?;
        }
        let part_name = Hidden::Part.beside(&target.name);
        remove_left_over(&target, &part_name, old.as_ref(), &ours)?;
        Ok(FileSink {
            target,
            part_name,
            part: None,
            old: None,
            placed: Placed::No,
            commit: Commit::default(),
            ticket: None,
            is_stuck: false,
            ours,
            lock,
        })
    }

    fn part(&self, operation: DeviceOperation) -> Result<&File, DeviceError> {
        self.part.as_ref().ok_or(failed(operation, Number::ENOENT.into()))
    }

    /// Fails when the target is not what it was when this file was sealed.
    fn check_unchanged(&self) -> Result<(), DeviceError> {
        match self.target.identity() {
            Ok(found) if found == self.old => Ok(()),
            Ok(_) => Err(self.target.changed()),
            Err(error) => Err(failed(DeviceOperation::Rename, error)),
        }
    }

    fn place(&mut self) -> Result<(), DeviceError> {
        let Target { folder, name } = &self.target;
        let renaming = |error: io::Error| failed(DeviceOperation::Rename, error);
        self.check_unchanged()?;
        self.placed = match self.old {
            None => match folder.rename_to_free(&self.part_name, name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(self.target.changed());
                }
                renamed => renamed.map(|()| Placed::New).map_err(renaming)?,
            },
            Some(_) => Placed::Over(folder.replace(&self.part_name, name).map_err(renaming)?),
        };
        if self.placed == Placed::Over(Replaced::Exchanged) {
            self.check_exchanged()?;
        }
        self.target.folder.sync().map_err(renaming)
    }

    /// What has the hidden name now is the file that was there at seal, and not one that took its place just before.
    fn check_exchanged(&mut self) -> Result<(), DeviceError> {
        let Target { folder, name } = &self.target;
        let renaming = |error: io::Error| failed(DeviceOperation::Rename, error);
        if folder.identity_of(&self.part_name).map_err(renaming)? == self.old {
            return Ok(());
        }
        folder.exchange(&self.part_name, name).map_err(renaming)?;
        self.placed = Placed::No;
        Err(self.target.changed())
    }

    fn unplace(&mut self) -> io::Result<()> {
        let Target { folder, name } = &self.target;
        let new = self.part.as_ref().map(File::metadata).transpose()?.as_ref().map(Identity::of);
        let is_ours = self.placed != Placed::No && self.target.identity()? == new;
        match self.placed {
            Placed::No => return Ok(()),
            Placed::Over(Replaced::Exchanged) if is_ours => folder.exchange(&self.part_name, name)?,
            Placed::Over(Replaced::Exchanged) => return Err(Number::EEXIST.into()),
            Placed::Over(Replaced::Gone) => return Err(Number::EOPNOTSUPP.into()),
            Placed::New if is_ours => folder.remove(name)?,
            // something else was put in its place
            Placed::New => {}
        }
        self.placed = Placed::No;
        folder.sync()
    }

    fn go_back(&mut self) -> Result<(), DeviceError> {
        self.commit.turn_back().map_err(|error| failed(DeviceOperation::WriteJournal, error))?;
        self.unplace().map_err(|error| failed(DeviceOperation::RestoreFile, error))?;
        self.discard_part().map_err(|error| failed(DeviceOperation::RemoveFile, error))?;
        let back = self.ticket.map_or(Ok(()), |ticket| self.commit.is_back(ticket));
        self.ticket = None;
        back.map_err(|error| failed(DeviceOperation::WriteJournal, error))
    }

    fn discard_part(&mut self) -> io::Result<()> {
        match self.part.take() {
            Some(_) => self.target.folder.remove(&self.part_name),
            None => Ok(()),
        }
    }
}

impl Sink for FileSink {
    fn prepare(&mut self) -> Result<(), DeviceError> {
        self.rollback()?;
        let part = self.target.folder.create(&self.part_name, 0o600);
        self.part = Some(part.map_err(|error| self.target.cannot_create(&error))?);
        Ok(())
    }

    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        self.part.as_ref().map(|part| (part.as_fd(), kind_of(part.as_fd())))
    }

    fn seal(&mut self) -> Result<(), DeviceError> {
        let part = self.part(DeviceOperation::Sync)?;
        if !self.target.folder.is_in_place() {
            return Err(self.target.changed());
        }
        let old = self.target.old()?;
        if let Some(old) = &old {
            self.target.check_owner(old, &self.ours)?;
            self.ours.adopt(part, old).map_err(|error| failed(DeviceOperation::SetPermissions, error))?;
        }
        let pointed = self.commit.pointer().map_or(Ok(()), |pointer| self.lock.point(&pointer));
        pointed.and_then(|()| durable::sync(part)).map_err(|error| failed(DeviceOperation::Sync, error))?;
        self.old = old.as_ref().map(Identity::of);
        Ok(())
    }

    fn pre_run(&mut self) -> Result<(), DeviceError> {
        let part = self.part(DeviceOperation::Rename)?;
        let found = part.metadata().map_err(|error| failed(DeviceOperation::Rename, error))?;
        self.check_unchanged()?;
        let Target { folder, name } = &self.target;
        let entry = Entry {
            folder: folder.path().as_os_str().to_owned(),
            folder_identity: folder.identity(),
            target: name.clone(),
            new: Identity::of(&found),
            old: self.old,
        };
        self.ticket = Some(self.commit.add(folder, entry));
        Ok(())
    }

    fn run(&mut self) -> Result<(), DeviceError> {
        let Some(ticket) = self.ticket else {
            self.pre_run()?;
            return self.run();
        };
        self.commit.begin().map_err(|error| failed(DeviceOperation::WriteJournal, error))?;
        self.place()?;
        self.commit.placed(ticket).map_err(|error| failed(DeviceOperation::WriteJournal, error))
    }

    fn rollback(&mut self) -> Result<(), DeviceError> {
        let result = self.go_back();
        self.is_stuck = result.is_err();
        result
    }

    fn join(&mut self, together: &mut Together) {
        self.commit = together.files.clone();
        self.commit.join(&self.target);
        if let Ok(Some(old)) = self.target.folder.find(&self.target.name) {
            together.claim(&old);
        }
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        if self.is_stuck || (self.ticket.is_some() && self.commit.is_open()) {
            // whoever ends the journal needs all of it
            self.lock.keep();
        } else if matches!(self.placed, Placed::No | Placed::Over(Replaced::Exchanged)) {
            // The unfinished file, or the old one that the new one replaced. A failure here can no longer be reported.
            let _ = self.discard_part();
        }
    }
}

/// Ends what a killed process began: several files that were getting their names.
fn end_interrupted(target: &Target, lock: &mut Lock, ours: &Ours) -> Result<(), DeviceError> {
    let Target { folder, name } = target;
    let own = Pointer {
        folder: folder.path().as_os_str().to_owned(),
        identity: folder.identity(),
        name: Hidden::Journal.beside(name),
    };
    let left = lock.pointer().map_err(|error| target.failed(DeviceOperation::Lock, &error))?;
    for pointer in left.iter().chain([&own]) {
        let journal = || Path::new(&pointer.folder).join(&pointer.name).display().to_string().into();
        match journal::recover(pointer, ours) {
            Ok(Recovery::Ended) => {}
            Ok(Recovery::InUse) => return Err(lock::in_use(folder, name)),
            Err(error) => return Err(DeviceError::Interrupted { journal: journal(), errno: error.into() }),
        }
    }
    match folder.find(&own.name) {
        Ok(None) => lock.clear().map_err(|error| target.failed(DeviceOperation::Lock, &error)),
        Ok(Some(_)) => Err(lock::foreign(folder, &own.name)),
        Err(error) => Err(target.failed(DeviceOperation::OpenForWriting, &error)),
    }
}

/// Removes the unfinished file of a killed process, or the old one that it replaced: the lock says that it is dead.
fn remove_left_over(
    target: &Target,
    part: &OsStr,
    old: Option<&Metadata>,
    ours: &Ours,
) -> Result<(), DeviceError> {
    let folder = &target.folder;
    let failed =
        |error: io::Error| open_error(DeviceOperation::RemoveLeftOver, &folder.path().join(part), &error);
    match folder.find(part).map_err(failed)? {
        None => Ok(()),
        Some(found) if ours.is_left_over(&found, old) => folder.remove(part).map_err(failed),
        Some(_) => Err(lock::foreign(folder, part)),
    }
}

fn failed(operation: DeviceOperation, error: io::Error) -> DeviceError {
    DeviceError::Io { operation, errno: error.into() }
}

#[cfg(test)]
mod tests;

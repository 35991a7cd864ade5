//! The record on disk of several files that get their names together, and how an interrupted one is ended.
//!
//! Knows nothing of sinks. A journal exists from before the first rename until after the last: whoever finds one that is
//! whole and locked by nobody *finishes* it, so that all files are new, or *undoes* it, so that all are old, as its first
//! byte says. The invariant: a file is renamed or removed only when its identity is one that the journal lists, so a
//! journal that is out of date, or read twice, does nothing.

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno as Number;
use serde::{Deserialize, Serialize};

use super::folder::{Folder, Identity};
use super::hidden::{Hidden, is_name};
use super::lock::{Pointer, open_private};
use super::owner::Ours;
use crate::sink::durable;

/// Bytes of a journal that are read: 256 files, whose paths are written as numbers in JSON.
const JOURNAL_MAX: u64 = 8 * 1024 * 1024;

/// Which way an interrupted journal is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// The sender gave the devices up: all files become new.
    Finish,
    /// Roll-back was under way: all files become old.
    Undo,
}

impl Direction {
    fn byte(self) -> u8 {
        match self {
            Direction::Finish => b'F',
            Direction::Undo => b'U',
        }
    }
}

/// One file that gets its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) folder: OsString,
    pub(super) folder_identity: Identity,
    pub(super) target: OsString,
    /// The file that was written.
    pub(super) new: Identity,
    /// The file that it replaces.
    pub(super) old: Option<Identity>,
}

/// An open journal of this process, locked until it is dropped.
#[derive(Debug)]
pub(super) struct Journal(File);

impl Journal {
    /// Writes it and makes it durable: from here on the files get their names together.
    pub(super) fn write(
        folder: &Folder,
        name: &OsStr,
        direction: Direction,
        entries: &[&Entry],
    ) -> io::Result<Journal> {
        let file = folder.create(name, 0o600)?;
        let written = fill(file, direction, entries).and_then(|journal| folder.sync().map(|()| journal));
        if written.is_err() {
            // half a journal is no journal
            let _ = folder.remove(name);
        }
        written
    }

    /// From now on it is to be undone.
    pub(super) fn turn_back(&self) -> io::Result<()> {
        self.0.write_all_at(&[Direction::Undo.byte()], 0)?;
        durable::sync(&self.0)
    }
}

fn fill(file: File, direction: Direction, entries: &[&Entry]) -> io::Result<Journal> {
    file.try_lock()?;
    let mut text = vec![direction.byte(), b'\n'];
    serde_json::to_writer(&mut text, entries)?;
    file.write_all_at(&text, 0)?;
    durable::sync(&file)?;
    Ok(Journal(file))
}

/// Half a journal, or none, is `None`: nothing was renamed.
fn parse(text: &[u8]) -> Option<(Direction, Vec<Entry>)> {
    let (head, rest) = text.split_at_checked(2)?;
    let direction = match head {
        b"F\n" => Direction::Finish,
        b"U\n" => Direction::Undo,
        _ => return None,
    };
    let entries: Vec<Entry> = serde_json::from_slice(rest).ok()?;
    entries.iter().all(|entry| is_name(&entry.target)).then_some((direction, entries))
}

/// What became of an interrupted journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recovery {
    /// There is none any more.
    Ended,
    /// A living process has it.
    InUse,
}

/// Ends the journal that `pointer` names, if there is one.
pub(super) fn recover(pointer: &Pointer, ours: &Ours) -> io::Result<Recovery> {
    if !is_name(&pointer.name) {
        return Ok(Recovery::Ended);
    }
    let folder = match Folder::open(Path::new(&pointer.folder)) {
        Ok(folder) if folder.identity() == pointer.identity => folder,
        Ok(_) => return Err(Number::ESTALE.into()),
        Err(error) => return Err(error),
    };
    let Some(file) = open_private(&folder, &pointer.name, ours)? else { return Ok(Recovery::Ended) };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Recovery::InUse),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    if folder.identity_of(&pointer.name)? != Some(Identity::of(&file.metadata()?)) {
        return Ok(Recovery::Ended);
    }
    let mut text = Vec::new();
    (&file).take(JOURNAL_MAX).read_to_end(&mut text)?;
    if let Some((direction, entries)) = parse(&text) {
        end(direction, &entries)?;
    }
    folder.remove(&pointer.name)?;
    folder.sync()?;
    Ok(Recovery::Ended)
}

/// All folders are opened before the first rename: when one is missing, nothing is done.
fn end(direction: Direction, entries: &[Entry]) -> io::Result<()> {
    let open = |entry: &Entry| {
        let folder = Folder::open(Path::new(&entry.folder))?;
        match folder.identity() == entry.folder_identity {
            true => Ok(folder),
            false => Err(Number::ESTALE.into()),
        }
    };
    let folders: Vec<Folder> = entries.iter().map(open).collect::<io::Result<_>>()?;
    for (entry, folder) in entries.iter().zip(&folders) {
        match direction {
            Direction::Finish => finish(entry, folder)?,
            Direction::Undo => undo(entry, folder)?,
        }
        folder.sync()?;
    }
    for (entry, folder) in entries.iter().zip(&folders) {
        let part = Hidden::Part.beside(&entry.target);
        folder.remove_if(&part, entry.new)?;
        entry.old.map_or(Ok(()), |old| folder.remove_if(&part, old))?;
    }
    Ok(())
}

fn finish(entry: &Entry, folder: &Folder) -> io::Result<()> {
    let (part, target) = (Hidden::Part.beside(&entry.target), &*entry.target);
    if folder.identity_of(&part)? != Some(entry.new) {
        // it has its name already
        return Ok(());
    }
    match folder.identity_of(target)? {
        None => folder.rename_to_free(&part, target),
        found if found == entry.old => folder.replace(&part, target).map(drop),
        // something else was put there since, and the state must not be lost
        Some(_) => Err(Number::EEXIST.into()),
    }
}

fn undo(entry: &Entry, folder: &Folder) -> io::Result<()> {
    let (part, target) = (Hidden::Part.beside(&entry.target), &*entry.target);
    let here = (folder.identity_of(&part)?, folder.identity_of(target)?);
    match (here, entry.old) {
        ((_, Some(target_is)), None) if target_is == entry.new => folder.remove(target),
        ((Some(part_is), Some(target_is)), Some(old)) if part_is == old && target_is == entry.new => {
            folder.exchange(&part, target)
        }
        _ => Ok(()),
    }
}

//! The files of one receiver, which get their names together or not at all.
//!
//! Knows entries and the journal, and never a sink. A rename is atomic, several are not: before the first of them, a
//! journal says which files belong together. A single file needs none. The invariant: whenever some files have their new
//! names and others do not, the journal on disk says in which direction that ends.

use std::ffi::OsString;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno as Number;

use super::folder::Folder;
use super::hidden::Hidden;
use super::journal::{Direction, Entry, Journal};
use super::lock::Pointer;
use super::target::Target;

/// Shared by the file sinks of one receiver.
#[derive(Debug, Clone, Default)]
pub(in crate::sink) struct Commit(Arc<Mutex<Group>>);

#[derive(Debug, Default)]
struct Group {
    /// How many sinks share it.
    members: usize,
    /// Where the journal will be.
    home: Option<(Arc<Folder>, OsString)>,
    files: Vec<Renamed>,
    journal: State,
}

/// A file that is to get its name.
#[derive(Debug)]
struct Renamed {
    entry: Entry,
    folder: Arc<Folder>,
    has_name: bool,
    /// It is what it was before.
    is_back: bool,
}

#[derive(Debug, Default)]
enum State {
    /// Nothing was renamed.
    #[default]
    None,
    Open(Journal, Direction),
    /// All files have their names.
    Done,
    /// No journal could be written.
    Failed(Number),
}

/// A file's place in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(usize);

impl Commit {
    fn group(&self) -> MutexGuard<'_, Group> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more sink. The first one's folder holds the journal.
    pub(super) fn join(&self, target: &Target) {
        let mut group = self.group();
        group.members += 1;
        let home = || (Arc::clone(&target.folder), Hidden::Journal.beside(&target.name));
        group.home.get_or_insert_with(home);
    }

    /// Where the journal will be, if there will be one.
    pub(super) fn pointer(&self) -> Option<Pointer> {
        let group = self.group();
        let (folder, name) = group.home.as_ref().filter(|_| group.members > 1)?;
        let path = folder.path().as_os_str().to_owned();
        Some(Pointer { folder: path, identity: folder.identity(), name: name.clone() })
    }

    /// A file that is to get its name with the others.
    pub(super) fn add(&self, folder: &Arc<Folder>, entry: Entry) -> Ticket {
        let mut group = self.group();
        group.files.push(Renamed { entry, folder: Arc::clone(folder), has_name: false, is_back: false });
        Ticket(group.files.len() - 1)
    }

    /// Before a file gets its name. All have been added by now.
    pub(super) fn begin(&self) -> io::Result<()> {
        let mut group = self.group();
        match &group.journal {
            State::None if group.files.len() < 2 => Ok(()),
            State::None => group.open(Direction::Finish).inspect_err(|error| {
                let errno = error.raw_os_error().map_or(Number::EIO, Number::from_raw);
                group.journal = State::Failed(errno);
            }),
            State::Open(_, Direction::Finish) => Ok(()),
            State::Open(_, Direction::Undo) | State::Done => Err(Number::ECANCELED.into()),
            State::Failed(errno) => Err((*errno).into()),
        }
    }

    /// A file has its name, durably.
    pub(super) fn placed(&self, ticket: Ticket) -> io::Result<()> {
        let mut group = self.group();
        group.files[ticket.0].has_name = true;
        match group.files.iter().all(|file| file.has_name) {
            true => group.close(State::Done),
            false => Ok(()),
        }
    }

    /// Before anything is undone or removed.
    pub(super) fn turn_back(&self) -> io::Result<()> {
        let mut group = self.group();
        if let State::Open(journal, direction) = &mut group.journal {
            if *direction == Direction::Finish {
                journal.turn_back()?;
                *direction = Direction::Undo;
            }
            return Ok(());
        }
        match matches!(group.journal, State::Done) && group.files.len() > 1 {
            true => group.open(Direction::Undo),
            false => Ok(()),
        }
    }

    /// A file is what it was before.
    pub(super) fn is_back(&self, ticket: Ticket) -> io::Result<()> {
        let mut group = self.group();
        group.files[ticket.0].is_back = true;
        if !group.files.iter().all(|file| file.is_back) {
            return Ok(());
        }
        group.files.clear();
        group.close(State::None)
    }

    /// Whether a journal exists, so that everything has to stay as it is for whoever ends it.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.group().journal, State::Open(..))
    }
}

impl Group {
    fn open(&mut self, direction: Direction) -> io::Result<()> {
        let (home, name) = self.home.as_ref().ok_or(Number::ENOENT)?;
        // the names of the hidden files that the journal is about, and of the locks that point to it
        let mut synced = vec![home.path()];
        for file in &self.files {
            if !synced.contains(&file.folder.path()) {
                synced.push(file.folder.path());
                file.folder.sync()?;
            }
        }
        let entries: Vec<&Entry> = self.files.iter().map(|file| &file.entry).collect();
        self.journal = State::Open(Journal::write(home, name, direction, &entries)?, direction);
        Ok(())
    }

    fn close(&mut self, state: State) -> io::Result<()> {
        if let (State::Open(..), Some((home, name))) = (&self.journal, &self.home) {
            home.remove(name)?;
        }
        self.journal = state;
        Ok(())
    }
}

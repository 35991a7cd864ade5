//! Finds the files of a capture's connections.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::format::is_connection;
use crate::error::{CaptureError, CaptureOperation, CaptureProblem};
use crate::limits::QEMU_CONNECTIONS_MAX;
use crate::qemu::reader::Reader;
use crate::wire::is_printable;

/// A connection's file.
#[derive(Debug, Clone)]
pub(super) struct Named {
    /// The name in findings; without the folder if a single folder was given.
    pub(super) name: Box<str>,
    pub(super) path: PathBuf,
}

impl Named {
    pub(super) fn open(&self) -> Result<Reader, CaptureError> {
        Reader::open(&self.path).map_err(|problem| self.error(0, problem))
    }

    pub(super) fn error(&self, offset: u64, problem: CaptureProblem) -> CaptureError {
        CaptureError { file: self.name.clone(), offset, problem }
    }
}

/// Finds the connections' files in `paths`: files as they are, and of a folder those with a connection's name, sorted
/// by name.
pub(super) fn find(paths: &[PathBuf], errors: &mut Vec<CaptureError>) -> Vec<Named> {
    let mut found = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => within(path, paths.len() == 1, &mut found, errors),
            false => found.push(Named { name: shown(path.as_os_str()), path: path.clone() }),
        }
        if found.len() > QEMU_CONNECTIONS_MAX {
            errors.push(whole(path, CaptureProblem::TooManyFiles));
            found.truncate(QEMU_CONNECTIONS_MAX);
            break;
        }
    }
    found
}

fn within(folder: &Path, is_alone: bool, found: &mut Vec<Named>, errors: &mut Vec<CaptureError>) {
    let before = found.len();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            let problem = CaptureProblem::Io { operation: CaptureOperation::Open, errno: error.into() };
            return errors.push(whole(folder, problem));
        }
    };
    // a folder has no order: take all of them, or just enough to know that there are too many
    let connections = entries.map_while(Result::ok).filter(|entry| is_connection(&entry.file_name()));
    for entry in connections.take(QEMU_CONNECTIONS_MAX + 1) {
        let (file_name, path) = (entry.file_name(), entry.path());
        let name = shown(if is_alone { &file_name } else { path.as_os_str() });
        found.push(Named { name, path });
    }
    found[before..].sort_by(|one, other| one.path.cmp(&other.path));
    if found.len() == before {
        errors.push(whole(folder, CaptureProblem::NoFiles));
    }
}

/// A name that a terminal can show.
fn shown(name: &OsStr) -> Box<str> {
    let name = name.to_string_lossy();
    name.chars().map(|char| if is_printable(char) { char } else { char::REPLACEMENT_CHARACTER }).collect()
}

fn whole(path: &Path, problem: CaptureProblem) -> CaptureError {
    CaptureError { file: shown(path.as_os_str()), offset: 0, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(paths: &[PathBuf]) -> (Vec<String>, Vec<CaptureProblem>) {
        let mut errors = Vec::new();
        let found = find(paths, &mut errors);
        (
            found.into_iter().map(|named| named.name.into()).collect(),
            errors.into_iter().map(|error| error.problem).collect(),
        )
    }

    #[test]
    fn a_folders_connections_are_its_bin_files_without_the_answers() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["main.bin", "multifd-0.bin", "main.back.bin", "main.times", "README"] {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        assert_eq!(
            names(&[folder.path().to_owned()]),
            (vec!["main.bin".to_owned(), "multifd-0.bin".to_owned()], vec![])
        );
    }

    #[test]
    fn files_are_taken_as_they_are_named() {
        let paths = ["a/conn0.bin".into(), "b/conn0.bin".into()];
        assert_eq!(names(&paths).0, ["a/conn0.bin", "b/conn0.bin"]);
    }

    #[test]
    fn an_empty_folder_and_one_that_is_too_full_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(names(&[folder.path().to_owned()]).1, [CaptureProblem::NoFiles]);
        for number in 0..=QEMU_CONNECTIONS_MAX {
            fs::write(folder.path().join(format!("{number}.bin")), b"").unwrap();
        }
        let (found, problems) = names(&[folder.path().to_owned()]);
        assert_eq!((found.len(), problems), (QEMU_CONNECTIONS_MAX, vec![CaptureProblem::TooManyFiles]));
    }
}

//! Captures of a real QEMU, as they are and changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ringlift::capture::{self, Inspection};
use tempfile::TempDir;

/// The folder of one of the captures in `tests/fixtures/qemu`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qemu").join(name)
}

/// A capture in memory: its files by name.
#[derive(Debug, Clone)]
pub(crate) struct Capture(pub(crate) BTreeMap<String, Vec<u8>>);

impl Capture {
    pub(crate) fn of(name: &str) -> Capture {
        let entries = fs::read_dir(fixture(name)).expect("a fixture").map(|entry| entry.expect("an entry"));
        let read = |path: PathBuf| fs::read(path).expect("a fixture's file");
        Capture(
            entries
                .map(|entry| (entry.file_name().into_string().expect("text"), read(entry.path())))
                .collect(),
        )
    }

    /// Changes a file.
    pub(crate) fn with(mut self, file: &str, change: impl FnOnce(&mut Vec<u8>)) -> Capture {
        change(self.0.get_mut(file).expect("the capture has it"));
        self
    }

    /// Writes bytes over those at `offset`.
    pub(crate) fn patched(self, file: &str, offset: usize, bytes: &[u8]) -> Capture {
        self.with(file, |file| file[offset..offset + bytes.len()].copy_from_slice(bytes))
    }

    pub(crate) fn without(mut self, file: &str) -> Capture {
        self.0.remove(file).expect("the capture has it");
        self
    }

    pub(crate) fn written(&self) -> TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, bytes) in &self.0 {
            fs::write(folder.path().join(name), bytes).expect("room");
        }
        folder
    }

    pub(crate) fn inspect(&self) -> Inspection {
        let folder = self.written();
        capture::inspect(&[folder.path().to_owned()])
    }

    /// What is wrong with it, a sentence for each error.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.inspect().errors.iter().map(ToString::to_string).collect()
    }
}

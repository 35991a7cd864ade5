//! Whether an output would overwrite something that the same run reads or writes.
//!
//! The library keeps its own sinks apart; this is about reports and captures. Knows paths, and opens nothing.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Whether writing to `output` would overwrite `kept`: the same file by any path or link, or, where `kept` is the folder
/// of a capture, one of the capture's files.
pub(crate) fn overwrites(output: &Path, kept: &Path) -> bool {
    is_same_file(output, kept) || (is_captures(output) && folder_of(output) == fs::canonicalize(kept).ok())
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => one.is_file() && (one.dev(), one.ino()) == (other.dev(), other.ino()),
        (Err(_), Err(_)) => full(one).is_some_and(|one| Some(one) == full(other)),
        _ => false,
    }
}

/// A path to a name that may be free.
fn full(path: &Path) -> Option<PathBuf> {
    Some(folder_of(path)?.join(path.file_name()?))
}

fn folder_of(path: &Path) -> Option<PathBuf> {
    let parent = path.parent()?;
    fs::canonicalize(if parent.as_os_str().is_empty() { Path::new(".") } else { parent }).ok()
}

/// Whether this is the name of a file in a capture.
fn is_captures(path: &Path) -> bool {
    path.extension().and_then(OsStr::to_str).is_some_and(|extension| matches!(extension, "bin" | "times"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_by_another_path_and_by_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert!(overwrites(&path("free"), &path("./free")));
        assert!(!overwrites(&path("free"), &path("other")));

        fs::write(path("file"), b"").unwrap();
        fs::hard_link(path("file"), path("hard")).unwrap();
        std::os::unix::fs::symlink(path("file"), path("soft")).unwrap();
        for name in ["file", "hard", "soft"] {
            assert!(overwrites(&path(name), &path("file")), "{name}");
        }
        assert!(!overwrites(Path::new("/dev/null"), Path::new("/dev/null")));
    }

    #[test]
    fn a_captures_files_are_kept_and_a_report_beside_them_is_not_one() {
        let folder = tempfile::tempdir().unwrap();
        for (name, is_kept) in [("main.bin", true), ("multifd-0.times", true), ("report.json", false)] {
            assert_eq!(overwrites(&folder.path().join(name), folder.path()), is_kept, "{name}");
        }
        assert!(!overwrites(&folder.path().join("main.bin"), &folder.path().join("missing")));
    }
}

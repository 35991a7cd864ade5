//! Operations on files: which one an error is about. Knows no file. Code decides by the value; its text is here.

use std::fmt;

/// An operation that writes an output file or folder. Its text stands before a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileOperation {
    /// Creates a folder.
    CreateFolder,
    /// Creates a file.
    Create,
    /// Writes to a file.
    Write,
}

impl fmt::Display for FileOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileOperation::CreateFolder => "making the folder",
            FileOperation::Create => "creating",
            FileOperation::Write => "writing",
        })
    }
}

/// An operation that reads a file of a capture. Its text stands before "failed".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CaptureOperation {
    /// Opens a file or a folder.
    Open,
    /// Reads the length of an open file.
    Status,
    /// Changes the position in a file.
    Seek,
    /// Reads from a file.
    Read,
}

impl fmt::Display for CaptureOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CaptureOperation::Open => "open",
            CaptureOperation::Status => "fstat",
            CaptureOperation::Seek => "seek",
            CaptureOperation::Read => "read",
        })
    }
}

//! Opens the sources and sinks named on the command line.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ringlift::error::{DeviceError, DeviceOperation, Errno, Error};
use ringlift::sink::{Discard, FdSink, FileSink, Sink, Verify, VfioSink};
use ringlift::source::{FdSource, FileSource, Null, Source, Synthetic, VfioSource};

/// A device's name and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named<T> {
    pub(crate) name: String,
    pub(crate) end: T,
}

/// SOURCE, as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SourceSpec {
    Vfio(PathBuf),
    File(PathBuf),
    Fd(u32),
    Synthetic(u64),
    Null(u64),
}

/// SINK, as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SinkSpec {
    Vfio(PathBuf),
    File(PathBuf),
    Fd(u32),
    Verify,
    Discard,
}

impl Named<SourceSpec> {
    /// Opens what state is read from.
    pub(crate) fn open(&self) -> Result<Box<dyn Source>, Error> {
        self.end.open().map_err(|error| of_device(&self.name, error))
    }
}

impl Named<SinkSpec> {
    /// Opens what state is written to: anew for each transfer.
    pub(crate) fn open(&self) -> Result<Box<dyn Sink>, Error> {
        self.end.open().map_err(|error| of_device(&self.name, error))
    }
}

impl SourceSpec {
    /// The file that is read, if it is one.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        match self {
            SourceSpec::File(path) => Some(path.clone()),
            SourceSpec::Fd(fd) => Some(of_fd(*fd)),
            SourceSpec::Vfio(_) | SourceSpec::Synthetic(_) | SourceSpec::Null(_) => None,
        }
    }

    /// What it is called on the command line.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            SourceSpec::Vfio(_) => "vfio",
            SourceSpec::File(_) => "file",
            SourceSpec::Fd(_) => "fd",
            SourceSpec::Synthetic(_) => "synthetic",
            SourceSpec::Null(_) => "null",
        }
    }

    fn open(&self) -> Result<Box<dyn Source>, DeviceError> {
        Ok(match self {
            SourceSpec::Vfio(path) => Box::new(VfioSource::open(path)?),
            SourceSpec::File(path) => Box::new(FileSource::open(path)?),
            SourceSpec::Fd(fd) => Box::new(FdSource::new(inherited(*fd, OpenOptions::new().read(true))?)),
            SourceSpec::Synthetic(size) => Box::new(Synthetic::new(*size)),
            SourceSpec::Null(size) => Box::new(Null::new(*size)),
        })
    }
}

impl SinkSpec {
    /// The file that is written, if it is one.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        match self {
            SinkSpec::File(path) => Some(path.clone()),
            SinkSpec::Fd(fd) => Some(of_fd(*fd)),
            SinkSpec::Vfio(_) | SinkSpec::Verify | SinkSpec::Discard => None,
        }
    }

    /// What it is called on the command line.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            SinkSpec::Vfio(_) => "vfio",
            SinkSpec::File(_) => "file",
            SinkSpec::Fd(_) => "fd",
            SinkSpec::Verify => "verify",
            SinkSpec::Discard => "discard",
        }
    }

    fn open(&self) -> Result<Box<dyn Sink>, DeviceError> {
        Ok(match self {
            SinkSpec::Vfio(path) => Box::new(VfioSink::open(path)?),
            SinkSpec::File(path) => Box::new(FileSink::create(path)?),
            SinkSpec::Fd(fd) => Box::new(FdSink::new(inherited(*fd, OpenOptions::new().write(true))?)),
            SinkSpec::Verify => Box::new(Verify::new()),
            SinkSpec::Discard => Box::new(Discard),
        })
    }
}

/// A descriptor inherited from the parent. The standard ones are duplicated; others are opened a second time by number,
/// because no safe code turns a number into a descriptor: a file is then put at the position of the first one, a pipe
/// is the same pipe, and a socket cannot be opened.
fn inherited(fd: u32, options: &mut OpenOptions) -> Result<OwnedFd, DeviceError> {
    let path = of_fd(fd);
    let opened = match fd {
        0 => io::stdin().as_fd().try_clone_to_owned(),
        1 => io::stdout().as_fd().try_clone_to_owned(),
        2 => io::stderr().as_fd().try_clone_to_owned(),
        _ => reopen(fd, options.custom_flags(nix::libc::O_NOCTTY), &path),
    };
    opened.map_err(|error| DeviceError::Open {
        operation: DeviceOperation::Open,
        path: path.display().to_string().into(),
        errno: Errno::from(error),
    })
}

/// What leads to an open descriptor.
fn of_fd(fd: u32) -> PathBuf {
    format!("/proc/self/fd/{fd}").into()
}

fn reopen(fd: u32, options: &OpenOptions, path: &Path) -> io::Result<OwnedFd> {
    let mut file: File = options.open(path)?;
    if file.metadata()?.is_file() {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
        file.seek(SeekFrom::Start(position(&info)))?;
    }
    Ok(file.into())
}

/// The line `pos:` of /proc/PID/fdinfo/N.
fn position(info: &str) -> u64 {
    info.lines()
        .find_map(|line| line.strip_prefix("pos:"))
        .and_then(|position| position.trim().parse().ok())
        .unwrap_or(0)
}

fn of_device(name: &str, error: DeviceError) -> Error {
    Error::Device { device: name.into(), error }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;

    use super::*;

    fn number(fd: &impl AsRawFd) -> u32 {
        u32::try_from(fd.as_raw_fd()).unwrap()
    }

    #[test]
    fn an_inherited_file_is_opened_where_it_stands() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        file.seek(SeekFrom::Start(4)).unwrap();
        let mut found = String::new();
        let fd = inherited(number(&file), OpenOptions::new().read(true)).unwrap();
        File::from(fd).read_to_string(&mut found).unwrap();
        assert_eq!(found, "456789");
    }

    #[test]
    fn an_inherited_pipe_is_the_same_pipe() {
        let (mut rx, tx) = io::pipe().unwrap();
        let fd = inherited(number(&tx), OpenOptions::new().write(true)).unwrap();
        File::from(fd).write_all(b"state").unwrap();
        drop(tx);
        let mut found = String::new();
        rx.read_to_string(&mut found).unwrap();
        assert_eq!(found, "state");
    }

    #[test]
    fn a_number_that_is_not_open_is_named() {
        let Err(error) = (Named { name: "net0".to_owned(), end: SourceSpec::Fd(1_000_000) }).open() else {
            panic!("nothing is open there")
        };
        let text = error.to_string();
        assert!(text.starts_with("device net0: open /proc/self/fd/1000000 failed: ENOENT"), "{text}");
    }
}

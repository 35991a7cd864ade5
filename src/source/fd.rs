//! State that comes from a descriptor: a file, a memfd, a pipe, a socket, a character device.
//!
//! Knows descriptors and paths, and never reads: the engine does. [`crate::sink::FdSink`] and [`crate::sink::FileSink`]
//! are the mirror images.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

use super::{FdKind, Flow, Source};
use crate::descriptor::{is_file, kind_of, make_ready, open_error};
use crate::error::{DeviceError, DeviceOperation};
use crate::phase::DeviceStep;

/// Reads a descriptor from its current position to its end.
///
/// A given descriptor is made blocking (`O_NONBLOCK` is cleared, also for every process that shares it): the kernel
/// waits for its data beside the engine's loop. [`rollback`](Source::rollback) restores the position of a file; what
/// was read from a pipe or a socket is gone.
#[derive(Debug)]
pub struct FdSource {
    file: File,
    kind: FdKind,
    /// The position of a file at the start.
    origin: Option<u64>,
}

impl FdSource {
    /// Takes a descriptor that is open for reading.
    pub fn new(fd: OwnedFd) -> FdSource {
        let kind = kind_of(fd.as_fd());
        FdSource { file: File::from(fd), kind, origin: None }
    }
}

impl Source for FdSource {
    fn estimate(&self) -> Option<u64> {
        if !is_file(self.file.as_fd()) {
            return None;
        }
        let size = self.file.metadata().ok()?.len();
        let position = (&self.file).stream_position().ok()?;
        Some(size.saturating_sub(position))
    }

    fn start(&mut self) -> Result<Flow, DeviceError> {
        make_ready(self.file.as_fd(), OFlag::O_WRONLY, DeviceOperation::ReadFromDescriptor)?;
        if is_file(self.file.as_fd()) {
            self.origin = Some(self.file.stream_position().map_err(seek_error)?);
        }
        Ok(Flow::StopCopyOnly)
    }

    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        Some((self.file.as_fd(), self.kind))
    }

    fn stop(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn release(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn rollback(&mut self) -> Result<(), DeviceError> {
        match self.origin {
            Some(origin) => self.file.seek(SeekFrom::Start(origin)).map(drop).map_err(seek_error),
            None => Ok(()),
        }
    }

    /// All that do not look at the descriptor, which may be of a file on the network.
    fn is_instant(&self, step: DeviceStep) -> bool {
        !matches!(step, DeviceStep::Start | DeviceStep::Rollback)
    }
}

/// Reads a file from start to end; its size is the estimate. A FIFO or a character device works, too.
#[derive(Debug)]
pub struct FileSource(FdSource);

impl FileSource {
    /// Opens the file. Waits for a writer when it is a FIFO.
    pub fn open(path: impl AsRef<Path>) -> Result<FileSource, DeviceError> {
        let path = path.as_ref();
        let file = open_source(path).map_err(|error| open_error(DeviceOperation::Open, path, &error))?;
        Ok(FileSource(FdSource::new(file.into())))
    }
}

impl Source for FileSource {
    fn estimate(&self) -> Option<u64> {
        self.0.estimate()
    }

    fn start(&mut self) -> Result<Flow, DeviceError> {
        self.0.start()
    }

    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        self.0.fd()
    }

    fn stop(&mut self) -> Result<(), DeviceError> {
        self.0.stop()
    }

    fn release(&mut self) -> Result<(), DeviceError> {
        self.0.release()
    }

    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.0.rollback()
    }

    fn is_instant(&self, step: DeviceStep) -> bool {
        self.0.is_instant(step)
    }
}

fn open_source(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NOCTTY).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(nix::errno::Errno::EISDIR.into());
    }
    debug_assert!(!kind.is_socket(), "the kernel does not open sockets");
    Ok(file)
}

fn seek_error(error: io::Error) -> DeviceError {
    DeviceError::Io { operation: DeviceOperation::Seek, errno: error.into() }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use nix::fcntl::{FcntlArg, fcntl};

    use super::*;
    use crate::error::Errno;

    /// Reads as the engine does: from the descriptor, at its position.
    fn read_all(source: &impl Source) -> Vec<u8> {
        let (fd, _) = source.fd().unwrap();
        let mut data = Vec::new();
        File::from(fd.try_clone_to_owned().unwrap()).read_to_end(&mut data).unwrap();
        data
    }

    #[test]
    fn a_file_has_a_size_and_can_be_read_again_after_rollback() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        std::fs::write(&path, b"0123456789").unwrap();

        let mut source = FileSource::open(&path).unwrap();
        assert_eq!(source.estimate(), Some(10));
        assert_eq!(source.start(), Ok(Flow::StopCopyOnly));
        source.stop().unwrap();
        assert_eq!(read_all(&source), b"0123456789");
        source.rollback().unwrap();
        assert_eq!(read_all(&source), b"0123456789");
    }

    #[test]
    fn a_descriptor_is_read_from_where_it_stands_and_goes_back_there() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        file.seek(SeekFrom::Start(4)).unwrap();

        let mut source = FdSource::new(file.into());
        assert_eq!(source.estimate(), Some(6));
        source.start().unwrap();
        assert_eq!(read_all(&source), b"456789");
        source.rollback().unwrap();
        assert_eq!(read_all(&source), b"456789");
    }

    #[test]
    fn a_memfd_is_memory() {
        let fd = nix::sys::memfd::memfd_create("state", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
        assert_eq!(FdSource::new(fd).fd().unwrap().1, FdKind::Memory);
    }

    #[test]
    fn a_file_is_memory_only_where_its_file_system_is() {
        // whatever is below this folder: cargo builds on a disk, or in memory
        let file = File::from(OwnedFd::from(tempfile::tempfile_in("/dev/shm").unwrap()));
        assert_eq!(FdSource::new(file.into()).fd().unwrap().1, FdKind::Memory);
        // sysfs answers with whatever a driver does
        let file = File::open("/sys/kernel/mm/transparent_hugepage/enabled").unwrap();
        assert_eq!(FdSource::new(file.into()).fd().unwrap().1, FdKind::Waits);
    }

    #[test]
    fn a_pipe_a_socket_and_a_character_device_may_wait() {
        let (rx, _tx) = io::pipe().unwrap();
        let (one, _other) = UnixStream::pair().unwrap();
        let zero = File::open("/dev/zero").unwrap();
        for fd in [OwnedFd::from(rx), one.into(), zero.into()] {
            let source = FdSource::new(fd);
            assert_eq!(source.fd().unwrap().1, FdKind::Waits);
            assert_eq!(source.estimate(), None);
        }
    }

    #[test]
    fn a_given_descriptor_is_made_blocking() {
        let (one, other) = UnixStream::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        let mut source = FdSource::new(one.into());
        source.start().unwrap();
        let flags = OFlag::from_bits_retain(fcntl(source.fd().unwrap().0, FcntlArg::F_GETFL).unwrap());
        assert!(!flags.contains(OFlag::O_NONBLOCK));
        drop(other);
        source.rollback().unwrap();
    }

    #[test]
    fn a_descriptor_that_is_open_for_writing_alone_is_refused_at_the_start() {
        let (_rx, tx) = io::pipe().unwrap();
        let error = FdSource::new(tx.into()).start().unwrap_err();
        let errno = Errno::from_raw(nix::libc::EBADF);
        assert_eq!(error, DeviceError::Io { operation: DeviceOperation::ReadFromDescriptor, errno });
    }

    #[test]
    fn a_fifo_is_read_to_the_end_of_its_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let writer = std::thread::spawn({
            let path = path.clone();
            move || OpenOptions::new().write(true).open(path).unwrap().write_all(b"state").unwrap()
        });

        let mut source = FileSource::open(&path).unwrap();
        source.start().unwrap();
        assert_eq!(source.fd().unwrap().1, FdKind::Waits);
        assert_eq!(read_all(&source), b"state");
        writer.join().unwrap();
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let errno_of = |path: &Path| match FileSource::open(path).unwrap_err() {
            DeviceError::Open { operation: DeviceOperation::Open, path: named, errno } => {
                assert_eq!(*named, *path.display().to_string());
                errno.raw()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(errno_of(&missing), nix::libc::ENOENT);
        assert_eq!(errno_of(folder.path()), nix::libc::EISDIR);
    }
}

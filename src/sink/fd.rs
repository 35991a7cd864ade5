//! State that goes into a descriptor: a file, a memfd, a pipe, a socket, a character device.
//!
//! Knows descriptors, and never writes: the engine does. The mirror of [`crate::source::FdSource`]. Invariant: what was
//! written stays, and the sink says so.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;

use super::{FdKind, Sink, Together, durable};
use crate::descriptor::{is_file, kind_of, make_ready};
use crate::error::{DeviceError, DeviceOperation};
use crate::phase::DeviceStep;

/// Writes into a descriptor from its current position on.
///
/// A given descriptor is made blocking (`O_NONBLOCK` is cleared, also for every process that shares it). What was
/// written cannot be taken back: after an aborted transfer the bytes that arrived are still there, and the report warns
/// of it.
#[derive(Debug)]
pub struct FdSink {
    file: File,
    kind: FdKind,
}

impl FdSink {
    /// Takes a descriptor that is open for writing.
    pub fn new(fd: OwnedFd) -> FdSink {
        let kind = kind_of(fd.as_fd());
        FdSink { file: File::from(fd), kind }
    }
}

impl Sink for FdSink {
    fn prepare(&mut self) -> Result<(), DeviceError> {
        make_ready(self.file.as_fd(), OFlag::O_RDONLY, DeviceOperation::WriteToDescriptor)
    }

    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        Some((self.file.as_fd(), self.kind))
    }

    fn seal(&mut self) -> Result<(), DeviceError> {
        let failed =
            |error: io::Error| DeviceError::Io { operation: DeviceOperation::Sync, errno: error.into() };
        match is_file(self.file.as_fd()) {
            true => durable::sync(&self.file).map_err(failed),
            false => Ok(()),
        }
    }

    fn run(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn rollback(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn keeps_written(&self) -> bool {
        true
    }

    /// All that do not look at the descriptor.
    fn is_instant(&self, step: DeviceStep) -> bool {
        !matches!(step, DeviceStep::Prepare | DeviceStep::Load)
    }

    fn join(&mut self, together: &mut Together) {
        if let Ok(file) = self.file.metadata() {
            together.claim(&file);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::super::durable::log::{Call, calls};
    use super::*;

    /// Writes as the engine does: to the descriptor, at its position.
    fn write_all(sink: &impl Sink, bytes: &[u8]) {
        let (fd, _) = sink.fd().unwrap();
        File::from(fd.try_clone_to_owned().unwrap()).write_all(bytes).unwrap();
    }

    fn errno(error: DeviceError) -> i32 {
        match error {
            DeviceError::Open { errno, .. } | DeviceError::Io { errno, .. } => errno.raw(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_descriptor_is_memory_or_waits_as_its_mirror_image_says() {
        let (_rx, tx) = io::pipe().unwrap();
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(FdSink::new(tx.into()).fd().unwrap().1, FdKind::Waits);
        assert_eq!(FdSink::new(one.into()).fd().unwrap().1, FdKind::Waits);
        let in_memory = tempfile::tempfile_in("/dev/shm").unwrap();
        assert_eq!(FdSink::new(in_memory.into()).fd().unwrap().1, FdKind::Memory);
    }

    #[test]
    fn a_descriptor_keeps_what_was_written_and_says_so() {
        let (mut rx, tx) = io::pipe().unwrap();
        let mut sink = FdSink::new(tx.into());
        sink.prepare().unwrap();
        write_all(&sink, b"state");
        sink.seal().unwrap();
        sink.run().unwrap();
        sink.rollback().unwrap();
        assert!(sink.keeps_written());
        drop(sink);

        let mut found = Vec::new();
        rx.read_to_end(&mut found).unwrap();
        assert_eq!(found, b"state");
    }

    #[test]
    fn a_descriptor_that_is_open_for_reading_alone_is_refused_at_once() {
        let (rx, _tx) = io::pipe().unwrap();
        assert_eq!(errno(FdSink::new(rx.into()).prepare().unwrap_err()), nix::libc::EBADF);
    }

    #[test]
    fn a_given_descriptor_of_a_file_is_on_the_disk_when_seal_returns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut sink = FdSink::new(File::create(&path).unwrap().into());
        sink.prepare().unwrap();
        write_all(&sink, b"state");
        sink.seal().unwrap();
        assert_eq!(calls(), [Call::Sync { path, bytes: Some(5) }]);
    }

    #[test]
    fn a_pipe_is_not_synced_because_it_cannot_be() {
        let (_reader, writer) = nix::unistd::pipe().unwrap();
        let mut sink = FdSink::new(writer);
        sink.prepare().unwrap();
        sink.seal().unwrap();
        assert_eq!(calls(), []);
    }
}

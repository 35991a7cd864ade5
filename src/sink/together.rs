//! What the sinks of one receiver have in common: no two of them write the same file, and files get their names together.
//!
//! Knows identities of files, not devices. The invariant: a file is claimed by at most one sink.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::file::Commit;

/// Passed to every sink of a receiver while it is built; see [`Sink::join`](super::Sink::join).
#[derive(Debug, Default)]
pub struct Together {
    pub(super) files: Commit,
    /// File systems and inodes, and which sink claimed them.
    claimed: HashMap<(u64, u64), usize>,
    sink: usize,
    conflict: Option<(usize, usize)>,
}

impl Together {
    /// The next sink joins. In the end, the first two that write the same file.
    pub(crate) fn join(&mut self, sink: &mut dyn super::Sink) -> Option<(usize, usize)> {
        sink.join(self);
        self.sink += 1;
        self.conflict
    }

    /// The current sink writes this file. Only what keeps bytes apart by inode counts: character devices may be shared
    /// (`/dev/null` is one), and all descriptors without a file of their own, such as those of VFIO, have one inode.
    pub(super) fn claim(&mut self, file: &Metadata) {
        let kind = file.file_type();
        if !(kind.is_file() || kind.is_fifo() || kind.is_socket() || kind.is_block_device()) {
            return;
        }
        let other = *self.claimed.entry((file.dev(), file.ino())).or_insert(self.sink);
        if other != self.sink {
            self.conflict.get_or_insert((other, self.sink));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::pipe;
    use std::os::fd::OwnedFd;

    use nix::sys::eventfd::EventFd;

    use super::super::{Discard, FdSink, Sink};
    use super::*;

    fn conflict(sinks: Vec<Box<dyn Sink>>) -> Option<(usize, usize)> {
        let mut together = Together::default();
        sinks.into_iter().fold(None, |_, mut sink| together.join(&mut *sink))
    }

    fn boxed(fd: impl Into<OwnedFd>) -> Box<dyn Sink> {
        Box::new(FdSink::new(fd.into()))
    }

    #[test]
    fn two_descriptors_of_one_pipe_or_file_are_a_conflict() {
        let (_rx, tx) = pipe().unwrap();
        let file = tempfile::tempfile().unwrap();
        let (other_tx, other_file) = (tx.try_clone().unwrap(), file.try_clone().unwrap());
        assert_eq!(conflict(vec![boxed(tx), Box::new(Discard), boxed(file), boxed(other_tx)]), Some((0, 3)));
        assert_eq!(conflict(vec![boxed(other_file), Box::new(Discard)]), None);
    }

    #[test]
    fn descriptors_that_only_look_alike_are_none() {
        let null = || std::fs::File::create("/dev/null").unwrap();
        let event = || OwnedFd::from(EventFd::new().unwrap());
        assert_eq!(conflict(vec![boxed(null()), boxed(null()), boxed(event()), boxed(event())]), None);
    }
}

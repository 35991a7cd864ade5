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

    /// The current sink writes this file. Character devices may be shared: `/dev/null` is one.
    pub(super) fn claim(&mut self, file: &Metadata) {
        if file.file_type().is_char_device() {
            return;
        }
        let other = *self.claimed.entry((file.dev(), file.ino())).or_insert(self.sink);
        if other != self.sink {
            self.conflict.get_or_insert((other, self.sink));
        }
    }
}

//! What makes a file or a name durable. Knows no sink.
//!
//! No other test would notice a missing `fsync`, because only a power cut shows it: under test the calls are logged, per
//! thread, with the path and size that the kernel reports for the descriptor at that moment. The log does not exist
//! outside tests.

use std::fs::File;
use std::io;
use std::path::PathBuf;

/// Makes a file or a folder durable.
pub(super) fn sync(file: &File) -> io::Result<()> {
    file.sync_all()?;
    #[cfg(test)]
    log::sync(file);
    Ok(())
}

/// A file was renamed to this.
pub(super) fn log_rename(to: impl FnOnce() -> PathBuf) {
    #[cfg(test)]
    log::add(log::Call::Rename { to: to() });
    #[cfg(not(test))]
    drop(to);
}

#[cfg(test)]
pub(super) mod log {
    use std::cell::{Cell, RefCell};
    use std::fs::{self, File};
    use std::os::fd::AsRawFd;
    use std::path::PathBuf;

    /// A call that matters to durability.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(in crate::sink) enum Call {
        /// `fsync` of a file or folder, and the bytes that a file held by then.
        Sync { path: PathBuf, bytes: Option<u64> },
        /// A file was renamed to this.
        Rename { to: PathBuf },
    }

    thread_local! {
        static LOG: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
        static RENAMES_LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Kills this process directly after so many more renames.
    pub(in crate::sink) fn kill_after_renames(renames: usize) {
        RENAMES_LEFT.set(Some(renames));
    }

    pub(super) fn sync(file: &File) {
        // the kernel's own name for it
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        let metadata = file.metadata().unwrap();
        let bytes = metadata.is_file().then_some(metadata.len());
        add(Call::Sync { path, bytes });
    }

    pub(super) fn add(call: Call) {
        if let (Call::Rename { .. }, Some(left)) = (&call, RENAMES_LEFT.get()) {
            RENAMES_LEFT.set(Some(left - 1));
            if left == 1 {
                nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
            }
        }
        LOG.with_borrow_mut(|log| log.push(call));
    }

    /// The calls since the last time, and forgets them.
    pub(in crate::sink) fn calls() -> Vec<Call> {
        LOG.take()
    }
}

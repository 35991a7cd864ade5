//! What a transfer cost its host. It must not know how that is measured.

use serde::{Deserialize, Serialize};

/// What this side's process used, from when its worker began to the end of the transfer: the kernel's own threads for it
/// are included, and so is whatever else the process did meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Processor time in user space, of all threads.
    pub user_ns: u64,
    /// Processor time in the kernel, of all threads.
    pub system_ns: u64,
    /// Of both, what the worker's thread used.
    pub worker_ns: u64,
    /// Times that a thread waited for something.
    pub voluntary_switches: u64,
    /// Times that a thread was interrupted by another.
    pub involuntary_switches: u64,
    /// Threads with which the kernel carried out operations of the ring, at the end; absent where they cannot be seen.
    pub iowq_workers: Option<u64>,
    /// Calls of io_uring_enter.
    pub enters: u64,
    /// The most memory that the process ever had in use.
    pub peak_rss_bytes: u64,
}

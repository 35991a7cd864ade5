//! What the kernel offers for one opened VFIO device, one operation per method.
//!
//! `sys` implements it with ioctls, `fake` (tests) with a model of the kernel's state machine. Nothing here decides
//! anything: no retry, no recovery, no cache.

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::error::Errno;
use crate::time::{Nanos, now};

/// How much pre-copy could still read, as the driver estimates now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrecopyInfo {
    /// Bytes that should be read before the device is stopped, as stopping is slower otherwise.
    pub initial_bytes: u64,
    /// Bytes that have changed since they were read.
    pub dirty_bytes: u64,
    /// The initial bytes have begun anew, whatever was read of earlier ones (`VFIO_PRECOPY_INFO_REINIT`). Only a kernel
    /// that has this flag sets it, and only once it was asked to.
    pub reinitialised: bool,
}

/// A region of the device's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    /// In bytes; 0 when the device does not have it.
    pub(crate) size: u64,
    /// Where it begins in the device's file.
    pub(crate) offset: u64,
}

/// One opened VFIO device.
pub(crate) trait Kernel: Send {
    /// The time, for the record of how long each change of state takes.
    fn now(&self) -> Nanos {
        now()
    }

    /// Whether it answers as a VFIO device. Changes nothing.
    fn is_device(&self) -> bool;

    /// The `VFIO_MIGRATION_*` flags. `ENOTTY` when the driver cannot migrate at all.
    fn migration_flags(&self) -> Result<u64, Errno>;

    /// The number of the current migration state.
    fn state(&self) -> Result<u32, Errno>;

    /// Changes the migration state; returns the data file when the change started a session. After an error the device
    /// may be in any state on the way.
    fn set_state(&self, number: u32) -> Result<Option<OwnedFd>, Errno>;

    /// Size of the STOP_COPY state in bytes, as the driver estimates it now.
    fn stop_copy_size(&self) -> Result<u64, Errno>;

    /// Lets the kernel report that a device's initial bytes have begun anew. `ENOTTY` when it cannot.
    fn opt_in_to_reinit(&self) -> Result<(), Errno>;

    /// Asks a data file for what is left of pre-copy. `EINVAL` outside the PRE_COPY states. Without the opt-in nothing
    /// but the numbers means anything.
    fn precopy_info(&self, data: BorrowedFd<'_>) -> Result<PrecopyInfo, Errno>;

    /// Resets the device: it is RUNNING, as if nothing had ever happened.
    fn reset(&self) -> Result<(), Errno>;

    /// The PCI config space, when the device has one.
    fn config_region(&self) -> Result<Option<Region>, Errno>;

    /// Any region, by its index. `EINVAL` when the device has no region of that index.
    fn region(&self, idx: u32) -> Result<Region, Errno>;

    /// Reads bytes of the device's file at `offset`; fewer than asked for is an error.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Errno>;

    /// Writes bytes of the device's file at `offset`; fewer than asked for is an error.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), Errno>;
}

//! Migration states and the legal ways between them. Pure.

use std::fmt;

/// A migration state of a device (the kernel's `VFIO_DEVICE_STATE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The device failed; only a reset helps.
    Error,
    /// Stopped; its state does not change.
    Stop,
    /// Running.
    Running,
    /// Stopped; its state can be read.
    StopCopy,
    /// Stopped; its state can be written.
    Resuming,
    /// Running, but starts no DMA to other devices.
    RunningP2p,
    /// Running; its state can be read meanwhile.
    PreCopy,
    /// As `PreCopy`, but starts no DMA to other devices.
    PreCopyP2p,
}

impl fmt::Display for State {
    /// As the kernel names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Error => "ERROR",
            State::Stop => "STOP",
            State::Running => "RUNNING",
            State::StopCopy => "STOP_COPY",
            State::Resuming => "RESUMING",
            State::RunningP2p => "RUNNING_P2P",
            State::PreCopy => "PRE_COPY",
            State::PreCopyP2p => "PRE_COPY_P2P",
        })
    }
}

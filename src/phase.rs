//! The phases of a transfer, those of either side.

use std::fmt;

/// What a side is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Waiting for the connections.
    Connecting,
    /// Agreeing on settings, getting devices ready.
    Settings,
    /// Moving state of devices that still run.
    PreCopy,
    /// Stopping the devices.
    Switchover,
    /// Moving the rest of the state of stopped devices.
    StopCopy,
    /// The destination takes the state in.
    Loading,
    /// The devices change hands.
    Commit,
    /// Bringing the devices back to where they were.
    RollingBack,
    /// Over.
    Done,
}

impl Phase {
    /// In words that follow "the peer closed the control connection".
    pub(crate) fn during(self) -> &'static str {
        match self {
            Phase::Connecting => "while connecting",
            Phase::Settings => "while agreeing on settings",
            Phase::PreCopy => "in pre-copy",
            Phase::Switchover => "while the devices stopped",
            Phase::StopCopy => "in the middle of the state",
            Phase::Loading => "while the devices loaded",
            Phase::Commit => "after commit",
            Phase::RollingBack => "while rolling back",
            Phase::Done => "after the end",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Connecting => "connecting",
            Phase::Settings => "agreeing on settings",
            Phase::PreCopy => "pre-copy",
            Phase::Switchover => "stopping the devices",
            Phase::StopCopy => "stop-copy",
            Phase::Loading => "loading",
            Phase::Commit => "commit",
            Phase::RollingBack => "rolling back",
            Phase::Done => "done",
        })
    }
}

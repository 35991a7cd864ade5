//! What a side of a transfer is doing, and what is done with one device: the lists that events, errors, the sessions and the
//! devices share. Knows nothing of them; keeps each phase's number, which never changes, and its texts in one place.

use std::fmt;

/// A step of one device in a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceStep {
    /// [`Source::start`](crate::source::Source::start).
    Start,
    /// [`Sink::prepare`](crate::sink::Sink::prepare).
    Prepare,
    /// [`Source::precopy_info`](crate::source::Source::precopy_info), while it is read beside it.
    PreCopyInfo,
    /// [`Source::quiesce`](crate::source::Source::quiesce).
    Quiesce,
    /// [`Source::stop`](crate::source::Source::stop).
    Stop,
    /// [`Source::config`](crate::source::Source::config): the config state is read.
    Config,
    /// [`Sink::config`](crate::sink::Sink::config) and [`Sink::seal`](crate::sink::Sink::seal): the state is taken in.
    Load,
    /// [`Sink::pre_run`](crate::sink::Sink::pre_run).
    PreRun,
    /// [`Sink::run`](crate::sink::Sink::run).
    Run,
    /// [`Source::release`](crate::source::Source::release).
    Release,
    /// [`Source::rollback`](crate::source::Source::rollback) or [`Sink::rollback`](crate::sink::Sink::rollback).
    Rollback,
    /// [`Source::park`](crate::source::Source::park).
    Park,
}

/// What a side is doing. The number of a phase ([`Phase::code`]) is stable: it is never changed and never given to
/// another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Phase {
    /// Waiting for the connections.
    Connecting = 1,
    /// Agreeing on settings, getting devices ready.
    Settings = 2,
    /// Moving state of devices that still run.
    PreCopy = 3,
    /// Stopping the devices.
    Switchover = 4,
    /// Moving the rest of the state of stopped devices.
    StopCopy = 5,
    /// The destination loads the state.
    Loading = 6,
    /// The devices change hands.
    Commit = 7,
    /// Bringing the devices back to where they were.
    RollingBack = 8,
    /// Over.
    Done = 9,
    /// Setting up one connection. In errors only.
    Hello = 10,
    /// Waiting for the rest of a session's connections. In errors only.
    Gathering = 11,
    /// Recording a QEMU migration. In errors only.
    Recording = 12,
    /// Sending a capture to a QEMU. In errors only.
    Replaying = 13,
    /// Answering a QEMU source. In errors only.
    Answering = 14,
}

impl Phase {
    /// The phase's stable number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Text that follows "the peer closed the control connection".
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
            Phase::Hello => "during the hello",
            Phase::Gathering => "before all connections had come",
            Phase::Recording => "while the migration was recorded",
            Phase::Replaying => "while the capture was sent",
            Phase::Answering => "while it was being answered",
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
            Phase::Hello => "hello",
            Phase::Gathering => "gathering connections",
            Phase::Recording => "recording",
            Phase::Replaying => "replaying",
            Phase::Answering => "answering",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Phase; 14] = [
        Phase::Connecting,
        Phase::Settings,
        Phase::PreCopy,
        Phase::Switchover,
        Phase::StopCopy,
        Phase::Loading,
        Phase::Commit,
        Phase::RollingBack,
        Phase::Done,
        Phase::Hello,
        Phase::Gathering,
        Phase::Recording,
        Phase::Replaying,
        Phase::Answering,
    ];

    /// A number whose meaning changes breaks every program that stored it: only ever add rows to this test.
    #[test]
    fn the_numbers_of_phases_are_what_the_documents_say() {
        let (_, table) = include_str!("../docs/ERRORS.md").split_once("\n## Phases\n").unwrap();
        let table = table.split("\n## ").next().unwrap();
        let documented: Vec<(u8, String)> = table
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
                Some((cells.next()?.parse().ok()?, cells.next()?.trim_matches('`').to_owned()))
            })
            .collect();
        let own: Vec<_> = ALL.iter().map(|phase| (phase.code(), format!("{phase:?}"))).collect();
        assert_eq!(documented, own);
    }
}

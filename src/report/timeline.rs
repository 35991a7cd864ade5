//! When what was done with which device, on one side of a transfer. It must not know who measured it.

use serde::{Deserialize, Serialize};

use super::header::Role;
use super::header::shown_as_written;
use crate::vfio::State;

/// One stretch of time in which something was done, mostly with one device. Times are nanoseconds since the agreement on
/// settings, as is the report's `duration_ns`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// The side that measured it.
    pub side: Role,
    /// The device, by its place in the report's `devices`; none for what concerns all of them.
    pub device: Option<u64>,
    /// The data connection, by its place in `channels`, where one was involved.
    pub channel: Option<u64>,
    /// What was done.
    pub what: TimelineWhat,
    /// The state that an `arc` begins in; none for anything else.
    pub from: Option<State>,
    /// The state that an `arc` leads to; none for anything else.
    pub to: Option<State>,
    /// When it began.
    pub begin_ns: u64,
    /// When it ended, well or not.
    pub end_ns: u64,
}

impl TimelineEntry {
    /// How long it took.
    pub fn took_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.begin_ns)
    }
}

/// What was done in an entry of the timeline. Of one device there is at most one of each, but for `arc` and
/// `precopy_info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimelineWhat {
    /// The device was started (sender: [`Source::start`](crate::source::Source::start)) or prepared (receiver:
    /// [`Sink::prepare`](crate::sink::Sink::prepare)).
    Start,
    /// [`Source::quiesce`](crate::source::Source::quiesce).
    Quiesce,
    /// [`Source::stop`](crate::source::Source::stop).
    Stop,
    /// One single change of the device's state, within one of the other entries.
    Arc,
    /// The first read after the device had stopped.
    FirstRead,
    /// The read that found the end of its state.
    LastRead,
    /// [`Source::config`](crate::source::Source::config).
    Config,
    /// Sending the packet that was the last to be taken by a socket.
    LastSent,
    /// The first write of its state, that of pre-copy included.
    FirstWrite,
    /// The last write of its state.
    LastWrite,
    /// [`Sink::config`](crate::sink::Sink::config) and [`Sink::seal`](crate::sink::Sink::seal).
    Load,
    /// From the beginning of [`Sink::pre_run`](crate::sink::Sink::pre_run) to the end of
    /// [`Sink::run`](crate::sink::Sink::run).
    Run,
    /// [`Source::release`](crate::source::Source::release).
    Release,
    /// The device was brought back (sender) or reset (receiver).
    Rollback,
    /// From the first read that brought state while the device ran to the last one.
    Precopy,
    /// The devices were asked how much is left of pre-copy.
    PrecopyInfo,
}

impl TimelineWhat {
    /// How many there are.
    pub(crate) const COUNT: usize = TimelineWhat::PrecopyInfo as usize + 1;
}

shown_as_written!(TimelineWhat);

//! The settings that every worker's caller can make: the common part of every builder.
//!
//! Knows no protocol and no device. Builders hold one of these beside their own settings, and pass it on when they run.

use std::time::Duration;

use super::caller::{Caller, Event, OnEvent};
use super::guard::Guarded;
use super::hook::Panics;
use crate::cancel::Cancel;
use crate::limits::INTERVAL;
use crate::phase::Phase;
use crate::report::RunInfo;
use crate::time::{Nanos, nanos};

/// The settings that every builder has.
#[derive(Default)]
pub(crate) struct Settings {
    congestion: Option<Box<str>>,
    deadline: Option<Duration>,
    on_event: Option<Guarded<OnEvent>>,
    cancel: Cancel,
    panics: Panics,
    run: Option<RunInfo>,
    interval: Option<Duration>,
    traced: usize,
}

impl Settings {
    pub(crate) fn set_run(&mut self, run: RunInfo) {
        self.run = Some(run);
    }

    /// Which run this is; it begins now, unless the caller has set another time.
    pub(crate) fn run(&mut self) -> Option<RunInfo> {
        self.run.iter_mut().for_each(RunInfo::begin);
        self.run.clone()
    }

    /// How many packets are kept with their times.
    pub(crate) fn set_trace(&mut self, packets: usize) {
        self.traced = packets;
    }

    pub(crate) fn set_congestion(&mut self, name: &str) {
        self.congestion = Some(name.into());
    }

    pub(crate) fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = Some(deadline);
    }

    pub(crate) fn set_on_event(&mut self, on_event: impl FnMut(&Event) + Send + 'static) {
        self.on_event = Some(Guarded::new(Box::new(on_event)));
    }

    pub(crate) fn set_interval(&mut self, interval: Duration) {
        self.interval = Some(interval.max(INTERVAL));
    }

    pub(crate) fn set_cancel(&mut self, cancel: &Cancel) {
        self.cancel = cancel.clone();
    }

    /// Panics of the caller's code, before and while there is a worker.
    pub(crate) fn panics(&self) -> Panics {
        self.panics.clone()
    }

    /// The TCP congestion control, unless it is the host's default.
    pub(crate) fn congestion(&self) -> Option<&str> {
        self.congestion.as_deref()
    }

    /// When it has to be over, if it begins at `begun`.
    pub(crate) fn deadline_from(&self, begun: Nanos) -> Option<Nanos> {
        self.deadline.map(|deadline| begun.saturating_add(nanos(deadline)))
    }

    /// The caller of a worker that began at `begun`. Called once: the event handler goes with it.
    pub(crate) fn caller(&mut self, begun: Nanos) -> Caller {
        let mut caller = self.without_deadline();
        caller.deadline = self.deadline_from(begun);
        caller
    }

    fn without_deadline(&mut self) -> Caller {
        let mut caller = Caller::new(self.cancel.clone(), self.on_event.take().map(Guarded::into_inner));
        caller.panics = self.panics.clone();
        caller.run = self.run();
        caller.interval = self.interval.map(nanos);
        caller.traced = self.traced;
        caller
    }

    /// The caller of a worker that waits for its peer: until it has come, nothing can be late.
    pub(crate) fn waiting_caller(&mut self) -> Caller {
        let mut caller = self.without_deadline();
        caller.tell(&Event::Phase(Phase::Connecting));
        caller
    }

    /// The caller of a worker that connects.
    pub(crate) fn connecting_caller(&mut self, begun: Nanos) -> Caller {
        let mut caller = self.caller(begun);
        caller.tell(&Event::Phase(Phase::Connecting));
        caller
    }
}

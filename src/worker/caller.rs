//! The caller of a transfer: receives its events, may cancel it, may set a deadline.

use std::net::SocketAddr;
use std::time::Duration;

use super::guard::{Guarded, caught};
use super::hook::Panics;
use crate::cancel::Cancel;
use crate::error::{Error, Hook};
use crate::limits::PROGRESS_INTERVAL;
pub(crate) use crate::phase::DeviceStep;
use crate::phase::Phase;
use crate::report::{Interval, RunInfo};
use crate::time::Nanos;
use crate::time::{nanos, now};
use crate::vfio::State;
use crate::wire::SessionId;

/// Something that happened during a transfer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// Every connection of the session is there.
    Connected {
        /// The other end, if it has an address.
        peer: Option<SocketAddr>,
        /// Data connections.
        channels: u16,
        /// The session's id, which both sides' reports have. A protocol without sessions has none.
        session: Option<SessionId>,
    },
    /// Another phase began.
    Phase(Phase),
    /// Bytes moved; reported about ten times a second.
    Progress {
        /// Payload bytes so far: read by the sender, written by the receiver.
        bytes: u64,
        /// Bytes that the devices expect, when all of them know.
        estimate: Option<u64>,
        /// Since the agreement on settings.
        elapsed: Duration,
    },
    /// An interval has ended; reported only if the caller asked for intervals
    /// ([`interval`](crate::SenderBuilder::interval)), from the agreement on settings until every device is where it belongs,
    /// and whether anything has moved or not. They follow one another without gaps. The last one ends early; together they
    /// have the bytes that the report has.
    Interval {
        /// What happened in it, as the report has it: times count from the agreement on settings, devices and channels are
        /// in the report's order.
        interval: Interval,
        /// Payload bytes of all devices so far: read by the sender, written by the receiver.
        bytes: u64,
        /// Packets of all devices so far.
        packets: u64,
        /// The phase at its end: that of the last [`Event::Phase`].
        phase: Phase,
    },
    /// Every device of the sender has stopped, and none of their final state has been read yet. Sent exactly once by a
    /// transfer that comes that far: from here on no device writes to the virtual machine's memory, so this is the
    /// moment for its last dirty pages.
    Stopped,
    /// Something happened to one device.
    Device {
        /// Its name in the session.
        device: Box<str>,
        /// Tells devices of one name apart.
        instance: u32,
        /// What happened.
        moment: DeviceMoment,
    },
    /// A connection that does not belong to a session was rejected (receiver).
    Rejected {
        /// From where.
        peer: Option<SocketAddr>,
        /// What was wrong with it.
        error: Error,
    },
}

/// A moment of one device in a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceMoment {
    /// A step of the device began. The first step of all devices begins in the order of the report's devices.
    Begins(DeviceStep),
    /// The step ended, well or not.
    Ends(DeviceStep),
    /// The device changed its state once, in the step that ends now: one single arc of the kernel's, which a device that
    /// has any gives with [`Source::take_arcs`](crate::source::Source::take_arcs) or
    /// [`Sink::take_arcs`](crate::sink::Sink::take_arcs).
    Arc {
        /// The state it was in.
        from: State,
        /// The state it was asked to go to.
        to: State,
        /// How long that took, well or not.
        took: Duration,
    },
    /// The first bytes of its state were read (sender, pre-copy included) or written (receiver).
    FirstByte,
    /// It was asked, and this is what pre-copy could still read (sender).
    PreCopy {
        /// Bytes that should be read before it stops.
        initial: u64,
        /// Bytes that have changed since they were read.
        dirty: u64,
    },
    /// Its state was read to the end after it had stopped (sender), or written to the end (receiver). The config state
    /// follows.
    LastByte,
}

/// Hears of events.
pub(crate) type OnEvent = Box<dyn FnMut(&Event) + Send>;

/// The one who asked for the transfer.
pub(crate) struct Caller {
    pub(crate) cancel: Cancel,
    pub(crate) deadline: Option<Nanos>,
    on_event: Option<Guarded<OnEvent>>,
    /// Panics of the caller's code.
    pub(crate) panics: Panics,
    /// Which run the transfer belongs to, until its report has it.
    pub(crate) run: Option<RunInfo>,
    /// How long the intervals are that it is told of, if it wants any.
    pub(crate) interval: Option<Nanos>,
    /// What it was told last.
    phase: Phase,
    /// Packets of which is to be kept what became of them.
    pub(crate) traced: usize,
    told_at: Nanos,
}

impl Caller {
    pub(crate) fn new(cancel: Cancel, on_event: Option<OnEvent>) -> Caller {
        let on_event = on_event.map(Guarded::new);
        Caller {
            cancel,
            deadline: None,
            on_event,
            panics: Panics::default(),
            run: None,
            interval: None,
            traced: 0,
            phase: Phase::Connecting,
            told_at: 0,
        }
    }

    /// Tells of an event. A handler that panics is told of no other one.
    pub(crate) fn tell(&mut self, event: &Event) {
        if let Event::Phase(phase) = event {
            self.phase = *phase;
        }
        let Some(on_event) = &mut self.on_event else { return };
        if let Err(payload) = caught(|| on_event(event)) {
            self.panics.keep(Hook::OnEvent, payload);
            self.on_event = None;
        }
    }

    /// Tells of a moment of a device; no work if there is no one to be told.
    pub(crate) fn tell_device(&mut self, (device, instance): (&str, u32), moment: DeviceMoment) {
        if self.on_event.is_some() {
            self.tell(&Event::Device { device: device.into(), instance, moment });
        }
    }

    /// How long the intervals are that it wants to be told of; `None` if there is no one to be told.
    pub(crate) fn wants_intervals(&self) -> Option<Nanos> {
        self.interval.filter(|_| self.on_event.is_some())
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Tells progress if it is time.
    pub(crate) fn progress(
        &mut self,
        now: Nanos,
        started: Nanos,
        count: impl FnOnce() -> (u64, Option<u64>),
    ) {
        if self.on_event.is_none() || now < self.told_at + nanos(PROGRESS_INTERVAL) {
            return;
        }
        self.told_at = now;
        let (bytes, estimate) = count();
        self.tell(&Event::Progress {
            bytes,
            estimate,
            elapsed: Duration::from_nanos(now.saturating_sub(started)),
        });
    }

    /// Lets the next progress be reported whenever it comes: the last bytes of a phase must be reported, too.
    pub(crate) fn hasten(&mut self) {
        self.told_at = 0;
    }

    /// Why what was begun for the caller was ended as cancelled: their deadline, or a panic of their code, ends it like that.
    pub(crate) fn reason(&self, error: Error) -> Error {
        match error {
            Error::Cancelled => self.check(now()).err().unwrap_or(Error::Cancelled),
            other => other,
        }
    }

    /// Whether the caller wants it to end now, or their code has panicked.
    pub(crate) fn check(&self, now: Nanos) -> Result<(), Error> {
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return Err(Error::Deadline);
        }
        self.panics.check()
    }
}

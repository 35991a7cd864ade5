//! What one thread has: a ring, a pool, what it counts, and the one who called it; beside it the devices that it reads
//! ([`readers`]) or writes ([`writers`]).
//!
//! Both protocols are carried out by workers. Nothing here knows a message or a packet's header of either.

pub(crate) mod caller;
pub(crate) mod ending;
pub(crate) mod event_loop;
pub(crate) mod finished;
pub(crate) mod guard;
pub(crate) mod hook;
mod intervals;
pub(crate) mod io_mode;
pub(crate) mod memory;
pub(crate) mod operation;
pub(crate) mod readers;
pub(crate) mod report_builder;
pub(crate) mod settings;
pub(crate) mod steps;
pub(crate) mod write_signals;
pub(crate) mod writers;

use self::caller::{Caller, Event};
use self::hook::RunningHook;
use self::intervals::Told;
use self::report_builder::ReportBuilder;
use crate::buffer::{Pool, Slot, check_memory};
use crate::error::{Error, KernelError, Misuse};
use crate::limits::{CONFIG_SIZE_MAX, CONTROL_BUFFER_SIZE, DEVICES_MAX};
use crate::numbers::PacketSize;
use crate::phase::Phase;
use crate::report::trace::{Recording, Tracer};
use crate::report::{Recorder, Report, Role};
use crate::ring::Ring;
use crate::session::handover::Outcome;
use crate::sink::Together;
use crate::time::Nanos;
use crate::time::deadlines::{Deadline, Deadlines};
use crate::wire::is_name;
use crate::worker::finished::Finished;
use crate::worker::writers::Device;

/// What one thread has. Whoever has one keeps it in their first field, so that it is dropped first.
pub(crate) struct Worker<R: Ring> {
    // In the order in which they are dropped. The ring goes first: it ends its operations and waits for them, and they
    // use the pool's memory, and the descriptors of devices and connections, which are dropped after the worker.
    pub(crate) ring: R,
    /// None until it is known how large it must be.
    pool: Option<Pool>,
    pub(crate) recorder: Recorder,
    pub(crate) trace: Tracer,
    pub(crate) caller: Caller,
    pub(crate) hook: RunningHook,
    pub(crate) report: ReportBuilder,
    /// The worker's own reasons to wake; a session has others.
    pub(crate) deadlines: Deadlines,
    /// The intervals that the caller is told of, if any.
    told: Option<Told>,
}

impl<R: Ring> Worker<R> {
    pub(crate) fn new(ring: R, mut caller: Caller, devices: usize) -> Worker<R> {
        let mut deadlines = Deadlines::NONE;
        caller.deadline.into_iter().for_each(|at| deadlines.set(Deadline::Caller, at));
        let mut report = ReportBuilder::new(ring.now(), devices);
        report.run(caller.run.take());
        let mut worker = Worker {
            ring,
            pool: None,
            recorder: Recorder::default(),
            trace: Tracer::new(caller.traced),
            caller,
            hook: RunningHook::default(),
            report,
            deadlines,
            told: None,
        };
        worker.spare_trace();
        worker
    }

    /// From now on slots are those of this pool, which is registered if the kernel lets it be.
    pub(crate) fn adopt(&mut self, pool: Pool) {
        let unregistered = self.ring.register(&pool).err();
        self.report.pool(&pool, unregistered);
        self.trace.on().into_iter().for_each(|trace| trace.pool(pool.total()));
        self.spare_trace();
        self.pool = Some(pool);
    }

    /// The same, but the report gets neither the pool's size nor its faults.
    pub(crate) fn adopt_unreported(&mut self, pool: Pool) {
        let _: Result<(), KernelError> = self.ring.register(&pool);
        self.pool = Some(pool);
    }

    /// A trace takes nothing of what a worker needs.
    fn spare_trace(&mut self) {
        let recorded = self.trace.on().into_iter();
        recorded.filter(|_| check_memory().is_err()).for_each(Recording::forgo);
    }

    /// Another phase begins: tells the caller.
    pub(crate) fn enter(&mut self, phase: Phase) {
        let now = self.ring.now();
        self.trace.on().into_iter().for_each(|trace| trace.phase(phase, now));
        self.caller.tell(&Event::Phase(phase));
    }

    /// How many slots are free.
    pub(crate) fn free(&self) -> u32 {
        self.pool.as_ref().map_or(0, Pool::free)
    }

    pub(crate) fn has_pool(&self) -> bool {
        self.pool.is_some()
    }

    /// A free slot, if there is one.
    pub(crate) fn take(&mut self) -> Option<Slot> {
        self.pool.as_mut().and_then(Pool::take)
    }

    /// A slot that the session has counted as free.
    pub(crate) fn take_promised(&mut self) -> Slot {
        self.take().expect("room is promised for free slots only")
    }

    /// A slot is free again.
    pub(crate) fn put(&mut self, slot: Slot) {
        self.pool.as_mut().expect("a slot comes from the pool").put(slot);
    }

    /// Reports progress to the caller, if it is time.
    pub(crate) fn report_progress(&mut self, now: Nanos, count: impl FnOnce() -> (u64, Option<u64>)) {
        self.caller.progress(now, self.report.started_at, count);
    }

    /// The report, when every device is where it belongs. Connections are counted while they are open.
    pub(crate) fn document(&mut self, role: Role, outcome: Outcome, error: Option<&Error>) -> Report {
        let (now, enters) = (self.ring.now(), self.ring.enters());
        self.report.document(role, outcome, error, &mut self.recorder, (now, enters))
    }

    /// Ends: the ring first, so that nothing uses what is given away afterwards.
    pub(crate) fn finish(self, report: Report, outcome: Outcome, error: Option<Error>) -> Finished {
        let Worker { ring, recorder, mut trace, report: builder, caller, .. } = self;
        drop(ring);
        let trace = trace.take(builder.started_at);
        let finished = builder.finish(report, outcome, error, recorder);
        Finished { panic: caller.panics.take(), trace, ..finished }
    }
}

/// Whether these can be the devices of one session.
pub(crate) fn check_devices<'a>(devices: impl Iterator<Item = (&'a str, u32)>) -> Result<(), Misuse> {
    let mut seen = std::collections::HashSet::new();
    for (name, instance) in devices {
        if !is_name(name) {
            return Err(Misuse::BadName);
        }
        if !seen.insert((name, instance)) {
            return Err(Misuse::DuplicateDevice { name: name.into() });
        }
    }
    match seen.len() {
        0 => Err(Misuse::NoDevices),
        given if given > DEVICES_MAX => Err(Misuse::TooManyDevices { given }),
        _ => Ok(()),
    }
}

/// Bytes that devices expect together, when all of them know. An estimate is a peer's or a device's word, as large as it
/// likes.
pub(crate) fn total_estimate(mut estimates: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    estimates.try_fold(0, |sum: u64, estimate| Some(sum.saturating_add(estimate?)))
}

/// Lets the sinks of one receiver know of each other. Two that write the same file cannot be in one session.
pub(crate) fn join_sinks(devices: &mut [Device]) -> Result<(), Misuse> {
    let mut together = Together::default();
    for idx in 0..devices.len() {
        if let Some((one, other)) = together.join(&mut **devices[idx].sink) {
            let name = |idx: usize| devices[idx].name.clone();
            return Err(Misuse::SharedFile { one: name(one), other: name(other) });
        }
    }
    Ok(())
}

/// Payload bytes that a slot must hold: a data packet or a config state, whichever is longer.
pub(crate) fn slot_size(packet_size: PacketSize) -> u32 {
    packet_size.get().max(u32::try_from(CONFIG_SIZE_MAX).expect("config state is short"))
}

/// Control buffers for a control connection and `more` others.
pub(crate) fn control_buffers(more: usize) -> Result<Pool, KernelError> {
    let count = u32::try_from(2 + more).expect("channels are bounded by CHANNELS_MAX");
    Pool::new(count, u32::try_from(CONTROL_BUFFER_SIZE).expect("control buffers are small"))
}

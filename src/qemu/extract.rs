//! One device's captured state, loaded into a sink.
//!
//! The same steps as at the end of a transfer, with the same writer; except that the state comes from files, so there
//! is no one to commit to and nothing to wait for. However it ends, the device runs what was loaded, or is reset.

use std::collections::VecDeque;

use super::capture;
use super::capture::{Inspection, StateReader};
use crate::buffer::{Pool, Slot};
use crate::cancel::Cancel;
use crate::error::Error;
use crate::limits::{CONFIG_SIZE_MAX, PROGRESS_INTERVAL, QEMU_STATE_MAX};
use crate::numbers::DeviceIdx;
use crate::phase::Phase;
use crate::report::Role;
use crate::ring;
use crate::ring::{Completion, HostRing, Ring};
use crate::session::handover::Outcome;
use crate::session::queue::{NextPacket, PacketQueue};
use crate::session::totals::Totals;
use crate::sink::Sink;
use crate::time::Nanos;
use crate::time::deadlines::{Deadline, Deadlines};
use crate::time::nanos;
use crate::time::now;
use crate::wire::Checksum;
use crate::worker::Worker;
use crate::worker::caller::{Caller, DeviceStep, Event};
use crate::worker::ending::run;
use crate::worker::event_loop::Loop;
use crate::worker::finished::Finished;
use crate::worker::operation::Operation;
use crate::worker::report_builder::ReportBuilder;
use crate::worker::settings::Settings;
use crate::worker::steps::StepOutput;
use crate::worker::writers::{Device, Writers, note_running, roll_back, start_devices, step_all_sinks};

/// Pieces of state that may be on their way from file to device: one is written while the next is read.
const SLOTS: u32 = 2;
const _: () = assert!(CONFIG_SIZE_MAX <= QEMU_STATE_MAX as usize, "config state fits in a slot, too");

/// Loads one device of a capture into a sink.
///
/// ```
/// use ringlift::qemu::{self, capture};
/// use ringlift::{Outcome, sink::Discard};
///
/// let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/qemu/device-on-channels");
/// let inspection = capture::inspect(&[folder.into()]);
/// let device = inspection.device("0000:00:01.0/vfio", 0).expect("it was migrated");
///
/// let finished = qemu::Extract::new(&inspection, device, Box::new(Discard)).run();
/// assert_eq!(finished.outcome, Outcome::Complete);
/// assert_eq!(finished.report.bytes, 24 + 72 + 4132);
/// ```
pub struct Extract<'a> {
    inspection: &'a Inspection,
    device: &'a capture::Device,
    sink: Box<dyn Sink>,
    settings: Settings,
}

impl<'a> Extract<'a> {
    /// From a capture that was looked into; `device` is one of its devices.
    pub fn new(inspection: &'a Inspection, device: &'a capture::Device, sink: Box<dyn Sink>) -> Extract<'a> {
        Extract { inspection, device, sink, settings: Settings::default() }
    }

    /// Hears of what happens, on the thread that runs it: be quick.
    pub fn on_event(mut self, on_event: impl FnMut(&Event) + Send + 'static) -> Extract<'a> {
        self.settings.set_on_event(on_event);
        self
    }

    /// Gives up when `cancel` is used, unless the device has everything.
    pub fn cancel(mut self, cancel: &Cancel) -> Extract<'a> {
        self.settings.set_cancel(cancel);
        self
    }

    /// Loads the device on this thread. Afterwards it runs what was loaded (complete), or is reset (aborted). A capture
    /// with errors is loaded into nothing: the sink is not touched.
    pub fn run(self) -> Finished {
        let (mut report, panics) = (ReportBuilder::new(now(), 1), self.settings.panics());
        report.untouched([(self.device.id.idstr.as_str(), self.device.id.instance)].into_iter());
        match self.begin(report.started_at) {
            Ok(extracting) => extracting.run(),
            Err(error) => report.not_begun(Role::Receiver, error, &panics),
        }
    }

    /// The worker, if the capture can be loaded.
    fn begin(mut self, begun: Nanos) -> Result<Extracting<'a, HostRing>, Error> {
        let caller = self.settings.caller(begun);
        let reader = StateReader::new(self.inspection, self.device)?;
        let ring = ring::open(&caller.cancel)?;
        let id = self.device.id;
        let device = Device::new(id.idstr.as_str(), id.instance, self.sink);
        let (precopy, data) = (self.device.precopy_bytes(), self.device.data_bytes());
        let expected = Expected { precopy, all: precopy + data + self.device.config_bytes() };
        Ok(Extracting::new(ring, device, caller, reader, expected))
    }
}

/// Bytes of the device's state.
struct Expected {
    precopy: u64,
    all: u64,
}

/// The worker.
struct Extracting<'a, R: Ring> {
    // dropped first: its ring's operations end before anything that they use goes
    worker: Worker<R>,
    writers: Writers,
    reader: StateReader<'a>,
    pieces: Pieces,
    expected: Expected,
    /// The device has everything: it runs, whatever the caller wants.
    committed: bool,
}

/// What was read and not written yet.
#[derive(Debug, Default)]
struct Pieces {
    queue: VecDeque<NextPacket<Slot>>,
    /// Everything was read.
    complete: bool,
    totals: Totals,
    loaded: bool,
}

impl PacketQueue<Slot> for Pieces {
    fn pop(&mut self, _: DeviceIdx) -> Option<NextPacket<Slot>> {
        self.queue.pop_front()
    }

    fn written(&mut self, _: DeviceIdx, _: Nanos) {}

    fn loaded(&mut self, _: DeviceIdx) {
        self.loaded = true;
    }
}

impl Pieces {
    fn push(&mut self, slot: Slot, len: usize, config: bool, now: Nanos) {
        self.totals.packets += 1;
        self.totals.bytes += len as u64;
        if config {
            self.totals.config_bytes = len as u64;
            self.complete = true;
        }
        self.queue.push_back(NextPacket { handle: slot, len, config, read_at: now, arrived_at: now });
    }
}

impl<'a, R: Ring> Extracting<'a, R> {
    fn new(
        ring: R,
        device: Device,
        caller: Caller,
        reader: StateReader<'a>,
        expected: Expected,
    ) -> Extracting<'a, R> {
        let (worker, writers) = (Worker::new(ring, caller, 1), Writers::new(vec![device], false));
        Extracting { worker, writers, reader, pieces: Pieces::default(), expected, committed: false }
    }

    fn enter(&mut self, phase: Phase) {
        self.worker.caller.tell(&Event::Phase(phase));
    }

    /// Runs it to whatever end.
    fn run(self) -> Finished {
        run(self, |extracting| &mut extracting.worker, Extracting::transfer, Extracting::conclude)
    }

    fn writers(&mut self) -> (&mut Worker<R>, &mut Writers) {
        (&mut self.worker, &mut self.writers)
    }

    fn transfer(&mut self) -> Result<(), Error> {
        self.writers.devices.reserve_threads(&mut self.worker.ring)?;
        let prepare = |sink: &mut (dyn Sink + 'static)| sink.prepare().map(|()| StepOutput::Nothing);
        step_all_sinks(self, Extracting::writers, (DeviceStep::Prepare, prepare), |extracting, _| {
            extracting.turn()
        })?;
        self.enter(Phase::Loading);
        self.load()?;
        self.enter(Phase::Commit);
        self.worker.caller.check(self.worker.ring.now())?;
        self.committed = true;
        start_devices(self, Extracting::writers, Extracting::turn)
    }

    /// Until the device has everything.
    fn load(&mut self) -> Result<(), Error> {
        // where it cannot be registered the kernel pins the pages anew for each write; nothing else changes
        self.worker.adopt_unreported(Pool::new(SLOTS, QEMU_STATE_MAX)?);
        self.writers.open()?;
        while !self.pieces.loaded {
            self.turn()?;
        }
        self.worker.caller.hasten();
        self.report_progress(self.worker.ring.now());
        Ok(())
    }

    fn report_progress(&mut self, now: Nanos) {
        let (writers, expected) = (&self.writers, self.expected.all);
        self.worker.report_progress(now, || (writers.bytes(), Some(expected)));
    }

    /// One turn of the loop: reads and begins what can be begun, waits, takes what ended.
    fn turn(&mut self) -> Result<(), Error> {
        let now = self.worker.ring.now();
        if !self.committed {
            self.worker.caller.check(now)?;
        }
        self.read()?;
        self.writers.begin(&mut self.worker, &mut self.pieces)?;
        self.report_progress(now);
        if self.writers.devices.is_any_away() || self.writers.is_any_under_way() {
            self.worker.deadlines.set(Deadline::Progress, now + nanos(PROGRESS_INTERVAL));
            self.worker.ring.wait(Some(self.worker.deadlines.next()))?;
        }
        while let Some(completion) = self.worker.ring.next() {
            self.on_completion(completion)?;
        }
        Ok(())
    }

    /// Reads as many pieces as there is room for.
    fn read(&mut self) -> Result<(), Error> {
        while !self.pieces.complete {
            let Some(mut slot) = self.worker.take() else { break };
            match self.reader.next(slot.payload_mut()) {
                Ok(Some((len, config))) => {
                    self.pieces.push(slot, len, config, self.worker.ring.now());
                    self.writers.mark_ready(DeviceIdx(0));
                }
                other => {
                    self.worker.put(slot);
                    other?;
                    self.pieces.complete = true;
                }
            }
        }
        Ok(())
    }

    fn conclude(mut self, result: Result<(), Error>) -> Finished {
        let error = result.err();
        let outcome = if error.is_some() { Outcome::Aborted } else { Outcome::Complete };
        if error.is_some() {
            self.enter(Phase::RollingBack);
            roll_back(&mut self, Extracting::writers);
        } else {
            note_running(self.writers());
        }
        self.enter(Phase::Done);
        let Extracting { mut worker, writers, pieces, expected, .. } = self;
        for (name, instance) in writers.devices.names() {
            worker.report.device(name, instance, pieces.totals, (expected.precopy, None), Checksum::None);
        }
        let report = worker.document(Role::Receiver, outcome, error.as_ref());
        worker.finish(report, outcome, error)
    }
}

impl<R: Ring> Loop for Extracting<'_, R> {
    type Ring = R;

    fn ring(&mut self) -> &mut R {
        &mut self.worker.ring
    }

    fn deadlines(&mut self) -> &mut Deadlines {
        &mut self.worker.deadlines
    }

    fn on_completion(&mut self, completion: Completion) -> Result<(), Error> {
        match completion {
            Completion::Moved { tag, slot, result } => match Operation::of(tag) {
                Operation::DeviceState { device } => {
                    self.writers.on_write_end(&mut self.worker, &mut self.pieces, device, slot, result)
                }
                other => other.misplaced(),
            },
            Completion::Done { tag } => match Operation::of(tag) {
                Operation::DeviceStep { device } => {
                    self.writers.on_step_end(&mut self.worker, &mut self.pieces, device)
                }
                other => other.misplaced(),
            },
            Completion::Sent { tag, .. } | Completion::Released { tag, .. } => Operation::of(tag).misplaced(),
        }
    }
}

//! One device's captured state, loaded into a sink.
//!
//! The same steps as at the end of a transfer, with the same writer; only that the state comes from files, so there is nobody to
//! commit to and nothing to wait for. However it ends, the device runs what was loaded, or is reset.

use std::collections::VecDeque;

use super::capture;
use super::capture::{Inspection, StateReader};
use crate::buffer::{Pool, Slot};
use crate::cancel::Cancel;
use crate::error::{Error, KernelError};
use crate::limits::{CONFIG_SIZE_MAX, PROGRESS_INTERVAL, QEMU_STATE_MAX};
use crate::phase::Phase;
use crate::report::Role;
use crate::ring;
use crate::ring::{Completion, HostRing, Ring};
use crate::session::handover::Outcome;
use crate::session::queue::{NextPacket, PacketQueue};
use crate::session::totals::Totals;
use crate::sink::Sink;
use crate::time::Nanos;
use crate::time::nanos;
use crate::time::now;
use crate::transfer::Finished;
use crate::wire::Checksum;
use crate::worker::caller::{Caller, Event};
use crate::worker::ending::Ending;
use crate::worker::loading::Loading;
use crate::worker::operation::Operation;
use crate::worker::report_builder::ReportBuilder;
use crate::worker::settings::Settings;
use crate::worker::steps::StepOutput;
use crate::worker::writers::{Device, Loader, Writing};

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

    /// Loads the device on this thread. Afterwards it runs what was loaded (complete), or is reset (aborted). A capture with
    /// errors is loaded into nothing: the sink is not touched.
    pub fn run(self) -> Finished {
        let account = ReportBuilder::new(now(), 1);
        match self.begin(account.started_at) {
            Ok(extracting) => extracting.run(),
            Err(error) => Finished::not_begun(account, Role::Receiver, error),
        }
    }

    /// The worker, if the capture can be loaded.
    fn begin(mut self, begun: Nanos) -> Result<Extracting<'a, HostRing>, Error> {
        let owner = self.settings.owner(begun);
        let reader = StateReader::new(self.inspection, self.device)?;
        let ring = ring::open(&owner.cancel)?;
        let id = self.device.id;
        let device = Device { name: id.idstr.as_str().into(), instance: id.instance, sink: self.sink };
        let (precopy, data) = (self.device.precopy_bytes(), self.device.data_bytes());
        let expected = Expected { precopy, all: precopy + data + self.device.config_bytes() };
        Ok(Extracting::new(ring, device, owner, reader, expected))
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
    loader: Loader<R>,
    reader: StateReader<'a>,
    pieces: Pieces,
    expected: Expected,
    /// The device has everything: it runs, whatever the owner wants.
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
    fn pop(&mut self, _: usize) -> Option<NextPacket<Slot>> {
        self.queue.pop_front()
    }

    fn written(&mut self, _: usize, _: Nanos) {}

    fn loaded(&mut self, _: usize) {
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
        owner: Caller,
        reader: StateReader<'a>,
        expected: Expected,
    ) -> Extracting<'a, R> {
        let loader = Loader::new(ring, vec![device], owner, false);
        Extracting { loader, reader, pieces: Pieces::default(), expected, committed: false }
    }

    fn enter(&mut self, phase: Phase) {
        self.loader.owner.tell(&Event::Phase(phase));
    }

    /// Until the device has everything.
    fn load(&mut self) -> Result<(), Error> {
        let pool = Pool::new(SLOTS, QEMU_STATE_MAX)?;
        // without it the kernel pins the pages anew for each write; nothing else changes
        let _: Result<(), KernelError> = self.loader.ring.register(&pool);
        self.loader.open();
        self.loader.pool = Some(pool);
        while !self.pieces.loaded {
            self.turn()?;
        }
        let now = self.loader.ring.now();
        self.loader.owner.hasten();
        self.loader.tell_progress(now, Some(self.expected.all));
        Ok(())
    }

    /// Reads as many pieces as there is room for.
    fn read(&mut self) -> Result<(), Error> {
        while !self.pieces.complete {
            let Some(mut slot) = self.loader.pool.as_mut().and_then(Pool::take) else { break };
            match self.reader.next(slot.payload_mut()) {
                Ok(Some((len, config))) => self.pieces.push(slot, len, config, self.loader.ring.now()),
                other => {
                    self.loader.put(slot);
                    other?;
                    self.pieces.complete = true;
                }
            }
        }
        Ok(())
    }

    /// Whether something will end that the ring tells of. A sink without a descriptor takes a piece at once.
    fn is_under_way(&self) -> bool {
        let is_busy = |writing: &Writing| matches!(writing, Writing::UnderWay { .. });
        self.loader.is_stepping() || self.loader.writers.iter().any(|writer| is_busy(&writer.writing))
    }
}

impl<R: Ring> Ending for Extracting<'_, R> {
    type Ring = R;

    fn ring(&mut self) -> &mut R {
        &mut self.loader.ring
    }

    /// There is none.
    fn peer_has_left(&self) -> bool {
        true
    }

    fn on_completion(&mut self, completion: Completion) -> Result<(), Error> {
        match completion {
            Completion::Moved { tag, slot, result } => match Operation::of(tag) {
                Operation::DeviceState { device } => {
                    self.loader.on_write_end(&mut self.pieces, device, slot, result)
                }
                _ => Ok(()),
            },
            Completion::Done { tag } => match Operation::of(tag) {
                Operation::DeviceStep { device } => self.loader.on_step_end(&mut self.pieces, device),
                _ => Ok(()),
            },
            Completion::Sent { .. } | Completion::Released { .. } => Ok(()),
        }
    }
}

impl<R: Ring> Loading for Extracting<'_, R> {
    fn loader(&mut self) -> &mut Loader<R> {
        &mut self.loader
    }

    fn is_committed(&self) -> bool {
        self.committed
    }

    fn transfer(&mut self) -> Result<(), Error> {
        self.every(|sink| sink.prepare().map(|()| StepOutput::Nothing))?;
        self.enter(Phase::Loading);
        self.load()?;
        self.enter(Phase::Commit);
        self.committed = true;
        self.wake_and_run()
    }

    fn conclude(mut self, result: Result<(), Error>) -> Finished {
        let error = result.err();
        let outcome = if error.is_some() { Outcome::Aborted } else { Outcome::Complete };
        if error.is_some() {
            self.enter(Phase::RollingBack);
            self.roll_back();
        }
        self.enter(Phase::Done);
        let Extracting { loader, pieces, expected, .. } = self;
        let Loader { ring, writers, mut account, recorder, .. } = loader;
        for writer in &writers {
            let (totals, precopy) = (pieces.totals, expected.precopy);
            account.device(&writer.name, writer.instance, totals, precopy, Checksum::None);
        }
        account.finish(Role::Receiver, outcome, error, recorder, ring.now())
    }

    fn turn(&mut self) -> Result<(), Error> {
        let now = self.loader.ring.now();
        if !self.committed {
            self.loader.owner.check(now)?;
        }
        self.read()?;
        self.loader.begin_writes(&mut self.pieces)?;
        self.loader.tell_progress(now, Some(self.expected.all));
        if self.is_under_way() {
            self.loader.ring.wait(Some(now + nanos(PROGRESS_INTERVAL)))?;
        }
        while let Some(completion) = self.loader.ring.next() {
            self.on_completion(completion)?;
        }
        Ok(())
    }
}

//! The sender's worker: reads devices into slots, hands packets to channels, keeps the session.
//!
//! [`Sending::transfer`] reads as the list of phases. Each phase is a loop over [`Sending::turn`], and every turn looks at
//! the owner's wishes, at the peer and at the clock. However it ends, [`Sending::conclude`] brings each device to where the
//! hand-over says that it belongs.

mod ending;
mod reading;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use self::reading::{Reader, Reading};
use super::Finished;
use super::control_link::Link;
use super::least_loaded::least_loaded;
use crate::buffer::{Pool, Slot};
use crate::channel::ZeroCopy;
use crate::channel::{Tx, TxEvent};
use crate::error::{DeviceError, Errno, Error, KernelError, PeerError, Place};
use crate::limits::PRECOPY_TIME_MAX;
use crate::net::Connection;
use crate::phase::Phase;
use crate::report::{Recorder, Stage};
use crate::ring::{Completion, Ring};
use crate::session::sender::SenderSession;
use crate::source::{Flow, Source};
use crate::time::Nanos;
use crate::time::nanos;
use crate::wire::{Checksum, Offer};
use crate::worker::caller::{Caller, Event};
use crate::worker::control_buffers;
use crate::worker::operation::Operation;
use crate::worker::report_builder::ReportBuilder;
use crate::worker::slot_size;
use crate::worker::steps::{StepOutput, StepResult};

/// A device at the source.
pub(super) struct Device {
    pub(super) name: Box<str>,
    pub(super) instance: u32,
    pub(super) source: Box<dyn Source>,
}

/// What the worker is made of.
pub(super) struct Parts {
    pub(super) control: Connection,
    pub(super) data: Vec<Connection>,
    pub(super) devices: Vec<Device>,
    pub(super) packet_size: u32,
    pub(super) pool_size: u64,
    pub(super) checksum: Checksum,
    pub(super) zero_copy: ZeroCopy,
    pub(super) before_switchover: Option<Box<dyn FnOnce() + Send>>,
    pub(super) owner: Caller,
}

/// The sender's worker.
pub(super) struct Sending<R: Ring> {
    // in the order in which they are dropped: operations end (ring) before anything that they use goes
    ring: R,
    link: Link,
    channels: Vec<Tx>,
    readers: Vec<Reader>,
    pool: Pool,
    session: SenderSession<Slot>,
    recorder: Recorder,
    owner: Caller,
    before_switchover: Option<Box<dyn FnOnce() + Send>>,
    packet_size: u32,
    checksum: Checksum,
    /// Devices still run: a read of nothing means "nothing now" and not "the end".
    flowing: bool,
    /// No read begins.
    paused: bool,
    next_reader: usize,
    account: ReportBuilder,
}

impl<R: Ring> Sending<R> {
    pub(super) fn new(mut ring: R, parts: Parts) -> Result<Sending<R>, KernelError> {
        let now = ring.now();
        let slot_size = slot_size(parts.packet_size);
        let slots = Pool::slots_in(parts.pool_size, slot_size);
        let pool = Pool::new(slots, slot_size)?;
        let mut lines = control_buffers(0)?;
        let mut account = ReportBuilder::new(now, parts.devices.len());
        account.pool(&pool, ring.register(&pool).err());
        account.zero_copy(parts.zero_copy, ring.can_zero_copy());
        let zero_copy = if ring.can_zero_copy() { parts.zero_copy } else { ZeroCopy::Off };
        let link = Link::new(&mut ring, parts.control, &mut lines);
        let channel = |(channel, connection)| {
            Tx::new(connection, Operation::Packet { channel }.tag(), zero_copy, pool.total())
        };
        let channels = parts.data.into_iter().enumerate().map(channel).collect();
        let readers: Vec<Reader> = parts.devices.into_iter().map(Reader::new).collect();
        let offer = Offer {
            features: 0,
            packet_size: parts.packet_size,
            pool_size: parts.pool_size,
            checksum: parts.checksum,
            devices: readers.iter().map(Reader::offer).collect(),
        };
        let session = SenderSession::new(offer, pool.total() as usize, now);
        Ok(Sending {
            ring,
            link,
            channels,
            readers,
            pool,
            session,
            recorder: Recorder::default(),
            owner: parts.owner,
            before_switchover: parts.before_switchover,
            packet_size: parts.packet_size,
            checksum: parts.checksum,
            flowing: true,
            paused: false,
            next_reader: 0,
            account,
        })
    }

    pub(super) fn account(&mut self) -> &mut ReportBuilder {
        &mut self.account
    }

    /// Runs the transfer to whatever end.
    pub(super) fn run(mut self) -> Finished {
        match catch_unwind(AssertUnwindSafe(|| self.transfer())) {
            Ok(result) => self.conclude(result),
            Err(panic) => {
                // the owner's own code, a hook or an event: the devices come first, then the panic goes on
                self.owner.on_event = None;
                let finished = self.conclude(Err(Error::Cancelled));
                // nobody is left to hold a device in doubt: it stays open until the process ends
                std::mem::forget(finished.parked);
                resume_unwind(panic)
            }
        }
    }

    fn transfer(&mut self) -> Result<(), Error> {
        self.agree()?;
        self.start()?;
        self.pre_copy()?;
        self.switch_over()?;
        self.stop_copy()?;
        self.load()?;
        self.commit()
    }

    fn agree(&mut self) -> Result<(), Error> {
        self.enter(Phase::Settings);
        while !self.session.is_ready() {
            self.turn()?;
        }
        self.account.started_at = self.ring.now();
        Ok(())
    }

    fn start(&mut self) -> Result<(), Error> {
        self.every(
            |source| source.start().map(StepOutput::Flow),
            |reader, given| {
                if let StepOutput::Flow(flow) = given {
                    reader.flow = flow;
                }
            },
        )
    }

    /// Reads devices that can be read while they run, until what is left of each is small.
    fn pre_copy(&mut self) -> Result<(), Error> {
        if self.readers.iter().all(|reader| reader.flow == Flow::Later) {
            return Ok(());
        }
        self.enter(Phase::PreCopy);
        let end = self.ring.now() + nanos(PRECOPY_TIME_MAX);
        for reader in self.readers.iter_mut().filter(|reader| reader.flow == Flow::PreCopy) {
            reader.open();
            reader.reading = Reading::Wanted;
        }
        let converging = |reader: &Reader| reader.flow == Flow::PreCopy && !reader.converged;
        while self.readers.iter().any(converging) && self.ring.now() < end {
            self.turn()?;
        }
        // nobody reads while a device changes its state
        self.paused = true;
        while self.readers.iter().any(|reader| reader.reading == Reading::UnderWay) {
            self.turn()?;
        }
        Ok(())
    }

    fn switch_over(&mut self) -> Result<(), Error> {
        self.enter(Phase::Switchover);
        if let Some(pause) = self.before_switchover.take() {
            pause();
        }
        self.flowing = false;
        self.account.switchover(self.ring.now());
        self.session.switch_over();
        self.every(|source| source.quiesce().map(|()| StepOutput::Nothing), |_, _| {})?;
        self.every(|source| source.stop().map(|()| StepOutput::Nothing), |_, _| {})?;
        self.account.stopped(self.ring.now());
        Ok(())
    }

    /// Reads every device to its end, then its config state, and sends all of it.
    fn stop_copy(&mut self) -> Result<(), Error> {
        self.enter(Phase::StopCopy);
        for reader in &mut self.readers {
            reader.open();
            reader.reading = Reading::Wanted;
        }
        self.paused = false;
        while !(self.session.is_drained() && self.channels.iter().all(Tx::is_idle)) {
            self.turn()?;
        }
        let now = self.ring.now();
        self.owner.hasten();
        self.tell_progress(now);
        self.account.transferred(now);
        Ok(())
    }

    fn load(&mut self) -> Result<(), Error> {
        self.enter(Phase::Loading);
        while !self.session.is_loaded() {
            self.turn()?;
        }
        self.account.loaded(self.ring.now());
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Error> {
        // the last moment at which the owner can change their mind
        self.owner.check(self.ring.now())?;
        self.enter(Phase::Commit);
        self.session.commit();
        while !self.session.is_over() {
            self.turn()?;
        }
        self.account.committed(self.ring.now());
        Ok(())
    }

    fn enter(&mut self, phase: Phase) {
        self.session.enter(phase, self.ring.now());
        self.owner.tell(&Event::Phase(phase));
    }

    /// Runs one step of every device, in parallel, and waits for all of them.
    fn every(
        &mut self,
        step: fn(&mut (dyn Source + 'static)) -> StepResult,
        mut take: impl FnMut(&mut Reader, StepOutput),
    ) -> Result<(), Error> {
        for (device, reader) in self.readers.iter_mut().enumerate() {
            reader.held.begin(&mut self.ring, Operation::DeviceStep { device }.tag(), step);
        }
        while self.readers.iter().any(|reader| reader.held.is_away()) {
            self.turn()?;
        }
        for reader in &mut self.readers {
            let result = reader.held.take_result().unwrap_or(Err(DeviceError::Panicked));
            let given = result.map_err(|error| Error::Device { device: reader.name.clone(), error })?;
            take(reader, given);
        }
        Ok(())
    }

    /// One turn of the loop: looks around, begins what can be begun, waits, takes what ended.
    fn turn(&mut self) -> Result<(), Error> {
        let now = self.ring.now();
        if !self.session.is_committed() {
            self.owner.check(now)?;
        }
        self.session.check(now)?;
        self.send_packets();
        // what this thread read is sent before it reads more
        while self.begin_reads()? {
            self.send_packets();
        }
        self.link.send(&mut self.ring, || self.session.poll_control(now));
        self.tell_progress(now);
        self.ring.wait(Some(self.next_deadline()))?;
        while let Some(completion) = self.ring.next() {
            self.on_completion(completion)?;
        }
        Ok(())
    }

    fn next_deadline(&self) -> Nanos {
        let quiet = |reader: &Reader| match reader.reading {
            Reading::Quiet { until } if !self.paused => Some(until),
            _ => None,
        };
        let wishes = self.owner.deadline.into_iter().filter(|_| !self.session.is_committed());
        let soonest = self.readers.iter().filter_map(quiet).chain(wishes).min();
        self.session.next_deadline().min(soonest.unwrap_or(Nanos::MAX))
    }

    fn tell_progress(&mut self, now: Nanos) {
        let (session, readers) = (&self.session, &self.readers);
        self.owner.progress(now, self.account.started_at, || {
            let bytes = (0..readers.len()).map(|device| session.totals(device).bytes).sum();
            (bytes, readers.iter().map(|reader| reader.estimate).sum())
        });
    }

    /// Gives packets to idle channels while there are both.
    fn send_packets(&mut self) {
        loop {
            let idle = self.channels.iter().enumerate().filter(|(_, channel)| channel.is_idle());
            let loads = idle.map(|(number, channel)| (number, channel.outstanding(), channel.bytes));
            let Some(channel) = least_loaded(loads) else { return };
            let now = self.ring.now();
            let Some(packet) = self.session.pop(now) else {
                return self.recorder.see_credit_stall(self.session.lacks_credit(), now);
            };
            self.recorder.see_credit_stall(false, now);
            self.recorder.record(Stage::Queue, packet.queued_at, now);
            self.channels[channel].send(&mut self.ring, packet.handle, &packet.header);
        }
    }

    fn on_completion(&mut self, completion: Completion) -> Result<(), Error> {
        match completion {
            Completion::Moved { tag, slot, result } => match Operation::of(tag) {
                Operation::DeviceState { device } => self.on_read_end(device, slot, result),
                _ => self.on_heard(slot, result),
            },
            Completion::Sent { tag, lease, result } => match Operation::of(tag) {
                Operation::Packet { channel } => {
                    let event = self.channels[channel].on_sent(&mut self.ring, lease, result);
                    self.on_tx(channel, event)
                }
                _ => self.link.on_sent(&mut self.ring, lease, result, self.session.phase()),
            },
            Completion::Released { tag, lease, copied } => {
                let Operation::Packet { channel } = Operation::of(tag) else { return Ok(()) };
                let event = self.channels[channel].on_released(lease, copied);
                self.on_tx(channel, event)
            }
            Completion::Done { tag } => {
                let Operation::DeviceStep { device } = Operation::of(tag) else { return Ok(()) };
                self.on_step_end(device)
            }
        }
    }

    fn on_heard(&mut self, line: Slot, result: Result<usize, Errno>) -> Result<(), Error> {
        let (now, session) = (self.ring.now(), &mut self.session);
        let phase = session.phase();
        self.link.on_received(&mut self.ring, line, result, phase, |message| session.on_control(message, now))
    }

    fn on_tx(&mut self, channel: usize, event: TxEvent) -> Result<(), Error> {
        let now = self.ring.now();
        match event {
            TxEvent::Pending => {}
            TxEvent::Sent(slot) => {
                self.recorder.record(Stage::Send, self.channels[channel].sent_at(), now);
                self.session.sent(now);
                slot.into_iter().for_each(|slot| self.pool.put(slot));
            }
            TxEvent::Freed(slot) => self.pool.put(slot),
            TxEvent::Failed(errno) => {
                let place = Place::Channel(u16::try_from(channel).unwrap_or(u16::MAX));
                return Err(PeerError::Lost { place, phase: self.session.phase(), errno }.into());
            }
        }
        Ok(())
    }
}

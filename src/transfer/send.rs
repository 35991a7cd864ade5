//! The sender's worker: reads devices into slots, hands packets to channels, keeps the session.
//!
//! [`Sending::transfer`] reads as the list of phases. Each phase is a loop over [`Sending::turn`], and every turn looks
//! at what its caller wants, at the peer and at the clock. However it ends, [`Sending::conclude`] brings each device to
//! where the hand-over says that it belongs.

mod channels;
mod ending;
mod figures;
mod precopy;
mod warm_up;

use std::time::Duration;

use self::channels::Channels;
use super::control_link::Link;
use crate::buffer::{Pool, Slot};
use crate::cancel::PreCopyHold;
use crate::channel::{Tx, TxEvent, ZeroCopy};
use crate::error::{Errno, Error, Hook, PeerError, Place};
use crate::net::Connection;
use crate::numbers::{ChannelIdx, DeviceIdx, PacketSize};
use crate::phase::Phase;
use crate::report::Stage;
use crate::ring::{Completion, Ring};
use crate::session::queue::ReadPacket;
use crate::session::sender::SenderSession;
use crate::source::Source;
use crate::time::deadlines::{Deadline, Deadlines};
use crate::time::{Nanos, nanos};
use crate::wire::{Checksum, DeviceOffer, FEATURE_FIGURES, FEATURE_WARM_UP, Offer};
use crate::worker::caller::{Caller, DeviceStep, Event};
use crate::worker::ending::{run, step_all};
use crate::worker::event_loop::Loop;
use crate::worker::finished::Finished;
use crate::worker::hook::{Code, run_hook};
use crate::worker::memory::make_pool;
use crate::worker::operation::Operation;
pub(super) use crate::worker::readers::Device;
use crate::worker::readers::{Begun, Readers};
use crate::worker::steps::{Devices, StepOutput, StepResult};
use crate::worker::{Worker, control_buffers, slot_size, total_estimate};

/// What the worker is made of.
pub(super) struct Parts {
    pub(super) control: Connection,
    pub(super) data: Vec<Connection>,
    pub(super) devices: Vec<Device>,
    pub(super) packet_size: PacketSize,
    pub(super) pool_size: u64,
    pub(super) checksum: Checksum,
    pub(super) zero_copy: ZeroCopy,
    pub(super) downtime_max: Duration,
    pub(super) downtime_limit: Duration,
    /// Warms the data connections up before any device is read.
    pub(super) warms_up: bool,
    /// Moves nothing.
    pub(super) is_dry_run: bool,
    pub(super) hooks: Hooks,
    pub(super) caller: Caller,
}

/// What the caller has to say on the way.
#[derive(Default)]
pub(super) struct Hooks {
    pub(super) hold_pre_copy: Option<PreCopyHold>,
    pub(super) before_switchover: Option<Code>,
    pub(super) before_commit: Option<Code>,
}

/// The sender's worker.
pub(super) struct Sending<R: Ring> {
    // dropped first: its ring's operations end before anything that they use goes
    worker: Worker<R>,
    readers: Readers,
    channels: Channels,
    link: Link,
    session: SenderSession<Slot>,
    hooks: Hooks,
    downtime_max: Duration,
    /// What may be left when pre-copy ends, as the time in which the link moves it.
    downtime_limit: Duration,
    warms_up: bool,
    is_dry_run: bool,
    packet_size: PacketSize,
    /// How many slots of which capacity the pool has.
    pool: (u32, u32),
    checksum: Checksum,
}

impl<R: Ring> Sending<R> {
    pub(super) fn new(ring: R, parts: Parts) -> Result<Sending<R>, Error> {
        let mut worker = Worker::new(ring, parts.caller, parts.devices.len());
        worker.report.simulated(parts.devices.iter().all(Device::is_simulated));
        let slot_size = slot_size(parts.packet_size);
        let slots = Pool::slots_in(parts.pool_size, slot_size);
        let mut control_buffers = control_buffers(0)?;
        worker.report.zero_copy(parts.zero_copy, worker.ring.can_zero_copy());
        let zero_copy = if worker.ring.can_zero_copy() { parts.zero_copy } else { ZeroCopy::Off };
        let link = Link::new(&mut worker.ring, parts.control, &mut control_buffers);
        let numbers = ChannelIdx::below(parts.data.len());
        let channels = parts.data.into_iter().zip(numbers).map(|(connection, channel)| {
            Tx::new(connection, Operation::Packet { channel }.tag(), zero_copy, slots)
        });
        let channels = Channels::new(channels);
        let readers = Readers::new(parts.devices, parts.packet_size, parts.checksum)?;
        let offers = readers.devices.names().zip(readers.estimates()).map(|((name, instance), estimate)| {
            DeviceOffer { name: name.into(), instance, estimate: estimate.unwrap_or(0) }
        });
        let warm_up = if parts.warms_up { FEATURE_WARM_UP } else { 0 };
        let offer = Offer {
            features: FEATURE_FIGURES | warm_up,
            packet_size: parts.packet_size.get(),
            pool_size: parts.pool_size,
            checksum: parts.checksum,
            devices: offers.collect(),
        };
        let session = SenderSession::new(offer, slots as usize, worker.ring.now());
        Ok(Sending {
            worker,
            readers,
            channels,
            link,
            session,
            hooks: parts.hooks,
            downtime_max: parts.downtime_max,
            downtime_limit: parts.downtime_limit,
            warms_up: parts.warms_up,
            is_dry_run: parts.is_dry_run,
            packet_size: parts.packet_size,
            pool: (slots, slot_size),
            checksum: parts.checksum,
        })
    }

    /// Runs the transfer to whatever end.
    pub(super) fn run(self) -> Finished {
        run(self, |sending| &mut sending.worker, Sending::transfer, Sending::conclude)
    }

    fn transfer(&mut self) -> Result<(), Error> {
        self.provide()?;
        self.agree()?;
        if self.is_dry_run {
            return self.rehearse();
        }
        self.warm_up()?;
        self.begin_figures();
        self.start()?;
        self.pre_copy()?;
        self.switch_over()?;
        self.stop_copy()?;
        self.load()?;
        self.commit()
    }

    /// Makes everything that the pause needs, before any device is touched. The offer is on its way meanwhile.
    fn provide(&mut self) -> Result<(), Error> {
        self.enter(Phase::Settings);
        self.readers.devices.reserve_threads(&mut self.worker.ring)?;
        make_pool(self, |sending| &mut sending.worker, self.pool, |sending, _| sending.turn())
    }

    fn agree(&mut self) -> Result<(), Error> {
        while !self.session.is_ready() {
            self.turn()?;
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), Error> {
        self.step_all(DeviceStep::Start, |source| source.start().map(StepOutput::Flow))
    }

    fn run_hook(&mut self, hook: Hook, code: Option<Code>) -> Result<(), Error> {
        run_hook(self, |sending| &mut sending.worker, hook, code, Sending::turn)
    }

    /// Whether everything waits for the caller's own code, which may take as long as it needs.
    fn awaits_caller(&self) -> bool {
        let is_held = || self.session.phase() == Phase::PreCopy && self.hooks.hold_pre_copy.is_some();
        let is_idle = || self.readers.is_settled() && self.session.is_idle() && self.channels.is_idle();
        self.worker.hook.is_under_way() || (is_held() && is_idle())
    }

    fn switch_over(&mut self) -> Result<(), Error> {
        self.enter(Phase::Switchover);
        self.predict();
        let hook = self.hooks.before_switchover.take();
        self.run_hook(Hook::BeforeSwitchover, hook)?;
        let now = self.worker.ring.now();
        self.worker.report.switchover(now);
        self.worker.deadlines.set(Deadline::Downtime, now.saturating_add(nanos(self.downtime_max)));
        self.session.switch_over();
        self.step_all(DeviceStep::Quiesce, |source| source.quiesce().map(|()| StepOutput::Nothing))?;
        self.ask_once_more()?;
        self.readers.switch_over();
        self.step_all(DeviceStep::Stop, |source| source.stop().map(|()| StepOutput::Nothing))?;
        self.worker.report.stopped(self.worker.ring.now());
        self.worker.caller.tell(&Event::Stopped);
        Ok(())
    }

    /// Reads every device to its end, then its config state, and sends all of it.
    fn stop_copy(&mut self) -> Result<(), Error> {
        self.enter(Phase::StopCopy);
        self.readers.begin_stop_copy()?;
        while !(self.session.is_drained() && self.channels.is_idle()) {
            self.turn()?;
        }
        let now = self.worker.ring.now();
        self.worker.caller.hasten();
        self.report_progress(now);
        self.worker.report.transferred(now);
        Ok(())
    }

    fn load(&mut self) -> Result<(), Error> {
        self.enter(Phase::Loading);
        while !self.session.is_loaded() {
            self.turn()?;
        }
        self.worker.report.loaded(self.worker.ring.now());
        // from here on it is the caller whom the devices wait for
        self.worker.deadlines.stop(Deadline::Downtime);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Error> {
        let hook = self.hooks.before_commit.take();
        self.run_hook(Hook::BeforeCommit, hook)?;
        self.enter(Phase::Commit);
        // the last moment at which the caller can change their mind
        self.check_caller(self.worker.ring.now())?;
        self.worker.deadlines.stop(Deadline::Caller);
        self.session.commit();
        while !self.session.is_over() {
            self.turn()?;
        }
        self.worker.report.committed(self.worker.ring.now());
        Ok(())
    }

    fn enter(&mut self, phase: Phase) {
        self.session.enter(phase, self.worker.ring.now());
        self.worker.enter(phase);
    }

    fn devices(&mut self) -> (&mut Worker<R>, &mut Devices<dyn Source>) {
        (&mut self.worker, &mut self.readers.devices)
    }

    /// Runs one step of every device, in parallel, and waits for all of them: as long as the peer does.
    fn step_all(
        &mut self,
        name: DeviceStep,
        step: fn(&mut (dyn Source + 'static)) -> StepResult,
    ) -> Result<(), Error> {
        step_all(self, Sending::devices, (name, step), Nanos::MAX, |sending, _| sending.turn())
    }

    /// One turn of the loop: looks around, begins what can be begun, waits, takes what ended.
    fn turn(&mut self) -> Result<(), Error> {
        let now = self.worker.ring.now();
        if !self.session.is_committed() {
            self.check_caller(now)?;
        }
        if self.awaits_caller() {
            self.session.moved(now);
        }
        self.send_packets();
        // what this thread read is sent before it reads more
        while let Begun::Filled(packet) = self.readers.begin(&mut self.worker, self.channels.count_idle())? {
            self.queue(packet);
            self.send_packets();
        }
        self.link.send(&mut self.worker.ring, || self.session.poll_control(now));
        self.report_progress(now);
        self.note_interval(now);
        let deadline = self.session.next_deadline().min(self.worker.deadlines.next());
        self.worker.ring.wait(Some(deadline))?;
        // whatever has arrived by now is taken before the peer is judged
        let now = self.worker.ring.now();
        while let Some(completion) = self.worker.ring.next() {
            self.on_completion(completion)?;
        }
        self.session.check(now)
    }

    /// Whether the caller still wants it, within the bounds that the caller set.
    fn check_caller(&self, now: Nanos) -> Result<(), Error> {
        if self.worker.deadlines.has_expired(Deadline::Downtime, now) {
            return Err(Error::Downtime { max: self.downtime_max });
        }
        self.worker.caller.check(now)
    }

    fn report_progress(&mut self, now: Nanos) {
        let (session, readers) = (&self.session, &self.readers);
        self.worker.report_progress(now, || {
            let bytes =
                DeviceIdx::below(readers.devices.len()).map(|device| session.totals(device).bytes).sum();
            (bytes, total_estimate(readers.estimates()))
        });
    }

    /// A packet that was read waits for a channel and for credit.
    fn queue(&mut self, packet: Option<ReadPacket<Slot>>) {
        let now = self.worker.ring.now();
        if let Some(packet) = packet {
            self.note_queued(&packet, now);
            self.session.push(packet, now);
        }
    }

    /// Gives packets to idle channels while there are both.
    fn send_packets(&mut self) {
        while let Some(channel) = self.channels.choose() {
            let now = self.worker.ring.now();
            let Some(packet) = self.session.pop(now) else {
                return self.worker.recorder.see_credit_stall(self.session.lacks_credit(), now);
            };
            self.worker.recorder.see_credit_stall(false, now);
            self.worker.recorder.record(Stage::Queue, packet.queued_at, now);
            self.readers.on_popped(DeviceIdx(packet.header.device));
            let slot = packet.handle.index();
            self.channels.send(&mut self.worker.ring, channel, packet.handle, &packet.header);
            self.note_sending(slot, DeviceIdx(packet.header.device), channel, now);
        }
    }

    fn on_control(&mut self, buffer: Slot, result: Result<usize, Errno>) -> Result<(), Error> {
        let (now, session) = (self.worker.ring.now(), &mut self.session);
        let phase = session.phase();
        let take = |message| session.on_control(message, now);
        match self.link.on_received(&mut self.worker.ring, buffer, result, phase, take) {
            // whatever comes with committed or behind it changes nothing (P-45)
            Err(Error::Peer(_)) if self.session.is_over() => Ok(()),
            taken => taken,
        }
    }

    fn on_tx(&mut self, channel: ChannelIdx, event: TxEvent) -> Result<(), Error> {
        let now = self.worker.ring.now();
        match event {
            TxEvent::Pending => {}
            TxEvent::Sent(slot) => {
                self.note_sent(channel, now);
                self.session.moved(now);
                slot.into_iter().for_each(|slot| self.worker.put(slot));
            }
            TxEvent::Freed(slot) => self.worker.put(slot),
            TxEvent::Failed(errno) => {
                let place = Place::Channel(channel.0.into());
                return Err(PeerError::Lost { place, phase: self.session.phase(), errno }.into());
            }
        }
        Ok(())
    }
}

impl<R: Ring> Loop for Sending<R> {
    type Ring = R;

    fn ring(&mut self) -> &mut R {
        &mut self.worker.ring
    }

    fn deadlines(&mut self) -> &mut Deadlines {
        &mut self.worker.deadlines
    }

    fn on_clock(&mut self) {
        self.tell_interval(self.worker.ring.now());
    }

    fn on_completion(&mut self, completion: Completion) -> Result<(), Error> {
        match completion {
            Completion::Moved { tag, slot, result } => match Operation::of(tag) {
                Operation::DeviceState { device } => {
                    let packet = self.readers.on_read_end(&mut self.worker, device, slot, result)?;
                    self.queue(packet);
                    Ok(())
                }
                Operation::ControlReceive => self.on_control(slot, result),
                other => other.misplaced(),
            },
            Completion::Sent { tag, lease, result } => match Operation::of(tag) {
                Operation::Packet { channel } => {
                    let event = self.channels.on_sent(&mut self.worker.ring, channel, lease, result);
                    self.on_tx(channel, event)
                }
                Operation::ControlSend => {
                    self.link.on_sent(&mut self.worker.ring, lease, result, self.session.phase())
                }
                other => other.misplaced(),
            },
            Completion::Released { tag, lease, copied } => match Operation::of(tag) {
                Operation::Packet { channel } => {
                    let event = self.channels.on_released(channel, lease, copied);
                    self.on_tx(channel, event)
                }
                other => other.misplaced(),
            },
            Completion::Done { tag } => match Operation::of(tag) {
                Operation::MakePool => Ok(()),
                Operation::DeviceStep { device } => {
                    let packet = self.readers.on_step_end(&mut self.worker, device)?;
                    self.queue(packet);
                    Ok(())
                }
                Operation::Hook => {
                    self.worker.hook.join();
                    Ok(())
                }
                other => other.misplaced(),
            },
        }
    }
}

//! The receiver's worker: receives packets into slots, writes them into devices in order, keeps the session.
//!
//! [`Receiving::transfer`] reads as the list of phases, the mirror image of the sender's. However it ends,
//! [`Receiving::conclude`] leaves each device either running what was loaded, or reset.

mod ending;
mod figures;
pub(super) mod offered;
mod settings;

use crate::numbers::{ChannelIdx, DeviceIdx};
use std::collections::VecDeque;

use self::offered::DevicesBy;
use super::control_link::Link;
use crate::buffer::{Pool, Slot};
use crate::channel::{Native, Rx, RxEvent};
use crate::error::{Errno, Error, Hook, KernelError, PeerError, Place};
use crate::limits::HEARTBEAT_INTERVAL;
use crate::net::{Busy, Connection};
use crate::phase::Phase;
use crate::ring::{Completion, Ring};
use crate::session::receiver::ReceiverSession;
use crate::sink::Sink;
use crate::time::Nanos;
use crate::time::deadlines::Deadlines;
use crate::time::nanos;
use crate::wire::{Checksum, DataHeader, Offer};
use crate::worker::caller::{Caller, DeviceStep};
use crate::worker::ending::run;
use crate::worker::event_loop::Loop;
use crate::worker::finished::Finished;
use crate::worker::hook::{Code, run_hook};
use crate::worker::operation::Operation;
use crate::worker::steps::StepOutput;
use crate::worker::writers::{Device, Writers, start_devices, step_all_sinks};
use crate::worker::{Worker, control_buffers};

/// What the worker is made of.
pub(super) struct Parts {
    pub(super) control: Connection,
    pub(super) data: Vec<Connection>,
    /// What was received on the control connection already.
    pub(super) opening: Vec<u8>,
    pub(super) busy: Option<Busy>,
    pub(super) devices: Vec<Device>,
    /// Opens a sink for each device of the offer, in place of `devices`.
    pub(super) devices_by: Option<DevicesBy>,
    pub(super) pool_max: u64,
    pub(super) before_run: Option<Code>,
    pub(super) same_clock: bool,
    pub(super) caller: Caller,
}

/// The receiver's worker.
pub(super) struct Receiving<R: Ring> {
    // dropped first: its ring's operations end before anything that they use goes. Its pool is made when the settings
    // say how large.
    worker: Worker<R>,
    /// In the order of the offer, once there is one.
    writers: Writers,
    channels: Vec<Rx<Native>>,
    link: Link,
    session: ReceiverSession<Slot>,
    /// Data connections that wait for the agreement on settings.
    connections: Vec<Connection>,
    /// Headers that came and whose payloads are still to be received, with their channels. At most one of each.
    headers: VecDeque<(ChannelIdx, DataHeader)>,
    /// The ring writes some device: receiving and writing overlap.
    overlaps: bool,
    control_buffers: Pool,
    /// Until the devices are where they belong, other senders are refused as busy.
    busy: Option<Busy>,
    devices_by: Option<DevicesBy>,
    pool_max: u64,
    before_run: Option<Code>,
    /// What the sender expects of each device, and of all.
    estimates: Vec<Option<u64>>,
    estimate: Option<u64>,
    checksum: Checksum,
    /// The final message is a refusal, and in the session already.
    refused: bool,
}

impl<R: Ring> Receiving<R> {
    pub(super) fn new(ring: R, parts: Parts) -> Result<Receiving<R>, KernelError> {
        let mut worker = Worker::new(ring, parts.caller, parts.devices.len());
        let mut control_buffers = control_buffers(parts.data.len())?;
        let link = Link::opened(parts.control, &mut control_buffers, &parts.opening);
        worker.report.clocks(parts.same_clock);
        let is_simulated = parts.devices_by.is_none() && parts.devices.iter().all(Device::is_simulated);
        worker.report.simulated(is_simulated);
        Ok(Receiving {
            session: ReceiverSession::new(worker.ring.now()),
            worker,
            writers: Writers::new(parts.devices, parts.same_clock),
            channels: Vec::new(),
            link,
            connections: parts.data,
            headers: VecDeque::new(),
            overlaps: false,
            control_buffers,
            busy: parts.busy,
            devices_by: parts.devices_by,
            pool_max: parts.pool_max,
            before_run: parts.before_run,
            estimates: Vec::new(),
            estimate: None,
            checksum: Checksum::None,
            refused: false,
        })
    }

    /// Runs the transfer to whatever end.
    pub(super) fn run(self) -> Finished {
        run(self, |receiving| &mut receiving.worker, Receiving::transfer, Receiving::conclude)
    }

    fn transfer(&mut self) -> Result<(), Error> {
        let offer = self.await_offer()?;
        self.agree(&offer)?;
        self.prepare()?;
        self.load()?;
        self.vote()?;
        self.await_commit()?;
        self.let_run()
    }

    fn await_offer(&mut self) -> Result<Offer, Error> {
        self.enter(Phase::Settings);
        let now = self.worker.ring.now();
        let session = &mut self.session;
        self.link.begin(&mut self.worker.ring, |message| session.on_control(message, now))?;
        loop {
            if let Some(offer) = self.session.take_offer() {
                return Ok(offer);
            }
            self.turn()?;
        }
    }

    fn prepare(&mut self) -> Result<(), Error> {
        let prepare = |sink: &mut (dyn Sink + 'static)| sink.prepare().map(|()| StepOutput::Nothing);
        step_all_sinks(self, Receiving::writers, (DeviceStep::Prepare, prepare), |receiving, _| {
            receiving.turn()
        })
        .map_err(|error| self.not_ready_if_own(error))?;
        self.overlaps = self.writers.open().map_err(|error| self.not_ready(error))?;
        self.session.ready(self.worker.ring.now());
        Ok(())
    }

    /// Until every device has everything.
    fn load(&mut self) -> Result<(), Error> {
        let mut phase = Phase::Settings;
        while !self.session.is_complete() {
            self.turn().map_err(|error| match self.session.switched_over() {
                None => error.before_switchover(),
                Some(_) => error,
            })?;
            let now = if self.session.switched_over().is_some() { Phase::StopCopy } else { Phase::PreCopy };
            if phase != now && (now == Phase::StopCopy || self.writers.has_written()) {
                phase = now;
                self.enter(phase);
            }
        }
        let now = self.worker.ring.now();
        self.worker.caller.hasten();
        self.report_progress(now);
        Ok(())
    }

    /// Reports the last device to the sender when the caller has agreed, too: this side's vote for commit.
    fn vote(&mut self) -> Result<(), Error> {
        self.enter(Phase::Loading);
        let hook = self.before_run.take();
        run_hook(self, |receiving| &mut receiving.worker, Hook::BeforeRun, hook, Receiving::turn)?;
        let now = self.worker.ring.now();
        // directly before: the sender must not hear that this side agrees when its caller no longer does
        self.worker.caller.check(now)?;
        self.session.vote(now);
        self.worker.report.loaded(now);
        Ok(())
    }

    fn await_commit(&mut self) -> Result<(), Error> {
        while !self.session.is_committed() {
            self.turn()?;
        }
        Ok(())
    }

    /// The devices are ours: lets them run.
    fn let_run(&mut self) -> Result<(), Error> {
        self.enter(Phase::Commit);
        start_devices(self, Receiving::writers, Receiving::turn)?;
        self.session.committed();
        self.worker.report.committed(self.worker.ring.now());
        Ok(())
    }

    fn enter(&mut self, phase: Phase) {
        self.session.enter(phase, self.worker.ring.now());
        self.worker.enter(phase);
    }

    fn report_progress(&mut self, now: Nanos) {
        let (writers, estimate) = (&self.writers, self.estimate);
        self.worker.report_progress(now, || (writers.bytes(), estimate));
    }

    fn writers(&mut self) -> (&mut Worker<R>, &mut Writers) {
        (&mut self.worker, &mut self.writers)
    }

    /// One turn of the loop: looks around, begins what can be begun, waits, takes what ended.
    fn turn(&mut self) -> Result<(), Error> {
        let now = self.worker.ring.now();
        if !self.session.is_committed() {
            self.worker.caller.check(now)?;
        }
        if self.worker.hook.is_under_way() {
            self.session.moved(now);
        }
        self.begin_payload()?;
        self.writers.begin(&mut self.worker, &mut self.session)?;
        self.link.send(&mut self.worker.ring, || self.session.poll_control(now));
        self.report_progress(now);
        self.note_interval(now);
        self.worker.ring.wait(Some(self.next_deadline(now)))?;
        // whatever has arrived by now is taken before the peer is judged
        let now = self.worker.ring.now();
        while let Some(completion) = self.worker.ring.next() {
            self.on_completion(completion).or_else(|error| self.unless_committed(error))?;
            // at once: the packet's bytes are in this processor's cache now
            self.writers.begin(&mut self.worker, &mut self.session)?;
        }
        self.session.check(now)
    }

    /// Once the devices are ours, nothing that the peer does or that befalls its connections matters (P-37).
    fn unless_committed(&self, error: Error) -> Result<(), Error> {
        match error {
            Error::Peer(_) if self.session.is_committed() => Ok(()),
            other => Err(other),
        }
    }

    /// Receives one of the payloads whose headers came.
    fn begin_payload(&mut self) -> Result<(), Error> {
        let Some((channel, header)) = self.headers.pop_front() else { return Ok(()) };
        let slot = self.worker.take_promised();
        self.note_receiving(&slot, channel, &header);
        let event = self.channels[channel.index()].accept(&mut self.worker.ring, header, slot);
        self.on_rx(channel, event)
    }

    fn next_deadline(&self, now: Nanos) -> Nanos {
        if !self.headers.is_empty() {
            return now;
        }
        // after commit nothing is sent to a peer that is gone, and nothing waits for it
        if self.link.is_closed() && self.session.is_committed() {
            return (now + nanos(HEARTBEAT_INTERVAL)).min(self.worker.deadlines.next());
        }
        self.session.next_deadline().min(self.worker.deadlines.next())
    }

    fn on_control(&mut self, buffer: Slot, result: Result<usize, Errno>) -> Result<(), Error> {
        let (now, session) = (self.worker.ring.now(), &mut self.session);
        let phase = session.phase();
        let take = |message| session.on_control(message, now);
        self.link.on_received(&mut self.worker.ring, buffer, result, phase, take)?;
        if let Some(at) = self.session.switched_over() {
            self.worker.report.switchover(at);
        }
        Ok(())
    }

    fn on_rx(&mut self, channel: ChannelIdx, event: RxEvent<DataHeader>) -> Result<(), Error> {
        let place = Place::Channel(channel.0.into());
        let now = self.worker.ring.now();
        let phase = self.session.phase();
        match event {
            RxEvent::Pending => Ok(()),
            RxEvent::Header(header) => {
                self.session.on_header(&header, place)?;
                self.headers.push_back((channel, header));
                // Where this thread writes, it receives one payload after the other, so that each is written while it
                // is in the cache. Else everything may go on at once.
                if self.overlaps { self.begin_payload() } else { Ok(()) }
            }
            RxEvent::Packet { header, slot, crc32c } => {
                self.writers.mark_ready(DeviceIdx(header.device));
                self.note_arrived(&slot, now);
                self.session.on_packet(header, slot, crc32c, place, now).map_err(|(error, slot)| {
                    self.worker.put(slot);
                    error.into()
                })
            }
            // a connection that has nothing more to bring may end as it likes
            RxEvent::Closed | RxEvent::Cut | RxEvent::Failed(_) if self.session.has_everything() => Ok(()),
            RxEvent::Closed | RxEvent::Cut => Err(PeerError::Closed { place, phase }.into()),
            RxEvent::Failed(errno) => Err(PeerError::Lost { place, phase, errno }.into()),
            RxEvent::Malformed(what) => Err(PeerError::Malformed { place, what }.into()),
        }
    }
}

impl<R: Ring> Loop for Receiving<R> {
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
                    self.writers.on_write_end(&mut self.worker, &mut self.session, device, slot, result)
                }
                Operation::Packet { channel } => {
                    let event =
                        self.channels[channel.index()].on_received(&mut self.worker.ring, slot, result);
                    self.on_rx(channel, event)
                }
                Operation::ControlReceive => self.on_control(slot, result),
                other => other.misplaced(),
            },
            Completion::Sent { tag, lease, result } => match Operation::of(tag) {
                Operation::ControlSend => {
                    self.link.on_sent(&mut self.worker.ring, lease, result, self.session.phase())
                }
                other => other.misplaced(),
            },
            Completion::Released { tag, .. } => Operation::of(tag).misplaced(),
            Completion::Done { tag } => match Operation::of(tag) {
                Operation::MakePool => Ok(()),
                Operation::DeviceStep { device } => {
                    self.writers.on_step_end(&mut self.worker, &mut self.session, device)
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

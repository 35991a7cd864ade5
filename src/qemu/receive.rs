//! The live receiver's worker: takes a migration from a running QEMU and loads the devices' state as it arrives.
//!
//! [`Receiving::transfer`] reads as the list of phases. The main connection is parsed as it comes up to its first full
//! section, and drained from there on; guest memory is dropped. However it ends, each device runs what was loaded, or
//! is reset.

mod ending;
mod figures;
mod main_connection;
#[cfg(test)]
mod simulation;
mod tail;
mod tracing;

use crate::numbers::{ChannelIdx, DeviceIdx, PacketSize};
use std::collections::VecDeque;

use self::tail::Tail;
use super::answer::Answers;
use super::channel::{MainRx, Multifd};
use super::session::QemuSession;
use super::session::devices::Admission;
use crate::buffer::{Pool, Slot};
use crate::channel::{Rx, RxEvent};
use crate::error::{Errno, Error, Hook, KernelError, PeerError, Place, QemuError};
use crate::limits::QEMU_STATE_MAX;
use crate::net::Connection;
use crate::phase::Phase;
use crate::ring::{Completion, Ring};
use crate::sink::Sink;
use crate::time::Nanos;
use crate::time::deadlines::Deadlines;
use crate::wire::Checksum;
use crate::wire::qemu::{DevicePacket, INIT_LEN, Idstr};
use crate::worker::caller::{Caller, DeviceStep};
use crate::worker::ending::run;
use crate::worker::event_loop::Loop;
use crate::worker::finished::Finished;
use crate::worker::hook::{Code, run_hook};
use crate::worker::memory::make_pool;
use crate::worker::operation::Operation;
use crate::worker::report_builder::ReportBuilder;
use crate::worker::steps::StepOutput;
use crate::worker::writers::{Device, Writers, start_devices, step_all_sinks};
use crate::worker::{Worker, control_buffers};

/// Whose protocol it is, in the report's words.
pub(super) const DIALECT: &str = "qemu";

/// What the worker is made of.
pub(super) struct Parts {
    pub(super) main: Connection,
    /// In the order of their numbers, behind their inits.
    pub(super) multifd: Vec<Connection>,
    /// Their names are QEMU's.
    pub(super) devices: Vec<Device>,
    pub(super) pool_size: u64,
    pub(super) before_run: Option<Code>,
    pub(super) caller: Caller,
}

/// The live receiver's worker.
pub(super) struct Receiving<R: Ring> {
    // dropped first: its ring's operations end before anything that they use goes
    worker: Worker<R>,
    writers: Writers,
    channels: Vec<Rx<Multifd>>,
    main: MainRx,
    answers: Answers,
    session: QemuSession<Slot>,
    /// Multifd connections that wait until the size of memory pages is known.
    connections: Vec<Connection>,
    /// Packets that have no slot yet, with their channels. At most one of each.
    waiting: VecDeque<(ChannelIdx, DevicePacket)>,
    /// Channels that have ended.
    ended: usize,
    /// How many the pool will have.
    slots: u32,
    control_buffers: Pool,
    /// The devices can be written.
    is_ready: bool,
    /// The source's kernel has the final message: what becomes of the connection is no matter any more.
    is_confirmed: bool,
    /// What follows the live sections, where it matters.
    tail: Option<Tail>,
    before_run: Option<Code>,
    /// Config states that the tail had, by device, until there is a slot for each.
    configs: Vec<(DeviceIdx, Vec<u8>)>,
    /// Pieces that came on the main connection, as their numbers in a trace.
    pieces: u64,
}

/// What counts as the packet size: the most state in one packet.
const PACKET_SIZE: PacketSize = PacketSize::new(QEMU_STATE_MAX).expect("within the bounds of a packet");

/// Bytes of the smallest pool for so many devices: one packet of each, and one of the main connection.
pub(super) fn pool_for(devices: usize) -> u64 {
    Pool::bytes_for(devices as u64 + 1, QEMU_STATE_MAX)
}

impl<R: Ring> Receiving<R> {
    pub(super) fn new(ring: R, parts: Parts) -> Result<Receiving<R>, KernelError> {
        let now = ring.now();
        let names = parts.devices.iter().map(|device| {
            let name = Idstr::try_from(&*device.name).expect("checked when the receiver was built");
            (name, device.instance)
        });
        let slots = Pool::slots_in(parts.pool_size, QEMU_STATE_MAX);
        let session = QemuSession::new(names.collect(), slots as usize, now);
        let mut control_buffers = control_buffers(parts.multifd.len())?;
        let buffer = control_buffers.take().expect("there is one for the main connection");
        let answers = Answers::new(parts.main.fd(), Operation::ControlSend.tag())?;
        let main = MainRx::new(parts.main, Operation::ControlReceive.tag(), buffer);
        let mut worker = Worker::new(ring, parts.caller, parts.devices.len());
        worker.report.packet_size(PACKET_SIZE, Checksum::None);
        worker.report.dialect(DIALECT);
        Ok(Receiving {
            worker,
            writers: Writers::new(parts.devices, false),
            main,
            answers,
            session,
            channels: Vec::with_capacity(parts.multifd.len()),
            waiting: VecDeque::with_capacity(parts.multifd.len()),
            connections: parts.multifd,
            ended: 0,
            slots,
            control_buffers,
            is_ready: false,
            is_confirmed: false,
            tail: None,
            before_run: parts.before_run,
            configs: Vec::new(),
            pieces: 0,
        })
    }

    /// The report says who is at the other end. QEMU has no sessions.
    pub(super) fn note_connection(&mut self) {
        self.worker.report.connected(None, self.main.connection());
    }

    pub(super) fn report_builder(&mut self) -> &mut ReportBuilder {
        &mut self.worker.report
    }

    /// Runs the migration to whatever end.
    pub(super) fn run(self) -> Finished {
        run(self, |receiving| &mut receiving.worker, Receiving::transfer, Receiving::conclude)
    }

    fn transfer(&mut self) -> Result<(), Error> {
        self.prepare()?;
        self.load()?;
        let hook = self.before_run.take();
        run_hook(self, |receiving| &mut receiving.worker, Hook::BeforeRun, hook, Receiving::turn)?;
        self.report_loaded()?;
        start_devices(self, Receiving::writers, Receiving::turn)?;
        self.session.committed();
        self.worker.report.committed(self.worker.ring.now());
        Ok(())
    }

    fn prepare(&mut self) -> Result<(), Error> {
        self.enter(Phase::Settings);
        self.writers.devices.reserve_threads(&mut self.worker.ring)?;
        let pool = (self.slots, QEMU_STATE_MAX);
        make_pool(self, |receiving| &mut receiving.worker, pool, |receiving, _| receiving.turn())?;
        let prepare = |sink: &mut (dyn Sink + 'static)| sink.prepare().map(|()| StepOutput::Nothing);
        step_all_sinks(self, Receiving::writers, (DeviceStep::Prepare, prepare), |receiving, _| {
            receiving.turn()
        })?;
        self.writers.open()?;
        self.is_ready = true;
        Ok(())
    }

    /// Until every device has all of its state, and the source has sent everything.
    fn load(&mut self) -> Result<(), Error> {
        self.begin_figures();
        let mut phase = Phase::PreCopy;
        self.enter(phase);
        while !(self.session.is_loaded() && self.main.has_ended()) {
            self.turn()?;
            if phase == Phase::PreCopy && self.session.switched_over().is_some() {
                phase = Phase::StopCopy;
                self.enter(phase);
            }
        }
        let now = self.worker.ring.now();
        self.worker.caller.hasten();
        self.report_progress(now);
        self.worker.report.loaded(now);
        Ok(())
    }

    fn enter(&mut self, phase: Phase) {
        self.session.enter(phase, self.worker.ring.now());
        self.worker.enter(phase);
    }

    fn report_progress(&mut self, now: Nanos) {
        let writers = &self.writers;
        self.worker.report_progress(now, || (writers.bytes(), None));
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
        if self.is_ready {
            self.listen()?;
        }
        self.admit_waiting()?;
        self.writers.begin(&mut self.worker, &mut self.session)?;
        self.check_missing()?;
        self.answers.go_on(&mut self.worker.ring);
        self.report_progress(now);
        self.note_interval(now);
        self.worker.ring.wait(Some(self.session.next_deadline().min(self.worker.deadlines.next())))?;
        // whatever has arrived by now is taken before the source is judged
        let now = self.worker.ring.now();
        while let Some(completion) = self.worker.ring.next() {
            self.on_completion(completion)?;
            // at once: the packet's bytes are in this processor's cache now
            self.writers.begin(&mut self.worker, &mut self.session)?;
        }
        self.session.check(now)
    }

    /// Begins to receive packets: their headers' length is known now.
    fn begin_channels(&mut self) {
        let page_size = self.main.follower().page_size();
        for (channel, connection) in self.connections.drain(..).enumerate() {
            let buffer = self.control_buffers.take().expect("there is a control buffer for each channel");
            let channel = ChannelIdx::from_index(channel);
            let mut rx = Rx::new(connection, Operation::Packet { channel }.tag(), buffer, Multifd(page_size));
            rx.begin(&mut self.worker.ring);
            self.channels.push(rx);
        }
    }

    /// Receives what waited for a slot, as far as there are any.
    fn admit_waiting(&mut self) -> Result<(), Error> {
        for _ in 0..self.waiting.len() {
            let Some((channel, packet)) = self.waiting.pop_front() else { break };
            self.on_header(channel, packet)?;
        }
        Ok(())
    }

    fn on_header(&mut self, channel: ChannelIdx, packet: DevicePacket) -> Result<(), Error> {
        let offset = self.offset_of(channel);
        match self.session.devices.admit(&packet, (place(channel), offset))? {
            Admission::Wait => {
                self.waiting.push_back((channel, packet));
                Ok(())
            }
            Admission::Slot => {
                let slot = self.worker.take_promised();
                self.note_receiving(&slot, channel, &packet);
                let ring = &mut self.worker.ring;
                let event = self.channels[channel.index()].accept(ring, packet, slot);
                self.on_rx(channel, event)
            }
        }
    }

    /// Whether what is missing can come at all: when every channel waits for a slot or has ended, and no device is
    /// being written, nothing that is still on its way can help.
    fn check_missing(&self) -> Result<(), Error> {
        let all_wait = self.connections.is_empty() && self.waiting.len() + self.ended == self.channels.len();
        let may_write = self.session.switched_over().is_some() || self.main.has_ended();
        if !all_wait || !may_write || !self.configs.is_empty() || self.writers.is_writing() {
            return Ok(());
        }
        self.session.find_missing(self.waiting.is_empty())
    }

    fn on_rx(&mut self, channel: ChannelIdx, event: RxEvent<DevicePacket>) -> Result<(), Error> {
        let place = place(channel);
        let now = self.worker.ring.now();
        match event {
            RxEvent::Header(packet) => self.on_header(channel, packet),
            RxEvent::Packet { header: packet, slot, .. } => {
                self.note_arrived(slot.index(), now);
                let device = self.session.devices.fill(&packet, slot, now);
                self.writers.mark_ready(device);
                self.session.on_packet(now)
            }
            RxEvent::Pending => Ok(()),
            RxEvent::Closed => {
                self.ended += 1;
                self.session.on_end(place, now);
                Ok(())
            }
            // a connection that has nothing more to bring may end as it likes
            RxEvent::Cut | RxEvent::Failed(_) if self.needs_no_channels() => Ok(()),
            RxEvent::Cut => Err(PeerError::Closed { place, phase: self.session.phase() }.into()),
            RxEvent::Failed(errno) => Err(self.lost(place, errno)),
            RxEvent::Malformed(what) => {
                let offset = self.offset_of(channel);
                Err(PeerError::from(QemuError::Malformed { place, offset, what }).into())
            }
        }
    }

    fn needs_no_channels(&self) -> bool {
        self.session.is_committed() || (self.session.is_loaded() && self.main.has_ended())
    }

    /// Where a channel's current packet begins.
    fn offset_of(&self, channel: ChannelIdx) -> u64 {
        INIT_LEN as u64 + self.channels[channel.index()].packet_offset()
    }

    fn lost(&self, place: Place, errno: Errno) -> Error {
        PeerError::Lost { place, phase: self.session.phase(), errno }.into()
    }
}

fn place(channel: ChannelIdx) -> Place {
    Place::Multifd(channel.0)
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
                    self.session.moved(self.worker.ring.now());
                    self.on_rx(channel, event)
                }
                Operation::ControlReceive => self.on_main(slot, result),
                other => other.misplaced(),
            },
            Completion::Sent { tag, lease, result } => match Operation::of(tag) {
                Operation::ControlSend => {
                    self.answers.on_sent(&mut self.worker.ring, lease, result).map(drop)
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

//! The receiver's worker: receives packets into slots, writes them into devices in order, keeps the session.
//!
//! [`Receiving::transfer`] reads as the list of phases, the mirror image of the sender's. However it ends,
//! [`Receiving::conclude`] leaves each device either running what was loaded, or reset.

mod ending;

use std::collections::VecDeque;

use super::Finished;
use super::control_link::Link;
use crate::buffer::{Pool, Slot};
use crate::channel::{Native, Rx, RxEvent};
use crate::error::{Errno, Error, KernelError, PeerError, Place, Refusal, Side};
use crate::limits::HEARTBEAT_INTERVAL;
use crate::net::Connection;
use crate::net::listener::Busy;
use crate::phase::Phase;
use crate::ring::{Completion, Ring};
use crate::session::credit::window;
use crate::session::receiver::{ReceiverSession, Terms, agree};
use crate::time::Nanos;
use crate::time::nanos;
use crate::wire::{Checksum, DataHeader, Offer};
use crate::worker::caller::{Caller, Event};
use crate::worker::control_buffers;
use crate::worker::loading::Loading;
use crate::worker::operation::Operation;
use crate::worker::report_builder::ReportBuilder;
use crate::worker::slot_size;
use crate::worker::steps::StepOutput;
use crate::worker::writers::{Device, Loader};

/// What the worker is made of.
pub(super) struct Parts {
    pub(super) control: Connection,
    pub(super) data: Vec<Connection>,
    pub(super) busy: Option<Busy>,
    pub(super) devices: Vec<Device>,
    pub(super) pool_max: u64,
    pub(super) same_clock: bool,
    pub(super) owner: Caller,
}

/// The receiver's worker.
pub(super) struct Receiving<R: Ring> {
    // dropped first: its ring's operations end before anything that they use goes. Its writers are in the order of the
    // offer, once there is one, its pool is made when the settings say how large.
    loader: Loader<R>,
    link: Link,
    /// Data connections that wait for the agreement on settings.
    connections: Vec<Connection>,
    channels: Vec<Rx<Native>>,
    /// Headers that came and whose payloads are still to be received, with their channels. At most one of each.
    headers: VecDeque<(usize, DataHeader)>,
    /// The ring writes some device: receiving and writing overlap.
    overlaps: bool,
    lines: Pool,
    session: ReceiverSession<Slot>,
    /// Until the devices are where they belong others are told that this receiver is busy.
    busy: Option<Busy>,
    pool_max: u64,
    estimate: Option<u64>,
    checksum: Checksum,
    /// The last word is a refusal, and in the session already.
    refused: bool,
}

impl<R: Ring> Receiving<R> {
    pub(super) fn new(mut ring: R, parts: Parts) -> Result<Receiving<R>, KernelError> {
        let now = ring.now();
        let mut lines = control_buffers(parts.data.len())?;
        let link = Link::new(&mut ring, parts.control, &mut lines);
        let mut loader = Loader::new(ring, parts.devices, parts.owner, parts.same_clock);
        loader.account.clocks(parts.same_clock);
        Ok(Receiving {
            loader,
            link,
            connections: parts.data,
            channels: Vec::new(),
            headers: VecDeque::new(),
            overlaps: false,
            lines,
            session: ReceiverSession::new(now),
            busy: parts.busy,
            pool_max: parts.pool_max,
            estimate: None,
            checksum: Checksum::None,
            refused: false,
        })
    }

    pub(super) fn account(&mut self) -> &mut ReportBuilder {
        &mut self.loader.account
    }

    fn hear_offer(&mut self) -> Result<Offer, Error> {
        self.enter(Phase::Settings);
        loop {
            if let Some(offer) = self.session.take_offer() {
                return Ok(offer);
            }
            self.turn()?;
        }
    }

    /// Accepts the offer, and makes a pool as large as the sender's.
    fn agree(&mut self, offer: &Offer) -> Result<(), Error> {
        let devices: Vec<_> =
            self.loader.writers.iter().map(|writer| (writer.name.clone(), writer.instance)).collect();
        let terms = Terms { devices: &devices, pool_max: self.pool_max };
        let order = agree(offer, &terms).map_err(|reason| self.refuse(reason))?;
        let slots = Pool::slots_in(offer.pool_size, slot_size(offer.packet_size));
        let Some(window) = window(slots as usize, offer.devices.len()) else {
            let text =
                format!("a pool of {} bytes holds {slots} packets, fewer than devices", offer.pool_size);
            return Err(self.refuse(Refusal::Settings { text: text.into() }));
        };
        let pool =
            Pool::new(slots, slot_size(offer.packet_size)).map_err(|error| self.not_ready(error.into()))?;
        self.loader.account.pool(&pool, self.loader.ring.register(&pool).err());
        self.loader.account.packet_size(offer.packet_size, offer.checksum);
        self.loader.pool = Some(pool);
        sort(&mut self.loader.writers, &order);
        let known = offer.devices.iter().map(|device| (device.estimate > 0).then_some(device.estimate));
        self.estimate = known.sum();
        self.checksum = offer.checksum;
        self.session.accept(offer, window);
        self.headers.reserve(self.connections.len());
        for (channel, connection) in self.connections.drain(..).enumerate() {
            let line = self.lines.take().expect("there is a line for each channel");
            let mut rx =
                Rx::new(connection, Operation::Packet { channel }.tag(), line, Native(offer.checksum));
            rx.begin(&mut self.loader.ring);
            self.channels.push(rx);
        }
        self.loader.account.started_at = self.loader.ring.now();
        Ok(())
    }

    fn refuse(&mut self, reason: Refusal) -> Error {
        self.session.refuse(&reason);
        self.refused = true;
        Error::Refused { by: Side::Receiver, reason }
    }

    /// Tells the sender that it cannot be; the owner hears the reason itself.
    fn not_ready(&mut self, error: Error) -> Error {
        self.session.refuse(&Refusal::NotReady { text: error.to_string().into() });
        self.refused = true;
        error
    }

    fn prepare(&mut self) -> Result<(), Error> {
        self.every(|sink| sink.prepare().map(|()| StepOutput::Nothing)).map_err(|error| match error {
            error @ (Error::Device { .. } | Error::Kernel(_)) => self.not_ready(error),
            other => other,
        })?;
        self.overlaps = self.loader.open();
        self.session.ready();
        Ok(())
    }

    /// Until every device has everything.
    fn load(&mut self) -> Result<(), Error> {
        let mut phase = Phase::Settings;
        while !self.session.is_loaded() {
            self.turn()?;
            let now = if self.session.switched_over().is_some() { Phase::StopCopy } else { Phase::PreCopy };
            if phase != now
                && (now == Phase::StopCopy || self.loader.writers.iter().any(|writer| writer.written > 0))
            {
                phase = now;
                self.enter(phase);
            }
        }
        let now = self.loader.ring.now();
        self.loader.owner.hasten();
        self.loader.tell_progress(now, self.estimate);
        self.loader.account.loaded(now);
        Ok(())
    }

    fn await_commit(&mut self) -> Result<(), Error> {
        self.enter(Phase::Loading);
        while !self.session.is_committed() {
            self.turn()?;
        }
        Ok(())
    }

    /// The devices are ours: lets them run.
    fn let_run(&mut self) -> Result<(), Error> {
        self.enter(Phase::Commit);
        self.wake_and_run()?;
        self.session.committed();
        self.loader.account.committed(self.loader.ring.now());
        Ok(())
    }

    fn enter(&mut self, phase: Phase) {
        self.session.enter(phase, self.loader.ring.now());
        self.loader.owner.tell(&Event::Phase(phase));
    }

    /// Receives one of the payloads whose headers came.
    fn begin_payload(&mut self) -> Result<(), Error> {
        let Some((channel, header)) = self.headers.pop_front() else { return Ok(()) };
        let slot = self.loader.take();
        let event = self.channels[channel].accept(&mut self.loader.ring, header, slot);
        self.on_rx(channel, event)
    }

    fn next_deadline(&self, now: Nanos) -> Nanos {
        if !self.headers.is_empty() {
            return now;
        }
        // after commit a peer that is gone is told nothing, and not waited for
        if self.link.is_closed() && self.session.is_committed() {
            return now + nanos(HEARTBEAT_INTERVAL);
        }
        self.session.next_deadline()
    }

    fn on_completion(&mut self, completion: Completion) -> Result<(), Error> {
        match completion {
            Completion::Moved { tag, slot, result } => match Operation::of(tag) {
                Operation::DeviceState { device } => {
                    self.loader.on_write_end(&mut self.session, device, slot, result)
                }
                Operation::Packet { channel } => {
                    let event = self.channels[channel].on_received(&mut self.loader.ring, slot, result);
                    self.on_rx(channel, event)
                }
                _ => self.on_heard(slot, result),
            },
            Completion::Sent { lease, result, .. } => {
                self.link.on_sent(&mut self.loader.ring, lease, result, self.session.phase())
            }
            Completion::Released { .. } => Ok(()),
            Completion::Done { tag } => {
                let Operation::DeviceStep { device } = Operation::of(tag) else { return Ok(()) };
                self.loader.on_step_end(&mut self.session, device)
            }
        }
    }

    fn on_heard(&mut self, line: Slot, result: Result<usize, Errno>) -> Result<(), Error> {
        let (now, session) = (self.loader.ring.now(), &mut self.session);
        let phase = session.phase();
        self.link.on_received(&mut self.loader.ring, line, result, phase, |message| {
            session.on_control(message, now)
        })?;
        if let Some(at) = self.session.switched_over() {
            self.loader.account.switchover(at);
        }
        Ok(())
    }

    fn on_rx(&mut self, channel: usize, event: RxEvent<DataHeader>) -> Result<(), Error> {
        let place = Place::Channel(u16::try_from(channel).unwrap_or(u16::MAX));
        let now = self.loader.ring.now();
        let phase = self.session.phase();
        match event {
            RxEvent::Pending => Ok(()),
            RxEvent::Header(header) => {
                self.session.on_header(&header, place)?;
                self.headers.push_back((channel, header));
                // Where this thread writes, it receives one payload after the other, so that each is written while it is in
                // the cache. Else everything may go on at once.
                if self.overlaps { self.begin_payload() } else { Ok(()) }
            }
            RxEvent::Packet { header, slot, crc32c } => {
                self.session.on_packet(header, slot, crc32c, place, now).map_err(|(error, slot)| {
                    self.loader.put(slot);
                    error.into()
                })
            }
            // a connection that has nothing more to bring may end
            RxEvent::Closed if self.session.is_loaded() || self.session.is_committed() => Ok(()),
            RxEvent::Closed | RxEvent::Cut => Err(PeerError::Closed { place, phase }.into()),
            RxEvent::Failed(errno) => Err(PeerError::Lost { place, phase, errno }.into()),
            RxEvent::Malformed(what) => Err(PeerError::Malformed { place, what }.into()),
        }
    }
}

impl<R: Ring> Loading for Receiving<R> {
    fn loader(&mut self) -> &mut Loader<R> {
        &mut self.loader
    }

    fn is_committed(&self) -> bool {
        self.session.is_committed()
    }

    fn transfer(&mut self) -> Result<(), Error> {
        let offer = self.hear_offer()?;
        self.agree(&offer)?;
        self.prepare()?;
        self.load()?;
        self.await_commit()?;
        self.let_run()
    }

    fn conclude(self, result: Result<(), Error>) -> Finished {
        self.end(result)
    }

    fn turn(&mut self) -> Result<(), Error> {
        let now = self.loader.ring.now();
        if !self.session.is_committed() {
            self.loader.owner.check(now)?;
        }
        self.session.check(now)?;
        self.begin_payload()?;
        self.loader.begin_writes(&mut self.session)?;
        self.link.send(&mut self.loader.ring, || self.session.poll_control(now));
        self.loader.tell_progress(now, self.estimate);
        self.loader.ring.wait(Some(self.next_deadline(now)))?;
        while let Some(completion) = self.loader.ring.next() {
            self.on_completion(completion)?;
            // at once: the packet's bytes are in this processor's cache now
            self.loader.begin_writes(&mut self.session)?;
        }
        Ok(())
    }
}

/// Puts `items` into the order that `order` names: `order[k]` is where the new k-th is now.
fn sort<T>(items: &mut Vec<T>, order: &[usize]) {
    let mut old: Vec<Option<T>> = items.drain(..).map(Some).collect();
    items.extend(order.iter().filter_map(|&at| old.get_mut(at).and_then(Option::take)));
}

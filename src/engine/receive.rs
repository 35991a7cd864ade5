//! The receiver's worker: receives packets into slots, writes them into devices in order, keeps the session.
//!
//! [`Receiving::transfer`] reads as the list of phases, the mirror image of the sender's. However it ends,
//! [`Receiving::conclude`] leaves each device either running what was loaded, or reset.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::account::Account;
use super::carrier;
use super::duty::Duty;
use super::link::{self, Link};
use super::owner::{Event, Owner, Phase};
use super::send::slot_size;
use super::step::{Held, StepResult, Yield};
use super::{Finished, Outcome};
use crate::buffer::{Pool, Slot};
use crate::channel::{Rx, RxEvent};
use crate::error::{DeviceError, Errno, Error, KernelError, PeerError, Place, Refusal, Side};
use crate::limits::{HEADER_ROOM, LAST_WORD_MAX, LINGER_MAX, REASON_PATIENCE, SETTLE_MAX};
use crate::ring::{Carrier, Completion, Directions, Nanos, Ring};
use crate::session::liveness::nanos;
use crate::session::receiver::{Arrived, ReceiverSession, Terms, agree};
use crate::sink::{FdKind, Sink};
use crate::stats::{Recorder, Stage};
use crate::wire::{Checksum, Control, Offer};

/// A device at the destination.
pub(super) struct Device {
    pub(super) name: Box<str>,
    pub(super) instance: u32,
    pub(super) sink: Box<dyn Sink>,
}

/// What the receiver does with a device at the moment.
#[derive(Debug)]
enum Writing {
    /// Waiting for the next packet.
    Idle,
    /// A packet is being written: where it goes on, and since when.
    UnderWay { packet: DataOnTheWay, at: usize },
    /// The config state is being applied, and everything made sure of.
    Config { packet: DataOnTheWay },
    /// It has everything.
    Loaded,
}

#[derive(Debug, Clone, Copy)]
struct DataOnTheWay {
    len: usize,
    read_at: Nanos,
    began_at: Nanos,
}

struct Writer {
    name: Box<str>,
    instance: u32,
    held: Held<dyn Sink>,
    writing: Writing,
    fd: Option<(RawFd, Carrier)>,
    /// Bytes that it took.
    written: u64,
}

/// What the worker is made of.
pub(super) struct Parts {
    pub(super) control: OwnedFd,
    pub(super) data: Vec<OwnedFd>,
    pub(super) devices: Vec<Device>,
    pub(super) pool_max: u64,
    pub(super) same_clock: bool,
    pub(super) owner: Owner,
}

/// The receiver's worker.
pub(super) struct Receiving<R: Ring> {
    // in the order in which they are dropped: operations end (ring) before anything that they use goes
    ring: R,
    link: Link,
    /// Data connections that wait for the agreement on settings.
    sockets: Vec<OwnedFd>,
    channels: Vec<Rx>,
    /// In the order of the offer, once there is one.
    writers: Vec<Writer>,
    lines: Pool,
    /// Made when the settings say how large.
    pool: Option<Pool>,
    session: ReceiverSession<Slot>,
    recorder: Recorder,
    owner: Owner,
    pool_max: u64,
    estimate: Option<u64>,
    checksum: Checksum,
    same_clock: bool,
    /// The last word is a refusal, and in the session already.
    refused: bool,
    account: Account,
}

impl<R: Ring> Receiving<R> {
    pub(super) fn new(mut ring: R, parts: Parts) -> Result<Receiving<R>, KernelError> {
        let now = ring.now();
        let mut lines = link::lines(parts.data.len())?;
        let link = Link::new(&mut ring, parts.control, &mut lines);
        let mut account = Account::new(now, parts.devices.len());
        account.clocks(parts.same_clock);
        Ok(Receiving {
            ring,
            link,
            sockets: parts.data,
            channels: Vec::new(),
            writers: parts.devices.into_iter().map(Writer::new).collect(),
            lines,
            pool: None,
            session: ReceiverSession::new(now),
            recorder: Recorder::default(),
            owner: parts.owner,
            pool_max: parts.pool_max,
            estimate: None,
            checksum: Checksum::None,
            same_clock: parts.same_clock,
            refused: false,
            account,
        })
    }

    pub(super) fn account(&mut self) -> &mut Account {
        &mut self.account
    }

    /// Runs the transfer to whatever end.
    pub(super) fn run(mut self) -> Finished {
        let result = self.transfer();
        self.conclude(result)
    }

    fn transfer(&mut self) -> Result<(), Error> {
        let offer = self.hear_offer()?;
        self.agree(&offer)?;
        self.prepare()?;
        self.load()?;
        self.await_commit()?;
        self.let_run()
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
            self.writers.iter().map(|writer| (writer.name.clone(), writer.instance)).collect();
        let terms = Terms { devices: &devices, pool_max: self.pool_max };
        let order = agree(offer, &terms).map_err(|reason| self.refuse(reason))?;
        let slots = Pool::slots_in(offer.pool_size, slot_size(offer.packet_size));
        let window = slots as usize / offer.devices.len();
        if window == 0 {
            let text =
                format!("a pool of {} bytes holds {slots} packets, fewer than devices", offer.pool_size);
            return Err(self.refuse(Refusal::Settings { text: text.into() }));
        }
        let pool =
            Pool::new(slots, slot_size(offer.packet_size)).map_err(|error| self.not_ready(error.into()))?;
        self.account.pool(&pool, self.ring.register(&pool).err());
        self.account.packet_size(offer.packet_size, offer.checksum);
        self.pool = Some(pool);
        sort(&mut self.writers, &order);
        let known = offer.devices.iter().map(|device| (device.estimate > 0).then_some(device.estimate));
        self.estimate = known.sum();
        self.checksum = offer.checksum;
        self.session.accept(offer, window);
        for (channel, socket) in self.sockets.drain(..).enumerate() {
            let line = self.lines.take().expect("there is a line for each channel");
            let mut rx = Rx::new(socket, Duty::Packet { channel }.tag(), line, offer.checksum);
            rx.begin(&mut self.ring);
            self.channels.push(rx);
        }
        self.account.started_at = self.ring.now();
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
        self.every(|sink| sink.prepare().map(|()| Yield::Nothing)).map_err(|error| match error {
            error @ (Error::Device { .. } | Error::Kernel(_)) => self.not_ready(error),
            other => other,
        })?;
        self.writers.iter_mut().for_each(Writer::open);
        self.session.ready();
        Ok(())
    }

    /// Until every device has everything.
    fn load(&mut self) -> Result<(), Error> {
        self.enter(Phase::StopCopy);
        while !self.session.is_loaded() {
            self.turn()?;
        }
        self.account.loaded(self.ring.now());
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
        self.every(|sink| sink.wake().map(|()| Yield::Nothing))?;
        self.every(|sink| sink.run().map(|()| Yield::Nothing))?;
        self.session.committed();
        self.account.committed(self.ring.now());
        Ok(())
    }

    fn enter(&mut self, phase: Phase) {
        self.session.enter(phase.during(), self.ring.now());
        self.owner.tell(&Event::Phase(phase));
    }

    /// Runs one step of every device, in parallel, and waits for all of them. After Commit nothing interrupts it: the
    /// devices are ours, whatever happens to the peer.
    fn every(&mut self, step: fn(&mut (dyn Sink + 'static)) -> StepResult) -> Result<(), Error> {
        for (device, writer) in self.writers.iter_mut().enumerate() {
            writer.held.begin(&mut self.ring, Duty::Step { device }.tag(), step);
        }
        while self.writers.iter().any(|writer| writer.held.is_away()) {
            let turned = self.turn();
            if !self.session.is_committed() {
                turned?;
            }
        }
        for writer in &mut self.writers {
            let result = writer.held.take_result().unwrap_or(Err(DeviceError::Panicked));
            result.map_err(|error| Error::Device { device: writer.name.clone(), error })?;
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
        self.begin_writes()?;
        self.link.speak(&mut self.ring, || self.session.poll_control(now));
        self.tell_progress(now);
        let wishes = self.owner.deadline.unwrap_or(Nanos::MAX);
        self.ring.wait(Some(self.session.next_deadline().min(wishes)))?;
        while let Some(completion) = self.ring.next() {
            self.on_completion(completion)?;
        }
        Ok(())
    }

    fn tell_progress(&mut self, now: Nanos) {
        let (writers, estimate) = (&self.writers, self.estimate);
        self.owner.progress(now, self.account.started_at, || {
            (writers.iter().map(|writer| writer.written).sum(), estimate)
        });
    }

    /// Gives each idle device the packet whose turn it is.
    fn begin_writes(&mut self) -> Result<(), Error> {
        if self.pool.is_none() {
            return Ok(());
        }
        for device in 0..self.writers.len() {
            while matches!(self.writers[device].writing, Writing::Idle) {
                let Some(packet) = self.session.pop(device) else { break };
                self.begin_write(device, packet)?;
            }
        }
        Ok(())
    }

    fn begin_write(&mut self, device: usize, packet: Arrived<Slot>) -> Result<(), Error> {
        let now = self.ring.now();
        self.recorder.record(Stage::Reorder, packet.arrived_at, now);
        let (header, slot) = (packet.header, packet.handle);
        let len = header.len as usize;
        let packet = DataOnTheWay { len, read_at: header.read_at_ns, began_at: now };
        let writer = &mut self.writers[device];
        if header.config {
            writer.writing = Writing::Config { packet };
            writer.held.begin(&mut self.ring, Duty::Step { device }.tag(), move |sink| {
                sink.config(slot.payload(len))?;
                sink.seal()?;
                Ok(Yield::Slot(slot, len))
            });
            return Ok(());
        }
        writer.writing = Writing::UnderWay { packet, at: 0 };
        if writer.fd.is_some() {
            self.go_on(device, slot, packet, 0);
            return Ok(());
        }
        let sink = writer.held.device().expect("no step is under way before the config state");
        let mut at = 0;
        while at < len {
            let taken = match sink.drain(&slot.payload(len)[at..]) {
                Ok(0) => Err(DeviceError::Full { offset: writer.written + at as u64 }),
                other => other,
            };
            at += taken.map_err(|error| Error::Device { device: writer.name.clone(), error })?;
        }
        self.on_written(device, slot, packet);
        Ok(())
    }

    fn go_on(&mut self, device: usize, slot: Slot, packet: DataOnTheWay, at: usize) {
        let writer = &mut self.writers[device];
        writer.writing = Writing::UnderWay { packet, at };
        let (fd, carrier) = writer.fd.expect("only devices with a descriptor are written by the ring");
        self.ring.write(
            Duty::State { device }.tag(),
            fd,
            slot,
            HEADER_ROOM + at..HEADER_ROOM + packet.len,
            carrier,
        );
    }

    fn on_completion(&mut self, completion: Completion) -> Result<(), Error> {
        match completion {
            Completion::Moved { tag, slot, result } => match Duty::of(tag) {
                Duty::State { device } => self.on_write_end(device, slot, result),
                Duty::Packet { channel } => {
                    let event = self.channels[channel].on_received(&mut self.ring, slot, result);
                    self.on_rx(channel, event)
                }
                _ => self.on_heard(slot, result),
            },
            Completion::Sent { lease, result, .. } => {
                self.link.on_spoken(&mut self.ring, lease, result, self.session.phase())
            }
            Completion::Released { .. } => Ok(()),
            Completion::Done { tag } => {
                let Duty::Step { device } = Duty::of(tag) else { return Ok(()) };
                self.on_step_end(device)
            }
        }
    }

    fn on_heard(&mut self, line: Slot, result: Result<usize, Errno>) -> Result<(), Error> {
        let (now, session) = (self.ring.now(), &mut self.session);
        let phase = session.phase();
        self.link
            .on_heard(&mut self.ring, line, result, phase, |message| session.on_control(message, now))?;
        if let Some(at) = self.session.switched_over() {
            self.account.switchover(at);
        }
        Ok(())
    }

    fn on_rx(&mut self, channel: usize, mut event: RxEvent) -> Result<(), Error> {
        let place = Place::Channel(u16::try_from(channel).unwrap_or(u16::MAX));
        if let RxEvent::Header(header) = event {
            self.session.on_header(&header, place)?;
            let slot =
                self.pool.as_mut().and_then(Pool::take).expect("credit is granted for reserved slots only");
            event = self.channels[channel].accept(&mut self.ring, header, slot);
        }
        let now = self.ring.now();
        let phase = self.session.phase();
        match event {
            RxEvent::Pending | RxEvent::Header(_) => Ok(()),
            RxEvent::Packet { header, slot, crc32c } => {
                self.session.on_packet(header, slot, crc32c, place, now).map_err(|(error, slot)| {
                    self.put(slot);
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

    fn on_write_end(&mut self, device: usize, slot: Slot, result: Result<usize, Errno>) -> Result<(), Error> {
        let Writing::UnderWay { packet, at } = self.writers[device].writing else { return Ok(()) };
        let errno = match result {
            Ok(0) => Errno::from_raw(nix::libc::ENOSPC),
            Ok(written) if at + written < packet.len => {
                self.go_on(device, slot, packet, at + written);
                return Ok(());
            }
            Ok(_) => {
                self.on_written(device, slot, packet);
                return Ok(());
            }
            Err(errno) if matches!(errno.raw(), nix::libc::EINTR | nix::libc::EAGAIN) => {
                self.go_on(device, slot, packet, at);
                return Ok(());
            }
            Err(errno) => errno,
        };
        self.put(slot);
        let writer = &mut self.writers[device];
        writer.writing = Writing::Idle;
        let error = DeviceError::Io { operation: "writing its state", errno };
        Err(Error::Device { device: writer.name.clone(), error })
    }

    /// A packet is in its device: its slot is free, and the sender may hear of it.
    fn on_written(&mut self, device: usize, slot: Slot, packet: DataOnTheWay) {
        let now = self.ring.now();
        self.put(slot);
        self.session.written(device, now);
        let writer = &mut self.writers[device];
        writer.writing = Writing::Idle;
        writer.written += packet.len as u64;
        self.recorder.record(Stage::Write, packet.began_at, now);
        if self.same_clock {
            self.recorder.record(Stage::EndToEnd, packet.read_at, now);
        }
        self.account.transferred(now);
    }

    fn put(&mut self, slot: Slot) {
        self.pool.as_mut().expect("a slot comes from the pool").put(slot);
    }

    fn on_step_end(&mut self, device: usize) -> Result<(), Error> {
        let writer = &mut self.writers[device];
        writer.held.end();
        let Writing::Config { packet } = writer.writing else { return Ok(()) };
        let result = writer.held.take_result().unwrap_or(Err(DeviceError::Panicked));
        let given = result.map_err(|error| Error::Device { device: writer.name.clone(), error })?;
        if let Yield::Slot(slot, _) = given {
            self.on_written(device, slot, packet);
        }
        self.writers[device].writing = Writing::Loaded;
        self.session.loaded(device);
        Ok(())
    }

    /// Tells the peer, and leaves every device running what was loaded, or reset.
    fn conclude(mut self, result: Result<(), Error>) -> Finished {
        let error = result.err().map(|error| self.hear_reason(error));
        let outcome = self.session.outcome();
        if let Some(error) = &error {
            self.owner.tell(&Event::Phase(Phase::RollingBack));
            if self.session.is_committed() {
                // The sender has given the devices away. It may take them back only if it can be sure that none of them
                // runs here, so they are reset before a word is said.
                if self.roll_back() {
                    self.say_last_word(error);
                }
            } else {
                self.say_last_word(error);
                self.roll_back();
            }
        }
        self.take_leave();
        self.owner.tell(&Event::Phase(Phase::Done));
        self.report(outcome, error)
    }

    /// A data connection that fails is often the second sign of a failure whose reason is on the control connection.
    fn hear_reason(&mut self, error: Error) -> Error {
        let is_sign = matches!(&error, Error::Peer(error) if error.is_sign());
        let end = self.ring.now() + nanos(REASON_PATIENCE);
        while is_sign && !self.link.is_closed() && self.ring.now() < end {
            if self.ring.wait(Some(end)).is_err() {
                break;
            }
            while let Some(completion) = self.ring.next() {
                match self.on_completion(completion) {
                    Err(Error::Peer(reason)) if reason.is_last_word() => return reason.into(),
                    Ok(()) | Err(_) => {}
                }
            }
        }
        error
    }

    fn say_last_word(&mut self, error: &Error) {
        match error {
            Error::Peer(error) if error.is_last_word() => return,
            _ if self.refused => {}
            Error::Cancelled => self.session.say_last(Control::Cancel),
            other => {
                let text = other.to_string().into();
                self.session.say_last(Control::Abort { code: other.abort_code(), text });
            }
        }
        self.speak_out();
    }

    /// Hands everything that is to be said to the connection.
    fn speak_out(&mut self) {
        let end = self.ring.now() + nanos(LAST_WORD_MAX);
        while !self.link.is_closed()
            && self.ring.now() < end
            && !(self.session.has_spoken() && self.link.has_spoken())
        {
            let now = self.ring.now();
            self.link.speak(&mut self.ring, || self.session.poll_control(now));
            if self.ring.wait(Some(end)).is_err() {
                return;
            }
            self.drain();
        }
    }

    /// Takes completions when errors do not matter any more.
    fn drain(&mut self) {
        while let Some(completion) = self.ring.next() {
            let _ = self.on_completion(completion);
        }
    }

    /// Resets every device. True when all of them are.
    fn roll_back(&mut self) -> bool {
        let end = self.ring.now() + nanos(SETTLE_MAX);
        let under_way = |writer: &Writer| matches!(writer.writing, Writing::UnderWay { .. });
        for (device, _) in self.writers.iter().enumerate().filter(|(_, writer)| under_way(writer)) {
            self.ring.cancel(Duty::State { device }.tag());
        }
        let busy = |writer: &Writer| {
            writer.held.is_away()
                || (writer.fd.is_some() && matches!(writer.writing, Writing::UnderWay { .. }))
        };
        while self.writers.iter().any(busy) && self.ring.now() < end && self.ring.wait(Some(end)).is_ok() {
            self.drain();
        }
        for (device, writer) in
            self.writers.iter_mut().enumerate().filter(|(_, writer)| !writer.held.is_away())
        {
            writer.held.take_result();
            let step = |sink: &mut (dyn Sink + 'static)| sink.rollback().map(|()| Yield::Nothing);
            writer.held.begin(&mut self.ring, Duty::Step { device }.tag(), step);
        }
        while self.writers.iter().any(|writer| writer.held.is_away()) && self.ring.now() < end {
            if self.ring.wait(Some(end)).is_err() {
                break;
            }
            while let Some(completion) = self.ring.next() {
                match completion {
                    Completion::Done { tag } => {
                        let Duty::Step { device } = Duty::of(tag) else { continue };
                        self.writers[device].held.end();
                    }
                    other => drop(self.on_completion(other)),
                }
            }
        }
        let mut all = true;
        for writer in &mut self.writers {
            let result = writer.held.take_result().unwrap_or(Err(DeviceError::Stuck));
            all &= result.is_ok();
            self.account.parted(&writer.name, result.err());
            let keeps = writer.held.device().is_some_and(|sink| sink.keeps_written());
            self.account.kept(&writer.name, keeps && writer.written > 0);
        }
        all
    }

    fn stop_receiving(&mut self) {
        for channel in &self.channels {
            self.ring.shut_down(channel.socket().as_raw_fd(), Directions::Both);
        }
    }

    /// Says no more, and waits a little for the peer to close: a connection that is closed with bytes unread is reset, and
    /// the last word with it.
    fn take_leave(&mut self) {
        self.speak_out();
        self.link.say_goodbye(&mut self.ring);
        let end = self.ring.now() + nanos(LINGER_MAX);
        while !self.link.is_closed() && self.ring.now() < end && self.ring.wait(Some(end)).is_ok() {
            self.drain();
        }
        self.stop_receiving();
        self.link.shut_down(&mut self.ring);
    }

    fn report(mut self, outcome: Outcome, error: Option<Error>) -> Finished {
        let now = self.ring.now();
        if self.pool.is_some() {
            for (device, writer) in self.writers.iter().enumerate() {
                let totals = self.session.totals(device);
                self.account.device(&writer.name, writer.instance, totals, 0, self.checksum);
            }
        }
        self.channels.iter().for_each(|channel| self.account.rx(channel));
        self.account.finish("receiver", outcome, error, self.recorder, now)
    }
}

impl Writer {
    fn new(device: Device) -> Writer {
        Writer {
            name: device.name,
            instance: device.instance,
            held: Held::new(device.sink),
            writing: Writing::Idle,
            fd: None,
            written: 0,
        }
    }

    /// Looks where its state is to be written.
    fn open(&mut self) {
        let sink = self.held.device().expect("no step is under way between phases");
        let carrier = |kind: FdKind| carrier::choose(kind, carrier::cpus());
        self.fd = sink.fd().map(|(fd, kind)| (fd.as_raw_fd(), carrier(kind)));
    }
}

/// Puts `items` into the order that `order` names: `order[k]` is where the new k-th is now.
fn sort<T>(items: &mut Vec<T>, order: &[usize]) {
    let mut old: Vec<Option<T>> = items.drain(..).map(Some).collect();
    items.extend(order.iter().filter_map(|&at| old.get_mut(at).and_then(Option::take)));
}

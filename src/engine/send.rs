//! The sender's worker: reads devices into slots, hands packets to channels, keeps the session.
//!
//! [`Sending::transfer`] reads as the list of phases. Each phase is a loop over [`Sending::turn`], and every turn looks at
//! the owner's wishes, at the peer and at the clock. However it ends, [`Sending::conclude`] brings each device to where the
//! hand-over says that it belongs.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::account::Account;
use super::carrier;
use super::duty::Duty;
use super::link::{self, Link};
use super::owner::{Event, Owner, Phase};
use super::step::{Held, StepResult, Yield};
use super::{Finished, Outcome, ZeroCopy};
use crate::buffer::{Pool, Slot};
use crate::channel::{Tx, TxEvent};
use crate::error::{DeviceError, Errno, Error, KernelError, PeerError, Place};
use crate::limits::{
    CONFIG_SIZE_MAX, HEADER_ROOM, LAST_WORD_MAX, LINGER_MAX, PRECOPY_FACTOR_MAX, PRECOPY_POLL,
    PRECOPY_TIME_MAX, REASON_PATIENCE, SETTLE_MAX,
};
use crate::ring::{Carrier, Completion, Directions, Nanos, Ring};
use crate::session::liveness::nanos;
use crate::session::schedule::least_loaded;
use crate::session::sender::SenderSession;
use crate::source::{FdKind, Flow, Source};
use crate::stats::{Recorder, Stage};
use crate::wire::{self, Checksum, Control, Offer};

/// Packets of one device that may wait for a channel: enough that no channel waits for a read, few enough that their
/// bytes are still in the cache when they are sent.
const READ_AHEAD: usize = 2;

/// A device at the source.
pub(super) struct Device {
    pub(super) name: Box<str>,
    pub(super) instance: u32,
    pub(super) source: Box<dyn Source>,
}

/// What the sender does with a device at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Nothing.
    Idle,
    /// The next bytes are wanted.
    Wanted,
    /// A read is under way.
    UnderWay,
    /// Pre-copy had nothing new; it is asked again at that time.
    Quiet { until: Nanos },
    /// Read to its end; the config state comes next.
    Drained,
    /// The config state is being read, or was.
    Config,
}

struct Reader {
    name: Box<str>,
    instance: u32,
    held: Held<dyn Source>,
    estimate: Option<u64>,
    reading: Reading,
    fd: Option<(RawFd, Carrier)>,
    flow: Flow,
    /// Pre-copy of this device is as good as done.
    converged: bool,
    precopy_bytes: u64,
    read_at: Nanos,
}

/// What the worker is made of.
pub(super) struct Parts {
    pub(super) control: OwnedFd,
    pub(super) data: Vec<OwnedFd>,
    pub(super) devices: Vec<Device>,
    pub(super) packet_size: u32,
    pub(super) pool_size: u64,
    pub(super) checksum: Checksum,
    pub(super) zero_copy: ZeroCopy,
    pub(super) before_switchover: Option<Box<dyn FnOnce() + Send>>,
    pub(super) owner: Owner,
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
    owner: Owner,
    before_switchover: Option<Box<dyn FnOnce() + Send>>,
    packet_size: u32,
    checksum: Checksum,
    /// Devices still run: a read of nothing means "nothing now" and not "the end".
    flowing: bool,
    /// No read begins.
    paused: bool,
    next_reader: usize,
    account: Account,
}

impl<R: Ring> Sending<R> {
    pub(super) fn new(mut ring: R, parts: Parts) -> Result<Sending<R>, KernelError> {
        let now = ring.now();
        let slot_size = slot_size(parts.packet_size);
        let slots = Pool::slots_in(parts.pool_size, slot_size);
        let pool = Pool::new(slots, slot_size)?;
        let mut lines = link::lines(0)?;
        let mut account = Account::new(now, parts.devices.len());
        account.pool(&pool, ring.register(&pool).err());
        account.zero_copy(parts.zero_copy, ring.can_zero_copy());
        let zero_copy = if ring.can_zero_copy() { parts.zero_copy } else { ZeroCopy::Off };
        let link = Link::new(&mut ring, parts.control, &mut lines);
        let channel =
            |(channel, socket)| Tx::new(socket, Duty::Packet { channel }.tag(), zero_copy, pool.total());
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

    pub(super) fn account(&mut self) -> &mut Account {
        &mut self.account
    }

    /// Runs the transfer to whatever end.
    pub(super) fn run(mut self) -> Finished {
        let result = self.transfer();
        self.conclude(result)
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
            |source| source.start().map(Yield::Flow),
            |reader, given| {
                if let Yield::Flow(flow) = given {
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
        self.every(|source| source.quiesce().map(|()| Yield::Nothing), |_, _| {})?;
        self.every(|source| source.stop().map(|()| Yield::Nothing), |_, _| {})?;
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
        self.account.transferred(self.ring.now());
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
        self.session.enter(phase.during(), self.ring.now());
        self.owner.tell(&Event::Phase(phase));
    }

    /// Runs one step of every device, in parallel, and waits for all of them.
    fn every(
        &mut self,
        step: fn(&mut (dyn Source + 'static)) -> StepResult,
        mut take: impl FnMut(&mut Reader, Yield),
    ) -> Result<(), Error> {
        for (device, reader) in self.readers.iter_mut().enumerate() {
            reader.held.begin(&mut self.ring, Duty::Step { device }.tag(), step);
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
        // what a source gave at once has no completion to wait for
        while self.begin_reads()? {
            self.send_packets();
        }
        self.link.speak(&mut self.ring, || self.session.poll_control(now));
        self.tell_progress(now);
        self.ring.wait(Some(self.next_deadline()))?;
        while let Some(completion) = self.ring.next() {
            self.on_completion(completion)?;
        }
        Ok(())
    }

    fn next_deadline(&self) -> Nanos {
        let quiet = |reader: &Reader| match reader.reading {
            Reading::Quiet { until } => Some(until),
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

    /// Begins a read on every device that wants one and has room. True when a packet came at once.
    fn begin_reads(&mut self) -> Result<bool, Error> {
        if self.paused {
            return Ok(false);
        }
        let now = self.ring.now();
        let count = self.readers.len();
        let (mut starved, mut came) = (false, false);
        let first = self.next_reader;
        for device in (0..count).map(|step| (first + step) % count) {
            if matches!(self.readers[device].reading, Reading::Quiet { until } if now >= until) {
                self.readers[device].reading = Reading::Wanted;
            }
            match self.readers[device].reading {
                Reading::Wanted if self.has_use_for(device) => match self.pool.take() {
                    Some(slot) => came |= self.begin_read(device, slot)?,
                    None => starved = true,
                },
                Reading::Drained => match self.pool.take() {
                    Some(slot) => self.begin_config(device, slot),
                    None => starved = true,
                },
                _ => {}
            }
        }
        self.next_reader = (self.next_reader + 1) % count;
        self.recorder.see_pool_stall(starved, now);
        Ok(came)
    }

    /// Whether a device should be read now. The ring reads ahead; what this thread reads itself is read when a channel can
    /// take it, so that its bytes are in the cache when they are sent.
    fn has_use_for(&self, device: usize) -> bool {
        let queued = self.session.queued(device);
        if matches!(self.readers[device].fd, Some((_, Carrier::Ring))) {
            return queued < READ_AHEAD;
        }
        let idle = self.channels.iter().filter(|channel| channel.is_idle()).count();
        queued == 0 && self.session.queued_packets() < idle
    }

    /// True when the packet came at once.
    fn begin_read(&mut self, device: usize, mut slot: Slot) -> Result<bool, Error> {
        let size = self.packet_size as usize;
        let reader = &mut self.readers[device];
        reader.read_at = self.ring.now();
        reader.reading = Reading::UnderWay;
        if let Some((fd, carrier)) = reader.fd {
            let tag = Duty::State { device }.tag();
            self.ring.read(tag, fd, slot, HEADER_ROOM..HEADER_ROOM + size, carrier);
            return Ok(false);
        }
        let source = reader.held.device().expect("no step is under way while a device is read");
        let filled = source.fill(&mut slot.payload_mut()[..size]);
        let read = filled.map_err(|error| Error::Device { device: reader.name.clone(), error })?;
        self.on_read(device, slot, read.min(size));
        Ok(true)
    }

    fn begin_config(&mut self, device: usize, mut slot: Slot) {
        let reader = &mut self.readers[device];
        reader.reading = Reading::Config;
        reader.read_at = self.ring.now();
        reader.held.begin(&mut self.ring, Duty::Step { device }.tag(), move |source| {
            let len = source.config(&mut slot.payload_mut()[..CONFIG_SIZE_MAX])?;
            Ok(Yield::Slot(slot, len.min(CONFIG_SIZE_MAX)))
        });
    }

    fn on_completion(&mut self, completion: Completion) -> Result<(), Error> {
        match completion {
            Completion::Moved { tag, slot, result } => match Duty::of(tag) {
                Duty::State { device } => self.on_read_end(device, slot, result),
                _ => self.on_heard(slot, result),
            },
            Completion::Sent { tag, lease, result } => match Duty::of(tag) {
                Duty::Packet { channel } => {
                    let event = self.channels[channel].on_sent(&mut self.ring, lease, result);
                    self.on_tx(channel, event)
                }
                _ => self.link.on_spoken(&mut self.ring, lease, result, self.session.phase()),
            },
            Completion::Released { tag, lease, copied } => {
                let Duty::Packet { channel } = Duty::of(tag) else { return Ok(()) };
                let event = self.channels[channel].on_released(lease, copied);
                self.on_tx(channel, event)
            }
            Completion::Done { tag } => {
                let Duty::Step { device } = Duty::of(tag) else { return Ok(()) };
                self.on_step_end(device)
            }
        }
    }

    fn on_heard(&mut self, line: Slot, result: Result<usize, Errno>) -> Result<(), Error> {
        let (now, session) = (self.ring.now(), &mut self.session);
        let phase = session.phase();
        self.link.on_heard(&mut self.ring, line, result, phase, |message| session.on_control(message, now))
    }

    fn on_read_end(&mut self, device: usize, slot: Slot, result: Result<usize, Errno>) -> Result<(), Error> {
        match result {
            Ok(read) => self.on_read(device, slot, read),
            // the end of what pre-copy has, by the kernel's rules; some drivers return 0 instead
            Err(errno) if errno.raw() == nix::libc::ENOMSG && self.flowing => {
                self.on_read(device, slot, 0);
            }
            Err(errno) if matches!(errno.raw(), nix::libc::EINTR | nix::libc::EAGAIN) => {
                self.pool.put(slot);
                self.readers[device].reading = Reading::Wanted;
            }
            Err(errno) => {
                self.pool.put(slot);
                self.readers[device].reading = Reading::Idle;
                let error = DeviceError::Io { operation: "reading its state", errno };
                return Err(Error::Device { device: self.readers[device].name.clone(), error });
            }
        }
        Ok(())
    }

    /// Bytes were read, or none: the end of what there is now.
    fn on_read(&mut self, device: usize, slot: Slot, read: usize) {
        let now = self.ring.now();
        let packet_size = u64::from(self.packet_size);
        let reader = &mut self.readers[device];
        if read == 0 {
            self.pool.put(slot);
            let until = now + nanos(PRECOPY_POLL);
            reader.reading = if self.flowing { Reading::Quiet { until } } else { Reading::Drained };
            reader.converged = true;
            return;
        }
        reader.reading = Reading::Wanted;
        if self.flowing {
            reader.judge(read as u64, packet_size);
        }
        self.recorder.record(Stage::Read, reader.read_at, now);
        let read_at = reader.read_at;
        self.push(device, slot, read, false, read_at);
    }

    fn push(&mut self, device: usize, slot: Slot, len: usize, config: bool, read_at: Nanos) {
        let crc32c = match self.checksum {
            Checksum::Crc32c => wire::crc32c(0, slot.payload(len)),
            Checksum::None => 0,
        };
        let len = u32::try_from(len).expect("a slot is shorter than 4 GiB");
        self.session.push(device, slot, len, config, crc32c, read_at, self.ring.now());
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

    fn on_step_end(&mut self, device: usize) -> Result<(), Error> {
        let reader = &mut self.readers[device];
        reader.held.end();
        if reader.reading != Reading::Config {
            return Ok(());
        }
        let result = reader.held.take_result().unwrap_or(Err(DeviceError::Panicked));
        let given = result.map_err(|error| Error::Device { device: reader.name.clone(), error })?;
        let read_at = reader.read_at;
        if let Yield::Slot(slot, len) = given {
            self.push(device, slot, len, true, read_at);
        }
        Ok(())
    }

    /// Brings every device to where the hand-over says that it belongs, and tells the peer.
    fn conclude(mut self, result: Result<(), Error>) -> Finished {
        let error = result.err().map(|error| self.hear_reason(error));
        let outcome = self.session.outcome();
        if let Some(error) = error.as_ref().filter(|_| outcome == Outcome::Aborted) {
            self.owner.tell(&Event::Phase(Phase::RollingBack));
            self.say_last_word(error);
        }
        self.settle();
        let step: fn(&mut (dyn Source + 'static)) -> StepResult = match outcome {
            Outcome::Complete => |source| source.release().map(|()| Yield::Nothing),
            Outcome::Aborted => |source| source.rollback().map(|()| Yield::Nothing),
            Outcome::InDoubt => |source| source.park().map(|()| Yield::Nothing),
        };
        self.part(step);
        self.take_leave();
        self.owner.tell(&Event::Phase(Phase::Done));
        let error = match (outcome, error) {
            (Outcome::InDoubt, Some(cause)) => Some(Error::InDoubt { cause: Box::new(cause) }),
            (_, error) => error,
        };
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
                    Err(reason @ Error::Refused { .. }) => return reason,
                    Ok(()) | Err(_) => {}
                }
            }
        }
        error
    }

    fn say_last_word(&mut self, error: &Error) {
        match error {
            Error::Peer(error) if error.is_last_word() => return,
            Error::Refused { .. } => return,
            Error::Cancelled => self.session.say_last(Control::Cancel),
            other => {
                let text = other.to_string().into();
                self.session.say_last(Control::Abort { code: other.abort_code(), text });
            }
        }
        let end = self.ring.now() + nanos(LAST_WORD_MAX);
        let mut said = false;
        while !self.link.is_closed() && self.ring.now() < end && !(said && self.link.has_spoken()) {
            let now = self.ring.now();
            self.link.speak(&mut self.ring, || {
                said = true;
                self.session.poll_control(now)
            });
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

    /// Waits until nobody reads a device.
    fn settle(&mut self) {
        self.readers.iter_mut().filter(|reader| reader.reading == Reading::Wanted).for_each(|reader| {
            reader.reading = Reading::Idle;
        });
        for (device, _) in
            self.readers.iter().enumerate().filter(|(_, reader)| reader.reading == Reading::UnderWay)
        {
            self.ring.cancel(Duty::State { device }.tag());
        }
        let end = self.ring.now() + nanos(SETTLE_MAX);
        let busy = |reader: &Reader| reader.reading == Reading::UnderWay || reader.held.is_away();
        while self.readers.iter().any(busy) && self.ring.now() < end && self.ring.wait(Some(end)).is_ok() {
            self.drain();
        }
    }

    /// The last step of every device that is here.
    fn part(&mut self, step: fn(&mut (dyn Source + 'static)) -> StepResult) {
        for (device, reader) in
            self.readers.iter_mut().enumerate().filter(|(_, reader)| !reader.held.is_away())
        {
            reader.held.begin(&mut self.ring, Duty::Step { device }.tag(), step);
        }
        let end = self.ring.now() + nanos(SETTLE_MAX);
        while self.readers.iter().any(|reader| reader.held.is_away()) && self.ring.now() < end {
            if self.ring.wait(Some(end)).is_err() {
                break;
            }
            while let Some(completion) = self.ring.next() {
                match completion {
                    Completion::Done { tag } => {
                        let Duty::Step { device } = Duty::of(tag) else { continue };
                        self.readers[device].held.end();
                    }
                    other => drop(self.on_completion(other)),
                }
            }
        }
        for reader in &mut self.readers {
            let result = reader.held.take_result().unwrap_or(Err(DeviceError::Stuck));
            self.account.parted(&reader.name, result.err());
        }
    }

    /// Says no more, and waits a little for the peer to close: a connection that is closed with bytes unread is reset, and
    /// the last word with it.
    fn take_leave(&mut self) {
        self.link.say_goodbye(&mut self.ring);
        let end = self.ring.now() + nanos(LINGER_MAX);
        while !self.link.is_closed() && self.ring.now() < end && self.ring.wait(Some(end)).is_ok() {
            self.drain();
        }
        for channel in &self.channels {
            self.ring.shut_down(channel.socket().as_raw_fd(), Directions::Both);
        }
        self.link.shut_down(&mut self.ring);
    }

    fn report(mut self, outcome: Outcome, error: Option<Error>) -> Finished {
        let now = self.ring.now();
        for (device, reader) in self.readers.iter().enumerate() {
            let totals = self.session.totals(device);
            self.account.device(&reader.name, reader.instance, totals, reader.precopy_bytes, self.checksum);
        }
        self.channels.iter().for_each(|channel| self.account.tx(channel));
        drop(self.session.abandon());
        self.account.finish("sender", outcome, error, self.recorder, now)
    }
}

impl Reader {
    fn new(device: Device) -> Reader {
        Reader {
            estimate: device.source.estimate(),
            name: device.name,
            instance: device.instance,
            held: Held::new(device.source),
            reading: Reading::Idle,
            fd: None,
            flow: Flow::Later,
            converged: false,
            precopy_bytes: 0,
            read_at: 0,
        }
    }

    fn offer(&self) -> wire::DeviceOffer {
        wire::DeviceOffer {
            name: self.name.clone(),
            instance: self.instance,
            estimate: self.estimate.unwrap_or(0),
        }
    }

    /// Looks where its state is to be read from.
    fn open(&mut self) {
        let source = self.held.device().expect("no step is under way between phases");
        let carrier = |kind: FdKind| carrier::choose(kind, carrier::cpus());
        self.fd = source.fd().map(|(fd, kind)| (fd.as_raw_fd(), carrier(kind)));
    }

    /// Whether pre-copy has done what it can: little is left, or it gives more than it ever expected to.
    fn judge(&mut self, read: u64, packet_size: u64) {
        self.precopy_bytes += read;
        let expected = self.estimate.unwrap_or(0).max(packet_size);
        if self.precopy_bytes >= expected.saturating_mul(PRECOPY_FACTOR_MAX) {
            self.converged = true;
            return;
        }
        if read < packet_size {
            let left = self.held.device().map(|source| source.precopy_remaining());
            self.converged = matches!(left, Some(Ok(left)) if left <= packet_size);
        }
    }
}

/// Payload bytes that a slot must hold: a data packet or a config state, whichever is longer.
pub(super) fn slot_size(packet_size: u32) -> u32 {
    packet_size.max(u32::try_from(CONFIG_SIZE_MAX).expect("config state is short"))
}

//! The devices that a worker reads: when, by whom, and what an end of a read means; the mirror image of
//! [`writers`](super::writers).
//!
//! Nothing here knows where packets go: they are given back to whoever began the read, who says how many of them wait.
//! A device is looked at only when a read of it can begin. The invariant: `ready` and `ready_inline` hold exactly the
//! devices of which a read, or the config state, can begin as soon as there is a slot.

mod device;
mod precopy;
mod remaining;

pub(crate) use self::device::Device;

use crate::numbers::{DeviceIdx, PacketSize};

use self::precopy::PreCopy;
use self::remaining::Remaining;
use super::Worker;
use super::caller::{DeviceMoment, DeviceStep};
use super::guard::unless_panicked;
use super::io_mode::{DeviceFd, Direction};
use super::operation::Operation;
use super::report_builder::timeline::Span;
use super::steps::{Devices, StepOutput};
use crate::buffer::Slot;
use crate::error::{DeviceError, DeviceOperation, Errno, Error};
use crate::limits::{CONFIG_SIZE_MAX, HEADER_ROOM};
use crate::report::Stage;
use crate::report::trace::Label;
use crate::ring::Ring;
use crate::session::index_set::IndexSet;
use crate::session::queue::ReadPacket;
use crate::source::Source;
use crate::time::Nanos;
use crate::wire;
use crate::wire::Checksum;

/// Packets of one device that may wait for a channel: enough that no channel waits for a read, few enough that their
/// bytes are still in the cache when they are sent.
const READ_AHEAD: usize = 2;

/// What is done with a device at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Nothing.
    Idle,
    /// The next bytes are wanted.
    Wanted,
    /// A read is under way.
    UnderWay,
    /// Pre-copy had nothing new; it is asked what is left before it is read again.
    Quiet,
    /// Read to its end; the config state comes next.
    Drained,
    /// The config state is being read.
    Config,
    /// Everything was read.
    Done,
}

/// How one device is read.
struct Reader {
    estimate: Option<u64>,
    reading: Reading,
    fd: Option<DeviceFd>,
    /// What pre-copy has left.
    remaining: Remaining,
    /// Some of its state was read.
    has_begun: bool,
    read_at: Nanos,
    /// Its packets that wait for a channel or for credit.
    queued: usize,
}

/// What beginning to read came to.
#[derive(Debug)]
pub(crate) enum Begun {
    /// Whatever was begun ends in a completion.
    UnderWay,
    /// A source without a descriptor was asked at once; it filled a packet, or had nothing.
    Filled(Option<ReadPacket<Slot>>),
}

/// The devices that a worker reads.
pub(crate) struct Readers {
    pub(crate) devices: Devices<dyn Source>,
    /// One for each device.
    all: Vec<Reader>,
    packet_size: PacketSize,
    checksum: Checksum,
    /// Devices still run: a read of nothing means "nothing now" and not "the end".
    running: bool,
    /// No read begins.
    paused: bool,
    /// Devices that can be read beside other things, or whose config state can.
    ready: IndexSet<DeviceIdx>,
    /// Devices that can be read by this thread.
    ready_inline: IndexSet<DeviceIdx>,
    /// Devices that a read of is under way.
    under_way: IndexSet<DeviceIdx>,
    /// What devices that are read while they run have in common.
    precopy: PreCopy,
    /// Whose turn it is.
    next: usize,
    /// Packets of all devices that wait for a channel or for credit.
    queued: usize,
}

impl Readers {
    pub(crate) fn new(
        devices: Vec<Device>,
        packet_size: PacketSize,
        checksum: Checksum,
    ) -> Result<Readers, Error> {
        let reader = |Device { name, source, .. }: &Device| {
            let estimate = unless_panicked(|| Ok(source.estimate()))
                .map_err(|error| Error::Device { device: name.clone(), error })?;
            Ok(Reader {
                estimate,
                reading: Reading::Idle,
                fd: None,
                remaining: Remaining::new(estimate, packet_size.get().into()),
                has_begun: false,
                read_at: 0,
                queued: 0,
            })
        };
        let all: Vec<Reader> = devices.iter().map(reader).collect::<Result<_, Error>>()?;
        Ok(Readers {
            devices: Devices::new(
                devices.into_iter().map(|device| (device.name, device.instance, device.source)),
            ),
            packet_size,
            checksum,
            running: true,
            paused: false,
            ready: IndexSet::default(),
            ready_inline: IndexSet::default(),
            under_way: IndexSet::default(),
            precopy: PreCopy::new(),
            next: 0,
            queued: 0,
            all,
        })
    }

    /// Bytes that each device expects, if it knows.
    pub(crate) fn estimates(&self) -> impl Iterator<Item = Option<u64>> {
        self.all.iter().map(|reader| reader.estimate)
    }

    /// From now on every device is read to its end, and then its config state.
    pub(crate) fn begin_stop_copy(&mut self) -> Result<(), Error> {
        for device in DeviceIdx::below(self.all.len()) {
            self.open(device)?;
            self.enter(device, Reading::Wanted);
        }
        self.paused = false;
        Ok(())
    }

    /// Looks where a device's state is to be read from.
    fn open(&mut self, device: DeviceIdx) -> Result<(), Error> {
        let source = self.devices.here(device).expect("no step is under way between phases");
        let fd =
            unless_panicked(|| Ok(source.fd().map(|(fd, kind)| DeviceFd::new(fd, kind, Direction::Read))));
        self.all[device.index()].fd = fd.map_err(|error| self.devices.error(device, error))?;
        Ok(())
    }

    /// Something else is done with a device from now on.
    fn enter(&mut self, device: DeviceIdx, reading: Reading) {
        self.all[device.index()].reading = reading;
        self.under_way.set(device, reading == Reading::UnderWay);
        self.refresh(device);
    }

    /// Whether a read of a device can begin. The ring reads ahead; what this thread reads itself is read when a channel
    /// wants a packet, so that its bytes are in the cache when they are sent.
    fn refresh(&mut self, device: DeviceIdx) {
        let reader = &self.all[device.index()];
        let (is_ready, is_ready_inline) = match reader.reading {
            Reading::Wanted if reader.overlaps() => (reader.queued < READ_AHEAD, false),
            // a source without a descriptor is filled by itself, so not while it is asked
            Reading::Wanted if reader.fd.is_none() && reader.remaining.is_asking() => (false, false),
            Reading::Wanted => (false, reader.queued == 0),
            Reading::Drained => (true, false),
            _ => (false, false),
        };
        self.ready.set(device, is_ready);
        self.ready_inline.set(device, is_ready_inline);
    }

    /// A packet of a device waits no longer.
    pub(crate) fn on_popped(&mut self, device: DeviceIdx) {
        self.queued -= 1;
        self.all[device.index()].queued -= 1;
        self.refresh(device);
    }

    /// Begins a read on every device that wants one and has room; but of those that this thread reads itself on one
    /// only, so that what it reads is sent while it is in the cache. `idle` channels want packets.
    pub(crate) fn begin<R: Ring>(&mut self, worker: &mut Worker<R>, idle: usize) -> Result<Begun, Error> {
        if self.paused {
            return Ok(Begun::UnderWay);
        }
        let now = worker.ring.now();
        self.ask_due(worker, now);
        let mut candidates = self.ready;
        if self.queued < idle {
            candidates = candidates.union(&self.ready_inline);
        }
        let first = self.next;
        let (mut starved, mut begun) = (false, Begun::UnderWay);
        while let Some(device) = candidates.next_from(first) {
            candidates.remove(device);
            let Some(slot) = worker.take() else {
                starved = true;
                break;
            };
            if self.all[device.index()].reading == Reading::Drained {
                self.begin_config(worker, device, slot);
                continue;
            }
            self.next = (device.index() + 1) % self.all.len();
            if !self.all[device.index()].overlaps() {
                candidates = candidates.intersection(&self.ready);
            }
            if self.all[device.index()].fd.is_some() {
                self.begin_read(worker, device, slot);
            } else {
                begun = Begun::Filled(self.fill(worker, device, slot)?);
            }
        }
        worker.recorder.see_pool_stall(starved, now);
        Ok(begun)
    }

    fn begin_read<R: Ring>(&mut self, worker: &mut Worker<R>, device: DeviceIdx, slot: Slot) {
        self.enter(device, Reading::UnderWay);
        let reader = &mut self.all[device.index()];
        reader.read_at = worker.ring.now();
        let DeviceFd { fd, io_mode, .. } =
            reader.fd.expect("only devices with a descriptor are read by the ring");
        let range = HEADER_ROOM..HEADER_ROOM + self.packet_size.bytes();
        worker.ring.read(Operation::DeviceState { device }.tag(), fd, slot, range, io_mode);
    }

    /// A source without a descriptor fills the slot itself.
    fn fill<R: Ring>(
        &mut self,
        worker: &mut Worker<R>,
        device: DeviceIdx,
        mut slot: Slot,
    ) -> Result<Option<ReadPacket<Slot>>, Error> {
        let size = self.packet_size.bytes();
        self.all[device.index()].read_at = worker.ring.now();
        let source = self.devices.here(device).expect("no step is under way while a device is read");
        match unless_panicked(|| source.fill(&mut slot.payload_mut()[..size])) {
            Ok(read) => self.on_read(worker, device, slot, read.min(size)),
            Err(error) => {
                worker.put(slot);
                self.enter(device, Reading::Idle);
                Err(self.devices.error(device, error))
            }
        }
    }

    fn begin_config<R: Ring>(&mut self, worker: &mut Worker<R>, device: DeviceIdx, mut slot: Slot) {
        self.enter(device, Reading::Config);
        self.all[device.index()].read_at = worker.ring.now();
        self.devices.begin(worker, device, DeviceStep::Config, move |source| {
            let len = source.config(&mut slot.payload_mut()[..CONFIG_SIZE_MAX])?;
            Ok(StepOutput::Slot(slot, len.min(CONFIG_SIZE_MAX)))
        });
    }

    /// A read by the ring has ended. Gives the packet that it brought, which waits from now on.
    pub(crate) fn on_read_end<R: Ring>(
        &mut self,
        worker: &mut Worker<R>,
        device: DeviceIdx,
        slot: Slot,
        result: Result<usize, Errno>,
    ) -> Result<Option<ReadPacket<Slot>>, Error> {
        match result {
            Ok(read) => self.on_read(worker, device, slot, read),
            // pre-copy has nothing now, by the kernel's rules; some drivers return 0 instead
            Err(errno) if errno.raw() == nix::libc::ENOMSG && self.running => {
                self.on_read(worker, device, slot, 0)
            }
            Err(errno) => {
                worker.put(slot);
                let fd = self.all[device.index()].fd.expect("the ring reads only devices with a descriptor");
                let failure = fd.failure(DeviceOperation::Read, errno);
                self.enter(device, if failure.is_none() { Reading::Wanted } else { Reading::Idle });
                failure.map_or(Ok(None), |error| Err(self.devices.error(device, error)))
            }
        }
    }

    /// Bytes were read, or none: the end of what there is now.
    fn on_read<R: Ring>(
        &mut self,
        worker: &mut Worker<R>,
        device: DeviceIdx,
        slot: Slot,
        read: usize,
    ) -> Result<Option<ReadPacket<Slot>>, Error> {
        let now = worker.ring.now();
        let span = Span { begin: self.all[device.index()].read_at, end: now };
        match self.running {
            false => worker.report.timeline.read(device, span),
            true if read > 0 => worker.report.timeline.precopied(device, span),
            true => {}
        }
        if read == 0 {
            worker.put(slot);
            if self.running {
                self.on_precopy_nothing(device, now);
            } else {
                worker.caller.tell_device(self.devices.name(device), DeviceMoment::LastByte);
                self.enter(device, Reading::Drained);
            }
            return Ok(None);
        }
        if self.running {
            self.on_precopy_read(device, read as u64);
        }
        if !std::mem::replace(&mut self.all[device.index()].has_begun, true) {
            worker.caller.tell_device(self.devices.name(device), DeviceMoment::FirstByte);
        }
        worker.recorder.record(Stage::Read, span.begin, now);
        note_read(worker, (device, &slot, read, false), span);
        let packet = self.packet(device, slot, read, false);
        self.enter(device, Reading::Wanted);
        Ok(Some(packet))
    }

    /// What was read, which waits from now on.
    fn packet(&mut self, device: DeviceIdx, slot: Slot, len: usize, config: bool) -> ReadPacket<Slot> {
        let crc32c = match self.checksum {
            Checksum::Crc32c => wire::crc32c(0, slot.payload(len)),
            Checksum::None => 0,
        };
        let len = u32::try_from(len).expect("a slot is shorter than 4 GiB");
        self.queued += 1;
        let reader = &mut self.all[device.index()];
        reader.queued += 1;
        ReadPacket { device, handle: slot, len, config, crc32c, read_at: reader.read_at }
    }

    /// A step of a device has ended. Gives the packet that it brought, which waits from now on.
    pub(crate) fn on_step_end<R: Ring>(
        &mut self,
        worker: &mut Worker<R>,
        device: DeviceIdx,
    ) -> Result<Option<ReadPacket<Slot>>, Error> {
        self.devices.on_step_end(worker, device);
        if self.all[device.index()].remaining.is_asking() {
            let result = self.devices.take_result(device).unwrap_or(Err(DeviceError::Panicked));
            let answered = self.on_answer(worker, device, result);
            return answered.map(|()| None).map_err(|error| self.devices.error(device, error));
        }
        if self.all[device.index()].reading != Reading::Config {
            return Ok(None);
        }
        self.enter(device, Reading::Done);
        let result = self.devices.take_result(device).unwrap_or(Err(DeviceError::Panicked));
        match result.map_err(|error| self.devices.error(device, error))? {
            StepOutput::Slot(slot, len) => {
                let span = Span { begin: self.all[device.index()].read_at, end: worker.ring.now() };
                note_read(worker, (device, &slot, len, true), span);
                Ok(Some(self.packet(device, slot, len, true)))
            }
            StepOutput::Nothing | StepOutput::Flow(_) | StepOutput::PreCopyInfo(_) | StepOutput::End(_) => {
                Ok(None)
            }
        }
    }

    /// Ends the reads that are under way; no other begins.
    pub(crate) fn cancel<R: Ring>(&mut self, worker: &mut Worker<R>) {
        self.pause(worker);
        let under_way = self.under_way.iter();
        under_way.for_each(|device| worker.ring.cancel(Operation::DeviceState { device }.tag()));
    }
}

impl Reader {
    /// Whether it is read while the worker does other things.
    fn overlaps(&self) -> bool {
        self.fd.is_some_and(DeviceFd::overlaps)
    }
}

/// A packet was read, which has no number yet: its device, its slot, its bytes, and whether it is the config state.
fn note_read<R: Ring>(
    worker: &mut Worker<R>,
    (device, slot, len, config): (DeviceIdx, &Slot, usize, bool),
    Span { begin, end }: Span,
) {
    let Some(trace) = worker.trace.on() else { return };
    let bytes = u32::try_from(len).unwrap_or(u32::MAX);
    trace.read(slot.index(), Label { device: device.0, idx: 0, config, bytes }, (begin, end));
}

#[cfg(test)]
mod tests;

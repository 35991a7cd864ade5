//! The devices that a worker writes: in order, by whom, and what an end of a write means. The same for every protocol
//! that brings state; the mirror image of [`readers`](super::readers).
//!
//! Nothing here knows where packets come from: a queue gives them. A device is looked at only when it may have
//! something to write; the invariant is that a device with a packet that can be written is idle only while it is in
//! `ready`.

use crate::numbers::DeviceIdx;

use super::Worker;
use super::caller::{DeviceMoment, DeviceStep};
use super::ending::{finish_devices, step_all};
use super::event_loop::{Loop, drain, run_until, within};
use super::guard::{Guarded, unless_panicked};
use super::io_mode::{DeviceFd, Direction};
use super::operation::Operation;
use super::report_builder::timeline::Span;
use super::steps::{Devices, NamedStep, StepOutput, StepResult};
use crate::buffer::Slot;
use crate::error::{DeviceError, DeviceOperation, Errno, Error};
use crate::limits::{HEADER_ROOM, SETTLE_MAX};
use crate::report::Stage;
use crate::ring::Ring;
use crate::session::index_set::IndexSet;
use crate::session::queue::{NextPacket, PacketQueue};
use crate::sink::Sink;
use crate::time::Nanos;
use crate::time::deadlines::Deadline;
use crate::worker::finished::EndState;

/// A device at the destination.
pub(crate) struct Device {
    pub(crate) name: Box<str>,
    pub(crate) instance: u32,
    pub(crate) sink: Guarded<Box<dyn Sink>>,
}

impl Device {
    pub(crate) fn new(name: impl Into<Box<str>>, instance: u32, sink: Box<dyn Sink>) -> Device {
        Device { name: name.into(), instance, sink: Guarded::new(sink) }
    }

    /// Whether its state is made up; one that panics when it is asked is not.
    pub(crate) fn is_simulated(&self) -> bool {
        unless_panicked(|| Ok(self.sink.is_simulated())).unwrap_or(false)
    }
}

/// What is done with a device at the moment.
#[derive(Debug)]
enum Writing {
    /// Waiting for the next packet.
    Idle,
    /// A packet is being written: where it goes on, and since when.
    UnderWay { packet: PacketUnderWay, at: usize },
    /// The config state is being applied, and everything made sure of.
    Config { packet: PacketUnderWay },
    /// It has everything, or it failed: nothing more is written.
    Done,
}

#[derive(Debug, Clone, Copy)]
struct PacketUnderWay {
    len: usize,
    read_at: Nanos,
    began_at: Nanos,
}

/// How one device is written.
struct Writer {
    writing: Writing,
    fd: Option<DeviceFd>,
    /// Bytes that it took.
    written: u64,
}

/// The devices that a worker writes.
pub(crate) struct Writers {
    pub(crate) devices: Devices<dyn Sink>,
    /// One for each device.
    all: Vec<Writer>,
    /// Devices whose next packet may be here.
    ready: IndexSet<DeviceIdx>,
    /// Times of the source can be compared with ours.
    same_clock: bool,
    /// Nothing more is written: the devices are about to be reset, which closes their descriptors.
    is_ending: bool,
}

impl Writers {
    pub(crate) fn new(devices: Vec<Device>, same_clock: bool) -> Writers {
        let devices = devices.into_iter().map(|device| (device.name, device.instance, device.sink));
        let devices = Devices::new(devices);
        let writer = |_| Writer { writing: Writing::Idle, fd: None, written: 0 };
        Writers {
            all: (0..devices.len()).map(writer).collect(),
            devices,
            ready: IndexSet::default(),
            same_clock,
            is_ending: false,
        }
    }

    /// The devices are known only now: there was none.
    pub(crate) fn provide(&mut self, devices: Vec<Device>) {
        assert!(self.all.is_empty(), "devices are known once");
        *self = Writers::new(devices, self.same_clock);
    }

    /// Looks where each device's state is to be written. True when writing overlaps with other things.
    pub(crate) fn open(&mut self) -> Result<bool, Error> {
        for (device, writer) in DeviceIdx::below(self.all.len()).zip(&mut self.all) {
            let sink = self.devices.here(device).expect("no step is under way between phases");
            let fd =
                unless_panicked(|| Ok(sink.fd().map(|(fd, kind)| DeviceFd::new(fd, kind, Direction::Write))));
            writer.fd = fd.map_err(|error| self.devices.error(device, error))?;
        }
        Ok(self.all.iter().any(|writer| writer.fd.is_some_and(DeviceFd::overlaps)))
    }

    /// A packet of this device has come, or may be written from now on.
    pub(crate) fn mark_ready(&mut self, device: DeviceIdx) {
        self.ready.insert(device);
    }

    /// Packets that came earlier may be written from now on.
    pub(crate) fn mark_all_ready(&mut self) {
        self.ready = IndexSet::below(self.all.len());
    }

    /// Gives each idle device that may have one its next packet.
    pub(crate) fn begin<R: Ring>(
        &mut self,
        worker: &mut Worker<R>,
        queue: &mut impl PacketQueue<Slot>,
    ) -> Result<(), Error> {
        while let Some(device) = self.ready.pop_first() {
            while matches!(self.all[device.index()].writing, Writing::Idle) {
                let Some(packet) = queue.pop(device) else { break };
                self.begin_write(worker, queue, device, packet)?;
            }
        }
        Ok(())
    }

    fn begin_write<R: Ring>(
        &mut self,
        worker: &mut Worker<R>,
        queue: &mut impl PacketQueue<Slot>,
        device: DeviceIdx,
        packet: NextPacket<Slot>,
    ) -> Result<(), Error> {
        let now = worker.ring.now();
        worker.recorder.record(Stage::Reorder, packet.arrived_at, now);
        let NextPacket { handle: slot, len, config, read_at, .. } = packet;
        worker.trace.on().into_iter().for_each(|trace| trace.writing(slot.index(), now));
        let packet = PacketUnderWay { len, read_at, began_at: now };
        let writer = &mut self.all[device.index()];
        if config {
            writer.writing = Writing::Config { packet };
            // what follows is loading
            worker.report.transferred(now);
            worker.caller.tell_device(self.devices.name(device), DeviceMoment::LastByte);
            self.devices.begin(worker, device, DeviceStep::Load, move |sink| {
                sink.config(slot.payload(len))?;
                sink.seal()?;
                Ok(StepOutput::Slot(slot, len))
            });
            return Ok(());
        }
        writer.writing = Writing::UnderWay { packet, at: 0 };
        if writer.fd.is_some() {
            self.go_on(&mut worker.ring, device, slot, packet, 0);
            return Ok(());
        }
        let sink = self.devices.here(device).expect("no step is under way before the config state");
        let mut at = 0;
        while at < len {
            let taken = match unless_panicked(|| sink.drain(&slot.payload(len)[at..])) {
                Ok(0) => Err(DeviceError::Full { offset: writer.written + at as u64 }),
                other => other,
            };
            match taken {
                Ok(taken) => at += taken,
                Err(error) => {
                    writer.writing = Writing::Done;
                    worker.put(slot);
                    return Err(self.devices.error(device, error));
                }
            }
        }
        self.on_written(worker, queue, device, slot, packet);
        Ok(())
    }

    fn go_on(
        &mut self,
        ring: &mut impl Ring,
        device: DeviceIdx,
        slot: Slot,
        packet: PacketUnderWay,
        at: usize,
    ) {
        let writer = &mut self.all[device.index()];
        writer.writing = Writing::UnderWay { packet, at };
        let DeviceFd { fd, io_mode, .. } =
            writer.fd.expect("only devices with a descriptor are written by the ring");
        let range = HEADER_ROOM + at..HEADER_ROOM + packet.len;
        ring.write(Operation::DeviceState { device }.tag(), fd, slot, range, io_mode);
    }

    /// A write by the ring has ended.
    pub(crate) fn on_write_end<R: Ring>(
        &mut self,
        worker: &mut Worker<R>,
        queue: &mut impl PacketQueue<Slot>,
        device: DeviceIdx,
        slot: Slot,
        result: Result<usize, Errno>,
    ) -> Result<(), Error> {
        let Writing::UnderWay { packet, at } = self.all[device.index()].writing else { return Ok(()) };
        let fd = self.all[device.index()].fd.expect("the ring writes only devices with a descriptor");
        let failure = |errno| fd.failure(DeviceOperation::Write, errno);
        let error = match result.map_err(failure) {
            // the descriptor may be closed by the time that the ring looks it up
            _ if self.is_ending => {
                worker.put(slot);
                self.all[device.index()].writing = Writing::Done;
                return Ok(());
            }
            Ok(0) => DeviceError::Io {
                operation: DeviceOperation::Write,
                errno: Errno::from_raw(nix::libc::ENOSPC),
            },
            Ok(written) if at + written < packet.len => {
                self.go_on(&mut worker.ring, device, slot, packet, at + written);
                return Ok(());
            }
            Ok(_) => {
                self.on_written(worker, queue, device, slot, packet);
                return Ok(());
            }
            Err(None) => {
                self.go_on(&mut worker.ring, device, slot, packet, at);
                return Ok(());
            }
            Err(Some(error)) => error,
        };
        worker.put(slot);
        self.all[device.index()].writing = Writing::Done;
        Err(self.devices.error(device, error))
    }

    /// The packet has been written: its slot is free, and the session grants credit for it.
    fn on_written<R: Ring>(
        &mut self,
        worker: &mut Worker<R>,
        queue: &mut impl PacketQueue<Slot>,
        device: DeviceIdx,
        slot: Slot,
        packet: PacketUnderWay,
    ) {
        let now = worker.ring.now();
        worker.trace.on().into_iter().for_each(|trace| trace.written(slot.index(), now));
        worker.put(slot);
        queue.written(device, now);
        let writer = &mut self.all[device.index()];
        if matches!(writer.writing, Writing::UnderWay { .. }) {
            worker.report.transferred(now);
            worker.report.timeline.written(device, Span { begin: packet.began_at, end: now });
            if writer.written == 0 {
                worker.caller.tell_device(self.devices.name(device), DeviceMoment::FirstByte);
            }
        }
        writer.writing = Writing::Idle;
        writer.written += packet.len as u64;
        self.ready.insert(device);
        worker.recorder.record(Stage::Write, packet.began_at, now);
        if self.same_clock {
            worker.recorder.record(Stage::EndToEnd, packet.read_at, now);
        }
    }

    /// A step of a device has ended.
    pub(crate) fn on_step_end<R: Ring>(
        &mut self,
        worker: &mut Worker<R>,
        queue: &mut impl PacketQueue<Slot>,
        device: DeviceIdx,
    ) -> Result<(), Error> {
        self.devices.on_step_end(worker, device);
        let Writing::Config { packet } = self.all[device.index()].writing else { return Ok(()) };
        self.all[device.index()].writing = Writing::Done;
        let result = self.devices.take_result(device).unwrap_or(Err(DeviceError::Panicked));
        let output = result.map_err(|error| self.devices.error(device, error))?;
        if let StepOutput::Slot(slot, _) = output {
            self.on_written(worker, queue, device, slot, packet);
        }
        self.all[device.index()].writing = Writing::Done;
        queue.loaded(device);
        Ok(())
    }

    /// Whether some device is being written, or applies its config state.
    pub(crate) fn is_writing(&self) -> bool {
        let is_busy =
            |writer: &Writer| matches!(writer.writing, Writing::UnderWay { .. } | Writing::Config { .. });
        self.all.iter().any(is_busy)
    }

    /// Bytes that all devices took.
    pub(crate) fn bytes(&self) -> u64 {
        self.all.iter().map(|writer| writer.written).sum()
    }

    /// Whether any device took anything.
    pub(crate) fn has_written(&self) -> bool {
        self.all.iter().any(|writer| writer.written > 0)
    }

    /// Whether the kernel writes some device.
    pub(crate) fn is_any_under_way(&self) -> bool {
        let is_it =
            |writer: &Writer| writer.fd.is_some() && matches!(writer.writing, Writing::UnderWay { .. });
        self.all.iter().any(is_it)
    }

    /// Ends the writes that are under way; no other begins.
    fn cancel(&mut self, ring: &mut impl Ring) {
        self.is_ending = true;
        for (device, writer) in DeviceIdx::below(self.all.len()).zip(&self.all) {
            if matches!(writer.writing, Writing::UnderWay { .. }) {
                ring.cancel(Operation::DeviceState { device }.tag());
            }
        }
    }
}

/// How to get at the worker and the devices of an owner of both.
type Parts<L> = for<'a> fn(&'a mut L) -> (&'a mut Worker<<L as Loop>::Ring>, &'a mut Writers);

/// Runs one step of every device, in parallel, and waits for all of them.
pub(crate) fn step_all_sinks<L: Loop>(
    owner: &mut L,
    parts: Parts<L>,
    step: NamedStep<dyn Sink>,
    turn: impl FnMut(&mut L, Nanos) -> Result<(), Error>,
) -> Result<(), Error> {
    let end = within(owner, SETTLE_MAX);
    step_all(owner, |owner| devices(parts(owner)), step, end, turn)
}

fn devices<'a, R: Ring>(
    (worker, writers): (&'a mut Worker<R>, &'a mut Writers),
) -> (&'a mut Worker<R>, &'a mut Devices<dyn Sink>) {
    (worker, &mut writers.devices)
}

/// Lets every device run. The devices are ours already, so nothing that the peer does interrupts it (P-37).
pub(crate) fn start_devices<L: Loop>(
    owner: &mut L,
    parts: Parts<L>,
    turn: fn(&mut L) -> Result<(), Error>,
) -> Result<(), Error> {
    let persist = |owner: &mut L, until| turn(owner).or_else(|_| drain(owner, until));
    let pre_run = |sink: &mut (dyn Sink + 'static)| sink.pre_run().map(|()| StepOutput::Nothing);
    step_all_sinks(owner, parts, (DeviceStep::PreRun, pre_run), persist)?;
    let run = |sink: &mut (dyn Sink + 'static)| sink.run().map(|()| StepOutput::Nothing);
    step_all_sinks(owner, parts, (DeviceStep::Run, run), persist)
}

/// Every device runs what was loaded: notes it.
pub(crate) fn note_running<R: Ring>((worker, writers): (&mut Worker<R>, &mut Writers)) {
    for device in writers.devices.names() {
        worker.report.parted(device, EndState::Runs);
    }
}

/// Resets every device. True when all of them are.
pub(crate) fn roll_back<L: Loop>(owner: &mut L, parts: Parts<L>) -> bool {
    let end = within(owner, SETTLE_MAX);
    let (worker, writers) = parts(owner);
    writers.cancel(&mut worker.ring);
    let is_settled = |owner: &mut L| {
        let (_, writers) = parts(owner);
        !writers.devices.is_any_away() && !writers.is_any_under_way()
    };
    // a ring that cannot wait has nothing under way any more that could end
    let _ = run_until(owner, (Deadline::Settle, end), is_settled, drain);
    let reset: fn(&mut (dyn Sink + 'static)) -> StepResult = |sink| {
        sink.rollback()?;
        Ok(StepOutput::End(if sink.was_reset() { EndState::Reset } else { EndState::Back }))
    };
    let all = finish_devices(owner, |owner| devices(parts(owner)), (DeviceStep::Rollback, reset), end);
    let (worker, writers) = parts(owner);
    for device in DeviceIdx::below(writers.devices.len()) {
        let keeps = writers.devices.here(device).is_some_and(keeps_written);
        worker.report.kept(writers.devices.name(device).0, keeps && writers.all[device.index()].written > 0);
    }
    all
}

/// A sink that cannot even say it counts as one that keeps what was written.
fn keeps_written(sink: &mut (dyn Sink + 'static)) -> bool {
    unless_panicked(|| Ok(sink.keeps_written())).unwrap_or(true)
}

#[cfg(test)]
mod tests;

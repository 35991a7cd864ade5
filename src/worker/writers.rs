//! Writing devices: in order, by whom, and what an end of a write means. The same for every protocol that brings state.

use std::os::fd::{AsRawFd, RawFd};

use super::caller::Caller;
use super::io_mode;
use super::operation::Operation;
use super::report_builder::ReportBuilder;
use super::steps::{Lent, StepOutput, StepResult, unless_panicked};
use crate::buffer::{Pool, Slot};
use crate::error::{DeviceError, DeviceOperation, Errno, Error};
use crate::limits::HEADER_ROOM;
use crate::report::{Recorder, Stage};
use crate::ring::{IoMode, Ring};
use crate::session::queue::{NextPacket, PacketQueue};
use crate::sink::{FdKind, Sink};
use crate::time::Nanos;

/// A device at the destination.
pub(crate) struct Device {
    pub(crate) name: Box<str>,
    pub(crate) instance: u32,
    pub(crate) sink: Box<dyn Sink>,
}

/// What is done with a device at the moment.
#[derive(Debug)]
pub(crate) enum Writing {
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
pub(crate) struct DataOnTheWay {
    len: usize,
    read_at: Nanos,
    began_at: Nanos,
}

/// A device, and what is done with it.
pub(crate) struct Writer {
    pub(crate) name: Box<str>,
    pub(crate) instance: u32,
    pub(crate) held: Lent<dyn Sink>,
    pub(crate) writing: Writing,
    pub(crate) fd: Option<(RawFd, IoMode)>,
    /// Bytes that it took.
    pub(crate) written: u64,
}

/// A side that writes devices: them, and what it takes.
pub(crate) struct Loader<R: Ring> {
    // dropped first: operations end before anything that they use goes
    pub(crate) ring: R,
    pub(crate) writers: Vec<Writer>,
    /// Made when it is known how large.
    pub(crate) pool: Option<Pool>,
    pub(crate) recorder: Recorder,
    pub(crate) owner: Caller,
    pub(crate) account: ReportBuilder,
    /// Times of the source can be compared with ours.
    pub(crate) same_clock: bool,
}

impl<R: Ring> Loader<R> {
    pub(crate) fn new(ring: R, devices: Vec<Device>, owner: Caller, same_clock: bool) -> Loader<R> {
        let account = ReportBuilder::new(ring.now(), devices.len());
        let writers = devices.into_iter().map(Writer::new).collect();
        Loader { ring, writers, pool: None, recorder: Recorder::default(), owner, account, same_clock }
    }

    /// Looks where each device's state is to be written. True when writing overlaps with other things.
    pub(crate) fn open(&mut self) -> bool {
        self.writers.iter_mut().for_each(Writer::open);
        self.writers.iter().any(Writer::overlaps)
    }

    /// Gives each idle device the packet whose turn it is.
    pub(crate) fn begin_writes(&mut self, turns: &mut impl PacketQueue<Slot>) -> Result<(), Error> {
        if self.pool.is_none() {
            return Ok(());
        }
        for device in 0..self.writers.len() {
            while matches!(self.writers[device].writing, Writing::Idle) {
                let Some(packet) = turns.pop(device) else { break };
                self.begin_write(turns, device, packet)?;
            }
        }
        Ok(())
    }

    fn begin_write(
        &mut self,
        turns: &mut impl PacketQueue<Slot>,
        device: usize,
        packet: NextPacket<Slot>,
    ) -> Result<(), Error> {
        let now = self.ring.now();
        self.recorder.record(Stage::Reorder, packet.arrived_at, now);
        let NextPacket { handle: slot, len, config, read_at, .. } = packet;
        let packet = DataOnTheWay { len, read_at, began_at: now };
        let writer = &mut self.writers[device];
        if config {
            writer.writing = Writing::Config { packet };
            writer.held.begin(&mut self.ring, Operation::DeviceStep { device }.tag(), move |sink| {
                sink.config(slot.payload(len))?;
                sink.seal()?;
                Ok(StepOutput::Slot(slot, len))
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
            let taken = match unless_panicked(|| sink.drain(&slot.payload(len)[at..])) {
                Ok(0) => Err(DeviceError::Full { offset: writer.written + at as u64 }),
                other => other,
            };
            at += taken.map_err(|error| Error::Device { device: writer.name.clone(), error })?;
        }
        self.on_written(turns, device, slot, packet);
        Ok(())
    }

    fn go_on(&mut self, device: usize, slot: Slot, packet: DataOnTheWay, at: usize) {
        let writer = &mut self.writers[device];
        writer.writing = Writing::UnderWay { packet, at };
        let (fd, io_mode) = writer.fd.expect("only devices with a descriptor are written by the ring");
        self.ring.write(
            Operation::DeviceState { device }.tag(),
            fd,
            slot,
            HEADER_ROOM + at..HEADER_ROOM + packet.len,
            io_mode,
        );
    }

    pub(crate) fn on_write_end(
        &mut self,
        turns: &mut impl PacketQueue<Slot>,
        device: usize,
        slot: Slot,
        result: Result<usize, Errno>,
    ) -> Result<(), Error> {
        let Writing::UnderWay { packet, at } = self.writers[device].writing else { return Ok(()) };
        let errno = match result {
            Ok(0) => Errno::from_raw(nix::libc::ENOSPC),
            Ok(written) if at + written < packet.len => {
                self.go_on(device, slot, packet, at + written);
                return Ok(());
            }
            Ok(_) => {
                self.on_written(turns, device, slot, packet);
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
        let error = DeviceError::Io { operation: DeviceOperation::Write, errno };
        Err(Error::Device { device: writer.name.clone(), error })
    }

    /// A packet is in its device: its slot is free, and whoever counts may hear of it.
    fn on_written(
        &mut self,
        turns: &mut impl PacketQueue<Slot>,
        device: usize,
        slot: Slot,
        packet: DataOnTheWay,
    ) {
        let now = self.ring.now();
        self.put(slot);
        turns.written(device, now);
        let writer = &mut self.writers[device];
        writer.writing = Writing::Idle;
        writer.written += packet.len as u64;
        self.recorder.record(Stage::Write, packet.began_at, now);
        if self.same_clock {
            self.recorder.record(Stage::EndToEnd, packet.read_at, now);
        }
        self.account.transferred(now);
    }

    /// A slot that whoever counts them knows to be free.
    pub(crate) fn take(&mut self) -> Slot {
        self.pool.as_mut().and_then(Pool::take).expect("room is promised for free slots only")
    }

    pub(crate) fn put(&mut self, slot: Slot) {
        self.pool.as_mut().expect("a slot comes from the pool").put(slot);
    }

    pub(crate) fn on_step_end(
        &mut self,
        turns: &mut impl PacketQueue<Slot>,
        device: usize,
    ) -> Result<(), Error> {
        let writer = &mut self.writers[device];
        writer.held.end();
        let Writing::Config { packet } = writer.writing else { return Ok(()) };
        let result = writer.held.take_result().unwrap_or(Err(DeviceError::Panicked));
        let given = result.map_err(|error| Error::Device { device: writer.name.clone(), error })?;
        if let StepOutput::Slot(slot, _) = given {
            self.on_written(turns, device, slot, packet);
        }
        self.writers[device].writing = Writing::Loaded;
        turns.loaded(device);
        Ok(())
    }

    /// Begins one step of every device that is here.
    pub(crate) fn begin_steps(&mut self, step: fn(&mut (dyn Sink + 'static)) -> StepResult) {
        for (device, writer) in self.writers.iter_mut().enumerate() {
            if !writer.held.is_away() {
                writer.held.begin(&mut self.ring, Operation::DeviceStep { device }.tag(), step);
            }
        }
    }

    /// Whether a step of some device is under way.
    pub(crate) fn is_stepping(&self) -> bool {
        self.writers.iter().any(|writer| writer.held.is_away())
    }

    /// Whether some device is being written, or applies its config state.
    pub(crate) fn is_writing(&self) -> bool {
        let is_busy =
            |writer: &Writer| matches!(writer.writing, Writing::UnderWay { .. } | Writing::Config { .. });
        self.writers.iter().any(is_busy)
    }

    /// Progress, if it is time to tell it.
    pub(crate) fn tell_progress(&mut self, now: Nanos, estimate: Option<u64>) {
        let writers = &self.writers;
        self.owner.progress(now, self.account.started_at, || {
            (writers.iter().map(|writer| writer.written).sum(), estimate)
        });
    }
}

impl Writer {
    fn new(device: Device) -> Writer {
        Writer {
            name: device.name,
            instance: device.instance,
            held: Lent::new(device.sink),
            writing: Writing::Idle,
            fd: None,
            written: 0,
        }
    }

    /// Whether it is written while the worker does other things.
    fn overlaps(&self) -> bool {
        matches!(self.fd, Some((_, IoMode::Ring)))
    }

    /// Looks where its state is to be written.
    fn open(&mut self) {
        let sink = self.held.device().expect("no step is under way between phases");
        let io_mode = |kind: FdKind| io_mode::choose(kind, io_mode::cpus());
        self.fd = sink.fd().map(|(fd, kind)| (fd.as_raw_fd(), io_mode(kind)));
    }
}

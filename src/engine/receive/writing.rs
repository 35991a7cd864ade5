//! Writing devices: in order, by whom, and what an end of a write means.

use std::os::fd::{AsRawFd, RawFd};

use super::{Device, Receiving};
use crate::buffer::Slot;
use crate::engine::carrier;
use crate::engine::duty::Duty;
use crate::engine::step::{Held, Yield, unless_panicked};
use crate::error::{DeviceError, Errno, Error, WRITING};
use crate::limits::HEADER_ROOM;
use crate::ring::{Carrier, Nanos, Ring};
use crate::session::receiver::Arrived;
use crate::sink::{FdKind, Sink};
use crate::stats::Stage;

/// What the receiver does with a device at the moment.
#[derive(Debug)]
pub(super) enum Writing {
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
pub(super) struct DataOnTheWay {
    pub(super) len: usize,
    pub(super) read_at: Nanos,
    pub(super) began_at: Nanos,
}

pub(super) struct Writer {
    pub(super) name: Box<str>,
    pub(super) instance: u32,
    pub(super) held: Held<dyn Sink>,
    pub(super) writing: Writing,
    pub(super) fd: Option<(RawFd, Carrier)>,
    /// Bytes that it took.
    pub(super) written: u64,
}

impl<R: Ring> Receiving<R> {
    /// Gives each idle device the packet whose turn it is.
    pub(super) fn begin_writes(&mut self) -> Result<(), Error> {
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

    pub(super) fn begin_write(&mut self, device: usize, packet: Arrived<Slot>) -> Result<(), Error> {
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
            let taken = match unless_panicked(|| sink.drain(&slot.payload(len)[at..])) {
                Ok(0) => Err(DeviceError::Full { offset: writer.written + at as u64 }),
                other => other,
            };
            at += taken.map_err(|error| Error::Device { device: writer.name.clone(), error })?;
        }
        self.on_written(device, slot, packet);
        Ok(())
    }

    pub(super) fn go_on(&mut self, device: usize, slot: Slot, packet: DataOnTheWay, at: usize) {
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

    pub(super) fn on_write_end(
        &mut self,
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
        let error = DeviceError::Io { operation: WRITING, errno };
        Err(Error::Device { device: writer.name.clone(), error })
    }

    /// A packet is in its device: its slot is free, and the sender may hear of it.
    pub(super) fn on_written(&mut self, device: usize, slot: Slot, packet: DataOnTheWay) {
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

    pub(super) fn put(&mut self, slot: Slot) {
        self.pool.as_mut().expect("a slot comes from the pool").put(slot);
    }

    pub(super) fn on_step_end(&mut self, device: usize) -> Result<(), Error> {
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
}

impl Writer {
    pub(super) fn new(device: Device) -> Writer {
        Writer {
            name: device.name,
            instance: device.instance,
            held: Held::new(device.sink),
            writing: Writing::Idle,
            fd: None,
            written: 0,
        }
    }

    /// Whether it is written while the worker does other things.
    pub(super) fn overlaps(&self) -> bool {
        matches!(self.fd, Some((_, Carrier::Ring)))
    }

    /// Looks where its state is to be written.
    pub(super) fn open(&mut self) {
        let sink = self.held.device().expect("no step is under way between phases");
        let carrier = |kind: FdKind| carrier::choose(kind, carrier::cpus());
        self.fd = sink.fd().map(|(fd, kind)| (fd.as_raw_fd(), carrier(kind)));
    }
}

//! Reading devices: when, by whom, and what an end of a read means.

use std::os::fd::{AsRawFd, RawFd};

use super::{Device, Sending};
use crate::buffer::Slot;
use crate::error::{DeviceError, DeviceOperation, Errno, Error};
use crate::limits::{CONFIG_SIZE_MAX, HEADER_ROOM, PRECOPY_FACTOR_MAX, PRECOPY_POLL};
use crate::report::Stage;
use crate::ring::{IoMode, Ring};
use crate::source::{FdKind, Flow, Source};
use crate::time::Nanos;
use crate::time::nanos;
use crate::wire;
use crate::wire::Checksum;
use crate::worker::io_mode;
use crate::worker::operation::Operation;
use crate::worker::steps::{Lent, StepOutput, unless_panicked};

/// Packets of one device that may wait for a channel: enough that no channel waits for a read, few enough that their
/// bytes are still in the cache when they are sent.
const READ_AHEAD: usize = 2;

/// What the sender does with a device at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
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

pub(super) struct Reader {
    pub(super) name: Box<str>,
    pub(super) instance: u32,
    pub(super) held: Lent<dyn Source>,
    pub(super) estimate: Option<u64>,
    pub(super) reading: Reading,
    pub(super) fd: Option<(RawFd, IoMode)>,
    pub(super) flow: Flow,
    /// Pre-copy of this device is as good as done.
    pub(super) converged: bool,
    pub(super) precopy_bytes: u64,
    pub(super) read_at: Nanos,
}

impl<R: Ring> Sending<R> {
    /// Begins a read on every device that wants one and has room; but of those that this thread reads itself on one only, so
    /// that what it reads is sent while it is in the cache. True when a packet came at once, without a completion.
    pub(super) fn begin_reads(&mut self) -> Result<bool, Error> {
        if self.paused {
            return Ok(false);
        }
        let now = self.ring.now();
        let count = self.readers.len();
        let (mut starved, mut read, mut came) = (false, false, false);
        let first = self.next_reader;
        let idle = self.channels.iter().filter(|channel| channel.is_idle()).count();
        let wanting = self.session.queued_packets() < idle;
        for device in (0..count).map(|step| (first + step) % count) {
            if matches!(self.readers[device].reading, Reading::Quiet { until } if now >= until) {
                self.readers[device].reading = Reading::Wanted;
            }
            let overlaps = self.readers[device].overlaps();
            match self.readers[device].reading {
                Reading::Wanted if self.has_use_for(device, wanting && !read) => match self.pool.take() {
                    Some(slot) => {
                        self.begin_read(device, slot)?;
                        read |= !overlaps;
                        came |= self.readers[device].fd.is_none();
                        self.next_reader = (device + 1) % count;
                    }
                    None => starved = true,
                },
                Reading::Drained => match self.pool.take() {
                    Some(slot) => self.begin_config(device, slot),
                    None => starved = true,
                },
                _ => {}
            }
        }
        self.recorder.see_pool_stall(starved, now);
        Ok(came)
    }

    /// Whether a device should be read now. The ring reads ahead; what this thread reads itself is read when a channel is
    /// `wanting` a packet, so that its bytes are in the cache when they are sent.
    pub(super) fn has_use_for(&self, device: usize, wanting: bool) -> bool {
        let queued = self.session.queued(device);
        if self.readers[device].overlaps() { queued < READ_AHEAD } else { wanting && queued == 0 }
    }

    pub(super) fn begin_read(&mut self, device: usize, mut slot: Slot) -> Result<(), Error> {
        let size = self.packet_size as usize;
        let reader = &mut self.readers[device];
        reader.read_at = self.ring.now();
        reader.reading = Reading::UnderWay;
        if let Some((fd, io_mode)) = reader.fd {
            let tag = Operation::DeviceState { device }.tag();
            self.ring.read(tag, fd, slot, HEADER_ROOM..HEADER_ROOM + size, io_mode);
            return Ok(());
        }
        let source = reader.held.device().expect("no step is under way while a device is read");
        match unless_panicked(|| source.fill(&mut slot.payload_mut()[..size])) {
            Ok(read) => self.on_read(device, slot, read.min(size)),
            Err(error) => {
                self.pool.put(slot);
                reader.reading = Reading::Idle;
                return Err(Error::Device { device: reader.name.clone(), error });
            }
        }
        Ok(())
    }

    pub(super) fn begin_config(&mut self, device: usize, mut slot: Slot) {
        let reader = &mut self.readers[device];
        reader.reading = Reading::Config;
        reader.read_at = self.ring.now();
        reader.held.begin(&mut self.ring, Operation::DeviceStep { device }.tag(), move |source| {
            let len = source.config(&mut slot.payload_mut()[..CONFIG_SIZE_MAX])?;
            Ok(StepOutput::Slot(slot, len.min(CONFIG_SIZE_MAX)))
        });
    }

    pub(super) fn on_read_end(
        &mut self,
        device: usize,
        slot: Slot,
        result: Result<usize, Errno>,
    ) -> Result<(), Error> {
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
                let error = DeviceError::Io { operation: DeviceOperation::Read, errno };
                return Err(Error::Device { device: self.readers[device].name.clone(), error });
            }
        }
        Ok(())
    }

    /// Bytes were read, or none: the end of what there is now.
    pub(super) fn on_read(&mut self, device: usize, slot: Slot, read: usize) {
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

    pub(super) fn push(&mut self, device: usize, slot: Slot, len: usize, config: bool, read_at: Nanos) {
        let crc32c = match self.checksum {
            Checksum::Crc32c => wire::crc32c(0, slot.payload(len)),
            Checksum::None => 0,
        };
        let len = u32::try_from(len).expect("a slot is shorter than 4 GiB");
        self.session.push(device, slot, len, config, crc32c, read_at, self.ring.now());
    }

    pub(super) fn on_step_end(&mut self, device: usize) -> Result<(), Error> {
        let reader = &mut self.readers[device];
        reader.held.end();
        if reader.reading != Reading::Config {
            return Ok(());
        }
        let result = reader.held.take_result().unwrap_or(Err(DeviceError::Panicked));
        let given = result.map_err(|error| Error::Device { device: reader.name.clone(), error })?;
        let read_at = reader.read_at;
        if let StepOutput::Slot(slot, len) = given {
            self.push(device, slot, len, true, read_at);
        }
        Ok(())
    }
}

impl Reader {
    pub(super) fn new(device: Device) -> Reader {
        Reader {
            estimate: device.source.estimate(),
            name: device.name,
            instance: device.instance,
            held: Lent::new(device.source),
            reading: Reading::Idle,
            fd: None,
            flow: Flow::Later,
            converged: false,
            precopy_bytes: 0,
            read_at: 0,
        }
    }

    pub(super) fn offer(&self) -> wire::DeviceOffer {
        wire::DeviceOffer {
            name: self.name.clone(),
            instance: self.instance,
            estimate: self.estimate.unwrap_or(0),
        }
    }

    /// Whether it is read while the worker does other things.
    pub(super) fn overlaps(&self) -> bool {
        matches!(self.fd, Some((_, IoMode::Ring)))
    }

    /// Looks where its state is to be read from.
    pub(super) fn open(&mut self) {
        let source = self.held.device().expect("no step is under way between phases");
        let io_mode = |kind: FdKind| io_mode::choose(kind, io_mode::cpus());
        self.fd = source.fd().map(|(fd, kind)| (fd.as_raw_fd(), io_mode(kind)));
    }

    /// Whether pre-copy has done what it can: little is left, or it gives more than it ever expected to.
    pub(super) fn judge(&mut self, read: u64, packet_size: u64) {
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

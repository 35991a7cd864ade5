//! Station 1: where device state comes from.
//!
//! A [`Source`] knows a device and its phases. It knows nothing of packets, channels or rings: the engine reads from
//! its descriptor, or asks it to fill a buffer. [`crate::sink`] is the mirror image of this folder.

mod fd;
mod null;
pub(crate) mod pattern;
mod synthetic;
mod vfio;

use std::any::Any;
use std::os::fd::BorrowedFd;

pub use self::fd::{FdSource, FileSource};
pub use self::null::Null;
pub use self::synthetic::Synthetic;
pub use crate::descriptor::FdKind;
use crate::error::DeviceError;
use crate::phase::DeviceStep;
use crate::vfio::ArcTime;

pub use vfio::VfioSource;

/// What a source's state is doing after [`Source::start`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The device still runs and its state can be read already; it will be stopped later.
    PreCopy,
    /// The device runs, and its state can be read only after [`Source::stop`].
    StopCopyOnly,
}

/// What a device says that pre-copy could still read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PreCopyInfo {
    /// Bytes that should be read before the device is stopped, because stopping or loading is slower otherwise. They may
    /// begin anew: a device that is reconfigured has others.
    pub initial: u64,
    /// Bytes that have changed since they were read.
    pub dirty: u64,
}

impl PreCopyInfo {
    /// All that is left.
    pub fn total(self) -> u64 {
        self.initial.saturating_add(self.dirty)
    }
}

/// A device whose state is sent away.
///
/// The engine calls, in this order: [`start`](Source::start); reads while the flow is [`Flow::PreCopy`], and
/// [`precopy_info`](Source::precopy_info) between them, once more after `quiesce`;
/// [`quiesce`](Source::quiesce) and then [`stop`](Source::stop), each for all devices; reads to the end (a read of no
/// bytes); [`config`](Source::config); and finally one of [`release`](Source::release) (the destination runs),
/// [`rollback`](Source::rollback) (it never will) or, when that is unknown, [`park`](Source::park).
/// Methods may block: the engine runs them beside its loop, those of several devices in parallel.
///
/// An embedder implements this for its own device:
///
/// ```
/// use ringlift::error::DeviceError;
/// use ringlift::source::{Flow, Source};
///
/// /// Sixteen bytes of state, and no kernel descriptor behind them.
/// struct Timer { state: [u8; 16], read: usize }
///
/// impl Source for Timer {
///     fn start(&mut self) -> Result<Flow, DeviceError> { Ok(Flow::StopCopyOnly) }
///     fn stop(&mut self) -> Result<(), DeviceError> { self.read = 0; Ok(()) }
///     fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
///         let n = buffer.len().min(self.state.len() - self.read);
///         buffer[..n].copy_from_slice(&self.state[self.read..self.read + n]);
///         self.read += n;
///         Ok(n)
///     }
///     fn release(&mut self) -> Result<(), DeviceError> { Ok(()) }
///     fn rollback(&mut self) -> Result<(), DeviceError> { Ok(()) }
/// }
/// ```
pub trait Source: Any + Send {
    /// Bytes of state that the device expects to produce, if known. For progress and pre-copy, never for correctness.
    fn estimate(&self) -> Option<u64> {
        None
    }

    /// Starts the transfer: a device that can be read while it runs goes to PRE_COPY.
    fn start(&mut self) -> Result<Flow, DeviceError>;

    /// The descriptor that state is read from, if there is one, at its current position. Asked again after
    /// [`start`](Source::start) and after [`stop`](Source::stop).
    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        None
    }

    /// Puts the next bytes of state into `buffer` and returns how many; 0 is the end of what is available now. Called
    /// only when there is no descriptor, on the worker's own thread.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        let _ = buffer;
        Ok(0)
    }

    /// What pre-copy could still read now; none if the device cannot tell. Pre-copy of a device is left by this word only: a
    /// read of nothing means that there is nothing now. It may block, and reads of a descriptor go on meanwhile; an error
    /// is the device's failure. A device that cannot tell is left when it gives nothing, or too much.
    ///
    /// It is asked when pre-copy begins, when a read gave nothing, when what it said has almost been read, else once a
    /// second, and once more after [`quiesce`](Source::quiesce).
    fn precopy_info(&mut self) -> Result<Option<PreCopyInfo>, DeviceError> {
        Ok(None)
    }

    /// First half of stopping, done for all devices before any of them stops: no more DMA to other devices (P2P).
    fn quiesce(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Stops the device; from now on its state can be read to the end.
    fn stop(&mut self) -> Result<(), DeviceError>;

    /// Writes the config state (what must be applied after the data) into `buffer` and returns its length.
    fn config(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        let _ = buffer;
        Ok(0)
    }

    /// The destination runs: the device here is no longer needed and stays stopped.
    fn release(&mut self) -> Result<(), DeviceError>;

    /// The destination never ran and never will: the device goes back to its earlier state. Safe to call in any phase,
    /// also when [`start`](Source::start) never ran or failed.
    fn rollback(&mut self) -> Result<(), DeviceError>;

    /// Whether there is no device behind it that could stop, so that its downtime is only the protocol's.
    fn is_simulated(&self) -> bool {
        false
    }

    /// Whether a step is over at once, whatever happens: it does nothing, or touches memory alone, and never waits for a
    /// lock, a descriptor or the kernel. The loop carries out such a step itself; every other one runs on a thread
    /// beside it, and the hand-over to a thread costs far more than a step that does nothing. Asked once for each step, before
    /// the first one. A source that says so wrongly holds up the loop, and with it heartbeats and all other devices, but
    /// breaks nothing. One that wraps another source passes this on, unless it adds something that waits.
    ///
    /// The provided methods do nothing, but the engine cannot know whether a source overrides them. A source that overrides none
    /// of them says:
    ///
    /// ```
    /// # use ringlift::DeviceStep;
    /// fn is_instant(step: DeviceStep) -> bool {
    ///     matches!(step, DeviceStep::PreCopyInfo | DeviceStep::Quiesce | DeviceStep::Config | DeviceStep::Park)
    /// }
    /// ```
    fn is_instant(&self, step: DeviceStep) -> bool {
        let _ = step;
        false
    }

    /// The single changes of state since the last call, in order, with their times: for the events and the report, which
    /// take at most [`ARCS_MAX`](crate::limits::ARCS_MAX) of a device. Called after each step, on the same thread. One that
    /// wraps another source passes this on.
    fn take_arcs(&mut self) -> Vec<ArcTime> {
        Vec::new()
    }

    /// It is unknown which side runs: the device stays stopped with its state intact.
    fn park(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

/// The smaller of a buffer's length and what is left.
fn shorter(buffer: usize, left: u64) -> usize {
    usize::try_from(left).map_or(buffer, |left| buffer.min(left))
}

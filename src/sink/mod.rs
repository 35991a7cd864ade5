//! Station 8: where device state goes.
//!
//! A [`Sink`] knows a device and its phases, and nothing of packets, channels or rings: the engine writes to its
//! descriptor, or hands it the bytes. [`crate::source`] is the mirror image of this folder.

mod discard;
mod durable;
mod fd;
mod file;
mod together;
mod verify;
mod vfio;

use std::os::fd::BorrowedFd;

pub use self::discard::Discard;
pub use self::fd::FdSink;
pub use self::file::FileSink;
#[doc(hidden)]
pub use self::together::Together;
pub use self::verify::Verify;
use crate::error::DeviceError;
use crate::phase::DeviceStep;
pub use crate::source::FdKind;
use crate::vfio::ArcTime;

pub use vfio::VfioSink;

/// A device that state is loaded into.
///
/// The engine calls, in this order: [`prepare`](Sink::prepare); writes, in order and without gaps;
/// [`config`](Sink::config) once; [`seal`](Sink::seal); then, on the sender's Commit, [`pre_run`](Sink::pre_run) and
/// [`run`](Sink::run), each for all devices. When anything fails before the end of `run`,
/// [`rollback`](Sink::rollback). Methods may block: the engine runs them beside its loop, those of several devices in
/// parallel.
///
/// ```
/// use ringlift::error::{DeviceError, DeviceOperation, Errno};
/// use ringlift::sink::Sink;
///
/// /// Takes sixteen bytes, and no more.
/// #[derive(Default)]
/// struct Timer { state: [u8; 16], written: usize, running: bool }
///
/// impl Sink for Timer {
///     fn prepare(&mut self) -> Result<(), DeviceError> { self.written = 0; Ok(()) }
///     fn drain(&mut self, bytes: &[u8]) -> Result<usize, DeviceError> {
///         let n = bytes.len().min(self.state.len() - self.written);
///         self.state[self.written..self.written + n].copy_from_slice(&bytes[..n]);
///         self.written += n;
///         Ok(n)
///     }
///     fn seal(&mut self) -> Result<(), DeviceError> {
///         let operation = DeviceOperation::Custom("load timer");
///         if self.written == 16 { Ok(()) } else { Err(DeviceError::Io { operation, errno: Errno::from_raw(22) }) }
///     }
///     fn run(&mut self) -> Result<(), DeviceError> { self.running = true; Ok(()) }
///     fn rollback(&mut self) -> Result<(), DeviceError> { *self = Timer::default(); Ok(()) }
/// }
/// ```
pub trait Sink: Send {
    /// Gets ready to be written to: a VFIO device goes to RESUMING, a file is created beside its target.
    fn prepare(&mut self) -> Result<(), DeviceError>;

    /// The descriptor that state is written to, if there is one, at its current position. Asked after
    /// [`prepare`](Sink::prepare).
    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        None
    }

    /// Takes the next bytes of state and returns how many it took; 0 means that it is full. Called only when there is
    /// no descriptor, on the worker's own thread.
    fn drain(&mut self, bytes: &[u8]) -> Result<usize, DeviceError> {
        Ok(bytes.len())
    }

    /// Applies the config state; `blob` is empty when the source had none.
    fn config(&mut self, blob: &[u8]) -> Result<(), DeviceError> {
        let _ = blob;
        Ok(())
    }

    /// All state was written: verifies that the device accepted it, and makes it durable where that applies. After
    /// this, *Loaded* is sent to the sender. The device does not run yet.
    fn seal(&mut self) -> Result<(), DeviceError>;

    /// First half of starting, done for all devices before any of them runs: the device may answer other devices (P2P).
    fn pre_run(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// The sender has given the device up: lets it run. A file gets its name here.
    fn run(&mut self) -> Result<(), DeviceError>;

    /// Resets the device, which never runs this state; a new file is removed and the old one stays. Safe to call in any
    /// phase, also when [`prepare`](Sink::prepare) never ran or failed.
    fn rollback(&mut self) -> Result<(), DeviceError>;

    /// Whether there is no device behind it that could stop or run, so that its downtime is only the protocol's.
    fn is_simulated(&self) -> bool {
        false
    }

    /// Whether a step is over at once, whatever happens, so that the loop carries it out itself: the mirror image of
    /// [`Source::is_instant`](crate::source::Source::is_instant). [`DeviceStep::Load`] is [`config`](Sink::config) and
    /// [`seal`](Sink::seal). One that wraps another sink passes this on, unless it adds something that waits.
    fn is_instant(&self, step: DeviceStep) -> bool {
        let _ = step;
        false
    }

    /// The single changes of state since the last call, in order, with their times: for the events and the report, which
    /// take at most [`ARCS_MAX`](crate::limits::ARCS_MAX) of a device. Called after each step, on the same thread. One that
    /// wraps another sink passes this on.
    fn take_arcs(&mut self) -> Vec<ArcTime> {
        Vec::new()
    }

    /// Whether written bytes stay where they are even after [`rollback`](Sink::rollback), as those in a pipe do. The
    /// report of an aborted transfer warns of it.
    fn keeps_written(&self) -> bool {
        false
    }

    /// Whether the device was reset on the way, so that whoever uses it has to set it up again (its interrupts, its
    /// registers). Asked after [`rollback`](Sink::rollback); the transfer then ends with
    /// [`EndState::Reset`](crate::EndState::Reset) for it.
    fn was_reset(&self) -> bool {
        false
    }

    /// Called once, when a receiver is built: the sink makes known which file it writes. One that wraps another sink
    /// passes this on.
    #[doc(hidden)]
    fn join(&mut self, together: &mut Together) {
        let _ = together;
    }
}

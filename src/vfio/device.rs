//! One VFIO device with its migration state and its data file.
//!
//! It must not know which part the device plays in a transfer. Two invariants: after a failed state change the device
//! is in a known state again, or it was reset, or it is poisoned, and the error says which; and the data file is open
//! exactly as long as the state has a session.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno as Raw;
use nix::sys::stat::SFlag;

use super::arcs::{ArcTime, Arcs};
use super::config;
use super::kernel::{Kernel, PrecopyInfo};
use super::locate::{Roots, Way};
use super::state::{Features, Recover, State};
use super::sys::OpenDevice;
use crate::error::{DeviceError, DeviceOperation, Errno};

/// A VFIO device that can migrate.
///
/// While it is open here, no other process changes its migration state: [`state`](Device::state) returns what is
/// remembered, without asking the kernel again. Dropping it closes the files and changes nothing else, but the kernel
/// may: most drivers of physical devices reset a device when its last descriptor is closed, and its state is lost with
/// that.
pub struct Device {
    // Dropped in this order: the data file before the device that it belongs to.
    data: Option<OwnedFd>,
    kernel: Box<dyn Kernel>,
    features: Features,
    state: State,
    poison: Option<Poison>,
    was_reset: bool,
    arcs: Arcs,
    /// The kernel was asked to report initial bytes that begin anew, and will.
    reports_reinit: bool,
}

/// What made a device unusable.
#[derive(Debug, Clone, Copy)]
struct Poison {
    failed: Failed,
    reset: Errno,
}

/// A change of state that failed on one of its arcs.
#[derive(Debug, Clone, Copy)]
struct Failed {
    from: State,
    to: State,
    arc: (State, State),
    errno: Errno,
}

impl Device {
    /// Opens a device, and attaches it to a container or an iommufd with nothing mapped. `path` is one of
    ///
    /// * a PCI address with its domain, `0000:00:1f.2`;
    /// * the UUID of a mediated device, or its folder `/sys/bus/mdev/devices/UUID`;
    /// * any other sysfs folder of a device;
    /// * `/dev/vfio/devices/vfioN`: this node, through iommufd;
    /// * `/dev/vfio/N/NAME`: device NAME (PCI address or UUID) of group N, through the group.
    ///
    /// The first three use the device's own node if `/dev/iommu` and the node exist, otherwise its group. A device that
    /// is already open cannot be opened a second time: `EBUSY`, or `EINVAL` from its own node. A virtual machine
    /// monitor hands over a descriptor instead: [`from_fd`](Device::from_fd).
    pub fn open(path: impl AsRef<Path>) -> Result<Device, DeviceError> {
        Device::with_kernel(Box::new(open_kernel(&Roots::default(), path.as_ref())?))
    }

    /// Takes over the descriptor (or a duplicate) of a device that is already open and attached. It opens no file, and
    /// needs neither `/proc` nor `/sys`.
    pub fn from_fd(fd: OwnedFd) -> Result<Device, DeviceError> {
        let file = File::from(fd);
        let known = is_vfio_device(&file, &Roots::default());
        Device::given(known, Box::new(OpenDevice::from_file(file)))
    }

    /// The device behind a file, if it is `known` to be one or, where that is unknown, answers as one.
    fn given(known: Option<bool>, kernel: Box<dyn Kernel>) -> Result<Device, DeviceError> {
        if known.unwrap_or_else(|| kernel.is_device()) {
            return Device::with_kernel(kernel);
        }
        Err(DeviceError::Io { operation: DeviceOperation::FindBehindDescriptor, errno: Raw::ENOTTY.into() })
    }

    /// A device over any kernel: the real one, or that of the tests.
    pub(crate) fn with_kernel(kernel: Box<dyn Kernel>) -> Result<Device, DeviceError> {
        let features = read_features(kernel.as_ref())?;
        let mut device = Device {
            data: None,
            kernel,
            features,
            state: State::Error,
            poison: None,
            was_reset: false,
            arcs: Arcs::new(),
            reports_reinit: false,
        };
        device.state = device.ask_state().map_err(|errno| io(DeviceOperation::MigrationState, errno))?;
        Ok(device)
    }

    /// What the device can do.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Its migration state.
    pub fn state(&self) -> State {
        self.state
    }

    /// The data file, while the state has a session that was started here.
    pub fn data_fd(&self) -> Option<BorrowedFd<'_>> {
        self.data.as_ref().map(AsFd::as_fd)
    }

    /// Brings the device to another state; blocks until the kernel is done.
    ///
    /// It goes there by single arcs, in the order in which the kernel would take them, so that the time of each is known:
    /// [`take_arcs`](Device::take_arcs).
    ///
    /// When that fails, the device is brought back to what it did before, as [`State`] defines it: a running device
    /// runs, a stopped one stays stopped ([`DeviceError::Transition`]). When it cannot be brought back, or was half
    /// loaded, it is reset ([`DeviceError::StateLost`]). When that fails, too, it is poisoned, and every later change
    /// fails with [`DeviceError::Poisoned`] until a [`reset`](Device::reset) succeeds. A change that is not legal
    /// touches nothing.
    pub fn set_state(&mut self, to: State) -> Result<(), DeviceError> {
        if let Some(poison) = self.poison {
            return Err(poison.into());
        }
        let from = self.state;
        if from == to && from != State::Error {
            return Ok(());
        }
        if !from.can_go(to, self.features) {
            return Err(DeviceError::Transition { from, to, arc: (from, to), errno: Raw::EINVAL.into() });
        }
        self.go(to).or_else(|(arc, errno)| self.recover(Failed { from, to, arc, errno }))
    }

    /// Every single change of state since the last call, in order; the first [`ARCS_MAX`](crate::limits::ARCS_MAX), if
    /// there were more.
    pub fn take_arcs(&mut self) -> Vec<ArcTime> {
        self.arcs.take()
    }

    /// Resets the device: it is RUNNING, without state.
    pub fn reset(&mut self) -> Result<(), DeviceError> {
        self.try_reset().map_err(|errno| io(DeviceOperation::Reset, errno))
    }

    /// Whether a failed change could not be undone, and no reset has helped since.
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_some()
    }

    /// Whether it was reset since it was opened here, when asked to or after a failed change.
    pub fn was_reset(&self) -> bool {
        self.was_reset
    }

    /// Brings a device back to `home` from wherever it is. After an error it has lost its state: it was reset, or even the
    /// reset failed.
    pub(crate) fn bring_back(&mut self, home: State) -> Result<(), DeviceError> {
        let result = self.cure().and_then(|()| self.set_state(home));
        if result.is_err() && !self.is_poisoned() {
            // It was reset, and runs without state. The first error is the one to report.
            let _ = self.set_state(home);
        }
        result
    }

    /// Resets the device if it is poisoned, and then reports what was lost.
    fn cure(&mut self) -> Result<(), DeviceError> {
        let Some(Poison { failed, .. }) = self.poison else { return Ok(()) };
        match self.try_reset() {
            Ok(()) => Err(failed.lost()),
            Err(reset) => Err(Poison { failed, reset }.into()),
        }
    }

    /// Size of the STOP_COPY state in bytes, as the driver estimates it now.
    pub fn stop_copy_size(&self) -> Result<u64, DeviceError> {
        self.kernel.stop_copy_size().map_err(|errno| io(DeviceOperation::StopCopySize, errno))
    }

    /// Lets the kernel report that initial bytes have begun anew. Most kernels cannot, and no device needs it.
    pub(crate) fn opt_in_to_reinit(&mut self) {
        self.reports_reinit = self.kernel.opt_in_to_reinit().is_ok();
    }

    /// How much pre-copy could still read. Only in the PRE_COPY states. It may wait for the device's firmware.
    pub fn precopy_info(&self) -> Result<PrecopyInfo, DeviceError> {
        let data = self.data_fd().ok_or(Errno::from(Raw::EBADF));
        let info = data
            .and_then(|data| self.kernel.precopy_info(data))
            .map_err(|errno| io(DeviceOperation::PrecopyInfo, errno))?;
        Ok(PrecopyInfo { reinitialised: info.reinitialised && self.reports_reinit, ..info })
    }

    /// Writes the config state of a PCI device into `buffer` and returns its length in bytes; 0 for a device without
    /// PCI config space.
    pub fn save_config(&self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        config::save(self.kernel.as_ref(), buffer)
    }

    /// Checks that the config state `blob` is that of a device like this one, and applies what can be applied. An empty
    /// one applies nothing.
    pub fn load_config(&mut self, blob: &[u8]) -> Result<(), DeviceError> {
        config::load(self.kernel.as_ref(), blob)
    }

    /// Reads of region `idx` (0 to 5 are a PCI device's BARs, 7 its config space), from `offset` in it. A register may
    /// care how many bytes are read in one access. For callers that inspect the device; a transfer never does this.
    pub fn read_region(&self, idx: u32, offset: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        self.place_in_region(idx, offset, buffer.len())
            .and_then(|place| self.kernel.read_at(buffer, place))
            .map_err(|errno| io(DeviceOperation::ReadRegion, errno))
    }

    /// Writes to region `idx`, from `offset` in it. [`read_region`](Device::read_region) has the indexes.
    pub fn write_region(&mut self, idx: u32, offset: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.place_in_region(idx, offset, bytes.len())
            .and_then(|place| self.kernel.write_at(bytes, place))
            .map_err(|errno| io(DeviceOperation::WriteRegion, errno))
    }

    /// The offset in the device's file; `EINVAL` when the range exceeds the region, because the next one may follow it.
    fn place_in_region(&self, idx: u32, offset: u64, length: usize) -> Result<u64, Errno> {
        let region = self.kernel.region(idx)?;
        offset
            .checked_add(length as u64)
            .filter(|end| *end <= region.size)
            .and_then(|_| region.offset.checked_add(offset))
            .ok_or(Errno::from(Raw::EINVAL))
    }

    /// Goes to a state that can be reached, arc by arc. Where that fails: on which arc.
    fn go(&mut self, to: State) -> Result<(), ((State, State), Errno)> {
        while let Some(next) = self.state.next_arc(to, self.features) {
            let (from, begin_ns) = (self.state, self.kernel.now());
            let result = self.request(next);
            self.arcs.push(ArcTime { from, to: next, begin_ns, end_ns: self.kernel.now() });
            result.map_err(|errno| ((from, next), errno))?;
        }
        Ok(())
    }

    /// One single change of state, with its effect on the data file.
    fn request(&mut self, to: State) -> Result<(), Errno> {
        let given = self.kernel.set_state(to.to_kernel())?;
        // Within the saving group the same file stays in use, and the kernel returns none; a returned one replaces it.
        let goes_on = self.state.saves() && to.saves();
        self.state = to;
        match given {
            Some(data) if to.has_session() => self.data = Some(data),
            _ if goes_on => {}
            _ => self.data = None,
        }
        if to.has_session() && self.data.is_none() { Err(Raw::EBADF.into()) } else { Ok(()) }
    }

    /// After a failed change: brings the device back, or resets it, or marks it as poisoned.
    fn recover(&mut self, failed: Failed) -> Result<(), DeviceError> {
        self.state = self.ask_state().unwrap_or(State::Error);
        let Failed { from, to, arc, errno } = failed;
        if let Recover::To(back) = from.recover(to)
            && self.go_back(back)
        {
            return if back == to { Ok(()) } else { Err(DeviceError::Transition { from, to, arc, errno }) };
        }
        match self.try_reset() {
            Ok(()) => Err(failed.lost()),
            Err(reset) => {
                let poison = Poison { failed, reset };
                self.poison = Some(poison);
                Err(poison.into())
            }
        }
    }

    /// `back` has no session: see the tests of [`State::recover`].
    fn go_back(&mut self, back: State) -> bool {
        if self.state == back {
            self.data = None;
            return true;
        }
        self.state.can_go(back, self.features) && self.go(back).is_ok()
    }

    fn try_reset(&mut self) -> Result<(), Errno> {
        self.kernel.reset()?;
        self.was_reset = true;
        self.data = None;
        self.state = self.ask_state()?;
        if self.state != State::Running {
            return Err(Raw::EIO.into());
        }
        self.poison = None;
        Ok(())
    }

    fn ask_state(&self) -> Result<State, Errno> {
        let number = self.kernel.state()?;
        State::from_kernel(number).ok_or(Errno::from(Raw::EPROTO))
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device")
            .field("state", &self.state)
            .field("features", &self.features)
            .field("data", &self.data)
            .field("poison", &self.poison)
            .finish_non_exhaustive()
    }
}

impl Failed {
    /// Only a reset has helped.
    fn lost(self) -> DeviceError {
        let Failed { from, to, arc, errno } = self;
        DeviceError::StateLost { from, to, arc, errno }
    }
}

impl From<Poison> for DeviceError {
    fn from(Poison { failed: Failed { from, to, arc, errno }, reset }: Poison) -> DeviceError {
        DeviceError::Poisoned { from, to, arc, errno, reset }
    }
}

/// Opens the device that `typed` names, whether it can migrate or not.
pub(super) fn open_kernel(roots: &Roots, typed: &Path) -> Result<OpenDevice, DeviceError> {
    match roots.locate(typed)? {
        Way::Node { node, iommu } => OpenDevice::open_node(&node, &iommu),
        Way::Group { node, container, name } => OpenDevice::open_in_group(&node, &container, &name),
    }
}

/// The features of a device that can migrate.
pub(super) fn read_features(kernel: &dyn Kernel) -> Result<Features, DeviceError> {
    let unsupported = DeviceError::Unsupported { what: "migration (VFIO v2, STOP_COPY)" };
    match kernel.migration_flags() {
        Ok(flags) => Some(Features::from_kernel(flags)).filter(|f| f.stop_copy()).ok_or(unsupported),
        Err(errno) if errno == Raw::ENOTTY.into() => Err(unsupported),
        Err(errno) => Err(io(DeviceOperation::MigrationFeatures, errno)),
    }
}

/// Whether a VFIO ioctl means to this file what it means to us. Another driver could interpret the same number
/// differently, and write to memory that is not there. Unknown where the kernel's name of the file cannot be read: in a
/// sandbox, or without `/proc` or `/sys`.
fn is_vfio_device(file: &File, roots: &Roots) -> Option<bool> {
    if let Ok(link) = fs::read_link(roots.proc.join(format!("self/fd/{}", file.as_raw_fd())))
        && link.as_os_str().as_encoded_bytes().starts_with(b"anon_inode:")
    {
        return Some(link.as_os_str() == "anon_inode:[vfio-device]");
    }
    let metadata = file.metadata().ok()?;
    let number = metadata.rdev();
    match SFlag::from_bits_truncate(metadata.mode() & SFlag::S_IFMT.bits()) {
        SFlag::S_IFCHR => roots.is_vfio_node(nix::sys::stat::major(number), nix::sys::stat::minor(number)),
        // a file without a name or a type, as a device from its group is
        none if none.is_empty() => None,
        _ => Some(false),
    }
}

fn io(operation: DeviceOperation, errno: Errno) -> DeviceError {
    DeviceError::Io { operation, errno }
}

#[cfg(test)]
mod tests;

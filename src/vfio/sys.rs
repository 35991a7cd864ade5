#![expect(unsafe_code, reason = "ioctls: the kernel's only interface to a VFIO device")]
//! The ioctls of VFIO and iommufd, each paired with the struct that the kernel expects, and the way from a node in
//! `/dev` to an opened device. It decides nothing about migration: that is left to `device`.
//!
//! **Invariant**: a [`Request`] pairs a number with the type of its argument, in the one list below, and every ioctl
//! goes through one of the three functions at the end of this file.
//!
//! # Containers and iommufds
//!
//! Nothing is ever mapped for DMA here, so it does not matter what a device is attached to; but the kernel insists that
//! it is attached. The kernel lets one process open a group, and only once; devices of one group (functions of one
//! card) must share what they are attached to. So a process opens each group once, with its own container, and one
//! iommufd with one address space for all devices that are opened through their own nodes. Devices hold a [`Lease`];
//! dropping the last one closes the file. Groups do not share a container: they would gain nothing, and a container may
//! refuse a second group whose IOMMU differs.

use std::collections::BTreeSet;
use std::ffi::{CString, c_char, c_int, c_ulong};
use std::fs::{File, OpenOptions};
use std::marker::PhantomData;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use iommufd_bindings::iommufd;
use nix::sys::ioctl::ioctl_num_type;
use vfio_bindings::bindings::vfio;

use super::kernel::{Kernel, PrecopyInfo, Region};
use super::lease::{Lease, Registry};
use crate::error::{DeviceError, DeviceOperation, Errno};

/// An opened VFIO device.
#[derive(Debug)]
pub(super) struct OpenDevice {
    // Dropped in this order: the device's file before what keeps it attached.
    file: File,
    _attached: Attached,
}

/// What must stay open as long as the device is.
#[derive(Debug)]
enum Attached {
    /// A group's container.
    Group { _member: Member },
    /// The process's iommufd.
    Iommufd { _lease: Lease<Iommufd> },
    /// Kept open by the code that opened the device.
    Elsewhere,
}

impl OpenDevice {
    /// A device that was opened and attached elsewhere. The caller verifies that it is the file of a VFIO device, with
    /// [`Kernel::is_device`] where nothing else tells.
    pub(super) fn from_file(file: File) -> OpenDevice {
        OpenDevice { file, _attached: Attached::Elsewhere }
    }

    /// Opens device `name` of the group behind `node` (`/dev/vfio/N`), over `container` (`/dev/vfio/vfio`).
    pub(super) fn open_in_group(
        node: &Path,
        container: &Path,
        name: &str,
    ) -> Result<OpenDevice, DeviceError> {
        let member = Member::join(GROUPS.lease(node, || Group::open(node, container))?, name)?;
        let name_argument = CString::new(name).map_err(|_| {
            open_error(DeviceOperation::FindInGroup, Path::new(name), nix::errno::Errno::EINVAL)
        })?;
        let file = ioctl_string(member.group.value().file.as_fd(), GROUP_GET_DEVICE_FD, &name_argument)
            .and_then(adopt)
            .map_err(|errno| open_error(DeviceOperation::GroupDevice, Path::new(name), errno))?;
        Ok(OpenDevice { file: file.into(), _attached: Attached::Group { _member: member } })
    }

    /// Opens the device behind `node` (`/dev/vfio/devices/vfioN`) with `iommu` (`/dev/iommu`).
    pub(super) fn open_node(node: &Path, iommu: &Path) -> Result<OpenDevice, DeviceError> {
        let file = open_file(node)?;
        let lease = IOMMUFDS.lease(iommu, || Iommufd::open(iommu))?;
        let mut bind = vfio::vfio_device_bind_iommufd {
            argsz: argument_size::<vfio::vfio_device_bind_iommufd>(),
            iommufd: lease.value().file.as_raw_fd(),
            ..Default::default()
        };
        ioctl_struct(file.as_fd(), DEVICE_BIND_IOMMUFD, &mut bind)
            .map_err(|errno| open_error(DeviceOperation::BindIommufd, node, errno))?;
        let mut attach = vfio::vfio_device_attach_iommufd_pt {
            argsz: argument_size::<vfio::vfio_device_attach_iommufd_pt>(),
            pt_id: lease.value().address_space,
            ..Default::default()
        };
        ioctl_struct(file.as_fd(), DEVICE_ATTACH_IOMMUFD_PT, &mut attach)
            .map_err(|errno| open_error(DeviceOperation::AttachIommufd, node, errno))?;
        Ok(OpenDevice { file, _attached: Attached::Iommufd { _lease: lease } })
    }
}

impl Kernel for OpenDevice {
    /// The kernel keeps the numbers of VFIO's requests free of others (`ioctl-number.rst`), and of VFIO's own files only a
    /// device knows this one. Every driver names a kind of device in the flags; one that agrees to whatever it is
    /// asked names none.
    fn is_device(&self) -> bool {
        self.info().is_ok_and(|device| device.flags != 0)
    }

    fn migration_flags(&self) -> Result<u64, Errno> {
        self.feature_get(FEATURE_MIGRATION, vfio::VFIO_DEVICE_FEATURE_MIGRATION)
            .map(|migration| migration.flags)
    }

    fn state(&self) -> Result<u32, Errno> {
        self.feature_get(FEATURE_MIG_STATE, vfio::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE)
            .map(|state| state.device_state)
    }

    fn set_state(&self, number: u32) -> Result<Option<OwnedFd>, Errno> {
        let mut feature = Feature {
            argsz: argument_size::<Feature<vfio::vfio_device_feature_mig_state>>(),
            flags: vfio::VFIO_DEVICE_FEATURE_SET | vfio::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
            data: vfio::vfio_device_feature_mig_state { device_state: number, data_fd: -1 },
        };
        ioctl_struct(self.file.as_fd(), FEATURE_MIG_STATE, &mut feature)?;
        match feature.data.data_fd {
            none if none < 0 => Ok(None),
            given => adopt(given).map(Some),
        }
    }

    fn stop_copy_size(&self) -> Result<u64, Errno> {
        self.feature_get(FEATURE_MIG_DATA_SIZE, vfio::VFIO_DEVICE_FEATURE_MIG_DATA_SIZE)
            .map(|size| size.stop_copy_length)
    }

    fn opt_in_to_reinit(&self) -> Result<(), Errno> {
        let mut feature = vfio::vfio_device_feature {
            argsz: argument_size::<vfio::vfio_device_feature>(),
            flags: vfio::VFIO_DEVICE_FEATURE_SET | FEATURE_MIG_PRECOPY_INFO_V2,
            ..Default::default()
        };
        ioctl_struct(self.file.as_fd(), FEATURE_WITHOUT_DATA, &mut feature).map(|_| ())
    }

    fn precopy_info(&self, data: BorrowedFd<'_>) -> Result<PrecopyInfo, Errno> {
        // the flags are zero: without the opt-in the kernel gives back what it was given
        let mut info = vfio::vfio_precopy_info {
            argsz: argument_size::<vfio::vfio_precopy_info>(),
            ..Default::default()
        };
        ioctl_struct(data, MIG_GET_PRECOPY_INFO, &mut info)?;
        Ok(PrecopyInfo {
            initial_bytes: info.initial_bytes,
            dirty_bytes: info.dirty_bytes,
            reinitialised: info.flags & PRECOPY_INFO_REINIT != 0,
        })
    }

    fn reset(&self) -> Result<(), Errno> {
        ioctl_value(self.file.as_fd(), DEVICE_RESET, 0).map(|_| ())
    }

    fn config_region(&self) -> Result<Option<Region>, Errno> {
        if self.info()?.flags & vfio::VFIO_DEVICE_FLAGS_PCI == 0 {
            return Ok(None);
        }
        let region = self.region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?;
        Ok((region.size > 0).then_some(region))
    }

    fn region(&self, idx: u32) -> Result<Region, Errno> {
        let mut region = vfio::vfio_region_info {
            argsz: argument_size::<vfio::vfio_region_info>(),
            index: idx,
            ..Default::default()
        };
        ioctl_struct(self.file.as_fd(), DEVICE_GET_REGION_INFO, &mut region)?;
        Ok(Region { size: region.size, offset: region.offset })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Errno> {
        Ok(self.file.read_exact_at(buffer, offset)?)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), Errno> {
        Ok(self.file.write_all_at(bytes, offset)?)
    }
}

impl OpenDevice {
    fn info(&self) -> Result<vfio::vfio_device_info, Errno> {
        let mut device =
            vfio::vfio_device_info { argsz: argument_size::<vfio::vfio_device_info>(), ..Default::default() };
        ioctl_struct(self.file.as_fd(), DEVICE_GET_INFO, &mut device)?;
        Ok(device)
    }

    fn feature_get<T: Default>(&self, request: Request<Feature<T>>, feature: u32) -> Result<T, Errno> {
        let mut argument = Feature {
            argsz: argument_size::<Feature<T>>(),
            flags: vfio::VFIO_DEVICE_FEATURE_GET | feature,
            data: T::default(),
        };
        ioctl_struct(self.file.as_fd(), request, &mut argument)?;
        Ok(argument.data)
    }
}

/// A group, opened once in this process, in its own container.
#[derive(Debug)]
struct Group {
    file: File,
    _container: File,
    /// The devices that are open.
    members: Mutex<BTreeSet<Box<str>>>,
}

impl Group {
    fn open(node: &Path, container_node: &Path) -> Result<Group, DeviceError> {
        let container = open_file(container_node)?;
        let file = open_file(node)?;
        let mut status = vfio::vfio_group_status {
            argsz: argument_size::<vfio::vfio_group_status>(),
            ..Default::default()
        };
        ioctl_struct(file.as_fd(), GROUP_GET_STATUS, &mut status)
            .map_err(|errno| open_error(DeviceOperation::GroupStatus, node, errno))?;
        if status.flags & vfio::VFIO_GROUP_FLAGS_VIABLE == 0 {
            let operation = DeviceOperation::GroupViable;
            return Err(open_error(operation, node, nix::errno::Errno::EPERM));
        }
        let mut container_number: c_int = container.as_raw_fd();
        ioctl_struct(file.as_fd(), GROUP_SET_CONTAINER, &mut container_number)
            .map_err(|errno| open_error(DeviceOperation::GroupContainer, node, errno))?;
        ioctl_value(container.as_fd(), SET_IOMMU, c_ulong::from(vfio::VFIO_TYPE1v2_IOMMU))
            .map_err(|errno| open_error(DeviceOperation::SetIommu, node, errno))?;
        Ok(Group { file, _container: container, members: Mutex::default() })
    }
}

/// A device's membership in its group. The kernel would open a device of an open group a second time, and then two
/// owners would change one migration state; through nodes it does not.
#[derive(Debug)]
struct Member {
    group: Lease<Group>,
    name: Box<str>,
}

impl Member {
    fn join(group: Lease<Group>, name: &str) -> Result<Member, DeviceError> {
        let mut members = group.value().members.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = members.insert(name.into());
        drop(members);
        if !is_new {
            return Err(open_error(DeviceOperation::Open, Path::new(name), nix::errno::Errno::EBUSY));
        }
        Ok(Member { group, name: name.into() })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut members = self.group.value().members.lock().unwrap_or_else(PoisonError::into_inner);
        members.remove(&self.name);
    }
}

/// The process's iommufd and an address space in it.
#[derive(Debug)]
struct Iommufd {
    file: File,
    address_space: u32,
}

impl Iommufd {
    fn open(node: &Path) -> Result<Iommufd, DeviceError> {
        let file = open_file(node)?;
        let mut alloc = iommufd::iommu_ioas_alloc {
            size: argument_size::<iommufd::iommu_ioas_alloc>(),
            flags: 0,
            out_ioas_id: 0,
        };
        ioctl_struct(file.as_fd(), IOAS_ALLOC, &mut alloc)
            .map_err(|errno| open_error(DeviceOperation::AllocateIoas, node, errno))?;
        Ok(Iommufd { file, address_space: alloc.out_ioas_id })
    }
}

static GROUPS: Registry<Group> = Registry::new();
static IOMMUFDS: Registry<Iommufd> = Registry::new();

fn open_file(node: &Path) -> Result<File, DeviceError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(node)
        .map_err(|error| open_error(DeviceOperation::Open, node, Errno::from(error)))
}

fn open_error(operation: DeviceOperation, path: &Path, errno: impl Into<Errno>) -> DeviceError {
    DeviceError::Open { operation, path: path.to_string_lossy().into(), errno: errno.into() }
}

/// An ioctl's number, and the type of the struct that its argument points to.
struct Request<T> {
    number: ioctl_num_type,
    argument: PhantomData<fn(&mut T)>,
}

impl<T> Request<T> {
    /// `_IO(VFIO_TYPE, VFIO_BASE + offset)`: VFIO's numbers carry neither direction nor size.
    const fn vfio(offset: u32) -> Request<T> {
        Request::bare(vfio::VFIO_TYPE, vfio::VFIO_BASE + offset)
    }

    /// `_IO(group, number)`.
    const fn bare(group: u8, number: u32) -> Request<T> {
        assert!(number < 256);
        Request { number: ((group as ioctl_num_type) << 8) | number as ioctl_num_type, argument: PhantomData }
    }
}

// The list of the invariant: the number, and what the kernel reads and writes through the pointer
// (include/uapi/linux/vfio.h and iommufd.h). The three without a struct have the type of their value instead.
const SET_IOMMU: Request<c_ulong> = Request::vfio(2);
const GROUP_GET_STATUS: Request<vfio::vfio_group_status> = Request::vfio(3);
const GROUP_SET_CONTAINER: Request<c_int> = Request::vfio(4);
const GROUP_GET_DEVICE_FD: Request<c_char> = Request::vfio(6);
const DEVICE_GET_INFO: Request<vfio::vfio_device_info> = Request::vfio(7);
const DEVICE_GET_REGION_INFO: Request<vfio::vfio_region_info> = Request::vfio(8);
const DEVICE_RESET: Request<c_ulong> = Request::vfio(11);
const FEATURE_MIGRATION: Request<Feature<vfio::vfio_device_feature_migration>> = Request::vfio(17);
const FEATURE_MIG_STATE: Request<Feature<vfio::vfio_device_feature_mig_state>> = Request::vfio(17);
const FEATURE_MIG_DATA_SIZE: Request<Feature<vfio::vfio_device_feature_mig_data_size>> = Request::vfio(17);
const FEATURE_WITHOUT_DATA: Request<vfio::vfio_device_feature> = Request::vfio(17);
const DEVICE_BIND_IOMMUFD: Request<vfio::vfio_device_bind_iommufd> = Request::vfio(18);
const DEVICE_ATTACH_IOMMUFD_PT: Request<vfio::vfio_device_attach_iommufd_pt> = Request::vfio(19);
const MIG_GET_PRECOPY_INFO: Request<vfio::vfio_precopy_info> = Request::vfio(21);
const IOAS_ALLOC: Request<iommufd::iommu_ioas_alloc> =
    Request::bare(iommufd::IOMMUFD_TYPE, iommufd::IOMMUFD_CMD_IOAS_ALLOC);

// Of include/uapi/linux/vfio.h in Linux 7.1, where `vfio-bindings` has no names for them yet.
/// `VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2`: to be set, without data.
const FEATURE_MIG_PRECOPY_INFO_V2: u32 = 12;
/// `VFIO_PRECOPY_INFO_REINIT`, in the flags of `struct vfio_precopy_info`.
const PRECOPY_INFO_REINIT: u32 = 1 << 0;

/// `struct vfio_device_feature` with its payload in place of the flexible array.
#[repr(C)]
struct Feature<T> {
    argsz: u32,
    flags: u32,
    data: T,
}

const FEATURE_HEADER: usize = size_of::<vfio::vfio_device_feature>();
const _: () = assert!(offset_of!(vfio::vfio_device_feature, data) == FEATURE_HEADER);
const _: () = assert!(offset_of!(Feature<vfio::vfio_device_feature_migration>, data) == FEATURE_HEADER);
const _: () = assert!(offset_of!(Feature<vfio::vfio_device_feature_mig_state>, data) == FEATURE_HEADER);
const _: () = assert!(offset_of!(Feature<vfio::vfio_device_feature_mig_data_size>, data) == FEATURE_HEADER);

/// The value of `argsz`, which also bounds what the kernel writes.
const fn argument_size<T>() -> u32 {
    let size = size_of::<T>();
    assert!(size <= 4096, "the arguments of these ioctls are small");
    #[expect(clippy::cast_possible_truncation, reason = "checked in the line above")]
    let size = size as u32;
    size
}

/// Calls an ioctl whose argument points to a `T`.
fn ioctl_struct<T>(fd: BorrowedFd<'_>, request: Request<T>, argument: &mut T) -> Result<c_int, Errno> {
    retry_interrupted(|| {
        // SAFETY: the kernel reads and writes at most a `T` through the pointer, because `request` pairs the number
        // with that type (upheld by the list of requests, and by `argsz`, which every caller sets to the type's size);
        // the reference is exclusive and outlives the call. That `fd` is a VFIO or iommufd file, so that the number
        // means this, is upheld by `OpenDevice`'s constructors.
        unsafe { nix::libc::ioctl(fd.as_raw_fd(), request.number, std::ptr::from_mut(argument)) }
    })
}

/// Calls an ioctl whose argument is a number.
fn ioctl_value(fd: BorrowedFd<'_>, request: Request<c_ulong>, value: c_ulong) -> Result<c_int, Errno> {
    retry_interrupted(|| {
        // SAFETY: the kernel takes the argument for a number, not for an address, because `request` says so (upheld by
        // the list of requests), so it touches no memory of this process.
        unsafe { nix::libc::ioctl(fd.as_raw_fd(), request.number, value) }
    })
}

/// Calls an ioctl whose argument is a string.
fn ioctl_string(fd: BorrowedFd<'_>, request: Request<c_char>, argument: &CString) -> Result<c_int, Errno> {
    retry_interrupted(|| {
        // SAFETY: the kernel only reads, up to the terminating zero, because `request` says so (upheld by the list of
        // requests); a `CString` has that zero, and outlives the call.
        unsafe { nix::libc::ioctl(fd.as_raw_fd(), request.number, argument.as_ptr()) }
    })
}

/// Retries after a signal: repeating a request is harmless for every request of the list.
fn retry_interrupted(mut call: impl FnMut() -> c_int) -> Result<c_int, Errno> {
    loop {
        match nix::errno::Errno::result(call()) {
            Err(nix::errno::Errno::EINTR) => {}
            other => return other.map_err(Errno::from),
        }
    }
}

/// Takes over a descriptor that the kernel has just made for us.
fn adopt(number: c_int) -> Result<OwnedFd, Errno> {
    if number < 0 {
        return Err(nix::errno::Errno::EBADF.into());
    }
    // SAFETY: the number is an open descriptor that no other code knows or closes, because an ioctl has just returned
    // it (upheld by the callers, who pass nothing else).
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_headers() {
        // As `_IO(';', 100 + n)` and `_IO(';', 0x81)` come out of the C preprocessor.
        assert_eq!(DEVICE_RESET.number, 0x3b6f);
        assert_eq!(FEATURE_MIG_STATE.number, 0x3b75);
        assert_eq!(MIG_GET_PRECOPY_INFO.number, 0x3b79);
        assert_eq!(IOAS_ALLOC.number, 0x3b81);
    }

    #[test]
    fn arguments_have_the_kernels_sizes() {
        assert_eq!(argument_size::<Feature<vfio::vfio_device_feature_mig_state>>(), 16);
        assert_eq!(argument_size::<Feature<vfio::vfio_device_feature_migration>>(), 16);
        assert_eq!(argument_size::<vfio::vfio_device_feature>(), 8);
        assert_eq!(argument_size::<vfio::vfio_precopy_info>(), 24);
        assert_eq!(argument_size::<vfio::vfio_region_info>(), 32);
        assert_eq!(argument_size::<vfio::vfio_device_bind_iommufd>(), 24);
    }

    #[test]
    fn a_file_that_is_no_vfio_device_knows_none_of_this() {
        let device = OpenDevice::from_file(File::open("/dev/null").unwrap());

        assert_eq!(device.migration_flags().unwrap_err(), nix::errno::Errno::ENOTTY.into());
        assert_eq!(device.reset().unwrap_err(), nix::errno::Errno::ENOTTY.into());
    }

    #[test]
    fn a_device_joins_its_group_once_at_a_time() {
        static REGISTRY: Registry<Group> = Registry::new();
        let node = Path::new("/dev/vfio/7");
        let null = || File::open("/dev/null").unwrap();
        let group = || Ok(Group { file: null(), _container: null(), members: Mutex::default() });
        let join = |name| Member::join(REGISTRY.lease(node, group).unwrap(), name);

        let first = join("0000:00:1f.2").unwrap();
        let other = join("0000:00:1f.3").unwrap();
        let again = join("0000:00:1f.2").unwrap_err();
        drop(first);

        assert_eq!(again.to_string(), "open 0000:00:1f.2 failed: EBUSY (Device or resource busy)");
        assert!(join("0000:00:1f.2").is_ok());
        drop(other);
    }

    #[test]
    fn a_missing_node_is_named_in_the_error() {
        let error =
            OpenDevice::open_in_group(Path::new("/nonexistent/7"), Path::new("/dev/null"), "x").unwrap_err();

        assert_eq!(error.to_string(), "open /nonexistent/7 failed: ENOENT (No such file or directory)");
    }
}

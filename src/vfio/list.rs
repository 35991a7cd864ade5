//! Which VFIO devices this host has, and what they can do.
//!
//! The names come from sysfs. Only the device itself can tell what it supports, so each is opened for a moment. One
//! that is in use refuses that and is not disturbed; on an unused one, the driver does what it does on opening and
//! closing, which for most physical devices is a reset.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::device::{open_kernel, read_features};
use super::kernel::Kernel;
use super::locate::Roots;
use super::state::Features;
use crate::error::DeviceError;

/// A VFIO device of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its folder in sysfs; [`Device::open`](super::Device::open) accepts it.
    pub path: PathBuf,
    /// PCI address or UUID, which [`Device::open`](super::Device::open) accepts, too.
    pub name: String,
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// The number of its IOMMU group.
    pub group: Option<u32>,
    /// Its own node (`/dev/vfio/devices/vfioN`), when the kernel provides one.
    pub cdev: Option<PathBuf>,
    /// Whether it can be migrated.
    pub migration: Migration,
}

/// Whether a device can be migrated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Migration {
    /// It can.
    Supported {
        /// What it supports.
        features: Features,
        /// Size of the STOP_COPY state in bytes, as the driver estimates it.
        stop_copy_size: Option<u64>,
    },
    /// Its driver cannot migrate.
    Unsupported,
    /// Another process has it open, so it could not be queried.
    InUse,
    /// It could not be opened or queried.
    Unknown(DeviceError),
}

/// The VFIO devices of this host, by name. What cannot be read is left out: an empty list is a host without VFIO.
pub fn list() -> Vec<Listed> {
    let roots = Roots::default();
    list_with(&roots, |folder| ask(&roots, folder))
}

fn list_with(roots: &Roots, ask: impl Fn(&Path) -> Migration) -> Vec<Listed> {
    let folders: BTreeSet<PathBuf> = [nodes(roots), mdevs(roots), group_members(roots)]
        .into_iter()
        .flatten()
        .filter_map(|folder| fs::canonicalize(folder).ok())
        .collect();
    let mut listed: Vec<Listed> = folders
        .into_iter()
        .filter_map(|path| {
            Some(Listed {
                name: path.file_name()?.to_str()?.to_owned(),
                driver: driver_of(&path),
                group: Roots::group_of(&path),
                cdev: roots.node_of(&path),
                migration: ask(&path),
                path,
            })
        })
        .collect();
    listed.sort_by(|one, other| one.name.cmp(&other.name));
    listed
}

/// Devices with a node of their own.
fn nodes(roots: &Roots) -> Vec<PathBuf> {
    entries(&roots.sys.join("class/vfio-dev")).into_iter().map(|entry| entry.join("device")).collect()
}

/// Mediated devices.
fn mdevs(roots: &Roots) -> Vec<PathBuf> {
    entries(&roots.sys.join("bus/mdev/devices"))
}

/// Members of groups that VFIO has a node for; a group may hold others, bound to other drivers.
fn group_members(roots: &Roots) -> Vec<PathBuf> {
    let is_ours = |folder: &PathBuf| {
        Roots::group_of(folder).is_some_and(|group| roots.group_node(group).exists())
            && driver_of(folder).is_some_and(|driver| driver.contains("vfio"))
    };
    entries(&roots.sys.join("kernel/iommu_groups"))
        .into_iter()
        .flat_map(|group| entries(&group.join("devices")))
        .filter(is_ours)
        .collect()
}

fn driver_of(folder: &Path) -> Option<String> {
    let link = fs::read_link(folder.join("driver")).ok()?;
    Some(link.file_name()?.to_str()?.to_owned())
}

/// The entries of a folder; none if it does not exist.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}

fn ask(roots: &Roots, folder: &Path) -> Migration {
    match open_kernel(roots, folder) {
        Ok(kernel) => ask_kernel(&kernel),
        Err(error) => explain(error),
    }
}

fn ask_kernel(kernel: &dyn Kernel) -> Migration {
    match read_features(kernel) {
        Ok(features) => Migration::Supported { features, stop_copy_size: kernel.stop_copy_size().ok() },
        Err(error) => explain(error),
    }
}

fn explain(error: DeviceError) -> Migration {
    match error {
        error if error.is_in_use() => Migration::InUse,
        DeviceError::Unsupported { .. } => Migration::Unsupported,
        other => Migration::Unknown(other),
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno as Raw;

    use super::*;
    use crate::error::DeviceOperation;
    use crate::vfio::fake::{FakeKernel, Operation};
    use crate::vfio::locate::tests::{ADDRESS, Host, UUID};

    fn names(listed: &[Listed]) -> Vec<&str> {
        listed.iter().map(|device| device.name.as_str()).collect()
    }

    #[test]
    fn every_device_is_listed_once_however_many_ways_lead_to_it() {
        let host = Host::new().with_iommufd();

        let listed = list_with(&host.roots, |_| Migration::InUse);

        assert_eq!(names(&listed), [ADDRESS, UUID]);
        assert_eq!(listed[1].driver.as_deref(), Some("mtty"));
        assert_eq!((listed[0].group, listed[1].group), (Some(12), Some(7)));
        assert_eq!(listed[0].cdev, None);
        assert_eq!(listed[1].cdev, Some(host.roots.dev.join("vfio/devices/vfio3")));
        assert!(listed[0].path.ends_with(format!("devices/pci0000:00/{ADDRESS}")));
    }

    #[test]
    fn devices_of_other_drivers_and_of_groups_without_a_node_are_not_listed() {
        let host = Host::new();
        host.device("bus/pci/devices", "devices/pci0000:00/0000:00:02.0", 12, "i915");
        host.device("bus/pci/devices", "devices/pci0000:00/0000:00:03.0", 13, "vfio-pci");

        assert_eq!(names(&list_with(&host.roots, |_| Migration::InUse)), [ADDRESS, UUID]);
    }

    #[test]
    fn a_host_without_vfio_has_an_empty_list() {
        let folder = tempfile::tempdir().unwrap();
        let roots =
            Roots { sys: folder.path().join("sys"), dev: folder.path().join("dev"), ..Roots::default() };

        assert!(list_with(&roots, |_| Migration::InUse).is_empty());
    }

    #[test]
    fn a_device_that_cannot_be_opened_says_why() {
        let host = Host::new();

        let listed = list_with(&host.roots, |folder| ask(&host.roots, folder));

        // The nodes of this host are plain files, which know no ioctl.
        assert!(matches!(
            &listed[0].migration,
            Migration::Unknown(DeviceError::Open { errno, .. }) if *errno == Raw::ENOTTY.into()
        ));
    }

    #[test]
    fn a_device_in_use_is_shown_as_that() {
        let open = |operation, errno: Raw| {
            explain(DeviceError::Open { operation, path: "/dev/vfio/7".into(), errno: errno.into() })
        };

        assert_eq!(open(DeviceOperation::Open, Raw::EBUSY), Migration::InUse);
        assert_eq!(open(DeviceOperation::BindIommufd, Raw::EINVAL), Migration::InUse);
        assert!(matches!(open(DeviceOperation::Open, Raw::EACCES), Migration::Unknown(_)));
    }

    #[test]
    fn features_and_size_are_the_devices_own() {
        let kernel = FakeKernel::new(0b111);
        let features = Features::from_kernel(0b111);

        assert_eq!(ask_kernel(&kernel), Migration::Supported { features, stop_copy_size: Some(96) });
        kernel.fail(Operation::StopCopySize, 0, Raw::ENOTTY);
        assert_eq!(ask_kernel(&kernel), Migration::Supported { features, stop_copy_size: None });
        kernel.fail(Operation::Features, 0, Raw::ENOTTY);
        assert_eq!(ask_kernel(&kernel), Migration::Unsupported);
    }
}

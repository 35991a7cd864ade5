//! From what a user types to the node that has to be opened. It reads sysfs and opens nothing.
//!
//! | typed | means |
//! |---|---|
//! | `0000:00:1f.2` | the PCI device with this address (domain:bus:device.function, all of it) |
//! | `c0ffee00-0001-4a5b-8c7d-0123456789ab` | the mediated device with this UUID |
//! | `/sys/bus/mdev/devices/UUID`, `/sys/bus/pci/devices/ADDRESS`, `/sys/devices/…` | the device of this sysfs folder |
//! | `/dev/vfio/devices/vfio3` | the device behind this node, through iommufd |
//! | `/dev/vfio/7/NAME` | device NAME (PCI address or UUID) of group 7, through the group |
//!
//! With the first three the way is ours to choose: through the device's own node (iommufd) if `/dev/iommu` and that
//! node exist, otherwise through its group. With the last two the user chooses. `/dev/vfio/7` is a node and not a
//! folder, so `/dev/vfio/7/NAME` is parsed as text, never opened as a path.

use std::fs;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno as Raw;

use crate::error::{DeviceError, DeviceOperation};

/// Where the kernel shows its devices. Tests use a temporary folder instead.
#[derive(Debug, Clone)]
pub(crate) struct Roots {
    pub(crate) sys: PathBuf,
    pub(crate) dev: PathBuf,
    pub(crate) proc: PathBuf,
}

impl Default for Roots {
    fn default() -> Roots {
        Roots { sys: "/sys".into(), dev: "/dev".into(), proc: "/proc".into() }
    }
}

/// How a device is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// Through its own node, `/dev/vfio/devices/vfioN`, with `/dev/iommu`.
    Node {
        /// The device's node.
        node: PathBuf,
        /// `/dev/iommu`.
        iommu: PathBuf,
    },
    /// Through its group, `/dev/vfio/N`.
    Group {
        /// The group's node.
        node: PathBuf,
        /// `/dev/vfio/vfio`.
        container: PathBuf,
        /// PCI address or UUID.
        name: String,
    },
}

impl Roots {
    /// Finds the way to the device that `typed` names.
    pub(crate) fn locate(&self, typed: &Path) -> Result<Way, DeviceError> {
        if let Some(way) = self.by_node(typed) {
            return Ok(way);
        }
        let folder = match typed.to_str() {
            Some(text) if is_pci_address(text) => self.sys.join("bus/pci/devices").join(text),
            Some(text) if is_uuid(text) => self.sys.join("bus/mdev/devices").join(text),
            _ => typed.to_owned(),
        };
        let folder = fs::canonicalize(&folder).map_err(|error| DeviceError::Open {
            operation: DeviceOperation::FindDevice,
            path: folder.to_string_lossy().into(),
            errno: error.into(),
        })?;
        self.by_folder(&folder).ok_or_else(|| DeviceError::Open {
            operation: DeviceOperation::FindNode,
            path: folder.to_string_lossy().into(),
            errno: Raw::ENODEV.into(),
        })
    }

    /// The device's own node, if it has one and this host can use it.
    pub(crate) fn node_of(&self, folder: &Path) -> Option<PathBuf> {
        let entries = fs::read_dir(folder.join("vfio-dev")).ok()?;
        let nodes = entries.flatten().map(|entry| self.dev.join("vfio/devices").join(entry.file_name()));
        nodes.into_iter().find(|node| node.exists())
    }

    /// The number of the device's group, if it has one.
    pub(crate) fn group_of(folder: &Path) -> Option<u32> {
        let link = fs::read_link(folder.join("iommu_group")).ok()?;
        link.file_name()?.to_str()?.parse().ok()
    }

    /// `/dev/iommu`.
    pub(crate) fn iommu(&self) -> PathBuf {
        self.dev.join("iommu")
    }

    /// `/dev/vfio/N`.
    pub(crate) fn group_node(&self, group: u32) -> PathBuf {
        self.dev.join("vfio").join(group.to_string())
    }

    /// Whether a character device is the node of a VFIO device; unknown where the kernel does not show its devices.
    pub(crate) fn is_vfio_node(&self, major: u64, minor: u64) -> Option<bool> {
        let nodes = self.sys.join("dev/char");
        match fs::canonicalize(nodes.join(format!("{major}:{minor}/subsystem"))) {
            Ok(class) => Some(class.ends_with("class/vfio-dev")),
            Err(_) => nodes.is_dir().then_some(false),
        }
    }

    /// `/dev/vfio/devices/vfioN` and `/dev/vfio/N/NAME`.
    fn by_node(&self, typed: &Path) -> Option<Way> {
        let within = typed.strip_prefix(self.dev.join("vfio")).ok()?;
        let words: Vec<&str> = within
            .components()
            .map(|component| match component {
                Component::Normal(word) => word.to_str(),
                _ => None,
            })
            .collect::<Option<_>>()?;
        match words[..] {
            ["devices", _] => Some(Way::Node { node: typed.to_owned(), iommu: self.iommu() }),
            [group, name] => Some(self.through_group(group.parse().ok()?, name)),
            _ => None,
        }
    }

    /// The way to the device of an existing sysfs folder.
    fn by_folder(&self, folder: &Path) -> Option<Way> {
        if let Some(node) = self.node_of(folder).filter(|_| self.iommu().exists()) {
            return Some(Way::Node { node, iommu: self.iommu() });
        }
        let name = folder.file_name()?.to_str()?;
        Some(self.through_group(Roots::group_of(folder)?, name))
    }

    fn through_group(&self, group: u32, name: &str) -> Way {
        Way::Group {
            node: self.group_node(group),
            container: self.dev.join("vfio/vfio"),
            name: name.to_owned(),
        }
    }
}

/// `dddd:bb:dd.f`, in hexadecimal digits; a domain may have up to eight.
fn is_pci_address(text: &str) -> bool {
    let hex = |word: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let mut words = text.split(':');
    let (Some(domain), Some(bus), Some(rest), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    let Some((device, function)) = rest.split_once('.') else { return false };
    hex(domain, 4..=8) && hex(bus, 2..=2) && hex(device, 2..=2) && hex(function, 1..=1)
}

/// 8-4-4-4-12 hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    let words: Vec<&str> = text.split('-').collect();
    words.iter().map(|word| word.len()).eq([8, 4, 4, 4, 12])
        && words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    pub(crate) const UUID: &str = "c0ffee00-0001-4a5b-8c7d-0123456789ab";
    pub(crate) const ADDRESS: &str = "0000:00:1f.2";

    /// A host with one mdev (group 7, node vfio3) and one PCI device (group 12, no node), in a temporary folder.
    pub(crate) struct Host {
        pub(crate) roots: Roots,
        _folder: tempfile::TempDir,
    }

    impl Host {
        pub(crate) fn new() -> Host {
            let folder = tempfile::tempdir().unwrap();
            let base = fs::canonicalize(folder.path()).unwrap();
            let host = Host {
                roots: Roots { sys: base.join("sys"), dev: base.join("dev"), proc: base.join("proc") },
                _folder: folder,
            };
            host.device("bus/mdev/devices", &format!("devices/virtual/mtty/mtty/{UUID}"), 7, "mtty");
            host.device("bus/pci/devices", &format!("devices/pci0000:00/{ADDRESS}"), 12, "mlx5_vfio_pci");
            host.touch("vfio/vfio");
            host.touch("vfio/7");
            host.touch("vfio/12");
            host
        }

        /// Adds what a kernel with iommufd provides.
        pub(crate) fn with_iommufd(self) -> Host {
            let folder = self.roots.sys.join(format!("devices/virtual/mtty/mtty/{UUID}/vfio-dev/vfio3"));
            fs::create_dir_all(&folder).unwrap();
            symlink("../..", folder.join("device")).unwrap();
            let class = self.roots.sys.join("class/vfio-dev");
            fs::create_dir_all(&class).unwrap();
            symlink(&folder, class.join("vfio3")).unwrap();
            self.touch("vfio/devices/vfio3");
            self.touch("iommu");
            self
        }

        pub(crate) fn device(&self, bus: &str, folder: &str, group: u32, driver: &str) {
            let sys = &self.roots.sys;
            let device = sys.join(folder);
            let members = sys.join(format!("kernel/iommu_groups/{group}/devices"));
            let drivers = sys.join("drivers").join(driver);
            for folder in [&device, &members, &drivers, &sys.join(bus)] {
                fs::create_dir_all(folder).unwrap();
            }
            let name = device.file_name().unwrap();
            symlink(&device, sys.join(bus).join(name)).unwrap();
            symlink(&device, members.join(name)).unwrap();
            symlink(members.parent().unwrap(), device.join("iommu_group")).unwrap();
            symlink(&drivers, device.join("driver")).unwrap();
        }

        pub(crate) fn touch(&self, node: &str) {
            let node = self.roots.dev.join(node);
            fs::create_dir_all(node.parent().unwrap()).unwrap();
            fs::write(node, "").unwrap();
        }

        fn node(&self) -> Way {
            let dev = &self.roots.dev;
            Way::Node { node: dev.join("vfio/devices/vfio3"), iommu: dev.join("iommu") }
        }

        fn group(&self, group: u32, name: &str) -> Way {
            let dev = &self.roots.dev;
            let node = dev.join(format!("vfio/{group}"));
            Way::Group { node, container: dev.join("vfio/vfio"), name: name.into() }
        }
    }

    #[test]
    fn a_device_without_a_node_is_reached_through_its_group() {
        let host = Host::new();
        let folder = host.roots.sys.join("bus/mdev/devices").join(UUID);

        assert_eq!(host.roots.locate(Path::new(UUID)).unwrap(), host.group(7, UUID));
        assert_eq!(host.roots.locate(&folder).unwrap(), host.group(7, UUID));
        assert_eq!(host.roots.locate(Path::new(ADDRESS)).unwrap(), host.group(12, ADDRESS));
    }

    #[test]
    fn a_device_with_a_node_is_reached_through_it() {
        let host = Host::new().with_iommufd();

        assert_eq!(host.roots.locate(Path::new(UUID)).unwrap(), host.node());
        assert_eq!(host.roots.locate(Path::new(ADDRESS)).unwrap(), host.group(12, ADDRESS));
    }

    #[test]
    fn a_node_without_iommufd_is_of_no_use() {
        let host = Host::new().with_iommufd();
        fs::remove_file(host.roots.iommu()).unwrap();

        assert_eq!(host.roots.locate(Path::new(UUID)).unwrap(), host.group(7, UUID));
    }

    #[test]
    fn a_path_below_dev_vfio_is_the_users_own_choice() {
        let host = Host::new().with_iommufd();
        let node = host.roots.dev.join("vfio/devices/vfio3");
        let group = host.roots.dev.join("vfio/7").join(UUID);

        assert_eq!(host.roots.locate(&node).unwrap(), host.node());
        assert_eq!(host.roots.locate(&group).unwrap(), host.group(7, UUID));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let host = Host::new();
        let error = host.roots.locate(Path::new("0000:00:02.0")).unwrap_err().to_string();

        assert!(error.contains("bus/pci/devices/0000:00:02.0 failed: ENOENT"), "{error}");
    }

    #[test]
    fn a_folder_that_is_no_device_is_refused() {
        let host = Host::new();
        let error = host.roots.locate(&host.roots.sys.join("bus")).unwrap_err();

        assert!(error.to_string().ends_with("ENODEV (No such device)"), "{error}");
    }

    #[test]
    fn addresses_and_uuids_are_told_from_paths() {
        assert!(is_pci_address(ADDRESS) && is_pci_address("10000:e1:00.0"));
        for text in ["00:1f.2", "0000:00:1f", "0000:00:1f.2/x", "0000:00:1f.22", "", "a:b:c.d"] {
            assert!(!is_pci_address(text), "{text}");
        }
        assert!(is_uuid(UUID));
        for text in ["c0ffee00-0001-4a5b-8c7d", "g0ffee00-0001-4a5b-8c7d-0123456789ab", "", "/sys"] {
            assert!(!is_uuid(text), "{text}");
        }
    }
}

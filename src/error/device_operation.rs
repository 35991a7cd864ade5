//! Operations on a device: which one an error is about. Knows no device. Code decides by the value; its text is here.

use std::fmt;

/// An operation on a device, a file or a descriptor. Its text stands before a path or "failed".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceOperation {
    /// A worker reads the device's state.
    Read,
    /// A worker writes the device's state.
    Write,
    /// Opens a file, a node or a group.
    Open,
    /// Examines an output file.
    OpenForWriting,
    /// Creates a file in a folder.
    CreateIn,
    /// Opens the folder of an output file.
    OpenFolder,
    /// Locks an output file.
    Lock,
    /// Removes what a killed process left of an output file.
    RemoveLeftOver,
    /// Tries whether a new file can be given the owner and group of the one that it replaces.
    KeepOwner,
    /// Writes, changes or removes the journal of files that get their names together.
    WriteJournal,
    /// Checks that a descriptor can be read.
    ReadFromDescriptor,
    /// Checks that a descriptor can be written.
    WriteToDescriptor,
    /// Finds or changes the position in a file.
    Seek,
    /// Makes a file durable.
    Sync,
    /// Gives a file the owner and the permissions of the one that it replaces.
    SetPermissions,
    /// Renames a complete file to its final name.
    Rename,
    /// Gives the replaced file its name back.
    RestoreFile,
    /// Removes a file that will never be complete.
    RemoveFile,
    /// Writes the config state of a synthetic source.
    WriteTrailer,
    /// Finds a device by its path or address.
    FindDevice,
    /// Finds the VFIO node or group of a device.
    FindNode,
    /// Finds a device by its name in a group.
    FindInGroup,
    /// Finds a VFIO device behind a descriptor.
    FindBehindDescriptor,
    /// `VFIO_GROUP_GET_STATUS`.
    GroupStatus,
    /// Checks that every device of a group is bound to vfio.
    GroupViable,
    /// `VFIO_GROUP_SET_CONTAINER`.
    GroupContainer,
    /// `VFIO_SET_IOMMU`.
    SetIommu,
    /// `VFIO_GROUP_GET_DEVICE_FD`.
    GroupDevice,
    /// `VFIO_DEVICE_BIND_IOMMUFD`: fails with `EINVAL` when the device is in use already.
    BindIommufd,
    /// `VFIO_DEVICE_ATTACH_IOMMUFD_PT`.
    AttachIommufd,
    /// `IOMMU_IOAS_ALLOC`.
    AllocateIoas,
    /// Reads the driver's abilities.
    MigrationFeatures,
    /// Reads the migration state.
    MigrationState,
    /// Reads how many bytes STOP_COPY would give.
    StopCopySize,
    /// `VFIO_MIG_GET_PRECOPY_INFO`.
    PrecopyInfo,
    /// `VFIO_DEVICE_RESET`.
    Reset,
    /// Reads of a region of the device.
    ReadRegion,
    /// Writes to a region of the device.
    WriteRegion,
    /// Finds the PCI config space.
    FindConfigSpace,
    /// Reads the PCI config space.
    ReadConfigSpace,
    /// Writes a register of the PCI config space.
    WriteCacheLineSize,
    /// Writes a register of the PCI config space.
    WriteLatencyTimer,
    /// Writes a register of the PCI config space.
    WriteInterruptLine,
    /// Writes the PCI command register.
    WriteCommand,
    /// Checks that the PCI command register holds the written value.
    VerifyCommand,
    /// An operation of an embedder's own source or sink, as text.
    Custom(&'static str),
}

impl DeviceOperation {
    /// Whether it is an operation on a file of this host and not on a device.
    pub(super) fn is_on_a_file(self) -> bool {
        matches!(
            self,
            DeviceOperation::Open
                | DeviceOperation::OpenForWriting
                | DeviceOperation::CreateIn
                | DeviceOperation::OpenFolder
                | DeviceOperation::Lock
                | DeviceOperation::RemoveLeftOver
                | DeviceOperation::KeepOwner
        )
    }
}

impl fmt::Display for DeviceOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeviceOperation::Read => "reading its state",
            DeviceOperation::Write => "writing its state",
            DeviceOperation::Open => "open",
            DeviceOperation::OpenForWriting => "write",
            DeviceOperation::CreateIn => "create a file in",
            DeviceOperation::OpenFolder => "open the folder",
            DeviceOperation::Lock => "lock",
            DeviceOperation::RemoveLeftOver => "remove the leftover",
            DeviceOperation::KeepOwner => "keep owner and group of",
            DeviceOperation::WriteJournal => "write the journal of the files",
            DeviceOperation::ReadFromDescriptor => "read from descriptor",
            DeviceOperation::WriteToDescriptor => "write to descriptor",
            DeviceOperation::Seek => "seek",
            DeviceOperation::Sync => "fsync",
            DeviceOperation::SetPermissions => "chown or chmod",
            DeviceOperation::Rename => "rename",
            DeviceOperation::RestoreFile => "bring the old file back",
            DeviceOperation::RemoveFile => "remove the unfinished file",
            DeviceOperation::WriteTrailer => "write config state",
            DeviceOperation::FindDevice => "find the device",
            DeviceOperation::FindNode => "find a VFIO node or group of",
            DeviceOperation::FindInGroup => "find the device in its group",
            DeviceOperation::FindBehindDescriptor => "find a VFIO device behind the descriptor",
            DeviceOperation::GroupStatus => "VFIO_GROUP_GET_STATUS on",
            DeviceOperation::GroupViable => "find every device bound to vfio in the group",
            DeviceOperation::GroupContainer => "VFIO_GROUP_SET_CONTAINER on",
            DeviceOperation::SetIommu => "VFIO_SET_IOMMU (type 1 v2) for the group",
            DeviceOperation::GroupDevice => "VFIO_GROUP_GET_DEVICE_FD for",
            DeviceOperation::BindIommufd => "VFIO_DEVICE_BIND_IOMMUFD on",
            DeviceOperation::AttachIommufd => "VFIO_DEVICE_ATTACH_IOMMUFD_PT on",
            DeviceOperation::AllocateIoas => "IOMMU_IOAS_ALLOC on",
            DeviceOperation::MigrationFeatures => "read the migration features",
            DeviceOperation::MigrationState => "read the migration state",
            DeviceOperation::StopCopySize => "read the stop-copy size",
            DeviceOperation::PrecopyInfo => "VFIO_MIG_GET_PRECOPY_INFO",
            DeviceOperation::Reset => "VFIO_DEVICE_RESET",
            DeviceOperation::ReadRegion => "read a region",
            DeviceOperation::WriteRegion => "write a region",
            DeviceOperation::FindConfigSpace => "find the PCI config space",
            DeviceOperation::ReadConfigSpace => "read the PCI config space",
            DeviceOperation::WriteCacheLineSize => "write the cache line size",
            DeviceOperation::WriteLatencyTimer => "write the latency timer",
            DeviceOperation::WriteInterruptLine => "write the interrupt line",
            DeviceOperation::WriteCommand => "write the command register",
            DeviceOperation::VerifyCommand => "read back the command register as it was written",
            DeviceOperation::Custom(words) => words,
        })
    }
}

//! The name of a device in a stream.

use std::fmt;

use crate::wire::qemu::{DevicePacket, Idstr, Section};

/// A device's name and instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId {
    /// Its name: `0000:00:01.0/vfio`.
    pub idstr: Idstr,
    /// Its instance: 0 unless several devices share a name.
    pub instance: u32,
}

impl From<&Section> for DeviceId {
    fn from(section: &Section) -> DeviceId {
        DeviceId { idstr: section.idstr, instance: section.instance }
    }
}

impl From<&DevicePacket> for DeviceId {
    fn from(packet: &DevicePacket) -> DeviceId {
        DeviceId { idstr: packet.idstr, instance: packet.instance }
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.instance {
            0 => fmt::Display::fmt(&self.idstr, f),
            instance => write!(f, "{}#{instance}", self.idstr),
        }
    }
}

//! The arguments of `ringlift devices`.

use std::path::PathBuf;

use clap::Args;

use super::json;
use crate::show::json::JsonTarget;

pub(super) const EXAMPLES: &str = "\
Without --probe: path, driver, migration features and estimated stop-copy size of each device. Nothing is stopped.

With --probe, the device is taken through its migration states to STOP_COPY and back, its state is read and discarded, and \
what was measured is printed: sizes and times of the reads, the time of each change of state, how the driver ends pre-copy \
and the state. The device stands still meanwhile, and with it the guest that uses it. A device that another process has open, \
such as a virtual machine monitor, is refused by the kernel. Whatever fails, the device is brought back to where it was; \
SIGINT and SIGTERM bring it back at once.

Examples:
  ringlift devices
  ringlift devices --probe 0000:41:00.1 --json probe.json";

/// Lists devices, or probes one.
#[derive(Debug, Args)]
pub(crate) struct Devices {
    /// The device to measure: a PCI address, an mdev's UUID or folder, /dev/vfio/devices/vfioN, or a device in a group
    #[arg(long, value_name = "DEV")]
    pub(crate) probe: Option<PathBuf>,
    /// Writes what was measured to FILE; - is stdout, instead of the tables
    #[arg(long, value_name = "FILE", value_parser = json(), requires = "probe")]
    pub(crate) json: Option<JsonTarget>,
}

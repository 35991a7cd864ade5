//! The device: the kernel's VFIO v2 migration interface.
//!
//! | file | what it is |
//! |---|---|
//! | `state` | states, features and the legal ways between states; pure |
//! | `arcs` | when a device went from state to state |
//! | `kernel` | what the kernel offers for one device: a trait, with a fake for tests |
//! | `sys` | that trait over ioctls; nothing else here passes an address to the kernel |
//! | `lease` | groups and iommufds, which devices share |
//! | `locate` | from what a user types to the file that has to be opened |
//! | `device` | [`Device`]: one device with its state and its data file; keeps it usable after a failed change |
//! | `config` | the config state of a PCI device |
//! | `list` | which devices this host has |
//!
//! Nothing here knows packets, rings or buffers: [`crate::source`] and [`crate::sink`] give a device its part in a
//! transfer.

mod arcs;
mod config;
pub mod config_state;
mod device;
#[cfg(test)]
pub(crate) mod fake;
mod kernel;
mod lease;
mod list;
mod locate;
mod state;
mod sys;

pub use arcs::ArcTime;
pub use device::Device;
pub use kernel::PrecopyInfo;
pub use list::{Listed, Migration, list};
pub use state::{Features, State};

//! The device: the kernel's VFIO v2 migration interface.

mod state;

pub use state::State;

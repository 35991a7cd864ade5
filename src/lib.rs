//! ringlift moves the state of passed-through (VFIO) devices between hosts.
//!
//! The tour follows one packet, station by station:
//!
//! 1. [`source`]: where state comes from (a VFIO device, a file, a descriptor, a generator, an embedder's own);
//! 2. `buffer`: a slot of the registered pool that the state is read straight into;
//! 3. [`wire`]: the header that is written in front of it;
//! 4. `channel`, over `ring`: the packet is sent in one operation, on the least loaded connection;
//! 5. the network, any number of connections;
//! 6. `channel` again: the header is received, then the payload straight into a slot;
//! 7. `session`: packets are put in order by idx; it also keeps credit and the hand-over;
//! 8. [`sink`]: the state is written into the device at the destination.
//!
//! [`transfer`] and [`qemu`] drive these stations, by workers from `worker`; [`qemu::capture`] inspects streams that a
//! QEMU sent and that were stored on disk. [`report`] counts, [`limits`] bounds everything, [`error`] says whose fault
//! it is.
//!
//! `docs/EMBEDDING.md` describes what a process that embeds it provides: threads, memory, descriptors, signals, and the
//! system calls that a sandbox around a transfer has to allow.

mod buffer;
mod cancel;
mod channel;
pub mod compare;
mod descriptor;
pub mod error;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
pub mod limits;
mod net;
mod numbers;
mod phase;
pub mod probe;
pub mod qemu;
pub mod report;
mod ring;
mod session;
pub mod sink;
pub mod source;
pub mod time;
pub mod transfer;
pub mod vfio;
pub mod wire;
mod worker;

pub use cancel::{Cancel, PreCopyHold};
pub use channel::ZeroCopy;
#[cfg(feature = "listener")]
pub use net::Listener;
pub use phase::{DeviceStep, Phase};
pub use session::handover::Outcome;
pub use transfer::{Receiver, ReceiverBuilder, Sender, SenderBuilder};
pub use wire::Checksum;
pub use worker::caller::{DeviceMoment, Event};
pub use worker::finished::{DeviceEnd, EndState, Finished, Parked};
pub use worker::hook::HookPanic;

/// Code that unit tests share with the integration tests names the crate `ringlift`.
#[cfg(test)]
extern crate self as ringlift;

/// The code in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The code in the guide for embedders compiles.
#[cfg(doctest)]
#[doc = include_str!("../docs/EMBEDDING.md")]
struct Embedding;

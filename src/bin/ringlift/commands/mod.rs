//! The subcommands: a file for each.

pub(crate) mod bench;
pub(crate) mod compare;
pub(crate) mod demo;
pub(crate) mod devices;
mod probe;
pub(crate) mod qemu;
pub(crate) mod recv;
pub(crate) mod report;
pub(crate) mod send;
pub(crate) mod tune;

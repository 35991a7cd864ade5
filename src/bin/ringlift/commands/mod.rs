//! What the command does: a file for each of its commands.

pub(crate) mod demo;
pub(crate) mod devices;
pub(crate) mod qemu;
pub(crate) mod recv;
pub(crate) mod send;

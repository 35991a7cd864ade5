//! Totals of one device's state so far.

use crate::numbers::PacketIdx;
use crate::wire::{self, DataHeader};

/// How much of a device's state has passed so far, in idx order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) config_bytes: u64,
    pub(crate) crc32c: u32,
}

impl Totals {
    /// The number of the packet that comes next.
    pub(crate) fn next(&self) -> PacketIdx {
        PacketIdx(self.packets)
    }

    /// Adds one packet.
    pub(crate) fn add(&mut self, header: &DataHeader) {
        let len = u64::from(header.len);
        self.packets += 1;
        self.bytes += len;
        if header.config {
            self.config_bytes = len;
        }
        self.crc32c = wire::crc32c_combine(self.crc32c, header.crc32c, len);
    }
}

//! The framing of QEMU's multifd connections: device state has a place here, guest memory and barriers have not.

use crate::channel::{Framing, Rest};
use crate::wire::Malformed;
use crate::wire::qemu::{PREFIX_LEN, Packet, PageSize};

/// QEMU's framing, behind the init. Pages of guest memory have this size.
#[derive(Debug)]
pub(crate) struct Multifd(pub(crate) PageSize);

impl Framing for Multifd {
    type Header = Packet;
    const LEN: usize = PREFIX_LEN;

    fn decode(&self, bytes: &[u8]) -> Result<Packet, Malformed> {
        Packet::decode(bytes.try_into().map_err(|_| Malformed::Truncated)?, self.0)
    }

    fn rest(packet: &Packet) -> Rest {
        match packet {
            Packet::Device(packet) => Rest::Payload(packet.len),
            Packet::Ram(_) | Packet::Sync(_) => Rest::Unwanted(packet.rest()),
        }
    }

    /// These packets have no checksum.
    fn sum(&self, _: u32, _: &[u8]) -> u32 {
        0
    }
}

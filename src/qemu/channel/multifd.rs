//! The framing of QEMU's multifd connections: keeps device state; skips guest memory and barriers.

use crate::channel::{Frame, Framing};
use crate::wire::Malformed;
use crate::wire::qemu::{DevicePacket, PREFIX_LEN, Packet, PageSize};

/// QEMU's framing after the init. The field is the page size of guest memory.
#[derive(Debug)]
pub(crate) struct Multifd(pub(crate) PageSize);

impl Framing for Multifd {
    type Header = DevicePacket;
    /// Guest memory and barriers, of which only the length matters.
    type Skipped = ();
    const LEN: usize = PREFIX_LEN;

    fn decode(&mut self, bytes: &[u8]) -> Result<Frame<DevicePacket, ()>, Malformed> {
        let packet = Packet::decode(bytes.try_into().map_err(|_| Malformed::Truncated)?, self.0)?;
        Ok(match packet {
            Packet::Device(packet) => Frame::Packet(packet),
            Packet::Ram(_) | Packet::Sync(_) => Frame::Skipped { what: (), len: packet.rest() },
        })
    }

    fn payload_len(packet: &DevicePacket) -> u32 {
        packet.len
    }

    /// These packets have no checksum.
    fn sum(&self, _: u32, _: &[u8]) -> u32 {
        0
    }
}

//! Packets between devices and a session: those that were read and have no number yet, and those that are written next.
//! Nothing here knows a protocol.

use crate::numbers::DeviceIdx;
use crate::time::Nanos;

/// A packet that was read from its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadPacket<H> {
    pub(crate) device: DeviceIdx,
    /// Where its payload is.
    pub(crate) handle: H,
    /// Bytes of payload.
    pub(crate) len: u32,
    /// The device's last packet: its payload is the config state.
    pub(crate) config: bool,
    /// Of the payload; 0 when payloads are not checked.
    pub(crate) crc32c: u32,
    /// When its first byte was asked for.
    pub(crate) read_at: Nanos,
}

/// A packet that is to be written now.
#[derive(Debug)]
pub(crate) struct NextPacket<H> {
    /// Where its payload is.
    pub(crate) handle: H,
    /// Bytes of payload.
    pub(crate) len: usize,
    /// The device's last packet: its payload is the config state.
    pub(crate) config: bool,
    /// When the source began to read it, by the source's clock; 0 when the protocol does not carry that time.
    pub(crate) read_at: Nanos,
    /// When its last byte arrived.
    pub(crate) arrived_at: Nanos,
}

/// The packets of each device, in the order in which they are to be written.
pub(crate) trait PacketQueue<H> {
    /// The next packet of a device, if it is here.
    fn pop(&mut self, device: DeviceIdx) -> Option<NextPacket<H>>;

    /// The packet that was popped last has been written.
    fn written(&mut self, device: DeviceIdx, now: Nanos);

    /// A device has accepted all of its state and is ready to run.
    fn loaded(&mut self, device: DeviceIdx);
}

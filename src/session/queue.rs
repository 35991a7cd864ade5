//! What whoever writes devices has to know of a session: whose turn it is.

use crate::time::Nanos;

/// A packet whose turn it is.
#[derive(Debug)]
pub(crate) struct NextPacket<H> {
    /// Where its payload is.
    pub(crate) handle: H,
    /// Bytes of payload.
    pub(crate) len: usize,
    /// The device's last packet: its payload is the config state.
    pub(crate) config: bool,
    /// When the source asked for its first byte, by the source's clock; 0 when the protocol does not say.
    pub(crate) read_at: Nanos,
    /// When its last byte came.
    pub(crate) arrived_at: Nanos,
}

/// Packets in the order in which they are to be written.
pub(crate) trait PacketQueue<H> {
    /// The packet of a device whose turn it is.
    fn pop(&mut self, device: usize) -> Option<NextPacket<H>>;

    /// The packet that was popped last has left its slot.
    fn written(&mut self, device: usize, now: Nanos);

    /// A device has everything, took it, and would run.
    fn loaded(&mut self, device: usize);
}

//! Messages on the control connection: a fixed header, then a body.

use super::Checksum;

/// Bytes in front of every control message's body.
pub const CONTROL_HEADER_LEN: usize = 16;

/// The fixed part of a control message, enough to know how much follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlHeader {
    /// Which message.
    pub kind: u16,
    /// Bytes of body that follow.
    pub len: u32,
    /// CRC32C of the body.
    pub crc32c: u32,
}

/// A device as the sender offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceOffer {
    /// Its name.
    pub name: Box<str>,
    /// Distinguishes devices of one name.
    pub instance: u32,
    /// Bytes of state that it expects, 0 when unknown.
    pub estimate: u64,
}

/// What the sender wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Feature bits; version 1 knows none, and refuses those it does not know.
    pub features: u64,
    /// Most bytes of payload in a packet.
    pub packet_size: u32,
    /// Bytes of the sender's pool; the receiver makes one as large, within its bounds.
    pub pool_size: u64,
    /// How payloads are checked.
    pub checksum: Checksum,
    /// The devices, in the order of their numbers.
    pub devices: Vec<DeviceOffer>,
}

/// A message on the control connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// Sender: what it wants.
    Offer(Offer),
    /// Receiver: agreed; it now gets its devices ready.
    Accept,
    /// Receiver: not agreed. A code (see `crate::error::Refusal`) and a text.
    Refuse {
        /// Which reason.
        code: u16,
        /// The receiver's words, or the device's name.
        text: Box<str>,
    },
    /// Receiver: every device is ready to be written.
    Ready,
    /// Receiver: packets of a device below `limit` may be sent.
    Credit {
        /// The device's number.
        device: u16,
        /// The first idx that may not be sent yet. Only ever grows.
        limit: u64,
    },
    /// Sender: its devices stop now.
    Switchover,
    /// Receiver: a device has everything and would run.
    Loaded {
        /// The device's number.
        device: u16,
        /// Packets, the config packet included.
        packets: u64,
        /// Bytes of payload, the config state included.
        bytes: u64,
        /// CRC32C of the whole state in order, config state included; 0 when payloads are not checked.
        crc32c: u32,
    },
    /// Sender: the devices are the receiver's now.
    Commit,
    /// Receiver: the devices run.
    Committed,
    /// Either: something failed. From a receiver it also promises that its devices do not run and never will.
    Abort {
        /// Which kind of failure.
        code: u16,
        /// In words.
        text: Box<str>,
    },
    /// Either: the owner cancelled. The same promise.
    Cancel,
    /// Either: still here.
    Heartbeat,
}

//! The header in front of every packet's payload on a data connection.

/// Bytes of an encoded [`DataHeader`].
pub const DATA_HEADER_LEN: usize = 64;

/// What stands in front of a payload. A decoded one cannot be wrong in itself (P-n); whether its numbers fit the session
/// is the session's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataHeader {
    /// The device's number in this session: its place in the settings.
    pub device: u16,
    /// The packet's number in the device's state: 0, 1, 2 … without gaps.
    pub idx: u64,
    /// The last packet of the device: its payload is the config state.
    pub config: bool,
    /// Bytes of payload that follow.
    pub len: u32,
    /// CRC32C of the payload; 0 when payloads are not checked.
    pub crc32c: u32,
    /// The sender's monotonic clock when the first byte of the payload was asked for, in nanoseconds.
    pub read_at_ns: u64,
    /// The sender's monotonic clock when the packet was handed to the socket, in nanoseconds.
    pub sent_at_ns: u64,
}

//! Errors by blame: who has to do something about it decides the variant.
//!
//! | variant | whose | exit status of the command |
//! |---|---|---|
//! | [`Error::Misuse`] | the caller asked for something impossible | 2 |
//! | [`Error::Refused`] | the peers do not fit together | 4 |
//! | [`Error::Peer`] | the peer broke the protocol, fell silent or went away | 1 |
//! | [`Error::Device`] | a source or a sink, named | 1 |
//! | [`Error::Kernel`] | this host: io_uring, memory, sockets | 1 |
//! | [`Error::Cancelled`], [`Error::Deadline`] | the owner | 130, 1 |
//! | [`Error::InDoubt`] | nobody can tell which side runs | 3 |
//!
//! No variant holds another's text; every one keeps the operation and the errno.

use std::fmt;

use crate::limits;

/// A kernel error number, shown with its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(nix::errno::Errno);

impl Errno {
    /// From a raw, positive error number.
    pub fn from_raw(raw: i32) -> Errno {
        Errno(nix::errno::Errno::from_raw(raw))
    }

    /// The raw, positive error number.
    pub fn raw(self) -> i32 {
        self.0 as i32
    }
}

impl From<nix::errno::Errno> for Errno {
    fn from(errno: nix::errno::Errno) -> Errno {
        Errno(errno)
    }
}

impl From<&std::io::Error> for Errno {
    /// Errors that did not come from the kernel are shown as `EIO`.
    fn from(error: &std::io::Error) -> Errno {
        Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO))
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Errno {
        Errno::from(&error)
    }
}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> std::io::Error {
        std::io::Error::from_raw_os_error(errno.raw())
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", self.0, self.0.desc())
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a transfer did not end as asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller asked for something impossible.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// The peers do not fit together; nothing was moved.
    #[error("refused by the {by}: {reason}")]
    Refused {
        /// Which side said no.
        by: Side,
        /// Why.
        reason: Refusal,
    },
    /// The peer broke the protocol, fell silent or went away.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// A device could not be read, written or brought to a state.
    #[error("device {device}: {error}")]
    Device {
        /// The device's name in this session.
        device: Box<str>,
        /// What failed.
        error: DeviceError,
    },
    /// This host's kernel said no.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The owner cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The deadline passed before the hand-over.
    #[error("the deadline passed before every device was loaded")]
    Deadline,
    /// Commit was sent and no answer came: the destination may or may not run.
    #[error("commit was sent and no answer came ({cause}): the destination may be running the devices")]
    InDoubt {
        /// What took the answer away.
        cause: Box<Error>,
    },
}

impl Error {
    /// The kind of failure as an abort names it to the peer (`docs/PROTOCOL.md` has the table).
    pub fn abort_code(&self) -> u16 {
        match self {
            Error::Peer(_) => 1,
            Error::Device { .. } => 2,
            Error::Kernel(_) => 3,
            Error::Deadline => 4,
            Error::Misuse(_) | Error::Refused { .. } | Error::Cancelled | Error::InDoubt { .. } => 0,
        }
    }

    /// What to do about it, in one sentence.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Misuse(_) => None,
            Error::Refused { reason, .. } => reason.hint(),
            Error::Peer(error) => error.hint(),
            Error::Device { error, .. } => error.hint(),
            Error::Kernel(error) => error.hint(),
            Error::Cancelled => None,
            Error::Deadline => Some(
                "the source devices are back where they were; raise --deadline, or find what is slow in the report's latency",
            ),
            Error::InDoubt { .. } => Some(
                "look at the destination: if its devices run, discard the source; if it is down or says aborted, resume the source, whose state is intact",
            ),
        }
    }
}

/// One end of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The side that reads device state.
    Sender,
    /// The side that writes it.
    Receiver,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Sender => "sender",
            Side::Receiver => "receiver",
        })
    }
}

/// The caller asked for something impossible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// A transfer needs devices.
    #[error("no device was given")]
    NoDevices,
    /// Too many.
    #[error("{given} devices were given, at most {} are possible", limits::DEVICES_MAX)]
    TooManyDevices {
        /// How many.
        given: usize,
    },
    /// Two devices with one name and instance.
    #[error("device {name} was given twice")]
    DuplicateDevice {
        /// Its name.
        name: Box<str>,
    },
    /// A name must have 1 to 255 bytes of printable UTF-8.
    #[error("a device's name must have 1 to {} bytes and no control characters", limits::NAME_MAX)]
    BadName,
    /// Channels outside their bounds.
    #[error("{given} channels were asked for, 1 to {} are possible", limits::CHANNELS_MAX)]
    BadChannels {
        /// How many.
        given: usize,
    },
    /// Packet size outside its bounds.
    #[error(
        "a packet size of {given} bytes was asked for, {} to {} are possible",
        limits::PACKET_SIZE_MIN,
        limits::PACKET_SIZE_MAX
    )]
    BadPacketSize {
        /// Bytes.
        given: u64,
    },
    /// The pool cannot hold what the settings need.
    #[error(
        "a pool of {given} bytes was asked for, these settings need {needed} to {}",
        limits::POOL_SIZE_MAX
    )]
    BadPool {
        /// Bytes.
        given: u64,
        /// Bytes.
        needed: u64,
    },
    /// Neither an address nor sockets, or both.
    #[error("a transfer needs either an address or connected sockets")]
    NoPeer,
}

/// Why two peers do not fit together. The number travels; the sentence is ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No common protocol version.
    #[error("it speaks another protocol version")]
    Version,
    /// A feature bit that the receiver does not know.
    #[error("it does not know a feature that the other asked for")]
    Feature,
    /// Another session is running.
    #[error("it is busy with another transfer")]
    Busy,
    /// The session id is not the one of the session that is being set up.
    #[error("the connection belongs to no session here")]
    UnknownSession,
    /// A channel number that is taken or too large.
    #[error("the channel number is taken or out of range")]
    Channel,
    /// The sender offers a device that the receiver has no sink for, or the other way round.
    #[error("device {name} is on one side only")]
    DeviceMismatch {
        /// Its name.
        name: Box<str>,
    },
    /// Packet size, pool or checksum are outside the receiver's bounds.
    #[error("the settings ask for more than its limits allow: {text}")]
    Settings {
        /// Which, in the receiver's words.
        text: Box<str>,
    },
    /// The receiver could not get its devices or buffers ready.
    #[error("it could not get ready: {text}")]
    NotReady {
        /// What failed, in the receiver's words.
        text: Box<str>,
    },
    /// A reason that only a later version knows.
    #[error("its reason has number {code}, which this version does not know{}{text}", if text.is_empty() { "" } else { ": " })]
    Other {
        /// The number that travelled.
        code: u16,
        /// The other's words, may be empty.
        text: Box<str>,
    },
}

impl Refusal {
    /// The number that travels, never 0, and the words that go with it (`docs/PROTOCOL.md` has the table).
    pub fn to_wire(&self) -> (u16, &str) {
        match self {
            Refusal::Version => (1, ""),
            Refusal::Feature => (2, ""),
            Refusal::Busy => (3, ""),
            Refusal::UnknownSession => (4, ""),
            Refusal::Channel => (5, ""),
            Refusal::DeviceMismatch { name } => (6, name),
            Refusal::Settings { text } => (7, text),
            Refusal::NotReady { text } => (8, text),
            Refusal::Other { code, text } => (*code, text),
        }
    }

    /// From what travelled. A welcome has no words: its `text` is empty.
    pub fn from_wire(code: u16, text: &str) -> Refusal {
        match code {
            1 => Refusal::Version,
            2 => Refusal::Feature,
            3 => Refusal::Busy,
            4 => Refusal::UnknownSession,
            5 => Refusal::Channel,
            6 => Refusal::DeviceMismatch { name: text.into() },
            7 => Refusal::Settings { text: text.into() },
            8 => Refusal::NotReady { text: text.into() },
            _ => Refusal::Other { code, text: text.into() },
        }
    }

    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Refusal::Version | Refusal::Feature => "run the same version of ringlift on both sides",
            Refusal::Busy => "wait for the other transfer to end, or use another receiver",
            Refusal::UnknownSession | Refusal::Channel => {
                "something else connected to this port: check the address"
            }
            Refusal::DeviceMismatch { .. } => "give both sides the same device names",
            Refusal::Settings { .. } => "use a smaller --packet-size or --pool",
            Refusal::NotReady { .. } => "look at the receiver's own message",
            Refusal::Other { .. } => "the other side is newer: its own message says more",
        })
    }
}

/// The peer broke the protocol, fell silent or went away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// Bytes that are no message of this protocol.
    #[error("the peer sent what is no message of this protocol on {place}: {what}")]
    Malformed {
        /// On which connection.
        place: Place,
        /// What was wrong.
        what: crate::wire::Malformed,
    },
    /// A well-formed message at the wrong time.
    #[error("the peer sent {message} while {phase}")]
    Unexpected {
        /// The message's name.
        message: &'static str,
        /// What this side was doing.
        phase: &'static str,
    },
    /// A packet outside the order that the protocol promises.
    #[error("device {device}: the peer sent packet {idx} {problem}")]
    Order {
        /// The device's number in this session.
        device: u32,
        /// The packet's number.
        idx: u64,
        /// What was wrong with it.
        problem: &'static str,
    },
    /// Payload that is not what was sent.
    #[error(
        "device {device}: packet {idx} arrived damaged on {place} (CRC32C {found:08x}, expected {expected:08x})"
    )]
    Checksum {
        /// The device's number in this session.
        device: u32,
        /// The packet's number.
        idx: u64,
        /// On which connection.
        place: Place,
        /// Of the bytes that arrived.
        found: u32,
        /// In the packet's header.
        expected: u32,
    },
    /// The receiver says that it got something else than was sent.
    #[error(
        "device {device}: the receiver reports {found_bytes} bytes with CRC32C {found_crc32c:08x}, sent were {sent_bytes} with {sent_crc32c:08x}"
    )]
    LoadedDiffers {
        /// The device's number in this session.
        device: u32,
        /// As the receiver reports.
        found_bytes: u64,
        /// As the receiver reports.
        found_crc32c: u32,
        /// As this side counted.
        sent_bytes: u64,
        /// As this side counted.
        sent_crc32c: u32,
    },
    /// A connection ended in the middle.
    #[error("the peer closed {place} {phase}")]
    Closed {
        /// Which connection.
        place: Place,
        /// What this side was doing.
        phase: &'static str,
    },
    /// A connection failed.
    #[error("{place} failed {phase}: {errno}")]
    Lost {
        /// Which connection.
        place: Place,
        /// What this side was doing.
        phase: &'static str,
        /// The kernel's word.
        errno: Errno,
    },
    /// No word for too long.
    #[error("the peer has said nothing for {} s {phase}", limits::SILENCE_MAX.as_secs())]
    Silent {
        /// What this side was doing.
        phase: &'static str,
    },
    /// Words, but no progress for too long.
    #[error("no data has moved for {} s {phase}", limits::STANDSTILL_MAX.as_secs())]
    Standstill {
        /// What this side was doing.
        phase: &'static str,
    },
    /// Hello was not answered in time.
    #[error("no answer to the hello on {place} within {} s", limits::HELLO_TIMEOUT.as_secs())]
    HelloTimeout {
        /// Which connection.
        place: Place,
    },
    /// Not every data connection came in time.
    #[error("only {came} of {channels} data connections came within {} s", limits::GATHER_TIMEOUT.as_secs())]
    GatherTimeout {
        /// How many came.
        came: usize,
        /// How many were announced.
        channels: usize,
    },
    /// The peer gave up and said why.
    #[error("the peer aborted: {text}")]
    Aborted {
        /// The peer's words, made printable.
        text: Box<str>,
    },
    /// The peer's owner cancelled.
    #[error("the peer cancelled")]
    Cancelled,
}

impl PeerError {
    /// Whether it may be the second sign of a failure whose reason is on the control connection.
    pub(crate) fn is_sign(&self) -> bool {
        matches!(self, PeerError::Lost { .. } | PeerError::Closed { place: Place::Channel(_), .. })
    }

    /// Whether the peer itself said that it is over.
    pub(crate) fn is_last_word(&self) -> bool {
        matches!(self, PeerError::Aborted { .. } | PeerError::Cancelled)
    }

    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            PeerError::Malformed { .. } | PeerError::Unexpected { .. } | PeerError::Order { .. } => {
                "the other end is no ringlift, or a broken one: check the address and the versions"
            }
            PeerError::Checksum { .. } | PeerError::LoadedDiffers { .. } => {
                "something between the hosts changes bytes: check NIC offloads and memory"
            }
            PeerError::Closed { .. } | PeerError::Lost { .. } => {
                "look at the other side's message, and at the network between"
            }
            PeerError::Silent { .. } | PeerError::Standstill { .. } => {
                "the other side hangs, or the network between is cut"
            }
            PeerError::HelloTimeout { .. } => "is a ringlift recv listening there, and not a firewall?",
            PeerError::GatherTimeout { .. } => "a firewall may let one connection through, but not several",
            PeerError::Aborted { .. } => "the other side's own message says more",
            PeerError::Cancelled => return None,
        })
    }
}

/// Which connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The control connection.
    Control,
    /// Data connection number n.
    Channel(u16),
    /// A connection that has not said yet what it is.
    New,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Control => f.write_str("the control connection"),
            Place::Channel(number) => write!(f, "channel {number}"),
            Place::New => f.write_str("a new connection"),
        }
    }
}

/// A device could not be read, written or brought to a state. The session adds the device's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// An operation failed.
    #[error("{operation} failed: {errno}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The kernel's word.
        errno: Errno,
    },
    /// The device could not be opened.
    #[error("{operation} {path} failed: {errno}")]
    Open {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: Box<str>,
        /// The kernel's word.
        errno: Errno,
    },
    /// A migration state change failed.
    #[error("state change {from} -> {to} failed: {errno}")]
    Transition {
        /// The state it was in.
        from: crate::vfio::State,
        /// The state it should have gone to.
        to: crate::vfio::State,
        /// The kernel's word.
        errno: Errno,
    },
    /// A migration state change failed, and no way back was left but a reset.
    #[error("state change {from} -> {to} failed: {errno}; the device was reset and the state in it is lost")]
    StateLost {
        /// The state it was in.
        from: crate::vfio::State,
        /// The state it should have gone to.
        to: crate::vfio::State,
        /// The kernel's word.
        errno: Errno,
    },
    /// A migration state change failed, and the reset after it failed, too.
    #[error(
        "state change {from} -> {to} failed: {errno}; the reset after it failed, too: {reset}; the device cannot be used"
    )]
    Poisoned {
        /// The state it was in.
        from: crate::vfio::State,
        /// The state it should have gone to.
        to: crate::vfio::State,
        /// The kernel's word on the change.
        errno: Errno,
        /// The kernel's word on the reset.
        reset: Errno,
    },
    /// The device is in a state that nothing can be done from.
    #[error("the device is in state {state}")]
    WrongState {
        /// Its state.
        state: crate::vfio::State,
    },
    /// The device has no migration support, or less than is needed.
    #[error("the device does not support {what}")]
    Unsupported {
        /// What is missing.
        what: &'static str,
    },
    /// The config state belongs to another kind of device.
    #[error(
        "the config state belongs to another device: {field} is {found:#x} here and {expected:#x} at the source"
    )]
    Identity {
        /// Which field of the config space.
        field: &'static str,
        /// Of the device here.
        found: u32,
        /// In the config state that came.
        expected: u32,
    },
    /// The config state cannot be read.
    #[error("the config state is broken: {what}")]
    BadConfig {
        /// What is wrong.
        what: &'static str,
    },
    /// The content is not what the generator makes.
    #[error("content differs from the generator's at byte {offset}")]
    Content {
        /// Where in the device's state.
        offset: u64,
    },
    /// A device's own code panicked.
    #[error("its code panicked")]
    Panicked,
    /// A step never ended.
    #[error("it did not come back from its last step within {} s", limits::SETTLE_MAX.as_secs())]
    Stuck,
    /// The content ends elsewhere than the generator's.
    #[error("{found} bytes came, the source made {expected}")]
    Length {
        /// Bytes that came.
        found: u64,
        /// Bytes that the source says it made.
        expected: u64,
    },
    /// The sink takes no more.
    #[error("the device took no more bytes at byte {offset} of its state")]
    Full {
        /// Where in the device's state.
        offset: u64,
    },
}

impl DeviceError {
    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            DeviceError::Transition { .. } => {
                "the kernel log may say more; the device was brought back to what it did before"
            }
            DeviceError::StateLost { .. } => {
                "the kernel log may say more; whoever uses the device has to set it up again"
            }
            DeviceError::Poisoned { .. } => {
                "the kernel log may say more; close the device, and reset or rebind it before it is used again"
            }
            DeviceError::WrongState { .. } => {
                "somebody else may be moving it, or a transfer was cut off: reset the device"
            }
            DeviceError::Open { .. } => {
                "check the path and the permissions; a VFIO device must be bound to its vfio driver and not be in use"
            }
            DeviceError::Unsupported { .. } => "`ringlift devices` lists what each device can do",
            DeviceError::Identity { .. } | DeviceError::BadConfig { .. } => {
                "both sides need the same device, driver and firmware"
            }
            DeviceError::Content { .. } | DeviceError::Length { .. } => {
                "give recv `verify` only for a device that the sender makes with `synthetic`"
            }
            DeviceError::Io { .. } | DeviceError::Stuck => "the kernel log may say more",
            DeviceError::Panicked => "this is a defect of that device's source or sink",
            DeviceError::Full { .. } => "both sides need the same device, and a file needs room",
        })
    }
}

/// This host's kernel said no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation} failed: {errno}")]
pub struct KernelError {
    /// What was tried.
    pub operation: &'static str,
    /// The kernel's word.
    pub errno: Errno,
    /// What to do about it.
    pub hint: Option<&'static str>,
}

impl KernelError {
    /// An error without advice.
    pub fn new(operation: &'static str, errno: impl Into<Errno>) -> KernelError {
        KernelError { operation, errno: errno.into(), hint: None }
    }

    fn hint(&self) -> Option<&'static str> {
        self.hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_comes_back_from_the_wire_as_itself() {
        for code in 1..=9 {
            let refusal = Refusal::from_wire(code, "net0");
            let (again, text) = refusal.to_wire();
            assert_eq!(again, code);
            assert_eq!(Refusal::from_wire(again, text), refusal);
            assert_eq!(matches!(refusal, Refusal::Other { .. }), code == 9);
        }
    }

    #[test]
    fn a_refusal_of_a_later_version_can_still_be_shown() {
        assert_eq!(
            Refusal::from_wire(900, "moon phase").to_string(),
            "its reason has number 900, which this version does not know: moon phase"
        );
        assert_eq!(
            Refusal::from_wire(900, "").to_string(),
            "its reason has number 900, which this version does not know"
        );
    }
}

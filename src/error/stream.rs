//! Parts of a QEMU stream, and what is wrong with their order: which one an error is about. Knows no stream. Code
//! decides by the value; its text is here.

use std::fmt;

use super::OrderProblem;

/// A part of a connection that is invalid or incomplete. Its text stands after "within" or before "cannot be right".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamPart {
    /// The first bytes of a connection, which tell its kind.
    Beginning,
    /// The first message of a multifd connection.
    Init,
    /// The whole stream of the main connection.
    MainStream,
    /// The live sections of the main connection.
    LiveSections,
    /// The section or command at this offset.
    Item,
    /// A packet.
    Packet,
    /// The header of the packet at this offset.
    PacketHeader,
    /// A piece of device state.
    StatePiece,
    /// The full sections of the main connection, or their description.
    Tail,
    /// The full section of a device.
    FullSection,
    /// A record of times.
    TimeRecord,
    /// The bytes that a file had when a replay examined it: it has fewer now.
    ExaminedBytes,
}

impl fmt::Display for StreamPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StreamPart::Beginning => "the beginning of a connection",
            StreamPart::Init => "the init of a multifd connection",
            StreamPart::MainStream => "its stream",
            StreamPart::LiveSections => "the live sections of the main connection",
            StreamPart::Item => "what is here",
            StreamPart::Packet => "a packet",
            StreamPart::PacketHeader => "the packet that begins here",
            StreamPart::StatePiece => "a piece of device state",
            StreamPart::Tail => "the full sections of the main connection, or their description",
            StreamPart::FullSection => "the full section of a device",
            StreamPart::TimeRecord => "a record of times",
            StreamPart::ExaminedBytes => "what it had when it was looked at",
        })
    }
}

/// Something that a stream may have only once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnlyOnce {
    /// The command `OPEN_RETURN_PATH`.
    OpenReturnPath,
    /// The command `SWITCHOVER_START`.
    SwitchoverStart,
    /// The START section of a device.
    StartSection,
}

impl fmt::Display for OnlyOnce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnlyOnce::OpenReturnPath => "command OPEN_RETURN_PATH",
            OnlyOnce::SwitchoverStart => "command SWITCHOVER_START",
            OnlyOnce::StartSection => "START section of this device",
        })
    }
}

/// Something of which an examination keeps only a limited number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Counted {
    /// Devices.
    Devices,
    /// Packets of device state.
    Packets,
    /// Pieces of device state.
    Pieces,
    /// Barriers.
    Barriers,
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Counted::Devices => "devices",
            Counted::Packets => "packets of device state",
            Counted::Pieces => "pieces of device state",
            Counted::Barriers => "barriers",
        })
    }
}

/// Why a QEMU packet cannot come where it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PacketProblem {
    /// Its number is impossible.
    Number(OrderProblem),
    /// It is further ahead of the next packet than connections can hold.
    TooFarAhead,
    /// The device's state came on the main connection before.
    AfterMainState,
}

impl fmt::Display for PacketProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PacketProblem::Number(problem) => problem.fmt(f),
            PacketProblem::TooFarAhead => f.write_str("further ahead of its turn than connections can hold"),
            PacketProblem::AfterMainState => f.write_str("after state on the main connection"),
        }
    }
}

/// What a QEMU source must not send for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnexpectedState {
    /// Two START sections.
    TwoStartSections,
    /// State on the main connection, but no config state after it.
    MainWithoutConfig,
    /// State on the main connection after packets on multifd channels.
    MainAfterChannels,
    /// Packets on multifd channels, but no `SWITCHOVER_START` before the last sections.
    ChannelsWithoutSwitchover,
}

impl fmt::Display for UnexpectedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UnexpectedState::TwoStartSections => "two START sections",
            UnexpectedState::MainWithoutConfig => {
                "state on the main connection, and no config state behind it"
            }
            UnexpectedState::MainAfterChannels => {
                "state on the main connection after packets on multifd channels"
            }
            UnexpectedState::ChannelsWithoutSwitchover => {
                "packets on multifd channels, and no SWITCHOVER_START before its last sections"
            }
        })
    }
}

//! What is wrong with a captured stream.

use super::{CaptureOperation, Counted, Errno, OnlyOnce, StreamPart};
use crate::limits;
use crate::wire::Malformed;

/// A problem with a capture: in which file, where, and what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}, byte {offset}: {problem}")]
pub struct CaptureError {
    /// The file, as the caller named it.
    pub file: Box<str>,
    /// Where in the file; 0 when the problem concerns the whole file.
    pub offset: u64,
    /// What is wrong there.
    pub problem: CaptureProblem,
}

/// What is wrong at one place of a capture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureProblem {
    /// The file cannot be read.
    #[error("{operation} failed: {errno}")]
    Io {
        /// What was attempted.
        operation: CaptureOperation,
        /// The kernel's error number.
        errno: Errno,
    },
    /// Not a regular file: a pipe, a device, a folder within a folder.
    #[error("it is no regular file")]
    NotAFile,
    /// A folder without a connection.
    #[error("no connection is here: no file *.bin that is not *.back.bin")]
    NoFiles,
    /// More files than a migration has connections.
    #[error(
        "there are more than {} connections, the most that a migration has",
        limits::QEMU_CONNECTIONS_MAX
    )]
    TooManyFiles,
    /// Nothing here is a main connection.
    #[error("no file has the main connection (its first bytes are QEVM)")]
    NoMain,
    /// A second main connection.
    #[error("this is a second main connection; the first is {first}")]
    SecondMain {
        /// The file that has the first.
        first: Box<str>,
    },
    /// Invalid bytes.
    #[error("{what} cannot be right: {malformed}")]
    Malformed {
        /// What should be there.
        what: StreamPart,
        /// What is wrong with it.
        malformed: Malformed,
    },
    /// The file ends in the middle.
    #[error("the file ends within {within}")]
    Cut {
        /// What was incomplete.
        within: StreamPart,
    },
    /// Bytes that belong to nothing.
    #[error("{bytes} bytes follow that belong to nothing")]
    Trailing {
        /// How many.
        bytes: u64,
    },
    /// The full sections differ from the stream's own description of them.
    #[error("section {section}: {difference}")]
    Tail {
        /// The section, as the description names it.
        section: Box<str>,
        /// Where they differ.
        difference: TailDifference,
    },
    /// The stream's description of its full sections cannot be read.
    #[error("the description of the machine's state is broken: {what}")]
    Description {
        /// What is wrong with it.
        what: Box<str>,
    },
    /// Two multifd connections with the same number.
    #[error("this is multifd channel {id}, and so is {first}")]
    DuplicateId {
        /// The number.
        id: u8,
        /// The file that had it first.
        first: Box<str>,
    },
    /// A number beyond the count of connections.
    #[error("this is multifd channel {id}, but there are {channels}, numbered from 0")]
    IdBeyondLast {
        /// The number.
        id: u8,
        /// How many there are.
        channels: usize,
    },
    /// Connections from two virtual machines.
    #[error("it comes from another virtual machine than {other}")]
    OtherMachine {
        /// The file that it was compared with.
        other: Box<str>,
    },
    /// Multifd was used, but no multifd connection is here.
    #[error("it has {flushes} flush flags for multifd connections, and none of these is here")]
    NoChannels {
        /// Flush flags on the main connection.
        flushes: u64,
    },
    /// The barriers do not fit together.
    #[error("it has {found} SYNC packets, and the main connection waits for {expected}")]
    SyncCount {
        /// On this connection.
        found: u64,
        /// Flush flags on the main one, or for machine types before 8.1, which have none, ends of RAM sections.
        expected: u64,
    },
    /// More than this crate examines.
    #[error("there are more than {max} {what}")]
    TooMany {
        /// Of what.
        what: Counted,
        /// The bound.
        max: usize,
    },
    /// The arrival times of the connection's bytes were not recorded.
    #[error("there is no file beside it that says when its bytes came")]
    NoTimes,
    /// Times for another connection, or for only a part of this one.
    #[error("the recorded times end at offset {offset}, and the connection has {bytes} bytes")]
    TimesEnd {
        /// The offset in the last record.
        offset: u64,
        /// Bytes of the connection.
        bytes: u64,
    },
    /// Times that go backwards.
    #[error("this record of times is before the last, or beyond the end of the connection")]
    TimesOrder,
    /// Connections that wait for each other.
    #[error(
        "what follows can only be sent when another connection has come further, and that one waits for this one"
    )]
    Circle,
    /// A second command of a kind that may come only once.
    #[error("a second {what}; the first is at byte {first}")]
    Twice {
        /// What.
        what: OnlyOnce,
        /// Where the first is.
        first: u64,
    },
    /// A problem with one device.
    #[error("device {device}: {problem}")]
    Device {
        /// Its name, and its instance if that is not 0.
        device: Box<str>,
        /// What is wrong.
        problem: DeviceProblem,
    },
}

/// Where a stream and its description of itself differ.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TailDifference {
    /// Something else begins here.
    #[error("it should begin here, and a byte {found:#04x} is here")]
    NoSection {
        /// The byte.
        found: u8,
    },
    /// Another section.
    #[error("it should begin here, and section {found} does")]
    OtherSection {
        /// The name of the section that is here.
        found: Box<str>,
    },
    /// Another version.
    #[error("its version is {found}, and {expected} in the description")]
    Version {
        /// In the section.
        found: u32,
        /// In the description.
        expected: u32,
    },
    /// A subsection is missing.
    #[error("its subsection {expected} should begin here")]
    NoSubsection {
        /// The subsection's name.
        expected: Box<str>,
    },
    /// It is longer or shorter than described.
    #[error("it should end here, and its footer is not here")]
    NoFooter,
    /// The stream goes on behind the last section that is described.
    #[error("it is the last in the description, and the stream does not end behind it")]
    NoEnd,
    /// The stream ends before it.
    #[error("the stream ends before the description does")]
    Missing,
}

/// What is wrong with one device's state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceProblem {
    /// Its state came, but the main connection did not announce it.
    #[error("its state is here, and the main connection does not know it")]
    Unknown,
    /// Packets are missing.
    #[error("its packets go up to {last}, and {missing} of them never came; the first of these is {first}")]
    MissingIdx {
        /// The highest number that arrived.
        last: u32,
        /// How many below it did not arrive.
        missing: u64,
        /// The lowest of these.
        first: u32,
    },
    /// A packet came twice.
    #[error("packet {idx} came twice, first at byte {first_offset} of {first_file}")]
    DuplicateIdx {
        /// Its number.
        idx: u32,
        /// The file with the first.
        first_file: Box<str>,
        /// Where in it.
        first_offset: u64,
    },
    /// State after the config state.
    #[error("packet {idx} is its config state and must be the last, but the last is {last}")]
    ConfigNotLast {
        /// The number of the config packet.
        idx: u32,
        /// The highest number.
        last: u32,
    },
    /// Config state twice.
    #[error("its config state came twice, first at byte {first_offset} of {first_file}")]
    SecondConfig {
        /// The file with the first.
        first_file: Box<str>,
        /// Where in it.
        first_offset: u64,
    },
    /// No config state.
    #[error("its config state never came")]
    NoConfig,
    /// The config state can only be in the tail, which has no description.
    #[error("its config state must be in the full sections, which have no description")]
    HiddenConfig,
    /// The config state cannot be read.
    #[error("its config state cannot be right: {malformed}")]
    Config {
        /// What is wrong with it.
        malformed: Malformed,
    },
    /// Its full section is neither empty nor config state.
    #[error("its full section of {bytes} bytes is neither config state nor empty")]
    FullSection {
        /// Bytes of the section.
        bytes: u64,
    },
    /// State on the main connection and on multifd connections.
    #[error("its state is on the main connection and on the channels")]
    BothWays,
    /// No END section.
    #[error("it has no END section")]
    NoEnd,
    /// No START section content.
    #[error("its START section does not say that it begins")]
    NoSetup,
}

impl CaptureError {
    pub(super) fn hint(&self) -> &'static str {
        match &self.problem {
            CaptureProblem::Io { .. } | CaptureProblem::NotAFile | CaptureProblem::NoFiles => {
                "name a folder with a capture, or the files of one"
            }
            CaptureProblem::NoTimes => {
                "times are in a file X.times beside X.bin, as they were recorded; without them the pace is full speed"
            }
            _ => "an inspection shows what is there",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_has_file_place_and_device() {
        let problem = DeviceProblem::MissingIdx { last: 7, missing: 2, first: 3 };
        let problem = CaptureProblem::Device { device: "0000:00:01.0/vfio".into(), problem };
        assert_eq!(
            CaptureError { file: "multifd-1.bin".into(), offset: 1408, problem }.to_string(),
            "multifd-1.bin, byte 1408: device 0000:00:01.0/vfio: its packets go up to 7, and 2 of them never came; the first of \
             these is 3"
        );
    }
}

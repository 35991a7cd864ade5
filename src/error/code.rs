//! Stable error numbers, for callers that cannot match a Rust enum: scripts, other languages, logs. Knows nothing of
//! messages; a number means one thing for ever: it is never changed and never reused. The thousands are the blame.
//! `docs/ERRORS.md` has the table; a test keeps the two in agreement.

use super::code_table::codes;
use super::{CaptureProblem, DeviceError, DeviceProblem, Error, KernelOperation, Misuse, PeerError, Refusal};

codes! {
    // misuse: the caller asked for something impossible
    MisuseNoDevices = 1001, "A transfer needs devices";
    MisuseTooManyDevices = 1002, "Too many";
    MisuseDuplicateDevice = 1003, "Two devices with one name and instance";
    MisuseBadName = 1004, "A name must have 1 to 255 bytes of printable UTF-8";
    MisuseBadChannels = 1005, "Channels outside their bounds";
    MisuseBadPacketSize = 1006, "Packet size outside its bounds";
    MisuseBadPool = 1007, "The pool cannot hold what the settings need";
    MisuseFolderNotEmpty = 1008, "A folder for a capture has something in it";
    MisuseBadMultifd = 1009, "More multifd connections than a migration can have";
    MisuseNoPeer = 1010, "Neither an address nor sockets, or both";
    MisuseSharedFile = 1011, "Two devices that write the same file";
    MisuseDevicesTwice = 1012, "Devices were given, and code that opens the devices of the sender";
    // refusal: the peers do not fit together
    RefusedVersion = 2001, "No common protocol version";
    RefusedFeature = 2002, "A feature bit that the receiver does not know";
    RefusedBusy = 2003, "Another session is running";
    RefusedUnknownSession = 2004, "The session id is not the one of the session that is being set up";
    RefusedChannel = 2005, "A channel number that is taken or too large";
    RefusedDeviceMismatch = 2006, "The sender offers a device that the receiver has no sink for, or the other way round";
    RefusedSettings = 2007, "Packet size, pool or checksum are outside the receiver's bounds";
    RefusedNotReady = 2008, "The receiver could not get its devices or buffers ready";
    RefusedOther = 2009, "A reason that only a later version knows";
    // the peer broke the protocol, fell silent or went away
    PeerMalformed = 3001, "Bytes that are no message of this protocol";
    PeerUnexpected = 3002, "A well-formed message at the wrong time";
    PeerWrongSession = 3003, "A welcome to a session that this side did not ask for";
    PeerCredit = 3004, "Credit that cannot be right";
    PeerOrder = 3005, "A packet outside the order that the protocol promises";
    PeerChecksum = 3006, "Payload that is not what was sent";
    PeerLoadedDiffers = 3007, "The receiver reports something other than what was sent";
    PeerClosed = 3008, "A connection ended in the middle";
    PeerLost = 3009, "A connection failed";
    PeerSilent = 3010, "Silent for too long";
    PeerStandstill = 3011, "Words, but no progress for too long";
    PeerHelloTimeout = 3012, "Hello was not answered in time";
    PeerGatherTimeout = 3013, "Not every data connection came in time";
    PeerAborted = 3014, "The peer gave up and sent the reason";
    PeerCancelled = 3015, "The caller on the peer's side cancelled";
    PeerAgreementTimeout = 3016, "The settings did not come in time";
    PeerDisplaced = 3017, "A connection that made no progress was closed to make room for newer ones";
    PeerDeviceRefused = 3018, "A device of the receiver refused state in pre-copy, when nothing had stopped";
    PeerDryRun = 3019, "The sender made a dry run";
    // a device
    DeviceIo = 4001, "An operation failed";
    DeviceOpen = 4002, "The device could not be opened";
    DeviceTransition = 4003, "A migration state change failed";
    DeviceStateLost = 4004, "A migration state change failed, and no way back was left but a reset";
    DevicePoisoned = 4005, "A migration state change failed, and the reset after it failed, too";
    DeviceWrongState = 4006, "The device is in a state that nothing can be done from";
    DeviceUnsupported = 4007, "The device has no migration support, or less than is needed";
    DeviceIdentity = 4008, "The config state belongs to another kind of device";
    DeviceBadConfig = 4009, "The config state cannot be read";
    DeviceStreamConfig = 4010, "The config state from a migration stream cannot be right";
    DeviceContent = 4011, "The content is not what the generator makes";
    DevicePanicked = 4012, "A device's own code panicked";
    DeviceStuck = 4013, "A step never ended";
    DeviceLength = 4014, "The content ends elsewhere than the generator's";
    DeviceFull = 4015, "The sink takes no more";
    DeviceFileInUse = 4016, "Another sink writes this file";
    DeviceForeignFile = 4017, "A file that another user may have put there";
    DeviceFileChanged = 4018, "The file or its folder was replaced during the transfer";
    DeviceInterrupted = 4019, "A killed process left several files half renamed, and that cannot be ended";
    DeviceCustom = 4020, "An error of an embedder's own source or sink";
    DeviceCutShort = 4021, "A read or write was interrupted, and bytes of the device's state may be lost";
    DeviceRefusedEarly = 4022, "A device refused state before the sender announced that it stops its devices";
    // this host's kernel: 5000 and the operation's number
    KernelSocket = 5001, "Makes a socket";
    KernelListen = 5002, "Listens on an address";
    KernelAccept = 5003, "Accepts a connection";
    KernelConnect = 5004, "Connects to a receiver";
    KernelConnectToQemu = 5005, "Connects to a QEMU that waits for a migration";
    KernelSetOptions = 5006, "Sets a connection's options";
    KernelSetCongestion = 5007, "Sets a connection's congestion control";
    KernelSetNonBlocking = 5008, "Makes a socket return instead of waiting";
    KernelDuplicate = 5009, "Makes a second descriptor";
    KernelLocalAddress = 5010, "Asks for a socket's own address";
    KernelFindSocket = 5011, "Finds a socket that was handed over";
    KernelSend = 5012, "Sends the first bytes of a connection";
    KernelUnconfirmed = 5013, "Asks how much the peer's kernel has not confirmed";
    KernelPoll = 5014, "Waits for a descriptor";
    KernelEpollCreate = 5015, "Makes an epoll instance";
    KernelEpollControl = 5016, "Tells epoll what to wait for";
    KernelEpollWait = 5017, "Waits for any of many descriptors";
    KernelEventFd = 5018, "Makes what wakes a ring";
    KernelStartThread = 5019, "Starts a thread";
    KernelKeepThread = 5020, "Needs a thread that has ended";
    KernelBlockSignals = 5021, "Leaves signals to the program's own threads";
    KernelRandom = 5022, "Reads random bytes";
    KernelRingSetup = 5023, "Makes an io_uring";
    KernelRingFeatures = 5024, "Finds what io_uring can do here";
    KernelRingEnter = 5025, "Waits for an io_uring";
    KernelRegisterPool = 5026, "Pins the buffer pool";
    KernelMapPool = 5027, "Makes the buffer pool";
    KernelMemoryFile = 5028, "Makes a file in memory";
    KernelWriteMemoryFile = 5029, "Writes a file in memory";
    KernelRewindMemoryFile = 5030, "Goes to the begin of a file in memory";
    KernelWrite = 5031, "Writes what was received";
    KernelPopulatePool = 5032, "Provides the buffer pool's memory";
    KernelReadOptions = 5033, "Asks for a connection's options";
    // a captured stream
    CaptureIo = 6001, "The file cannot be read";
    CaptureNotAFile = 6002, "A pipe, a device, a folder within a folder";
    CaptureNoFiles = 6003, "A folder without a connection";
    CaptureTooManyFiles = 6004, "More files than a migration has connections";
    CaptureNoMain = 6005, "Nothing here is a main connection";
    CaptureSecondMain = 6006, "A second main connection";
    CaptureMalformed = 6007, "Bytes that cannot be right";
    CaptureCut = 6008, "The file ends in the middle";
    CaptureTrailing = 6009, "Bytes that nothing explains";
    CaptureTail = 6010, "The full sections differ from the stream's own description of them";
    CaptureDescription = 6011, "The stream's description of its full sections cannot be read";
    CaptureDuplicateId = 6012, "Two multifd connections with one number";
    CaptureIdBeyondLast = 6013, "A number beyond the count of connections";
    CaptureOtherMachine = 6014, "Connections of two virtual machines";
    CaptureNoChannels = 6015, "Multifd was used, and no multifd connection is here";
    CaptureSyncCount = 6016, "The barriers do not fit together";
    CaptureTooMany = 6017, "More than is looked at";
    CaptureNoTimes = 6018, "Nobody recorded when the connection's bytes came";
    CaptureTimesEnd = 6019, "Times that are about another connection, or about a part of this one";
    CaptureTimesOrder = 6020, "Times that go back";
    CaptureCircle = 6021, "Connections that wait for each other";
    CaptureTwice = 6022, "A second command of a kind that comes once";
    // a captured stream: one device's state
    CaptureDeviceUnknown = 6101, "Its state came, but nothing announced it";
    CaptureDeviceMissingIdx = 6102, "Packets are missing";
    CaptureDeviceDuplicateIdx = 6103, "A packet came twice";
    CaptureDeviceConfigNotLast = 6104, "State behind the config state";
    CaptureDeviceSecondConfig = 6105, "Config state twice";
    CaptureDeviceNoConfig = 6106, "No config state";
    CaptureDeviceHiddenConfig = 6107, "The config state can only be in the tail, which has no description";
    CaptureDeviceConfig = 6108, "The config state cannot be read";
    CaptureDeviceFullSection = 6109, "Its full section is neither empty nor config state";
    CaptureDeviceBothWays = 6110, "State on both ways";
    CaptureDeviceNoEnd = 6111, "No END section";
    CaptureDeviceNoSetup = 6112, "No START section content";
    // a QEMU at the other end, or in its place
    QemuMalformed = 7001, "Bytes that cannot be right";
    QemuSilent = 7002, "A connection that sends nothing to identify it";
    QemuTwice = 7003, "Two connections for one place";
    QemuBeyondLast = 7004, "A multifd connection that there is no place for";
    QemuOtherMachine = 7005, "Connections of two virtual machines";
    QemuGather = 7006, "Not all connections came in time";
    QemuCut = 7007, "A connection that ends in the middle";
    QemuUnended = 7008, "A connection that goes on and on";
    QemuLeft = 7009, "A connection that ended while something was missing";
    QemuOrder = 7010, "A packet that may not come";
    QemuMissing = 7011, "A packet that did not come";
    QemuSync = 7012, "Barriers that do not fit together";
    QemuTooManyDevices = 7013, "More devices than a machine has";
    QemuTooManyAnswers = 7014, "Endless pings whose replies are never read";
    QemuDestinationLeft = 7015, "A destination that went away";
    QemuDestinationShut = 7016, "A final message from the destination that reports failure or comes too early";
    QemuUnasked = 7017, "Bytes from a destination on a connection where it has nothing to send";
    QemuUnexpected = 7018, "Something that does not belong there";
    QemuDisorder = 7019, "Every connection waits with a packet that is not the one that everything waits for";
    QemuLongTail = 7020, "More of other devices' state than is kept to look through";
    QemuTail = 7021, "The sections behind the live ones differ from their description";
    // an output file
    File = 8001, "A file or a folder could not be made or written";
    // the caller, or no one
    Cancelled = 9001, "The caller cancelled";
    Deadline = 9002, "The deadline passed before the hand-over";
    InDoubt = 9003, "Commit was sent and no answer came";
    Downtime = 9004, "The devices stood still for longer than the caller allows";
    HookPanicked = 9005, "Code that the caller set panicked";
    HookRefused = 9006, "Code that the caller set refused to go on";
    DryRun = 9007, "Nothing was to be moved";
}

impl ErrorCode {
    /// The number.
    pub fn number(self) -> u32 {
        self as u32
    }
}

impl From<&Error> for ErrorCode {
    fn from(error: &Error) -> ErrorCode {
        match error {
            Error::Misuse(error) => of_misuse(error),
            Error::Refused { reason, .. } => of_refusal(reason),
            Error::Peer(error) => of_peer(error),
            Error::Capture(error) => of_capture(&error.problem),
            Error::Device { error, .. } => of_device(error),
            Error::File { .. } => ErrorCode::File,
            Error::Kernel(error) => of_kernel(error.operation),
            Error::Cancelled => ErrorCode::Cancelled,
            Error::Deadline => ErrorCode::Deadline,
            Error::Downtime { .. } => ErrorCode::Downtime,
            Error::InDoubt { .. } => ErrorCode::InDoubt,
            Error::HookPanicked { .. } => ErrorCode::HookPanicked,
            Error::HookRefused { .. } => ErrorCode::HookRefused,
            Error::DryRun => ErrorCode::DryRun,
        }
    }
}

fn of_misuse(error: &Misuse) -> ErrorCode {
    match error {
        Misuse::NoDevices => ErrorCode::MisuseNoDevices,
        Misuse::TooManyDevices { .. } => ErrorCode::MisuseTooManyDevices,
        Misuse::DuplicateDevice { .. } => ErrorCode::MisuseDuplicateDevice,
        Misuse::BadName => ErrorCode::MisuseBadName,
        Misuse::BadChannels { .. } => ErrorCode::MisuseBadChannels,
        Misuse::BadPacketSize { .. } => ErrorCode::MisuseBadPacketSize,
        Misuse::BadPool { .. } => ErrorCode::MisuseBadPool,
        Misuse::FolderNotEmpty { .. } => ErrorCode::MisuseFolderNotEmpty,
        Misuse::BadMultifd { .. } => ErrorCode::MisuseBadMultifd,
        Misuse::NoPeer => ErrorCode::MisuseNoPeer,
        Misuse::SharedFile { .. } => ErrorCode::MisuseSharedFile,
        Misuse::DevicesTwice => ErrorCode::MisuseDevicesTwice,
    }
}

fn of_refusal(error: &Refusal) -> ErrorCode {
    match error {
        Refusal::Version => ErrorCode::RefusedVersion,
        Refusal::Feature => ErrorCode::RefusedFeature,
        Refusal::Busy => ErrorCode::RefusedBusy,
        Refusal::UnknownSession => ErrorCode::RefusedUnknownSession,
        Refusal::Channel => ErrorCode::RefusedChannel,
        Refusal::DeviceMismatch { .. } => ErrorCode::RefusedDeviceMismatch,
        Refusal::Settings { .. } => ErrorCode::RefusedSettings,
        Refusal::NotReady { .. } => ErrorCode::RefusedNotReady,
        Refusal::Other { .. } => ErrorCode::RefusedOther,
    }
}

fn of_peer(error: &PeerError) -> ErrorCode {
    match error {
        PeerError::Malformed { .. } => ErrorCode::PeerMalformed,
        PeerError::Unexpected { .. } => ErrorCode::PeerUnexpected,
        PeerError::WrongSession { .. } => ErrorCode::PeerWrongSession,
        PeerError::Credit { .. } => ErrorCode::PeerCredit,
        PeerError::Order { .. } => ErrorCode::PeerOrder,
        PeerError::Checksum { .. } => ErrorCode::PeerChecksum,
        PeerError::LoadedDiffers { .. } => ErrorCode::PeerLoadedDiffers,
        PeerError::Closed { .. } => ErrorCode::PeerClosed,
        PeerError::Lost { .. } => ErrorCode::PeerLost,
        PeerError::Silent { .. } => ErrorCode::PeerSilent,
        PeerError::Standstill { .. } => ErrorCode::PeerStandstill,
        PeerError::HelloTimeout { .. } => ErrorCode::PeerHelloTimeout,
        PeerError::GatherTimeout { .. } => ErrorCode::PeerGatherTimeout,
        PeerError::AgreementTimeout => ErrorCode::PeerAgreementTimeout,
        PeerError::Displaced { .. } => ErrorCode::PeerDisplaced,
        PeerError::DeviceRefused { .. } => ErrorCode::PeerDeviceRefused,
        PeerError::Aborted { .. } => ErrorCode::PeerAborted,
        PeerError::Qemu(error) => ErrorCode::from(error),
        PeerError::Cancelled => ErrorCode::PeerCancelled,
        PeerError::DryRun => ErrorCode::PeerDryRun,
    }
}

fn of_device(error: &DeviceError) -> ErrorCode {
    match error {
        DeviceError::Io { .. } => ErrorCode::DeviceIo,
        DeviceError::RefusedEarly(_) => ErrorCode::DeviceRefusedEarly,
        DeviceError::CutShort { .. } => ErrorCode::DeviceCutShort,
        DeviceError::Open { .. } => ErrorCode::DeviceOpen,
        DeviceError::Transition { .. } => ErrorCode::DeviceTransition,
        DeviceError::StateLost { .. } => ErrorCode::DeviceStateLost,
        DeviceError::Poisoned { .. } => ErrorCode::DevicePoisoned,
        DeviceError::WrongState { .. } => ErrorCode::DeviceWrongState,
        DeviceError::Unsupported { .. } => ErrorCode::DeviceUnsupported,
        DeviceError::Identity { .. } => ErrorCode::DeviceIdentity,
        DeviceError::BadConfig { .. } => ErrorCode::DeviceBadConfig,
        DeviceError::StreamConfig { .. } => ErrorCode::DeviceStreamConfig,
        DeviceError::Content { .. } => ErrorCode::DeviceContent,
        DeviceError::Panicked => ErrorCode::DevicePanicked,
        DeviceError::Stuck => ErrorCode::DeviceStuck,
        DeviceError::Length { .. } => ErrorCode::DeviceLength,
        DeviceError::Full { .. } => ErrorCode::DeviceFull,
        DeviceError::FileInUse { .. } => ErrorCode::DeviceFileInUse,
        DeviceError::ForeignFile { .. } => ErrorCode::DeviceForeignFile,
        DeviceError::FileChanged { .. } => ErrorCode::DeviceFileChanged,
        DeviceError::Interrupted { .. } => ErrorCode::DeviceInterrupted,
        DeviceError::Custom(_) => ErrorCode::DeviceCustom,
    }
}

fn of_kernel(operation: KernelOperation) -> ErrorCode {
    match operation {
        KernelOperation::Socket => ErrorCode::KernelSocket,
        KernelOperation::Listen => ErrorCode::KernelListen,
        KernelOperation::Accept => ErrorCode::KernelAccept,
        KernelOperation::Connect => ErrorCode::KernelConnect,
        KernelOperation::ConnectToQemu => ErrorCode::KernelConnectToQemu,
        KernelOperation::SetOptions => ErrorCode::KernelSetOptions,
        KernelOperation::SetCongestion => ErrorCode::KernelSetCongestion,
        KernelOperation::SetNonBlocking => ErrorCode::KernelSetNonBlocking,
        KernelOperation::Duplicate => ErrorCode::KernelDuplicate,
        KernelOperation::LocalAddress => ErrorCode::KernelLocalAddress,
        KernelOperation::FindSocket => ErrorCode::KernelFindSocket,
        KernelOperation::Send => ErrorCode::KernelSend,
        KernelOperation::Unconfirmed => ErrorCode::KernelUnconfirmed,
        KernelOperation::Poll => ErrorCode::KernelPoll,
        KernelOperation::EpollCreate => ErrorCode::KernelEpollCreate,
        KernelOperation::EpollControl => ErrorCode::KernelEpollControl,
        KernelOperation::EpollWait => ErrorCode::KernelEpollWait,
        KernelOperation::EventFd => ErrorCode::KernelEventFd,
        KernelOperation::StartThread => ErrorCode::KernelStartThread,
        KernelOperation::KeepThread => ErrorCode::KernelKeepThread,
        KernelOperation::BlockSignals => ErrorCode::KernelBlockSignals,
        KernelOperation::Random => ErrorCode::KernelRandom,
        KernelOperation::RingSetup => ErrorCode::KernelRingSetup,
        KernelOperation::RingFeatures => ErrorCode::KernelRingFeatures,
        KernelOperation::RingEnter => ErrorCode::KernelRingEnter,
        KernelOperation::RegisterPool => ErrorCode::KernelRegisterPool,
        KernelOperation::MapPool => ErrorCode::KernelMapPool,
        KernelOperation::MemoryFile => ErrorCode::KernelMemoryFile,
        KernelOperation::WriteMemoryFile => ErrorCode::KernelWriteMemoryFile,
        KernelOperation::RewindMemoryFile => ErrorCode::KernelRewindMemoryFile,
        KernelOperation::Write => ErrorCode::KernelWrite,
        KernelOperation::PopulatePool => ErrorCode::KernelPopulatePool,
        KernelOperation::ReadOptions => ErrorCode::KernelReadOptions,
    }
}

fn of_capture(error: &CaptureProblem) -> ErrorCode {
    match error {
        CaptureProblem::Io { .. } => ErrorCode::CaptureIo,
        CaptureProblem::NotAFile => ErrorCode::CaptureNotAFile,
        CaptureProblem::NoFiles => ErrorCode::CaptureNoFiles,
        CaptureProblem::TooManyFiles => ErrorCode::CaptureTooManyFiles,
        CaptureProblem::NoMain => ErrorCode::CaptureNoMain,
        CaptureProblem::SecondMain { .. } => ErrorCode::CaptureSecondMain,
        CaptureProblem::Malformed { .. } => ErrorCode::CaptureMalformed,
        CaptureProblem::Cut { .. } => ErrorCode::CaptureCut,
        CaptureProblem::Trailing { .. } => ErrorCode::CaptureTrailing,
        CaptureProblem::Tail { .. } => ErrorCode::CaptureTail,
        CaptureProblem::Description { .. } => ErrorCode::CaptureDescription,
        CaptureProblem::DuplicateId { .. } => ErrorCode::CaptureDuplicateId,
        CaptureProblem::IdBeyondLast { .. } => ErrorCode::CaptureIdBeyondLast,
        CaptureProblem::OtherMachine { .. } => ErrorCode::CaptureOtherMachine,
        CaptureProblem::NoChannels { .. } => ErrorCode::CaptureNoChannels,
        CaptureProblem::SyncCount { .. } => ErrorCode::CaptureSyncCount,
        CaptureProblem::TooMany { .. } => ErrorCode::CaptureTooMany,
        CaptureProblem::NoTimes => ErrorCode::CaptureNoTimes,
        CaptureProblem::TimesEnd { .. } => ErrorCode::CaptureTimesEnd,
        CaptureProblem::TimesOrder => ErrorCode::CaptureTimesOrder,
        CaptureProblem::Circle => ErrorCode::CaptureCircle,
        CaptureProblem::Twice { .. } => ErrorCode::CaptureTwice,
        CaptureProblem::Device { problem, .. } => of_capture_device(problem),
    }
}

fn of_capture_device(error: &DeviceProblem) -> ErrorCode {
    match error {
        DeviceProblem::Unknown => ErrorCode::CaptureDeviceUnknown,
        DeviceProblem::MissingIdx { .. } => ErrorCode::CaptureDeviceMissingIdx,
        DeviceProblem::DuplicateIdx { .. } => ErrorCode::CaptureDeviceDuplicateIdx,
        DeviceProblem::ConfigNotLast { .. } => ErrorCode::CaptureDeviceConfigNotLast,
        DeviceProblem::SecondConfig { .. } => ErrorCode::CaptureDeviceSecondConfig,
        DeviceProblem::NoConfig => ErrorCode::CaptureDeviceNoConfig,
        DeviceProblem::HiddenConfig => ErrorCode::CaptureDeviceHiddenConfig,
        DeviceProblem::Config { .. } => ErrorCode::CaptureDeviceConfig,
        DeviceProblem::FullSection { .. } => ErrorCode::CaptureDeviceFullSection,
        DeviceProblem::BothWays => ErrorCode::CaptureDeviceBothWays,
        DeviceProblem::NoEnd => ErrorCode::CaptureDeviceNoEnd,
        DeviceProblem::NoSetup => ErrorCode::CaptureDeviceNoSetup,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::QemuError;

    /// A number whose meaning changes breaks every program that stored it: only ever add rows to this test.
    #[test]
    fn the_table_of_codes_is_what_the_documents_say() {
        let documented: Vec<(u32, &str, &str)> = include_str!("../../docs/ERRORS.md")
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
                Some((cells.next()?.parse().ok()?, cells.next()?.trim_matches('`'), cells.next()?))
            })
            .filter(|(number, ..)| *number >= 1000)
            .collect();
        let own: Vec<_> =
            ErrorCode::ALL.iter().map(|code| (code.number(), code.name(), code.meaning())).collect();
        assert_eq!(documented, own);
    }

    #[test]
    fn codes_ascend_and_never_meet() {
        assert!(ErrorCode::ALL.windows(2).all(|pair| pair[0].number() < pair[1].number()));
    }

    #[test]
    fn a_kernel_errors_code_ends_in_its_operations_number() {
        for operation in [KernelOperation::Socket, KernelOperation::Connect, KernelOperation::Write] {
            assert_eq!(of_kernel(operation).number(), 5000 + operation as u32);
        }
    }

    #[test]
    fn the_thousands_are_the_blame() {
        let of = |error: Error| error.code() / 1000;
        let reason = Refusal::Busy;
        assert_eq!(of(Misuse::NoDevices.into()), 1);
        assert_eq!(of(Error::Refused { by: super::super::Side::Sender, reason }), 2);
        assert_eq!(of(PeerError::Cancelled.into()), 3);
        assert_eq!(of(Error::Device { device: "net0".into(), error: DeviceError::Panicked }), 4);
        assert_eq!(of(PeerError::from(QemuError::Silent).into()), 7);
        assert_eq!(of(Error::Deadline), 9);
    }
}

//! What the command adds to the library's hints: its own options and commands.
//!
//! The library names a setting ("a smaller pool"); this file knows the option for it. A row names the codes of errors,
//! or of a warning, that it applies to, and the text of the hint that it is appended to.

use ringlift::error::{Error, ErrorCode};
use ringlift::report::{Warning, WarningCode};

/// The first and the last code, the library's text, and the option to add.
const ERRORS: [(ErrorCode, ErrorCode, &str, &str); 19] = {
    use ErrorCode::{
        CaptureDeviceNoSetup, CaptureIo, CaptureNoFiles, CaptureNoTimes, CaptureNotAFile, Deadline,
        DeviceContent, DeviceLength, DeviceUnsupported, Downtime, KernelConnect, KernelMapPool,
        KernelPopulatePool, KernelRegisterPool, MisuseBadPool, PeerHelloTimeout, QemuBeyondLast, QemuGather,
        RefusedSettings,
    };
    [
        (MisuseBadPool, MisuseBadPool, "a larger pool", "--pool"),
        (RefusedSettings, RefusedSettings, "packet size", "--packet-size"),
        (RefusedSettings, RefusedSettings, "pool", "--pool"),
        (PeerHelloTimeout, PeerHelloTimeout, "a receiver", "`ringlift recv`"),
        (DeviceUnsupported, DeviceUnsupported, "devices of this host", "`ringlift devices`"),
        (DeviceContent, DeviceContent, "a verifying sink", "verify"),
        (DeviceContent, DeviceContent, "a synthetic source", "synthetic:SIZE"),
        (DeviceLength, DeviceLength, "a verifying sink", "verify"),
        (DeviceLength, DeviceLength, "a synthetic source", "synthetic:SIZE"),
        (KernelConnect, KernelConnect, "a receiver", "`ringlift recv`"),
        (KernelRegisterPool, KernelMapPool, "a smaller pool", "--pool"),
        (KernelPopulatePool, KernelPopulatePool, "a smaller pool", "--pool"),
        (CaptureIo, CaptureNoFiles, "a folder with a capture", "`ringlift qemu capture` writes one"),
        (CaptureNotAFile, CaptureDeviceNoSetup, "an inspection", "`ringlift qemu inspect`"),
        (CaptureNoTimes, CaptureNoTimes, "full speed", "--pace full"),
        (QemuBeyondLast, QemuBeyondLast, "multifd connections", "--channels"),
        (QemuGather, QemuGather, "multifd connections", "--channels"),
        (Deadline, Deadline, "raise the deadline", "--deadline"),
        (Downtime, Downtime, "raise the bound of the downtime", "--downtime-max"),
    ]
};

/// The code, the library's text, and the option to add.
const WARNINGS: [(WarningCode, &str, &str); 6] = [
    (WarningCode::NoRegisteredBuffers, "a smaller pool", "--pool"),
    (WarningCode::CongestionControl, "to cubic", "--congestion cubic"),
    (WarningCode::ZeroCopyCopied, "zero copy off there", "--zero-copy off"),
    (WarningCode::CannotTakeBack, "a sink that is a file", "file:PATH"),
    (WarningCode::PrecopyNotConverged, "raise the downtime limit", "--downtime-limit"),
    (WarningCode::PrecopyNotConverged, "use more channels", "--channels"),
];

/// What to do about an error, with the option for it.
pub(crate) fn of(error: &Error) -> Option<String> {
    let code = error.code();
    let rows = ERRORS.iter().filter(|(first, last, ..)| (first.number()..=last.number()).contains(&code));
    Some(extended(error.hint()?, rows.map(|(.., words, typed)| (*words, *typed))))
}

/// What to do about a warning, with the option for it.
pub(crate) fn of_warning(warning: &Warning) -> String {
    let rows = WARNINGS.iter().filter(|(code, ..)| *code == warning.code);
    extended(&warning.hint, rows.map(|(_, words, typed)| (*words, *typed)))
}

/// One code can have several hints: a row applies to those that contain its text.
fn extended<'a>(hint: &str, rows: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    rows.fold(hint.to_owned(), |hint, (words, typed)| hint.replacen(words, &format!("{words} ({typed})"), 1))
}

#[cfg(test)]
mod tests {
    use ringlift::error::{
        CaptureError, CaptureProblem, DeviceError, KernelError, KernelOperation, Misuse, PeerError, Place,
        QemuError, Refusal, Side,
    };

    use super::*;

    fn errors() -> Vec<Error> {
        let refused = |reason| Error::Refused { by: Side::Receiver, reason };
        let device = |error| Error::Device { device: "net0".into(), error };
        let kernel = |operation, errno: nix::errno::Errno| KernelError::new(operation, errno).into();
        let capture = |problem| Error::Capture(CaptureError { file: "main.bin".into(), offset: 0, problem });
        vec![
            Misuse::BadPool { given: 1, needed: 2 }.into(),
            refused(Refusal::Settings { text: "a pool".into() }),
            PeerError::HelloTimeout { place: Place::Control }.into(),
            device(DeviceError::Unsupported { what: "migration" }),
            device(DeviceError::Content { offset: 0 }),
            device(DeviceError::Length { found: 1, expected: 2 }),
            kernel(KernelOperation::Connect, nix::errno::Errno::ECONNREFUSED),
            kernel(KernelOperation::RegisterPool, nix::errno::Errno::ENOMEM),
            kernel(KernelOperation::MapPool, nix::errno::Errno::ENOMEM),
            kernel(KernelOperation::PopulatePool, nix::errno::Errno::ENOMEM),
            capture(CaptureProblem::NoFiles),
            capture(CaptureProblem::NoTimes),
            capture(CaptureProblem::NoMain),
            PeerError::from(QemuError::BeyondLast { id: 1, channels: 1 }).into(),
            PeerError::from(QemuError::Gather { main: true, came: 1, channels: 2 }).into(),
            Error::Deadline,
            Error::Downtime { max: std::time::Duration::from_secs(60) },
        ]
    }

    #[test]
    fn every_row_finds_the_words_that_it_is_put_behind() {
        let errors = errors();
        for (first, last, words, typed) in ERRORS {
            let said = format!("{words} ({typed})");
            let found = errors.iter().any(|error| {
                (first.number()..=last.number()).contains(&error.code())
                    && of(error).is_some_and(|hint| hint.contains(&said))
            });
            assert!(found, "{first:?}: {said}");
        }
    }

    #[test]
    fn a_hint_names_the_option_where_it_names_the_setting() {
        let hint = of(&KernelError::new(KernelOperation::MapPool, nix::errno::Errno::ENOMEM).into());
        let expected = "this host has too little memory for the pool: use a smaller pool (--pool)";
        assert_eq!(hint.as_deref(), Some(expected));
        let hint = of(&KernelError::new(KernelOperation::Connect, nix::errno::Errno::ENETUNREACH).into());
        assert_eq!(hint.as_deref(), Some("no route leads there: check the address"));
        assert_eq!(of(&Error::Cancelled), None);
    }
}

//! How warnings and errors are printed: a sentence, and what to do about it.

use std::net::SocketAddr;
use std::sync::OnceLock;

use ringlift::error::Error;
use ringlift::report::{Warning, WarningCode};

use crate::exit::Exit;
use crate::show::{hints, output};

/// Prints `error: …`, `hint: …`; returns the corresponding exit status.
pub(crate) fn error(error: &Error) -> Exit {
    failure(&error.to_string(), hints::of(error).as_deref());
    Exit::of_error(error)
}

/// Reports a command line that makes no sense.
pub(crate) fn usage(text: &str, hint: &str) -> Exit {
    failure(text, Some(hint));
    Exit::Usage
}

/// Reports a failure for which the library has no error.
pub(crate) fn failure(text: &str, hint: Option<&str>) {
    output::say(&sentence("error", text, hint));
}

/// The state travels unencrypted to another host.
pub(crate) const PLAINTEXT: &str = "plaintext";
/// A report, a log or a stream of events could not be written.
pub(crate) const NOT_WRITTEN: &str = "not_written";
/// The host has no VFIO device.
pub(crate) const NO_DEVICES: &str = "no_devices";
/// Whatever is sent here is lost.
pub(crate) const DISCARDED: &str = "discarded";
/// The codes of warnings that no report has.
const OWN: [&str; 4] = [PLAINTEXT, NOT_WRITTEN, NO_DEVICES, DISCARDED];

/// Codes of warnings that are not printed.
static QUIET: OnceLock<Vec<String>> = OnceLock::new();

/// From now on warnings with these codes are not printed.
pub(crate) fn quiet(codes: Vec<String>) {
    // a command line is read once
    let _ = QUIET.set(codes);
}

/// A code of a warning, as typed.
pub(crate) fn code(typed: &str) -> Result<String, String> {
    let mut codes = WarningCode::ALL.iter().map(WarningCode::to_string).chain(OWN.map(str::to_owned));
    match codes.clone().any(|code| code == typed) {
        true => Ok(typed.to_owned()),
        false => {
            let first = codes.next().unwrap_or_default();
            let list = codes.fold(first, |list, code| list + ", " + &code);
            Err(format!("there is no such warning\nhint: the codes are {list}"))
        }
    }
}

/// Prints `warning[CODE]: …`, `hint: …`.
pub(crate) fn warning(code: &str, text: &str, hint: &str) {
    if QUIET.get().is_none_or(|quiet| quiet.iter().all(|one| one != code)) {
        output::say(&sentence(&format!("warning[{code}]"), text, Some(hint)));
    }
}

/// Prints all warnings of a report.
pub(crate) fn warnings(warnings: &[Warning]) {
    for one in warnings {
        warning(&one.code.to_string(), &one.text, &hints::of_warning(one));
    }
}

/// Called before state travels to `to`, where nothing but the terminal shows it.
pub(crate) fn warn_of_plaintext(to: SocketAddr) {
    of_plaintext(to).into_iter().for_each(|(text, hint)| warning(PLAINTEXT, &text, hint));
}

/// What there is to say before state travels to `to`: a text and a hint.
pub(crate) fn of_plaintext(to: SocketAddr) -> Option<(String, &'static str)> {
    (!to.ip().to_canonical().is_loopback()).then(|| {
        let text = format!("there is no encryption yet: the state travels to {to} as it is");
        (text, "use a network that nobody else can read, or a tunnel")
    })
}

fn sentence(what: &str, text: &str, hint: Option<&str>) -> String {
    match hint {
        Some(hint) if !hint.is_empty() => format!("{what}: {text}\nhint: {hint}"),
        _ => format!("{what}: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_can_be_typed_and_another_is_answered_with_all_of_them() {
        for typed in WarningCode::ALL.map(|code| code.to_string()).iter().map(String::as_str).chain(OWN) {
            assert_eq!(code(typed).as_deref(), Ok(typed));
            assert!(code("none").unwrap_err().contains(typed), "{typed}");
        }
    }

    #[test]
    fn the_documents_have_the_codes_that_no_report_has() {
        let (_, below) = include_str!("../../../../docs/ERRORS.md").split_once("\n## Warnings\n").unwrap();
        let (_, own) = below.split_once("\n| name | meaning |\n").unwrap();
        let rows = own.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        assert_eq!(rows.collect::<Vec<_>>(), OWN);
    }

    #[test]
    fn a_hint_has_a_line_of_its_own_and_only_when_there_is_one() {
        assert_eq!(sentence("error", "it broke", Some("mend it")), "error: it broke\nhint: mend it");
        assert_eq!(sentence("warning", "it rains", None), "warning: it rains");
        assert_eq!(sentence("warning", "it rains", Some("")), "warning: it rains");
    }
}

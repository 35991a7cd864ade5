//! How warnings and errors are printed: a sentence, and what to do about it.

use std::net::SocketAddr;

use ringlift::error::Error;
use ringlift::report::Warning;

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

/// Prints `warning: …`, `hint: …`.
pub(crate) fn warning(text: &str, hint: &str) {
    output::say(&sentence("warning", text, Some(hint)));
}

/// Prints all warnings of a report.
pub(crate) fn warnings(warnings: &[Warning]) {
    for one in warnings {
        warning(&one.text, &hints::of_warning(one));
    }
}

/// Called before state travels to `to`.
pub(crate) fn warn_of_plaintext(to: SocketAddr) {
    if !to.ip().to_canonical().is_loopback() {
        warning(
            &format!("there is no encryption yet: the state travels to {to} as it is"),
            "use a network that nobody else can read, or a tunnel",
        );
    }
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
    fn a_hint_has_a_line_of_its_own_and_only_when_there_is_one() {
        assert_eq!(sentence("error", "it broke", Some("mend it")), "error: it broke\nhint: mend it");
        assert_eq!(sentence("warning", "it rains", None), "warning: it rains");
        assert_eq!(sentence("warning", "it rains", Some("")), "warning: it rains");
    }
}

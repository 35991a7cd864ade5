//! Prints messages and results. A closed stdout or stderr is no reason to fail in the middle of a transfer.

use std::io::{self, IsTerminal, Write};

/// Prints a message line.
pub(crate) fn say(line: &str) {
    // There is no way left to report that the message was not written.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Prints results, which contain their own line ends.
pub(crate) fn result(text: &str) {
    let mut stdout = io::stdout().lock();
    // As for messages: the exit status tells how it went.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// What prints results: to stdout, unless that is for something else.
pub(crate) fn results(stdout_is_taken: bool) -> fn(&str) {
    if stdout_is_taken { |text| say(text.trim_end()) } else { result }
}

/// Whether stderr is a terminal, so that a progress bar is visible.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether stdout accepts more than ASCII.
pub(crate) fn takes_unicode() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|value| !value.is_empty())
        .unwrap_or_default()
        .to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

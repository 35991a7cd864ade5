//! Where words and results go. A closed stdout or stderr is no reason to fall in the middle of a transfer.

use std::io::{self, IsTerminal, Write};

/// A line of words.
pub(crate) fn say(line: &str) {
    // Nobody is left to be told that the words did not arrive.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A text of results, which ends its own lines.
pub(crate) fn result(text: &str) {
    let mut stdout = io::stdout().lock();
    // As for the words: the exit status says how it went.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Whether a bar on stderr would be seen by somebody.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether stdout takes more than ASCII.
pub(crate) fn takes_unicode() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|value| !value.is_empty())
        .unwrap_or_default()
        .to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

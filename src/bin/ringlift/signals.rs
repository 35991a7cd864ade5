//! SIGINT and SIGTERM request a rollback and never cut it short; SIGXFSZ does not end the process.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ringlift::Cancel;
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::exit::Exit;
use crate::show::progress::Progress;
use crate::show::warnings;

/// A file that becomes larger than its limit is an error (`EFBIG`) and not the end of the process, as Rust has it for
/// pipes without a reader.
pub(crate) fn survive_large_files() {
    // without it a write beyond the limit still ends the process, as it does anywhere
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

/// Waits for the next signal.
pub(crate) fn await_one() -> Result<(), Exit> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| unwatchable(&error))?;
    signals.forever().next();
    Ok(())
}

fn unwatchable(error: &std::io::Error) -> Exit {
    warnings::failure(&format!("signals cannot be watched: {error}"), Some("look at the limits: ulimit -a"));
    Exit::Failed
}

/// From now on a signal cancels. Until now it ended the process: no device had been touched yet.
pub(crate) fn cancel_on_signals(cancel: &Cancel, progress: &Progress) -> Result<(), Exit> {
    let words = [
        "cancelling: the devices go back to where they were",
        "roll-back is under way and is not cut short: please wait",
    ];
    watch(cancel.clone(), progress.clone(), words).map_err(|error| unwatchable(&error))
}

/// The same where no device has to be rolled back.
pub(crate) fn stop_on_signals(cancel: &Cancel, progress: &Progress) -> Result<(), Exit> {
    let words = ["stopping: what came so far is kept", "stopping: please wait"];
    watch(cancel.clone(), progress.clone(), words).map_err(|error| unwatchable(&error))
}

/// The same where nothing is kept.
pub(crate) fn end_on_signals(cancel: &Cancel, progress: &Progress) -> Result<(), Exit> {
    let words = ["stopping: the destination is left with what it has", "stopping: please wait"];
    watch(cancel.clone(), progress.clone(), words).map_err(|error| unwatchable(&error))
}

fn watch(cancel: Cancel, progress: Progress, words: [&'static str; 2]) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let answer = move || {
        for (idx, _) in signals.forever().enumerate() {
            cancel.cancel();
            progress.say(words[idx.min(1)]);
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(answer).map(drop)
}

//! SIGINT and SIGTERM request a rollback and never cut it short; SIGXFSZ does not end the process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use ringlift::Cancel;
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::exit::Exit;
use crate::show::progress::Progress;
use crate::show::warnings;

/// A file that becomes larger than its limit is an error (`EFBIG`) and not the end of the process, as Rust has it for
/// pipes without a reader.
pub(crate) fn survive_large_files() {
    // without it a write beyond the limit still ends the process, as it does anywhere
    let _ = flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

/// Nothing has to be rolled back yet: a signal ends the process.
static EARLY: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(true)));

/// Until signals are watched, they end the process as a cancel does. No device has been touched before.
pub(crate) fn end_early() {
    for signal in [SIGINT, SIGTERM] {
        // without it a signal still ends the process, with another status
        let _ = flag::register_conditional_shutdown(signal, Exit::Cancelled as i32, Arc::clone(&EARLY));
    }
}

/// Watches signals from now on.
fn watched() -> std::io::Result<Signals> {
    let signals = Signals::new([SIGINT, SIGTERM])?;
    EARLY.store(false, Ordering::SeqCst);
    Ok(signals)
}

/// Waits for the next signal.
pub(crate) fn await_one() -> Result<(), Exit> {
    let mut signals = watched().map_err(|error| unwatchable(&error))?;
    signals.forever().next();
    Ok(())
}

fn unwatchable(error: &std::io::Error) -> Exit {
    warnings::failure(&format!("signals cannot be watched: {error}"), Some("look at the limits: ulimit -a"));
    Exit::Failed
}

/// From now on a signal cancels.
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

/// The same where everything is discarded anyway.
pub(crate) fn stop_discarding_on_signals(cancel: &Cancel, progress: &Progress) -> Result<(), Exit> {
    let words = ["stopping: no further transfer is taken", "stopping: please wait"];
    watch(cancel.clone(), progress.clone(), words).map_err(|error| unwatchable(&error))
}

/// The same where nothing was moved that matters.
pub(crate) fn give_up_on_signals(cancel: &Cancel, progress: &Progress) -> Result<(), Exit> {
    let words = ["stopping: the comparison is given up", "stopping: please wait"];
    watch(cancel.clone(), progress.clone(), words).map_err(|error| unwatchable(&error))
}

/// The same where what was measured so far is shown.
pub(crate) fn sum_up_on_signals(cancel: &Cancel, progress: &Progress) -> Result<(), Exit> {
    let words = ["stopping: what was measured so far is shown", "stopping: please wait"];
    watch(cancel.clone(), progress.clone(), words).map_err(|error| unwatchable(&error))
}

fn watch(cancel: Cancel, progress: Progress, words: [&'static str; 2]) -> std::io::Result<()> {
    let mut signals = watched()?;
    let answer = move || {
        for (idx, _) in signals.forever().enumerate() {
            cancel.cancel();
            progress.say(words[idx.min(1)]);
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(answer).map(drop)
}

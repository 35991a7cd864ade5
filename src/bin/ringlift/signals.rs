//! SIGINT and SIGTERM: they ask for roll-back and never cut it short.

use ringlift::Cancel;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::Exit;
use crate::progress::Progress;
use crate::warnings;

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

/// From now on a signal cancels. Before, it ends the process: no device has been touched yet.
pub(crate) fn cancel_on_signals(cancel: &Cancel, progress: &Progress) -> Result<(), Exit> {
    watch(cancel.clone(), progress.clone()).map_err(|error| unwatchable(&error))
}

fn watch(cancel: Cancel, progress: Progress) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let answer = move || {
        for (idx, _) in signals.forever().enumerate() {
            cancel.cancel();
            progress.say(match idx {
                0 => "cancelling: the devices go back to where they were",
                _ => "roll-back is under way and is not cut short: please wait",
            });
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(answer).map(drop)
}

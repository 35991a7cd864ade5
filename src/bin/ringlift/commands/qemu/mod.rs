//! `ringlift qemu`: QEMU's own migration stream.

mod capture;
mod extract;
mod inspect;
mod replay;
mod tables;

use crate::args::Qemu;
use crate::exit::Exit;

/// Runs the given subcommand.
pub(crate) fn run(qemu: &Qemu) -> Exit {
    match qemu {
        Qemu::Capture(capture) => capture::run(capture),
        Qemu::Replay(replay) => replay::run(replay),
        Qemu::Inspect(inspect) => inspect::run(inspect),
        Qemu::Extract(extract) => extract::run(extract),
    }
}

//! The `ringlift` command: translates the command line into calls of the library, and its results into output for the
//! user.
//!
//! Results go to stdout, messages and progress to stderr. It uses only the library's public API.

mod args;
mod commands;
mod ends;
mod exit;
mod files;
mod peer;
mod show;
mod signals;

use std::process::ExitCode;

use args::Command;
use commands::{demo, devices, qemu, recv, send};

fn main() -> ExitCode {
    signals::survive_large_files();
    signals::end_early();
    let exit = match args::typed() {
        Command::Demo(demo) => demo::run(&demo),
        Command::Recv(recv) => recv::run(&recv),
        Command::Send(send) => send::run(&send),
        Command::Devices => devices::run(),
        Command::Qemu(qemu) => qemu::run(&qemu),
    };
    exit.into()
}

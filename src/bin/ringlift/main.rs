//! The `ringlift` command: what was typed, said to the library; what the library answers, said to the user.
//!
//! Results go to stdout, words and progress to stderr. It uses the library's public API and nothing else of it.

mod args;
mod commands;
mod ends;
mod exit;
mod peer;
mod show;
mod signals;

use std::process::ExitCode;

use args::Command;
use commands::{demo, devices, qemu, recv, send};

fn main() -> ExitCode {
    let exit = match args::typed() {
        Command::Demo(demo) => demo::run(&demo),
        Command::Recv(recv) => recv::run(&recv),
        Command::Send(send) => send::run(&send),
        Command::Devices => devices::run(),
        Command::Qemu(qemu) => qemu::run(&qemu),
    };
    exit.into()
}

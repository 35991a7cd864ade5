//! The `ringlift` command: translates the command line into calls of the library, and its results into output for the
//! user.
//!
//! Results go to stdout, messages and progress to stderr. It uses only the library's public API.

mod args;
mod commands;
mod condition;
mod documents;
mod ends;
mod exit;
mod files;
mod live;
mod metric;
mod metrics;
mod page;
mod peak;
mod peer;
mod random;
mod show;
mod signals;
mod stream;

use std::hint::black_box;
use std::io::Write;
use std::process::ExitCode;

use args::Command;
use commands::{bench, compare, demo, devices, qemu, recv, report, send, tune};
use exit::Exit;

/// Memory for what the command does before a transfer begins, which checks its own needs: an allocation that fails would
/// end the process by a signal.
const MEMORY_TO_START: usize = 4 << 20;

fn main() -> ExitCode {
    if !has_memory_to_start() {
        // nothing that allocates
        let _ = std::io::stderr().write_all(TOO_LITTLE_MEMORY);
        return Exit::Failed.into();
    }
    signals::survive_large_files();
    signals::end_early();
    let exit = match args::typed() {
        Command::Bench(bench) => bench::run(&bench),
        Command::Compare(compare) => compare::run(&compare),
        Command::Demo(demo) => demo::run(&demo),
        Command::Recv(recv) => recv::run(&recv),
        Command::Report(report) => report::run(&report),
        Command::Send(send) => send::run(&send),
        Command::Tune(tune) => tune::run(&tune),
        Command::Devices(devices) => devices::run(&devices),
        Command::Qemu(qemu) => qemu::run(&qemu),
    };
    exit.into()
}

const TOO_LITTLE_MEMORY: &[u8] = b"error: this process may use too little memory to start\n\
hint: raise the limit of its address space (ulimit -v)\n";

fn has_memory_to_start() -> bool {
    let mut memory: Vec<u8> = Vec::new();
    // an allocation that nothing uses may be left out
    black_box(&mut memory).try_reserve_exact(MEMORY_TO_START).is_ok()
}

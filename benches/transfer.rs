//! Whole transfers between two processes over loopback: ringlift and what it is compared with, in the same run.
//!
//! - *transport*: no device is read, what arrives is discarded;
//! - *device to device*: memfds, populated beforehand, are read as streams and written in order.
//!
//! All contestants move the same bytes in packets of the same size over as many sockets with the same congestion
//! control. A round runs every contestant once and the next round begins with another one, so that other load on the
//! machine falls on all of them. The time runs from "both sides are connected and ready" to "the receiver has written
//! everything". The first transfer of each contestant is not counted; its result is compared with the source byte by
//! byte.
//!
//! The figures are medians, with the slowest and the fastest run. Loopback is not a network: it copies where a network
//! card would not, and both sides share the processors. See `docs/BENCHMARKING.md`.
//!
//! `cargo bench --bench transfer -- --help` lists the options. Without `--bench` (as `cargo test` runs it) it is
//! `--quick`.

#![expect(clippy::print_stdout, reason = "a bench prints its table")]
#![expect(clippy::print_stderr, reason = "a bench prints what went wrong")]
#![expect(clippy::disallowed_methods, reason = "a bench measures time")]

mod baseline;
mod harness;

use std::process::ExitCode;

use harness::plan::Plan;
use harness::{child, table};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ended = match arguments.first().map(String::as_str) {
        Some("--child") => child::run(&arguments[1..]).map_err(|error| error.to_string()),
        _ if arguments.iter().any(|argument| argument == "--list") => {
            list(&arguments);
            Ok(())
        }
        _ if arguments.iter().any(|argument| argument == "--bench") => {
            Plan::typed(&arguments).and_then(|plan| measure(&plan))
        }
        _ => measure(&Plan::quick()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// Answers a test runner that lists tests: this program is one test.
fn list(arguments: &[String]) {
    if !arguments.iter().any(|argument| argument == "--ignored") {
        println!("every_contestant_moves_every_byte: test");
    }
}

fn measure(plan: &Plan) -> Result<(), String> {
    print!("{}", table::HEAD);
    let outcomes =
        plan.run(|outcome| print!("{}", table::rows(outcome))).map_err(|error| error.to_string())?;
    println!("\n* the faster shape of the threads: the baseline. {} runs, {}.", plan.runs, plan.congestion);
    match &plan.json {
        Some(path) => table::json(plan, &outcomes)
            .map_err(std::io::Error::from)
            .and_then(|samples| std::fs::write(path, samples))
            .map_err(|error| format!("{}: {error}", path.display())),
        None => Ok(()),
    }
}

//! A host that leaves SIGPIPE and SIGXFSZ as they are, as a C program does: a write that fails is an error, and not the
//! end of the process. Rust programs ignore SIGPIPE, so each case runs in a process of its own that does not.

#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::pipe;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::outcome::assert_aborted;
use common::{listen, pair, run};
use nix::libc::{SIGPIPE, SIGXFSZ};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use ringlift::Finished;
use ringlift::sink::{FdSink, FileSink, Sink};
use ringlift::source::Null;

const LIMIT: u64 = 1 << 20;

/// Runs a test of this program again, in a process that the kernel may kill.
fn in_a_process(test: &str, folder: &Path) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("RINGLIFT_TEST_FOLDER", folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.status.signal()), (Some(0), None), "{said}");
}

/// The folder, in such a process; its signals are those of a C program.
fn folder() -> Option<std::path::PathBuf> {
    let folder = std::env::var_os("RINGLIFT_TEST_FOLDER")?;
    for signal in [SIGPIPE, SIGXFSZ] {
        signal_hook::flag::register_conditional_default(signal, Arc::new(AtomicBool::new(true))).unwrap();
    }
    Some(folder.into())
}

fn received(sink: impl Sink + 'static) -> Finished {
    let listener = listen();
    let (sender, receiver) = pair(&listener, Null::new(4 * LIMIT), sink);
    let (sent, received) = run(sender, receiver);
    assert_aborted(&sent);
    received
}

#[test]
fn a_pipe_without_a_reader_is_an_error_where_sigpipe_would_kill() {
    match folder() {
        None => in_a_process(
            "a_pipe_without_a_reader_is_an_error_where_sigpipe_would_kill",
            tempfile::tempdir().unwrap().path(),
        ),
        Some(_) => {
            let (reader, writer) = pipe().unwrap();
            drop(reader);
            let error = received(FdSink::new(writer.into())).error.unwrap();
            assert!(error.to_string().contains("EPIPE"), "{error}");
        }
    }
}

#[test]
fn a_file_beyond_the_limit_is_an_error_where_sigxfsz_would_kill() {
    let folder = match folder() {
        None => {
            let folder = tempfile::tempdir().unwrap();
            return in_a_process(
                "a_file_beyond_the_limit_is_an_error_where_sigxfsz_would_kill",
                folder.path(),
            );
        }
        Some(folder) => folder,
    };
    setrlimit(Resource::RLIMIT_FSIZE, LIMIT, LIMIT).unwrap();
    let error = received(FileSink::create(folder.join("state")).unwrap()).error.unwrap();
    assert!(error.to_string().contains("EFBIG"), "{error}");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn the_callers_signals_are_afterwards_what_they_were() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let before = SigSet::thread_get_mask().unwrap();
    let listener = listen();
    let (sender, receiver) = pair(&listener, Null::new(4 * LIMIT), FdSink::new(writer.into()));
    let sender = std::thread::spawn(move || sender.build().unwrap().run());
    receiver.build().unwrap().run();
    assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    assert!(!before.contains(Signal::SIGPIPE));
    sender.join().unwrap();
}

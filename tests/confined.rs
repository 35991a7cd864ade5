//! Processes that may not make some system call, or that have too little memory: each ends with an error that names
//! what was denied, and none by a signal.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

use common::{POOL, listen, socket_pairs};
use nix::libc;
use ringlift::error::Error;
use ringlift::sink::{FileSink, Verify};
use ringlift::source::Synthetic;
use ringlift::{Finished, Listener, Outcome, Receiver, Sender};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

/// Runs `work` on a thread for which `calls` fail with `errno`. Threads and processes that it starts inherit that.
fn without<T: Send + 'static>(
    calls: &[libc::c_long],
    errno: i32,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let rules = calls.iter().map(|&call| (call, vec![])).collect();
    let denied = SeccompAction::Errno(errno.unsigned_abs());
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch).unwrap();
    let filter = BpfProgram::try_from(filter).unwrap();
    let confined = std::thread::spawn(move || {
        apply_filter(&filter).unwrap();
        work()
    });
    confined.join().expect("an error and no panic")
}

/// The command, which fails by itself.
fn fails(args: &[&str]) -> String {
    let output = Command::new("timeout")
        .args(["--kill-after=1", "20"])
        .arg(assert_cmd::cargo::cargo_bin!("ringlift"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    failed(args, &output)
}

#[test]
fn a_receiver_with_too_little_memory_ends_with_an_error() {
    // A histogram that could not be allocated aborted the process, where the limit left no room beside its heaps.
    let mut ends = Vec::new();
    for kib in (16_000..40_000).step_by(4_000).chain((136_000..176_000).step_by(2_000)) {
        let script = format!("ulimit -v {kib}; exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(assert_cmd::cargo::cargo_bin!("ringlift")).args(RECV);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut words = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        words.read_line(&mut line).unwrap();
        if let Some(addr) = line.strip_prefix("listening on ") {
            let sent = sends(Sender::builder().connect(addr.trim().parse().unwrap()));
            assert_ne!(sent.outcome, Outcome::InDoubt);
        }
        words.read_to_string(&mut line).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), None, "{kib} KiB: {line}");
        match status.code().unwrap() {
            // the shell's word for a program that the kernel cannot even load
            127 if line.contains("shared libraries") || line.contains("Cannot allocate memory") => {}
            code => ends.push(code),
        }
    }
    assert!(ends.contains(&0) && ends.contains(&1), "{ends:?}");
    assert!(ends.iter().all(|status| matches!(status, 0 | 1)), "{ends:?}");
}

fn failed(args: &[&str], output: &Output) -> String {
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.signal(), None, "{args:?} {words}");
    assert_eq!(output.status.code(), Some(1), "{args:?} {words}");
    words
}

/// A receiver's command line.
const RECV: [&str; 5] = ["recv", "--once", "--listen", "127.0.0.1:0", "--device=net0=discard"];

#[test]
fn the_command_ends_with_an_error_where_io_uring_may_not_be_entered() {
    // tokio-uring panicked in a destructor, which aborted the process, on both sides.
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listening.local_addr().unwrap().to_string();
    for (errno, name) in [(libc::EPERM, "EPERM"), (libc::ENOSYS, "ENOSYS")] {
        for args in [vec!["send", "--to", &to, "--device=net0=null:1MiB"], RECV.to_vec()] {
            let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
            let words = without(&[libc::SYS_io_uring_enter], errno, move || {
                fails(&args.iter().map(String::as_str).collect::<Vec<_>>())
            });
            assert!(words.contains(&format!("error: io_uring_enter failed: {name}")), "{words}");
            assert!(words.contains("hint: "), "{words}");
        }
    }
}

fn sends(sender: ringlift::SenderBuilder) -> Finished {
    sender.device("net0", Synthetic::new(1 << 20)).pool_size(POOL).build().unwrap().run()
}

fn receives(receiver: ringlift::ReceiverBuilder) -> Finished {
    receiver.device("net0", Verify::new()).build().unwrap().run()
}

#[test]
fn the_library_returns_an_error_where_io_uring_may_not_be_entered() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let listener = listen();
        let addr = listener.local_addr();
        let calls = [libc::SYS_io_uring_enter];
        let bound = without(&calls, errno, || Listener::bind(([127, 0, 0, 1], 0).into()));
        let connected = without(&calls, errno, move || sends(Sender::builder().connect(addr)));
        let (mut near, mut far) = socket_pairs(2);
        let over_sockets = without(&calls, errno, move || {
            let other = std::thread::spawn(move || receives(Receiver::builder().sockets(far.remove(0), far)));
            [sends(Sender::builder().sockets(near.remove(0), near)), other.join().unwrap()]
        });
        let errors = [bound.err(), connected.error].into_iter().chain(over_sockets.map(|over| over.error));
        for error in errors {
            let Some(Error::Kernel(error)) = error else { panic!("{error:?}") };
            assert_eq!(error.operation.to_string(), "io_uring_enter");
            assert_eq!(error.errno.raw(), errno);
        }
    }
}

#[test]
fn calls_that_are_denied_at_the_end_change_no_outcome() {
    // both panicked out of `run`, and the outcome was lost
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::create(folder.path().join("state")).unwrap();
    let (mut near, mut far) = socket_pairs(2);
    let receiver = Receiver::builder().sockets(far.remove(0), far).device("net0", sink).build().unwrap();
    let calls = [libc::SYS_signalfd4, libc::SYS_rt_sigtimedwait, libc::SYS_flock];
    let [sent, received] = without(&calls, libc::EPERM, move || {
        let other = std::thread::spawn(move || receiver.run());
        [sends(Sender::builder().sockets(near.remove(0), near)), other.join().unwrap()]
    });
    assert_eq!(
        (sent.outcome, received.outcome),
        (Outcome::Complete, Outcome::Complete),
        "{:?}",
        received.error
    );
}

#[test]
fn an_error_names_the_call_that_was_denied() {
    // "io_uring is disabled" for epoll_create1 and eventfd, "setsockopt" for getsockopt, "keep a thread" for epoll_wait
    let eventfd = [libc::SYS_eventfd2];
    #[cfg(target_arch = "x86_64")]
    let epoll_wait = [libc::SYS_epoll_wait, libc::SYS_epoll_pwait];
    #[cfg(not(target_arch = "x86_64"))]
    let epoll_wait = [libc::SYS_epoll_pwait];
    let denied: [(&str, &[libc::c_long]); 8] = [
        ("io_uring_setup", &[libc::SYS_io_uring_setup]),
        ("io_uring_enter", &[libc::SYS_io_uring_enter]),
        ("epoll_create1", &[libc::SYS_epoll_create1]),
        ("epoll_ctl", &[libc::SYS_epoll_ctl]),
        ("epoll_wait", &epoll_wait),
        ("eventfd", &eventfd),
        ("listen", &[libc::SYS_bind]),
        ("getsockname", &[libc::SYS_getsockname]),
    ];
    for (name, calls) in denied {
        let words = without(calls, libc::EPERM, || fails(&RECV));
        assert!(words.contains(&format!("error: {name} failed: EPERM")), "{name}: {words}");
    }
    let listener = listen();
    let addr = listener.local_addr();
    let getsockopt = [libc::SYS_getsockopt];
    let sent = without(&getsockopt, libc::EPERM, move || sends(Sender::builder().connect(addr)));
    assert_eq!(sent.error.unwrap().to_string(), "getsockopt failed: EPERM (Operation not permitted)");
}

#[test]
fn sockets_that_are_handed_over_need_neither_epoll_nor_a_listening_socket() {
    #[cfg(target_arch = "x86_64")]
    let epoll = [libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_wait, libc::SYS_epoll_pwait];
    #[cfg(not(target_arch = "x86_64"))]
    let epoll = [libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait];
    let others = [libc::SYS_socket, libc::SYS_bind, libc::SYS_listen, libc::SYS_accept4, libc::SYS_connect];
    let denied: Vec<libc::c_long> = epoll.into_iter().chain(others).collect();
    let (mut near, mut far) = socket_pairs(3);
    let (sent, received) = without(&denied, libc::EPERM, move || {
        let other = std::thread::spawn(move || receives(Receiver::builder().sockets(far.remove(0), far)));
        (sends(Sender::builder().sockets(near.remove(0), near)), other.join().unwrap())
    });
    assert!(sent.error.is_none() && received.error.is_none(), "{:?} {:?}", sent.error, received.error);
    assert_eq!((sent.outcome, received.outcome), (Outcome::Complete, Outcome::Complete));
}

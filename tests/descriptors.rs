//! No descriptor that a transfer makes or is given is inherited by a child process: a program that the embedder starts
//! meanwhile would keep a device or a connection open that every other process has closed.
//!
//! One test only: it checks every descriptor of the process, and other tests would create some of their own.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use common::outcome::assert_complete;
use common::{POOL, content, listen, run};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use ringlift::sink::{FdSink, FileSink};
use ringlift::source::FileSource;
use ringlift::{Receiver, ReceiverBuilder, Sender, SenderBuilder};

/// The numbers of the descriptors that are open.
fn descriptors() -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc/self/fd").expect("a process has descriptors");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The descriptors that a child process would inherit and that are not in `before`, each with the file it refers to.
fn inherited(before: &BTreeSet<u32>) -> Vec<String> {
    let describe = |number: &u32| {
        // one that was closed meanwhile has no flags
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?.trim();
        let flags = i32::from_str_radix(flags, 8).expect("flags are octal");
        let what = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
        (flags & nix::libc::O_CLOEXEC == 0).then(|| format!("{number}: {}", what.display()))
    };
    descriptors().difference(before).filter_map(describe).collect()
}

/// Connected TCP sockets that a child process would inherit.
fn careless_pair() -> (OwnedFd, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let (far, _) = listener.accept().expect("accepted");
    let careless = |socket: TcpStream| {
        let socket = OwnedFd::from(socket);
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::empty())).expect("a flag of our own");
        socket
    };
    (careless(near), careless(far))
}

/// Runs a transfer of two devices, and checks in the middle of it, when everything is open on both sides.
fn leaks(
    before: &BTreeSet<u32>,
    connect: impl FnOnce(SenderBuilder, ReceiverBuilder) -> (SenderBuilder, ReceiverBuilder),
) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    fs::write(path("from"), content(1_000_000)).expect("written");
    let source = || FileSource::open(path("from")).expect("there");
    let found = Arc::new(Mutex::new(Vec::new()));
    let sender = Sender::builder().device("file", source()).device("fd", source()).pool_size(POOL);
    let receiver = Receiver::builder()
        .device("file", FileSink::create(path("to")).expect("a folder"))
        .device("fd", FdSink::new(fs::File::create(path("given")).expect("a file").into()));
    let (sender, receiver) = connect(sender, receiver);
    let look = {
        let (before, found) = (before.clone(), Arc::clone(&found));
        move || {
            assert!(descriptors().len() > before.len() + 10, "everything is open by now");
            found.lock().expect("no thread panics while holding it").extend(inherited(&before));
            Ok::<_, std::convert::Infallible>(())
        }
    };
    let (sent, received) = run(sender.before_switchover(look), receiver);
    assert_complete(&sent, &received);
    let found = found.lock().expect("no thread panics while holding it");
    found.clone()
}

#[test]
fn nothing_that_a_transfer_opens_or_is_given_is_inherited_by_child_processes() {
    let before = descriptors();
    let careless = careless_pair();
    assert_eq!(inherited(&before).len(), 2, "inherited descriptors are detected");
    drop(careless);

    let listener = listen();
    let found = leaks(&before, |sender, receiver| {
        (sender.connect(listener.local_addr()), receiver.listener(&listener))
    });
    assert!(found.is_empty(), "connected and accepted by ringlift: {found:#?}");

    let (mut near, mut far): (Vec<_>, Vec<_>) = (0..3).map(|_| careless_pair()).unzip();
    let found = leaks(&before, |sender, receiver| {
        (sender.sockets(near.remove(0), near), receiver.sockets(far.remove(0), far))
    });
    assert!(found.is_empty(), "given by an embedder: {found:#?}");
}

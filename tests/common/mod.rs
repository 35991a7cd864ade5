//! Shared by the tests: transfers on their own threads that are waited for with a timeout, devices that keep a journal
//! of what was done to them, and (in `peer`) hand-written peers.

#![expect(dead_code, reason = "each test crate uses a different part of this")]

pub(crate) mod captures;
pub(crate) mod damage;
pub(crate) mod destination;
pub(crate) mod device;
#[cfg(feature = "cli")]
pub(crate) mod exposition;
pub(crate) mod handmade;
pub(crate) mod migration;
pub(crate) mod outcome;
pub(crate) mod peer;
#[cfg(feature = "cli")]
pub(crate) mod schema;
pub(crate) mod source;
pub(crate) mod victim;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use ringlift::sink::Sink;
use ringlift::source::Source;
use ringlift::{Finished, Listener, Receiver, ReceiverBuilder, Sender, SenderBuilder};

/// Longer than anything takes that ends at all: a silent peer is abandoned after 10 s.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A small pool: tests move little.
pub(crate) const POOL: u64 = 8 << 20;

/// Work on its own thread.
pub(crate) struct Running<T>(mpsc::Receiver<T>);

impl<T: Send + 'static> Running<T> {
    pub(crate) fn start(work: impl FnOnce() -> T + Send + 'static) -> Running<T> {
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            // the receiving end is gone when the test has failed
            let _ = tell.send(work());
        });
        Running(told)
    }

    /// Its result; a panic or a hang fails the test.
    pub(crate) fn finish(self) -> T {
        match self.0.recv_timeout(PATIENCE) {
            Ok(result) => result,
            Err(RecvTimeoutError::Disconnected) => unreachable!("the thread of a transfer panicked"),
            Err(RecvTimeoutError::Timeout) => unreachable!("a transfer did not end"),
        }
    }
}

pub(crate) fn send(builder: SenderBuilder) -> Running<Finished> {
    let sender = builder.build().expect("a valid sender");
    Running::start(move || sender.run())
}

pub(crate) fn receive(builder: ReceiverBuilder) -> Running<Finished> {
    let receiver = builder.build().expect("a valid receiver");
    Running::start(move || receiver.run())
}

pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(crate) fn listen() -> Listener {
    Listener::bind(loopback()).expect("loopback has a free port")
}

/// A sender of one device `net0` to `listener`, and the receiver for it.
pub(crate) fn pair(
    listener: &Listener,
    source: impl Source + 'static,
    sink: impl Sink + 'static,
) -> (SenderBuilder, ReceiverBuilder) {
    let sender = Sender::builder().device("net0", source).connect(listener.local_addr()).pool_size(POOL);
    (sender, Receiver::builder().device("net0", sink).listener(listener))
}

/// Runs both and returns the results of the sender and the receiver.
pub(crate) fn run(sender: SenderBuilder, receiver: ReceiverBuilder) -> (Finished, Finished) {
    let receiving = receive(receiver);
    let sending = send(sender);
    (sending.finish(), receiving.finish())
}

/// `count` pairs of connected sockets, the first ends and the second.
pub(crate) fn socket_pairs(count: usize) -> (Vec<OwnedFd>, Vec<OwnedFd>) {
    let pair = |_| {
        let (one, other) = UnixStream::pair().expect("a pair of sockets");
        (OwnedFd::from(one), OwnedFd::from(other))
    };
    (0..count).map(pair).unzip()
}

/// Bytes that are the same each time and do not repeat within a packet.
pub(crate) fn content(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()
    });
    words.flatten().take(len).collect()
}

//! Socket pairs, with short time limits.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use super::*;

fn hasty() -> Host {
    Host {
        clock: [7; 16],
        hello_timeout: Duration::from_millis(200),
        #[cfg(feature = "listener")]
        gather_timeout: Duration::ZERO,
        #[cfg(feature = "listener")]
        agreement_max: Duration::ZERO,
    }
}

fn never() -> bool {
    false
}

fn is_refusal(error: &Error, expected: &Refusal) -> bool {
    matches!(error, Error::Refused { by: Side::Receiver, reason } if reason == expected)
}

fn assert_joined(one: &impl AsFd, other: &impl AsFd, byte: u8) {
    let clone = |end: BorrowedFd<'_>| File::from(end.try_clone_to_owned().unwrap());
    clone(one.as_fd()).write_all(&[byte]).unwrap();
    let mut got = [0];
    clone(other.as_fd()).read_exact(&mut got).unwrap();
    assert_eq!(got, [byte]);
}

fn socket_pairs(count: usize) -> (Vec<OwnedFd>, Vec<OwnedFd>) {
    (0..count).map(|_| UnixStream::pair().unwrap()).map(|(one, other)| (one.into(), other.into())).unzip()
}

#[test]
fn sockets_of_an_embedder_are_greeted_and_welcomed_in_any_order() {
    let (mut here, mut there) = socket_pairs(4);
    let (control_here, control_there) = (here.remove(0), there.remove(0));
    there.reverse();
    let sender = thread::spawn(move || greet_as(hasty(), control_here, here, &never).unwrap());
    let host = Host { clock: [8; 16], ..hasty() };
    let received = welcome_as(host, control_there, there, &never).unwrap();
    let sent = sender.join().unwrap();
    assert_eq!((sent.session, sent.peer(), received.peer()), (received.session, None, None));
    assert!(!sent.same_clock && !received.same_clock, "their hosts differ");
    assert_eq!(sent.congestion(), None);
    assert_joined(&sent.control, &received.control, 9);
    for (one, other) in sent.data.iter().zip(&received.data) {
        assert_joined(one, other, 3);
    }
}

#[test]
fn sockets_of_an_embedder_that_do_not_match_in_number_are_refused() {
    let (mut here, mut there) = socket_pairs(3);
    let (control_here, control_there) = (here.remove(0), there.remove(0));
    there.pop();
    let sender = thread::spawn(move || greet_as(hasty(), control_here, here, &never).unwrap_err());
    assert!(is_refusal(&welcome_as(hasty(), control_there, there, &never).unwrap_err(), &Refusal::Channel));
    assert!(is_refusal(&sender.join().unwrap(), &Refusal::Channel));
}

#[test]
fn welcoming_silent_sockets_ends_in_time() {
    let (_here, mut there) = socket_pairs(2);
    let control_there = there.remove(0);
    let error = welcome_as(hasty(), control_there, there, &never).unwrap_err();
    assert_eq!(error.to_string(), "no answer to the hello on the control connection within 5 s");
}

#[test]
fn a_session_without_data_sockets_is_misuse() {
    let (mut here, _there) = socket_pairs(1);
    let error = greet_as(hasty(), here.remove(0), here, &never).unwrap_err();
    assert!(matches!(error, Error::Misuse(Misuse::BadChannels { given: 0 })));
}

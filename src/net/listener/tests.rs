//! Real sockets on loopback, with short time limits.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::*;
use crate::error::{PeerError, Refusal, Side};
use crate::net::hello::welcome_of;
use crate::phase::Phase;
use crate::wire::{CONTROL_HEADER_LEN, Control, ControlHeader, HELLO_LEN, Malformed, WELCOME_LEN, Welcome};

const SESSION: SessionId = SessionId([1; 16]);
const OTHER_SESSION: SessionId = SessionId([2; 16]);
const CLOCK: [u8; 16] = [7; 16];

fn hasty() -> Host {
    Host {
        clock: CLOCK,
        hello_timeout: Duration::from_millis(200),
        gather_timeout: Duration::from_millis(400),
        agreement_max: Duration::from_millis(800),
    }
}

fn patient() -> Host {
    Host { gather_timeout: Duration::from_secs(60), agreement_max: Duration::from_secs(60), ..hasty() }
}

fn listen(host: Host) -> Listener {
    Listener::bind_as("127.0.0.1:0".parse().unwrap(), host).unwrap()
}

fn never() -> bool {
    false
}

/// The next session, and the errors of the connections that were rejected before it.
fn next(listener: &Listener) -> (Connections, Vec<Error>) {
    let rejected = RefCell::new(Vec::new());
    let found = listener.next(&gives_up_after(100), &mut |_, error| rejected.borrow_mut().push(error));
    (found.unwrap(), rejected.into_inner())
}

/// Waits until `count` connections were rejected.
fn rejected(listener: &Listener, count: usize) -> Vec<Error> {
    let rejected = RefCell::new(Vec::new());
    let patience = gives_up_after(100);
    let enough = || rejected.borrow().len() >= count || patience();
    let ended = listener.next(&enough, &mut |_, error| rejected.borrow_mut().push(error));
    assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
    rejected.into_inner()
}

/// A test that waits in vain must fail, not hang: each look comes up to 50 ms later.
fn gives_up_after(looks: u32) -> impl Fn() -> bool {
    let left = Cell::new(looks);
    move || {
        left.set(left.get().saturating_sub(1));
        left.get() == 0
    }
}

fn control(channels: u16) -> Hello {
    Hello { session: SESSION, role: Role::Control { channels }, boot_id: CLOCK }
}

fn data(channel: u16) -> Hello {
    Hello { session: SESSION, role: Role::Data { channel }, boot_id: CLOCK }
}

fn bytes_of(hello: Hello) -> [u8; HELLO_LEN] {
    let mut bytes = [0; HELLO_LEN];
    hello.encode(&mut bytes);
    bytes
}

/// Sends `bytes` on a new connection.
fn send(listener: &Listener, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(listener.local_addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

fn receive(stream: &mut impl Read) -> Welcome {
    let mut bytes = [0; WELCOME_LEN];
    stream.read_exact(&mut bytes).unwrap();
    Welcome::decode(&bytes).unwrap()
}

fn send_hello(listener: &Listener, hello: Hello) -> (TcpStream, Welcome) {
    let mut stream = send(listener, &bytes_of(hello));
    let welcome = receive(&mut stream);
    assert_eq!(welcome.session, hello.session);
    (stream, welcome)
}

fn said_welcome(listener: &Listener, hello: Hello) -> TcpStream {
    let (stream, welcome) = send_hello(listener, hello);
    assert_eq!(welcome.refusal, 0);
    stream
}

fn said_no(listener: &Listener, hello: Hello, reason: Refusal) {
    let (mut stream, welcome) = send_hello(listener, hello);
    assert_eq!(Refusal::from_wire(welcome.refusal, ""), reason);
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "it is closed");
}

fn is_refusal(error: &Error, expected: &Refusal) -> bool {
    matches!(error, Error::Refused { by: Side::Receiver, reason } if reason == expected)
}

fn peer_error(error: &Error) -> &PeerError {
    match error {
        Error::Peer(error) => error,
        other => panic!("{other:?}"),
    }
}

/// The first message on a control connection.
fn opening() -> Vec<u8> {
    let mut bytes = vec![0; limits::CONTROL_BUFFER_SIZE];
    let len = Control::Cancel.encode(&mut bytes);
    bytes.truncate(len);
    bytes
}

fn open(control: &impl AsFd) {
    let mut control = File::from(control.as_fd().try_clone_to_owned().unwrap());
    control.write_all(&opening()).unwrap();
}

/// A whole session from a good sender.
fn gathers(listener: &Listener) -> (Vec<TcpStream>, Connections, Vec<Error>) {
    let sent = vec![said_welcome(listener, control(1)), said_welcome(listener, data(0))];
    open(&sent[0]);
    let (connections, rejected) = next(listener);
    (sent, connections, rejected)
}

fn assert_joined(one: &impl AsFd, other: &impl AsFd, byte: u8) {
    let clone = |end: BorrowedFd<'_>| File::from(end.try_clone_to_owned().unwrap());
    clone(one.as_fd()).write_all(&[byte]).unwrap();
    let mut got = [0];
    clone(other.as_fd()).read_exact(&mut got).unwrap();
    assert_eq!(got, [byte]);
}

#[test]
fn data_connections_that_come_in_any_order_are_put_in_order() {
    let listener = listen(hasty());
    let _control = said_welcome(&listener, control(4));
    let streams: Vec<_> =
        [2, 0, 3, 1].map(|channel| (channel, said_welcome(&listener, data(channel)))).into();
    open(&_control);
    let (connections, rejected) = next(&listener);
    assert!(rejected.is_empty(), "{rejected:?}");
    assert_eq!(connections.session, SESSION);
    assert!(connections.same_clock);
    assert_eq!(connections.peer(), Some(_control.local_addr().unwrap()));
    for (channel, stream) in streams {
        let byte = u8::try_from(channel).unwrap();
        assert_joined(&stream, &connections.data[usize::from(channel)], byte);
    }
}

#[test]
fn connect_and_listen_meet() {
    let listener = listen(hasty());
    let addr = listener.local_addr();
    let sender = thread::spawn(move || {
        let sent = connect_as(hasty(), addr, 70, Some("reno"), &never).unwrap();
        open(&sent.control);
        sent
    });
    let (received, rejected) = next(&listener);
    let sent = sender.join().unwrap();
    assert!(rejected.is_empty(), "{rejected:?}");
    assert_eq!((sent.session, sent.data.len(), received.data.len()), (received.session, 70, 70));
    assert!(sent.same_clock && received.same_clock);
    assert_eq!(sent.peer(), Some(addr));
    assert_eq!(sent.congestion().unwrap().as_str(), "reno");
    assert_joined(&sent.control, &received.control, 1);
    for (one, other) in sent.data.iter().zip(&received.data) {
        assert_joined(other, one, 2);
    }
    let received = received.use_congestion(Some("reno")).unwrap();
    assert_eq!(received.congestion(), sent.congestion());
}

#[test]
fn sockets_that_are_handed_on_are_blocking_and_send_small_messages_at_once() {
    let listener = listen(hasty());
    let addr = listener.local_addr();
    let sender = thread::spawn(move || {
        let sent = connect_as(hasty(), addr, 2, None, &never).unwrap();
        open(&sent.control);
        sent
    });
    let received = next(&listener).0;
    let sent = sender.join().unwrap();
    for side in [&sent, &received] {
        for socket in side.data.iter().chain([&side.control]) {
            let flags = nix::fcntl::fcntl(socket, nix::fcntl::FcntlArg::F_GETFL).unwrap();
            assert_eq!(flags & nix::libc::O_NONBLOCK, 0);
            let flags = nix::fcntl::fcntl(socket, nix::fcntl::FcntlArg::F_GETFD).unwrap();
            assert_ne!(flags & nix::libc::FD_CLOEXEC, 0);
            let socket = SockRef::from(socket);
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        }
    }
}

#[test]
fn the_other_side_sees_the_end_as_soon_as_a_connection_is_dropped() {
    // Nothing may keep a second descriptor of a connection that was handed on.
    let listener = listen(patient());
    let (mut streams, connections, _) = gathers(&listener);
    drop(connections);
    for stream in &mut streams {
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    }
}

#[test]
fn garbage_is_closed_and_reported_and_the_listener_lives_on() {
    let listener = listen(hasty());
    let mut rejected = send(&listener, &[b'x'; HELLO_LEN]);
    assert_eq!(rejected.read(&mut [0; 1]).unwrap(), 0);
    let (_streams, _connections, rejected) = gathers(&listener);
    let what = Malformed::Magic { found: 0x7878_7878 };
    assert_eq!(rejected.len(), 1);
    assert_eq!(*peer_error(&rejected[0]), PeerError::Malformed { place: Place::New, what });
}

#[test]
fn a_hello_that_ends_early_is_reported() {
    let listener = listen(hasty());
    send(&listener, &bytes_of(control(1))[..20]).shutdown(Shutdown::Write).unwrap();
    assert_eq!(
        *peer_error(&rejected(&listener, 1)[0]),
        PeerError::Closed { place: Place::New, phase: Phase::Hello }
    );
}

#[test]
fn a_hello_that_takes_too_long_is_closed_and_reported() {
    let listener = listen(hasty());
    let mut slow = send(&listener, &bytes_of(control(1))[..63]);
    assert_eq!(slow.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(*peer_error(&rejected(&listener, 1)[0]), PeerError::HelloTimeout { place: Place::New });
}

#[test]
fn hellos_are_served_side_by_side() {
    let listener = listen(Host { hello_timeout: Duration::from_secs(60), ..hasty() });
    let _silent: Vec<_> = (0..limits::PENDING_HELLOS_MAX - 1).map(|_| send(&listener, &[])).collect();
    let (_streams, connections, _) = gathers(&listener);
    assert_eq!(connections.data.len(), 1);
}

#[test]
fn silent_strangers_delay_others_no_longer_than_a_hello_may_take() {
    let listener = listen(patient());
    let _silent: Vec<_> = (0..limits::PENDING_HELLOS_MAX).map(|_| send(&listener, &[])).collect();
    let (_streams, connections, _) = gathers(&listener);
    assert_eq!(connections.data.len(), 1);
}

#[test]
fn while_one_session_gathers_another_begins_and_overtakes_it() {
    let listener = listen(patient());
    let idle = said_welcome(&listener, Hello { session: OTHER_SESSION, ..control(255) });
    said_no(&listener, Hello { session: OTHER_SESSION, ..control(1) }, Refusal::Busy);
    let (_streams, connections, rejected) = gathers(&listener);
    assert_eq!((connections.session, rejected.len()), (SESSION, 1));
    drop(idle);
}

#[test]
fn while_one_session_runs_another_is_told_busy_and_afterwards_it_is_welcome() {
    let listener = listen(hasty());
    let (_streams, connections, _) = gathers(&listener);
    connections.busy.as_ref().unwrap().agreed();
    said_no(&listener, Hello { session: OTHER_SESSION, ..control(1) }, Refusal::Busy);
    said_no(&listener, data(0), Refusal::Busy);
    drop(connections);
    let (_streams, _connections, rejected) = gathers(&listener);
    assert_eq!(rejected.len(), 2);
}

#[test]
fn a_session_that_gathered_when_another_one_began_to_run_is_told_busy() {
    let listener = listen(patient());
    let mut late = said_welcome(&listener, Hello { session: OTHER_SESSION, ..control(1) });
    let (_streams, connections, _) = gathers(&listener);
    connections.busy.as_ref().unwrap().agreed();
    let mut told = Vec::new();
    late.read_to_end(&mut told).unwrap();
    let header = ControlHeader::decode(told.first_chunk().unwrap()).unwrap();
    let message = Control::decode(&header, &told[CONTROL_HEADER_LEN..]).unwrap();
    assert!(
        matches!(message, Control::Refuse { code, .. } if code == Refusal::Busy.to_wire().0),
        "{message:?}"
    );
}

#[test]
fn a_sender_that_still_connects_when_another_session_is_accepted_is_told_busy_on_every_connection() {
    // Its next data connection was told that its session is unknown.
    let listener = listen(patient());
    let _late = said_welcome(&listener, Hello { session: OTHER_SESSION, ..control(2) });
    let _first = said_welcome(&listener, Hello { session: OTHER_SESSION, ..data(0) });
    let (_streams, connections, _) = gathers(&listener);
    connections.busy.as_ref().unwrap().agreed();
    said_no(&listener, Hello { session: OTHER_SESSION, ..data(1) }, Refusal::Busy);
}

#[test]
fn a_session_that_sends_heartbeats_but_no_settings_is_given_up_in_time() {
    let listener = listen(hasty());
    let mut streams = [said_welcome(&listener, control(1)), said_welcome(&listener, data(0))];
    let mut beat = [0; CONTROL_HEADER_LEN];
    Control::Heartbeat.encode(&mut beat);
    streams[1].set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    for _ in 0..7 {
        streams[0].write_all(&beat).unwrap();
        assert!(streams[1].read(&mut [0; 1]).is_err(), "it is still open");
    }
    assert_eq!(*peer_error(&rejected(&listener, 1)[0]), PeerError::AgreementTimeout);
    assert_eq!(streams[1].read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_session_is_taken_with_the_message_that_it_began_with() {
    let listener = listen(patient());
    let (_streams, connections, _) = gathers(&listener);
    assert_eq!(connections.opening, opening());
}

#[test]
fn a_sender_hears_heartbeats_while_its_settings_are_awaited() {
    let listener = listen(patient());
    let mut streams = [said_welcome(&listener, control(1)), said_welcome(&listener, data(0))];
    let mut head = [0; CONTROL_HEADER_LEN];
    streams[0].read_exact(&mut head).unwrap();
    let header = ControlHeader::decode(&head).unwrap();
    assert_eq!(Control::decode(&header, &[]).unwrap(), Control::Heartbeat);
}

#[test]
fn of_many_silent_connections_the_oldest_is_closed_for_a_newer_one() {
    let listener = listen(Host { hello_timeout: Duration::from_secs(60), ..patient() });
    let mut silent: Vec<_> = (0..2 * limits::PENDING_HELLOS_MAX).map(|_| send(&listener, &[])).collect();
    let (_streams, _connections, rejected) = gathers(&listener);
    assert!(rejected.iter().all(|error| *peer_error(error) == PeerError::Displaced { place: Place::New }));
    assert_eq!(silent[0].read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_newcomer_costs_one_silent_connection_its_place_however_many_have_had_their_time() {
    // All of them were closed for it, and with them a sender whose hello was about to be read.
    let listener = listen(Host { hello_timeout: Duration::from_secs(60), ..patient() });
    let silent: Vec<_> = (0..limits::PENDING_HELLOS_MAX).map(|_| send(&listener, &[])).collect();
    silent[0].set_read_timeout(Some(2 * limits::HELLO_GRACE)).unwrap();
    assert!((&silent[0]).read(&mut [0; 1]).is_err(), "none is closed before there is a newcomer");
    let _control = said_welcome(&listener, control(1));
    let is_open = |stream: &&TcpStream| {
        stream.set_nonblocking(true).unwrap();
        stream.peek(&mut [0; 1]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    assert_eq!(silent.iter().filter(is_open).count(), silent.len() - 1);
}

#[test]
fn the_running_session_outlives_its_listener() {
    let listener = listen(hasty());
    let (streams, connections, _) = gathers(&listener);
    drop(listener);
    assert_joined(&streams.into_iter().next().unwrap(), &connections.control, 1);
}

#[test]
fn a_data_connection_of_another_session_is_told_so() {
    let listener = listen(patient());
    said_no(&listener, data(0), Refusal::UnknownSession);
    let _control = said_welcome(&listener, control(1));
    said_no(&listener, Hello { session: OTHER_SESSION, ..data(0) }, Refusal::UnknownSession);
    let _data = said_welcome(&listener, data(0));
    open(&_control);
    assert_eq!(next(&listener).1.len(), 2);
}

#[test]
fn a_channel_that_is_taken_or_out_of_range_is_refused_and_the_session_goes_on() {
    let listener = listen(patient());
    let _control = said_welcome(&listener, control(2));
    let _first = said_welcome(&listener, data(1));
    said_no(&listener, data(1), Refusal::Channel);
    said_no(&listener, data(2), Refusal::Channel);
    let _second = said_welcome(&listener, data(0));
    open(&_control);
    let (connections, rejected) = next(&listener);
    assert_eq!((connections.data.len(), rejected.len()), (2, 2));
    assert!(rejected.iter().all(|rejected| is_refusal(rejected, &Refusal::Channel)));
}

#[test]
fn another_version_is_answered() {
    let listener = listen(hasty());
    let mut bytes = bytes_of(control(1));
    bytes[9] = 2;
    let mut stream = send(&listener, &bytes);
    let welcome = receive(&mut stream);
    assert_eq!((welcome.session, welcome.refusal), (SESSION, Refusal::Version.to_wire().0));
    drop(stream);
    assert!(is_refusal(&rejected(&listener, 1)[0], &Refusal::Version));
}

#[test]
fn a_rejected_connection_that_keeps_sending_still_gets_the_answer() {
    // Closing with unread bytes would reset the connection, and the answer could be lost with it.
    let listener = listen(hasty());
    let mut bytes = bytes_of(data(0)).to_vec();
    bytes.extend([0; 5000]);
    let mut stream = send(&listener, &bytes);
    assert_eq!(receive(&mut stream).refusal, Refusal::UnknownSession.to_wire().0);
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_session_that_does_not_become_complete_is_dropped_in_time() {
    let listener = listen(hasty());
    let mut control_stream = said_welcome(&listener, control(3));
    let _data = said_welcome(&listener, data(1));
    let expired = rejected(&listener, 1);
    assert_eq!(*peer_error(&expired[0]), PeerError::GatherTimeout { came: 1, channels: 3 });
    assert_eq!(control_stream.read(&mut [0; 1]).unwrap(), 0);
    gathers(&listener);
}

#[test]
fn a_session_whose_control_connection_ends_is_dropped_at_once() {
    let listener = listen(patient());
    drop(said_welcome(&listener, control(3)));
    let gone = PeerError::Closed { place: Place::Control, phase: Phase::Gathering };
    assert_eq!(*peer_error(&rejected(&listener, 1)[0]), gone);
    gathers(&listener);
}

#[test]
fn a_complete_session_that_left_before_anybody_took_it_is_not_handed_out() {
    let listener = listen(patient());
    let mut control_stream = said_welcome(&listener, control(1));
    let _data = said_welcome(&listener, data(0));
    control_stream.write_all(&opening()).unwrap();
    drop(control_stream);
    // Its end has been noticed when its place is free again.
    while send_hello(&listener, control(1)).1.refusal != 0 {}
    let gone = PeerError::Closed { place: Place::Control, phase: Phase::Gathering };
    assert!(
        rejected(&listener, 1)
            .iter()
            .any(|rejected| matches!(rejected, Error::Peer(error) if *error == gone))
    );
}

#[test]
fn waiting_for_a_session_ends_with_a_cancel() {
    let listener = listen(hasty());
    let ended = listener.next(&|| true, &mut |_, error| panic!("{error}"));
    assert!(matches!(ended, Err(Error::Cancelled)));
    let ended = listener.next(&gives_up_after(3), &mut |_, error| panic!("{error}"));
    assert!(matches!(ended, Err(Error::Cancelled)));
}

#[test]
fn a_port_in_use_says_what_to_do() {
    let listener = listen(hasty());
    let error = Listener::bind(listener.local_addr()).unwrap_err();
    assert_eq!(error.hint(), Some("another program has this port: choose another one, or stop it"));
    assert!(matches!(error, Error::Kernel(error) if error.errno.raw() == nix::libc::EADDRINUSE));
}

#[test]
fn the_port_is_free_as_soon_as_the_last_clone_of_the_listener_is_dropped() {
    let listener = listen(hasty());
    let addr = listener.local_addr();
    let clone = listener.clone();
    let _halfway = send(&listener, b"half a hello");
    let _gathering = said_welcome(&listener, control(2));
    drop(listener);
    assert!(Listener::bind_as(addr, hasty()).is_err());
    drop(clone);
    Listener::bind_as(addr, hasty()).unwrap();
}

#[test]
fn a_refused_connection_asks_whether_anybody_listens() {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = connect_as(hasty(), addr, 1, None, &never).unwrap_err();
    assert_eq!(error.hint(), Some("check that a receiver is listening there"));
    assert!(matches!(error, Error::Kernel(error) if error.errno.raw() == nix::libc::ECONNREFUSED));
}

#[test]
fn a_listener_that_never_answers_is_not_waited_for_longer_than_a_hello_may_take() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = connect_as(hasty(), silent.local_addr().unwrap(), 1, None, &never).unwrap_err();
    assert_eq!(*peer_error(&error), PeerError::HelloTimeout { place: Place::Control });
}

#[test]
fn connecting_ends_with_a_cancel() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = Host { hello_timeout: Duration::from_secs(60), ..hasty() };
    let addr = silent.local_addr().unwrap();
    let error = connect_as(host, addr, 1, None, &gives_up_after(3)).unwrap_err();
    assert!(matches!(error, Error::Cancelled));
    let (mut accepted, _) = silent.accept().unwrap();
    let mut rest = Vec::new();
    accepted.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), HELLO_LEN, "the connection is closed");
}

#[test]
fn a_sender_understands_what_a_listener_answers() {
    let answers = |answer: &'static [u8]| {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = server.local_addr().unwrap();
        let serve = thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            stream.read_exact(&mut [0; HELLO_LEN]).unwrap();
            stream.write_all(answer).unwrap();
        });
        let error = connect_as(hasty(), addr, 1, None, &never).unwrap_err();
        serve.join().unwrap();
        error
    };
    let what = Malformed::Magic { found: 0x4854_5450 };
    let http = answers(&[&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[b' '; 64]].concat().leak()[..64]);
    assert_eq!(*peer_error(&http), PeerError::Malformed { place: Place::Control, what });
    let closed = PeerError::Closed { place: Place::Control, phase: Phase::Hello };
    assert_eq!(*peer_error(&answers(b"")), closed);
    let busy = welcome_of(SESSION, hasty(), Refusal::Busy.to_wire().0);
    assert!(is_refusal(&answers(Vec::from(busy).leak()), &Refusal::Busy));
    let other = welcome_of(OTHER_SESSION, hasty(), 0);
    assert!(matches!(peer_error(&answers(Vec::from(other).leak())), PeerError::WrongSession { .. }));
}

#[test]
fn a_sender_is_told_that_a_listener_is_busy() {
    let listener = listen(patient());
    let (_streams, connections, _) = gathers(&listener);
    connections.busy.as_ref().unwrap().agreed();
    let error = connect_as(hasty(), listener.local_addr(), 1, None, &never).unwrap_err();
    assert!(is_refusal(&error, &Refusal::Busy), "{error}");
}

#[test]
fn a_caller_that_is_inside_a_runtime_of_its_own_is_served() {
    let listener = listen(hasty());
    let addr = listener.local_addr();
    let sender = thread::spawn(move || {
        tokio_uring::start(async {
            let sent = connect_as(hasty(), addr, 1, None, &never).unwrap();
            open(&sent.control);
            sent
        })
    });
    let received = next(&listener).0;
    assert_eq!(sender.join().unwrap().session, received.session);
}

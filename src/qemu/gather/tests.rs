use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::thread;

use socket2::SockRef;

use super::connect::connect;
use super::*;
use crate::wire::Malformed;
use crate::wire::qemu::INIT_LEN;

const UUID: [u8; 16] = [9; 16];

fn never() -> bool {
    false
}

fn listen_for(patience: Duration) -> Listener {
    Listener { patience, ..Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap() }
}

fn listen() -> Listener {
    listen_for(Duration::from_secs(10))
}

fn hasty() -> Listener {
    listen_for(Duration::from_millis(200))
}

fn init(id: u8) -> [u8; INIT_LEN] {
    let mut bytes = [0; INIT_LEN];
    Init { uuid: UUID, id }.encode(&mut bytes);
    bytes
}

fn connect_with(listener: &Listener, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(listener.local_addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// What is gathered, and the errors of rejected connections.
fn gather(listener: &Listener, channels: usize) -> (Result<Gathered, Error>, Vec<Error>) {
    let mut rejected = Vec::new();
    let gathered = listener.gather(channels, &never, &mut |_, error| rejected.push(error));
    (gathered, rejected)
}

fn fails(listener: &Listener, channels: usize) -> QemuError {
    match gather(listener, channels).0.unwrap_err() {
        Error::Peer(PeerError::Qemu(error)) => error,
        other => panic!("{other}"),
    }
}

fn is_qemu(error: &Error, expected: &QemuError) -> bool {
    matches!(error, Error::Peer(PeerError::Qemu(found)) if found == expected)
}

fn read(connection: Connection, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    TcpStream::from(connection.as_fd().try_clone_to_owned().unwrap()).read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn connections_that_come_in_any_order_are_told_apart() {
    let listener = listen();
    let mut main = connect_with(&listener, b"");
    let _streams: Vec<_> = [3, 0, 1, 2]
        .map(|id| connect_with(&listener, &[&init(id)[..], &[id]].concat()))
        .into_iter()
        .collect();
    main.write_all(b"QEVM and so on").unwrap();
    let (gathered, rejected) = gather(&listener, 4);
    let gathered = gathered.unwrap();
    assert!(rejected.is_empty(), "{rejected:?}");
    assert_eq!((gathered.uuid, gathered.peer()), (Some(UUID), Some(main.local_addr().unwrap())));
    assert_eq!(read(gathered.main, 14), b"QEVM and so on", "nothing of it was taken");
    for (id, socket) in (0..).zip(gathered.multifd) {
        assert_eq!(read(socket, 1), [id], "only the init was taken");
    }
}

#[test]
fn a_migration_without_multifd_is_one_connection() {
    let listener = listen();
    let _main = connect_with(&listener, b"QEVM");
    let gathered = gather(&listener, 0).0.unwrap();
    assert_eq!((gathered.multifd.len(), gathered.uuid), (0, None));
}

#[test]
fn a_word_that_comes_in_pieces_is_heard_to_its_end() {
    let listener = listen();
    let mut main = connect_with(&listener, b"QE");
    let mut multifd = connect_with(&listener, &init(0)[..3]);
    let gathering = thread::spawn(move || gather(&listener, 1));
    for byte in &init(0)[3..] {
        thread::yield_now();
        multifd.write_all(&[*byte]).unwrap();
    }
    main.write_all(b"VM").unwrap();
    let (gathered, rejected) = gathering.join().unwrap();
    assert_eq!(read(gathered.unwrap().main, 4), b"QEVM");
    assert!(rejected.is_empty(), "{rejected:?}");
}

#[test]
fn connect_and_gather_meet_and_their_sockets_are_fit() {
    let listener = listen();
    let addr = listener.local_addr();
    let inits: Vec<_> = (0..70).map(|id| Init { uuid: UUID, id }).collect();
    let sending = thread::spawn(move || {
        let sent = connect(addr, &inits, Some("reno"), &never).unwrap();
        std::fs::File::from(sent.main.as_fd().try_clone_to_owned().unwrap()).write_all(b"QEVM").unwrap();
        sent
    });
    let gathered = gather(&listener, 70).0.unwrap();
    let sent = sending.join().unwrap();
    assert_eq!((gathered.multifd.len(), sent.multifd.len(), sent.uuid), (70, 70, Some(UUID)));
    gathered.set_congestion("reno").unwrap();
    assert_eq!(gathered.congestion(), sent.congestion());
    let all = |gathered: Gathered| std::iter::once(gathered.main).chain(gathered.multifd);
    for connection in all(sent).chain(all(gathered)) {
        let socket = SockRef::from(&connection);
        assert!(!socket.nonblocking().unwrap() && socket.tcp_nodelay().unwrap());
    }
}

#[test]
fn a_stranger_is_turned_away_and_the_others_go_on() {
    let listener = listen();
    let mut stranger = connect_with(&listener, b"GET / HTTP/1.1\r\n\r\n");
    let mut early = connect_with(&listener, b"QE");
    early.shutdown(Shutdown::Both).unwrap();
    drop(early.read(&mut [0; 1]));
    let (_main, _multifd) = (connect_with(&listener, b"QEVM"), connect_with(&listener, &init(0)));
    let (gathered, rejected) = gather(&listener, 1);
    assert!(gathered.is_ok());
    let what = Malformed::Magic { found: 0x4745_5420 };
    let expected = QemuError::Malformed { place: Place::New, offset: 0, what };
    assert!(is_qemu(&rejected[0], &expected), "{rejected:?}");
    assert!(stranger.read(&mut [0; 1]).map_or(true, |count| count == 0), "it is closed");
}

#[test]
fn silent_strangers_hold_the_door_no_longer_than_they_may() {
    let listener = hasty();
    let _silent: Vec<_> = (0..PENDING_HELLOS_MAX).map(|_| connect_with(&listener, b"")).collect();
    let (_main, _multifd) = (connect_with(&listener, b"QEVM"), connect_with(&listener, &init(0)));
    let (gathered, rejected) = gather(&listener, 1);
    assert!(gathered.is_ok());
    assert_eq!(rejected.len(), PENDING_HELLOS_MAX);
    assert!(is_qemu(&rejected[0], &QemuError::Silent));
}

#[test]
fn two_connections_with_one_number_are_an_error_that_names_it() {
    let listener = listen();
    let _streams = [0, 1, 1].map(|id| connect_with(&listener, &init(id)));
    let error = fails(&listener, 3);
    assert_eq!(error, QemuError::Twice { place: Place::Multifd(1) });
    assert_eq!(error.to_string(), "two connections say that they are multifd channel 1");
    let _streams = [(); 2].map(|()| connect_with(&listener, b"QEVM"));
    assert_eq!(fails(&listener, 3), QemuError::Twice { place: Place::Main });
}

#[test]
fn a_number_past_the_last_is_an_error_that_names_it() {
    for channels in [0, 2] {
        let listener = listen();
        let _stream = connect_with(&listener, &init(2));
        assert_eq!(fails(&listener, channels), QemuError::BeyondLast { id: 2, channels });
    }
}

#[test]
fn a_connection_of_another_machine_is_an_error_that_names_both() {
    let listener = listen();
    let _one = connect_with(&listener, &init(0));
    let mut bytes = [0; INIT_LEN];
    Init { uuid: [1; 16], id: 1 }.encode(&mut bytes);
    let _other = connect_with(&listener, &bytes);
    let error = fails(&listener, 2);
    let (found, expected) = (Uuid([1; 16]), Uuid(UUID));
    assert_eq!(error, QemuError::OtherMachine { place: Place::Multifd(1), found, expected });
}

#[test]
fn an_init_of_another_version_is_an_error() {
    let listener = listen();
    let mut bytes = init(0);
    bytes[7] = 2;
    let _stream = connect_with(&listener, &bytes);
    let what = Malformed::Value { field: "version", found: 2 };
    assert_eq!(fails(&listener, 1), QemuError::Malformed { place: Place::New, offset: 0, what });
}

#[test]
fn connections_that_do_not_come_in_time_are_an_error() {
    let listener = hasty();
    let _stream = connect_with(&listener, &init(1));
    assert_eq!(fails(&listener, 2), QemuError::Gather { main: false, came: 1, channels: 2 });
    let _main = connect_with(&listener, b"QEVM");
    assert_eq!(fails(&listener, 2), QemuError::Gather { main: true, came: 0, channels: 2 });
}

#[test]
fn a_connection_that_closes_before_all_have_come_is_named() {
    let listener = hasty();
    drop(connect_with(&listener, &init(1)));
    let error = gather(&listener, 2).0.unwrap_err();
    assert_eq!(error.to_string(), "the peer closed multifd channel 1 before all connections had come");
}

#[test]
fn waiting_for_the_first_connection_has_no_bound() {
    let polls = std::cell::Cell::new(0);
    let cancel = || {
        polls.set(polls.get() + 1);
        CANCEL_POLL * polls.get() > Duration::from_millis(400)
    };
    let ended = hasty().gather(0, &cancel, &mut |_, error| panic!("{error}"));
    assert!(matches!(ended, Err(Error::Cancelled)), "only a migration that began is bounded");
}

#[test]
fn gathering_ends_with_a_cancel() {
    let listener = listen();
    let _silent = connect_with(&listener, &init(0));
    let cancelled = listener.gather(2, &|| true, &mut |_, error| panic!("{error}"));
    assert!(matches!(cancelled, Err(Error::Cancelled)));
}

#[test]
fn the_hint_for_a_destination_that_does_not_listen_names_incoming() {
    let addr = listen().local_addr();
    let error = connect(addr, &[], None, &never).unwrap_err();
    assert!(error.hint().unwrap().contains("-incoming"), "{error}");
}

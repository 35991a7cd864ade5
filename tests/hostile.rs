//! Peers that are broken or mean, written by hand: whatever they say, the other side names what was wrong, brings its
//! devices back, and takes the next transfer.

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};

use common::device::{Journal, TestSink, TestSource, Trouble};
use common::peer::{
    Connections, Door, HAND_POOL, PACKET, agree, an_offer, await_end, config_header, control_bytes, dial,
    forged_control, greet, greet_and_agree, header, header_bytes, hello_bytes, packet_bytes, read_packet,
    take_all, welcome_bytes, welcome_of, with,
};
use common::{PATIENCE, Running, content, listen, pair, receive, run, send};
use ringlift::error::{Error, PeerError, Place, Refusal, Side};
use ringlift::limits::{CONFIG_SIZE_MAX, PACKET_SIZE_MAX, POOL_SIZE_MAX};
use ringlift::sink::Verify;
use ringlift::source::Synthetic;
use ringlift::wire::{Checksum, Control, DataHeader, Malformed, Offer, Role, SessionId};
use ringlift::{Event, Finished, Listener, Outcome, Receiver, Sender};

/// A receiver of one device `net0` that somebody by hand will speak to.
struct Victim {
    listener: Listener,
    /// Tells when a session has all its connections.
    connected: mpsc::Receiver<()>,
    journal: Journal,
    receiving: Running<Finished>,
    strays: Arc<Mutex<Vec<Error>>>,
}

impl Victim {
    fn start() -> Victim {
        Victim::with(|_| {})
    }

    fn with(prepare: impl FnOnce(&Journal)) -> Victim {
        let (sink, journal) = TestSink::new();
        prepare(&journal);
        let (listener, strays) = (listen(), Arc::new(Mutex::new(Vec::new())));
        let turned_away = Arc::clone(&strays);
        let (tell, connected) = mpsc::channel();
        let receiver =
            Receiver::builder().device("net0", sink).listener(&listener).on_event(move |event| match event {
                Event::Stray { error, .. } => turned_away.lock().expect("whole").push(error.clone()),
                Event::Connected { .. } => drop(tell.send(())),
                _ => {}
            });
        Victim { receiving: receive(receiver), listener, connected, journal, strays }
    }

    fn greet_and_agree(&self) -> Connections {
        greet_and_agree(self.listener.local_addr(), 2, &["net0"])
    }

    /// A session of one channel that nobody has said anything in. One that its sender leaves before it is complete is
    /// none, and the receiver waits for the next.
    fn greet(&self) -> Connections {
        let peer = greet(self.listener.local_addr(), 1);
        self.connected.recv_timeout(PATIENCE).expect("the receiver takes the session");
        peer
    }

    /// It gave up for this reason, nothing ran, everything was reset, and the next transfer is taken.
    fn fails(self) -> Error {
        let finished = self.receiving.finish();
        assert_eq!(finished.outcome, Outcome::Aborted);
        let steps = self.journal.steps();
        assert!(!steps.contains(&"run") && !steps.contains(&"wake"), "{steps:?}");
        assert_eq!(steps.last(), Some(&"rollback"), "{steps:?}");
        assert_takes_the_next(&self.listener);
        finished.error.expect("an aborted transfer says why")
    }
}

fn assert_takes_the_next(listener: &Listener) {
    let (sender, receiver) = pair(listener, Synthetic::new(100_000), Verify::new());
    let (sent, received) = run(sender, receiver);
    assert!(received.error.is_none(), "the next transfer: {}", received.error.as_ref().expect("some"));
    assert_eq!((sent.outcome, received.outcome), (Outcome::Complete, Outcome::Complete));
}

/// Runs `attack` on a receiver that has agreed on one device and two channels: how the receiver ended, and the last word
/// that it said.
fn attack(attack: impl FnOnce(&mut Connections)) -> (Error, Option<Control>) {
    let victim = Victim::start();
    let mut peer = victim.greet_and_agree();
    attack(&mut peer);
    let last = peer.last_word();
    drop(peer);
    (victim.fails(), last)
}

/// In which phase a receiver says that it is before everything is loaded is its own business.
fn somewhere(text: &str) -> String {
    const BEFORE: [&str; 2] = ["while agreeing on settings", "in pre-copy"];
    BEFORE.iter().fold(text.to_owned(), |text, phase| text.replace(phase, "in the middle of the state"))
}

/// The same for an attack that must be found to be `expected`, in words too.
fn assert_found(expected: &str, what: impl FnOnce(&mut Connections)) {
    let (error, last) = attack(what);
    assert_eq!(somewhere(&error.to_string()), expected);
    assert!(matches!(error, Error::Peer(_)), "{error:?}");
    assert!(error.hint().is_some(), "{error}");
    // the peer is told why, in the same words
    assert_eq!(last, Some(Control::Abort { code: 1, text: error.to_string().into() }));
}

const CONTROL: &str = "the peer sent what is no message of this protocol on the control connection: ";
const CHANNEL_0: &str = "the peer sent what is no message of this protocol on channel 0: ";

// ── a receiver's new connections ─────────────────────────────────────────────────────────────────────────────────────

#[test]
fn strangers_at_the_door_are_named_and_disturb_nobody() {
    let victim = Victim::start();
    let addr = victim.listener.local_addr();
    let hello = hello_bytes(SessionId([1; 16]), Role::Control { channels: 1 });
    let data = hello_bytes(SessionId([1; 16]), Role::Data { channel: 0 });
    let mut damaged = hello;
    damaged[20] ^= 1;
    let silently_closed: [(&str, Vec<u8>); 9] = [
        ("its first bytes are 0x47455420", [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[b'x'; 64]].concat()),
        ("its first bytes are 0x00000000", vec![0; 64]),
        ("its check does not fit", damaged.to_vec()),
        ("its role is 3", with(hello, 10, &[0, 3]).to_vec()),
        ("its channels is 0", with(hello, 12, &[0, 0]).to_vec()),
        ("its channels is 256", with(hello, 12, &[1, 0]).to_vec()),
        ("its channel is 1", with(hello, 14, &[0, 1]).to_vec()),
        ("its channel is 255", with(data, 14, &[0, 255]).to_vec()),
        ("its reserved byte is 1", with(hello, 50, &[1]).to_vec()),
    ];
    for (_, bytes) in &silently_closed {
        let mut stranger = dial(addr);
        stranger.write_all(bytes).expect("sent");
        await_end(&mut stranger);
    }
    // half a hello
    let mut stranger = dial(addr);
    stranger.write_all(&hello[..63]).expect("sent");
    stranger.shutdown(std::net::Shutdown::Write).expect("closed");
    await_end(&mut stranger);
    // and two who are told why not
    for (reason, bytes) in [
        (Refusal::Version, with(hello, 8, &[0, 2])),
        (Refusal::UnknownSession, hello_bytes(SessionId([9; 16]), Role::Data { channel: 0 })),
    ] {
        let mut stranger = dial(addr);
        stranger.write_all(&bytes).expect("sent");
        let welcome = welcome_of(&mut stranger).expect("an answer");
        assert_eq!(welcome.refusal, reason.to_wire().0);
        await_end(&mut stranger);
    }
    let mut peer = victim.greet();
    peer.say(&Control::Cancel);
    drop(peer);
    let strays = Arc::clone(&victim.strays);
    let error = victim.fails();
    assert!(matches!(error, Error::Peer(PeerError::Cancelled)), "{error}");
    let strays: Vec<String> = strays.lock().expect("whole").iter().map(Error::to_string).collect();
    for (what, _) in &silently_closed {
        let said = format!("the peer sent what is no message of this protocol on a new connection: {what}");
        assert!(strays.contains(&said), "{said}, but {strays:#?}");
    }
    assert!(strays.iter().any(|said| said == "the peer closed a new connection before its hello was done"));
    assert!(strays.iter().any(|said| said == "refused by the receiver: it speaks another protocol version"));
    assert!(strays.iter().any(|said| said.contains("belongs to no session here")));
}

#[test]
fn nobody_joins_a_session_that_is_being_set_up() {
    let victim = Victim::start();
    let addr = victim.listener.local_addr();
    let session = SessionId([3; 16]);
    let say = |bytes: &[u8]| {
        let mut stream = dial(addr);
        stream.write_all(bytes).expect("sent");
        let refusal = welcome_of(&mut stream).expect("an answer").refusal;
        (stream, refusal)
    };
    let refusal_of = |bytes: &[u8]| say(bytes).1;
    let (control, refusal) = say(&hello_bytes(session, Role::Control { channels: 2 }));
    assert_eq!(refusal, 0);
    let (first, refusal) = say(&hello_bytes(session, Role::Data { channel: 0 }));
    assert_eq!(refusal, 0);
    // a stale or a foreign session, a second control connection, a channel that is taken and one that was not announced
    assert_eq!(refusal_of(&hello_bytes(SessionId([4; 16]), Role::Data { channel: 1 })), 4);
    assert_eq!(refusal_of(&hello_bytes(session, Role::Control { channels: 2 })), 3);
    assert_eq!(refusal_of(&hello_bytes(SessionId([4; 16]), Role::Control { channels: 2 })), 3);
    assert_eq!(refusal_of(&hello_bytes(session, Role::Data { channel: 0 })), 5);
    assert_eq!(refusal_of(&hello_bytes(session, Role::Data { channel: 2 })), 5);
    // and the session goes on
    let (second, refusal) = say(&hello_bytes(session, Role::Data { channel: 1 }));
    assert_eq!(refusal, 0);
    let mut peer = agree(Connections { control, data: vec![first, second], session }, &an_offer(&["net0"]));
    // while it runs, neither
    assert_eq!(refusal_of(&hello_bytes(session, Role::Control { channels: 1 })), 3);
    assert_eq!(refusal_of(&hello_bytes(session, Role::Data { channel: 0 })), 4);
    whole_state(&mut peer);
    assert_eq!(peer.hear_word(), Some(Control::Committed));
    drop(peer);
    let received = victim.receiving.finish();
    assert_eq!(received.outcome, Outcome::Complete);
    assert!(victim.journal.bytes() == content(5000));
    assert_takes_the_next(&victim.listener);
}

/// A state of 5000 bytes in two packets that come in the wrong order, up to commit.
fn whole_state(peer: &mut Connections) {
    let state = content(5000);
    let (head, tail) = state.split_at(PACKET as usize);
    peer.say(&Control::Switchover);
    peer.packet(1, &config_header(0, 2, b"config"), b"config");
    peer.packet(1, &header(0, 1, tail), tail);
    peer.packet(0, &header(0, 0, head), head);
    let loaded = peer.hear_word().expect("loaded");
    assert!(matches!(loaded, Control::Loaded { device: 0, packets: 3, bytes: 5006, .. }), "{loaded:?}");
    peer.say(&Control::Commit);
}

#[test]
fn a_session_that_is_never_complete_makes_room_after_its_time() {
    let victim = Victim::start();
    let addr = victim.listener.local_addr();
    let session = SessionId([6; 16]);
    let mut control = dial(addr);
    control.write_all(&hello_bytes(session, Role::Control { channels: 2 })).expect("sent");
    assert_eq!(welcome_of(&mut control).expect("an answer").refusal, 0);
    // GATHER_TIMEOUT later it is closed
    await_end(&mut control);
    let mut peer = victim.greet();
    peer.say(&Control::Cancel);
    drop(peer);
    let strays = Arc::clone(&victim.strays);
    victim.fails();
    let strays = strays.lock().expect("whole");
    assert!(strays.iter().any(|error| error.to_string() == "only 0 of 2 data connections came within 10 s"));
}

#[test]
fn strangers_who_say_nothing_do_not_keep_a_sender_out() {
    let victim = Victim::start();
    let addr = victim.listener.local_addr();
    let silent: Vec<TcpStream> = (0..80).map(|_| dial(addr)).collect();
    let mut peer = victim.greet();
    peer.say(&Control::Cancel);
    drop((peer, silent));
    assert!(matches!(victim.fails(), Error::Peer(PeerError::Cancelled)));
}

// ── a receiver's control connection ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn garbage_on_the_control_connection_is_named() {
    assert_found(&format!("{CONTROL}its first bytes are 0x67617262"), |peer| {
        peer.write(b"garbage, and more of it")
    });
}

#[test]
fn control_messages_that_are_cut_or_wrong_in_one_place_are_named() {
    let mut damaged = control_bytes(&Control::Switchover);
    damaged[15] ^= 1;
    // a header that says more than its kind may have is not waited for
    let mut oversized = forged_control(6, &[]);
    oversized[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    let mut turned = control_bytes(&Control::Cancel);
    turned[5] = 8; // a cancel that became a commit on its way
    for (what, bytes) in [
        ("its check does not fit", damaged),
        ("its body is 4294967295 bytes, at most 0 are allowed", oversized),
        ("its check does not fit", turned),
        ("its kind is 99", forged_control(99, &[])),
        ("its body is 1 bytes, at most 0 are allowed", forged_control(12, &[0])),
        ("its body is 517 bytes, at most 516 are allowed", forged_control(10, &[0; 517])),
        ("the message is cut short", forged_control(10, &[0, 0, 0, 9, b'x'])),
        ("it has 1 bytes too many", forged_control(10, &[0, 0, 0, 1, b'x', b'y'])),
        ("its text is no printable text", forged_control(10, &[0, 0, 0, 1, 0x1b])),
        ("its text is no printable text", forged_control(10, &[0, 0, 0, 1, 0xff])),
    ] {
        assert_found(&format!("{CONTROL}{what}"), |peer| peer.write(&bytes));
    }
}

#[test]
fn a_control_message_that_is_never_finished_is_cut_short() {
    let whole = control_bytes(&Control::Abort { code: 1, text: "half a".into() });
    let (error, _) = attack(|peer| {
        peer.write(&whole[..whole.len() - 1]);
        peer.fall_silent();
    });
    assert_eq!(error.to_string(), format!("{CONTROL}the message is cut short"));
}

#[test]
fn a_message_that_comes_byte_by_byte_is_a_message() {
    let victim = Victim::start();
    let mut peer = victim.greet_and_agree();
    for byte in control_bytes(&Control::Abort { code: 2, text: "slow".into() }) {
        peer.write(&[byte]);
    }
    drop(peer);
    assert_eq!(victim.fails().to_string(), "the peer aborted: slow");
}

#[test]
fn messages_of_the_other_side_are_unexpected() {
    for message in [
        Control::Accept,
        Control::Refuse { code: 3, text: "".into() },
        Control::Ready,
        Control::Credit { device: 0, limit: 5 },
        Control::Loaded { device: 0, packets: 0, bytes: 0, crc32c: 0 },
        Control::Committed,
    ] {
        let text = format!("the peer sent {} in the middle of the state", message.name());
        assert_found(&text, |peer| peer.say(&message));
    }
}

#[test]
fn messages_in_the_wrong_phase_are_unexpected() {
    let unexpected = |message: &str| format!("the peer sent {message} in the middle of the state");
    assert_found(&unexpected("offer"), |peer| peer.say(&Control::Offer(an_offer(&["net0"]))));
    assert_found(&unexpected("commit"), |peer| peer.say(&Control::Commit));
    assert_found(&unexpected("switchover"), |peer| {
        peer.say(&Control::Switchover);
        peer.say(&Control::Switchover);
    });
}

#[test]
fn a_commit_before_everything_is_loaded_lets_nothing_run() {
    assert_found("the peer sent commit in the middle of the state", |peer| {
        peer.say(&Control::Switchover);
        peer.packet(0, &header(0, 0, b"state"), b"state");
        peer.say(&Control::Commit);
    });
}

#[test]
fn a_commit_without_switchover_lets_nothing_run() {
    assert_found("the peer sent commit while the devices loaded", |peer| {
        peer.packet(0, &config_header(0, 0, b""), b"");
        assert!(matches!(peer.hear_word(), Some(Control::Loaded { .. })));
        peer.say(&Control::Commit);
    });
}

#[test]
fn messages_before_the_offer_are_unexpected() {
    for message in [Control::Switchover, Control::Commit, Control::Accept] {
        let victim = Victim::start();
        let mut peer = victim.greet();
        peer.say(&message);
        let text = format!("the peer sent {} while agreeing on settings", message.name());
        assert_eq!(peer.last_word(), Some(Control::Abort { code: 1, text: text.clone().into() }));
        drop(peer);
        assert_eq!(victim.fails().to_string(), text);
    }
}

/// What a receiver answers to an offer, and how it ends.
fn answer_to(bytes: &[u8]) -> (Option<Control>, Error) {
    let victim = Victim::start();
    let mut peer = victim.greet();
    peer.write(bytes);
    let last = peer.last_word();
    drop(peer);
    (last, victim.fails())
}

#[test]
fn offers_out_of_bounds_are_no_messages() {
    let good = an_offer(&["net0"]);
    let offer = |offer: Offer| control_bytes(&Control::Offer(offer));
    let body = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut body = control_bytes(&Control::Offer(an_offer(&["net0"])))[16..].to_vec();
        change(&mut body);
        forged_control(1, &body)
    };
    let many: Vec<String> = (0..257).map(|number| format!("d{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (what, bytes) in [
        ("its packet size is 4095", offer(Offer { packet_size: 4095, ..good.clone() })),
        ("its packet size is 16777217", offer(Offer { packet_size: PACKET_SIZE_MAX + 1, ..good.clone() })),
        ("its pool size is 17179869185", offer(Offer { pool_size: POOL_SIZE_MAX + 1, ..good.clone() })),
        ("its pool size is 4095", offer(Offer { pool_size: 4095, ..good.clone() })),
        ("its checksum is 2", body(&|body| body[21] = 2)),
        ("its number of devices is 0", body(&|body| body[23] = 0)),
        ("its number of devices is 257", offer(an_offer(&many))),
        ("its repeated device is 1", offer(an_offer(&["net0", "net0"]))),
        ("its name is no printable text", body(&|body| body[48] = 7)),
        ("its reserved byte is 1", body(&|body| body[31] = 1)),
        ("the message is cut short", body(&|body| body[45] = 200)),
        ("it has 4 bytes too many", body(&|body| body.extend([0; 4]))),
    ] {
        let (last, error) = answer_to(&bytes);
        let text = format!("{CONTROL}{what}");
        assert_eq!(error.to_string(), text);
        assert_eq!(last, Some(Control::Abort { code: 1, text: text.into() }));
    }
}

#[test]
fn offers_that_do_not_fit_are_refused_with_the_reason() {
    let good = an_offer(&["net0"]);
    let offer = |offer: Offer| control_bytes(&Control::Offer(offer));
    for (reason, bytes) in [
        (Refusal::Feature, offer(Offer { features: 1 << 63, ..good.clone() })),
        (Refusal::DeviceMismatch { name: "disk0".into() }, offer(an_offer(&["net0", "disk0"]))),
        (Refusal::DeviceMismatch { name: "disk0".into() }, offer(an_offer(&["disk0"]))),
        (
            Refusal::Settings { text: "a pool of 17179869184 bytes, at most 1073741824 here".into() },
            offer(Offer { pool_size: POOL_SIZE_MAX, ..good.clone() }),
        ),
        (
            Refusal::Settings { text: "a pool of 4096 bytes holds 0 packets, fewer than devices".into() },
            offer(Offer { pool_size: 4096, ..good.clone() }),
        ),
    ] {
        let (last, error) = answer_to(&bytes);
        let (code, text) = reason.to_wire();
        assert_eq!(last, Some(Control::Refuse { code, text: text.into() }));
        assert!(
            matches!(&error, Error::Refused { by: Side::Receiver, reason: found } if *found == reason),
            "{error}"
        );
        assert!(error.hint().is_some());
    }
}

// ── a receiver's data connections ────────────────────────────────────────────────────────────────────────────────────

#[test]
fn garbage_on_a_channel_is_named() {
    assert_found(&format!("{CHANNEL_0}its first bytes are 0x41414141"), |peer| {
        peer.write_data(0, &[0x41; 64])
    });
}

#[test]
fn packet_headers_that_are_wrong_in_one_place_are_named() {
    let good = header_bytes(&header(0, 0, b"state"));
    let mut damaged = good;
    damaged[20] ^= 1;
    let long = |len: u32, config| header_bytes(&DataHeader { len, config, ..header(0, 0, b"") });
    let config_max = u32::try_from(CONFIG_SIZE_MAX).expect("short");
    for (what, bytes) in [
        ("its first bytes are 0x534c6470".to_owned(), with(good, 0, b"S")),
        ("its version is 2".to_owned(), with(good, 4, &[0, 2])),
        ("its check does not fit".to_owned(), damaged),
        ("its flags is 2".to_owned(), with(good, 6, &[0, 2])),
        ("its reserved byte is 1".to_owned(), with(good, 44, &[1])),
        ("its payload length is 0".to_owned(), long(0, false)),
        ("its payload is 4294967295 bytes, at most 16777216 are allowed".to_owned(), long(u32::MAX, false)),
        // within the protocol's bounds, and not within the session's
        ("its payload is 4097 bytes, at most 4096 are allowed".to_owned(), long(PACKET + 1, false)),
        (
            format!("its payload is {} bytes, at most {config_max} are allowed", config_max + 1),
            long(config_max + 1, true),
        ),
        ("its device is 1".to_owned(), header_bytes(&header(1, 0, b"state"))),
        ("its device is 65535".to_owned(), header_bytes(&header(u16::MAX, 0, b"state"))),
    ] {
        assert_found(&format!("{CHANNEL_0}{what}"), |peer| peer.write_data(0, &bytes));
    }
}

#[test]
fn a_payload_that_arrives_damaged_does_not_reach_the_device() {
    let victim = Victim::start();
    let mut peer = victim.greet_and_agree();
    let wrong = DataHeader { crc32c: 0xdead_beef, ..header(0, 0, b"state") };
    peer.packet(0, &wrong, b"state");
    let last = peer.last_word();
    drop(peer);
    let journal = victim.journal.clone();
    let error = victim.fails();
    let expected = PeerError::Checksum {
        device: 0,
        idx: 0,
        place: Place::Channel(0),
        found: ringlift::wire::crc32c(0, b"state"),
        expected: 0xdead_beef,
    };
    assert!(matches!(&error, Error::Peer(found) if *found == expected), "{error}");
    assert_eq!(last, Some(Control::Abort { code: 1, text: error.to_string().into() }));
    assert_eq!(journal.bytes(), b"");
}

#[test]
fn a_config_state_that_arrives_damaged_does_not_reach_the_device() {
    let victim = Victim::start();
    let mut peer = victim.greet_and_agree();
    peer.packet(0, &DataHeader { crc32c: 1, ..config_header(0, 0, b"config") }, b"config");
    drop(peer.last_word());
    drop(peer);
    let journal = victim.journal.clone();
    assert!(matches!(victim.fails(), Error::Peer(PeerError::Checksum { idx: 0, .. })));
    assert_eq!(journal.blob(), None);
}

fn out_of_order(idx: u64, problem: &str) -> String {
    format!("device 0: the peer sent packet {idx} {problem}")
}

#[test]
fn packets_that_came_before_are_found() {
    let twice = [header(0, 0, b"state"), header(0, 0, b"state")];
    assert_found(&out_of_order(0, "twice"), |peer| {
        twice.iter().for_each(|header| peer.packet(0, header, b"state"));
    });
    // still waiting for its turn, on the other channel
    assert_found(&out_of_order(3, "twice"), |peer| {
        peer.packet(0, &header(0, 3, b"state"), b"state");
        peer.packet(0, &header(0, 3, b"state"), b"state");
    });
}

#[test]
fn packets_without_credit_are_found_before_their_payload() {
    // 1 MiB has room for 15 packets: slots have room for a config state
    for idx in [15, 16, 1 << 32, u64::MAX - 1, u64::MAX] {
        assert_found(&out_of_order(idx, "without credit for it"), |peer| {
            peer.write_data(0, &header_bytes(&header(0, idx, b"state")));
        });
        assert_found(&out_of_order(idx, "without credit for it"), |peer| {
            peer.write_data(0, &header_bytes(&config_header(0, idx, b"state")));
        });
    }
}

#[test]
fn packets_around_the_config_packet_are_found() {
    assert_found(&out_of_order(1, "as a second config packet"), |peer| {
        peer.packet(0, &config_header(0, 2, b""), b"");
        peer.packet(0, &config_header(0, 1, b""), b"");
    });
    assert_found(&out_of_order(3, "after the config packet"), |peer| {
        peer.packet(0, &config_header(0, 2, b""), b"");
        peer.packet(0, &header(0, 3, b"more"), b"more");
    });
    assert_found(&out_of_order(1, "as config packet, but data after it"), |peer| {
        peer.packet(0, &header(0, 2, b"data"), b"data");
        peer.packet(0, &config_header(0, 1, b""), b"");
    });
    // when everything is loaded already
    for more in [header(0, 1, b"more"), config_header(0, 1, b"more")] {
        let (error, _) = attack(|peer| {
            peer.say(&Control::Switchover);
            peer.packet(0, &config_header(0, 0, b""), b"");
            assert!(matches!(peer.hear_word(), Some(Control::Loaded { .. })));
            peer.packet(0, &more, b"more");
        });
        assert!(matches!(error, Error::Peer(PeerError::Order { idx: 1, .. })), "{error}");
    }
}

#[test]
fn all_the_room_that_was_promised_may_be_used_in_any_order() {
    let victim = Victim::start();
    let mut peer = victim.greet_and_agree();
    for idx in (1..15).rev() {
        let payload = [u8::try_from(idx).expect("few"); PACKET as usize];
        peer.packet(usize::from(idx % 2 == 0), &header(0, idx, &payload), &payload);
    }
    peer.packet(0, &header(0, 0, &[0; PACKET as usize]), &[0; PACKET as usize]);
    peer.say(&Control::Switchover);
    // the config packet has no room before one of the others has left
    let limit = loop {
        match common::peer::hear(&mut peer.control).expect("credit") {
            Control::Credit { limit, .. } if limit > 15 => break limit,
            _ => {}
        }
    };
    assert!(limit <= 30);
    peer.packet(1, &config_header(0, 15, b""), b"");
    assert!(matches!(peer.hear_word(), Some(Control::Loaded { packets: 16, .. })));
    peer.say(&Control::Commit);
    assert_eq!(peer.hear_word(), Some(Control::Committed));
    drop(peer);
    assert_eq!(victim.receiving.finish().outcome, Outcome::Complete);
    let expected: Vec<u8> = (0..15).flat_map(|idx| [idx; PACKET as usize]).collect();
    assert!(victim.journal.bytes() == expected);
}

// ── a sender that dies ───────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_sender_that_dies_before_commit_leaves_nothing_half_loaded() {
    let state = |peer: &mut Connections| {
        peer.packet(0, &header(0, 0, b"state"), b"state");
        // idx 1 never comes
        peer.packet(0, &header(0, 2, b"state"), b"state");
    };
    type Life = Box<dyn Fn(&mut Connections)>;
    let lives: [(&str, Life); 5] = [
        ("after agreeing", Box::new(|_| {})),
        ("in the middle, with a packet missing", Box::new(state)),
        ("in a header", Box::new(|peer| peer.write_data(0, &header_bytes(&header(0, 0, b"state"))[..40]))),
        (
            "in a payload",
            Box::new(|peer| peer.write_data(0, &packet_bytes(&header(0, 0, b"state"), b"stat"))),
        ),
        (
            "when everything is loaded",
            Box::new(|peer| {
                peer.say(&Control::Switchover);
                peer.packet(0, &config_header(0, 0, b""), b"");
                assert!(matches!(peer.hear_word(), Some(Control::Loaded { .. })));
            }),
        ),
    ];
    for (when, live) in lives {
        let victim = Victim::start();
        let mut peer = victim.greet_and_agree();
        live(&mut peer);
        drop(peer);
        let error = victim.fails();
        assert!(
            matches!(error, Error::Peer(PeerError::Closed { .. } | PeerError::Lost { .. })),
            "{when}: {error}"
        );
        assert!(error.hint().expect("a hint").contains("the other side's message"));
    }
}

#[test]
fn a_sender_that_dies_before_its_offer_leaves_nothing_behind() {
    let victim = Victim::start();
    drop(victim.greet());
    let error = victim.fails();
    assert!(matches!(error, Error::Peer(PeerError::Closed { place: Place::Control, .. })), "{error}");
}

#[test]
fn one_channel_that_closes_in_the_middle_ends_the_transfer() {
    let (error, last) = attack(|peer| {
        peer.packet(1, &header(0, 0, b"state"), b"state");
        peer.data.truncate(1);
    });
    assert_eq!(somewhere(&error.to_string()), "the peer closed channel 1 in the middle of the state");
    assert_eq!(last, Some(Control::Abort { code: 1, text: error.to_string().into() }));
}

#[test]
fn a_control_connection_that_closes_in_the_middle_ends_the_transfer() {
    let (error, _) = attack(|peer| peer.fall_silent());
    assert_eq!(
        somewhere(&error.to_string()),
        "the peer closed the control connection in the middle of the state"
    );
}

#[test]
fn a_sender_that_dies_after_commit_has_given_its_devices_away() {
    let victim = Victim::with(|journal| journal.expect("wake", Trouble::Wait));
    let mut peer = victim.greet_and_agree();
    whole_state(&mut peer);
    victim.journal.await_step("wake");
    drop(peer);
    victim.journal.let_go("wake");
    let received = victim.receiving.finish();
    assert_eq!(received.outcome, Outcome::Complete, "{:?}", received.error);
    assert_eq!(victim.journal.steps().last(), Some(&"run"));
    assert_takes_the_next(&victim.listener);
}

#[test]
fn words_after_commit_change_nothing() {
    for word in [Control::Cancel, Control::Abort { code: 0, text: "too late".into() }, Control::Commit] {
        let victim = Victim::with(|journal| journal.expect("wake", Trouble::Wait));
        let mut peer = victim.greet_and_agree();
        whole_state(&mut peer);
        victim.journal.await_step("wake");
        peer.say(&word);
        peer.write(b"and garbage that is no message");
        victim.journal.let_go("wake");
        assert_eq!(peer.hear_word(), Some(Control::Committed), "{word:?}");
        drop(peer);
        let received = victim.receiving.finish();
        assert_eq!(received.outcome, Outcome::Complete, "{word:?}: {:?}", received.error);
        assert_eq!(victim.journal.steps().last(), Some(&"run"));
    }
}

#[test]
fn a_device_that_runs_late_is_waited_for_though_its_sender_is_gone() {
    let victim = Victim::with(|journal| journal.expect("wake", Trouble::Wait));
    let mut peer = victim.greet_and_agree();
    whole_state(&mut peer);
    victim.journal.await_step("wake");
    // longer than a peer may be silent: the receiver must not give the step up, nor spin on the peer's silence
    assert_eq!(silence_of(&mut peer), None, "it says that it is still there until the device runs");
    drop(peer);
    victim.journal.let_go("wake");
    victim.journal.await_step("run");
    let received = victim.receiving.finish();
    assert_eq!(received.outcome, Outcome::Complete, "{:?}", received.error);
}

/// Listens for 11 s, longer than a peer may be silent: the first word but heartbeats.
fn silence_of(peer: &mut Connections) -> Option<Control> {
    for _ in 0..11 {
        match common::peer::hear(&mut peer.control).expect("a heartbeat each second") {
            Control::Heartbeat | Control::Credit { .. } => {}
            other => return Some(other),
        }
    }
    None
}

#[test]
fn a_sender_that_falls_silent_is_given_up() {
    let (error, last) = attack(|peer| peer.packet(0, &header(0, 0, b"state"), b"state"));
    assert_eq!(
        somewhere(&error.to_string()),
        "the peer has said nothing for 10 s in the middle of the state"
    );
    assert_eq!(last, Some(Control::Abort { code: 1, text: error.to_string().into() }));
}

// ── a sender's new connections ───────────────────────────────────────────────────────────────────────────────────────

/// A sender of one device that somebody by hand answers.
struct Giver {
    door: Door,
    journal: Journal,
    sending: Running<Finished>,
}

impl Giver {
    fn start() -> Giver {
        Giver::of(TestSource::new(content(10_000)), 1)
    }

    fn of((source, journal): (TestSource, Journal), channels: u16) -> Giver {
        let door = Door::open();
        let sender = Sender::builder().device("net0", source).connect(door.addr);
        let sender = sender.channels(channels).packet_size(PACKET).pool_size(HAND_POOL);
        Giver { sending: send(sender), door, journal }
    }

    /// It gave up for this reason, and its device is back where it was.
    fn fails(self) -> Error {
        let finished = self.sending.finish();
        assert_eq!(finished.outcome, Outcome::Aborted);
        let steps = self.journal.steps();
        assert!(!steps.contains(&"release") && !steps.contains(&"park"), "{steps:?}");
        if steps.contains(&"start") {
            assert_eq!(steps.last(), Some(&"rollback"), "{steps:?}");
        }
        finished.error.expect("an aborted transfer says why")
    }

    /// It cannot tell, and its device stays as it is.
    fn doubts(self) -> Error {
        let finished = self.sending.finish();
        assert_eq!(finished.outcome, Outcome::InDoubt, "{:?}", finished.error);
        assert_eq!(finished.report.outcome, "in_doubt");
        let steps = self.journal.steps();
        assert!(!steps.contains(&"release") && !steps.contains(&"rollback"), "{steps:?}");
        assert_eq!(steps.last(), Some(&"park"), "{steps:?}");
        let error = finished.error.expect("a transfer in doubt says why");
        assert!(error.hint().expect("a hint").contains("look at the destination"));
        error
    }
}

#[test]
fn answers_that_are_no_welcome_are_named() {
    let session = SessionId([0; 16]);
    let no_message = "the peer sent what is no message of this protocol on the control connection: ";
    let mut damaged = welcome_bytes(session, 0);
    damaged[20] ^= 1;
    for (what, answer) in [
        (format!("{no_message}its first bytes are 0x53534820"), [&b"SSH "[..], &[0; 60]].concat()),
        (
            format!("{no_message}its first bytes are 0x52494e47"),
            hello_bytes(session, Role::Control { channels: 1 }).to_vec(),
        ),
        (format!("{no_message}its check does not fit"), damaged.to_vec()),
        (format!("{no_message}its reserved byte is 1"), with(welcome_bytes(session, 0), 12, &[1]).to_vec()),
        (
            "refused by the sender: it speaks another protocol version".to_owned(),
            with(welcome_bytes(session, 0), 8, &[0, 2]).to_vec(),
        ),
        (
            "the peer sent a welcome to another session while the session was set up".to_owned(),
            welcome_bytes(session, 0).to_vec(),
        ),
        (
            "the peer closed the control connection before it answered the hello".to_owned(),
            welcome_bytes(session, 0)[..63].to_vec(),
        ),
    ] {
        let giver = Giver::start();
        let (mut stream, _) = giver.door.hello();
        stream.write_all(&answer).expect("sent");
        drop(stream);
        let error = giver.fails();
        assert_eq!(error.to_string(), what);
        assert!(error.hint().is_some());
    }
}

#[test]
fn refusals_at_the_door_are_told_in_words() {
    for (code, words) in [
        (1, "it speaks another protocol version"),
        (3, "it is busy with another transfer"),
        (4, "the connection belongs to no session here"),
        (5, "the channel number is taken or out of range"),
        (900, "its reason has number 900, which this version does not know"),
    ] {
        let giver = Giver::start();
        let (mut stream, hello) = giver.door.hello();
        stream.write_all(&welcome_bytes(hello.session, code)).expect("sent");
        let error = giver.fails();
        assert_eq!(error.to_string(), format!("refused by the receiver: {words}"));
        assert!(matches!(error, Error::Refused { by: Side::Receiver, .. }));
    }
}

#[test]
fn a_refusal_of_another_version_is_read() {
    let giver = Giver::start();
    let (mut stream, hello) = giver.door.hello();
    stream.write_all(&with(welcome_bytes(hello.session, 1), 8, &[0, 9])).expect("sent");
    let error = giver.fails();
    assert!(matches!(error, Error::Refused { reason: Refusal::Version, .. }), "{error}");
}

#[test]
fn a_channel_that_is_refused_ends_the_transfer() {
    let giver = Giver::start();
    let (mut control, hello) = giver.door.hello();
    control.write_all(&welcome_bytes(hello.session, 0)).expect("sent");
    let (mut data, hello) = giver.door.hello();
    data.write_all(&welcome_bytes(hello.session, 5)).expect("sent");
    assert!(matches!(giver.fails(), Error::Refused { reason: Refusal::Channel, .. }));
    await_end(&mut control);
}

#[test]
fn a_hello_that_nobody_answers_is_given_up() {
    let giver = Giver::start();
    let (_stream, _) = giver.door.hello();
    let error = giver.fails();
    assert_eq!(error.to_string(), "no answer to the hello on the control connection within 5 s");
}

// ── a sender's control connection ────────────────────────────────────────────────────────────────────────────────────

/// Runs `answer` after the offer: how the sender ended, and its last word.
fn answered(answer: impl FnOnce(&mut Connections)) -> (Error, Option<Control>) {
    let giver = Giver::start();
    let mut peer = giver.door.welcome();
    assert!(matches!(peer.hear_word(), Some(Control::Offer(_))));
    answer(&mut peer);
    let last = peer.last_word();
    drop(peer);
    (giver.fails(), last)
}

fn assert_answer_found(expected: &str, answer: impl FnOnce(&mut Connections)) {
    let (error, last) = answered(answer);
    assert_eq!(error.to_string(), expected);
    assert_eq!(last, Some(Control::Abort { code: 1, text: expected.into() }));
}

#[test]
fn an_answer_to_the_offer_that_is_none_is_named() {
    assert_answer_found(&format!("{CONTROL}its first bytes are 0x00000000"), |peer| peer.write(&[0; 100]));
    assert_answer_found(&format!("{CONTROL}its kind is 0"), |peer| peer.write(&forged_control(0, b"")));
    assert_answer_found(&format!("{CONTROL}its code is 0"), |peer| peer.write(&forged_control(3, &[0; 4])));
    let early = |message: &Control| format!("the peer sent {} while agreeing on settings", message.name());
    for message in [
        Control::Ready,
        Control::Credit { device: 0, limit: 1 },
        Control::Loaded { device: 0, packets: 0, bytes: 0, crc32c: 0 },
        Control::Committed,
        Control::Commit,
        Control::Switchover,
        Control::Offer(an_offer(&["net0"])),
    ] {
        assert_answer_found(&early(&message), |peer| peer.say(&message));
    }
    assert_answer_found(&early(&Control::Accept), |peer| {
        peer.say(&Control::Accept);
        peer.say(&Control::Accept);
    });
    assert_answer_found(&early(&Control::Credit { device: 0, limit: 1 }), |peer| {
        peer.say(&Control::Accept);
        peer.say(&Control::Credit { device: 0, limit: 1 });
    });
}

#[test]
fn a_refusal_of_the_offer_is_told_in_the_receivers_words() {
    for (accepts, reason) in [
        (false, Refusal::Settings { text: "a smaller pool, please".into() }),
        (true, Refusal::NotReady { text: "device net0: no room".into() }),
        (false, Refusal::Other { code: 77, text: "the moon".into() }),
    ] {
        let (code, text) = reason.to_wire();
        let (error, last) = answered(|peer| {
            if accepts {
                peer.say(&Control::Accept);
            }
            peer.say(&Control::Refuse { code, text: text.into() });
        });
        assert!(
            matches!(&error, Error::Refused { by: Side::Receiver, reason: found } if *found == reason),
            "{error}"
        );
        assert_eq!(last, None, "a refusal is the last word");
    }
}

/// Runs `answer` on a receiver by hand that took everything and did not say so yet.
fn after_everything(answer: impl FnOnce(&mut Connections, &Control)) -> (Error, Option<Control>) {
    let giver = Giver::start();
    let (mut peer, loaded) = giver.door.welcome_and_take_all();
    answer(&mut peer, &loaded[0]);
    let last = peer.last_word();
    drop(peer);
    (giver.fails(), last)
}

#[test]
fn a_receiver_that_says_it_loaded_something_else_is_not_believed() {
    let lies: [fn(&mut u64, &mut u64, &mut u32); 3] =
        [|packets, _, _| *packets += 1, |_, bytes, _| *bytes -= 1, |_, _, crc32c| *crc32c ^= 1];
    for lie in lies {
        let (error, last) = after_everything(|peer, loaded| {
            let &Control::Loaded { device, mut packets, mut bytes, mut crc32c } = loaded else {
                unreachable!()
            };
            lie(&mut packets, &mut bytes, &mut crc32c);
            peer.say(&Control::Loaded { device, packets, bytes, crc32c });
        });
        assert!(matches!(error, Error::Peer(PeerError::LoadedDiffers { device: 0, .. })), "{error}");
        assert!(error.hint().expect("a hint").contains("changes bytes"));
        assert!(matches!(last, Some(Control::Abort { code: 1, .. })), "{last:?}");
    }
}

#[test]
fn words_that_do_not_belong_there_are_unexpected_when_everything_was_sent() {
    let text = |message: &str| format!("the peer sent {message} while the devices loaded");
    let cases: [(&str, Vec<Control>); 6] = [
        ("committed", vec![Control::Committed]),
        ("ready", vec![Control::Ready]),
        ("commit", vec![Control::Commit]),
        ("loaded", vec![Control::Loaded { device: 1, packets: 4, bytes: 10_000, crc32c: 0 }]),
        ("a credit limit that shrinks", vec![Control::Credit { device: 0, limit: 3 }]),
        ("credit for a device that does not exist", vec![Control::Credit { device: 1, limit: 3 }]),
    ];
    for (what, messages) in cases {
        let (error, last) = after_everything(|peer, _| messages.iter().for_each(|message| peer.say(message)));
        // the last packet may not count as sent yet
        let said = error.to_string().replace("in the middle of the state", "while the devices loaded");
        assert_eq!(said, text(what));
        assert!(matches!(last, Some(Control::Abort { code: 1, .. })), "{last:?}");
    }
}

#[test]
fn a_device_that_is_loaded_twice_is_unexpected() {
    let door = Door::open();
    let (source, journal) = TestSource::new(content(100));
    let sender =
        Sender::builder().device("net0", source).device("net1", Synthetic::new(1)).connect(door.addr);
    let sending = send(sender.channels(1).packet_size(PACKET).pool_size(HAND_POOL));
    let (mut peer, loaded) = door.welcome_and_take_all();
    peer.say(&loaded[0]);
    peer.say(&loaded[0]);
    assert!(matches!(peer.last_word(), Some(Control::Abort { code: 1, .. })));
    drop(peer);
    let finished = sending.finish();
    assert_eq!(finished.outcome, Outcome::Aborted);
    assert!(matches!(finished.error, Some(Error::Peer(PeerError::Unexpected { message: "loaded", .. }))));
    assert_eq!(journal.steps().last(), Some(&"rollback"));
}

#[test]
fn loaded_before_everything_was_sent_is_unexpected() {
    let (source, journal) = TestSource::new(content(10_000));
    journal.expect("config", Trouble::Wait);
    let giver = Giver::of((source, journal), 1);
    let (mut peer, _) = giver.door.welcome_and_agree();
    let (first, payload) = read_packet(&mut peer.data[0]).expect("a packet");
    assert_eq!((first.idx, first.config), (0, false));
    let crc32c = ringlift::wire::crc32c(0, &payload);
    peer.say(&Control::Loaded { device: 0, packets: 1, bytes: payload.len() as u64, crc32c });
    let last = std::iter::repeat_with(|| peer.hear_word()).find(|word| *word != Some(Control::Switchover));
    drop(peer);
    giver.journal.let_go("config");
    assert!(matches!(last.flatten(), Some(Control::Abort { code: 1, .. })), "it says why");
    let error = giver.fails();
    assert!(matches!(error, Error::Peer(PeerError::Unexpected { message: "loaded", .. })), "{error}");
}

#[test]
fn a_sender_never_goes_beyond_its_credit() {
    let giver = Giver::start();
    let mut peer = giver.door.welcome();
    assert!(matches!(peer.hear_word(), Some(Control::Offer(_))));
    peer.say(&Control::Accept);
    peer.say(&Control::Ready);
    for limit in [1, 1, 2, 3] {
        peer.say(&Control::Credit { device: 0, limit });
    }
    let mut idxs = Vec::new();
    for _ in 0..3 {
        idxs.push(read_packet(&mut peer.data[0]).expect("a packet").0.idx);
    }
    assert_eq!(idxs, [0, 1, 2]);
    // the config packet waits: what comes next is what its owner's heartbeats are for
    assert!(matches!(common::peer::hear(&mut peer.control), Ok(Control::Switchover | Control::Heartbeat)));
    peer.data[0].set_nonblocking(true).expect("a socket");
    let more = read_packet(&mut peer.data[0]).expect_err("no packet without credit");
    assert_eq!(more.kind(), std::io::ErrorKind::WouldBlock);
    peer.say(&Control::Cancel);
    drop(peer);
    assert!(matches!(giver.fails(), Error::Peer(PeerError::Cancelled)));
}

#[test]
fn a_receiver_that_dies_before_commit_gives_the_devices_back() {
    type Life = fn(&Giver);
    let lives: [(&str, Life); 5] = [
        ("before accept", |giver| drop(giver.door.welcome())),
        ("after accept", |giver| {
            let mut peer = giver.door.welcome();
            peer.say(&Control::Accept);
        }),
        ("after the first credit", |giver| drop(giver.door.welcome_and_agree())),
        ("in the middle", |giver| {
            let (mut peer, _) = giver.door.welcome_and_agree();
            read_packet(&mut peer.data[0]).expect("a packet");
        }),
        ("when it has everything", |giver| drop(giver.door.welcome_and_take_all())),
    ];
    for (when, live) in lives {
        let giver = Giver::start();
        live(&giver);
        let error = giver.fails();
        assert!(
            matches!(error, Error::Peer(PeerError::Closed { .. } | PeerError::Lost { .. })),
            "{when}: {error}"
        );
    }
}

#[test]
fn a_channel_that_the_receiver_closes_ends_the_transfer() {
    // large enough that no socket takes it all
    let giver = Giver::of(TestSource::new(content(50_000_000)), 2);
    let (mut peer, _) = giver.door.welcome_and_agree();
    peer.data.truncate(1);
    let last = peer.last_word();
    drop(peer);
    let error = giver.fails();
    assert!(matches!(error, Error::Peer(PeerError::Lost { place: Place::Channel(1), .. })), "{error}");
    assert_eq!(last, Some(Control::Abort { code: 1, text: error.to_string().into() }));
}

#[test]
fn a_reason_on_the_control_connection_goes_before_a_channel_that_closes() {
    let giver = Giver::of(TestSource::new(content(50_000_000)), 2);
    let (mut peer, _) = giver.door.welcome_and_agree();
    // both signs are there at once, whichever is seen first
    peer.say(&Control::Abort { code: 2, text: "device net0: on fire".into() });
    peer.data.clear();
    assert_eq!(peer.last_word(), None);
    drop(peer);
    let error = giver.fails();
    assert_eq!(error.to_string(), "the peer aborted: device net0: on fire");
}

#[test]
fn a_receiver_that_falls_silent_is_given_up() {
    let (error, last) = answered(|peer| peer.say(&Control::Accept));
    assert_eq!(error.to_string(), "the peer has said nothing for 10 s while agreeing on settings");
    assert!(matches!(last, Some(Control::Abort { code: 1, .. })), "{last:?}");
}

// ── after commit ─────────────────────────────────────────────────────────────────────────────────────────────────────

/// A receiver by hand that has commit.
fn committed(giver: &Giver) -> Connections {
    let (mut peer, loaded) = giver.door.welcome_and_take_all();
    assert_eq!(peer.hear_word(), Some(Control::Switchover));
    loaded.iter().for_each(|loaded| peer.say(loaded));
    assert_eq!(peer.hear_word(), Some(Control::Commit));
    peer
}

#[test]
fn a_receiver_that_dies_after_commit_leaves_the_sender_in_doubt() {
    let giver = Giver::start();
    drop(committed(&giver));
    let error = giver.doubts();
    let Error::InDoubt { cause } = &error else { unreachable!("{error}") };
    assert!(matches!(**cause, Error::Peer(PeerError::Closed { .. } | PeerError::Lost { .. })), "{cause}");
    assert!(error.to_string().starts_with("commit was sent and no answer came ("), "{error}");
}

#[test]
fn a_receiver_that_breaks_the_protocol_after_commit_leaves_the_sender_in_doubt() {
    let nonsense: [Vec<u8>; 4] = [
        vec![0; 32],
        control_bytes(&Control::Ready),
        control_bytes(&Control::Refuse { code: 8, text: "".into() }),
        control_bytes(&Control::Committed)[..8].to_vec(),
    ];
    for bytes in nonsense {
        let giver = Giver::start();
        let mut peer = committed(&giver);
        peer.write(&bytes);
        drop(peer);
        assert!(matches!(giver.doubts(), Error::InDoubt { .. }));
    }
}

#[test]
fn a_receiver_that_falls_silent_after_commit_leaves_the_sender_in_doubt() {
    let giver = Giver::start();
    let mut peer = committed(&giver);
    assert_eq!(peer.last_word(), None, "after commit a sender says nothing but heartbeats");
    drop(peer);
    let error = giver.doubts();
    assert!(error.to_string().contains("(the peer has said nothing for 10 s after commit)"), "{error}");
}

#[test]
fn a_receiver_that_gives_up_after_commit_gives_the_devices_back() {
    for word in [Control::Abort { code: 2, text: "device net0: on fire".into() }, Control::Cancel] {
        let giver = Giver::start();
        let mut peer = committed(&giver);
        peer.say(&word);
        assert_eq!(peer.last_word(), None);
        drop(peer);
        let error = giver.fails();
        assert!(matches!(error, Error::Peer(PeerError::Aborted { .. } | PeerError::Cancelled)), "{error}");
    }
}

#[test]
fn channels_that_close_after_commit_are_no_news() {
    let giver = Giver::start();
    let mut peer = committed(&giver);
    peer.data.clear();
    // both heartbeats and the answer are still heard
    assert_eq!(common::peer::hear(&mut peer.control).expect("a heartbeat"), Control::Heartbeat);
    peer.say(&Control::Committed);
    assert_eq!(peer.last_word(), None);
    drop(peer);
    let finished = giver.sending.finish();
    assert_eq!(finished.outcome, Outcome::Complete, "{:?}", finished.error);
    assert_eq!(giver.journal.steps().last(), Some(&"release"));
}

#[test]
fn a_sender_that_is_cancelled_after_commit_waits_for_the_answer() {
    let (source, journal) = TestSource::new(content(1000));
    let (door, cancel) = (Door::open(), ringlift::Cancel::new());
    let sender = Sender::builder().device("net0", source).connect(door.addr).cancel(&cancel);
    let sending = send(sender.channels(1).packet_size(PACKET).pool_size(HAND_POOL));
    let giver = Giver { door, journal, sending };
    let mut peer = committed(&giver);
    cancel.cancel();
    assert_eq!(common::peer::hear(&mut peer.control).expect("a heartbeat"), Control::Heartbeat);
    peer.say(&Control::Committed);
    assert_eq!(peer.last_word(), None);
    drop(peer);
    assert_eq!(giver.sending.finish().outcome, Outcome::Complete);
}

#[test]
fn an_unchecked_state_is_compared_by_its_length() {
    let (source, journal) = TestSource::new(content(1000));
    let door = Door::open();
    let sender = Sender::builder().device("net0", source).connect(door.addr).checksum(Checksum::None);
    let sending = send(sender.channels(1).packet_size(PACKET).pool_size(HAND_POOL));
    let giver = Giver { door, journal, sending };
    let (mut peer, offer) = giver.door.welcome_and_agree();
    assert_eq!(offer.checksum, Checksum::None);
    let loaded = take_all(&mut peer, 1);
    assert!(matches!(loaded[0], Control::Loaded { packets: 2, bytes: 1000, .. }));
    peer.say(&Control::Loaded { device: 0, packets: 2, bytes: 999, crc32c: 0 });
    drop(peer.last_word());
    drop(peer);
    let error = giver.fails();
    assert!(matches!(error, Error::Peer(PeerError::LoadedDiffers { found_bytes: 999, .. })), "{error}");
}

#[test]
fn what_is_malformed_names_itself_in_the_error() {
    let (error, _) = attack(|peer| peer.write_data(1, &[0; 64]));
    let expected = PeerError::Malformed { place: Place::Channel(1), what: Malformed::Magic { found: 0 } };
    assert!(matches!(&error, Error::Peer(found) if *found == expected), "{error}");
}

//! Senders that are broken or mean, written by hand: whatever they say, the receiver names what was wrong, resets its
//! devices, and takes the next transfer.

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};

use common::device::{Journal, TestSink, Trouble};
use common::peer::{
    Connections, PACKET, agree, an_offer, await_end, config_header, control_bytes, dial, forged_control,
    greet, greet_and_agree, header, header_bytes, hello_bytes, packet_bytes, welcome_of, with,
};
use common::{PATIENCE, Running, content, listen, pair, receive, run};
use ringlift::error::{Error, PeerError, Place, Refusal, Side};
use ringlift::limits::{CONFIG_SIZE_MAX, PACKET_SIZE_MAX, POOL_SIZE_MAX};
use ringlift::sink::Verify;
use ringlift::source::Synthetic;
use ringlift::wire::{Control, DataHeader, Malformed, Offer, Role, SessionId};
use ringlift::{Event, Finished, Listener, Outcome, Receiver};

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

#[test]
fn what_is_malformed_names_itself_in_the_error() {
    let (error, _) = attack(|peer| peer.write_data(1, &[0; 64]));
    let expected = PeerError::Malformed { place: Place::Channel(1), what: Malformed::Magic { found: 0 } };
    assert!(matches!(&error, Error::Peer(found) if *found == expected), "{error}");
}

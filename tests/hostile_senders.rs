//! Broken or malicious hand-written senders: whatever they send, the receiver reports what was wrong, resets its
//! devices, and serves the next transfer.

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;

use common::peer::{
    Connections, agree, an_offer, await_end, config_header, control_bytes, dial, forged_control, greet,
    header, hello_bytes, read_message, welcome_of, with,
};
use common::victim::{Victim, assert_found, assert_takes_the_next, attack, move_state, whole_state};
use common::{content, listen, receive};
use ringlift::error::{Error, PeerError, Refusal, Side};
use ringlift::limits::{PACKET_SIZE_MAX, POOL_SIZE_MAX};
use ringlift::sink::Verify;
use ringlift::wire::{Control, Offer, Role, SessionId};
use ringlift::{Outcome, Receiver};

const CONTROL: &str = "the peer sent what is no message of this protocol on the control connection: ";

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
    // and two that receive a refusal
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
    victim.cancel();
    let rejected = Arc::clone(&victim.rejected);
    let error = victim.fails();
    assert!(matches!(error, Error::Peer(PeerError::Cancelled)), "{error}");
    let rejected: Vec<String> = rejected.lock().expect("whole").iter().map(Error::to_string).collect();
    for (what, _) in &silently_closed {
        let said = format!("the peer sent what is no message of this protocol on a new connection: {what}");
        assert!(rejected.contains(&said), "{said}, but {rejected:#?}");
    }
    assert!(rejected.iter().any(|said| said == "the peer closed a new connection during the hello"));
    assert!(
        rejected.iter().any(|said| said == "refused by the receiver: it speaks another protocol version")
    );
    assert!(rejected.iter().any(|said| said.contains("belongs to no session here")));
}

#[test]
fn nobody_joins_a_session_that_is_being_set_up() {
    let victim = Victim::start();
    let addr = victim.listener.local_addr();
    let session = SessionId([3; 16]);
    let connect = |bytes: &[u8]| {
        let mut stream = dial(addr);
        stream.write_all(bytes).expect("sent");
        let refusal = welcome_of(&mut stream).expect("an answer").refusal;
        (stream, refusal)
    };
    let refusal_of = |bytes: &[u8]| connect(bytes).1;
    let (control, refusal) = connect(&hello_bytes(session, Role::Control { channels: 2 }));
    assert_eq!(refusal, 0);
    let (first, refusal) = connect(&hello_bytes(session, Role::Data { channel: 0 }));
    assert_eq!(refusal, 0);
    // a stale or a foreign session, a second control connection, a channel that is taken and one that was not announced
    assert_eq!(refusal_of(&hello_bytes(SessionId([4; 16]), Role::Data { channel: 1 })), 4);
    assert_eq!(refusal_of(&hello_bytes(session, Role::Control { channels: 2 })), 3);
    // another session may gather beside it
    assert_eq!(refusal_of(&hello_bytes(SessionId([4; 16]), Role::Control { channels: 2 })), 0);
    assert_eq!(refusal_of(&hello_bytes(session, Role::Data { channel: 0 })), 5);
    assert_eq!(refusal_of(&hello_bytes(session, Role::Data { channel: 2 })), 5);
    // and the session goes on
    let (second, refusal) = connect(&hello_bytes(session, Role::Data { channel: 1 }));
    assert_eq!(refusal, 0);
    let mut peer = agree(Connections { control, data: vec![first, second], session }, &an_offer(&["net0"]));
    // and no connection joins while it runs
    assert_eq!(refusal_of(&hello_bytes(session, Role::Control { channels: 1 })), 3);
    assert_eq!(refusal_of(&hello_bytes(session, Role::Data { channel: 0 })), 3);
    whole_state(&mut peer);
    assert_eq!(peer.next_message(), Some(Control::Committed));
    drop(peer);
    let received = victim.receiving.finish();
    assert_eq!(received.outcome, Outcome::Complete);
    assert!(victim.journal.bytes() == content(5000));
    assert_takes_the_next(&victim.listener);
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
    victim.cancel();
    let rejected = Arc::clone(&victim.rejected);
    victim.fails();
    let rejected = rejected.lock().expect("whole");
    assert!(
        rejected.iter().any(|error| error.to_string() == "only 0 of 2 data connections came within 10 s")
    );
}

#[test]
fn strangers_who_say_nothing_do_not_keep_a_sender_out() {
    let victim = Victim::start();
    let addr = victim.listener.local_addr();
    let silent: Vec<TcpStream> = (0..80).map(|_| dial(addr)).collect();
    victim.cancel();
    drop(silent);
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
    // a header that announces more than its kind may have is not waited for
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
        assert_found(&text, |peer| peer.send(&message));
    }
}

#[test]
fn messages_in_the_wrong_phase_are_unexpected() {
    let unexpected = |message: &str| format!("the peer sent {message} in the middle of the state");
    assert_found(&unexpected("offer"), |peer| peer.send(&Control::Offer(an_offer(&["net0"]))));
    assert_found(&unexpected("commit"), |peer| peer.send(&Control::Commit));
    assert_found(&unexpected("switchover"), |peer| {
        peer.send(&Control::Switchover);
        peer.send(&Control::Switchover);
    });
}

#[test]
fn a_commit_before_everything_is_loaded_lets_nothing_run() {
    assert_found("the peer sent commit in the middle of the state", |peer| {
        peer.send(&Control::Switchover);
        peer.packet(0, &header(0, 0, b"state"), b"state");
        peer.send(&Control::Commit);
    });
}

#[test]
fn a_commit_without_switchover_lets_nothing_run() {
    assert_found("the peer sent commit while the devices loaded", |peer| {
        peer.packet(0, &config_header(0, 0, b""), b"");
        assert!(matches!(peer.next_message(), Some(Control::Loaded { .. })));
        peer.send(&Control::Commit);
    });
}

#[test]
fn messages_before_the_offer_are_unexpected() {
    for message in [Control::Switchover, Control::Commit, Control::Accept] {
        let victim = Victim::start();
        let mut peer = victim.greet();
        peer.send(&message);
        let text = format!("the peer sent {} while agreeing on settings", message.name());
        assert_eq!(peer.final_message(), Some(Control::Abort { code: 1, text: text.clone().into() }));
        drop(peer);
        assert_eq!(victim.fails().to_string(), text);
    }
}

/// What a receiver answers to an offer, and its error.
fn answer_to(bytes: &[u8]) -> (Option<Control>, Error) {
    let victim = Victim::start();
    let mut peer = victim.greet();
    peer.write(bytes);
    let last = peer.final_message();
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
        (Refusal::Feature, offer(Offer { features: 1 << 31, ..good.clone() })),
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

#[test]
fn estimates_that_no_sum_can_hold_are_only_estimates() {
    let (listener, names) = (listen(), ["net0", "net1"]);
    let receiver =
        names.iter().fold(Receiver::builder(), |builder, name| builder.device(name, Verify::new()));
    let receiving = receive(receiver.listener(&listener));
    let mut offer = an_offer(&names);
    offer.devices.iter_mut().for_each(|device| device.estimate = u64::MAX);
    let mut peer = agree(greet(listener.local_addr(), 1), &offer);
    peer.send(&Control::Cancel);
    drop(peer);
    let error = receiving.finish().error.expect("it was cancelled");
    assert!(matches!(error, Error::Peer(PeerError::Cancelled)), "{error}");
}

// ── after everything is loaded ───────────────────────────────────────────────────────────────────────────────────────

/// Closes a connection by a reset.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).expect("TCP");
    drop(stream);
}

/// Moves all state up to *loaded*.
fn all_loaded(victim: &Victim) -> Connections {
    let mut peer = victim.greet_and_agree();
    move_state(&mut peer);
    peer
}

#[test]
fn a_data_connection_that_is_reset_when_everything_is_loaded_is_not_needed_any_more() {
    let victim = Victim::start();
    let mut peer = all_loaded(&victim);
    peer.data.drain(..).for_each(reset);
    // by its next heartbeat the receiver has seen the reset
    while matches!(read_message(&mut peer.control).expect("it goes on"), Control::Credit { .. }) {}
    peer.send(&Control::Commit);
    assert_eq!(peer.next_message(), Some(Control::Committed));
    drop(peer);
    assert_eq!(victim.receiving.finish().outcome, Outcome::Complete);
}

#[test]
fn whatever_comes_with_commit_or_after_it_changes_nothing() {
    let commit = control_bytes(&Control::Commit);
    for more in [commit.clone(), b"garbage that is no message".to_vec(), commit[..7].to_vec()] {
        let victim = Victim::start();
        let mut peer = all_loaded(&victim);
        peer.write(&[&commit[..], &more].concat());
        peer.data.drain(..).for_each(reset);
        assert_eq!(peer.next_message(), Some(Control::Committed), "{more:?}");
        drop(peer);
        assert_eq!(victim.receiving.finish().outcome, Outcome::Complete);
    }
}

#[test]
fn a_control_connection_that_is_reset_after_commit_has_delivered_it() {
    let victim = Victim::start();
    let mut peer = all_loaded(&victim);
    peer.send(&Control::Commit);
    reset(peer.control);
    assert_eq!(victim.receiving.finish().outcome, Outcome::Complete);
}

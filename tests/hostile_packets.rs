//! Malformed or malicious packets, and senders that die: the receiver reports what was wrong, and no device is left
//! half loaded.

mod common;

use std::sync::Arc;

use common::device::Trouble;
use common::peer::{Connections, PACKET, config_header, header, header_bytes, packet_bytes, with};
use common::victim::{Victim, assert_found, assert_takes_the_next, attack, somewhere, whole_state};
use ringlift::Outcome;
use ringlift::error::{Error, PeerError, Place};
use ringlift::limits::CONFIG_SIZE_MAX;
use ringlift::wire::{Control, DataHeader, Malformed};

const CHANNEL_0: &str = "the peer sent what is no message of this protocol on channel 0: ";

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
    let last = peer.final_message();
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
    drop(peer.final_message());
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
    // still waiting to be next, on the other channel
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
            peer.send(&Control::Switchover);
            peer.packet(0, &config_header(0, 0, b""), b"");
            assert!(matches!(peer.next_message(), Some(Control::Loaded { .. })));
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
    peer.send(&Control::Switchover);
    // the config packet has no room before one of the others has left
    let limit = loop {
        match common::peer::read_message(&mut peer.control).expect("credit") {
            Control::Credit { limit, .. } if limit > 15 => break limit,
            _ => {}
        }
    };
    assert!(limit <= 30);
    peer.packet(1, &config_header(0, 15, b""), b"");
    assert!(matches!(peer.next_message(), Some(Control::Loaded { packets: 16, .. })));
    peer.send(&Control::Commit);
    assert_eq!(peer.next_message(), Some(Control::Committed));
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
        // idx 1 never arrives
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
                peer.send(&Control::Switchover);
                peer.packet(0, &config_header(0, 0, b""), b"");
                assert!(matches!(peer.next_message(), Some(Control::Loaded { .. })));
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
    while victim.rejected.lock().expect("whole").is_empty() {
        std::thread::yield_now();
    }
    victim.cancel();
    let rejected = Arc::clone(&victim.rejected);
    assert!(matches!(victim.fails(), Error::Peer(PeerError::Cancelled)));
    let error = &rejected.lock().expect("whole")[0];
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
    let victim = Victim::with(|journal| journal.expect("pre_run", Trouble::Wait));
    let mut peer = victim.greet_and_agree();
    whole_state(&mut peer);
    victim.journal.await_step("pre_run");
    drop(peer);
    victim.journal.let_go("pre_run");
    let received = victim.receiving.finish();
    assert_eq!(received.outcome, Outcome::Complete, "{:?}", received.error);
    assert_eq!(victim.journal.steps().last(), Some(&"run"));
    assert_takes_the_next(&victim.listener);
}

#[test]
fn messages_after_commit_change_nothing() {
    for word in [Control::Cancel, Control::Abort { code: 0, text: "too late".into() }, Control::Commit] {
        let victim = Victim::with(|journal| journal.expect("pre_run", Trouble::Wait));
        let mut peer = victim.greet_and_agree();
        whole_state(&mut peer);
        victim.journal.await_step("pre_run");
        peer.send(&word);
        peer.write(b"and garbage that is no message");
        victim.journal.let_go("pre_run");
        assert_eq!(peer.next_message(), Some(Control::Committed), "{word:?}");
        drop(peer);
        let received = victim.receiving.finish();
        assert_eq!(received.outcome, Outcome::Complete, "{word:?}: {:?}", received.error);
        assert_eq!(victim.journal.steps().last(), Some(&"run"));
    }
}

#[test]
fn a_device_that_runs_late_is_waited_for_though_its_sender_is_gone() {
    let victim = Victim::with(|journal| journal.expect("pre_run", Trouble::Wait));
    let mut peer = victim.greet_and_agree();
    whole_state(&mut peer);
    victim.journal.await_step("pre_run");
    // longer than a peer may be silent: the receiver must neither abandon the step nor spin on the peer's silence
    assert_eq!(silence_of(&mut peer), None, "it sends heartbeats until the device runs");
    drop(peer);
    victim.journal.let_go("pre_run");
    victim.journal.await_step("run");
    let received = victim.receiving.finish();
    assert_eq!(received.outcome, Outcome::Complete, "{:?}", received.error);
}

/// Listens for 11 s, longer than a peer may be silent; returns the first message that is not a heartbeat.
fn silence_of(peer: &mut Connections) -> Option<Control> {
    for _ in 0..11 {
        match common::peer::read_message(&mut peer.control).expect("a heartbeat each second") {
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

//! Broken or malicious hand-written receivers: whatever they send, the sender reports what was wrong and brings its
//! devices back, or keeps them when the outcome is unknown.

mod common;

use std::io::Write;

use common::device::{Journal, TestSource, Trouble};
use common::peer::{
    Acceptor, Connections, HAND_POOL, PACKET, an_offer, await_end, control_bytes, forged_control,
    hello_bytes, read_packet, take_all, welcome_bytes, with,
};
use common::{Running, content, send};
use ringlift::error::{Error, PeerError, Place, Refusal, Side};
use ringlift::source::Synthetic;
use ringlift::wire::{Checksum, Control, ControlKind, Role, SessionId};
use ringlift::{Finished, Outcome, Sender};

const CONTROL: &str = "the peer sent what is no message of this protocol on the control connection: ";

// ── a sender's new connections ───────────────────────────────────────────────────────────────────────────────────────

/// A sender of one device, for a hand-written receiver.
struct TestSender {
    acceptor: Acceptor,
    journal: Journal,
    sending: Running<Finished>,
}

impl TestSender {
    fn start() -> TestSender {
        TestSender::of(TestSource::new(content(10_000)), 1)
    }

    fn of((source, journal): (TestSource, Journal), channels: u16) -> TestSender {
        let acceptor = Acceptor::open();
        let sender = Sender::builder().device("net0", source).connect(acceptor.addr);
        let sender = sender.channels(channels).packet_size(PACKET).pool_size(HAND_POOL);
        TestSender { sending: send(sender), acceptor, journal }
    }

    /// Asserts that it gave up and its device is back in its earlier state; returns its error.
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

    /// Asserts that it is in doubt and its device stays as it is; returns its error.
    fn into_in_doubt(self) -> Error {
        let finished = self.sending.finish();
        assert_eq!(finished.outcome, Outcome::InDoubt, "{:?}", finished.error);
        assert_eq!(finished.report.outcome, ringlift::report::TransferOutcome::InDoubt);
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
            "the peer answered the hello on the control connection with a welcome to another session"
                .to_owned(),
            welcome_bytes(session, 0).to_vec(),
        ),
        (
            "the peer closed the control connection during the hello".to_owned(),
            welcome_bytes(session, 0)[..63].to_vec(),
        ),
    ] {
        let tested = TestSender::start();
        let (mut stream, _) = tested.acceptor.hello();
        stream.write_all(&answer).expect("sent");
        drop(stream);
        let error = tested.fails();
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
        let tested = TestSender::start();
        let (mut stream, hello) = tested.acceptor.hello();
        stream.write_all(&welcome_bytes(hello.session, code)).expect("sent");
        let error = tested.fails();
        assert_eq!(error.to_string(), format!("refused by the receiver: {words}"));
        assert!(matches!(error, Error::Refused { by: Side::Receiver, .. }));
    }
}

#[test]
fn a_refusal_of_another_version_is_read() {
    let tested = TestSender::start();
    let (mut stream, hello) = tested.acceptor.hello();
    stream.write_all(&with(welcome_bytes(hello.session, 1), 8, &[0, 9])).expect("sent");
    let error = tested.fails();
    assert!(matches!(error, Error::Refused { reason: Refusal::Version, .. }), "{error}");
}

#[test]
fn a_channel_that_is_refused_ends_the_transfer() {
    let tested = TestSender::start();
    let (mut control, hello) = tested.acceptor.hello();
    control.write_all(&welcome_bytes(hello.session, 0)).expect("sent");
    let (mut data, hello) = tested.acceptor.hello();
    data.write_all(&welcome_bytes(hello.session, 5)).expect("sent");
    assert!(matches!(tested.fails(), Error::Refused { reason: Refusal::Channel, .. }));
    await_end(&mut control);
}

#[test]
fn a_hello_that_nobody_answers_is_given_up() {
    let tested = TestSender::start();
    let (_stream, _) = tested.acceptor.hello();
    let error = tested.fails();
    assert_eq!(error.to_string(), "no answer to the hello on the control connection within 5 s");
}

// ── a sender's control connection ────────────────────────────────────────────────────────────────────────────────────

/// Runs `answer` after the offer; returns the sender's error and its final message.
fn answered(answer: impl FnOnce(&mut Connections)) -> (Error, Option<Control>) {
    let tested = TestSender::start();
    let mut peer = tested.acceptor.welcome();
    assert!(matches!(peer.next_message(), Some(Control::Offer(_))));
    answer(&mut peer);
    let last = peer.final_message();
    drop(peer);
    (tested.fails(), last)
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
        assert_answer_found(&early(&message), |peer| peer.send(&message));
    }
    assert_answer_found(&early(&Control::Accept), |peer| {
        peer.send(&Control::Accept);
        peer.send(&Control::Accept);
    });
    assert_answer_found(&early(&Control::Credit { device: 0, limit: 1 }), |peer| {
        peer.send(&Control::Accept);
        peer.send(&Control::Credit { device: 0, limit: 1 });
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
                peer.send(&Control::Accept);
            }
            peer.send(&Control::Refuse { code, text: text.into() });
        });
        assert!(
            matches!(&error, Error::Refused { by: Side::Receiver, reason: found } if *found == reason),
            "{error}"
        );
        assert_eq!(last, None, "a refusal is the final message");
    }
}

/// Runs `answer` on a hand-written receiver that has received everything and not sent *loaded* yet.
fn after_everything(answer: impl FnOnce(&mut Connections, &Control)) -> (Error, Option<Control>) {
    let tested = TestSender::start();
    let (mut peer, loaded) = tested.acceptor.welcome_and_take_all();
    answer(&mut peer, &loaded[0]);
    let last = peer.final_message();
    drop(peer);
    (tested.fails(), last)
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
            peer.send(&Control::Loaded { device, packets, bytes, crc32c });
        });
        assert!(matches!(error, Error::Peer(PeerError::LoadedDiffers { device: 0, .. })), "{error}");
        assert!(error.hint().expect("a hint").contains("changes bytes"));
        assert!(matches!(last, Some(Control::Abort { code: 1, .. })), "{last:?}");
    }
}

#[test]
fn messages_that_do_not_belong_there_are_unexpected_when_everything_was_sent() {
    let text = |message: &str| format!("the peer sent {message} while the devices loaded");
    let cases: [(String, Vec<Control>); 6] = [
        (text("committed"), vec![Control::Committed]),
        (text("ready"), vec![Control::Ready]),
        (text("commit"), vec![Control::Commit]),
        (text("loaded"), vec![Control::Loaded { device: 1, packets: 4, bytes: 10_000, crc32c: 0 }]),
        (
            "device 0: the peer sent a credit limit that shrinks".to_owned(),
            vec![Control::Credit { device: 0, limit: 3 }],
        ),
        (
            "device 1: the peer sent credit for a device that does not exist".to_owned(),
            vec![Control::Credit { device: 1, limit: 3 }],
        ),
    ];
    for (what, messages) in cases {
        let (error, last) =
            after_everything(|peer, _| messages.iter().for_each(|message| peer.send(message)));
        // the last packet may not count as sent yet
        let said = error.to_string().replace("in the middle of the state", "while the devices loaded");
        assert_eq!(said, what);
        assert!(matches!(last, Some(Control::Abort { code: 1, .. })), "{last:?}");
    }
}

#[test]
fn a_device_that_is_loaded_twice_is_unexpected() {
    let acceptor = Acceptor::open();
    let (source, journal) = TestSource::new(content(100));
    let sender =
        Sender::builder().device("net0", source).device("net1", Synthetic::new(1)).connect(acceptor.addr);
    let sending = send(sender.channels(1).packet_size(PACKET).pool_size(HAND_POOL));
    let (mut peer, loaded) = acceptor.welcome_and_take_all();
    peer.send(&loaded[0]);
    peer.send(&loaded[0]);
    assert!(matches!(peer.final_message(), Some(Control::Abort { code: 1, .. })));
    drop(peer);
    let finished = sending.finish();
    assert_eq!(finished.outcome, Outcome::Aborted);
    assert!(matches!(
        finished.error,
        Some(Error::Peer(PeerError::Unexpected { message: ControlKind::Loaded, .. }))
    ));
    assert_eq!(journal.steps().last(), Some(&"rollback"));
}

#[test]
fn loaded_before_everything_was_sent_is_unexpected() {
    let (source, journal) = TestSource::new(content(10_000));
    journal.expect("config", Trouble::Wait);
    let tested = TestSender::of((source, journal), 1);
    let (mut peer, _) = tested.acceptor.welcome_and_agree();
    let (first, payload) = read_packet(&mut peer.data[0]).expect("a packet");
    assert_eq!((first.idx, first.config), (0, false));
    let crc32c = ringlift::wire::crc32c(0, &payload);
    peer.send(&Control::Loaded { device: 0, packets: 1, bytes: payload.len() as u64, crc32c });
    let last = std::iter::repeat_with(|| peer.next_message()).find(|word| *word != Some(Control::Switchover));
    drop(peer);
    tested.journal.let_go("config");
    assert!(matches!(last.flatten(), Some(Control::Abort { code: 1, .. })), "it sends the reason");
    let error = tested.fails();
    assert!(
        matches!(error, Error::Peer(PeerError::Unexpected { message: ControlKind::Loaded, .. })),
        "{error}"
    );
}

#[test]
fn a_sender_never_goes_beyond_its_credit() {
    let tested = TestSender::start();
    let mut peer = tested.acceptor.welcome();
    assert!(matches!(peer.next_message(), Some(Control::Offer(_))));
    peer.send(&Control::Accept);
    peer.send(&Control::Ready);
    for limit in [1, 1, 2, 3] {
        peer.send(&Control::Credit { device: 0, limit });
    }
    let mut idxs = Vec::new();
    for _ in 0..3 {
        idxs.push(read_packet(&mut peer.data[0]).expect("a packet").0.idx);
    }
    assert_eq!(idxs, [0, 1, 2]);
    // the config packet waits: only switchover or a heartbeat may come next
    assert!(matches!(
        common::peer::read_message(&mut peer.control),
        Ok(Control::Switchover | Control::Heartbeat)
    ));
    peer.data[0].set_nonblocking(true).expect("a socket");
    let more = read_packet(&mut peer.data[0]).expect_err("no packet without credit");
    assert_eq!(more.kind(), std::io::ErrorKind::WouldBlock);
    peer.send(&Control::Cancel);
    drop(peer);
    assert!(matches!(tested.fails(), Error::Peer(PeerError::Cancelled)));
}

#[test]
fn a_receiver_that_dies_before_commit_gives_the_devices_back() {
    type Life = fn(&TestSender);
    let lives: [(&str, Life); 5] = [
        ("before accept", |tested| drop(tested.acceptor.welcome())),
        ("after accept", |tested| {
            let mut peer = tested.acceptor.welcome();
            peer.send(&Control::Accept);
        }),
        ("after the first credit", |tested| drop(tested.acceptor.welcome_and_agree())),
        ("in the middle", |tested| {
            let (mut peer, _) = tested.acceptor.welcome_and_agree();
            read_packet(&mut peer.data[0]).expect("a packet");
        }),
        ("when it has everything", |tested| drop(tested.acceptor.welcome_and_take_all())),
    ];
    for (when, live) in lives {
        let tested = TestSender::start();
        live(&tested);
        let error = tested.fails();
        assert!(
            matches!(error, Error::Peer(PeerError::Closed { .. } | PeerError::Lost { .. })),
            "{when}: {error}"
        );
    }
}

#[test]
fn a_channel_that_the_receiver_closes_ends_the_transfer() {
    // too large for any socket to take all of it
    let tested = TestSender::of(TestSource::new(content(50_000_000)), 2);
    let (mut peer, _) = tested.acceptor.welcome_and_agree();
    peer.data.truncate(1);
    let last = peer.final_message();
    drop(peer);
    let error = tested.fails();
    assert!(matches!(error, Error::Peer(PeerError::Lost { place: Place::Channel(1), .. })), "{error}");
    assert_eq!(last, Some(Control::Abort { code: 1, text: error.to_string().into() }));
}

#[test]
fn a_reason_on_the_control_connection_goes_before_a_channel_that_closes() {
    let tested = TestSender::of(TestSource::new(content(50_000_000)), 2);
    let (mut peer, _) = tested.acceptor.welcome_and_agree();
    // both signs are present, whichever is seen first
    peer.send(&Control::Abort { code: 2, text: "device net0: on fire".into() });
    peer.data.clear();
    assert_eq!(peer.final_message(), None);
    drop(peer);
    let error = tested.fails();
    assert_eq!(error.to_string(), "the peer aborted: device net0: on fire");
}

#[test]
fn a_receiver_that_falls_silent_is_given_up() {
    let (error, last) = answered(|peer| peer.send(&Control::Accept));
    assert_eq!(error.to_string(), "the peer has said nothing for 10 s while agreeing on settings");
    assert!(matches!(last, Some(Control::Abort { code: 1, .. })), "{last:?}");
}

// ── after commit ─────────────────────────────────────────────────────────────────────────────────────────────────────

/// A hand-written receiver that has received commit.
fn committed(tested: &TestSender) -> Connections {
    let (mut peer, loaded) = tested.acceptor.welcome_and_take_all();
    assert_eq!(peer.next_message(), Some(Control::Switchover));
    loaded.iter().for_each(|loaded| peer.send(loaded));
    assert_eq!(peer.next_message(), Some(Control::Commit));
    peer
}

#[test]
fn a_receiver_that_dies_after_commit_leaves_the_sender_in_doubt() {
    let tested = TestSender::start();
    drop(committed(&tested));
    let error = tested.into_in_doubt();
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
        let tested = TestSender::start();
        let mut peer = committed(&tested);
        peer.write(&bytes);
        drop(peer);
        assert!(matches!(tested.into_in_doubt(), Error::InDoubt { .. }));
    }
}

#[test]
fn a_receiver_that_falls_silent_after_commit_leaves_the_sender_in_doubt() {
    let tested = TestSender::start();
    let mut peer = committed(&tested);
    assert_eq!(peer.final_message(), None, "after commit a sender sends nothing but heartbeats");
    drop(peer);
    let error = tested.into_in_doubt();
    assert!(error.to_string().contains("(the peer has said nothing for 10 s after commit)"), "{error}");
}

#[test]
fn a_receiver_that_gives_up_after_commit_gives_the_devices_back() {
    for word in [Control::Abort { code: 2, text: "device net0: on fire".into() }, Control::Cancel] {
        let tested = TestSender::start();
        let mut peer = committed(&tested);
        peer.send(&word);
        assert_eq!(peer.final_message(), None);
        drop(peer);
        let error = tested.fails();
        assert!(matches!(error, Error::Peer(PeerError::Aborted { .. } | PeerError::Cancelled)), "{error}");
    }
}

#[test]
fn channels_that_close_after_commit_change_nothing() {
    let tested = TestSender::start();
    let mut peer = committed(&tested);
    peer.data.clear();
    // heartbeats and the answer are still received
    assert_eq!(common::peer::read_message(&mut peer.control).expect("a heartbeat"), Control::Heartbeat);
    peer.send(&Control::Committed);
    assert_eq!(peer.final_message(), None);
    drop(peer);
    let finished = tested.sending.finish();
    assert_eq!(finished.outcome, Outcome::Complete, "{:?}", finished.error);
    assert_eq!(tested.journal.steps().last(), Some(&"release"));
}

#[test]
fn whatever_comes_behind_committed_changes_nothing_but_the_report() {
    let part = |total: u32, offset: u32, bytes: &[u8]| {
        control_bytes(&Control::Report { total, offset, bytes: bytes.into() })
    };
    let nested = format!("{}1{}", "[".repeat(60_000), "]".repeat(60_000));
    let cases: [(&str, Vec<u8>); 8] = [
        ("nothing, and silence", Vec::new()),
        ("no JSON", part(7, 0, b"garbage")),
        ("JSON of something else", part(2, 0, b"{}")),
        (
            "brackets",
            [
                part(120_001, 0, &nested.as_bytes()[..60_000]),
                part(120_001, 60_000, &nested.as_bytes()[60_000..]),
            ]
            .concat(),
        ),
        ("half of it", part(1 << 20, 0, &[b' '; 1000])),
        ("parts that do not fit", [part(9, 0, b"abc"), part(8, 3, b"def")].concat()),
        (
            "a report longer than one may be",
            forged_control(15, &[&[0, 16, 0, 1, 0, 0, 0, 0][..], b"x"].concat()),
        ),
        ("no message at all", vec![0xff; 200]),
    ];
    for (what, bytes) in cases {
        let tested = TestSender::start();
        let mut peer = committed(&tested);
        peer.write(&[control_bytes(&Control::Committed), bytes].concat());
        assert_eq!(peer.final_message(), None, "{what}");
        drop(peer);
        let finished = tested.sending.finish();
        assert!(
            finished.outcome == Outcome::Complete && finished.error.is_none(),
            "{what}: {:?}",
            finished.error
        );
        assert!(finished.report.other_side.is_none() && finished.report.warnings.len() < 3, "{what}");
        assert_eq!(tested.journal.steps().last(), Some(&"release"), "{what}");
        assert!(finished.report.downtime.total_ns <= finished.report.duration_ns, "{what}");
    }
}

#[test]
fn a_pong_that_nobody_asked_for_is_unexpected() {
    let pong = Control::Pong { at: 1, received_at: 2, sent_at: 3 };
    let (error, last) = after_everything(|peer, _| peer.send(&pong));
    assert!(error.to_string().contains("pong"), "{error}");
    assert!(matches!(last, Some(Control::Abort { code: 1, .. })), "{last:?}");
}

#[test]
fn a_sender_that_is_cancelled_after_commit_waits_for_the_answer() {
    let (source, journal) = TestSource::new(content(1000));
    let (acceptor, cancel) = (Acceptor::open(), ringlift::Cancel::new());
    let sender = Sender::builder().device("net0", source).connect(acceptor.addr).cancel(&cancel);
    let sending = send(sender.channels(1).packet_size(PACKET).pool_size(HAND_POOL));
    let tested = TestSender { acceptor, journal, sending };
    let mut peer = committed(&tested);
    cancel.cancel();
    assert_eq!(common::peer::read_message(&mut peer.control).expect("a heartbeat"), Control::Heartbeat);
    peer.send(&Control::Committed);
    assert_eq!(peer.final_message(), None);
    drop(peer);
    assert_eq!(tested.sending.finish().outcome, Outcome::Complete);
}

#[test]
fn an_unchecked_state_is_compared_by_its_length() {
    let (source, journal) = TestSource::new(content(1000));
    let acceptor = Acceptor::open();
    let sender = Sender::builder().device("net0", source).connect(acceptor.addr).checksum(Checksum::None);
    let sending = send(sender.channels(1).packet_size(PACKET).pool_size(HAND_POOL));
    let tested = TestSender { acceptor, journal, sending };
    let (mut peer, offer) = tested.acceptor.welcome_and_agree();
    assert_eq!(offer.checksum, Checksum::None);
    let loaded = take_all(&mut peer, 1);
    assert!(matches!(loaded[0], Control::Loaded { packets: 2, bytes: 1000, .. }));
    peer.send(&Control::Loaded { device: 0, packets: 2, bytes: 999, crc32c: 0 });
    drop(peer.final_message());
    drop(peer);
    let error = tested.fails();
    assert!(matches!(error, Error::Peer(PeerError::LoadedDiffers { found_bytes: 999, .. })), "{error}");
}

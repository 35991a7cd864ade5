//! The receiver's session: what it accepts, what it refuses, and how long it waits.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::*;
use crate::limits::PROGRESS_MIN;
use crate::time::nanos;
use crate::wire::{DeviceOffer, Malformed, crc32c};

fn offer(names: &[&str]) -> Offer {
    let device = |name: &&str| DeviceOffer { name: (*name).into(), instance: 0, estimate: 0 };
    Offer {
        features: 0,
        packet_size: 4096,
        pool_size: 1 << 20,
        checksum: Checksum::Crc32c,
        devices: names.iter().map(device).collect(),
    }
}

fn header(device: u16, idx: u64, config: bool, payload: &[u8]) -> DataHeader {
    let (len, crc32c) = (u32::try_from(payload.len()).unwrap(), crc32c(0, payload));
    DataHeader { device, idx, config, len, crc32c, read_at_ns: 0, sent_at_ns: 0 }
}

/// A pool of `slots` for devices that are larger.
fn credit(slots: u32, devices: usize) -> Credit {
    Credit::new(slots, std::iter::repeat_n(Some(u64::from(slots)), devices)).unwrap()
}

fn ready(window: u32) -> ReceiverSession<u32> {
    let mut session = ReceiverSession::new(0);
    session.on_control(Control::Offer(offer(&["a"])), 0).unwrap();
    let offer = session.take_offer().unwrap();
    session.accept(&offer, PacketSize::MIN, credit(window, 1));
    session.ready(0);
    while session.poll_control(0).is_some() {}
    session
}

fn arrive(session: &mut ReceiverSession<u32>, header: DataHeader) {
    session.on_header(&header, Place::Channel(0)).unwrap();
    session.on_packet(header, 0, header.crc32c, Place::Channel(0), 0).unwrap();
}

#[test]
fn sends_accept_then_ready_then_credit() {
    let mut session = ReceiverSession::<u32>::new(0);
    session.on_control(Control::Offer(offer(&["a", "b"])), 0).unwrap();
    let offer = session.take_offer().unwrap();
    session.accept(&offer, PacketSize::MIN, credit(8, 2));
    session.ready(0);
    let sent: Vec<_> = std::iter::from_fn(|| session.poll_control(0)).collect();
    let credit = |device| Control::Credit { device, limit: 4 };
    assert_eq!(sent, [Control::Accept, Control::Ready, credit(0), credit(1)]);
}

#[test]
fn says_how_much_may_warm_connections_up_before_ready_and_only_when_asked() {
    for features in [0, FEATURE_WARM_UP] {
        let mut session = ReceiverSession::<u32>::new(0);
        let offer = Offer { features, ..offer(&["a"]) };
        session.accept(&offer, PacketSize::MIN, credit(4, 1));
        let granted = session.grant_warm_up(&offer, 4);
        session.ready(0);
        let sent: Vec<_> = std::iter::from_fn(|| session.poll_control(0)).take(3).collect();
        let credit = Control::Credit { device: 0, limit: 4 };
        if features == 0 {
            assert_eq!((granted, &sent[..]), (0, &[Control::Accept, Control::Ready, credit][..]));
        } else {
            let warm_up = Control::WarmUp { bytes: WARM_UP_MAX / 4 };
            assert_eq!(
                (granted, &sent[..]),
                (WARM_UP_MAX / 4, &[Control::Accept, warm_up, Control::Ready][..])
            );
        }
    }
}

#[test]
fn a_dry_run_is_told_from_other_aborts() {
    let abort = |code| ready(1).on_control(Control::Abort { code, text: "".into() }, 0).unwrap_err();
    assert!(matches!(abort(5), Error::Peer(PeerError::DryRun)));
    assert!(matches!(abort(4), Error::Peer(PeerError::Aborted { .. })));
}

#[test]
fn grants_credit_as_packets_are_written() {
    let mut session = ready(2);
    arrive(&mut session, header(0, 0, false, b"x"));
    assert!(session.pop(DeviceIdx(0)).is_some());
    assert_eq!(session.poll_control(0), None);
    session.written(DeviceIdx(0), 0);
    assert_eq!(session.poll_control(0), Some(Control::Credit { device: 0, limit: 3 }));
}

#[test]
fn rejects_packets_that_break_the_order() {
    let mut session = ready(2);
    let place = Place::Channel(1);
    let order = |result: Result<(), PeerError>| matches!(result, Err(PeerError::Order { .. }));
    assert!(order(session.on_header(&header(0, 2, false, b"x"), place)), "beyond credit");
    session.on_header(&header(0, 0, false, b"x"), place).unwrap();
    assert!(order(session.on_header(&header(0, 0, false, b"x"), place)), "twice, before its payload came");
    let unknown = session.on_header(&header(1, 0, false, b"x"), place);
    assert!(matches!(unknown, Err(PeerError::Malformed { what: Malformed::Value { .. }, .. })));
    let long = DataHeader { len: 4097, ..header(0, 1, false, b"x") };
    let long = session.on_header(&long, place);
    assert!(matches!(long, Err(PeerError::Malformed { what: Malformed::TooLong { .. }, .. })));
}

#[test]
fn rejects_a_payload_with_another_checksum() {
    let mut session = ready(2);
    let header = header(0, 0, false, b"x");
    session.on_header(&header, Place::Channel(0)).unwrap();
    let result = session.on_packet(header, 9, header.crc32c ^ 1, Place::Channel(0), 0);
    assert!(matches!(result, Err((PeerError::Checksum { idx: 0, .. }, 9))));
}

#[test]
fn reports_loaded_with_the_checksum_of_the_whole_state() {
    let mut session = ready(4);
    arrive(&mut session, header(0, 1, true, b"de"));
    arrive(&mut session, header(0, 0, false, b"abc"));
    while session.pop(DeviceIdx(0)).is_some() {}
    session.loaded(DeviceIdx(0));
    assert!(session.is_complete());
    assert_eq!(session.poll_control(0), None, "it is the last one");
    session.vote(0);
    let expected = Control::Loaded { device: 0, packets: 2, bytes: 5, crc32c: crc32c(0, b"abcde") };
    assert_eq!(session.poll_control(0), Some(expected));
}

#[test]
fn commit_is_refused_before_every_device_is_loaded() {
    let mut session = ready(4);
    assert!(matches!(session.on_control(Control::Commit, 0), Err(Error::Peer(PeerError::Unexpected { .. }))));
}

#[test]
fn runs_only_after_commit() {
    let mut session = ready(4);
    arrive(&mut session, header(0, 0, true, b""));
    session.pop(DeviceIdx(0)).unwrap();
    session.loaded(DeviceIdx(0));
    assert!(!session.is_committed());
    let early = |session: &mut ReceiverSession<u32>| {
        let early = session.on_control(Control::Commit, 0);
        matches!(early, Err(Error::Peer(PeerError::Unexpected { .. })))
    };
    assert!(early(&mut session), "before switchover");
    session.on_control(Control::Switchover, 0).unwrap();
    assert!(early(&mut session), "before the vote");
    session.vote(0);
    session.on_control(Control::Commit, 0).unwrap();
    assert!(session.is_committed());
    assert_eq!(session.outcome(), Outcome::Aborted);
    session.committed();
    assert_eq!(session.outcome(), Outcome::Complete);
}

#[test]
fn a_second_offer_and_messages_of_the_receiver_itself_are_refused() {
    let mut session = ready(1);
    for message in [Control::Offer(offer(&["a"])), Control::Accept, Control::Ready, Control::Committed] {
        assert!(matches!(session.on_control(message, 0), Err(Error::Peer(PeerError::Unexpected { .. }))));
    }
}

#[test]
fn packets_that_arrive_and_packets_that_are_written_are_no_standstill() {
    const SECOND: Nanos = 1_000_000_000;
    let mut session = ready(16);
    session.on_control(Control::Switchover, 0).unwrap();
    session.on_control(Control::Heartbeat, 119 * SECOND).unwrap();
    let fails = |session: &mut _, seconds: RangeInclusive<Nanos>| {
        let mut looks = seconds.map(|second| ReceiverSession::<u32>::check(session, second * SECOND));
        looks.any(|look| look.is_err())
    };
    assert!(fails(&mut session, 0..=60), "heartbeats alone are one");

    let payload = [7; 4096];
    let packets = PROGRESS_MIN / 4096;
    for idx in 0..packets {
        assert!(fails(&mut session, 60..=60), "too few bytes came");
        let packet = header(0, idx, false, &payload);
        session.on_header(&packet, Place::Channel(0)).unwrap();
        session.on_packet(packet, 0, packet.crc32c, Place::Channel(0), 59 * SECOND).unwrap();
    }
    assert!(!fails(&mut session, 60..=118), "packets came");
    for _ in 0..packets {
        assert!(fails(&mut session, 119..=119), "too few bytes were written");
        session.pop(DeviceIdx(0)).unwrap();
        session.written(DeviceIdx(0), 118 * SECOND);
    }
    assert!(!fails(&mut session, 119..=119), "they were written");
}

#[test]
fn config_state_is_progress_however_short_it_is() {
    const SECOND: Nanos = 1_000_000_000;
    let mut session = ready(1);
    arrive(&mut session, header(0, 0, true, b""));
    session.on_control(Control::Heartbeat, 119 * SECOND).unwrap();
    for second in 0..=59 {
        session.check(second * SECOND).unwrap();
    }
    session.pop(DeviceIdx(0)).unwrap();
    session.written(DeviceIdx(0), 59 * SECOND);
    assert!(session.check(60 * SECOND).is_ok());
}

/// The second in which a sender that sends only heartbeats is given up.
fn given_up(session: &mut ReceiverSession<u32>) -> Option<u64> {
    (0..=HOOK_MAX.as_secs()).find(|second| {
        let now = second * nanos(Duration::from_secs(1));
        session.on_control(Control::Heartbeat, now).unwrap();
        session.check(now).is_err()
    })
}

#[test]
fn the_senders_caller_may_hold_the_switchover_and_commit_back_and_nothing_else() {
    let (standstill, hook) = (Some(STANDSTILL_MAX.as_secs()), Some(HOOK_MAX.as_secs()));
    let mut session = ready(2);
    assert_eq!(given_up(&mut session), hook, "nothing is dirty");
    arrive(&mut session, header(0, 0, false, b"x"));
    assert_eq!(given_up(&mut session), standstill, "a packet waits to be written");
    session.pop(DeviceIdx(0)).unwrap();
    session.written(DeviceIdx(0), 0);
    assert_eq!(given_up(&mut session), hook, "nothing is dirty again");
    session.on_control(Control::Switchover, 0).unwrap();
    assert_eq!(given_up(&mut session), standstill, "the devices are stopped");
    arrive(&mut session, header(0, 1, true, b""));
    session.pop(DeviceIdx(0)).unwrap();
    session.written(DeviceIdx(0), 0);
    session.loaded(DeviceIdx(0));
    session.vote(0);
    assert_eq!(given_up(&mut session), hook, "commit is held back");
}

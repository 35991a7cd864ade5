//! Golden bytes, bounds and arbitrary bytes for control messages.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::limits::{DEVICES_MAX, NAME_MAX, PACKET_SIZE_MAX, PACKET_SIZE_MIN, POOL_SIZE_MAX, REPORT_MAX};
use crate::wire::Checksum;
use crate::wire::golden::unhex;

fn control_buffer() -> Vec<u8> {
    vec![0xff; CONTROL_BUFFER_SIZE]
}

fn encoded(message: &Control) -> Vec<u8> {
    let mut buffer = control_buffer();
    let len = message.encode(&mut buffer);
    assert_ne!(len, 0, "{message:?} does not fit");
    buffer.truncate(len);
    buffer
}

fn decoded(bytes: &[u8]) -> Result<Control, Malformed> {
    let (header, body) = bytes.split_first_chunk().ok_or(Malformed::Truncated)?;
    Control::decode(&ControlHeader::decode(header)?, body)
}

/// A message with an unchecked body and a matching header.
fn sealed(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut header = [0; CONTROL_HEADER_LEN];
    ControlHeader::of(kind, u32::try_from(body.len()).expect("small"), body).encode(&mut header);
    [header.as_slice(), body].concat()
}

fn device(name: &str, instance: u32) -> DeviceOffer {
    DeviceOffer { name: name.into(), instance, estimate: 0x4142_4344_4546_4748 }
}

fn offer() -> Offer {
    Offer {
        features: 0x8000_0000_0000_0001,
        packet_size: 1 << 20,
        pool_size: 64 << 20,
        checksum: Checksum::Crc32c,
        devices: vec![device("net0", 0), device("ü", 7)],
    }
}

const LOADED: Control = Control::Loaded {
    device: 0x0102,
    packets: 0x1112_1314_1516_1718,
    bytes: 0x2122_2324_2526_2728,
    crc32c: 0xdead_beef,
};

fn one_of_each() -> Vec<Control> {
    vec![
        Control::Offer(offer()),
        Control::Accept,
        Control::Refuse { code: 6, text: "net0".into() },
        Control::Ready,
        Control::Credit { device: 0x0102, limit: 0x1112_1314_1516_1718 },
        Control::Switchover,
        LOADED,
        Control::Commit,
        Control::Committed,
        Control::Abort { code: 2, text: "größer".into() },
        Control::Cancel,
        Control::Heartbeat,
        Control::Ping { at: 0x1112_1314_1516_1718 },
        Control::Pong {
            at: 0x1112_1314_1516_1718,
            received_at: 0x2122_2324_2526_2728,
            sent_at: 0x3132_3334_3536_3738,
        },
        Control::Report { total: 0x0001_0203, offset: 0x0001_0000, bytes: (*b"{}").into() },
        Control::WarmUp { bytes: 0x1112_1314_1516_1718 },
    ]
}

#[test]
fn every_message_has_the_bytes_of_the_drawing() {
    fn is<const LEN: usize>(message: &Control, golden: &str) {
        let golden: [u8; LEN] = unhex(golden);
        assert_eq!(encoded(message), golden, "{}", message.name());
        assert_eq!(decoded(&golden).as_ref(), Ok(message));
    }
    let messages = one_of_each();
    is::<86>(
        &messages[0],
        "524c6374 0001 0000 00000046 45ce022b \
         8000000000000001 0000000004000000 00100000 0001 0002 0000000000000000 \
         4142434445464748 00000000 0004 0000 6e657430 \
         4142434445464748 00000007 0002 0000 c3bc",
    );
    is::<16>(&messages[1], "524c6374 0002 0000 00000000 860bf217");
    is::<24>(&messages[2], "524c6374 0003 0000 00000008 7ef55692 0006 0004 6e657430");
    is::<16>(&messages[3], "524c6374 0004 0000 00000000 f3ed6e56");
    is::<32>(&messages[4], "524c6374 0005 0000 00000010 055ee50c 0102 000000000000 1112131415161718");
    is::<16>(&messages[5], "524c6374 0006 0000 00000000 23eb37c6");
    is::<40>(
        &messages[6],
        "524c6374 0007 0000 00000018 b5f46c9d 0102 0000 deadbeef 1112131415161718 2122232425262728",
    );
    is::<16>(&messages[7], "524c6374 0008 0000 00000000 182056d4");
    is::<16>(&messages[8], "524c6374 0009 0000 00000000 70237a1c");
    is::<28>(&messages[9], "524c6374 000a 0000 0000000c b5651fbe 0002 0008 6772c3b6c39f6572");
    is::<16>(&messages[10], "524c6374 000b 0000 00000000 a025238c");
    is::<16>(&messages[11], "524c6374 000c 0000 00000000 bdc09305");
    is::<24>(&messages[12], "524c6374 000d 0000 00000008 342c0199 1112131415161718");
    is::<40>(
        &messages[13],
        "524c6374 000e 0000 00000018 9ac36674 1112131415161718 2122232425262728 3132333435363738",
    );
    is::<26>(&messages[14], "524c6374 000f 0000 0000000a 61df5373 00010203 00010000 7b7d");
    is::<24>(&messages[15], "524c6374 0010 0000 00000008 9eb0eb40 1112131415161718");
}

#[test]
fn every_single_byte_corruption_is_rejected() {
    for message in one_of_each() {
        let good = encoded(&message);
        for at in 0..good.len() {
            for flip in 1..=255 {
                let mut bytes = good.clone();
                bytes[at] ^= flip;
                assert!(decoded(&bytes).is_err(), "{}: byte {at} ^ {flip:#04x} was accepted", message.name());
            }
        }
    }
}

#[test]
fn no_message_turns_into_another_kind_of_the_same_length() {
    // Commit, cancel and heartbeat have no body: only the header's sum tells them apart.
    let mut bytes = encoded(&Control::Commit);
    bytes[5] = 11;
    assert_eq!(decoded(&bytes), Err(Malformed::Check));
}

#[test]
fn every_truncation_and_every_appended_byte_is_rejected() {
    for message in one_of_each() {
        let good = encoded(&message);
        for len in 0..good.len() {
            assert_eq!(decoded(&good[..len]), Err(Malformed::Truncated), "{} at {len}", message.name());
        }
        assert_eq!(decoded(&[good.as_slice(), b"x"].concat()), Err(Malformed::Trailing { found: 1 }));
    }
}

#[test]
fn a_length_is_bounded_by_its_kind_before_the_body_is_read() {
    let header = |kind, len| {
        let mut bytes = [0; CONTROL_HEADER_LEN];
        ControlHeader { kind, len, crc32c: 0 }.encode(&mut bytes);
        ControlHeader::decode(&bytes)
    };
    let offer_max = u32::try_from(OFFER_MAX).expect("small");
    let reason_max = u32::try_from(REASON_MAX).expect("small");
    // kind, fewest, most
    for (kind, min, max) in [
        (1, 49, offer_max),
        (3, 4, reason_max),
        (10, 4, reason_max),
        (5, 16, 16),
        (7, 24, 24),
        (8, 0, 0),
        (13, 8, 8),
        (14, 24, 24),
        (15, 9, 65_544),
    ] {
        assert!(header(kind, min).is_ok() && header(kind, max).is_ok());
        let too_long = Malformed::TooLong { field: "body", found: u64::from(max) + 1, max: max.into() };
        assert_eq!(header(kind, max + 1), Err(too_long));
        assert!(header(kind, u32::MAX).is_err());
        if min > 0 {
            assert_eq!(header(kind, min - 1), Err(Malformed::Truncated));
        }
    }
}

#[test]
fn unknown_kinds_and_used_reserved_bytes_are_rejected() {
    for found in [0, 17, u16::MAX] {
        let unknown = Malformed::Value { field: "kind", found: found.into() };
        assert_eq!(decoded(&sealed(found, b"")), Err(unknown));
    }
    let used = Err(Malformed::Value { field: "reserved byte", found: 1 });
    let mut header = encoded(&Control::Ready);
    header[7] = 1;
    assert_eq!(decoded(&header), used);
    // message, places of reserved bytes in its body
    for (message, places) in [(0, vec![24, 31, 46, 47]), (4, vec![2, 7]), (6, vec![2, 3])] {
        let good = encoded(&one_of_each()[message]);
        for at in places {
            let mut body = good[CONTROL_HEADER_LEN..].to_vec();
            body[at] = 1;
            assert_eq!(decoded(&sealed(u16::from(good[5]), &body)), used, "byte {at}");
        }
    }
}

#[test]
fn an_offer_outside_its_bounds_is_rejected() {
    let decode = |change: fn(&mut Offer)| {
        let mut offer = offer();
        change(&mut offer);
        decoded(&encoded(&Control::Offer(offer)))
    };
    assert!(decode(|offer| offer.packet_size = PACKET_SIZE_MIN).is_ok());
    assert!(decode(|offer| offer.packet_size = PACKET_SIZE_MAX).is_ok());
    assert!(decode(|offer| offer.pool_size = POOL_SIZE_MAX).is_ok());
    assert!(decode(|offer| offer.devices[1] = device("net0", 1)).is_ok());

    assert!(decode(|offer| offer.packet_size = PACKET_SIZE_MIN - 1).is_err());
    assert!(decode(|offer| offer.packet_size = PACKET_SIZE_MAX + 1).is_err());
    assert!(decode(|offer| offer.pool_size = POOL_SIZE_MAX + 1).is_err());
    assert!(decode(|offer| offer.pool_size = u64::from(offer.packet_size) - 1).is_err());
    assert_eq!(
        decode(|offer| offer.devices[1] = device("net0", 0)),
        Err(Malformed::Value { field: "repeated device", found: 1 })
    );
    assert_eq!(
        decode(|offer| offer.devices[1].name = "tab\tbed".into()),
        Err(Malformed::Text { field: "name" })
    );
    assert_eq!(
        decode(|offer| offer.devices[1].name = "n".repeat(NAME_MAX + 1).into()),
        Err(Malformed::TooLong { field: "name", found: 256, max: 255 })
    );
    assert_eq!(
        decode(|offer| offer.devices[1].name = "".into()),
        Err(Malformed::Value { field: "name length", found: 0 })
    );
    assert_eq!(
        decode(|offer| offer.devices = (0..257).map(|n| device("n", n)).collect()),
        Err(Malformed::Value { field: "number of devices", found: 257 })
    );
}

#[test]
fn unknown_numbers_in_a_body_are_rejected() {
    let mut body = encoded(&Control::Offer(offer()))[CONTROL_HEADER_LEN..].to_vec();
    body[21] = 2;
    assert_eq!(decoded(&sealed(1, &body)), Err(Malformed::Value { field: "checksum", found: 2 }));
    body[21] = 1;
    body[23] = 0;
    assert_eq!(decoded(&sealed(1, &body)), Err(Malformed::Value { field: "number of devices", found: 0 }));
    body[23] = 1;
    assert_eq!(decoded(&sealed(1, &body)), Err(Malformed::Trailing { found: 18 }));
    body[23] = 3;
    assert_eq!(decoded(&sealed(1, &body)), Err(Malformed::Truncated));

    // 0 means welcome, so it is not a refusal.
    assert_eq!(decoded(&sealed(3, &[0, 0, 0, 0])), Err(Malformed::Value { field: "code", found: 0 }));
}

#[test]
fn a_part_that_reaches_beyond_its_report_or_a_report_beyond_its_bound_is_rejected() {
    let piece = |total: u32, offset: u32, bytes: &[u8]| {
        decoded(&sealed(15, &[&total.to_be_bytes()[..], &offset.to_be_bytes(), bytes].concat()))
    };
    let max = u32::try_from(REPORT_MAX).expect("a report is short");
    assert!(piece(max, max - 1, b"x").is_ok() && piece(1, 0, b"x").is_ok());
    let too_long = Malformed::TooLong { field: "report", found: u64::from(max) + 1, max: max.into() };
    assert_eq!(piece(max + 1, 0, b"x"), Err(too_long));
    for (total, offset, end) in [(0, 0, 1), (4, 4, 5), (4, u32::MAX, 0x1_0000_0000)] {
        assert_eq!(piece(total, offset, b"x"), Err(Malformed::Value { field: "end of a part", found: end }));
    }
}

#[test]
fn a_text_that_lies_about_its_length_or_cannot_be_shown_is_rejected() {
    assert_eq!(decoded(&sealed(10, b"\0\x02\0\x04abc")), Err(Malformed::Truncated));
    assert_eq!(decoded(&sealed(10, b"\0\x02\0\x02abc")), Err(Malformed::Trailing { found: 1 }));
    assert_eq!(decoded(&sealed(10, b"\0\x02\0\x03a\x1bc")), Err(Malformed::Text { field: "text" }));
    assert_eq!(decoded(&sealed(10, b"\0\x02\0\x03a\xffc")), Err(Malformed::Text { field: "text" }));
}

#[test]
fn a_text_arrives_printable_and_cut() {
    let text = format!("line\n{}", "€".repeat(TEXT_MAX));
    let arrived = decoded(&encoded(&Control::Abort { code: 1, text: text.into() }));
    let Ok(Control::Abort { code: 1, text }) = arrived else { panic!("{arrived:?}") };
    assert_eq!(&*text, format!("line {}", "€".repeat((TEXT_MAX - 5) / 3)));
}

#[test]
fn the_largest_offer_fits_in_a_control_buffer() {
    let longest = |number| format!("{:0>width$}", number, width = NAME_MAX);
    let devices = (0..DEVICES_MAX).map(|number| device(&longest(number), 0)).collect();
    let largest = Control::Offer(Offer { devices, ..offer() });
    let bytes = encoded(&largest);
    assert_eq!(bytes.len(), CONTROL_HEADER_LEN + OFFER_MAX);
    assert_eq!(decoded(&bytes), Ok(largest));
}

#[test]
fn a_message_that_does_not_fit_is_not_written() {
    for message in one_of_each() {
        let whole = encoded(&message).len();
        for room in 0..whole {
            assert_eq!(message.encode(&mut vec![0; room]), 0, "{} in {room} bytes", message.name());
        }
        assert_eq!(message.encode(&mut vec![0; whole]), whole);
    }
}

#[test]
fn encoding_allocates_nothing() {
    let (messages, mut buffer) = (one_of_each(), control_buffer());
    let counted = allocation_counter::measure(|| {
        for message in &messages {
            message.encode(&mut buffer);
        }
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn decoding_credit_and_loaded_allocates_nothing() {
    for bytes in
        [encoded(&LOADED), encoded(&Control::Credit { device: 1, limit: 2 }), encoded(&Control::Commit)]
    {
        assert_eq!(allocation_counter::measure(|| assert!(decoded(&bytes).is_ok())).count_total, 0);
    }
}

fn any_text() -> impl Strategy<Value = Box<str>> {
    "[^\\p{C}\\p{Zl}\\p{Zp}]{0,120}".prop_map(String::into_boxed_str)
}

fn any_offer() -> impl Strategy<Value = Offer> {
    let devices = vec(("[^\\p{C}\\p{Zl}\\p{Zp}]{1,60}", any::<u64>()), 1..12);
    (any::<u64>(), PACKET_SIZE_MIN..=PACKET_SIZE_MAX, 0..=POOL_SIZE_MAX, any::<bool>(), devices).prop_map(
        |(features, packet_size, pool_size, checked, devices)| Offer {
            features,
            packet_size,
            pool_size: pool_size.max(packet_size.into()),
            checksum: if checked { Checksum::Crc32c } else { Checksum::None },
            devices: (0..)
                .zip(devices)
                .map(|(instance, (name, estimate))| DeviceOffer { name: name.into(), instance, estimate })
                .collect(),
        },
    )
}

fn any_message() -> impl Strategy<Value = Control> {
    prop_oneof![
        any_offer().prop_map(Control::Offer),
        (1..=u16::MAX, any_text()).prop_map(|(code, text)| Control::Refuse { code, text }),
        (any::<u16>(), any_text()).prop_map(|(code, text)| Control::Abort { code, text }),
        (any::<u16>(), any::<u64>()).prop_map(|(device, limit)| Control::Credit { device, limit }),
        (any::<u16>(), any::<u64>(), any::<u64>(), any::<u32>())
            .prop_map(|(device, packets, bytes, crc32c)| Control::Loaded { device, packets, bytes, crc32c }),
        any::<u64>().prop_map(|at| Control::Ping { at }),
        any::<[u64; 3]>().prop_map(|[at, received_at, sent_at]| Control::Pong { at, received_at, sent_at }),
        (0..1000_u32, 0..1000_u32, vec(any::<u8>(), 1..300)).prop_map(|(offset, more, bytes)| {
            let total = offset + more + u32::try_from(bytes.len()).expect("short");
            Control::Report { total, offset, bytes: bytes.into() }
        }),
        prop::sample::select(vec![
            Control::Accept,
            Control::Ready,
            Control::Switchover,
            Control::Commit,
            Control::Committed,
            Control::Cancel,
            Control::Heartbeat,
        ]),
    ]
}

proptest! {
    #[test]
    fn decoding_gives_back_what_was_encoded(message in any_message()) {
        prop_assert_eq!(decoded(&encoded(&message)), Ok(message));
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(
        message in any_message(), at: prop::sample::Index, value: u8,
    ) {
        // A changed body with a matching sum: only its meaning is left to be rejected.
        let good = encoded(&message);
        let mut body = good[CONTROL_HEADER_LEN..].to_vec();
        if !body.is_empty() {
            let at = at.index(body.len());
            body[at] = value;
        }
        let bytes = sealed(message.kind().code(), &body);
        if let Ok(message) = decoded(&bytes) {
            prop_assert_eq!(encoded(&message), bytes);
        }
    }

    #[test]
    fn decoding_never_panics(noise in vec(any::<u8>(), 0..300), kind in 0u16..17) {
        prop_assert!(decoded(&noise).is_err());
        let _ = decoded(&sealed(kind, &noise));
    }
}

//! What a builder refuses, and what holds where nothing is set.

use super::*;
use crate::source::Null;

fn builder() -> SenderBuilder {
    Sender::builder().device("a", Null::new(1)).connect(([127, 0, 0, 1], 1).into())
}

fn refused(builder: SenderBuilder) -> Misuse {
    builder.build().err().expect("impossible settings")
}

#[test]
fn refuses_impossible_settings_before_anything_happens() {
    assert!(builder().build().is_ok());
    assert_eq!(refused(Sender::builder()), Misuse::NoDevices);
    assert_eq!(refused(Sender::builder().device("a", Null::new(1))), Misuse::NoPeer);
    assert_eq!(refused(builder().device("", Null::new(1))), Misuse::BadName);
    assert_eq!(refused(builder().device("a\n", Null::new(1))), Misuse::BadName);
    assert_eq!(refused(builder().device("a", Null::new(1))), Misuse::DuplicateDevice { name: "a".into() });
    assert!(builder().device("a", Null::new(1)).instance(1).build().is_ok());
    assert_eq!(refused(builder().channels(0)), Misuse::BadChannels { given: 0 });
    assert_eq!(refused(builder().channels(256)), Misuse::BadChannels { given: 256 });
    assert_eq!(refused(builder().packet_size(4095)), Misuse::BadPacketSize { given: 4095 });
    assert!(matches!(refused(builder().pool_size(1 << 20)), Misuse::BadPool { given: 0x10_0000, .. }));
    let all = (1..256).fold(builder(), |builder, number| builder.device(format!("d{number}"), Null::new(1)));
    assert_eq!(all.build().unwrap().pool_size, (64 << 20) + 2 * 255 * ((1 << 20) + 4096));
    let all = (1..256).fold(builder(), |builder, number| builder.device(format!("d{number}"), Null::new(1)));
    assert_eq!(all.packet_size(16 << 20).build().unwrap().pool_size, 256 * ((16 << 20) + 4096));
    let many = (0..257).fold(builder(), |builder, number| builder.device(format!("d{number}"), Null::new(1)));
    assert_eq!(refused(many), Misuse::TooManyDevices { given: 258 });
}

//! The offer, the only message that contains counts and lengths, from its body alone: a matching header is generated.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringlift::Checksum;
use ringlift::limits::{
    CONTROL_BODY_MAX, CONTROL_BUFFER_SIZE, DEVICES_MAX, NAME_MAX, PACKET_SIZE_MAX, PACKET_SIZE_MIN,
    POOL_SIZE_MAX,
};
use ringlift::wire::{CONTROL_HEADER_LEN, Control, ControlHeader, DeviceOffer, Offer, crc32c};
use ringlift_fuzz::{accepted, seed, within_memory};

const KIND: u16 = 1;
const MEMORY_MAX: usize = DEVICES_MAX * (size_of::<DeviceOffer>() + NAME_MAX);

fn offer(names: &[&str]) -> Control {
    let devices = names.iter().zip(0..);
    let devices = devices
        .map(|(&name, instance)| DeviceOffer { name: name.into(), instance, estimate: 4096 })
        .collect();
    let checksum = Checksum::Crc32c;
    Control::Offer(Offer { features: 0, packet_size: 4096, pool_size: 1 << 20, checksum, devices })
}

fn seeds() {
    for (name, message) in [("one", offer(&["net0"])), ("three", offer(&["net0", "net0", "größer"]))] {
        let mut bytes = [0; CONTROL_BUFFER_SIZE];
        let len = message.encode(&mut bytes);
        seed(name, &bytes[CONTROL_HEADER_LEN..len]);
    }
}

fuzz_target!(init: seeds(), |body: &[u8]| {
    if body.len() > CONTROL_BODY_MAX {
        return;
    }
    let mut header =
        ControlHeader { kind: KIND, len: u32::try_from(body.len()).expect("short"), crc32c: 0 };
    let mut bytes = [0; CONTROL_HEADER_LEN];
    header.encode(&mut bytes);
    header.crc32c = crc32c(crc32c(0, &bytes[..CONTROL_HEADER_LEN - 4]), body);
    let decoded = within_memory(MEMORY_MAX, || Control::decode(&header, body));
    let Some(message) = accepted(decoded) else { return };
    let Control::Offer(offer) = &message else { panic!("{message:?}") };
    assert!((PACKET_SIZE_MIN..=PACKET_SIZE_MAX).contains(&offer.packet_size));
    assert!((u64::from(offer.packet_size)..=POOL_SIZE_MAX).contains(&offer.pool_size));
    assert!((1..=DEVICES_MAX).contains(&offer.devices.len()));
    for device in &offer.devices {
        assert!((1..=NAME_MAX).contains(&device.name.len()) && !device.name.contains(char::is_control));
    }
    let mut again = [0; CONTROL_BUFFER_SIZE];
    let len = message.encode(&mut again);
    assert_eq!(again[CONTROL_HEADER_LEN..len], *body);
});

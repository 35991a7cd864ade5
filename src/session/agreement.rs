//! What a receiver agrees to. Pure: an offer and terms go in, and what both sides agree on comes out. The invariant: every
//! device of the offer has a sink, and every sink a device.

use crate::error::Refusal;
use crate::numbers::PacketSize;
use crate::wire::Offer;

/// What the receiver accepts.
#[derive(Debug, Clone)]
pub(crate) struct Terms<'a> {
    /// Names and instances of the devices for which it has sinks; `None` when it opens one for each device of the offer.
    pub(crate) devices: Option<&'a [(Box<str>, u32)]>,
    /// Largest pool that it makes because the peer asked for it, in bytes.
    pub(crate) pool_max: u64,
}

/// What both sides agreed on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// For each offered device the index of the sink that takes it.
    pub(crate) sinks: Vec<usize>,
    pub(crate) packet_size: PacketSize,
}

/// Feature bits that change what a receiver has to do: one that it does not know it refuses.
const FEATURES_REQUIRED: u64 = u32::MAX as u64;

/// Checks an offer.
pub(crate) fn agree(offer: &Offer, terms: &Terms<'_>) -> Result<Agreed, Refusal> {
    // P-13
    if offer.features & FEATURES_REQUIRED != 0 {
        return Err(Refusal::Feature);
    }
    let sinks = match terms.devices {
        Some(own) => matching(offer, own)?,
        None => (0..offer.devices.len()).collect(),
    };
    if offer.pool_size > terms.pool_max {
        let text = format!("a pool of {} bytes, at most {} here", offer.pool_size, terms.pool_max);
        return Err(Refusal::Settings { text: text.into() });
    }
    let packet_size = PacketSize::new(offer.packet_size).ok_or_else(|| {
        let text = format!("a packet size of {} bytes is not possible", offer.packet_size);
        Refusal::Settings { text: text.into() }
    })?;
    Ok(Agreed { sinks, packet_size })
}

/// For each offered device the index of the sink of its name (P-22).
fn matching(offer: &Offer, own: &[(Box<str>, u32)]) -> Result<Vec<usize>, Refusal> {
    let find = |name: &str, instance: u32| {
        let fits = |own: &(Box<str>, u32)| &*own.0 == name && own.1 == instance;
        own.iter().position(fits).ok_or_else(|| Refusal::DeviceMismatch { name: name.into() })
    };
    let sinks = offer.devices.iter().map(|device| find(&device.name, device.instance));
    let sinks: Vec<usize> = sinks.collect::<Result<_, _>>()?;
    match own.iter().enumerate().find(|(own, _)| !sinks.contains(own)) {
        Some((_, (name, _))) => Err(Refusal::DeviceMismatch { name: name.clone() }),
        None => Ok(sinks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Checksum, DeviceOffer};

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

    #[test]
    fn agrees_when_both_sides_name_the_same_devices_and_refuses_otherwise() {
        let own = [("a".into(), 0), ("b".into(), 0)];
        let terms = Terms { devices: Some(&own), pool_max: 1 << 20 };
        assert_eq!(
            agree(&offer(&["b", "a"]), &terms),
            Ok(Agreed { sinks: vec![1, 0], packet_size: PacketSize::MIN })
        );
        let one_side_only = |name: &str| Err(Refusal::DeviceMismatch { name: name.into() });
        assert_eq!(agree(&offer(&["a"]), &terms), one_side_only("b"));
        assert_eq!(agree(&offer(&["a", "b", "c"]), &terms), one_side_only("c"));
        let required = Offer { features: 1 << 31, ..offer(&["a", "b"]) };
        assert_eq!(agree(&required, &terms), Err(Refusal::Feature));
        let optional = Offer { features: 1 << 63, ..offer(&["a", "b"]) };
        assert!(agree(&optional, &terms).is_ok(), "the sender does without what is not known here");
        let size = Offer { packet_size: 4095, ..offer(&["a", "b"]) };
        assert!(matches!(agree(&size, &terms), Err(Refusal::Settings { .. })));
        let pool = Offer { pool_size: 2 << 20, ..offer(&["a", "b"]) };
        assert!(matches!(agree(&pool, &terms), Err(Refusal::Settings { .. })));
    }

    #[test]
    fn any_devices_agree_with_a_receiver_that_opens_a_sink_for_each_but_not_any_settings() {
        let terms = Terms { devices: None, pool_max: 1 << 20 };
        let agreed = agree(&offer(&["b", "a", "c"]), &terms).map(|agreed| agreed.sinks);
        assert_eq!(agreed, Ok(vec![0, 1, 2]));
        let pool = Offer { pool_size: 2 << 20, ..offer(&["a"]) };
        assert!(matches!(agree(&pool, &terms), Err(Refusal::Settings { .. })));
        let required = Offer { features: 1 << 31, ..offer(&["a"]) };
        assert_eq!(agree(&required, &terms), Err(Refusal::Feature));
    }
}

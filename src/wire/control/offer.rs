//! The offer: what the sender wants. Knows nothing of what this side would accept. A decoded offer is within the bounds
//! that hold for every session.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::{DEVICES_MAX, NAME_MAX, POOL_SIZE_MAX};
use crate::numbers::PacketSize;
use crate::wire::cursor::{Reader, Writer};
use crate::wire::text::check_name;
use crate::wire::{Checksum, Malformed, reserved_is_zero};

/// A device as the sender offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceOffer {
    /// Its name.
    pub name: Box<str>,
    /// Distinguishes devices with the same name.
    pub instance: u32,
    /// Expected bytes of state, 0 when unknown.
    pub estimate: u64,
}

/// What the sender wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Feature bits (P-13): of the lower half a receiver refuses those it does not know, of the upper half it passes them
    /// over.
    pub features: u64,
    /// Largest payload of a packet in bytes.
    pub packet_size: u32,
    /// Bytes of the sender's pool; the receiver makes one as large, within its bounds.
    pub pool_size: u64,
    /// How payloads are checked.
    pub checksum: Checksum,
    /// The devices, in the order of their numbers.
    pub devices: Vec<DeviceOffer>,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct OfferLayout {
    features: U64,
    pool_size: U64,
    packet_size: U32,
    checksum: U16,
    devices: U16,
    reserved: [u8; 8],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct DeviceLayout {
    estimate: U64,
    instance: U32,
    name_len: U16,
    reserved: [u8; 2],
}

/// Length of the smallest offer: one device with a name of one byte.
pub(super) const OFFER_MIN: usize = size_of::<OfferLayout>() + size_of::<DeviceLayout>() + 1;
/// Length of the largest offer.
pub(super) const OFFER_MAX: usize =
    size_of::<OfferLayout>() + DEVICES_MAX * (size_of::<DeviceLayout>() + NAME_MAX);

impl Offer {
    /// Lengths and counts are written unchecked: should the builder ever let one exceed its bound, the peer refuses the
    /// offer instead of mistaking a part of it for the whole.
    pub(super) fn encode(&self, body: &mut Writer<'_>) -> Option<()> {
        body.put(&OfferLayout {
            features: U64::new(self.features),
            pool_size: U64::new(self.pool_size),
            packet_size: U32::new(self.packet_size),
            checksum: U16::new(match self.checksum {
                Checksum::None => 0,
                Checksum::Crc32c => 1,
            }),
            devices: U16::new(u16::try_from(self.devices.len()).ok()?),
            reserved: [0; 8],
        })?;
        for device in &self.devices {
            body.put(&DeviceLayout {
                estimate: U64::new(device.estimate),
                instance: U32::new(device.instance),
                name_len: U16::new(u16::try_from(device.name.len()).ok()?),
                reserved: [0; 2],
            })?;
            body.put(device.name.as_bytes())?;
        }
        Some(())
    }

    /// P-11: an offer outside its bounds is rejected.
    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Offer, Malformed> {
        let fixed: OfferLayout = body.take()?;
        reserved_is_zero(&fixed.reserved)?;
        let (packet_size, pool_size) = (fixed.packet_size.get(), fixed.pool_size.get());
        if PacketSize::new(packet_size).is_none() {
            return Err(Malformed::Value { field: "packet size", found: packet_size.into() });
        }
        if !(u64::from(packet_size)..=POOL_SIZE_MAX).contains(&pool_size) {
            return Err(Malformed::Value { field: "pool size", found: pool_size });
        }
        let checksum = match fixed.checksum.get() {
            0 => Checksum::None,
            1 => Checksum::Crc32c,
            found => return Err(Malformed::Value { field: "checksum", found: found.into() }),
        };
        let count = usize::from(fixed.devices.get());
        if !(1..=DEVICES_MAX).contains(&count) {
            return Err(Malformed::Value { field: "number of devices", found: count as u64 });
        }
        let mut devices: Vec<DeviceOffer> = Vec::with_capacity(count);
        for number in 0..count {
            let device = DeviceOffer::decode(body)?;
            let same = |other: &DeviceOffer| other.name == device.name && other.instance == device.instance;
            if devices.iter().any(same) {
                return Err(Malformed::Value { field: "repeated device", found: number as u64 });
            }
            devices.push(device);
        }
        Ok(Offer { features: fixed.features.get(), packet_size, pool_size, checksum, devices })
    }
}

impl DeviceOffer {
    fn decode(body: &mut Reader<'_>) -> Result<DeviceOffer, Malformed> {
        let fixed: DeviceLayout = body.take()?;
        reserved_is_zero(&fixed.reserved)?;
        let name = check_name(body.take_bytes(fixed.name_len.get().into())?)?;
        Ok(DeviceOffer { name: name.into(), instance: fixed.instance.get(), estimate: fixed.estimate.get() })
    }
}

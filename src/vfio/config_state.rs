//! The config state of a device as migration streams carry it: the virtual machine monitor's state of a PCI device,
//! which the driver's own state does not contain.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | the tag of config state |
//! | 4 | version, 2 |
//! | 4096 or 256 | the config space (little-endian, as PCI is) |
//! | 16 | the levels of the four interrupt pins, each 0 or 1 |
//! | 16 n, n / 8 rounded up | with MSI-X: the table of n vectors, and the pending bits |
//! | any | subsections |
//! | 8 | the tag of the end |

use crate::wire::Malformed;
pub use crate::wire::vfio::{CONFIG_LOAD_READY_TAG, CONFIG_STATE_TAG, END_OF_STATE_TAG};
use crate::wire::{be32, be64};

const TAG_LEN: usize = 8;
const VERSION_LEN: usize = 4;
const VERSION: u32 = 2;
const PINS_LEN: usize = 16;
/// For a PCI Express function, and for a plain one.
const SPACE_LENS: [usize; 2] = [4096, 256];
const SUBSECTION: u8 = 0x05;

const STATUS: usize = 0x06;
const STATUS_CAPABILITIES: u8 = 0x10;
const CAPABILITIES: usize = 0x34;
const CAPABILITY_MSIX: u8 = 0x11;
/// A capability has at least four bytes, so the 192 behind the header hold no more.
const CAPABILITIES_MAX: usize = 48;
const MSIX_ENTRY_LEN: usize = 16;

/// The config state of a PCI device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigState<'a> {
    /// The config space: 4096 bytes, even when the device's own region is shorter, or 256.
    pub space: &'a [u8],
    /// Whether INTA to INTD are raised.
    pub pins: [bool; 4],
    /// The MSI-X table and its pending bits; empty without MSI-X.
    pub msix: &'a [u8],
    /// Subsections, not parsed.
    pub subsections: &'a [u8],
}

impl<'a> ConfigState<'a> {
    /// Reads all of it, tags included.
    pub fn decode(bytes: &'a [u8]) -> Result<ConfigState<'a>, Malformed> {
        let body = untagged(bytes)?;
        if body.len() < VERSION_LEN {
            return Err(Malformed::Truncated);
        }
        let (version, body) = (be32(body, 0), &body[VERSION_LEN..]);
        if version != VERSION {
            return Err(Malformed::Value { field: "PCI device version", found: version.into() });
        }
        // nothing states how long the space is: what follows it has to fit
        let mut wrong = Malformed::Truncated;
        for len in SPACE_LENS {
            match with_space(body, len) {
                Ok(state) => return Ok(state),
                Err(Malformed::Truncated) => {}
                Err(error) if wrong == Malformed::Truncated => wrong = error,
                Err(_) => {}
            }
        }
        Err(wrong)
    }
}

fn untagged(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let body_end =
        bytes.len().checked_sub(TAG_LEN).filter(|&end| end >= TAG_LEN).ok_or(Malformed::Truncated)?;
    let (first, last) = (be64(bytes, 0), be64(bytes, body_end));
    if first != CONFIG_STATE_TAG {
        return Err(Malformed::Value { field: "tag of the config state", found: first });
    }
    if last != END_OF_STATE_TAG {
        return Err(Malformed::Value { field: "tag of the config state's end", found: last });
    }
    Ok(&bytes[TAG_LEN..body_end])
}

fn with_space(body: &[u8], len: usize) -> Result<ConfigState<'_>, Malformed> {
    let (space, rest) = body.split_at_checked(len).ok_or(Malformed::Truncated)?;
    let (levels, rest) = rest.split_at_checked(PINS_LEN).ok_or(Malformed::Truncated)?;
    let mut pins = [false; 4];
    for (pin, at) in pins.iter_mut().zip((0..PINS_LEN).step_by(4)) {
        *pin = match be32(levels, at) {
            0 => false,
            1 => true,
            found => {
                return Err(Malformed::Value { field: "level of an interrupt pin", found: found.into() });
            }
        };
    }
    let (msix, subsections) = rest.split_at_checked(msix_len(space)).ok_or(Malformed::Truncated)?;
    match subsections.first() {
        None | Some(&SUBSECTION) => Ok(ConfigState { space, pins, msix, subsections }),
        Some(_) => Err(Malformed::Trailing { found: subsections.len() as u64 }),
    }
}

/// Bytes of the MSI-X table and its pending bits, by the capability that announces it.
fn msix_len(space: &[u8]) -> usize {
    if space[STATUS] & STATUS_CAPABILITIES == 0 {
        return 0;
    }
    let mut at = usize::from(space[CAPABILITIES] & !3);
    for _ in 0..CAPABILITIES_MAX {
        if at < 0x40 {
            break;
        }
        if space[at] == CAPABILITY_MSIX {
            let control = u16::from_le_bytes([space[at + 2], space[at + 3]]);
            let vectors = usize::from(control & 0x7ff) + 1;
            return vectors * MSIX_ENTRY_LEN + vectors.div_ceil(8);
        }
        at = usize::from(space[at + 1] & !3);
    }
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state(space: &[u8], more: &[u8]) -> Vec<u8> {
        let mut bytes = CONFIG_STATE_TAG.to_be_bytes().to_vec();
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend(space);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(more);
        bytes.extend(END_OF_STATE_TAG.to_be_bytes());
        bytes
    }

    fn space(len: usize, vectors: u16) -> Vec<u8> {
        let mut space = vec![0; len];
        space[..4].copy_from_slice(&[0x48, 0x43, 0x53, 0x32]);
        if vectors > 0 {
            space[STATUS] = STATUS_CAPABILITIES;
            space[CAPABILITIES] = 0x40;
            space[0x40..0x44].copy_from_slice(&[0x05, 0x60, 0, 0]);
            let [low, high] = (vectors - 1).to_le_bytes();
            space[0x60..0x64].copy_from_slice(&[CAPABILITY_MSIX, 0, low, high]);
        }
        space
    }

    #[test]
    fn a_device_without_msix_is_4132_bytes() {
        let space = space(4096, 0);
        let bytes = state(&space, &[]);
        assert_eq!(bytes.len(), 4132);
        let decoded = ConfigState::decode(&bytes).unwrap();
        assert_eq!(decoded.space, space);
        assert_eq!(decoded.pins, [false, true, false, false]);
        assert!(decoded.msix.is_empty() && decoded.subsections.is_empty());
    }

    #[test]
    fn the_table_is_as_long_as_the_capability_says() {
        for (len, vectors) in [(4096, 64), (4096, 3), (256, 2048), (256, 9)] {
            let msix_len = usize::from(vectors) * 16 + usize::from(vectors).div_ceil(8);
            let space = space(len, vectors);
            let bytes = state(&space, &vec![0xaa; msix_len]);
            let decoded = ConfigState::decode(&bytes).unwrap();
            assert_eq!((decoded.space.len(), decoded.msix.len()), (len, msix_len));
            assert!(ConfigState::decode(&state(&space, &vec![0xaa; msix_len - 1])).is_err());
            assert!(ConfigState::decode(&state(&space, &vec![0xaa; msix_len + 1])).is_err());
        }
    }

    #[test]
    fn subsections_may_follow() {
        let bytes = state(&space(256, 0), b"\x05\x01x\0\0\0\x01");
        assert_eq!(ConfigState::decode(&bytes).unwrap().subsections, b"\x05\x01x\0\0\0\x01");
    }

    #[test]
    fn what_is_no_config_state_is_refused() {
        let good = state(&space(256, 0), &[]);
        let patched = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            ConfigState::decode(&bytes).map(drop).unwrap_err()
        };
        let end = good.len() - 1;
        assert!(matches!(patched(7, 9), Malformed::Value { field: "tag of the config state", .. }));
        assert!(matches!(patched(11, 9), Malformed::Value { field: "PCI device version", found: 9 }));
        assert!(matches!(patched(end, 9), Malformed::Value { field: "tag of the config state's end", .. }));
        assert!(matches!(patched(end - 8, 9), Malformed::Value { field: "level of an interrupt pin", .. }));
        assert_eq!(ConfigState::decode(&good[..15]), Err(Malformed::Truncated));
        assert_eq!(ConfigState::decode(&[]), Err(Malformed::Truncated));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..600), tagged: bool) {
            if tagged && bytes.len() >= 20 {
                let end = bytes.len() - 8;
                bytes[..8].copy_from_slice(&CONFIG_STATE_TAG.to_be_bytes());
                bytes[8..12].copy_from_slice(&VERSION.to_be_bytes());
                bytes[end..].copy_from_slice(&END_OF_STATE_TAG.to_be_bytes());
            }
            let _ = ConfigState::decode(&bytes);
        }
    }
}

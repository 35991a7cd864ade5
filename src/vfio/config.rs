//! The config state of a PCI device: what the driver's own stream lacks, because the kernel leaves it to user space.
//!
//! # The blob
//!
//! All integers big-endian.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `RLPCICFG` |
//! | 8 | 2 | version, 1 |
//! | 10 | 2 | zero |
//! | 12 | 4 | length of what follows |
//! | 16 | length | the config space as the device's config region shows it, from its offset 0 (little-endian, as PCI is) |
//!
//! A device without config space has an empty blob. A blob saved by QEMU ([`ConfigState`]) is accepted, too: its space
//! is the one that the guest sees, and always 4096 or 256 bytes long, whatever the device has.
//!
//! # Loading
//!
//! First the identity is compared: vendor, device, revision, class, header type, subsystem vendor and subsystem, and
//! (but not for a QEMU blob) the size of the config space. Any difference refuses the blob before anything is written.
//! Then, where the device here differs, these registers are written, and nothing else:
//!
//! | register | bits | why |
//! |---|---|---|
//! | cache line size, latency timer | all | plain registers that the guest's firmware set |
//! | interrupt line | all | a note that the guest's firmware keeps for itself |
//! | command | I/O, memory, bus master, parity response, SERR, INTx disable | last, as it turns the others on |
//!
//! I/O, memory, bus master and INTx disable are read back and must be what was written; not for a QEMU blob, because
//! what its guest sees has bits that the device itself may not have, and QEMU does not read them back either. Not
//! written: base addresses, those of the ROM included (they are virtual: where they are mapped is the virtual machine
//! monitor's own state), status (cleared by writing), MSI and MSI-X (they need event descriptors, which the monitor
//! sets up) and all other capabilities (writing them may trigger something: a reset, a power state). An embedder whose
//! monitor needs more sends its own blob: it wraps the source and the sink and implements `config` itself.

use super::config_state::{CONFIG_STATE_TAG, ConfigState};
use super::kernel::{Kernel, Region};
use crate::error::{DeviceError, DeviceOperation, Errno};

const MAGIC: [u8; 8] = *b"RLPCICFG";
const VERSION: u16 = 1;
const HEADER_SIZE: usize = 16;
/// A PCI Express function has at most this much.
const SPACE_MAX: usize = 4096;
/// Contains the identity and every register below; a device with less is not a PCI device.
const SPACE_MIN: usize = 64;

const COMMAND: usize = 0x04;
/// I/O, memory, bus master, parity error response, SERR, INTx disable.
const COMMAND_WRITTEN: u32 = 0x0547;
/// I/O, memory, bus master, INTx disable: what the device does depends on these.
const COMMAND_VERIFIED: u32 = 0x0407;

/// One-byte registers that are written whole.
const PLAIN: [(DeviceOperation, usize); 3] = [
    (DeviceOperation::WriteCacheLineSize, 0x0c),
    (DeviceOperation::WriteLatencyTimer, 0x0d),
    (DeviceOperation::WriteInterruptLine, 0x3c),
];

/// A field of the config space: little-endian, of one to four bytes.
struct Field {
    name: &'static str,
    offset: usize,
    size: usize,
    mask: u32,
}

impl Field {
    const fn new(name: &'static str, offset: usize, size: usize) -> Field {
        Field { name, offset, size, mask: u32::MAX }
    }

    fn of(&self, space: &[u8]) -> u32 {
        let bytes = &space[self.offset..self.offset + self.size];
        bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)) & self.mask
    }
}

/// What must be equal on both sides.
const IDENTITY: [Field; 5] = [
    Field::new("vendor", 0x00, 2),
    Field::new("device", 0x02, 2),
    Field::new("revision", 0x08, 1),
    Field::new("class", 0x09, 3),
    // without the bit that tells whether the card has other functions
    Field { name: "header type", offset: 0x0e, size: 1, mask: 0x7f },
];

/// Only a plain function (header type 0) has these at these offsets.
const SUBSYSTEM: [Field; 2] = [Field::new("subsystem vendor", 0x2c, 2), Field::new("subsystem", 0x2e, 2)];

/// Writes the blob into `buffer` and returns its length.
pub(super) fn save(kernel: &dyn Kernel, buffer: &mut [u8]) -> Result<usize, DeviceError> {
    let Some(space) = read_space(kernel)? else { return Ok(0) };
    let length = HEADER_SIZE + space.len();
    let blob =
        buffer.get_mut(..length).ok_or(DeviceError::BadConfig { what: "it does not fit in its buffer" })?;
    let space_length = u32::try_from(space.len()).expect("a config space has at most 4096 bytes");
    blob[..8].copy_from_slice(&MAGIC);
    blob[8..10].copy_from_slice(&VERSION.to_be_bytes());
    blob[10..12].fill(0);
    blob[12..16].copy_from_slice(&space_length.to_be_bytes());
    blob[16..].copy_from_slice(&space);
    Ok(length)
}

/// Checks the blob against the device and applies it.
pub(super) fn load(kernel: &dyn Kernel, blob: &[u8]) -> Result<(), DeviceError> {
    if blob.is_empty() {
        return Ok(());
    }
    let is_from_a_stream = is_from_a_stream(blob);
    let theirs = if is_from_a_stream { parse_from_a_stream(blob)? } else { parse(blob)? };
    let region = region(kernel)?
        .ok_or(DeviceError::BadConfig { what: "it is of a PCI device, and the device here is none" })?;
    let ours = read_region(kernel, region)?;
    compare(&ours, theirs)?;
    if !is_from_a_stream {
        let length = |space: &[u8]| u32::try_from(space.len()).unwrap_or(u32::MAX);
        same("config space size", length(&ours), length(theirs))?;
    }
    for (operation, offset) in PLAIN {
        if ours[offset] != theirs[offset] {
            write(kernel, region, operation, offset, &theirs[offset..=offset])?;
        }
    }
    let verified = if is_from_a_stream { 0 } else { COMMAND_VERIFIED };
    load_command(kernel, region, &ours, theirs, verified)
}

fn load_command(
    kernel: &dyn Kernel,
    region: Region,
    ours: &[u8],
    theirs: &[u8],
    verified: u32,
) -> Result<(), DeviceError> {
    let command = Field::new("command", COMMAND, 2);
    let wanted = (command.of(ours) & !COMMAND_WRITTEN) | (command.of(theirs) & COMMAND_WRITTEN);
    if wanted == command.of(ours) {
        return Ok(());
    }
    write(kernel, region, DeviceOperation::WriteCommand, COMMAND, &wanted.to_le_bytes()[..2])?;
    let written = command.of(&read_region(kernel, region)?);
    if (written ^ wanted) & verified != 0 {
        let errno = nix::errno::Errno::EIO.into();
        return Err(DeviceError::Io { operation: DeviceOperation::VerifyCommand, errno });
    }
    Ok(())
}

/// Whether the blob is laid out as in a migration stream: see [`ConfigState`].
fn is_from_a_stream(blob: &[u8]) -> bool {
    blob.starts_with(&CONFIG_STATE_TAG.to_be_bytes())
}

/// The config space in such a blob. Interrupt pins, MSI-X and subsections are the monitor's own state.
fn parse_from_a_stream(blob: &[u8]) -> Result<&[u8], DeviceError> {
    let state = ConfigState::decode(blob).map_err(|malformed| DeviceError::StreamConfig { malformed })?;
    Ok(state.space)
}

/// The config space in a blob.
fn parse(blob: &[u8]) -> Result<&[u8], DeviceError> {
    let bad = |what| Err(DeviceError::BadConfig { what });
    let Some((header, space)) = blob.split_first_chunk::<HEADER_SIZE>() else {
        return bad("it is shorter than its header");
    };
    if header[..8] != MAGIC {
        return bad("it is no PCI config space saved by ringlift");
    }
    if header[8..10] != VERSION.to_be_bytes() {
        return bad("it has another version");
    }
    if header[10..12] != [0, 0] {
        return bad("its reserved bytes are not zero");
    }
    let length = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
    if usize::try_from(length) != Ok(space.len()) {
        return bad("its length is not what its header says");
    }
    if !(SPACE_MIN..=SPACE_MAX).contains(&space.len()) {
        return bad("no PCI config space has its length");
    }
    Ok(space)
}

fn compare(ours: &[u8], theirs: &[u8]) -> Result<(), DeviceError> {
    for field in &IDENTITY {
        same(field.name, field.of(ours), field.of(theirs))?;
    }
    if IDENTITY[4].of(ours) == 0 {
        for field in &SUBSYSTEM {
            same(field.name, field.of(ours), field.of(theirs))?;
        }
    }
    Ok(())
}

fn same(field: &'static str, found: u32, expected: u32) -> Result<(), DeviceError> {
    if found == expected { Ok(()) } else { Err(DeviceError::Identity { field, found, expected }) }
}

/// The config region, cut to the largest possible config space.
fn region(kernel: &dyn Kernel) -> Result<Option<Region>, DeviceError> {
    let region = kernel.config_region().map_err(|errno| failed(DeviceOperation::FindConfigSpace, errno))?;
    Ok(region
        .filter(|region| region.size >= SPACE_MIN as u64)
        .map(|region| Region { size: region.size.min(SPACE_MAX as u64), ..region }))
}

fn read_space(kernel: &dyn Kernel) -> Result<Option<Vec<u8>>, DeviceError> {
    region(kernel)?.map(|region| read_region(kernel, region)).transpose()
}

fn read_region(kernel: &dyn Kernel, region: Region) -> Result<Vec<u8>, DeviceError> {
    let mut space = vec![0; usize::try_from(region.size).expect("cut to 4096 bytes")];
    kernel
        .read_at(&mut space, region.offset)
        .map_err(|errno| failed(DeviceOperation::ReadConfigSpace, errno))?;
    Ok(space)
}

fn write(
    kernel: &dyn Kernel,
    region: Region,
    operation: DeviceOperation,
    offset: usize,
    bytes: &[u8],
) -> Result<(), DeviceError> {
    kernel.write_at(bytes, region.offset + offset as u64).map_err(|errno| failed(operation, errno))
}

fn failed(operation: DeviceOperation, errno: Errno) -> DeviceError {
    DeviceError::Io { operation, errno }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno as Raw;

    use super::*;
    use crate::vfio::config_state::END_OF_STATE_TAG;
    use crate::vfio::fake::{FakeKernel, Operation};

    const SPACE: usize = 256;

    fn saved(kernel: &FakeKernel) -> Vec<u8> {
        let mut buffer = vec![0xee; 8192];
        let length = save(kernel, &mut buffer).unwrap();
        buffer.truncate(length);
        buffer
    }

    fn used_card() -> FakeKernel {
        let kernel = FakeKernel::new(1);
        kernel.set_config(COMMAND, &[0x06, 0x04]);
        kernel.set_config(0x0c, &[0x10, 0x40]);
        kernel.set_config(0x10, &[0x0c, 0x00, 0x00, 0xf0]);
        kernel.set_config(0x3c, &[11]);
        kernel
    }

    #[test]
    fn the_blob_is_a_header_and_the_space() {
        let kernel = used_card();

        let blob = saved(&kernel);

        assert_eq!(blob[..16], *b"RLPCICFG\x00\x01\x00\x00\x00\x00\x01\x00");
        assert_eq!(blob[16..], kernel.config());
    }

    #[test]
    fn loading_writes_the_listed_registers_and_no_other() {
        let fresh = FakeKernel::new(1);
        let mut expected = fresh.config();
        expected[COMMAND..COMMAND + 2].copy_from_slice(&[0x06, 0x04]);
        expected[0x0c..0x0e].copy_from_slice(&[0x10, 0x40]);
        expected[0x3c] = 11;
        for offset in 0..SPACE {
            fresh.set_writable(offset, 0xff);
        }

        load(&fresh, &saved(&used_card())).unwrap();

        assert_eq!(fresh.config(), expected);
    }

    #[test]
    fn what_is_equal_is_not_written() {
        let kernel = used_card();
        kernel.fail(Operation::Write, 0, Raw::EIO);

        load(&kernel, &saved(&kernel)).unwrap();
    }

    #[test]
    fn command_bits_beyond_the_listed_ones_stay() {
        let (source, fresh) = (FakeKernel::new(1), FakeKernel::new(1));
        source.set_config(COMMAND, &[0xff, 0xff]);
        fresh.set_writable(COMMAND, 0xff);
        fresh.set_writable(COMMAND + 1, 0xff);

        load(&fresh, &saved(&source)).unwrap();

        assert_eq!(fresh.config()[COMMAND..COMMAND + 2], [0x47, 0x05]);
    }

    #[test]
    fn another_kind_of_device_is_refused_before_anything_is_written() {
        for (offset, name) in [
            (0x00, "vendor"),
            (0x02, "device"),
            (0x08, "revision"),
            (0x0a, "class"),
            (0x0e, "header type"),
            (0x2c, "subsystem vendor"),
            (0x2e, "subsystem"),
        ] {
            let other = used_card();
            other.set_config(offset, &[0x55]);
            let fresh = FakeKernel::new(1);
            let before = fresh.config();

            let error = load(&fresh, &saved(&other)).unwrap_err();

            assert!(matches!(error, DeviceError::Identity { field, .. } if field == name), "{name}: {error}");
            assert_eq!(fresh.config(), before);
        }
    }

    #[test]
    fn an_identity_error_shows_both_values() {
        let other = used_card();
        other.set_config(0x02, &[0x20, 0x10]);

        assert_eq!(
            load(&FakeKernel::new(1), &saved(&other)).unwrap_err(),
            DeviceError::Identity { field: "device", found: 0x101e, expected: 0x1020 }
        );
    }

    #[test]
    fn a_card_with_more_functions_is_the_same_card() {
        let other = used_card();
        other.set_config(0x0e, &[0x80]);

        load(&FakeKernel::new(1), &saved(&other)).unwrap();
    }

    #[test]
    fn a_command_that_does_not_stick_is_an_error() {
        let fresh = FakeKernel::new(1);
        fresh.set_writable(COMMAND, 0x02);

        let error = load(&fresh, &saved(&used_card())).unwrap_err();

        assert!(matches!(error, DeviceError::Io { errno, .. } if errno == Raw::EIO.into()));
    }

    #[test]
    fn failed_reads_and_writes_are_reported() {
        let (source, fresh) = (used_card(), FakeKernel::new(1));
        let blob = saved(&source);
        source.fail(Operation::Read, 0, Raw::EIO);
        fresh.fail(Operation::Write, 1, Raw::EPERM);

        assert!(matches!(save(&source, &mut [0; 512]), Err(DeviceError::Io { .. })));
        assert!(matches!(
            load(&fresh, &blob),
            Err(DeviceError::Io { operation: DeviceOperation::WriteLatencyTimer, errno }) if errno == Raw::EPERM.into()
        ));
    }

    #[test]
    fn a_device_without_config_space_has_an_empty_blob() {
        let kernel = FakeKernel::new(1).without_config();

        assert!(saved(&kernel).is_empty());
        load(&kernel, &[]).unwrap();
        load(&used_card(), &[]).unwrap();
        assert!(matches!(load(&kernel, &saved(&used_card())), Err(DeviceError::BadConfig { .. })));
    }

    /// What QEMU saves for a device with this config space.
    fn qemus(space: &[u8], len: usize) -> Vec<u8> {
        let mut blob = [&CONFIG_STATE_TAG.to_be_bytes()[..], &2_u32.to_be_bytes(), space].concat();
        blob.resize(12 + len, 0);
        blob.extend([0; 16]);
        blob.extend(END_OF_STATE_TAG.to_be_bytes());
        blob
    }

    #[test]
    fn what_a_qemu_saved_is_loaded_as_our_own_is() {
        for len in [4096, 256] {
            let (ours, theirs) = (FakeKernel::new(1), FakeKernel::new(1));
            for kernel in [&ours, &theirs] {
                (0..SPACE).for_each(|offset| kernel.set_writable(offset, 0xff));
            }

            load(&ours, &saved(&used_card())).unwrap();
            load(&theirs, &qemus(&used_card().config(), len)).unwrap();

            assert_eq!(theirs.config(), ours.config());
        }
    }

    /// The kernel's sample serial card ignores what is written to its command register, and its guest's firmware turns
    /// memory and SERR on.
    #[test]
    fn command_bits_that_only_the_guest_sees_are_no_error() {
        let fresh = FakeKernel::new(1);
        fresh.set_writable(COMMAND, 0x02);

        load(&fresh, &qemus(&used_card().config(), 4096)).unwrap();

        assert_eq!(fresh.config()[COMMAND..COMMAND + 2], [0x02, 0x04]);
    }

    #[test]
    fn another_device_that_a_qemu_saved_is_refused_before_anything_is_written() {
        let other = used_card();
        other.set_config(0x02, &[0x20]);
        let fresh = FakeKernel::new(1);
        let before = fresh.config();

        let error = load(&fresh, &qemus(&other.config(), 4096)).unwrap_err();

        assert!(matches!(error, DeviceError::Identity { field: "device", .. }), "{error}");
        assert_eq!(fresh.config(), before);
        let blob = qemus(&used_card().config(), 4096);
        assert!(matches!(
            load(&FakeKernel::new(1).without_config(), &blob),
            Err(DeviceError::BadConfig { .. })
        ));
    }

    #[test]
    fn broken_blobs_of_a_qemu_are_refused() {
        let good = qemus(&used_card().config(), 4096);
        let mut version = good.clone();
        version[11] = 3;
        for blob in [good[..8].to_vec(), good[..good.len() - 1].to_vec(), [&good[..], &[0]].concat(), version]
        {
            let error = load(&FakeKernel::new(1), &blob).unwrap_err();
            assert!(matches!(error, DeviceError::StreamConfig { .. }), "{error}");
        }
    }

    #[test]
    fn a_buffer_that_is_too_small_is_an_error() {
        assert!(matches!(save(&used_card(), &mut [0; SPACE]), Err(DeviceError::BadConfig { .. })));
    }

    #[test]
    fn broken_blobs_are_refused() {
        let good = saved(&used_card());
        let changed = |offset: usize, byte: u8| {
            let mut blob = good.clone();
            blob[offset] = byte;
            blob
        };
        let mut long = good.clone();
        long.push(0);
        let tiny = [&good[..12], &[0, 0, 0, 1, 0]].concat();
        let huge = [&good[..12], &4097_u32.to_be_bytes(), &[0; 4097]].concat();
        for blob in [
            vec![0],
            good[..15].to_vec(),
            good[..100].to_vec(),
            changed(0, b'X'),
            changed(9, 2),
            changed(11, 1),
            long,
            tiny,
            huge,
        ] {
            assert!(matches!(load(&FakeKernel::new(1), &blob), Err(DeviceError::BadConfig { .. })));
        }
    }
}

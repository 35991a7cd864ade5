//! The 64-bit tags that VFIO devices put in front of their data in a migration stream.
//!
//! Nothing here knows the stream around them: live sections and the saved config state both use these tags.

/// Ends a device's data.
pub const END_OF_STATE_TAG: u64 = 0xffff_ffff_ef10_0001;
/// Opens the config state of a device.
pub const CONFIG_STATE_TAG: u64 = 0xffff_ffff_ef10_0002;
/// A device begins.
pub(crate) const SETUP_STATE_TAG: u64 = 0xffff_ffff_ef10_0003;
/// A length follows, then that many bytes of state.
pub(crate) const DATA_STATE_TAG: u64 = 0xffff_ffff_ef10_0004;
/// The device has sent its initial state.
pub(crate) const INIT_DATA_SENT_TAG: u64 = 0xffff_ffff_ef10_0005;
/// In place of config state, which comes with the device's packets: it may be loaded now (QEMU 10.1 and later).
pub const CONFIG_LOAD_READY_TAG: u64 = 0xffff_ffff_ef10_0006;

//! What a sender's caller can set, and what holds where it sets nothing. It must not know what any of it does.

use std::time::Duration;

use crate::channel::ZeroCopy;
use crate::limits::{CHANNELS_DEFAULT, DOWNTIME_LIMIT_DEFAULT, DOWNTIME_MAX_DEFAULT};
use crate::transfer::send::Hooks;
use crate::wire::Checksum;

pub(super) struct Options {
    pub(super) channels: u16,
    /// By the devices unless set.
    pub(super) pool_size: Option<u64>,
    pub(super) zero_copy: ZeroCopy,
    pub(super) checksum: Checksum,
    pub(super) downtime_max: Duration,
    pub(super) downtime_limit: Duration,
    pub(super) warms_up: bool,
    pub(super) is_dry_run: bool,
    pub(super) hooks: Hooks,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            channels: u16::try_from(CHANNELS_DEFAULT).expect("a small number"),
            pool_size: None,
            zero_copy: ZeroCopy::default(),
            checksum: Checksum::default(),
            downtime_max: DOWNTIME_MAX_DEFAULT,
            downtime_limit: DOWNTIME_LIMIT_DEFAULT,
            warms_up: false,
            is_dry_run: false,
            hooks: Hooks::default(),
        }
    }
}

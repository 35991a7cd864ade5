//! What one thread has: a ring, a pool, the devices that it reads or writes, and the one who asked for it.
//!
//! Both protocols are carried out by workers. Nothing here knows a message or a packet's header of either.

pub(crate) mod caller;
pub(crate) mod ending;
pub(crate) mod io_mode;
pub(crate) mod loading;
pub(crate) mod operation;
pub(crate) mod report_builder;
pub(crate) mod settings;
pub(crate) mod steps;
pub(crate) mod writers;

use crate::buffer::Pool;
use crate::error::{KernelError, Misuse};
use crate::limits::{CONFIG_SIZE_MAX, DEVICES_MAX, LINE_SIZE, NAME_MAX};

/// Whether these can be the devices of one session.
pub(crate) fn check_devices<'a>(devices: impl Iterator<Item = (&'a str, u32)>) -> Result<(), Misuse> {
    let mut seen = std::collections::HashSet::new();
    for (name, instance) in devices {
        if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
            return Err(Misuse::BadName);
        }
        if !seen.insert((name, instance)) {
            return Err(Misuse::DuplicateDevice { name: name.into() });
        }
    }
    match seen.len() {
        0 => Err(Misuse::NoDevices),
        given if given > DEVICES_MAX => Err(Misuse::TooManyDevices { given }),
        _ => Ok(()),
    }
}

/// Payload bytes that a slot must hold: a data packet or a config state, whichever is longer.
pub(crate) fn slot_size(packet_size: u32) -> u32 {
    packet_size.max(u32::try_from(CONFIG_SIZE_MAX).expect("config state is short"))
}

/// Lines for a control connection and `more` others.
pub(crate) fn control_buffers(more: usize) -> Result<Pool, KernelError> {
    let count = u32::try_from(2 + more).expect("channels are bounded by CHANNELS_MAX");
    Pool::new(count, u32::try_from(LINE_SIZE).expect("lines are short"))
}

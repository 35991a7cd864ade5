//! What a migration stream says, followed once for everybody: the recorder, the inspection of a capture, and the live
//! receiver.
//!
//! [`MainFollower`] takes the bytes of a main connection and yields what they say, each with its offset. [`Follower`] takes
//! that and the packets of the channels, and knows what holds across the connections of one migration: its devices, which
//! of them is speaking, what the source is to be answered, and what must not come ([`Violation`], [`Disorder`]).
//!
//! Pure: bytes and events in, values out; no descriptor, no clock, and no memory beyond a bounded list of devices. What a
//! caller keeps of each device is its own type, `D`.

mod acknowledgement;
mod device_id;
mod devices;
mod main_connection;
mod order;

use self::acknowledgement::Acknowledgement;
use crate::wire::qemu::{Command, Event, Reply};

pub use self::device_id::DeviceId;
pub(crate) use self::devices::{Device, Devices, Violation};
pub(crate) use self::main_connection::{MainFollower, Step};
pub(crate) use self::order::{Disorder, check_order};

/// Follows a migration over all its connections.
#[derive(Debug)]
pub(crate) struct Follower<D> {
    pub(crate) devices: Devices<D>,
    acknowledgement: Acknowledgement,
    is_acknowledged: bool,
}

impl<D> Follower<D> {
    pub(crate) fn new(devices: Devices<D>) -> Follower<D> {
        Follower { devices, acknowledgement: Acknowledgement::default(), is_acknowledged: false }
    }

    /// The main connection says something at offset `begin`. Returns what the source is answered if it listens.
    pub(crate) fn on_main(&mut self, event: &Event<'_>, begin: u64) -> Result<Option<Reply>, Violation> {
        if let Event::Command(Command::Ping(number)) = *event {
            return Ok(Some(Reply::Pong(number)));
        }
        self.devices.on_main(event, begin)?;
        self.acknowledgement.see(event);
        let is_due = !self.is_acknowledged && self.acknowledgement.is_due();
        self.is_acknowledged |= is_due;
        Ok(is_due.then_some(Reply::SwitchoverAck))
    }
}

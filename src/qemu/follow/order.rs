//! Which packet of a device may come: each once, the config packet last, and none too far ahead.
//!
//! For those that see the packets as they come. An inspection reads one connection after the other, so it sorts instead.

use crate::error::{Place, QemuError};
use crate::limits::QEMU_AHEAD_MAX;
use crate::session::reorder::{Problem, Reorder};
use crate::wire::qemu::DevicePacket;

/// Why a packet may not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disorder {
    /// It does not fit the others.
    Packet(Problem),
    /// Those before it cannot all be on their way.
    FarAhead,
    /// The device has sent state of the same kind on the main connection.
    AfterMain,
}

/// Whether a packet can belong where it says, however long it waits for those before it.
pub(crate) fn check_order<H>(order: &Reorder<H>, packet: &DevicePacket) -> Result<(), Disorder> {
    let idx = u64::from(packet.idx);
    order.check(idx, packet.config).map_err(Disorder::Packet)?;
    match idx - order.next() > QEMU_AHEAD_MAX as u64 {
        true => Err(Disorder::FarAhead),
        false => Ok(()),
    }
}

impl Disorder {
    /// The packet that began at an offset of a connection.
    pub(crate) fn of(self, packet: &DevicePacket, (place, offset): (Place, u64)) -> QemuError {
        let problem = match self {
            Disorder::Packet(problem) => problem.words(),
            Disorder::FarAhead => "further ahead of its turn than connections can hold",
            Disorder::AfterMain => "after state on the main connection",
        };
        QemuError::Order { place, offset, device: packet.idstr.as_str().into(), idx: packet.idx, problem }
    }
}

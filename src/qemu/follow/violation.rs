//! What a source must not do across its connections, worded once for the live receiver, the recorder and the
//! inspection.

use crate::error::{
    CaptureProblem, Counted, DeviceProblem, Error, OnlyOnce, PacketProblem, PeerError, Place, QemuError,
    Refusal, Side, UnexpectedState,
};
use crate::limits::{DEVICES_MAX, QEMU_AHEAD_MAX};
use crate::numbers::PacketIdx;
use crate::session::reorder::Reorder;
use crate::wire::qemu::DevicePacket;

/// Something that a source must not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Violation {
    /// The receiver has no such device.
    Unknown { device: Box<str> },
    /// More devices than a machine can have.
    TooMany,
    /// A second START section; the first is at this offset.
    SecondStart { device: Box<str>, first: u64 },
}

impl Violation {
    /// As the error of a live stream, on this connection.
    pub(crate) fn on(self, place: Place) -> Error {
        let error = match self {
            Violation::Unknown { device } => {
                let reason = Refusal::DeviceMismatch { name: device };
                return Error::Refused { by: Side::Receiver, reason };
            }
            Violation::TooMany => QemuError::TooManyDevices { place },
            Violation::SecondStart { device, .. } => {
                QemuError::Unexpected { device, what: UnexpectedState::TwoStartSections }
            }
        };
        PeerError::from(error).into()
    }

    /// As a problem in a capture, which may hold any device.
    pub(crate) fn in_capture(self) -> CaptureProblem {
        match self {
            Violation::TooMany => CaptureProblem::TooMany { what: Counted::Devices, max: DEVICES_MAX },
            Violation::SecondStart { first, .. } => {
                CaptureProblem::Twice { what: OnlyOnce::StartSection, first }
            }
            Violation::Unknown { device } => {
                CaptureProblem::Device { device, problem: DeviceProblem::Unknown }
            }
        }
    }
}

/// Where a packet begins: its connection and offset.
type At = (Place, u64);

/// Checks that a packet's number is possible, even if the packet has to wait for those before it: each number comes
/// once, the config packet last, and none further ahead than connections can hold.
///
/// For streams whose packets are seen as they come. An inspection reads one connection after the other, so it sorts
/// instead.
pub(crate) fn check_order<H>(order: &Reorder<H>, packet: &DevicePacket, at: At) -> Result<(), QemuError> {
    let idx = PacketIdx::from(packet.idx);
    order
        .check(idx, packet.config)
        .map_err(|problem| disorder(packet, at, PacketProblem::Number(problem)))?;
    match idx.ahead_of(order.next()) > QEMU_AHEAD_MAX as u64 {
        true => Err(disorder(packet, at, PacketProblem::TooFarAhead)),
        false => Ok(()),
    }
}

/// Checks a packet as [`check_order`] does, and claims its place.
pub(crate) fn claim<H>(order: &mut Reorder<H>, packet: &DevicePacket, at: At) -> Result<(), QemuError> {
    check_order(order, packet, at)?;
    let claimed = order.claim(packet.idx.into(), packet.config, PacketIdx::UNLIMITED);
    claimed.map_err(|problem| disorder(packet, at, PacketProblem::Number(problem)))
}

/// The error for a packet that may not come.
pub(crate) fn disorder(packet: &DevicePacket, (place, offset): At, problem: PacketProblem) -> QemuError {
    QemuError::Order { place, offset, device: packet.idstr.as_str().into(), idx: packet.idx, problem }
}

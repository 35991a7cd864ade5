//! Finds the milestones of a capture's connections in its inspection.

use std::ops::Range;

use super::barriers::{Barriers, ChannelMilestones, Circle, MainMilestones};
use crate::error::{CaptureError, CaptureProblem};
use crate::numbers::{ChannelIdx, ConnectionIdx};
use crate::qemu::capture::Inspection;
use crate::wire::qemu::INIT_LEN;

/// The barriers of a complete capture. A capture whose connections wait for each other is refused.
pub(super) fn barriers(capture: &Inspection) -> Result<Barriers, CaptureError> {
    let stream = &capture.stream;
    let [main, channels @ ..] = &capture.connections[..] else {
        let file = "the capture".into();
        return Err(CaptureError { file, offset: 0, problem: CaptureProblem::NoMain });
    };
    let is_ready = capture.devices.iter().any(|device| device.init_data_sent_at.is_some());
    let milestones = MainMilestones {
        len: main.bytes,
        flushes: main.barriers.clone(),
        switchover: stream.switchover_at,
        tail: stream.tail_at,
        // a source reports that its initial state is sent only if it waits for the acknowledgement
        awaits_ack: is_ready && stream.return_path_at.is_some(),
    };
    let channel = |(channel, connection): (usize, &crate::qemu::capture::Connection)| ChannelMilestones {
        len: connection.bytes,
        syncs: connection.barriers.clone(),
        device: device_state(capture, ChannelIdx::from_index(channel).into()),
    };
    let channels = channels.iter().enumerate().map(channel).collect();
    Barriers::new(milestones, channels, INIT_LEN as u64).map_err(|Circle { connection, offset }| {
        let file = capture.connections[connection.index()].file.clone();
        CaptureError { file, offset, problem: CaptureProblem::Circle }
    })
}

/// From the first packet of device state on a connection to the end of the last.
fn device_state(capture: &Inspection, connection: ConnectionIdx) -> Option<Range<u64>> {
    let packets = capture.devices.iter().flat_map(|device| &device.packets);
    let here = packets.filter(|packet| ConnectionIdx(packet.state.connection) == connection);
    here.map(|packet| packet.offset()..packet.state.offset + u64::from(packet.state.len))
        .reduce(|all, packet| all.start.min(packet.start)..all.end.max(packet.end))
}

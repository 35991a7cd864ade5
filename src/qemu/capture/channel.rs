//! One multifd connection: an init, then packets to the end of the file.

use super::inspection::Connection;
use super::main_connection::keep_barrier;
use crate::error::{CaptureProblem, StreamPart};
use crate::qemu::reader::{At, Reader, broken};
use crate::wire::qemu::{DevicePacket, INIT_LEN, Init, Kind, PREFIX_LEN, Packet, PageSize};

/// Reads the init, which identifies the connection.
pub(super) fn init(reader: &mut Reader) -> Result<Init, At> {
    let bytes: [u8; INIT_LEN] = reader.take(StreamPart::Init)?;
    Init::decode(&bytes).map_err(|malformed| At::new(0, broken(StreamPart::Init, malformed)))
}

/// Counts the packets after the init, and passes those of devices to `on_device` with the offset where they begin; the
/// reader stands at their state. What was counted before a problem is kept.
pub(super) fn walk(
    reader: &mut Reader,
    page_size: PageSize,
    connection: &mut Connection,
    mut on_device: impl FnMut(&mut Reader, DevicePacket, u64) -> Result<(), At>,
) -> Result<(), At> {
    while reader.remaining() > 0 {
        let offset = reader.offset();
        if reader.remaining() < PREFIX_LEN as u64 {
            return Err(shorter_than_a_packet(reader, offset));
        }
        let prefix: [u8; PREFIX_LEN] = reader.take(StreamPart::Packet)?;
        let packet = Packet::decode(&prefix, page_size)
            .map_err(|malformed| At::new(offset, broken(StreamPart::PacketHeader, malformed)))?;
        if u64::from(packet.rest()) > reader.remaining() {
            return Err(At::new(reader.len(), CaptureProblem::Cut { within: StreamPart::Packet }));
        }
        let end = reader.offset() + u64::from(packet.rest());
        connection.packets += 1;
        match packet {
            Packet::Device(device) => {
                connection.device_packets += 1;
                on_device(reader, device, offset)?;
            }
            Packet::Ram(ram) => {
                connection.ram_packets += 1;
                connection.normal_pages += u64::from(ram.normal_pages);
                connection.zero_pages += u64::from(ram.zero_pages);
            }
            Packet::Sync(_) => {
                connection.ram_packets += 1;
                connection.syncs += 1;
                keep_barrier(&mut connection.barriers, offset, end)?;
            }
        }
        reader.skip(end - reader.offset(), StreamPart::Packet)?;
    }
    Ok(())
}

/// Fewer bytes are left than any packet has: a packet that was cut off, or something else.
fn shorter_than_a_packet(reader: &mut Reader, offset: u64) -> At {
    let bytes = reader.remaining();
    match reader.take::<4>(StreamPart::Packet) {
        Ok(first) if Kind::of(first) != Ok(Kind::Multifd) => {
            At::new(offset, CaptureProblem::Trailing { bytes })
        }
        _ => At::new(offset + bytes, CaptureProblem::Cut { within: StreamPart::Packet }),
    }
}

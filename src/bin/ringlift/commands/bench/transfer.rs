//! One measured transfer of a cell. It must not know why it is measured, or what becomes of its report.

use std::net::SocketAddr;

use ringlift::error::Error;
use ringlift::{Cancel, Sender, SenderBuilder};

use super::matrix::Cell;
use crate::args;
use crate::ends::{Named, SourceSpec};

/// A sender of a cell's devices, named d0, d1 and so on, each with this state.
pub(crate) fn sender(
    cell: &Cell,
    state: &SourceSpec,
    to: SocketAddr,
    cancel: &Cancel,
) -> Result<SenderBuilder, Error> {
    let mut builder = Sender::builder()
        .connect(to)
        .channels(cell.channels)
        .packet_size(cell.packet_size)
        .zero_copy(cell.zero_copy.into())
        .checksum(cell.checksum.into())
        .run(args::Run::default().info())
        .cancel(cancel);
    for idx in 0..cell.devices {
        let device = Named { name: format!("d{idx}"), end: state.clone() };
        builder = builder.boxed_device(device.name.as_str(), device.open()?);
    }
    if let Some(congestion) = &cell.congestion {
        builder = builder.congestion(congestion.as_str());
    }
    Ok(builder)
}

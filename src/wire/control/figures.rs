//! The messages that carry figures from one side to the other: ping, pong, how much may warm a connection up, and the parts of
//! a report. Knows nothing of what is in a report. A decoded part lies within its report, and that within its bound.

use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Control;
use crate::limits::{CONTROL_BODY_MAX, REPORT_MAX, REPORT_PIECE_MAX};
use crate::wire::Malformed;
use crate::wire::cursor::{Reader, Writer};

/// The feature bit of an offer (P-13) with which a sender asks for figures: the receiver answers pings, and sends its report
/// behind committed.
pub const FEATURE_FIGURES: u64 = 1 << 32;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PieceLayout {
    total: U32,
    offset: U32,
}

/// Length of a ping's body.
pub(super) const PING_LEN: usize = size_of::<u64>();
/// Length of a pong's body.
pub(super) const PONG_LEN: usize = 3 * size_of::<u64>();
/// Length of a warm-up's body.
pub(super) const WARM_UP_LEN: usize = size_of::<u64>();
/// Length of the shortest part of a report: one byte.
pub(super) const PIECE_MIN: usize = size_of::<PieceLayout>() + 1;
/// Length of the longest.
pub(super) const PIECE_MAX: usize = size_of::<PieceLayout>() + REPORT_PIECE_MAX;

const _: () = assert!(PIECE_MAX <= CONTROL_BODY_MAX);

pub(super) fn encode_ping(at: u64, body: &mut Writer<'_>) -> Option<()> {
    body.put(&U64::new(at))
}

pub(super) fn decode_ping(body: &mut Reader<'_>) -> Result<Control, Malformed> {
    Ok(Control::Ping { at: body.take::<U64>()?.get() })
}

pub(super) fn encode_pong(times: [u64; 3], body: &mut Writer<'_>) -> Option<()> {
    body.put(&times.map(U64::new))
}

pub(super) fn decode_pong(body: &mut Reader<'_>) -> Result<Control, Malformed> {
    let [at, received_at, sent_at] = body.take::<[U64; 3]>()?.map(U64::get);
    Ok(Control::Pong { at, received_at, sent_at })
}

pub(super) fn encode_warm_up(bytes: u64, body: &mut Writer<'_>) -> Option<()> {
    body.put(&U64::new(bytes))
}

pub(super) fn decode_warm_up(body: &mut Reader<'_>) -> Result<Control, Malformed> {
    Ok(Control::WarmUp { bytes: body.take::<U64>()?.get() })
}

pub(super) fn encode_piece(total: u32, offset: u32, bytes: &[u8], body: &mut Writer<'_>) -> Option<()> {
    body.put(&PieceLayout { total: U32::new(total), offset: U32::new(offset) })?;
    body.put(bytes)
}

pub(super) fn decode_piece(body: &mut Reader<'_>) -> Result<Control, Malformed> {
    let PieceLayout { total, offset } = body.take()?;
    let (total, offset, bytes) = (total.get(), offset.get(), body.take_bytes(body.rest.len())?);
    if total as usize > REPORT_MAX {
        return Err(Malformed::TooLong { field: "report", found: total.into(), max: REPORT_MAX as u64 });
    }
    let end = u64::from(offset) + bytes.len() as u64;
    if bytes.is_empty() || end > total.into() {
        return Err(Malformed::Value { field: "end of a part", found: end });
    }
    Ok(Control::Report { total, offset, bytes: bytes.into() })
}

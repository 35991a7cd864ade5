//! Messages on the control connection: a fixed header, then a body. Knows nothing of who may send what and when. A
//! decoded message is whole and within its bounds, and its length is checked before it is read.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::cursor::{Reader, Writer};
use super::text::{check_text, printable};
use super::{Malformed, crc32c, reserved_is_zero};
use crate::limits::{CONTROL_BODY_MAX, CONTROL_BUFFER_SIZE, TEXT_MAX};

mod figures;
mod kind;
mod offer;

pub use figures::FEATURE_FIGURES;
pub use kind::ControlKind;
use offer::OFFER_MAX;
pub use offer::{DeviceOffer, Offer};

/// Bytes in front of every control message's body.
pub const CONTROL_HEADER_LEN: usize = 16;

/// The fixed part of a control message, enough to know how much follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlHeader {
    /// Which message.
    pub kind: u16,
    /// Bytes of body that follow.
    pub len: u32,
    /// CRC32C of the header's bytes before this field and of the body, so that no message turns into another kind.
    pub crc32c: u32,
}

/// A message on the control connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// Sender: what it wants.
    Offer(Offer),
    /// Receiver: it agrees, and now gets its devices ready.
    Accept,
    /// Receiver: it refuses. A code (see `crate::error::Refusal`) and a text.
    Refuse {
        /// Which reason.
        code: u16,
        /// The receiver's text, or the device's name.
        text: Box<str>,
    },
    /// Receiver: every device is ready to be written to.
    Ready,
    /// Receiver: packets of a device below `limit` may be sent.
    Credit {
        /// The device's number.
        device: u16,
        /// The first idx that may not be sent yet. Only ever grows.
        limit: u64,
    },
    /// Sender: its devices stop now.
    Switchover,
    /// Receiver: a device has all of its state and is ready to run.
    Loaded {
        /// The device's number.
        device: u16,
        /// Packets, the config packet included.
        packets: u64,
        /// Bytes of payload, the config state included.
        bytes: u64,
        /// CRC32C of the whole state in order, config state included; 0 when payloads are not checked.
        crc32c: u32,
    },
    /// Sender: the devices now belong to the receiver.
    Commit,
    /// Receiver: the devices run.
    Committed,
    /// Either: something failed. From a receiver it also promises that its devices do not run and never will.
    Abort {
        /// Which kind of failure.
        code: u16,
        /// The reason, as text.
        text: Box<str>,
    },
    /// Either: the caller cancelled. The same promise.
    Cancel,
    /// Either: still here.
    Heartbeat,
    /// Sender, with [`FEATURE_FIGURES`]: what time is it there?
    Ping {
        /// The sender's clock in ns.
        at: u64,
    },
    /// Receiver: the answer.
    Pong {
        /// What the ping said.
        at: u64,
        /// The receiver's clock in ns when the ping came.
        received_at: u64,
        /// The same clock when the answer left.
        sent_at: u64,
    },
    /// Receiver, with [`FEATURE_FIGURES`] and behind committed: a part of its report.
    Report {
        /// Bytes of the whole report.
        total: u32,
        /// Where this part begins.
        offset: u32,
        /// The part.
        bytes: Box<[u8]>,
    },
    /// Receiver, with [`FEATURE_WARM_UP`](crate::wire::FEATURE_WARM_UP) and before ready: it drops what warms the data
    /// connections up.
    WarmUp {
        /// Up to so many bytes on each of them.
        bytes: u64,
    },
}

const MAGIC: u32 = u32::from_be_bytes(*b"RLct");
const CRC_AT: usize = CONTROL_HEADER_LEN - size_of::<u32>();

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HeaderLayout {
    magic: U32,
    kind: U16,
    reserved: [u8; 2],
    len: U32,
    crc32c: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ReasonLayout {
    code: U16,
    text_len: U16,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct CreditLayout {
    device: U16,
    reserved: [u8; 6],
    limit: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct LoadedLayout {
    device: U16,
    reserved: [u8; 2],
    crc32c: U32,
    packets: U64,
    bytes: U64,
}

const REASON_MIN: usize = size_of::<ReasonLayout>();
const REASON_MAX: usize = REASON_MIN + TEXT_MAX;

const _: () = assert!(OFFER_MAX <= CONTROL_BODY_MAX && REASON_MAX <= CONTROL_BODY_MAX);
const _: () = assert!(
    CONTROL_HEADER_LEN + CONTROL_BODY_MAX <= CONTROL_BUFFER_SIZE,
    "a message fits in a control buffer"
);

impl ControlHeader {
    /// Reads a header. P-9: the length is bounded by what its kind can need before a byte of the body is read.
    pub fn decode(bytes: &[u8; CONTROL_HEADER_LEN]) -> Result<ControlHeader, Malformed> {
        let layout: &HeaderLayout = zerocopy::transmute_ref!(bytes);
        if layout.magic.get() != MAGIC {
            return Err(Malformed::Magic { found: layout.magic.get() });
        }
        reserved_is_zero(&layout.reserved)?;
        let header =
            ControlHeader { kind: layout.kind.get(), len: layout.len.get(), crc32c: layout.crc32c.get() };
        let (len_min, len_max) = ControlKind::of(header.kind)?.body_bounds();
        let len = u64::from(header.len);
        if len > len_max as u64 {
            return Err(Malformed::TooLong { field: "body", found: len, max: len_max as u64 });
        }
        if len < len_min as u64 {
            return Err(Malformed::Truncated);
        }
        Ok(header)
    }

    /// Writes the header.
    pub fn encode(&self, out: &mut [u8; CONTROL_HEADER_LEN]) {
        let layout = HeaderLayout {
            magic: U32::new(MAGIC),
            kind: U16::new(self.kind),
            reserved: [0; 2],
            len: U32::new(self.len),
            crc32c: U32::new(self.crc32c),
        };
        *out = zerocopy::transmute!(layout);
    }

    /// The header of `body`, with the matching sum (P-8).
    fn of(kind: u16, len: u32, body: &[u8]) -> ControlHeader {
        let mut header = ControlHeader { kind, len, crc32c: 0 };
        let mut bytes = [0; CONTROL_HEADER_LEN];
        header.encode(&mut bytes);
        header.crc32c = crc32c(crc32c(0, &bytes[..CRC_AT]), body);
        header
    }
}

impl Control {
    /// Which message it is.
    pub fn kind(&self) -> ControlKind {
        match self {
            Control::Offer(_) => ControlKind::Offer,
            Control::Accept => ControlKind::Accept,
            Control::Refuse { .. } => ControlKind::Refuse,
            Control::Ready => ControlKind::Ready,
            Control::Credit { .. } => ControlKind::Credit,
            Control::Switchover => ControlKind::Switchover,
            Control::Loaded { .. } => ControlKind::Loaded,
            Control::Commit => ControlKind::Commit,
            Control::Committed => ControlKind::Committed,
            Control::Abort { .. } => ControlKind::Abort,
            Control::Cancel => ControlKind::Cancel,
            Control::Heartbeat => ControlKind::Heartbeat,
            Control::Ping { .. } => ControlKind::Ping,
            Control::Pong { .. } => ControlKind::Pong,
            Control::Report { .. } => ControlKind::Report,
            Control::WarmUp { .. } => ControlKind::WarmUp,
        }
    }

    /// The message's name, for errors.
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// Writes header and body to the start of `out` and returns their length in bytes. Allocates nothing.
    ///
    /// `out` is a control buffer of [`CONTROL_BUFFER_SIZE`] bytes, in which every message fits: the sender's builder
    /// upholds that an offer is within its bounds, and a text is made printable and cut to [`TEXT_MAX`] here. A message
    /// that does not fit in `out` is not written at all, and 0 is returned.
    pub fn encode(&self, out: &mut [u8]) -> usize {
        let Some((header_out, body_out)) = out.split_first_chunk_mut::<CONTROL_HEADER_LEN>() else {
            return 0;
        };
        let mut body = Writer { out: body_out, len: 0 };
        if self.encode_body(&mut body).is_none() {
            return 0;
        }
        let Ok(len) = u32::try_from(body.len) else { return 0 };
        let written = body.len;
        ControlHeader::of(self.kind().code(), len, &body_out[..written]).encode(header_out);
        CONTROL_HEADER_LEN + written
    }

    /// `None` when there is no room.
    fn encode_body(&self, body: &mut Writer<'_>) -> Option<()> {
        match self {
            Control::Offer(offer) => offer.encode(body),
            Control::Refuse { code, text } | Control::Abort { code, text } => {
                encode_reason(*code, text, body)
            }
            Control::Credit { device, limit } => body.put(&CreditLayout {
                device: U16::new(*device),
                reserved: [0; 6],
                limit: U64::new(*limit),
            }),
            Control::Loaded { device, packets, bytes, crc32c } => body.put(&LoadedLayout {
                device: U16::new(*device),
                reserved: [0; 2],
                crc32c: U32::new(*crc32c),
                packets: U64::new(*packets),
                bytes: U64::new(*bytes),
            }),
            Control::Accept | Control::Ready | Control::Switchover | Control::Commit => Some(()),
            Control::Committed | Control::Cancel | Control::Heartbeat => Some(()),
            Control::Ping { at } => figures::encode_ping(*at, body),
            Control::Pong { at, received_at, sent_at } => {
                figures::encode_pong([*at, *received_at, *sent_at], body)
            }
            Control::Report { total, offset, bytes } => figures::encode_piece(*total, *offset, bytes, body),
            Control::WarmUp { bytes } => figures::encode_warm_up(*bytes, body),
        }
    }

    /// Reads a message from the body that `header` announced.
    pub fn decode(header: &ControlHeader, body: &[u8]) -> Result<Control, Malformed> {
        match (body.len() as u64).checked_sub(header.len.into()) {
            None => return Err(Malformed::Truncated),
            Some(0) => {}
            Some(found) => return Err(Malformed::Trailing { found }),
        }
        // P-8
        if ControlHeader::of(header.kind, header.len, body).crc32c != header.crc32c {
            return Err(Malformed::Check);
        }
        let mut reader = Reader { rest: body };
        let message = Control::decode_body(header.kind, &mut reader)?;
        match reader.rest.len() {
            0 => Ok(message),
            found => Err(Malformed::Trailing { found: found as u64 }),
        }
    }

    fn decode_body(kind: u16, body: &mut Reader<'_>) -> Result<Control, Malformed> {
        Ok(match ControlKind::of(kind)? {
            ControlKind::Offer => Control::Offer(Offer::decode(body)?),
            ControlKind::Accept => Control::Accept,
            ControlKind::Refuse => match decode_reason(body)? {
                (0, _) => return Err(Malformed::Value { field: "code", found: 0 }),
                (code, text) => Control::Refuse { code, text },
            },
            ControlKind::Ready => Control::Ready,
            ControlKind::Credit => {
                let credit: CreditLayout = body.take()?;
                reserved_is_zero(&credit.reserved)?;
                Control::Credit { device: credit.device.get(), limit: credit.limit.get() }
            }
            ControlKind::Switchover => Control::Switchover,
            ControlKind::Loaded => {
                let loaded: LoadedLayout = body.take()?;
                reserved_is_zero(&loaded.reserved)?;
                Control::Loaded {
                    device: loaded.device.get(),
                    packets: loaded.packets.get(),
                    bytes: loaded.bytes.get(),
                    crc32c: loaded.crc32c.get(),
                }
            }
            ControlKind::Commit => Control::Commit,
            ControlKind::Committed => Control::Committed,
            ControlKind::Abort => {
                let (code, text) = decode_reason(body)?;
                Control::Abort { code, text }
            }
            ControlKind::Cancel => Control::Cancel,
            ControlKind::Heartbeat => Control::Heartbeat,
            ControlKind::Ping => figures::decode_ping(body)?,
            ControlKind::Pong => figures::decode_pong(body)?,
            ControlKind::Report => figures::decode_piece(body)?,
            ControlKind::WarmUp => figures::decode_warm_up(body)?,
        })
    }
}

/// P-12: a peer must be able to print it.
fn encode_reason(code: u16, text: &str, body: &mut Writer<'_>) -> Option<()> {
    let mut buffer = [0; TEXT_MAX];
    let text = printable(text, &mut buffer);
    body.put(&ReasonLayout { code: U16::new(code), text_len: U16::new(u16::try_from(text.len()).ok()?) })?;
    body.put(text)
}

fn decode_reason(body: &mut Reader<'_>) -> Result<(u16, Box<str>), Malformed> {
    let fixed: ReasonLayout = body.take()?;
    let text = check_text(body.take_bytes(fixed.text_len.get().into())?)?;
    Ok((fixed.code.get(), text.into()))
}

#[cfg(test)]
mod tests;

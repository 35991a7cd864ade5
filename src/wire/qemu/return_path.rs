//! Messages from the destination to the source on the main connection, once the source has opened the return path.

use crate::limits::QEMU_REPLY_MAX;
use crate::wire::Malformed;
use crate::wire::cursor::array;

/// Length of the longest [`Reply`] that is written here.
pub const REPLY_LEN_MAX: usize = 8;

const HEADER_LEN: usize = 4;
const SHUT: u16 = 1;
const PONG: u16 = 2;
const SWITCHOVER_ACK: u16 = 7;
/// The highest type that QEMU 10 knows.
const KIND_MAX: u16 = 7;

/// A message from the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The final message: 0 when everything was loaded. On any other value the source keeps its virtual machine.
    Shut(u32),
    /// The answer to a ping, with its number.
    Pong(u32),
    /// Every device has its initial state: the source may switch over.
    SwitchoverAck,
    /// A postcopy message, of which only the frame is understood.
    Other {
        /// Its type.
        kind: u16,
        /// Bytes of its body.
        len: u16,
    },
}

impl Reply {
    /// Writes it at the beginning of `out` and returns its length; 0 for a message whose body is not known.
    pub fn encode(&self, out: &mut [u8; REPLY_LEN_MAX]) -> usize {
        let (kind, value) = match self {
            Reply::Shut(value) => (SHUT, Some(value)),
            Reply::Pong(value) => (PONG, Some(value)),
            Reply::SwitchoverAck => (SWITCHOVER_ACK, None),
            Reply::Other { .. } => return 0,
        };
        out[..2].copy_from_slice(&kind.to_be_bytes());
        out[2..4].copy_from_slice(&[0, if value.is_some() { 4 } else { 0 }]);
        let Some(value) = value else { return HEADER_LEN };
        out[4..].copy_from_slice(&value.to_be_bytes());
        REPLY_LEN_MAX
    }

    /// The message at the beginning of `bytes`, and its length. `None` while it is incomplete.
    pub fn decode(bytes: &[u8]) -> Result<Option<(usize, Reply)>, Malformed> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let (kind, len) = (u16::from_be_bytes(array(header, 0)), u16::from_be_bytes(array(header, 2)));
        let wrong_len = Err(Malformed::Value { field: "length of a reply", found: len.into() });
        let value = |make: fn(u32) -> Reply| match (len, rest.first_chunk::<4>()) {
            (4, None) => Ok(None),
            (4, Some(value)) => Ok(Some((REPLY_LEN_MAX, make(u32::from_be_bytes(*value))))),
            _ => wrong_len,
        };
        match kind {
            SHUT => value(Reply::Shut),
            PONG => value(Reply::Pong),
            SWITCHOVER_ACK if len == 0 => Ok(Some((HEADER_LEN, Reply::SwitchoverAck))),
            SWITCHOVER_ACK => wrong_len,
            0 | KIND_MAX.. => Err(Malformed::Value { field: "type of a reply", found: kind.into() }),
            _ if len > QEMU_REPLY_MAX => {
                Err(Malformed::TooLong { field: "reply", found: len.into(), max: QEMU_REPLY_MAX.into() })
            }
            _ if rest.len() < usize::from(len) => Ok(None),
            _ => Ok(Some((HEADER_LEN + usize::from(len), Reply::Other { kind, len }))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::golden::unhex;

    #[test]
    fn replies_have_the_bytes_that_qemu_sends() {
        let golden: [u8; 20] = unhex("0002 0004 00000001 0007 0000 0001 0004 00000000");
        let mut bytes: Vec<u8> = Vec::new();
        for reply in [Reply::Pong(1), Reply::SwitchoverAck, Reply::Shut(0)] {
            let mut out = [0xff; REPLY_LEN_MAX];
            let len = reply.encode(&mut out);
            bytes.extend(&out[..len]);
            assert_eq!(Reply::decode(&out[..len]), Ok(Some((len, reply))));
            assert_eq!(Reply::decode(&out[..len - 1]), Ok(None));
        }
        assert_eq!(bytes, golden);
    }

    #[test]
    fn a_reply_of_postcopy_is_stepped_over() {
        let bytes: [u8; 8] = unhex("0006 0004 00000001");
        assert_eq!(Reply::decode(&bytes), Ok(Some((8, Reply::Other { kind: 6, len: 4 }))));
        assert_eq!(Reply::decode(&bytes[..7]), Ok(None));
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        let refused = |text: &str| Reply::decode(&unhex::<4>(text)).unwrap_err();
        assert_eq!(refused("0000 0000"), Malformed::Value { field: "type of a reply", found: 0 });
        assert_eq!(refused("0008 0000"), Malformed::Value { field: "type of a reply", found: 8 });
        assert_eq!(refused("0001 0005"), Malformed::Value { field: "length of a reply", found: 5 });
        assert_eq!(refused("0007 0001"), Malformed::Value { field: "length of a reply", found: 1 });
        let max = QEMU_REPLY_MAX.into();
        assert_eq!(refused("0005 ffff"), Malformed::TooLong { field: "reply", found: 0xffff, max });
    }
}

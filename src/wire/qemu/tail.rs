//! The end of the main connection. From its first FULL section on nothing in the stream carries a length; but it ends
//! with `7e` and a section number (the last footer), `00` (the end), `06`, a length, and the description of all FULL
//! sections as JSON text. This finds that ending as it arrives, in pieces of any size.
//!
//! JSON text cannot contain the bytes that announce a description, so a false announcement (in some device's memory)
//! ends at the first byte that is not JSON, and does not hide the true one.

use crate::limits::QEMU_DESCRIPTION_MAX;
use crate::wire::Malformed;

/// `7e`, the section's number, `00 06`, the length.
const ANNOUNCEMENT_LEN: usize = 11;

/// Finds the end of a main connection's tail.
#[derive(Debug, Clone, Default)]
pub struct TailScanner {
    /// The most recent bytes.
    window: [u8; ANNOUNCEMENT_LEN],
    offset: u64,
    description: Option<Description>,
    /// The length of the description, once the tail is over.
    ended: Option<u32>,
}

/// A possible description: JSON so far.
#[derive(Debug, Clone)]
struct Description {
    len: u32,
    remaining: u32,
    depth: u32,
    in_text: bool,
    escaped: bool,
}

impl TailScanner {
    /// At the first byte of the tail.
    pub fn new() -> TailScanner {
        TailScanner::default()
    }

    /// Bytes taken.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Once the tail is over, the length of its description, which ends it.
    pub fn ended(&self) -> Option<u32> {
        self.ended
    }

    /// Takes more of the tail. Anything after its end is refused.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        for (at, &byte) in bytes.iter().enumerate() {
            if self.ended.is_some() {
                return Err(Malformed::Trailing { found: (bytes.len() - at) as u64 });
            }
            self.offset += 1;
            self.window.rotate_left(1);
            self.window[ANNOUNCEMENT_LEN - 1] = byte;
            if let Some(mut description) = self.description.take() {
                match description.take(byte) {
                    Progress::More => self.description = Some(description),
                    Progress::Over => self.ended = Some(description.len),
                    Progress::NoJson => {}
                }
            } else if self.offset >= ANNOUNCEMENT_LEN as u64 {
                self.description = announced(&self.window);
            }
        }
        Ok(())
    }
}

fn announced(window: &[u8; ANNOUNCEMENT_LEN]) -> Option<Description> {
    let [0x7e, _, _, _, _, 0x00, 0x06, len @ ..] = window else { return None };
    let len = u32::from_be_bytes(*len);
    let is_possible = (2..=QEMU_DESCRIPTION_MAX).contains(&len);
    is_possible.then_some(Description { len, remaining: len, depth: 0, in_text: false, escaped: false })
}

enum Progress {
    More,
    Over,
    NoJson,
}

impl Description {
    /// An object must close with the last byte, and no earlier.
    fn take(&mut self, byte: u8) -> Progress {
        self.remaining -= 1;
        let printable = (b' '..=b'~').contains(&byte);
        if !printable && (self.in_text || !matches!(byte, b'\n' | b'\r' | b'\t')) {
            return Progress::NoJson;
        }
        if self.in_text {
            self.in_text = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
        } else {
            match byte {
                b'{' | b'[' => self.depth += 1,
                _ if self.depth == 0 => return Progress::NoJson,
                b'}' | b']' => self.depth -= 1,
                b'"' => self.in_text = true,
                _ => {}
            }
        }
        match (self.depth, self.remaining) {
            (0, 0) => Progress::Over,
            (0, _) | (_, 0) => Progress::NoJson,
            _ => Progress::More,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JSON: &[u8] = br#"{"page_size": 4096, "devices": [{"name": "a}\"]"}]}"#;

    const JSON_LEN: u32 = 51;

    fn close(json: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x7e, 0, 0, 0, 9, 0x00, 0x06];
        bytes.extend(u32::try_from(json.len()).unwrap().to_be_bytes());
        bytes.extend(json);
        bytes
    }

    fn tail() -> Vec<u8> {
        [b"\x04\0\0\0\x09timer and whatever".as_slice(), &close(JSON)].concat()
    }

    #[test]
    fn finds_the_end_with_the_last_byte() {
        let bytes = tail();
        let mut scanner = TailScanner::new();
        scanner.take(&bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(scanner.ended(), None);
        scanner.take(&bytes[bytes.len() - 1..]).unwrap();
        assert_eq!(scanner.ended(), Some(JSON_LEN));
        assert_eq!(scanner.offset(), bytes.len() as u64);
        assert_eq!(scanner.take(b"xy"), Err(Malformed::Trailing { found: 2 }));
    }

    #[test]
    fn a_false_announcement_does_not_hide_the_true_one() {
        for false_one in [close(b"{\"a"), close(&[b'{'; 2000]), close(b"{}x"), close(b"xx"), close(b"")] {
            let cut = [&false_one[..false_one.len() - 1], &tail()].concat();
            let mut scanner = TailScanner::new();
            scanner.take(&cut).unwrap();
            assert_eq!(scanner.ended(), Some(JSON_LEN), "{false_one:?}");
        }
    }

    #[test]
    fn a_description_beyond_its_bound_is_none() {
        let mut bytes = close(b"{}");
        bytes[7..11].copy_from_slice(&u32::MAX.to_be_bytes());
        let mut scanner = TailScanner::new();
        scanner.take(&bytes).unwrap();
        assert_eq!(scanner.ended(), None);
    }

    proptest! {
        #[test]
        fn the_size_of_pieces_makes_no_difference(size in 1_usize..40) {
            let mut scanner = TailScanner::new();
            for piece in tail().chunks(size) {
                prop_assert_eq!(scanner.ended(), None);
                scanner.take(piece).unwrap();
            }
            prop_assert_eq!(scanner.ended(), Some(JSON_LEN));
        }
    }
}

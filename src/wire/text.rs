//! Texts and names on the wire. What a peer sent can be printed on a terminal: UTF-8, bounded, and without control
//! characters.

use super::Malformed;
use crate::limits::{NAME_MAX, TEXT_MAX};

/// Checks a text that was received.
pub(super) fn check_text(bytes: &[u8]) -> Result<&str, Malformed> {
    check("text", bytes, TEXT_MAX)
}

/// Checks a device's name that was received.
pub(super) fn check_name(bytes: &[u8]) -> Result<&str, Malformed> {
    if bytes.is_empty() {
        return Err(Malformed::Value { field: "name length", found: 0 });
    }
    check("name", bytes, NAME_MAX)
}

fn check<'a>(field: &'static str, bytes: &'a [u8], max: usize) -> Result<&'a str, Malformed> {
    if bytes.len() > max {
        return Err(Malformed::TooLong { field, found: bytes.len() as u64, max: max as u64 });
    }
    let text = str::from_utf8(bytes).map_err(|_| Malformed::Text { field })?;
    if text.chars().any(char::is_control) { Err(Malformed::Text { field }) } else { Ok(text) }
}

/// A text that may be sent: control characters become spaces, and it is cut between two characters.
pub(super) fn printable<'a>(text: &str, buffer: &'a mut [u8; TEXT_MAX]) -> &'a [u8] {
    let mut len = 0;
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if len + c.len_utf8() > TEXT_MAX {
            break;
        }
        len += c.encode_utf8(&mut buffer[len..]).len();
    }
    &buffer[..len]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(text: &str) -> String {
        let mut buffer = [0; TEXT_MAX];
        check_text(printable(text, &mut buffer)).expect("what is sent can be received").into()
    }

    #[test]
    fn a_printable_text_leaves_as_it_is() {
        assert_eq!(sent(""), "");
        assert_eq!(sent("read failed: EIO · größer"), "read failed: EIO · größer");
    }

    #[test]
    fn control_characters_leave_as_spaces() {
        assert_eq!(sent("one\ntwo\t\u{1b}[31mred\u{85}\0"), "one two  [31mred  ");
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        assert_eq!(sent(&"x".repeat(TEXT_MAX + 9)), "x".repeat(TEXT_MAX));
        // 170 characters of three bytes, and two bytes in which the next does not fit.
        assert_eq!(sent(&"€".repeat(TEXT_MAX)), "€".repeat(TEXT_MAX / 3));
    }

    #[test]
    fn what_cannot_be_printed_is_rejected() {
        assert_eq!(check_text(b"a\nb"), Err(Malformed::Text { field: "text" }));
        assert_eq!(check_text(b"\xc2\x9b31m"), Err(Malformed::Text { field: "text" }));
        assert_eq!(check_text(b"\xff"), Err(Malformed::Text { field: "text" }));
        assert_eq!(check_name(b"net\0"), Err(Malformed::Text { field: "name" }));
    }

    #[test]
    fn lengths_are_bounded() {
        assert!(check_text(&[b'x'; TEXT_MAX]).is_ok());
        assert!(matches!(check_text(&[b'x'; TEXT_MAX + 1]), Err(Malformed::TooLong { .. })));
        assert!(check_name(&[b'x'; NAME_MAX]).is_ok());
        assert!(matches!(check_name(&[b'x'; NAME_MAX + 1]), Err(Malformed::TooLong { .. })));
        assert!(matches!(check_name(b""), Err(Malformed::Value { .. })));
    }
}

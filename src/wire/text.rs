//! Texts and names on the wire. What a peer sent can be printed on a terminal: UTF-8, bounded, and without characters
//! that are not seen themselves but change how others are.

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
    if text.chars().all(is_printable) { Ok(text) } else { Err(Malformed::Text { field }) }
}

/// Whether this can be the name of a device: 1 to [`NAME_MAX`] bytes of printable text.
pub fn is_name(name: &str) -> bool {
    check_name(name.as_bytes()).is_ok()
}

/// Whether a terminal shows a character as itself. A control character does something else. A format character (general
/// category Cf: direction overrides, zero-width characters, tags) is not seen, and makes one name look like another; a
/// line or paragraph separator begins a line that looks like one of ours.
pub(crate) fn is_printable(c: char) -> bool {
    let is_format = matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
        | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}');
    let is_separator = matches!(c, '\u{2028}' | '\u{2029}');
    !(c.is_control() || is_format || is_separator)
}

/// A text that may be sent: characters that are not printable become spaces, and it is cut between two characters.
pub(super) fn printable<'a>(text: &str, buffer: &'a mut [u8; TEXT_MAX]) -> &'a [u8] {
    let mut len = 0;
    for c in text.chars().map(|c| if is_printable(c) { c } else { ' ' }) {
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
    fn characters_that_change_how_others_look_are_rejected_and_leave_as_spaces() {
        // Names and texts with direction overrides were accepted, and shown.
        for c in "\u{ad}\u{61c}\u{200b}\u{200d}\u{200f}\u{202a}\u{202e}\u{2028}\u{2029}\u{2060}\u{2066}\u{2069}\u{feff}\u{e0041}".chars() {
            let text = format!("net{c}0");
            assert_eq!(check_name(text.as_bytes()), Err(Malformed::Text { field: "name" }), "{c:?}");
            assert_eq!(check_text(text.as_bytes()), Err(Malformed::Text { field: "text" }), "{c:?}");
            assert_eq!(sent(&text), "net 0", "{c:?}");
        }
        assert!(is_name("größer-网卡-0") && !is_name("") && !is_name(&"x".repeat(NAME_MAX + 1)));
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

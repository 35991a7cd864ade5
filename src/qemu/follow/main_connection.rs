//! Follows a main connection from its first byte to its last: its events, and where it ends.

use std::mem;

use crate::wire::Malformed;
use crate::wire::qemu::{Event, MainStream, PageSize, TailScanner};

/// `7e`, a section's number, `00`: the last bytes of a stream that has no description after its end.
const BARE_END_LEN: usize = 6;

/// Follows a main connection.
#[derive(Debug, Default)]
pub(crate) struct MainFollower {
    stream: MainStream,
    tail: TailScanner,
    in_tail: bool,
    /// The part after the configuration has begun.
    is_configured: bool,
    /// Where the next event begins.
    begin: u64,
    flushes: u64,
    ram_ends: u64,
    /// The last bytes of the tail.
    last: [u8; BARE_END_LEN],
}

/// What the next bytes of the connection are.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "it is matched where it is made, and never stored")]
pub(crate) enum Step<'a> {
    /// An event, whose bytes begin at this offset.
    Event { event: Event<'a>, begin: u64 },
    /// More bytes of the tail.
    Tail(&'a [u8]),
}

impl MainFollower {
    /// Takes from `bytes`. Returns how many it took, and the step they completed; without a step it took all of them.
    ///
    /// After an error, [`offset`](MainFollower::offset) is where the wrong field begins.
    pub(crate) fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<(usize, Option<Step<'a>>), Malformed> {
        if self.in_tail {
            let fresh = &bytes[bytes.len().saturating_sub(BARE_END_LEN)..];
            self.last.rotate_left(fresh.len());
            self.last[BARE_END_LEN - fresh.len()..].copy_from_slice(fresh);
            self.tail.take(bytes)?;
            return Ok((bytes.len(), Some(Step::Tail(bytes))));
        }
        let (taken, event) = self.stream.next(bytes)?;
        let Some(event) = event else { return Ok((taken, None)) };
        let begin = mem::replace(&mut self.begin, self.stream.offset());
        match event {
            Event::RamFlush => self.flushes += 1,
            Event::RamEnd => self.ram_ends += 1,
            Event::Start(_) | Event::Command(_) => self.is_configured = true,
            Event::Tail => (self.is_configured, self.in_tail) = (true, true),
            _ => {}
        }
        Ok((taken, Some(Step::Event { event, begin })))
    }

    /// How many bytes were taken.
    pub(crate) fn offset(&self) -> u64 {
        self.stream.offset() + self.tail.offset()
    }

    pub(crate) fn page_size(&self) -> PageSize {
        self.stream.page_size()
    }

    /// Whether the page size is known for certain, so that the channels can be decoded.
    pub(crate) fn knows_page_size(&self) -> bool {
        self.is_configured
    }

    /// How many flush flags came: barriers across all connections.
    pub(crate) fn flushes(&self) -> u64 {
        self.flushes
    }

    /// How many SYNC packets belong on each channel: one for each flush flag or, with machine types before 8.1, which
    /// send no flush flags, one for each end of a RAM section.
    pub(crate) fn barriers(&self) -> u64 {
        if self.flushes > 0 { self.flushes } else { self.ram_ends }
    }

    /// Whether the tail has begun, whose sections have no length.
    pub(crate) fn in_tail(&self) -> bool {
        self.in_tail
    }

    /// The length of the description that ends the stream, once everything has come.
    pub(crate) fn description(&self) -> Option<u32> {
        self.tail.ended()
    }

    /// Whether this can be the end of a stream that has no description.
    pub(crate) fn is_at_bare_end(&self) -> bool {
        matches!(self.last, [0x7e, .., 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: &[u8] =
        b"QEVM\0\0\0\x03\x07\0\0\0\x0bpc-q35-10.0\x08\0\x01\0\0\x08\0\x02\0\x04\0\0\0\x01\x08\0\x0b\0\0";
    const TAIL: &[u8] = b"\x04\0\0\0\0\x05timer\x7e\0\0\0\0\0";
    const DESCRIPTION: &[u8] = b"\x06\0\0\0\x0e{\"devices\":[]}";

    fn followed(bytes: &[u8], piece: usize) -> (Vec<(String, u64)>, MainFollower) {
        let (mut follower, mut found) = (MainFollower::default(), Vec::new());
        for mut rest in bytes.chunks(piece) {
            while !rest.is_empty() {
                let (taken, step) = follower.next(rest).unwrap();
                rest = &rest[taken..];
                if let Some(Step::Event { event, begin }) = step {
                    found.push((format!("{event:?}"), begin));
                }
            }
        }
        (found, follower)
    }

    #[test]
    fn every_event_has_the_offset_where_it_begins_however_the_bytes_come() {
        let bytes = [LIVE, TAIL, DESCRIPTION].concat();
        let expected = [
            ("Header", 0),
            ("Machine(\"pc-q35-10.0\")", 8),
            ("Command(OpenReturnPath)", 24),
            ("Command(Ping(1))", 29),
            ("Command(SwitchoverStart)", 38),
            ("Tail", 43),
        ];
        for piece in [1, 7, bytes.len()] {
            let (found, follower) = followed(&bytes, piece);
            let found: Vec<_> = found.iter().map(|(event, begin)| (event.as_str(), *begin)).collect();
            assert_eq!(found, expected);
            assert_eq!((follower.offset(), follower.description()), (bytes.len() as u64, Some(14)));
        }
    }

    #[test]
    fn a_stream_without_a_description_ends_after_a_footer() {
        for piece in [1, 7, 1000] {
            let (_, follower) = followed(&[LIVE, TAIL].concat(), piece);
            assert!(follower.is_at_bare_end() && follower.description().is_none());
            let (_, follower) = followed(&[LIVE, &TAIL[..TAIL.len() - 1]].concat(), piece);
            assert!(!follower.is_at_bare_end());
        }
    }
}

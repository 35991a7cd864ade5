//! The receiving end of QEMU's main connection: short messages through a control buffer, device state into slots.
//!
//! Sections have no length, so how much may be received is known only after looking at the bytes. What arrives in the
//! control buffer together with the beginning of a piece of state is copied into the piece's slot (at most [`READ`]
//! bytes); the rest of the piece is received directly into its slot.

use std::ops::Range;

use crate::buffer::Slot;
use crate::error::Errno;
use crate::limits::HEADER_ROOM;
use crate::net::Connection;
use crate::qemu::follow::{MainFollower, Step};
use crate::ring::{Ring, Tag};
use crate::wire::Malformed;
use crate::wire::qemu::Event;

/// How many bytes are received in one go before it is known what they are: a small part of a piece of state, or several
/// pages of guest memory.
const READ: usize = 16 << 10;

/// What there is to do next.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is matched where it is made, and never stored")]
pub(crate) enum MainStep<'a> {
    /// An event, whose bytes begin at this offset.
    Event(Event<'a>, u64),
    /// A piece of state of the section's device begins: call [`MainRx::accept`] when there is a slot.
    Wants,
    /// A piece of state is complete.
    State {
        /// Where it is.
        slot: Slot,
        /// Bytes of it.
        len: usize,
    },
    /// More bytes of the tail.
    Tail(&'a [u8]),
    /// Nothing until more has come: call [`MainRx::resume`].
    Taken,
}

/// A piece of state that is being received.
#[derive(Debug)]
struct Piece {
    /// Its slot; none while there is no slot, or while the kernel fills it.
    slot: Option<Slot>,
    filled: usize,
    len: usize,
}

/// The receiving end of a main connection.
#[derive(Debug)]
pub(crate) struct MainRx {
    connection: Connection,
    tag: Tag,
    follower: MainFollower,
    /// The control buffer; none while the kernel fills it.
    buffer: Option<Slot>,
    /// Bytes in the control buffer that were not taken yet.
    filled: Range<usize>,
    piece: Option<Piece>,
    /// A receive is under way.
    is_away: bool,
    /// Whatever arrives is dropped.
    is_abandoned: bool,
    closed: bool,
}

impl MainRx {
    pub(crate) fn new(connection: Connection, tag: Tag, buffer: Slot) -> MainRx {
        MainRx {
            connection,
            tag,
            follower: MainFollower::default(),
            buffer: Some(buffer),
            filled: 0..0,
            piece: None,
            is_away: false,
            is_abandoned: false,
            closed: false,
        }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The follower of what was taken so far.
    pub(crate) fn follower(&self) -> &MainFollower {
        &self.follower
    }

    /// Whether the peer has closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether everything a source sends has come.
    pub(crate) fn has_ended(&self) -> bool {
        self.follower.description().is_some()
    }

    /// Starts a receive, unless one is under way or the peer has closed.
    pub(crate) fn resume(&mut self, ring: &mut impl Ring) {
        if self.closed || self.is_away {
            return;
        }
        if let Some(piece) = self.piece.as_mut().filter(|_| !self.is_abandoned) {
            let Some(slot) = piece.slot.take() else { return };
            let range = HEADER_ROOM + piece.filled..HEADER_ROOM + piece.len;
            self.is_away = true;
            ring.receive(self.tag, self.connection.fd(), slot, range);
            return;
        }
        let Some(buffer) = self.buffer.take() else { return };
        // after the last understood section nothing goes into a slot
        let end =
            if self.follower.in_tail() || self.is_abandoned { buffer.capacity() as usize } else { READ };
        self.is_away = true;
        ring.receive(self.tag, self.connection.fd(), buffer, HEADER_ROOM..HEADER_ROOM + end);
    }

    /// A receive ended. Returns how many bytes came; none if the peer closed.
    pub(crate) fn on_received(
        &mut self,
        slot: Slot,
        result: Result<usize, Errno>,
    ) -> Result<Option<usize>, Errno> {
        self.is_away = false;
        let came = match result {
            Ok(came) => came,
            Err(errno) if errno.is_retryable() => 0,
            Err(errno) => {
                self.closed = true;
                return Err(errno);
            }
        };
        self.closed = result == Ok(0);
        if self.is_abandoned {
            // the kernel had either the control buffer or a piece's slot
            self.buffer.get_or_insert(slot);
        } else if let Some(piece) = &mut self.piece {
            let fresh = slot.bytes(HEADER_ROOM + piece.filled..HEADER_ROOM + piece.filled + came);
            // the bytes within a piece are only counted, so this cannot fail
            let _ = self.follower.next(fresh);
            piece.filled += came;
            piece.slot = Some(slot);
        } else {
            self.buffer = Some(slot);
            self.filled = 0..came;
        }
        Ok((!self.closed).then_some(came))
    }

    /// Drops everything from now on, but still notices when the peer closes.
    pub(crate) fn abandon(&mut self, ring: &mut impl Ring) {
        self.is_abandoned = true;
        self.resume(ring);
    }

    /// Gives the waiting piece its slot.
    pub(crate) fn accept(&mut self, slot: Slot) {
        let piece = self.piece.as_mut().expect("a piece wants a slot");
        assert!(piece.len <= slot.capacity() as usize, "a piece is never longer than a slot");
        piece.slot = Some(slot);
    }

    /// Takes more of what came, and returns what it is.
    pub(crate) fn next(&mut self) -> Result<MainStep<'_>, Malformed> {
        while !self.is_away && !self.is_abandoned {
            if let Some(piece) = &mut self.piece {
                let (Some(slot), Some(buffer)) = (&mut piece.slot, &self.buffer) else {
                    return Ok(MainStep::Wants);
                };
                let count = self.filled.len().min(piece.len - piece.filled);
                let from = &buffer.payload(self.filled.end)[self.filled.start..][..count];
                slot.payload_mut()[piece.filled..piece.filled + count].copy_from_slice(from);
                let _ = self.follower.next(from);
                self.filled.start += count;
                piece.filled += count;
                if piece.filled < piece.len {
                    return Ok(MainStep::Taken);
                }
                let Some(Piece { slot: Some(slot), len, .. }) = self.piece.take() else {
                    return Ok(MainStep::Taken);
                };
                return Ok(MainStep::State { slot, len });
            }
            let Some(buffer) = self.buffer.as_ref().filter(|_| !self.filled.is_empty()) else {
                return Ok(MainStep::Taken);
            };
            let bytes = &buffer.payload(self.filled.end)[self.filled.start..];
            let (taken, step) = self.follower.next(bytes)?;
            self.filled.start += taken;
            match step {
                None | Some(Step::Event { event: Event::VfioDataBegin(0), .. }) => {}
                Some(Step::Event { event: Event::VfioDataBegin(len), .. }) => {
                    self.piece = Some(Piece { slot: None, filled: 0, len: len as usize });
                }
                Some(Step::Event { event, begin }) => return Ok(MainStep::Event(event, begin)),
                Some(Step::Tail(bytes)) => return Ok(MainStep::Tail(bytes)),
            }
        }
        Ok(MainStep::Taken)
    }
}

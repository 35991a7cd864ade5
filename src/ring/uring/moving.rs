//! A read or a write as an entry of the ring, and what follows when its file is not ready.
//!
//! The kernel waits for a file that is not ready, with one exception: where `O_NONBLOCK` is set and the file's driver
//! cannot read or write without waiting, `EAGAIN` comes back at once. Then the ring waits until the file says that it is
//! ready and tries again; if it said so and was not, it rests first. So no descriptor makes the loop spin. Knows no table
//! and no completion. Invariant: every entry names memory of the slot that it was made for, or a constant.

use std::ops::Range;
use std::os::fd::RawFd;

use io_uring::types::{Fd, Timespec};
use io_uring::{opcode, squeue};
use nix::libc;

use super::super::IoMode;
use super::entry::length;
use crate::buffer::Slot;
use crate::error::Errno;

/// The file's current position.
const CURRENT: u64 = u64::MAX;
/// How long a file is left alone that calls itself ready and is not.
static REST: Timespec = Timespec::new().nsec(1_000_000);

/// From a file or to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

/// How far it has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Bytes are moved.
    Moving,
    /// It would have had to wait, and its file is asked when it is ready.
    Polling,
    /// Bytes are moved, because its file said that it is ready.
    MovingAfterPoll,
    /// Its file said that it is ready and was not.
    Resting,
}

/// A read or a write.
#[derive(Debug, Clone)]
pub(super) struct Moving {
    fd: RawFd,
    direction: Direction,
    range: Range<usize>,
    io_mode: IoMode,
    stage: Stage,
}

impl Moving {
    pub(super) fn new(fd: RawFd, direction: Direction, range: Range<usize>, io_mode: IoMode) -> Moving {
        Moving { fd, direction, range, io_mode, stage: Stage::Moving }
    }

    /// What the kernel is asked to do now; `buffer` is the registered buffer that contains the slot.
    pub(super) fn entry(&self, slot: &Slot, buffer: Option<u16>) -> squeue::Entry {
        match self.stage {
            Stage::Moving | Stage::MovingAfterPoll => self.move_entry(slot, buffer),
            Stage::Polling => {
                let events = match self.direction {
                    Direction::Read => libc::POLLIN,
                    Direction::Write => libc::POLLOUT,
                };
                opcode::PollAdd::new(Fd(self.fd), events.unsigned_abs().into()).build()
            }
            Stage::Resting => opcode::Timeout::new(&raw const REST).build(),
        }
    }

    fn move_entry(&self, slot: &Slot, buffer: Option<u16>) -> squeue::Entry {
        let (fd, address, len) = (Fd(self.fd), slot.address(&self.range), length(&self.range));
        let entry = match (self.direction, buffer) {
            (Direction::Read, Some(index)) => {
                opcode::ReadFixed::new(fd, address, len, index).offset(CURRENT).build()
            }
            (Direction::Read, None) => opcode::Read::new(fd, address, len).offset(CURRENT).build(),
            (Direction::Write, Some(index)) => {
                opcode::WriteFixed::new(fd, address.cast_const(), len, index).offset(CURRENT).build()
            }
            (Direction::Write, None) => {
                opcode::Write::new(fd, address.cast_const(), len).offset(CURRENT).build()
            }
        };
        match self.io_mode {
            // the kernel must not try it on this thread first
            IoMode::Thread => entry.flags(squeue::Flags::ASYNC),
            IoMode::Ring | IoMode::Inline => entry,
        }
    }

    /// What follows an entry that ended with `result`; `None` when the read or write has ended with it.
    pub(super) fn after(mut self, result: Result<usize, Errno>) -> Option<Moving> {
        let errno = result.map_or_else(Errno::raw, |_| 0);
        self.stage = match (self.stage, errno) {
            (Stage::Moving, libc::EAGAIN) => Stage::Polling,
            (Stage::MovingAfterPoll, libc::EAGAIN) => Stage::Resting,
            (Stage::Polling, 0) | (Stage::Resting, libc::ETIME) => Stage::MovingAfterPoll,
            _ => return None,
        };
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_polled_once_and_then_left_alone_until_it_moves_something() {
        let eagain = || Err(Errno::from_raw(libc::EAGAIN));
        let etime = || Err(Errno::from_raw(libc::ETIME));
        let moving = Moving::new(0, Direction::Read, 0..1, IoMode::Thread);
        let steps = [
            (eagain(), Stage::Polling),
            (Ok(1), Stage::MovingAfterPoll),
            (eagain(), Stage::Resting),
            (etime(), Stage::MovingAfterPoll),
            (eagain(), Stage::Resting),
            (etime(), Stage::MovingAfterPoll),
        ];
        let end = steps.into_iter().fold(moving, |moving, (result, stage)| {
            let next = moving.after(result).unwrap();
            assert_eq!(next.stage, stage);
            next
        });
        assert!(end.clone().after(Ok(1)).is_none(), "it has ended");
        assert!(end.after(Err(Errno::from_raw(libc::EIO))).is_none());
    }
}

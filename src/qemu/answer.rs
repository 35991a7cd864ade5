//! The return path: what a destination says to a source, once the source has opened that way.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use crate::buffer::{Lease, Pool};
use crate::channel::{Outgoing, Progress};
use crate::error::{Errno, Error, KernelError, PeerError, Place, QemuError};
use crate::limits::{HEADER_ROOM, PAGE_SIZE, QEMU_ANSWERS_MAX};
use crate::phase::Phase;
use crate::ring::{Ring, Tag};
use crate::time::Nanos;
use crate::wire::qemu::{REPLY_LEN_MAX, Reply};

/// The return path.
pub(super) struct Answers {
    /// The main connection's, which lives beside this.
    fd: RawFd,
    tag: Tag,
    is_open: bool,
    waiting: VecDeque<Reply>,
    buffers: Pool,
    /// What is being sent: the message, and the bytes that carry it.
    sending: Option<(Reply, Outgoing)>,
    shut: Option<u32>,
    /// What was sent, and when: the first so many.
    pub(super) said: Vec<(Reply, Nanos)>,
}

impl Answers {
    pub(super) fn new(fd: RawFd, tag: Tag) -> Result<Answers, KernelError> {
        Ok(Answers {
            fd,
            tag,
            is_open: false,
            waiting: VecDeque::with_capacity(QEMU_ANSWERS_MAX),
            buffers: Pool::new(1, u32::try_from(PAGE_SIZE).expect("a page is small"))?,
            sending: None,
            shut: None,
            said: Vec::with_capacity(QEMU_ANSWERS_MAX),
        })
    }

    /// The source listens from now on.
    pub(super) fn open(&mut self) {
        self.is_open = true;
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether the last word was said, or is about to be.
    pub(super) fn is_shut(&self) -> bool {
        self.shut.is_some()
    }

    /// Whether everything that was to be said has been taken by the socket.
    pub(super) fn is_silent(&self) -> bool {
        self.sending.is_none() && self.waiting.is_empty()
    }

    /// Says something, unless the source does not listen or the last word was said.
    pub(super) fn say(&mut self, reply: Reply) -> Result<(), Error> {
        if !self.is_open || self.is_shut() {
            return Ok(());
        }
        match reply {
            Reply::Shut(value) => self.shut = Some(value),
            _ if self.waiting.len() >= QEMU_ANSWERS_MAX => {
                return Err(PeerError::from(QemuError::TooManyAnswers).into());
            }
            _ => {}
        }
        self.waiting.push_back(reply);
        Ok(())
    }

    /// Sends what is next.
    pub(super) fn go_on(&mut self, ring: &mut impl Ring) {
        if self.sending.is_some() {
            return;
        }
        let Some(reply) = self.waiting.pop_front() else { return };
        let mut buffer = self.buffers.take().expect("one message at a time");
        let len = reply.encode(buffer.header_mut::<REPLY_LEN_MAX>());
        let begin = HEADER_ROOM - REPLY_LEN_MAX;
        self.send(ring, reply, Outgoing::new(buffer, begin..begin + len));
    }

    fn send(&mut self, ring: &mut impl Ring, reply: Reply, mut outgoing: Outgoing) {
        outgoing.send(ring, self.tag, self.fd);
        self.sending = Some((reply, outgoing));
    }

    /// A send ended. Gives the message that is all sent.
    pub(super) fn on_sent(
        &mut self,
        ring: &mut impl Ring,
        lease: Option<Lease>,
        result: Result<usize, Errno>,
    ) -> Result<Option<Reply>, Error> {
        let Some((reply, mut outgoing)) = self.sending.take() else { return Ok(None) };
        let progress = outgoing.on_sent(lease.expect("answers are sent as copies"), result);
        if progress == Ok(Progress::Part) {
            self.send(ring, reply, outgoing);
            return Ok(None);
        }
        outgoing.land().into_iter().for_each(|buffer| self.buffers.put(buffer));
        if let Err(errno) = progress {
            // nobody hears the rest
            self.waiting.clear();
            self.is_open = false;
            let phase = Phase::Answering;
            return Err(PeerError::Lost { place: Place::Main, phase, errno }.into());
        }
        if self.said.len() < QEMU_ANSWERS_MAX {
            self.said.push((reply, ring.now()));
        }
        self.go_on(ring);
        Ok(Some(reply))
    }
}

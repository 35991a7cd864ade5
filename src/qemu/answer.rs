//! The return path: the replies of a destination, once the source has opened it.

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
    /// The main connection's descriptor; its owner keeps it open for as long as this exists.
    fd: RawFd,
    tag: Tag,
    is_open: bool,
    waiting: VecDeque<Reply>,
    buffers: Pool,
    /// The message that is being sent, and its bytes.
    sending: Option<(Reply, Outgoing)>,
    shut: Option<u32>,
    /// What was sent, and when: the first [`QEMU_ANSWERS_MAX`] messages.
    pub(super) sent: Vec<(Reply, Nanos)>,
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
            sent: Vec::with_capacity(QEMU_ANSWERS_MAX),
        })
    }

    /// The source reads replies from now on.
    pub(super) fn open(&mut self) {
        self.is_open = true;
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether SHUT, the final message, was sent or is queued.
    pub(super) fn is_shut(&self) -> bool {
        self.shut.is_some()
    }

    /// Whether the socket has taken every queued message.
    pub(super) fn is_all_sent(&self) -> bool {
        self.sending.is_none() && self.waiting.is_empty()
    }

    /// Queues a message. Drops it if the return path is not open or the final message is already queued.
    pub(super) fn queue(&mut self, reply: Reply) -> Result<(), Error> {
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

    /// Sends the next message, unless a send is under way.
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

    /// A send ended. Returns the message if all of it was sent.
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
            // the rest would reach no one
            self.waiting.clear();
            self.is_open = false;
            let phase = Phase::Answering;
            return Err(PeerError::Lost { place: Place::Main, phase, errno }.into());
        }
        if self.sent.len() < QEMU_ANSWERS_MAX {
            self.sent.push((reply, ring.now()));
        }
        self.go_on(ring);
        Ok(Some(reply))
    }
}

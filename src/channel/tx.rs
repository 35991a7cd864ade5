//! The sending end of a data connection: one packet at a time, header and payload in one operation.
//!
//! The invariant: a slot comes out again only when no operation reads it any more. A zero-copy send reads it until the
//! kernel's notification, long after the send itself has ended; until then the slot *lingers*.

use super::zero_copy::{ZERO_COPY_TRIAL_BYTES, ZeroCopyJudge};
use super::{Outgoing, Progress, ZeroCopy};
use crate::buffer::{Lease, Slot};
use crate::error::Errno;
use crate::limits::HEADER_ROOM;
use crate::net::Connection;
use crate::ring::{Directions, Ring, Tag};
use crate::wire::{DATA_HEADER_LEN, DataHeader, WarmUp};

/// Packets shorter than this are copied, because pinning would cost more.
const ZERO_COPY_MIN: usize = 16 << 10;

/// What an operation's end meant.
#[derive(Debug)]
pub(crate) enum TxEvent {
    /// The packet has not been sent completely yet.
    Pending,
    /// The socket has taken the packet. Its slot, unless the kernel still reads it.
    Sent(Option<Slot>),
    /// A slot that lingered is free.
    Freed(Slot),
    /// The connection is of no use any more.
    Failed(Errno),
}

#[derive(Debug)]
struct Sending {
    outgoing: Outgoing,
    zero_copy: bool,
}

/// The sending end of a data connection.
#[derive(Debug)]
pub(crate) struct Tx {
    connection: Connection,
    tag: Tag,
    sending: Option<Sending>,
    /// Sent, but still read by the kernel. At most as many as the pool has slots.
    lingering: Vec<Sending>,
    /// Payload bytes given to the socket whose slots are not free yet.
    outstanding: u64,
    /// When the current packet, or else the last one, was given to it.
    sent_at: u64,
    zero_copy: ZeroCopyJudge,
    /// Bytes sent that only warm it up.
    warmed: u64,
    /// Payload bytes sent.
    pub(crate) bytes: u64,
    /// Packets sent.
    pub(crate) packets: u64,
}

impl Tx {
    pub(crate) fn new(connection: Connection, tag: Tag, zero_copy: ZeroCopy, slots: u32) -> Tx {
        Tx {
            connection,
            tag,
            sending: None,
            lingering: Vec::with_capacity(slots as usize),
            outstanding: 0,
            sent_at: 0,
            zero_copy: ZeroCopyJudge::new(zero_copy),
            warmed: 0,
            bytes: 0,
            packets: 0,
        }
    }

    /// Whether it can take a packet.
    pub(crate) fn is_idle(&self) -> bool {
        self.sending.is_none()
    }

    pub(crate) fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// When the current packet, or else the last one, was given to it, in nanoseconds.
    pub(crate) fn sent_at(&self) -> u64 {
        self.sent_at
    }

    /// Bytes sent that only warm it up.
    pub(crate) fn warmed(&self) -> u64 {
        self.warmed
    }

    /// Bytes that have arrived at the peer's host, those that warm it up among them: without those that are being sent, and
    /// those in the socket. A socket that does not tell counts as empty.
    pub(crate) fn arrived(&self, ring: &impl Ring) -> u64 {
        let in_socket = ring.unconfirmed(self.connection.fd()).unwrap_or(0) as u64;
        (self.bytes + self.warmed).saturating_sub(self.outstanding.max(in_socket))
    }

    pub(crate) fn zero_copy(&self) -> &ZeroCopyJudge {
        &self.zero_copy
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Shuts the connection down: operations under way on it end.
    pub(crate) fn shut_down(&self, ring: &mut impl Ring) {
        self.connection.shut_down(ring, Directions::Both);
    }

    /// Sends the packet in `slot`: writes its header and begins the operation.
    pub(crate) fn send(&mut self, ring: &mut impl Ring, mut slot: Slot, header: &DataHeader) {
        assert!(self.is_idle(), "one packet at a time");
        header.encode(slot.header_mut());
        let range = HEADER_ROOM - DATA_HEADER_LEN..HEADER_ROOM + header.len as usize;
        let zero_copy = range.len() >= ZERO_COPY_MIN && self.zero_copy.wanted(self.bytes);
        self.outstanding += u64::from(header.len);
        self.sent_at = header.sent_at_ns;
        self.bytes += u64::from(header.len);
        self.packets += 1;
        self.go_on(ring, Sending { outgoing: Outgoing::new(slot, range), zero_copy });
    }

    /// Sends `len` bytes of `slot`, whatever they are, to warm the connection up.
    pub(crate) fn warm_up(&mut self, ring: &mut impl Ring, mut slot: Slot, len: u32) {
        assert!(self.is_idle(), "one packet at a time");
        WarmUp { len }.encode(slot.header_mut());
        let range = HEADER_ROOM - DATA_HEADER_LEN..HEADER_ROOM + len as usize;
        self.outstanding += u64::from(len);
        self.warmed += u64::from(len);
        self.go_on(ring, Sending { outgoing: Outgoing::new(slot, range), zero_copy: false });
    }

    fn go_on(&mut self, ring: &mut impl Ring, mut sending: Sending) {
        let (tag, fd) = (self.tag, self.connection.fd());
        if sending.zero_copy {
            let bytes_max = if self.zero_copy.is_on_trial() { ZERO_COPY_TRIAL_BYTES } else { usize::MAX };
            sending.outgoing.send_zero_copy(ring, tag, fd, bytes_max);
        } else {
            sending.outgoing.send(ring, tag, fd);
        }
        self.sending = Some(sending);
    }

    /// A send ended; without its lease if the kernel still reads the bytes.
    pub(crate) fn on_sent(
        &mut self,
        ring: &mut impl Ring,
        lease: Option<Lease>,
        result: Result<usize, Errno>,
    ) -> TxEvent {
        let mut sending = self.sending.take().expect("a send ends once");
        if lease.is_none() {
            self.zero_copy.sent += 1;
        }
        lease.into_iter().for_each(|lease| sending.outgoing.give_back(lease));
        let progress = match result {
            Err(errno) if sending.zero_copy && is_refusal(errno) => {
                self.zero_copy.unavailable = true;
                sending.zero_copy = false;
                Ok(Progress::Part)
            }
            result => sending.outgoing.advance(result),
        };
        match progress {
            Ok(Progress::All) => TxEvent::Sent(self.land(sending)),
            Ok(Progress::Part) => {
                sending.zero_copy &= !self.zero_copy.is_on_trial();
                self.go_on(ring, sending);
                TxEvent::Pending
            }
            Err(errno) => {
                self.lingering.push(sending);
                TxEvent::Failed(errno)
            }
        }
    }

    /// The slot of a packet that was sent completely, or `None` while the kernel still reads it.
    fn land(&mut self, sending: Sending) -> Option<Slot> {
        let end = sending.outgoing.rest().end;
        match sending.outgoing.land() {
            Ok(slot) => {
                self.outstanding -= (end - HEADER_ROOM) as u64;
                Some(slot)
            }
            Err(outgoing) => {
                self.lingering.push(Sending { outgoing, ..sending });
                None
            }
        }
    }

    /// The kernel has finished with a zero-copy send's bytes.
    pub(crate) fn on_released(&mut self, lease: Lease, copied: bool) -> TxEvent {
        self.zero_copy.judge(copied);
        if let Some(sending) = self.sending.as_mut().filter(|sending| sending.outgoing.holds(&lease)) {
            sending.outgoing.give_back(lease);
            return TxEvent::Pending;
        }
        let holds = |sending: &Sending| sending.outgoing.holds(&lease);
        let at = self.lingering.iter().position(holds).expect("a lease has its slot here");
        let mut sending = self.lingering.swap_remove(at);
        sending.outgoing.give_back(lease);
        self.land(sending).map_or(TxEvent::Pending, TxEvent::Freed)
    }
}

/// Whether an errno means that this send cannot be zero-copy, and not that it is impossible.
fn is_refusal(errno: Errno) -> bool {
    use nix::libc::{EINVAL, ENOBUFS, ENOMEM, EOPNOTSUPP};
    matches!(errno.raw(), EOPNOTSUPP | EINVAL | ENOBUFS | ENOMEM)
}

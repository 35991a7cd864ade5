//! Each end against a ring that does nothing on its own: the test plays the kernel.

use std::ops::Range;
use std::os::fd::RawFd;

use nix::libc::{EAGAIN, ECONNRESET, EOPNOTSUPP};
use proptest::prelude::*;

use super::*;
use crate::buffer::{Lease, Pool, Slot};
use crate::error::Errno;
use crate::error::KernelError;
use crate::limits::{CONTROL_BUFFER_SIZE, HEADER_ROOM};
use crate::net::Connection;
use crate::ring::{Completion, Directions, IoMode, Job, Ring, Tag};
use crate::time::Nanos;
use crate::wire::{Checksum, Control, DATA_HEADER_LEN, DataHeader, Malformed, WarmUp, crc32c};

pub(crate) const TAG: Tag = Tag(1);

/// Keeps the operations that were begun.
#[derive(Default)]
pub(crate) struct Kernel {
    pub(crate) receives: Vec<(Slot, Range<usize>)>,
    pub(crate) sends: Vec<(Lease, Range<usize>, bool)>,
}

impl Ring for Kernel {
    fn now(&self) -> Nanos {
        0
    }
    fn read(&mut self, _: Tag, _: RawFd, _: Slot, _: Range<usize>, _: IoMode) {}
    fn write(&mut self, _: Tag, _: RawFd, _: Slot, _: Range<usize>, _: IoMode) {}
    fn receive(&mut self, _: Tag, _: RawFd, slot: Slot, range: Range<usize>) {
        self.receives.push((slot, range));
    }
    fn send(&mut self, _: Tag, _: RawFd, lease: Lease, range: Range<usize>, zero_copy: bool) {
        self.sends.push((lease, range, zero_copy));
    }
    fn register(&mut self, _: &Pool) -> Result<(), KernelError> {
        Ok(())
    }
    fn can_zero_copy(&self) -> bool {
        true
    }
    fn unconfirmed(&self, _: RawFd) -> Result<usize, KernelError> {
        Ok(0)
    }
    fn tcp_info(&self, _: RawFd, _: &mut [u8]) -> Option<usize> {
        None
    }
    fn enters(&self) -> u64 {
        0
    }
    fn shut_down(&mut self, _: RawFd, _: Directions) {}
    fn reserve_threads(&mut self, _: usize) -> Result<(), KernelError> {
        Ok(())
    }

    fn spawn(&mut self, _: Tag, _: Job) {}
    fn complete(&mut self, _: Tag) {}
    fn cancel(&mut self, _: Tag) {}
    fn wait(&mut self, _: Option<Nanos>) -> Result<(), KernelError> {
        Ok(())
    }
    fn next(&mut self) -> Option<Completion> {
        None
    }
}

impl Kernel {
    /// The one send that is under way.
    pub(crate) fn send_under_way(&mut self) -> (Lease, Range<usize>, bool) {
        assert_eq!(self.sends.len(), 1);
        self.sends.remove(0)
    }

    /// Puts as many bytes as fit where the one receive wants them; returns the slot and their number.
    pub(crate) fn deliver(&mut self, bytes: &[u8]) -> (Slot, usize) {
        assert_eq!(self.receives.len(), 1, "one receive at a time");
        let (mut slot, range) = self.receives.remove(0);
        let count = bytes.len().min(range.len());
        slot.bytes_mut(range.start..range.start + count).copy_from_slice(&bytes[..count]);
        (slot, count)
    }
}

pub(crate) fn connection() -> Connection {
    Connection::plaintext(std::fs::File::open("/dev/null").unwrap(), None)
}

fn header(payload: &[u8], idx: u64) -> DataHeader {
    let (len, crc32c) = (u32::try_from(payload.len()).unwrap(), crc32c(0, payload));
    DataHeader { device: 0, idx, config: false, len, crc32c, read_at_ns: 0, sent_at_ns: 0 }
}

fn filled(pool: &mut Pool, payload: &[u8]) -> Slot {
    let mut slot = pool.take().unwrap();
    slot.payload_mut()[..payload.len()].copy_from_slice(payload);
    slot
}

#[test]
fn header_and_payload_leave_in_one_operation() {
    let (mut kernel, mut pool) = (Kernel::default(), Pool::new(2, 8192).unwrap());
    let mut tx = Tx::new(connection(), TAG, ZeroCopy::Off, 2);
    tx.send(&mut kernel, filled(&mut pool, b"state"), &header(b"state", 3));
    let (lease, range, zero_copy) = kernel.send_under_way();
    assert!(!zero_copy && !tx.is_idle());
    let bytes = lease.bytes(range);
    assert_eq!(DataHeader::decode(bytes[..DATA_HEADER_LEN].try_into().unwrap()), Ok(header(b"state", 3)));
    assert_eq!(&bytes[DATA_HEADER_LEN..], b"state");
}

#[test]
fn a_partial_send_goes_on_where_it_stopped() {
    let (mut kernel, mut pool) = (Kernel::default(), Pool::new(2, 8192).unwrap());
    let mut tx = Tx::new(connection(), TAG, ZeroCopy::Off, 2);
    tx.send(&mut kernel, filled(&mut pool, b"state"), &header(b"state", 0));
    let mut sent = Vec::new();
    for portion in [10, 50, 1, 8] {
        let (lease, range, _) = kernel.send_under_way();
        sent.extend_from_slice(lease.bytes(range.start..range.start + portion));
        let event = tx.on_sent(&mut kernel, Some(lease), Ok(portion));
        assert_eq!(matches!(event, TxEvent::Sent(Some(_))), sent.len() == DATA_HEADER_LEN + 5);
    }
    assert_eq!(&sent[DATA_HEADER_LEN..], b"state");
    assert!(tx.is_idle());
    assert_eq!((tx.bytes, tx.packets, tx.outstanding()), (5, 1, 0));
}

#[test]
fn a_send_that_has_to_be_tried_again_is_and_one_that_failed_is_not() {
    let (mut kernel, mut pool) = (Kernel::default(), Pool::new(2, 8192).unwrap());
    let mut tx = Tx::new(connection(), TAG, ZeroCopy::Off, 2);
    tx.send(&mut kernel, filled(&mut pool, b"state"), &header(b"state", 0));
    let (lease, _, _) = kernel.send_under_way();
    let again = tx.on_sent(&mut kernel, Some(lease), Err(Errno::from_raw(EAGAIN)));
    assert!(matches!(again, TxEvent::Pending));
    let (lease, _, _) = kernel.send_under_way();
    let failed = tx.on_sent(&mut kernel, Some(lease), Err(Errno::from_raw(ECONNRESET)));
    assert!(matches!(failed, TxEvent::Failed(errno) if errno.raw() == ECONNRESET));
    assert!(kernel.sends.is_empty());
}

#[test]
fn a_zero_copy_packet_gives_its_slot_back_after_its_last_notification() {
    let payload = [7; 32 << 10];
    let (mut kernel, mut pool) = (Kernel::default(), Pool::new(2, 64 << 10).unwrap());
    let mut tx = Tx::new(connection(), TAG, ZeroCopy::On, 2);
    tx.send(&mut kernel, filled(&mut pool, &payload), &header(&payload, 0));
    let (first, range, zero_copy) = kernel.send_under_way();
    assert!(zero_copy);
    // half of it, then the rest: two operations, two notifications, in the other order
    assert!(matches!(tx.on_sent(&mut kernel, None, Ok(range.len() / 2)), TxEvent::Pending));
    let (second, rest, _) = kernel.send_under_way();
    assert!(matches!(tx.on_sent(&mut kernel, None, Ok(rest.len())), TxEvent::Sent(None)));
    assert!(tx.is_idle() && tx.outstanding() > 0);
    assert!(matches!(tx.on_released(second, true), TxEvent::Pending));
    assert!(matches!(tx.on_released(first, false), TxEvent::Freed(_)));
    assert_eq!(tx.outstanding(), 0);
    assert_eq!((tx.zero_copy().sent, tx.zero_copy().copied), (2, 1));
}

#[test]
fn a_socket_that_refuses_zero_copy_gets_copies() {
    let payload = [7; 32 << 10];
    let (mut kernel, mut pool) = (Kernel::default(), Pool::new(2, 64 << 10).unwrap());
    let mut tx = Tx::new(connection(), TAG, ZeroCopy::On, 2);
    for idx in 0..2 {
        tx.send(&mut kernel, filled(&mut pool, &payload), &header(&payload, idx));
        let (mut lease, range, zero_copy) = kernel.send_under_way();
        assert_eq!(zero_copy, idx == 0);
        if zero_copy {
            let refused = tx.on_sent(&mut kernel, Some(lease), Err(Errno::from_raw(EOPNOTSUPP)));
            assert!(matches!(refused, TxEvent::Pending));
            (lease, _, _) = kernel.send_under_way();
        }
        let TxEvent::Sent(Some(slot)) = tx.on_sent(&mut kernel, Some(lease), Ok(range.len())) else {
            panic!()
        };
        pool.put(slot);
    }
    assert!(tx.zero_copy().unavailable && tx.zero_copy().sent == 0);
}

/// Sends packets of 1 MiB; returns for each how much of it was first sent zero-copy, if any. The kernel always copies.
fn zero_copies(mode: ZeroCopy, packets: usize) -> Vec<Option<usize>> {
    let payload = vec![7; 1 << 20];
    let (mut kernel, mut pool) = (Kernel::default(), Pool::new(2, 1 << 20).unwrap());
    let mut tx = Tx::new(connection(), TAG, mode, 2);
    let send = |idx: usize| {
        tx.send(&mut kernel, filled(&mut pool, &payload), &header(&payload, idx as u64));
        let (mut kept, mut event) = (Vec::new(), TxEvent::Pending);
        while !tx.is_idle() {
            let (lease, range, zero_copy) = kernel.send_under_way();
            assert!(zero_copy || kept.is_empty() || mode == ZeroCopy::Auto, "what follows a trial is copied");
            let back = if zero_copy {
                kept.push((lease, range.len()));
                None
            } else {
                Some(lease)
            };
            event = tx.on_sent(&mut kernel, back, Ok(range.len()));
        }
        let tried = kept.first().map(|(_, len)| *len);
        for (lease, _) in kept {
            event = tx.on_released(lease, true);
        }
        let (TxEvent::Sent(Some(slot)) | TxEvent::Freed(slot)) = event else { panic!("{event:?}") };
        pool.put(slot);
        tried
    };
    (0..packets).map(send).collect()
}

#[test]
fn auto_tries_zero_copy_on_a_warm_connection_and_stops_when_the_kernel_copies() {
    let tried = zero_copies(ZeroCopy::Auto, 60);
    assert!(tried[..16].iter().all(Option::is_none), "not while the connection is cold");
    assert_eq!(tried.iter().flatten().collect::<Vec<_>>(), [&(64 << 10); 8], "a short trial of short pieces");
    assert_eq!(tried[59], None);
    let whole = DATA_HEADER_LEN + (1 << 20);
    assert!(zero_copies(ZeroCopy::On, 30).into_iter().all(|tried| tried == Some(whole)));
    assert!(zero_copies(ZeroCopy::Off, 30).iter().all(Option::is_none));
}

#[test]
fn a_payload_is_received_straight_into_the_slot_that_was_accepted_for_it() {
    let (mut kernel, mut pool) = (Kernel::default(), Pool::new(2, 8192).unwrap());
    let mut buffers = Pool::new(1, 4096).unwrap();
    let mut rx = Rx::new(connection(), TAG, buffers.take().unwrap(), Native::new(Checksum::Crc32c, 0));
    rx.begin(&mut kernel);
    let mut encoded = [0; DATA_HEADER_LEN];
    header(b"state", 0).encode(&mut encoded);
    // the header in two pieces, and no byte of the payload with it, however many are available
    let (buffer, count) = kernel.deliver(&encoded[..40]);
    assert!(matches!(rx.on_received(&mut kernel, buffer, Ok(count)), RxEvent::Pending));
    let (buffer, count) = kernel.deliver(&[&encoded[40..], b"state"].concat());
    let RxEvent::Header(found) = rx.on_received(&mut kernel, buffer, Ok(count)) else { panic!() };
    let slot = pool.take().unwrap();
    let at = slot.payload(1).as_ptr();
    assert!(matches!(rx.accept(&mut kernel, found, slot), RxEvent::Pending));
    let (slot, count) = kernel.deliver(b"st");
    assert!(matches!(rx.on_received(&mut kernel, slot, Ok(count)), RxEvent::Pending));
    let (slot, count) = kernel.deliver(b"ate and the next header");
    let RxEvent::Packet { slot, crc32c: sum, .. } = rx.on_received(&mut kernel, slot, Ok(count)) else {
        panic!()
    };
    assert_eq!((slot.payload(5), slot.payload(1).as_ptr(), sum), (&b"state"[..], at, crc32c(0, b"state")));
    assert_eq!((rx.bytes, rx.packets, kernel.receives.len()), (5, 1, 1));
}

#[test]
fn what_warms_a_connection_up_is_dropped_and_is_no_more_than_was_granted() {
    let mut kernel = Kernel::default();
    let mut buffers = Pool::new(1, 4096).unwrap();
    let mut rx = Rx::new(connection(), TAG, buffers.take().unwrap(), Native::new(Checksum::Crc32c, 6000));
    rx.begin(&mut kernel);
    let encoded = |len| {
        let mut encoded = [0; DATA_HEADER_LEN];
        WarmUp { len }.encode(&mut encoded);
        encoded
    };
    // longer than the buffer that it is dropped in
    let stream = [&encoded(5000)[..], &[7; 5000]].concat();
    let mut at = 0;
    while at < stream.len() {
        let (buffer, count) = kernel.deliver(&stream[at..]);
        at += count;
        assert!(matches!(rx.on_received(&mut kernel, buffer, Ok(count)), RxEvent::Pending));
    }
    let mut packet = [0; DATA_HEADER_LEN];
    header(b"state", 0).encode(&mut packet);
    let (buffer, count) = kernel.deliver(&packet);
    let RxEvent::Header(found) = rx.on_received(&mut kernel, buffer, Ok(count)) else { panic!() };
    assert_eq!((found.len, rx.bytes, rx.packets), (5, 0, 0));
    rx.begin(&mut kernel);
    let (buffer, count) = kernel.deliver(&encoded(1001));
    let refused = Malformed::TooLong { field: "warm-up", found: 1001, max: 1000 };
    let RxEvent::Malformed(what) = rx.on_received(&mut kernel, buffer, Ok(count)) else { panic!() };
    assert_eq!(what, refused);
}

#[test]
fn an_end_between_packets_is_told_from_an_end_within_one() {
    let mut buffers = Pool::new(2, 4096).unwrap();
    for (before, cut) in [(0, false), (10, true)] {
        let mut kernel = Kernel::default();
        let mut rx = Rx::new(connection(), TAG, buffers.take().unwrap(), Native::new(Checksum::None, 0));
        rx.begin(&mut kernel);
        let (mut buffer, mut count) = kernel.deliver(&vec![0; before]);
        if before > 0 {
            rx.on_received(&mut kernel, buffer, Ok(count));
            (buffer, count) = kernel.deliver(b"");
        }
        let event = rx.on_received(&mut kernel, buffer, Ok(count));
        assert!(if cut { matches!(event, RxEvent::Cut) } else { matches!(event, RxEvent::Closed) });
    }
}

fn message() -> impl Strategy<Value = Control> {
    let text = "[a-z ]{0,40}";
    prop_oneof![
        Just(Control::Heartbeat),
        Just(Control::Commit),
        (any::<u16>(), any::<u64>()).prop_map(|(device, limit)| Control::Credit { device, limit }),
        (any::<u16>(), text).prop_map(|(code, text)| Control::Abort { code, text: text.into() }),
        (any::<u16>(), any::<u64>(), any::<u64>(), any::<u32>())
            .prop_map(|(device, packets, bytes, crc32c)| Control::Loaded { device, packets, bytes, crc32c }),
    ]
}

proptest! {
    /// Oracle: the messages that were encoded, however the stream is cut into pieces.
    #[test]
    fn messages_come_out_whole_however_they_arrive(
        messages in prop::collection::vec(message(), 0..40), pieces in prop::collection::vec(1_usize..200, 1..50)
    ) {
        let (mut kernel, mut buffers) = (Kernel::default(), Pool::new(2, u32::try_from(CONTROL_BUFFER_SIZE).unwrap()).unwrap());
        let mut tx = ControlTx::new(TAG, buffers.take().unwrap());
        let mut waiting = messages.clone().into_iter();
        let mut stream = Vec::new();
        loop {
            tx.send(&mut kernel, 0, || waiting.next());
            if tx.is_idle() {
                break;
            }
            while !tx.is_idle() {
                let (lease, range, _) = kernel.send_under_way();
                let portion = range.len().div_ceil(2);
                stream.extend_from_slice(lease.bytes(range.start..range.start + portion));
                tx.on_sent(&mut kernel, 0, Some(lease), Ok(portion)).unwrap();
            }
        }
        let mut rx = ControlRx::new(TAG, buffers.take().unwrap(), &[]);
        let (mut came, mut sizes) = (Vec::new(), pieces.into_iter().cycle());
        let mut rest = &stream[..];
        while !rest.is_empty() {
            rx.resume(&mut kernel, 0);
            let size = sizes.next().unwrap().min(rest.len());
            let (buffer, count) = kernel.deliver(&rest[..size]);
            rest = &rest[count..];
            prop_assert_eq!(rx.on_received(buffer, Ok(count)), Ok(true));
            while let Some(message) = rx.message().unwrap() {
                came.push(message);
            }
        }
        prop_assert_eq!(came, messages);
        prop_assert!(!rx.is_cut());
    }
}

#[test]
fn a_header_room_is_left_in_front_of_every_buffer() {
    let (mut kernel, mut buffers) =
        (Kernel::default(), Pool::new(1, u32::try_from(CONTROL_BUFFER_SIZE).unwrap()).unwrap());
    let mut rx = ControlRx::new(TAG, buffers.take().unwrap(), &[]);
    rx.resume(&mut kernel, 0);
    assert_eq!(kernel.receives[0].1, HEADER_ROOM..HEADER_ROOM + CONTROL_BUFFER_SIZE);
}

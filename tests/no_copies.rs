//! Nothing is copied or allocated for a packet.
//!
//! Allocations are counted on the thread that runs a transfer: ten times the packets must not take one more. That no
//! payload is moved in user space is shown by where it lies: a source fills, and a sink is handed, page-aligned places
//! that are all slots of one pool, a fixed distance apart. The header goes in front of a payload that lies in its slot,
//! and the kernel receives a payload into the slot that the sink is handed, or that is written from. What a count
//! cannot show is that no slot is copied onto itself or elsewhere for no use; no code does that.

mod common;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use allocation_counter::AllocationInfo;
use common::device::{TestSink, TestSource};
use common::handmade::{self, Migration};
use common::{PATIENCE, Running, content, listen, pair, run, socket_pairs};
use nix::sys::memfd::{MFdFlags, memfd_create};
use ringlift::limits::{HEADER_ROOM, PAGE_SIZE};
use ringlift::sink::{Discard, FdSink, Sink, Verify};
use ringlift::source::{FdSource, Null, Source, Synthetic};
use ringlift::wire::qemu::INIT_LEN;
use ringlift::{Finished, Outcome, Receiver, Sender, qemu};

const PACKET: u32 = 4096;

/// Allocations of the sender's thread and the receiver's during a whole transfer.
fn allocations(source: impl Source + 'static, sink: impl Sink + 'static) -> (u64, u64) {
    traced_allocations(source, sink, 0)
}

/// The same where each side keeps so many packets for a trace.
fn traced_allocations(source: impl Source + 'static, sink: impl Sink + 'static, traced: usize) -> (u64, u64) {
    let (mut ours, mut theirs) = socket_pairs(3);
    let (control, peer_control) = (ours.remove(0), theirs.remove(0));
    let sender = Sender::builder().device("net0", source).sockets(control, ours);
    let sender = sender.packet_size(PACKET).pool_size(1 << 20).trace(traced).build().expect("possible");
    let receiver = Receiver::builder().device("net0", sink).sockets(peer_control, theirs);
    let receiver = receiver.trace(traced).build().expect("possible");
    let count = |info: AllocationInfo, outcome| {
        assert_eq!(outcome, Outcome::Complete);
        info.count_total
    };
    let receiving = Running::start(move || {
        let mut outcome = Outcome::Aborted;
        let info = allocation_counter::measure(|| outcome = receiver.run().outcome);
        count(info, outcome)
    });
    let sending = Running::start(move || {
        let mut outcome = Outcome::Aborted;
        let info = allocation_counter::measure(|| outcome = sender.run().outcome);
        count(info, outcome)
    });
    (sending.finish(), receiving.finish())
}

/// The fewest of several transfers: setting up connections takes a few more or less each time.
fn fewest(transfer: impl Fn() -> (u64, u64)) -> (u64, u64) {
    let transfers: Vec<(u64, u64)> = (0..4).map(|_| transfer()).collect();
    let least = |side: fn(&(u64, u64)) -> u64| transfers.iter().map(side).min().expect("four");
    (least(|both| both.0), least(|both| both.1))
}

fn assert_no_allocation_per_packet(transfer: impl Fn(u64) -> (u64, u64)) {
    let (few, many) = (fewest(|| transfer(50)), fewest(|| transfer(500)));
    // a report takes some for each tenth of a second, and a busy machine makes a transfer longer
    let more = (500 - 50) / 10;
    assert!(many.0 <= few.0 + more, "sender: {} for 50 packets, {} for 500", few.0, many.0);
    assert!(many.1 <= few.1 + more, "receiver: {} for 50 packets, {} for 500", few.1, many.1);
}

#[test]
fn a_packet_of_a_generator_takes_no_allocation() {
    assert_no_allocation_per_packet(|packets| {
        allocations(Synthetic::new(packets * u64::from(PACKET)), Verify::new())
    });
}

#[test]
fn a_packet_of_nothing_takes_no_allocation() {
    assert_no_allocation_per_packet(|packets| allocations(Null::new(packets * u64::from(PACKET)), Discard));
}

#[test]
fn a_packet_that_a_trace_has_takes_no_allocation_whether_there_is_room_for_it_or_not() {
    for traced in [10, 1000] {
        assert_no_allocation_per_packet(|packets| {
            traced_allocations(Null::new(packets * u64::from(PACKET)), Discard, traced)
        });
    }
}

fn memfd() -> File {
    memfd_create("state", MFdFlags::MFD_CLOEXEC).expect("a memfd").into()
}

#[test]
fn a_packet_of_a_memfd_takes_no_allocation() {
    assert_no_allocation_per_packet(|packets| {
        let mut from = memfd();
        from.write_all(&content(usize::try_from(packets * u64::from(PACKET)).expect("few")))
            .expect("written");
        from.rewind().expect("rewound");
        allocations(FdSource::new(from.into()), FdSink::new(memfd().into()))
    });
}

#[test]
fn a_packet_of_a_pipe_takes_no_allocation() {
    assert_no_allocation_per_packet(|packets| {
        let (from, mut writer) = std::io::pipe().expect("a pipe");
        let (mut reader, to) = std::io::pipe().expect("a pipe");
        let state = content(usize::try_from(packets * u64::from(PACKET)).expect("few"));
        let writing = Running::start(move || writer.write_all(&state).is_ok());
        let reading = Running::start(move || std::io::copy(&mut reader, &mut std::io::sink()).is_ok());
        let counted = allocations(FdSource::new(OwnedFd::from(from)), FdSink::new(OwnedFd::from(to)));
        assert!(writing.finish() && reading.finish(), "within {PATIENCE:?}");
        counted
    });
}

/// Asserts that `slices` are slots: page-aligned, a whole number of strides apart, and no more than a pool has.
fn assert_slots(slices: &[(usize, usize)], slots: u64, stride: usize) {
    let places: BTreeSet<usize> = slices.iter().map(|&(address, _)| address).collect();
    assert!(places.len() as u64 <= slots, "{} places, and a pool of {slots}", places.len());
    let first = *places.first().expect("packets came");
    for place in places {
        assert!(place.is_multiple_of(PAGE_SIZE), "{place:#x} is not at the start of a page");
        assert!((place - first).is_multiple_of(stride), "{place:#x} is no slot of the pool of {first:#x}");
    }
}

#[test]
fn a_sink_is_handed_the_slot_that_the_kernel_received_into_and_a_source_fills_the_one_that_is_sent() {
    let packet_size: u32 = 128 << 10;
    let (source, from) = TestSource::new(content(20_000_000));
    let (sink, to) = TestSink::new();
    let listener = listen();
    let (sender, receiver) = pair(&listener, source, sink);
    let (sent, received) = run(sender.packet_size(packet_size).channels(4), receiver);
    assert_eq!((sent.outcome, received.outcome), (Outcome::Complete, Outcome::Complete));
    assert!(to.bytes() == content(20_000_000));
    let stride = packet_size as usize + HEADER_ROOM;
    let (filled, handed) = (from.slices(), to.slices());
    assert!(handed.len() > 100, "each packet was handed over in one piece");
    assert_slots(&filled, sent.report.settings.pool_slots, stride);
    assert_slots(&handed, received.report.settings.pool_slots, stride);
}

/// A receiver of what QEMU sends for one device, in packets of `len` bytes.
fn qemu(packets: usize, len: usize, sink: impl Sink + 'static, end: impl FnOnce(qemu::Receiver) -> Finished) {
    let migration = Migration::new(vec![handmade::Device::new(1, packets, len)], 2);
    let (mut ours, mut theirs) = socket_pairs(3);
    let (main, main_peer) = (ours.remove(0), theirs.remove(0));
    let multifd = migration.multifd().into_iter().map(|mut bytes| bytes.split_off(INIT_LEN));
    let streams: Vec<_> = std::iter::once(migration.main()).chain(multifd).collect();
    let writing = std::iter::once(main_peer).chain(theirs).zip(streams).map(|(socket, bytes)| {
        Running::start(move || {
            let mut stream = UnixStream::from(socket);
            stream.write_all(&bytes)?;
            // the final message on the main connection, the end on the others
            let mut heard = Vec::new();
            while !heard.ends_with(&[0, 1, 0, 4, 0, 0, 0, 0]) {
                let mut byte = [0];
                match stream.read(&mut byte)? {
                    0 => break,
                    _ => heard.extend(byte),
                }
            }
            std::io::Result::Ok(())
        })
    });
    let writing: Vec<_> = writing.collect();
    let receiver = qemu::Receiver::builder().device(&migration.devices[0].name, sink).sockets(main, ours);
    let finished = end(receiver.pool_size(16 << 20).build().expect("possible"));
    assert_eq!(finished.outcome, Outcome::Complete, "{:?}", finished.error);
    writing.into_iter().for_each(|writer| writer.finish().expect("taken"));
}

#[test]
fn a_packet_of_a_qemus_takes_no_allocation() {
    let allocations = |packets| {
        let mut total = 0;
        qemu(packets, 4096, Discard, |receiver| {
            let mut finished = None;
            total = allocation_counter::measure(|| finished = Some(receiver.run())).count_total;
            finished.expect("it ran")
        });
        total
    };
    let fewest = |packets| (0..4).map(|_| allocations(packets)).min().expect("four");
    let (few, many) = (fewest(50), fewest(500));
    assert!(many <= few + 2, "{few} for 50 packets, {many} for 500");
}

#[test]
fn a_sink_is_handed_the_slot_that_a_qemus_packet_was_received_into() {
    let (sink, to) = TestSink::new();
    qemu(200, 60_000, sink, qemu::Receiver::run);
    let handed = to.slices();
    assert!(handed.len() == 202, "each packet and piece was handed over in one piece: {}", handed.len());
    assert_slots(&handed, 16, (1 << 20) + HEADER_ROOM);
}

//! The ring against the plain system calls: it gives the same results.

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};

use super::*;
use crate::cancel::Wake;
use crate::limits::HEADER_ROOM;
use crate::time::nanos;

mod contract;
mod descriptors;

const TAG: Tag = Tag(7);

fn pool() -> Pool {
    Pool::new(4, 64 << 10).unwrap()
}

fn memfd(content: &[u8]) -> std::fs::File {
    let fd: OwnedFd = nix::sys::memfd::memfd_create("ring", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    let mut file = std::fs::File::from(fd);
    file.write_all(content).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file
}

/// A file in memory that cannot grow: a write past its end moves whole pages, and then fails.
fn cannot_grow(len: usize) -> std::fs::File {
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC | nix::sys::memfd::MFdFlags::MFD_ALLOW_SEALING;
    let mut file = std::fs::File::from(nix::sys::memfd::memfd_create("ring", flags).unwrap());
    file.write_all(&vec![0; len]).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW)).unwrap();
    file
}

fn complete(ring: &mut Uring) -> Completion {
    let deadline = now() + 5_000_000_000;
    loop {
        ring.wait(Some(deadline)).unwrap();
        if let Some(completion) = ring.next() {
            return completion;
        }
        assert!(now() < deadline, "no completion came");
    }
}

fn moved(ring: &mut Uring) -> (Slot, Result<usize, Errno>) {
    match complete(ring) {
        Completion::Moved { tag: TAG, slot, result } => (slot, result),
        other => panic!("{other:?}"),
    }
}

fn payload(len: usize) -> Range<usize> {
    HEADER_ROOM..HEADER_ROOM + len
}

/// On a full disk a receiver reported a file as complete whose end was missing. The kernel had written a part, failed
/// at the rest, reported the part, and left the file's position in front of it: the rest was written over it.
#[test]
fn a_write_that_fails_halfway_leaves_the_file_behind_what_was_written() {
    const PAGE: usize = 4096;
    for io_mode in [IoMode::Inline, IoMode::Ring, IoMode::Thread] {
        let (mut ring, mut pool, mut file) = (Uring::new().unwrap(), pool(), cannot_grow(PAGE + 100));
        let mut slot = pool.take().unwrap();
        slot.payload_mut()[..PAGE].fill(1);
        slot.payload_mut()[PAGE..2 * PAGE].fill(2);
        ring.write(TAG, file.as_raw_fd(), slot, payload(2 * PAGE), io_mode);
        let (slot, result) = moved(&mut ring);
        assert_eq!(result.unwrap(), PAGE, "{io_mode:?}");
        assert_eq!(file.stream_position().unwrap(), PAGE as u64, "{io_mode:?}");

        let rest = HEADER_ROOM + PAGE..HEADER_ROOM + 2 * PAGE;
        ring.write(TAG, file.as_raw_fd(), slot, rest, io_mode);
        let (slot, result) = moved(&mut ring);
        assert_eq!(result.unwrap_err().raw(), libc::EPERM, "{io_mode:?}");
        pool.put(slot);

        let mut content = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut content).unwrap();
        assert_eq!(content, [vec![1; PAGE], vec![0; 100]].concat(), "{io_mode:?}");
    }
}

#[test]
fn both_io_modes_read_what_a_file_holds_at_its_position_and_then_nothing() {
    let content: Vec<u8> = (0..100_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    for register in [false, true] {
        for io_mode in [IoMode::Inline, IoMode::Ring] {
            let (mut ring, mut pool, file) = (Uring::new().unwrap(), pool(), memfd(&content));
            if register {
                ring.register(&pool).unwrap();
            }
            let mut read = Vec::new();
            loop {
                ring.read(TAG, file.as_raw_fd(), pool.take().unwrap(), payload(64 << 10), io_mode);
                let (slot, result) = moved(&mut ring);
                let count = result.unwrap();
                read.extend_from_slice(slot.payload(count));
                pool.put(slot);
                if count == 0 {
                    break;
                }
            }
            assert_eq!(read, content, "{io_mode:?}, registered: {register}");
        }
    }
}

#[test]
fn both_io_modes_write_at_the_position_of_the_file() {
    for register in [false, true] {
        for io_mode in [IoMode::Inline, IoMode::Ring] {
            let (mut ring, mut pool, mut file) = (Uring::new().unwrap(), pool(), memfd(b""));
            if register {
                ring.register(&pool).unwrap();
            }
            for piece in [&b"device "[..], b"state"] {
                let mut slot = pool.take().unwrap();
                slot.payload_mut()[..piece.len()].copy_from_slice(piece);
                ring.write(TAG, file.as_raw_fd(), slot, payload(piece.len()), io_mode);
                let (slot, result) = moved(&mut ring);
                assert_eq!(result, Ok(piece.len()));
                pool.put(slot);
            }
            let mut written = String::new();
            file.seek(SeekFrom::Start(0)).unwrap();
            file.read_to_string(&mut written).unwrap();
            assert_eq!(written, "device state");
        }
    }
}

#[test]
fn sends_and_receives_what_the_peer_sends_and_receives() {
    let (mut ring, mut pool) = (Uring::new().unwrap(), pool());
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut slot = pool.take().unwrap();
    slot.payload_mut()[..5].copy_from_slice(b"hello");
    let mut flight = slot.into_flight();
    ring.send(TAG, near.as_raw_fd(), flight.lease(), payload(5), false);
    let Completion::Sent { lease: Some(lease), result: Ok(5), .. } = complete(&mut ring) else { panic!() };
    flight.give_back(lease);
    let mut got = [0; 5];
    far.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello");
    ring.receive(TAG, near.as_raw_fd(), flight.land().unwrap(), payload(100));
    far.write_all(b"world!").unwrap();
    let (slot, result) = moved(&mut ring);
    assert_eq!((result, slot.payload(6)), (Ok(6), &b"world!"[..]));
    drop(far);
    ring.receive(TAG, near.as_raw_fd(), slot, payload(100));
    assert_eq!(moved(&mut ring).1, Ok(0));
}

#[test]
fn a_zero_copy_send_keeps_its_lease_until_the_kernel_says_so() {
    let (mut ring, mut pool) = (Uring::new().unwrap(), pool());
    if !ring.can_zero_copy() {
        eprintln!("SKIPPED this kernel has no zero-copy send");
        return;
    }
    ring.register(&pool).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut far, _) = listener.accept().unwrap();
    let mut slot = pool.take().unwrap();
    slot.payload_mut().fill(9);
    let mut flight = slot.into_flight();
    ring.send(TAG, near.as_raw_fd(), flight.lease(), payload(64 << 10), true);
    let Completion::Sent { lease: None, result: Ok(sent), .. } = complete(&mut ring) else { panic!() };
    let mut got = vec![0; sent];
    far.read_exact(&mut got).unwrap();
    assert!(got.iter().all(|&byte| byte == 9));
    let mut flight = flight.land().expect_err("the kernel still has the bytes");
    let Completion::Released { lease, copied, .. } = complete(&mut ring) else { panic!() };
    assert!(copied, "loopback copies, and the kernel says so");
    flight.give_back(lease);
    assert!(flight.land().is_ok());
}

#[test]
fn an_error_comes_back_with_its_slot() {
    let (mut ring, mut pool) = (Uring::new().unwrap(), pool());
    let folder = std::fs::File::open("/").unwrap();
    for io_mode in [IoMode::Inline, IoMode::Ring] {
        ring.read(TAG, folder.as_raw_fd(), pool.take().unwrap(), payload(10), io_mode);
        let (slot, result) = moved(&mut ring);
        assert_eq!(result, Err(Errno::from_raw(libc::EISDIR)));
        pool.put(slot);
    }
    assert_eq!(pool.free(), pool.total());
}

#[test]
fn a_wait_ends_at_its_deadline_and_when_the_waker_is_called() {
    let mut ring = Uring::new().unwrap();
    let before = now();
    ring.wait(Some(before + 20_000_000)).unwrap();
    assert!(now() >= before + 20_000_000 && ring.next().is_none());
    let waker = Arc::clone(ring.waker());
    let caller = std::thread::spawn(move || waker.wake());
    let before = now();
    while now() < before + 5_000_000_000 {
        ring.wait(Some(before + 5_000_000_000)).unwrap();
        if ring.next().is_none() {
            break;
        }
    }
    assert!(now() < before + 4_000_000_000, "the waker ends the wait");
    caller.join().unwrap();
}

#[test]
fn jobs_run_beside_the_loop_and_are_reported_even_when_they_panic() {
    let mut ring = Uring::new().unwrap();
    ring.reserve_threads(1).unwrap();
    let (tell, hear) = std::sync::mpsc::channel();
    ring.spawn(Tag(1), Box::new(move || tell.send(std::thread::current().id()).unwrap()));
    assert!(matches!(complete(&mut ring), Completion::Done { tag: Tag(1) }));
    assert_ne!(hear.recv().unwrap(), std::thread::current().id());
    ring.spawn(Tag(2), Box::new(|| panic!("a panic that this test wants")));
    assert!(matches!(complete(&mut ring), Completion::Done { tag: Tag(2) }));
}

#[test]
fn as_many_jobs_run_at_once_as_threads_were_reserved() {
    let mut ring = Uring::new().unwrap();
    ring.reserve_threads(3).unwrap();
    ring.reserve_threads(2).unwrap();
    let all_there = Arc::new(std::sync::Barrier::new(3));
    for _ in 0..2 {
        for number in 0..3 {
            let all_there = Arc::clone(&all_there);
            let job = move || {
                all_there.wait();
            };
            ring.spawn(Tag(number), Box::new(job));
        }
        for _ in 0..3 {
            assert!(matches!(complete(&mut ring), Completion::Done { .. }));
        }
    }
}

#[test]
fn without_a_thread_a_job_still_runs() {
    let mut ring = Uring::new().unwrap();
    let (tell, hear) = std::sync::mpsc::channel();
    ring.spawn(Tag(1), Box::new(move || tell.send(std::thread::current().id()).unwrap()));
    assert!(matches!(complete(&mut ring), Completion::Done { tag: Tag(1) }));
    assert_eq!(hear.recv().unwrap(), std::thread::current().id());
}

#[test]
fn threads_of_a_dropped_ring_have_ended() {
    let mut ring = Uring::new().unwrap();
    ring.reserve_threads(2).unwrap();
    let (tell, hear) = std::sync::mpsc::channel::<()>();
    let held = tell.clone();
    ring.spawn(Tag(1), Box::new(move || drop(held)));
    complete(&mut ring);
    drop(tell);
    drop(ring);
    assert!(hear.recv().is_err(), "nothing holds the job's end of the channel");
}

#[test]
fn cancelling_ends_what_would_wait_for_ever_and_nothing_else() {
    let (mut ring, mut pool) = (Uring::new().unwrap(), pool());
    let (near, _far) = UnixStream::pair().unwrap();
    let (reader, _writer) = nix::unistd::pipe().unwrap();
    ring.receive(Tag(1), near.as_raw_fd(), pool.take().unwrap(), payload(10));
    ring.read(TAG, reader.as_raw_fd(), pool.take().unwrap(), payload(10), IoMode::Ring);
    ring.wait(Some(now() + 10_000_000)).unwrap();
    assert!(ring.next().is_none());
    ring.cancel(TAG);
    let (_, result) = moved(&mut ring);
    assert!(matches!(result.unwrap_err().raw(), libc::ECANCELED | libc::EINTR));
    ring.wait(Some(now() + 10_000_000)).unwrap();
    assert!(ring.next().is_none(), "the receive goes on");
}

#[test]
fn a_ring_that_is_dropped_gives_its_operations_back_first() {
    let mut pool = pool();
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut ring = Uring::new().unwrap();
    ring.receive(TAG, near.as_raw_fd(), pool.take().unwrap(), payload(10));
    ring.wait(Some(now() + 1_000_000)).unwrap();
    let before = now();
    drop(ring);
    assert!(now() - before < nanos(Duration::from_secs(4)), "cancelled, not waited out");
    drop(pool);
    far.write_all(b"too late").unwrap();
}

#[test]
fn a_terminal_that_takes_nothing_does_not_stop_the_loop() {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let (mut ring, mut pool) = (Uring::new().unwrap(), Pool::new(4, 1 << 20).unwrap());
    let before = now();
    ring.write(TAG, terminal.slave.as_raw_fd(), pool.take().unwrap(), payload(1 << 20), IoMode::Thread);
    ring.wait(Some(before + 100_000_000)).unwrap();
    assert!(ring.next().is_none(), "nobody reads what was written");
    assert!(now() < before + 2_000_000_000);
    ring.cancel(TAG);
    let (_, result) = moved(&mut ring);
    assert!(result.is_err() || result.is_ok_and(|written| written < 1 << 20));
}

#[test]
fn a_cancelled_operation_no_longer_knows_its_file() {
    let (mut ring, mut pool, file) = (Uring::new().unwrap(), pool(), memfd(b"state"));
    let knows_a_file = |ring: &Uring| {
        ring.operations
            .tokens()
            .any(|(_, operation)| matches!(operation, Operation::Move { file: Some(_), .. }))
    };
    ring.read(TAG, file.as_raw_fd(), pool.take().unwrap(), payload(100), IoMode::Thread);
    assert!(knows_a_file(&ring));
    ring.cancel(TAG);
    // a device that does not come back is given up, its descriptor is closed, and the number names another file
    assert!(!knows_a_file(&ring));
    let _ = moved(&mut ring);
}

//! The ring's contract with the kernel, checked against what the kernel does: flags, registered buffers, the bytes that
//! a peer has not acknowledged, and the end of a ring. A transfer would succeed without any of it, only slower or less
//! safely.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::thread;

use socket2::SockRef;

use super::*;
use crate::error::KernelOperation;

/// A TCP connection whose sockets hold little, so that a send soon waits for the receiver.
fn narrow_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // set the receive buffer before connecting, so that no larger window is ever offered
    SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    SockRef::from(&near).set_send_buffer_size(4096).unwrap();
    (near, listener.accept().unwrap().0)
}

/// Whether a descriptor is closed when this process runs another program: the kernel's own flag, by number.
fn closes_on_exec(fd: RawFd) -> bool {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    i32::from_str_radix(flags.trim(), 8).unwrap() & libc::O_CLOEXEC != 0
}

/// Sends a whole slot, and returns the result of its first completion after the peer has taken everything.
fn send_to_a_peer_that_reads_late(zero_copy: bool) -> usize {
    let (mut ring, mut pool) = (Uring::new().unwrap(), pool());
    let (near, mut far) = narrow_pair();
    let mut flight = pool.take().unwrap().into_flight();
    ring.send(TAG, near.as_raw_fd(), flight.lease(), payload(64 << 10), zero_copy);
    ring.wait(Some(now() + 20_000_000)).unwrap();
    if let Some(Completion::Sent { result, .. }) = ring.next() {
        return result.unwrap();
    }
    let reader = thread::spawn(move || {
        let mut left = 64 << 10;
        while left > 0 {
            left -= far.read(&mut [0; 1000]).unwrap();
        }
        far
    });
    let Completion::Sent { result, .. } = complete(&mut ring) else { panic!("a send ends as one") };
    reader.join().unwrap();
    result.unwrap()
}

/// MSG_WAITALL: without it a send ends with what its socket holds, and a packet takes several iterations of the loop.
#[test]
fn a_send_ends_once_with_all_of_its_bytes_however_small_the_socket() {
    assert_eq!(send_to_a_peer_that_reads_late(false), 64 << 10);
    if Uring::new().unwrap().can_zero_copy() {
        assert_eq!(send_to_a_peer_that_reads_late(true), 64 << 10);
    } else {
        eprintln!("SKIPPED this kernel has no zero-copy send");
    }
}

#[test]
fn bytes_are_unconfirmed_until_the_peers_kernel_has_them() {
    let ring = Uring::new().unwrap();
    let (mut near, mut far) = narrow_pair();
    assert_eq!(ring.unconfirmed(near.as_raw_fd()).unwrap(), 0);
    near.set_nonblocking(true).unwrap();
    let mut written = 0;
    while let Ok(count) = near.write(&[7; 10_000]) {
        written += count;
    }
    let waiting = ring.unconfirmed(near.as_raw_fd()).unwrap();
    assert!((1..=written).contains(&waiting), "{waiting} of {written}: the peer has no room for all of it");
    far.read_exact(&mut vec![0; written]).unwrap();
    let deadline = now() + 5_000_000_000;
    while ring.unconfirmed(near.as_raw_fd()).unwrap() > 0 {
        assert!(now() < deadline, "the peer has read everything");
        thread::yield_now();
    }
}

#[test]
fn what_is_no_socket_has_no_unconfirmed_bytes_but_an_error() {
    let file = memfd(b"");
    let error = Uring::new().unwrap().unconfirmed(file.as_raw_fd()).unwrap_err();
    assert_eq!((error.operation, error.errno.raw()), (KernelOperation::Unconfirmed, libc::ENOTTY));
}

/// The kernel answers EFAULT only to an operation that names a registered buffer that is no longer there: so an
/// operation that fails after the buffers were unregistered was using them.
#[test]
fn every_operation_that_can_uses_the_registered_pool() {
    let (mut ring, mut pool, file) = (Uring::new().unwrap(), pool(), memfd(&[7; 100]));
    ring.register(&pool).unwrap();
    ring.ring.submitter().unregister_buffers().expect("the pool is registered");

    ring.read(TAG, file.as_raw_fd(), pool.take().unwrap(), payload(10), IoMode::Ring);
    let (slot, result) = moved(&mut ring);
    assert_eq!(result, Err(Errno::from_raw(libc::EFAULT)), "READ_FIXED");
    ring.write(TAG, file.as_raw_fd(), slot, payload(10), IoMode::Ring);
    let (slot, result) = moved(&mut ring);
    assert_eq!(result, Err(Errno::from_raw(libc::EFAULT)), "WRITE_FIXED");
    if !ring.can_zero_copy() {
        eprintln!("SKIPPED this kernel has no zero-copy send");
        return;
    }
    let (near, _far) = narrow_pair();
    let mut flight = slot.into_flight();
    ring.send(TAG, near.as_raw_fd(), flight.lease(), payload(1000), true);
    let Completion::Sent { result, .. } = complete(&mut ring) else { panic!("a send ends as one") };
    assert_eq!(result, Err(Errno::from_raw(libc::EFAULT)), "SEND_ZC from a registered buffer");
}

#[test]
fn a_pool_of_another_region_is_not_taken_for_the_registered_one() {
    let (mut ring, registered, mut other) = (Uring::new().unwrap(), pool(), pool());
    ring.register(&registered).unwrap();
    let file = memfd(b"state");
    ring.read(TAG, file.as_raw_fd(), other.take().unwrap(), payload(100), IoMode::Ring);
    let (slot, result) = moved(&mut ring);
    assert_eq!((result, slot.payload(5)), (Ok(5), &b"state"[..]));
}

/// The ring's soundness rests on this: memory is freed only when the kernel has let go of it.
#[test]
fn a_dropped_ring_has_waited_for_its_operations_and_their_slots_are_free() {
    let mut pool = pool();
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let slot = pool.take().unwrap();
    let address = slot.address(&payload(8)) as u64;
    let mut ring = Uring::new().unwrap();
    ring.read(TAG, reader.as_raw_fd(), slot, payload(8), IoMode::Ring);
    ring.wait(Some(now() + 1_000_000)).unwrap();
    let witness = pool.take().unwrap();
    assert_eq!(witness.sharers(), 4, "the ring has one of them");

    drop(ring);

    assert_eq!(witness.sharers(), 3, "the read has ended, and its slot was not leaked");
    nix::unistd::write(&writer, b"too late").unwrap();
    let mut memory = [1; 8];
    std::fs::File::open("/proc/self/mem").unwrap().read_exact_at(&mut memory, address).unwrap();
    assert_eq!(memory, [0; 8], "nobody wrote to the slot after the ring was gone");
    let mut left = [0; 8];
    assert_eq!(nix::unistd::read(&reader, &mut left), Ok(8), "the bytes are still in the pipe");
}

#[test]
fn no_descriptor_of_a_ring_is_inherited_by_child_processes() {
    let ring = Uring::new().unwrap();
    assert!(closes_on_exec(ring.ring.as_raw_fd()), "the ring");
    assert!(closes_on_exec(ring.waker.fd()), "its waker");
    assert!(!closes_on_exec(0), "what is inherited is seen");
}

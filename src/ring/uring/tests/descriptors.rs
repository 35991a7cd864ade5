//! Reads and writes of descriptors whose drivers know only `read` and `poll`, as migration data has; an inotify
//! descriptor is one that every host has.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::time::{ClockId, clock_gettime};

use super::*;

/// An inotify descriptor, and the folder whose changes it tells.
fn watched(flags: InitFlags) -> (Inotify, tempfile::TempDir) {
    let (inotify, folder) = (Inotify::init(flags).unwrap(), tempfile::tempdir().unwrap());
    inotify.add_watch(folder.path(), AddWatchFlags::IN_CREATE).unwrap();
    (inotify, folder)
}

fn change(folder: &Path, number: usize) {
    std::fs::File::create(folder.join(number.to_string())).unwrap();
}

/// Asserts that nothing ends for a while, and that the loop hardly turns meanwhile.
fn assert_waits(ring: &mut Uring) {
    let until = now() + nanos(Duration::from_millis(100));
    let mut iterations = 0;
    while now() < until {
        ring.wait(Some(until)).unwrap();
        assert!(ring.next().is_none(), "it cannot be read or written");
        iterations += 1;
    }
    assert!(iterations < 20, "{iterations} iterations in 100 ms");
}

/// Processor time of this thread.
fn worked() -> Nanos {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    nanos(Duration::from(time))
}

/// Processor time that this thread spends on reads of `fd`, each of which finds data.
fn work_of_reads(fd: RawFd, mut fill: impl FnMut(usize)) -> Nanos {
    const READS: usize = 40;
    let (mut ring, mut pool) = (Uring::new().unwrap(), pool());
    let mut work = 0;
    for number in 0..READS {
        fill(number);
        let before = worked();
        ring.read(TAG, fd, pool.take().unwrap(), payload(4096), IoMode::Thread);
        let (slot, result) = moved(&mut ring);
        work += worked() - before;
        assert!(result.unwrap() > 0);
        pool.put(slot);
    }
    work
}

/// Without `IOSQE_ASYNC` the kernel tries such a read on this thread, is told that it would wait, polls, is told that
/// it would not, and so on: 128 times before it hands the read to a thread of its own. A pipe, which knows how not to
/// wait, shows what the hand-over alone costs.
#[test]
fn a_device_that_calls_itself_ready_is_not_tried_over_and_over() {
    let (inotify, folder) = watched(InitFlags::IN_CLOEXEC);
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let mut round = 0;
    let mut rounds = || {
        round += 1;
        let device = work_of_reads(inotify.as_fd().as_raw_fd(), |number| {
            change(folder.path(), round * 1000 + number);
        });
        let pipe = work_of_reads(reader.as_raw_fd(), |_| {
            nix::unistd::write(&writer, b"state").unwrap();
        });
        (device, pipe)
    };
    let tried: Vec<(Nanos, Nanos)> = (0..5).map(|_| rounds()).collect();
    // the least of several: other processes only ever add to it
    let (device, pipe) = (tried.iter().map(|t| t.0).min().unwrap(), tried.iter().map(|t| t.1).min().unwrap());
    assert!(device < 3 * pipe, "{device} ns for a device, {pipe} ns for a pipe");
}

/// `O_NONBLOCK` on a descriptor without a non-blocking read: the kernel returns `EAGAIN` at once.
#[test]
fn a_read_that_would_wait_ends_when_there_is_something_and_the_loop_does_not_spin() {
    for io_mode in [IoMode::Ring, IoMode::Thread] {
        let (inotify, folder) = watched(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        let (mut ring, mut pool) = (Uring::new().unwrap(), pool());
        ring.read(TAG, inotify.as_fd().as_raw_fd(), pool.take().unwrap(), payload(4096), io_mode);
        assert_waits(&mut ring);
        change(folder.path(), 1);
        let (slot, result) = moved(&mut ring);
        assert!(result.unwrap() > 0, "{io_mode:?}");
        pool.put(slot);
    }
}

/// An eventfd whose count is as high as it can be takes no more: a descriptor without a non-blocking write, too.
#[test]
fn a_write_that_would_wait_ends_when_there_is_room_and_the_loop_does_not_spin() {
    for io_mode in [IoMode::Ring, IoMode::Thread] {
        let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).unwrap();
        event.write(u64::MAX - 1).unwrap();
        let (mut ring, mut pool) = (Uring::new().unwrap(), pool());
        let mut slot = pool.take().unwrap();
        slot.payload_mut()[..8].copy_from_slice(&1_u64.to_ne_bytes());
        ring.write(TAG, event.as_fd().as_raw_fd(), slot, payload(8), io_mode);
        assert_waits(&mut ring);
        event.read().unwrap();
        assert_eq!(moved(&mut ring).1, Ok(8), "{io_mode:?}");
        assert_eq!(event.read(), Ok(1));
    }
}

#[test]
fn a_wait_for_a_descriptor_ends_when_it_is_cancelled_and_when_the_ring_is_dropped() {
    let (inotify, _folder) = watched(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
    let fd = inotify.as_fd().as_raw_fd();
    let (mut ring, mut pool) = (Uring::new().unwrap(), pool());
    ring.read(TAG, fd, pool.take().unwrap(), payload(100), IoMode::Thread);
    ring.wait(Some(now() + nanos(Duration::from_millis(20)))).unwrap();
    assert!(ring.next().is_none());
    ring.cancel(TAG);
    let (slot, result) = moved(&mut ring);
    assert!(result.is_err());
    ring.read(TAG, fd, slot, payload(100), IoMode::Thread);
    ring.wait(Some(now() + nanos(Duration::from_millis(20)))).unwrap();
    assert!(ring.next().is_none());
    let before = now();
    drop(ring);
    assert!(now() - before < nanos(Duration::from_secs(4)), "cancelled, not waited out");
}

/// What makes an interruption more than theory: a thread of the ring in the kernel has every signal blocked, but a
/// process that is stopped is stopped with all of its threads, and what waits in one of them is interrupted.
#[test]
fn what_waits_in_a_thread_of_the_ring_is_interrupted_when_the_process_is_stopped() {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let (mut ring, mut pool) = (Uring::new().unwrap(), Pool::new(4, 1 << 20).unwrap());
    ring.write(TAG, terminal.slave.as_raw_fd(), pool.take().unwrap(), payload(1 << 20), IoMode::Thread);
    ring.wait(Some(now() + nanos(Duration::from_millis(100)))).unwrap();
    assert!(ring.next().is_none(), "nobody reads what was written");
    let pid = std::process::id();
    let stop = format!("kill -STOP {pid}; sleep 0.1; kill -CONT {pid}");
    assert!(Command::new("sh").args(["-c", &stop]).status().unwrap().success());
    let (_, result) = moved(&mut ring);
    assert!(result.is_ok_and(|written| written < 1 << 20), "a part of it was written");
}

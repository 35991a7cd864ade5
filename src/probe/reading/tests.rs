//! Data files of every manner that a driver has.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::Write;

use super::*;

/// A data file that returns what a test has written down, and then 0.
#[derive(Default)]
struct Script {
    results: RefCell<VecDeque<Result<usize, Raw>>>,
    pollable: bool,
    /// How often it is asked before it is ready.
    ready_after: Cell<u32>,
    nonblocking: Cell<bool>,
}

impl Script {
    fn new(results: impl IntoIterator<Item = Result<usize, Raw>>) -> Script {
        Script { results: RefCell::new(results.into_iter().collect()), ..Script::default() }
    }
}

impl Data for Script {
    fn read(&self, buffer: &mut [u8]) -> Result<usize, Raw> {
        self.results.borrow_mut().pop_front().unwrap_or(Ok(0)).map(|read| read.min(buffer.len()))
    }
    fn set_nonblocking(&self, on: bool) -> Result<(), Raw> {
        self.nonblocking.set(on);
        Ok(())
    }
    fn is_pollable(&self) -> bool {
        self.pollable
    }
    fn is_ready(&self, _: u16) -> bool {
        let left = self.ready_after.get();
        self.ready_after.set(left.saturating_sub(1));
        left == 0
    }
}

/// Everything that a stopped device has, or a running one has now.
fn read_all(data: &impl Data, until: Until) -> (ProbedReads, Result<(), Stopped>) {
    let mut times = read_times();
    let mut buffer = vec![0; 4096];
    let mut reading = Reading::begin(data, buffer.len(), &mut times);
    let result = reading.run(data, &mut buffer, until, &Cancel::new());
    if result.is_ok() && matches!(until, Until::End) {
        reading.look_behind_end(data, &mut buffer);
    }
    let found = reading.end(data);
    assert_eq!(times.len(), found.reads);
    assert_eq!(found.latency_ns.count, found.reads);
    (found, result)
}

fn now_and_then() -> Until {
    Until::Nothing { bytes: 10_000, time: now() + 60_000_000_000 }
}

#[test]
fn sizes_are_counted_and_the_most_frequent_is_named() {
    let script = Script::new([Ok(100), Ok(4096), Ok(4096), Ok(7), Ok(4096), Ok(100)]);
    let (found, result) = read_all(&script, Until::End);
    result.unwrap();
    assert_eq!((found.bytes, found.reads, found.asked), (12_495, 6, 4096));
    assert_eq!((found.shortest, found.longest), (7, 4096));
    assert_eq!((found.most_frequent, found.most_frequent_reads), (4096, 3));
    assert_eq!((found.end, found.behind_end), (ProbedEnd::Zero, Some(ProbedEnd::Zero)));
    assert_eq!(found.nonblocking, None, "nothing had to wait");
    assert!(!script.nonblocking.get(), "the file is as it was");
}

#[test]
fn pre_copy_ends_with_either_sign_or_never() {
    for (results, end) in [
        (vec![Ok(24), Err(Raw::ENOMSG)], ProbedEnd::Enomsg),
        (vec![Ok(24), Ok(0)], ProbedEnd::Zero),
        (vec![Ok(4096); 10], ProbedEnd::More),
    ] {
        let (found, result) = read_all(&Script::new(results), now_and_then());
        result.unwrap();
        assert_eq!((found.end, found.behind_end), (end, None));
    }
    let late = Until::Nothing { bytes: u64::MAX, time: 0 };
    assert_eq!(read_all(&Script::new([]), late).0.end, ProbedEnd::More);
}

#[test]
fn an_error_ends_it_and_so_does_enomsg_of_a_device_that_was_stopped() {
    let errno = |errno| read_all(&Script::new([Ok(1), Err(errno)]), Until::End);
    for raw in [Raw::EIO, Raw::ENOMSG] {
        let (found, result) = errno(raw);
        assert_eq!(found.end, ProbedEnd::Failed);
        assert!(matches!(result, Err(Stopped::Failed(DeviceError::Io { errno, .. })) if errno == raw.into()));
    }
    assert!(matches!(errno(Raw::EINTR).1, Err(Stopped::Failed(DeviceError::CutShort { .. }))));
}

#[test]
fn a_driver_that_lies_about_its_end_is_found_out() {
    for (behind, seen) in [(Ok(5), ProbedEnd::More), (Err(Raw::EIO), ProbedEnd::Failed)] {
        let (found, result) = read_all(&Script::new([Ok(1), Ok(0), behind]), Until::End);
        result.unwrap();
        assert_eq!(found.behind_end, Some(seen));
    }
}

#[test]
fn a_file_that_honours_o_nonblock_is_polled_or_else_read_without_it() {
    let pollable = Script { pollable: true, ..Script::new([Err(Raw::EAGAIN), Ok(9)]) };
    pollable.ready_after.set(4);
    let (found, result) = read_all(&pollable, Until::End);
    result.unwrap();
    assert_eq!((found.bytes, found.nonblocking, found.pollable), (9, Some(true), true));
    assert!(!found.ready_at_begin);

    let deaf = Script::new([Err(Raw::EAGAIN), Ok(9)]);
    let (found, result) = read_all(&deaf, Until::End);
    result.unwrap();
    assert_eq!((found.bytes, found.nonblocking, found.pollable), (9, Some(true), false));
}

#[test]
fn a_cancel_ends_a_wait() {
    let never = Script { pollable: true, ..Script::new(std::iter::repeat_n(Err(Raw::EAGAIN), 9)) };
    never.ready_after.set(u32::MAX);
    let cancel = Cancel::new();
    cancel.cancel();
    let mut times = read_times();
    let mut reading = Reading::begin(&never, 10, &mut times);
    assert!(matches!(reading.run(&never, &mut [0; 10], Until::End, &cancel), Err(Stopped::Cancelled)));
    assert!(matches!(reading.read(&never, &mut [0; 10], &cancel), Err(Stopped::Cancelled)));
}

#[test]
fn a_pipe_can_be_polled_and_a_file_in_memory_cannot() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"state").unwrap();
    drop(writer);
    let (found, result) = read_all(&reader.as_fd(), Until::End);
    result.unwrap();
    assert_eq!((found.bytes, found.pollable, found.ready_at_begin), (5, true, true));
    let flags = OFlag::from_bits_retain(fcntl(&reader, FcntlArg::F_GETFL).unwrap());
    assert!(!flags.contains(OFlag::O_NONBLOCK), "the file is as it was");

    let file = nix::sys::memfd::memfd_create("state", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    let (found, _) = read_all(&file.as_fd(), Until::End);
    assert_eq!((found.pollable, found.ready_at_begin), (false, true));
}

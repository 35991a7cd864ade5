//! A read of a descriptor whose driver knows only `read` and `poll`, as migration data has: what it costs by the ring,
//! by one of the ring's threads in the kernel, and with `O_NONBLOCK` by the ring. An inotify descriptor is such a one,
//! and has data whenever it is read here.
//!
//! Times alternate between the ways, so that other work on the machine is spread over all of them.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a program that measures and prints")]

use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};
use ringlift::internals::{By, Reads};

/// Bytes of an event with the longest name.
const EVENT: usize = 16 + 256;

/// A way to read, what it costs, and the descriptor.
struct Way {
    name: &'static str,
    by: By,
    inotify: Inotify,
    samples: Vec<Sample>,
}

/// Of one read: elapsed time, processor time of all threads, and that of the submitting one.
#[derive(Clone, Copy)]
struct Sample([Duration; 3]);

fn processor_time() -> [Duration; 2] {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process knows its own usage");
    let micros = |time: nix::sys::time::TimeVal| {
        Duration::from_micros(u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).expect("positive"))
    };
    let thread = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a thread knows its own time");
    [micros(usage.user_time()) + micros(usage.system_time()), thread.into()]
}

/// `reads` reads of `size` bytes one after the other, each of which finds all of it.
fn sample(way: &mut Way, ring: &mut Reads, file: &std::path::Path, size: usize, reads: u32) {
    let opens = (size * reads as usize).div_ceil(2 * EVENT) + 1;
    (0..opens).for_each(|_| drop(File::open(file).expect("it was made")));
    let (cpu, before) = (processor_time(), Instant::now());
    for _ in 0..reads {
        let read = ring.read(way.inotify.as_fd(), size, way.by).expect("it has data");
        assert!(read > size - EVENT, "{read} of {size} bytes");
    }
    let (elapsed, after) = (before.elapsed(), processor_time());
    way.samples.push(Sample([elapsed, after[0] - cpu[0], after[1] - cpu[1]].map(|time| time / reads)));
    drain(way);
}

fn median(way: &Way, which: usize) -> f64 {
    let mut times: Vec<Duration> = way.samples.iter().map(|sample| sample.0[which]).collect();
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

fn main() {
    let is_given = |option: &str| std::env::args().any(|argument| argument == option);
    if is_given("--list") {
        // a test runner asks: this program is one test
        if !is_given("--ignored") {
            println!("each_way_of_reading_a_descriptor_finds_its_data: test");
        }
        return;
    }
    let rounds = if is_given("--bench") && !is_given("--test") { 101 } else { 1 };
    let folder = tempfile::tempdir().expect("there is room for a file");
    let file = folder.path().join("n".repeat(255));
    File::create(&file).expect("there is room for a file");
    println!("{:>9}  {:<20} {:>9} {:>12} {:>12}", "bytes", "read", "us", "CPU us, all", "CPU us, own");
    for (size, reads) in [(4096, 16), (64 << 10, 8), (1 << 20, 2)] {
        let way = |name, by, flags| {
            let inotify = Inotify::init(flags | InitFlags::IN_CLOEXEC).expect("inotify exists");
            let events = AddWatchFlags::IN_OPEN | AddWatchFlags::IN_CLOSE;
            inotify.add_watch(folder.path(), events).expect("the folder exists");
            Way { name, by, inotify, samples: Vec::new() }
        };
        let mut ways = [
            way("ring", By::Ring, InitFlags::empty()),
            way("thread", By::Thread, InitFlags::empty()),
            way("ring, O_NONBLOCK", By::Ring, InitFlags::IN_NONBLOCK),
        ];
        let mut ring = Reads::new(u32::try_from(size).expect("small")).expect("io_uring works here");
        for _ in 0..rounds {
            for at in 0..ways.len() {
                sample(&mut ways[at], &mut ring, &file, size, reads);
                // what the others were told meanwhile
                for other in (0..ways.len()).filter(|other| *other != at) {
                    drain(&ways[other]);
                }
            }
        }
        for way in &ways {
            let [elapsed, all, own] = [0, 1, 2].map(|which| median(way, which));
            println!("{size:>9}  {:<20} {elapsed:>9.1} {all:>12.1} {own:>12.1}", way.name);
        }
    }
}

/// Reads what is there, without the ring.
fn drain(way: &Way) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut buffer = vec![0; 1 << 20];
    let is_ready = || {
        let mut fds = [PollFd::new(way.inotify.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    };
    while is_ready() {
        nix::unistd::read(way.inotify.as_fd(), &mut buffer).expect("it has data");
    }
}

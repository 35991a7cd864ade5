//! How much memory the command takes at its peak: its pool, and a little, however large the state.
//!
//! The kernel keeps the peak of all processes that this one has waited for, so that the peaks of a sender and a receiver
//! need not be caught while they run; it only grows, which is why one test does everything, the small first.

use std::process::{Command, Stdio};

use nix::sys::resource::{UsageWho, getrusage};

const MIB: i64 = 1 << 20;
/// What the demo's pools take.
const POOL: i64 = 64 * MIB;
/// What a process may take besides.
const ROOM: i64 = 32 * MIB;

/// The peak of all processes so far, after the demo has moved four devices of `size` each with its two processes.
fn peak_after(size: &str) -> i64 {
    let demo = Command::new(assert_cmd::cargo::cargo_bin!("ringlift"))
        .args(["demo", "--devices", "4", "--size", size])
        .stdin(Stdio::null())
        .output()
        .expect("it can be run");
    assert!(demo.status.success(), "{}", String::from_utf8_lossy(&demo.stderr));
    getrusage(UsageWho::RUSAGE_CHILDREN).expect("every kernel counts").max_rss() * 1024
}

#[test]
fn the_peak_is_the_pool_and_a_little_and_the_same_for_four_times_the_state() {
    let small = peak_after("256MiB");
    assert!((POOL..=POOL + ROOM).contains(&small), "{} MiB for 1 GiB of state", small / MIB);
    let large = peak_after("1GiB");
    assert!(large - small <= 4 * MIB, "{} MiB for 4 GiB, {} MiB for 1 GiB", large / MIB, small / MIB);
}

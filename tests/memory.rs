//! How much memory the command takes at its peak: the pool, and a little, however large the state.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

const MIB: u64 = 1 << 20;
const POOL: u64 = 64 * MIB;
/// What a process may take besides its pool.
const ROOM: u64 = 32 * MIB;

struct Peaks {
    sender: u64,
    receiver: u64,
}

/// Waits for a child's end, and reads its peak before it is gone for good.
fn peak(mut child: Child) -> u64 {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    // VmHWM goes with the memory, when the process ends: it is held at its very end by its open stdout
    let mut results = String::new();
    let before = peak_now(pid);
    child.stdout.take().unwrap().read_to_string(&mut results).unwrap();
    waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}: {results}");
    before
}

fn peak_now(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

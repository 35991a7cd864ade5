//! The peak memory of the command: its pool, and a little more, however large the state.
//!
//! The kernel keeps the peak of all processes that this one has waited for, so that those of a sender and a receiver
//! need not be sampled while they run. It only grows, so one test does everything, the small transfer first.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use nix::sys::resource::{UsageWho, getrusage};

const MIB: i64 = 1 << 20;
/// The size of the pools.
const POOL: i64 = 64 * MIB;
/// What a process may use besides.
const ROOM: i64 = 32 * MIB;

/// The peak of all processes so far, after a sender and a receiver have moved four devices.
fn peak_after(source: &str, sink: &str) -> i64 {
    let ringlift = |args: &[&str], device: &str| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("ringlift"));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.args((0..4).flat_map(|number| ["--device".to_owned(), format!("dev{number}={device}")]));
        command
    };
    let recv = ["recv", "--listen", "127.0.0.1:0", "--once"];
    let mut receiver = ringlift(&recv, sink).spawn().expect("it can be run");
    let mut words = BufReader::new(receiver.stderr.take().expect("piped")).lines();
    let first = words.next().expect("a line").expect("text");
    let address = first.strip_prefix("listening on ").expect("its first line").to_owned();
    let sent = ringlift(&["send", "--to", &address], source).output().expect("it can be run");
    let heard: Vec<String> = words.map_while(Result::ok).collect();
    let received = receiver.wait().expect("its child");
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    assert!(received.success(), "{heard:#?}");
    getrusage(UsageWho::RUSAGE_CHILDREN).expect("every kernel counts").max_rss() * 1024
}

#[test]
fn the_peak_is_the_pool_and_a_little_however_large_the_state() {
    // made-up content is slow without optimisation, so a debug build moves less of it; nothing else differs
    let (less, more) =
        if cfg!(debug_assertions) { ("64MiB", "null:1GiB") } else { ("256MiB", "synthetic:1GiB") };
    let sink = if more.starts_with("null") { "discard" } else { "verify" };
    let small = peak_after(&format!("synthetic:{less}"), "verify");
    assert!((POOL..=POOL + ROOM).contains(&small), "{} MiB for 4 x {less}", small / MIB);
    let large = peak_after(more, sink);
    assert!(
        large - small <= 4 * MIB,
        "{} MiB for 4 x {more}, {} MiB for 4 x {less}",
        large / MIB,
        small / MIB
    );
}

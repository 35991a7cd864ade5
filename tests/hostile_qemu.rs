//! What a real QEMU sent, damaged anywhere, over real connections: who takes it comes to an end at once, says what is wrong in
//! words, and never calls complete what is not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "it looks whether anything takes long")]

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::damage::{Damage, damage};
use common::source::{Source, Streams};
use common::{Running, loopback};
use proptest::prelude::*;
use ringlift::capture::{self, Inspection};
use ringlift::error::{CaptureError, CaptureProblem, Error};
use ringlift::qemu::{Capture, Captured, Listener};
use ringlift::wire::qemu::INIT_LEN;

/// Nobody may wait for anything when the source has closed: what ends after this has waited.
const AT_ONCE: Duration = Duration::from_secs(4);

fn damaged(name: &str, all: &[Damage]) -> Streams {
    let mut streams = Streams::of(name);
    for damage in all {
        match damage.stream(streams.multifd.len() + 1) {
            // what a connection says of itself is not damaged here: strangers are another story
            0 => damage.happen(&mut streams.main, 4),
            channel => damage.happen(&mut streams.multifd[channel - 1], INIT_LEN),
        }
    }
    streams
}

/// What `inspect` says of the same bytes.
fn inspected(streams: &Streams) -> Inspection {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("main.bin"), &streams.main).unwrap();
    for (id, bytes) in streams.multifd.iter().enumerate() {
        fs::write(folder.path().join(format!("multifd-{id}.bin")), bytes).unwrap();
    }
    capture::inspect(&[folder.path().to_owned()])
}

/// Captures it; the source closes when it has sent everything.
fn captured(streams: &Streams) -> Captured {
    let listener = Listener::bind(loopback()).unwrap();
    let addr = listener.local_addr();
    let capture = Capture::builder().listener(listener).channels(streams.multifd.len()).pool_size(8 << 20);
    let capture = capture.build().unwrap();
    let running = Running::start(move || capture.run());
    let mut source = Source::connect(addr, streams);
    source.send(streams);
    source.close_all();
    source.hear();
    running.finish()
}

fn assert_is_told(error: &Error) {
    let words = error.to_string();
    assert!(!words.contains(char::is_control) && words.len() < 1000, "{words:?}");
    assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{words}");
}

fn is_about_full_sections(error: &CaptureError) -> bool {
    matches!(error.problem, CaptureProblem::Tail { .. } | CaptureProblem::Description { .. })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_capture_ends_whatever_came_and_is_complete_when_all_is_there(
        all in prop::collection::vec(damage(), 1..3),
        answers: bool,
    ) {
        let streams = damaged(if answers { "device-on-channels-ack" } else { "device-on-channels" }, &all);
        let began = Instant::now();
        let captured = captured(&streams);
        prop_assert!(began.elapsed() < AT_ONCE, "{:?}", captured.error);
        let found = inspected(&streams);
        match &captured.error {
            Some(error) => {
                assert_is_told(error);
                prop_assert!(!found.is_ok(), "{error}");
            }
            // what is in the full sections is not looked into while it comes
            None => prop_assert!(found.errors.iter().all(is_about_full_sections), "{:?}", found.errors),
        }
    }
}

//! A device that refuses what it is sent in pre-copy, as drivers do that check early whether the state can be theirs.

use super::*;
use crate::cancel::PreCopyHold;
use crate::error::ErrorCode;

#[test]
fn a_write_refused_in_pre_copy_ends_the_transfer_before_anything_was_told_to_stop() {
    for seed in seeds(100) {
        let world = World::new(seed);
        let (source_log, sink_log) = (Log::default(), Log::default());
        let (from, to) = (descriptor(), descriptor());
        let content = vec![7; 60_000];
        world.add_file(from.as_raw_fd(), SimFile { content, at: 0, fails_at: None });
        let refused_at = usize::try_from(seed % 60).unwrap() * 1000;
        world.add_file(to.as_raw_fd(), SimFile { fails_at: Some(refused_at), ..SimFile::default() });
        let source = FakeSource { fd: from, flow: Flow::PreCopy, log: Arc::clone(&source_log), fails: None };
        let sink = FakeSink { fd: to, log: Arc::clone(&sink_log), fails: None, config: b"config".to_vec() };
        let (mut sending, receiving) = one_device(&world, source, sink);
        // what follows comes of the refusal, and not of pre-copy's own end
        sending.hooks.hold_pre_copy = Some(PreCopyHold::new());
        let (sender, receiver) = run(&world, sending, receiving);
        let codes = [sender.error, receiver.error].map(|error| error.map(|error| error.code()));
        assert_eq!(
            codes,
            [ErrorCode::PeerDeviceRefused, ErrorCode::DeviceRefusedEarly].map(|code| Some(code as u32)),
            "seed {seed}"
        );
        assert_eq!((sender.outcome, receiver.outcome), (Outcome::Aborted, Outcome::Aborted), "seed {seed}");
        assert_eq!(*source_log.lock().unwrap(), ["start", "rollback"], "seed {seed}");
        assert_eq!(*sink_log.lock().unwrap(), ["prepare", "rollback"], "seed {seed}");
        assert_eq!(sender.report.downtime.total_ns, 0, "seed {seed}");
    }
}

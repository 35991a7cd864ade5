//! What a file sink makes durable, and when. No other test would notice a missing `fsync`, because only a power cut
//! shows it.
//!
//! Under test the sink logs its calls here, per thread, with the path and size that the kernel reports for the
//! descriptor at that moment. The log does not exist outside tests.

use std::cell::RefCell;
use std::os::fd::AsRawFd;

use super::tests::write_all;
use super::*;

/// A call that matters to durability.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    /// `fsync` of a file or folder, and the bytes that a file held by then.
    Sync { path: PathBuf, bytes: Option<u64> },
    /// A file was renamed to this.
    Rename { to: PathBuf },
}

thread_local! {
    static LOG: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn log_sync(file: &File) {
    // the kernel's own name for it
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    let metadata = file.metadata().unwrap();
    let bytes = metadata.is_file().then_some(metadata.len());
    LOG.with_borrow_mut(|log| log.push(Call::Sync { path, bytes }));
}

pub(super) fn log_rename(to: &Path) {
    LOG.with_borrow_mut(|log| log.push(Call::Rename { to: to.to_owned() }));
}

/// The calls since the last time, and forgets them.
fn calls() -> Vec<Call> {
    LOG.take()
}

fn part_of(sink: &FileSink) -> PathBuf {
    sink.part.as_ref().unwrap().path.clone()
}

/// A sink to `state` in a folder, with three bytes written.
fn written(folder: &Path) -> FileSink {
    let mut sink = FileSink::create(folder.join("state")).unwrap();
    sink.prepare().unwrap();
    write_all(&sink, b"new");
    assert_eq!(calls(), []);
    sink
}

#[test]
fn a_file_is_on_the_disk_with_all_of_its_bytes_when_seal_returns() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = written(folder.path());
    let path = part_of(&sink);
    sink.seal().unwrap();
    assert_eq!(calls(), [Call::Sync { path, bytes: Some(3) }]);
}

#[test]
fn a_name_is_on_the_disk_when_run_returns_whether_it_is_new_or_an_old_ones() {
    for old in [None, Some("old")] {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("state");
        old.iter().for_each(|old| fs::write(&target, old).unwrap());
        let mut sink = written(folder.path());
        sink.seal().unwrap();
        calls();
        sink.pre_run().unwrap();
        assert_eq!(calls(), [], "nothing is renamed before the devices run");
        sink.run().unwrap();
        let synced = Call::Sync { path: folder.path().canonicalize().unwrap(), bytes: None };
        assert_eq!(calls(), [Call::Rename { to: target }, synced], "{old:?}");
    }
}

#[test]
fn a_given_descriptor_of_a_file_is_on_the_disk_when_seal_returns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut sink = FdSink::new(File::create(&path).unwrap().into());
    sink.prepare().unwrap();
    write_all(&sink, b"state");
    sink.seal().unwrap();
    assert_eq!(calls(), [Call::Sync { path, bytes: Some(5) }]);
}

#[test]
fn a_pipe_is_not_synced_because_it_cannot_be() {
    let (_reader, writer) = nix::unistd::pipe().unwrap();
    let mut sink = FdSink::new(writer);
    sink.prepare().unwrap();
    sink.seal().unwrap();
    assert_eq!(calls(), []);
}

//! What a file sink leaves behind, in every phase and whoever else is there.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;

use super::super::durable::log::{Call, calls};
use super::folder::Folder;
use super::journal::{Direction, Journal};
use super::*;

mod together;

/// Writes as the engine does: to the descriptor, at its position.
fn write_all(sink: &impl Sink, bytes: &[u8]) {
    let (fd, _) = sink.fd().unwrap();
    File::from(fd.try_clone_to_owned().unwrap()).write_all(bytes).unwrap();
}

/// What is in a folder, without the locks of living sinks.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.ends_with(".ringlift.lock"));
    names.sort();
    names
}

/// Runs as the engine does.
fn start(sink: &mut FileSink) -> Result<(), DeviceError> {
    sink.pre_run()?;
    sink.run()
}

/// Everything in a folder.
fn all_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn errno(error: DeviceError) -> i32 {
    match error {
        DeviceError::Open { errno, .. } | DeviceError::Io { errno, .. } => errno.raw(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_takes_its_name_at_the_end_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut sink = FileSink::create(&path).unwrap();
    assert!(names(folder.path()).is_empty());

    sink.prepare().unwrap();
    write_all(&sink, b"new");
    sink.config(b"").unwrap();
    sink.seal().unwrap();
    assert!(!path.exists());
    start(&mut sink).unwrap();
    drop(sink);

    assert_eq!(names(folder.path()), ["state"]);
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_old_file_is_replaced_whole_and_lends_its_permissions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    fs::write(&path, b"old and longer").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();

    let mut sink = FileSink::create(&path).unwrap();
    sink.prepare().unwrap();
    write_all(&sink, b"new");
    sink.seal().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old and longer");
    start(&mut sink).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    drop(sink);

    assert_eq!(names(folder.path()), ["state"]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn rollback_in_any_phase_leaves_no_new_file_and_the_old_one_as_it_was() {
    for old in [None, Some("old")] {
        for phases in 0..=3 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state");
            if let Some(old) = old {
                fs::write(&path, old).unwrap();
            }
            let mut sink = FileSink::create(&path).unwrap();
            if phases >= 1 {
                sink.prepare().unwrap();
                write_all(&sink, b"new");
            }
            if phases >= 2 {
                sink.seal().unwrap();
            }
            if phases >= 3 {
                start(&mut sink).unwrap();
            }

            sink.rollback().unwrap();
            sink.rollback().unwrap();

            assert_eq!(fs::read_to_string(&path).ok().as_deref(), old, "after {phases} phases");
            drop(sink);
            assert_eq!(fs::read_to_string(&path).ok().as_deref(), old, "after {phases} phases");
            assert_eq!(names(folder.path()).len(), old.iter().len());
        }
    }
}

#[test]
fn an_unfinished_file_goes_away_with_its_sink() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = FileSink::create(folder.path().join("state")).unwrap();
    sink.prepare().unwrap();
    assert_eq!(names(folder.path()).len(), 1);
    drop(sink);
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_sink_can_be_used_again_after_rollback() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut sink = FileSink::create(&path).unwrap();
    sink.prepare().unwrap();
    write_all(&sink, b"first");
    sink.rollback().unwrap();
    assert!(sink.fd().is_none());

    sink.prepare().unwrap();
    write_all(&sink, b"second");
    sink.seal().unwrap();
    start(&mut sink).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"second");
}

#[test]
fn a_symbolic_link_stays_and_what_it_names_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (path, link) = (folder.path().join("state"), folder.path().join("link"));
    fs::write(&path, b"old").unwrap();
    symlink(&path, &link).unwrap();

    let mut sink = FileSink::create(&link).unwrap();
    sink.prepare().unwrap();
    write_all(&sink, b"new");
    sink.seal().unwrap();
    start(&mut sink).unwrap();

    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn the_longest_name_works() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = FileSink::create(folder.path().join("n".repeat(255))).unwrap();
    sink.prepare().unwrap();
    sink.seal().unwrap();
    start(&mut sink).unwrap();
    drop(sink);
    assert_eq!(names(folder.path()), ["n".repeat(255)]);
}

#[test]
fn what_cannot_be_a_target_is_refused_before_anything_happens() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path| errno(FileSink::create(path).unwrap_err());
    assert_eq!(refused(folder.path()), nix::libc::EISDIR);
    assert_eq!(refused(&folder.path().join("missing/state")), nix::libc::ENOENT);
    assert_eq!(refused(Path::new("/dev/null")), nix::libc::EEXIST);
    assert_eq!(refused(Path::new("/")), nix::libc::EISDIR);
    assert_eq!(refused(Path::new("")), nix::libc::ENOENT);

    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    assert_eq!(refused(&file.join("state")), nix::libc::ENOTDIR);
    fs::set_permissions(&file, Permissions::from_mode(0o400)).unwrap();
    let writable_by_root = OpenOptions::new().write(true).open(&file).is_ok();
    if !writable_by_root {
        assert_eq!(refused(&file), nix::libc::EACCES);
    }
}

fn part_of(sink: &FileSink) -> PathBuf {
    sink.target.folder.path().join(&sink.part_name)
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
fn a_file_has_one_writer_whatever_it_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let link = folder.path().join("link");
    let is_in_use = |path: &Path| matches!(FileSink::create(path), Err(DeviceError::FileInUse { .. }));

    // a name that is still free, twice
    let first = FileSink::create(&path).unwrap();
    assert!(is_in_use(&path));
    assert!(is_in_use(&folder.path().join(".").join("state")));
    drop(first);

    // and a file, by its name and by a link
    fs::write(&path, b"old").unwrap();
    symlink(&path, &link).unwrap();
    let first = FileSink::create(&link).unwrap();
    assert!(is_in_use(&path));
    drop(first);
    drop(FileSink::create(&path).unwrap());
    assert_eq!(all_names(folder.path()), ["link", "state"], "a sink that is gone leaves no lock");
}

#[test]
fn what_a_killed_process_left_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut sink = FileSink::create(&path).unwrap();
    sink.prepare().unwrap();
    write_all(&sink, b"half");
    // as a process that is killed: its descriptors are closed, and nothing else is done
    let FileSink { lock, .. } = &mut sink;
    lock.keep();
    let part = part_of(&sink);
    sink.part = None;
    drop(sink);
    assert!(part.exists());
    assert_eq!(all_names(folder.path()).len(), 2);

    let sink = FileSink::create(&path).unwrap();
    assert!(!part.exists());
    drop(sink);
    assert!(all_names(folder.path()).is_empty());
}

#[test]
fn a_folder_or_a_link_at_a_hidden_name_is_left_alone() {
    for hidden in [".state.ringlift.part", ".state.ringlift.lock"] {
        let folder = tempfile::tempdir().unwrap();
        let (path, stranger) = (folder.path().join("state"), folder.path().join("stranger"));
        fs::write(&stranger, b"theirs").unwrap();
        symlink(&stranger, folder.path().join(hidden)).unwrap();
        assert!(matches!(FileSink::create(&path), Err(DeviceError::ForeignFile { .. })), "{hidden}");
        assert_eq!(fs::read(&stranger).unwrap(), b"theirs");
    }
}

#[test]
fn owner_group_and_permissions_of_an_old_file_are_kept_and_none_are_added() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    fs::write(&path, b"old").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let is_root = chown(&path, Some(4321), Some(12345)).is_ok();
    if !is_root {
        println!("SKIPPED in part: only root can give files away");
    }
    let umask = {
        let probe = folder.path().join("probe");
        OpenOptions::new().write(true).create_new(true).open(&probe).unwrap();
        let allowed = fs::metadata(&probe).unwrap().mode() & 0o777;
        fs::remove_file(&probe).unwrap();
        !allowed & 0o777
    };
    let before = fs::metadata(&path).unwrap();

    let mut sink = FileSink::create(&path).unwrap();
    sink.prepare().unwrap();
    let part = part_of(&sink);
    assert_eq!(fs::metadata(&part).unwrap().mode() & 0o777, 0o600, "nobody reads it while it is written");
    sink.seal().unwrap();
    start(&mut sink).unwrap();
    drop(sink);

    let after = fs::metadata(&path).unwrap();
    assert_ne!(after.ino(), before.ino());
    assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
    assert_eq!(after.mode() & 0o777, 0o666 & !umask);
}

/// Another user put a file that everybody may read into a shared folder, and read the state that replaced it.
#[test]
fn a_file_that_another_user_planted_in_a_shared_folder_is_refused_whenever_it_appears() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).unwrap();
    let plant = || {
        fs::write(&path, b"").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        chown(&path, Some(4321), None)
    };
    if plant().is_err() {
        println!("SKIPPED: only root can play two users");
        return;
    }
    let is_foreign = |error| matches!(error, DeviceError::ForeignFile { .. });
    assert!(is_foreign(FileSink::create(&path).unwrap_err()));

    fs::remove_file(&path).unwrap();
    let mut sink = FileSink::create(&path).unwrap();
    sink.prepare().unwrap();
    plant().unwrap();
    assert!(is_foreign(sink.seal().unwrap_err()));
    assert_eq!(fs::metadata(part_of(&sink)).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_name_with_a_slash_at_its_end_is_refused_before_anything_happens() {
    let folder = tempfile::tempdir().unwrap();
    for path in ["state/", "state/.", "state/..", "state//"] {
        let path = folder.path().join(path);
        assert_eq!(errno(FileSink::create(&path).unwrap_err()), nix::libc::EISDIR, "{path:?}");
    }
    assert!(all_names(folder.path()).is_empty());
}

/// A sink that is sealed, in a folder within a folder.
fn sealed(folder: &Path) -> (FileSink, PathBuf) {
    let inner = folder.join("inner");
    fs::create_dir(&inner).unwrap();
    let mut sink = FileSink::create(inner.join("state")).unwrap();
    sink.prepare().unwrap();
    write_all(&sink, b"new");
    sink.seal().unwrap();
    (sink, inner)
}

/// The sender was left in doubt, and a hidden file stayed.
#[test]
fn a_folder_that_is_moved_after_seal_is_still_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sink, inner) = sealed(folder.path());
    let moved = folder.path().join("moved");
    fs::rename(&inner, &moved).unwrap();
    fs::create_dir(&inner).unwrap();
    start(&mut sink).unwrap();
    drop(sink);
    assert_eq!(fs::read(moved.join("state")).unwrap(), b"new");
    assert_eq!(all_names(&moved), ["state"]);
    assert!(all_names(&inner).is_empty());
}

#[test]
fn a_folder_that_is_moved_before_seal_is_an_error_and_nothing_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sink, inner) = sealed(folder.path());
    let moved = folder.path().join("moved");
    fs::rename(&inner, &moved).unwrap();
    fs::create_dir(&inner).unwrap();
    assert!(matches!(sink.seal().unwrap_err(), DeviceError::FileChanged { .. }));
    sink.rollback().unwrap();
    drop(sink);
    assert!(all_names(&moved).is_empty());
    assert!(all_names(&inner).is_empty());
}

/// A sink that is ready to get its name, over an old file or none.
fn sealed_over(old: Option<&str>, path: &Path) -> FileSink {
    let _ = fs::remove_file(path);
    old.iter().for_each(|old| fs::write(path, old).unwrap());
    let mut sink = written(path.parent().unwrap());
    sink.seal().unwrap();
    sink
}

#[test]
fn a_file_that_appears_or_is_replaced_after_seal_is_never_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    for old in [None, Some("old")] {
        let mut sink = sealed_over(old, &path);
        let theirs = folder.path().join("theirs");
        fs::write(&theirs, b"theirs").unwrap();
        fs::rename(&theirs, &path).unwrap();
        assert!(matches!(start(&mut sink).unwrap_err(), DeviceError::FileChanged { .. }));
        sink.rollback().unwrap();
        drop(sink);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(all_names(folder.path()), ["state"]);
        calls();
    }
}

#[test]
fn a_file_that_was_put_in_the_place_of_the_new_one_is_not_undone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    for old in [None, Some("old")] {
        let mut sink = sealed_over(old, &path);
        start(&mut sink).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"theirs").unwrap();
        assert_eq!(sink.rollback().is_ok(), old.is_none(), "an old file cannot be restored");
        drop(sink);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        calls();
    }
}

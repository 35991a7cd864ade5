//! What a file sink leaves behind, in every phase and whoever else is there.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;

use super::super::durable::log::{Call, calls};
use super::folder::Folder;
use super::journal::{Direction, Journal};
use super::*;

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

#[test]
fn a_file_that_appears_or_is_replaced_after_seal_is_never_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    for old in [None, Some("old")] {
        let _ = fs::remove_file(&path);
        old.iter().for_each(|old| fs::write(&path, old).unwrap());
        let mut sink = written(folder.path());
        sink.seal().unwrap();
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

/// Sinks of one receiver, to files in two folders; every second one has an old file.
fn group(folder: &Path) -> (Vec<FileSink>, Vec<PathBuf>) {
    const FILES: usize = 24;
    let mut together = Together::default();
    let path = |idx: usize| folder.join(["one", "two"][idx / 2 % 2]).join(format!("state{idx}"));
    let paths: Vec<PathBuf> = (0..FILES).map(path).collect();
    let sinks = paths.iter().map(|path| {
        let mut sink = FileSink::create(path).unwrap();
        assert_eq!(together.join(&mut sink), None);
        sink
    });
    (sinks.collect(), paths)
}

/// Makes the folders and the old files.
fn old_files(folder: &Path) {
    ["one", "two"].iter().for_each(|name| fs::create_dir(folder.join(name)).unwrap());
    let (sinks, paths) = group(folder);
    drop(sinks);
    paths.iter().step_by(2).for_each(|path| fs::write(path, b"old").unwrap());
}

fn load(sinks: &mut [FileSink]) {
    for sink in sinks.iter_mut() {
        sink.prepare().unwrap();
        write_all(sink, b"new");
        sink.seal().unwrap();
    }
    sinks.iter_mut().for_each(|sink| sink.pre_run().unwrap());
}

/// What the files hold.
fn contents(paths: &[PathBuf]) -> Vec<Option<String>> {
    paths.iter().map(|path| fs::read_to_string(path).ok()).collect()
}

fn all_new(paths: &[PathBuf]) -> Vec<Option<String>> {
    paths.iter().map(|_| Some("new".to_owned())).collect()
}

fn all_old(paths: &[PathBuf]) -> Vec<Option<String>> {
    paths.iter().enumerate().map(|(idx, _)| idx.is_multiple_of(2).then(|| "old".to_owned())).collect()
}

/// Only the targets, and nothing hidden.
fn assert_tidy(folder: &Path, paths: &[PathBuf]) {
    let found = ["one", "two"].iter().map(|name| all_names(&folder.join(name)).len()).sum::<usize>();
    assert_eq!(found, paths.iter().filter(|path| path.exists()).count());
}

#[test]
fn files_of_one_receiver_get_their_names_together_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    old_files(folder.path());
    let (mut sinks, paths) = group(folder.path());
    load(&mut sinks);
    assert_eq!(contents(&paths), all_old(&paths));
    sinks.iter_mut().for_each(|sink| sink.run().unwrap());
    assert_eq!(contents(&paths), all_new(&paths));
    drop(sinks);
    assert_tidy(folder.path(), &paths);
}

#[test]
fn files_of_one_receiver_go_back_together_and_can_be_written_again() {
    let folder = tempfile::tempdir().unwrap();
    old_files(folder.path());
    let (mut sinks, paths) = group(folder.path());
    for run in [0, 1, 13, 23, 24] {
        load(&mut sinks);
        sinks[..run].iter_mut().for_each(|sink| sink.run().unwrap());
        sinks.iter_mut().for_each(|sink| sink.rollback().unwrap());
        assert_eq!(contents(&paths), all_old(&paths), "{run}");
    }
    drop(sinks);
    assert_tidy(folder.path(), &paths);
}

#[test]
fn a_journal_of_another_users_or_half_a_journal_is_not_carried_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let journal = folder.path().join(".state.ringlift.journal");
    for text in ["", "F", "F\n", "F\n[", "X\n[]", "F\n[{}]", "F\n[]"] {
        fs::write(&path, b"old").unwrap();
        fs::write(&journal, text).unwrap();
        fs::set_permissions(&journal, Permissions::from_mode(0o600)).unwrap();
        drop(FileSink::create(&path).unwrap());
        assert_eq!(all_names(folder.path()), ["state"], "{text:?}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
    fs::write(&journal, "F\n[]").unwrap();
    fs::set_permissions(&journal, Permissions::from_mode(0o666)).unwrap();
    assert!(matches!(FileSink::create(&path), Err(DeviceError::ForeignFile { .. })));
    assert!(journal.exists());
}

/// The part of [`a_killed_process_leaves_all_files_new_or_all_old`] that is killed: it is run by that test alone.
#[test]
fn is_killed_while_files_get_their_names() {
    let Some(folder) = std::env::var_os("RINGLIFT_TEST_FOLDER") else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse::<usize>().unwrap();
    let (run, renames) = (number("RINGLIFT_TEST_RUN"), number("RINGLIFT_TEST_RENAMES"));
    let (mut sinks, _) = group(Path::new(&folder));
    load(&mut sinks);
    calls();
    durable::log::kill_after_renames(renames);
    sinks[..run].iter_mut().for_each(|sink| sink.run().unwrap());
    sinks.iter_mut().for_each(|sink| sink.rollback().unwrap());
    panic!("was not killed");
}

/// A receiver that was killed between two renames left some of its files new and others old.
#[test]
fn a_killed_process_leaves_all_files_new_or_all_old() {
    let all = 24;
    // how many get their names before the others are to go back, how many renames there are, and what has to come of it
    let cases = [
        (all, 1, true),
        (all, 2, true),
        (all, 13, true),
        (all, 24, true),
        (all, 25, false),
        (all, 30, false),
    ];
    let cases =
        cases.into_iter().chain([(all - 1, 24, false), (12, 13, false), (12, 18, false), (1, 2, false)]);
    for (run, renames, is_new) in cases {
        let folder = tempfile::tempdir().unwrap();
        old_files(folder.path());
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .arg("sink::file::tests::is_killed_while_files_get_their_names")
            .env("RINGLIFT_TEST_FOLDER", folder.path())
            .env("RINGLIFT_TEST_RUN", run.to_string())
            .env("RINGLIFT_TEST_RENAMES", renames.to_string())
            .output()
            .unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&status.status);
        assert_eq!(signal, Some(nix::libc::SIGKILL), "{}", String::from_utf8_lossy(&status.stdout));

        let (sinks, paths) = group(folder.path());
        let expected = if is_new { all_new(&paths) } else { all_old(&paths) };
        assert_eq!(contents(&paths), expected, "{run} of {all} run, {renames} renames");
        drop(sinks);
        assert_tidy(folder.path(), &paths);
    }
}

#[test]
fn an_interrupted_commit_whose_folder_is_away_is_refused_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    old_files(folder.path());
    let (mut sinks, paths) = group(folder.path());
    load(&mut sinks);
    sinks[..12].iter_mut().for_each(|sink| sink.run().unwrap());
    // as a process that is killed
    drop(sinks);
    let (two, away) = (folder.path().join("two"), folder.path().join("away"));
    fs::rename(&two, &away).unwrap();
    for _ in 0..2 {
        let error = FileSink::create(&paths[0]).unwrap_err();
        assert!(matches!(error, DeviceError::Interrupted { .. }), "{error}");
    }
    fs::rename(&away, &two).unwrap();
    // by any of its files
    drop(FileSink::create(&paths[7]).unwrap());
    assert_eq!(contents(&paths), all_new(&paths));
}

#[test]
fn a_file_that_was_put_in_the_place_of_the_new_one_is_not_undone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    for old in [None, Some("old")] {
        let _ = fs::remove_file(&path);
        old.iter().for_each(|old| fs::write(&path, old).unwrap());
        let mut sink = written(folder.path());
        sink.seal().unwrap();
        start(&mut sink).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"theirs").unwrap();
        assert_eq!(sink.rollback().is_ok(), old.is_none(), "an old file cannot be restored");
        drop(sink);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        calls();
    }
}

/// A journal of ours that is out of date, or that somebody could make us trust: no file is the one that it lists.
#[test]
fn a_journal_about_other_files_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let identity = |name: &str| Identity::of(&fs::metadata(path(name)).unwrap());
    for name in ["one", "another", ".state.ringlift.part"] {
        fs::write(path(name), name).unwrap();
    }
    let (one, another, part) = (identity("one"), identity("another"), identity(".state.ringlift.part"));
    let opened = Folder::open(folder.path()).unwrap();
    let entry = |target: &str, new, old| Entry {
        folder: folder.path().canonicalize().unwrap().into(),
        folder_identity: opened.identity(),
        target: target.into(),
        new,
        old,
    };
    for direction in [Direction::Finish, Direction::Undo] {
        for entry in [
            entry("one", another, None),
            entry("one", another, Some(another)),
            entry("../one", one, None),
            entry("state", another, Some(one)),
        ] {
            drop(
                Journal::write(&opened, OsStr::new(".free.ringlift.journal"), direction, &[&entry]).unwrap(),
            );
            drop(FileSink::create(path("free")).unwrap());
            assert_eq!(all_names(folder.path()), [".state.ringlift.part", "another", "one"], "{entry:?}");
            assert_eq!((identity("one"), identity("another")), (one, another));
        }
    }
    assert_eq!(identity(".state.ringlift.part"), part);
}

//! Several files of one receiver: they get their names together, wherever their process is killed.

use super::*;

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
            .arg("sink::file::tests::together::is_killed_while_files_get_their_names")
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

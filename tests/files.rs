//! Files that device state is written into, through the command: two of one name, reports among them, and a receiver
//! that is killed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "a test that kills a process has to pick its moment")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The program, or another version of it.
fn program() -> PathBuf {
    std::env::var_os("RINGLIFT_PROGRAM")
        .map_or_else(|| assert_cmd::cargo::cargo_bin!("ringlift").to_owned(), PathBuf::from)
}

fn ringlift(args: &[String]) -> Command {
    let mut command = Command::new(program());
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn file_of(device: &str, path: &Path) -> [String; 2] {
    ["--device".to_owned(), format!("{device}=file:{}", path.display())]
}

/// A `recv`, which is killed when it is dropped.
struct Recv {
    child: Child,
    words: BufReader<std::process::ChildStderr>,
}

impl Recv {
    fn start(args: &[String]) -> Recv {
        let first = ["recv", "--listen", "127.0.0.1:0"].map(str::to_owned);
        Recv::running(ringlift(&[&first[..], args].concat()))
    }

    fn running(mut command: Command) -> Recv {
        let mut child = command.spawn().unwrap();
        let words = BufReader::new(child.stderr.take().unwrap());
        Recv { child, words }
    }

    /// Where it listens, or what it said in place of that.
    fn address(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.words.read_line(&mut line).unwrap();
        match line.trim_end().strip_prefix("listening on ") {
            Some(address) => Ok(address.to_owned()),
            None => {
                self.words.read_to_string(&mut line).unwrap();
                Err(line)
            }
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Recv {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a `recv` that must not start says.
fn refusal(args: &[String]) -> String {
    let mut recv = Recv::start(args);
    let said = recv.address().expect_err("it listens");
    assert_ne!(recv.child.wait().unwrap().code(), Some(0));
    said
}

/// Both devices were complete, and one state was gone.
#[test]
fn two_devices_with_one_file_are_refused_before_anything_listens() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let both = |one: &str, other: &str| [file_of("a", &path(one)), file_of("b", &path(other))].concat();

    let said = refusal(&both("state", "state"));
    assert!(said.contains("device b: another device or transfer writes the file"), "{said}");

    fs::write(path("state"), b"old").unwrap();
    std::os::unix::fs::symlink(path("state"), path("soft")).unwrap();
    fs::hard_link(path("state"), path("hard")).unwrap();
    let said = refusal(&both("state", "soft"));
    assert!(said.contains("device b: another device or transfer writes the file"), "{said}");
    let said = refusal(&both("state", "hard"));
    assert!(said.contains("devices a and b write the same file"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "no lock stays");
}

/// Both ended with status 0, and the last one had won.
#[test]
fn two_receivers_with_one_file_are_refused_until_the_first_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let state = file_of("a", &folder.path().join("state"));
    let mut first = Recv::start(&state);
    first.address().unwrap();
    let said = refusal(&state);
    assert!(said.contains("another device or transfer writes the file"), "{said}");
    first.kill();
    Recv::start(&state).address().unwrap();
}

/// The report replaced the state, with status 0.
#[test]
fn a_report_never_overwrites_a_devices_file_or_a_capture() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let json = |path: &Path| ["--json".to_owned(), path.display().to_string()];
    let said = refusal(&[&file_of("a", &state)[..], &json(&state)].concat());
    assert!(said.contains("would overwrite"), "{said}");

    fs::write(&state, b"state").unwrap();
    let capture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/qemu/device-on-channels");
    let copy = folder.path().join("capture");
    fs::create_dir(&copy).unwrap();
    for file in fs::read_dir(capture).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let main = copy.join("main.bin");
    let before = fs::read(&main).unwrap();
    let words = |args: &[&str]| args.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let main_text = main.display().to_string();
    for args in [
        [&words(&["send", "--to", "127.0.0.1:1"])[..], &file_of("a", &state), &json(&state)].concat(),
        [&words(&["qemu", "inspect", &copy.display().to_string()])[..], &json(&main)].concat(),
        [&words(&["qemu", "inspect", &main_text])[..], &json(&main)].concat(),
        words(&[
            "qemu",
            "extract",
            &copy.display().to_string(),
            "--device",
            "0000:00:01.0/vfio",
            "--to",
            &format!("file:{main_text}"),
        ]),
    ] {
        let output = ringlift(&args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains("would overwrite"), "{said}");
    }
    assert_eq!(fs::read(&state).unwrap(), b"state");
    assert_eq!(fs::read(&main).unwrap(), before);
}

/// Some files were new and others old, in 7 of 250 runs, and nothing on disk said which.
#[test]
fn a_receiver_that_is_killed_leaves_all_files_new_or_all_old() {
    const DEVICES: usize = 32;
    const ROUNDS: usize = 6;
    let folder = tempfile::tempdir().unwrap();
    let path = |idx: usize| folder.path().join(format!("state{idx}"));
    let sinks: Vec<String> = (0..DEVICES).flat_map(|idx| file_of(&format!("d{idx}"), &path(idx))).collect();
    let is_new =
        || (0..DEVICES).map(|idx| fs::metadata(path(idx)).unwrap().len() == 4096).collect::<Vec<_>>();
    for round in 0..ROUNDS {
        (0..DEVICES).for_each(|idx| fs::write(path(idx), b"old").unwrap());
        let mut recv = Recv::start(&[&["--once".to_owned()][..], &sinks].concat());
        let address = recv.address().unwrap();
        let devices = (0..DEVICES).flat_map(|idx| ["--device".to_owned(), format!("d{idx}=null:4096")]);
        let mut args = vec!["send".to_owned(), "--to".to_owned(), address];
        args.extend(devices);
        let mut sender = ringlift(&args).spawn().unwrap();

        // at the first new file, or a little later
        let began = Instant::now();
        while !is_new().iter().any(|is_new| *is_new) && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_micros(50));
        }
        std::thread::sleep(Duration::from_micros(400 * round as u64));
        recv.kill();
        sender.wait().unwrap();

        // the next start puts it right
        let mut next = Recv::start(&sinks);
        next.address().unwrap();
        let found = is_new();
        assert!(found.iter().all(|is_new| *is_new), "the sender committed: {found:?}");
        drop(next);
    }
}

/// SIGXFSZ killed the receiver, and a hidden file stayed.
#[test]
fn a_file_beyond_the_limit_is_an_error_of_the_receiver_and_nothing_stays() {
    let folder = tempfile::tempdir().unwrap();
    let sink = file_of("a", &folder.path().join("state"));
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 1024 && exec \"$0\" recv --listen 127.0.0.1:0 --once \"$@\""]);
    command.arg(program()).args(sink).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut recv = Recv::running(command);
    let address = recv.address().unwrap();
    let send = ["send", "--to", &address, "--device", "a=null:4MiB"].map(str::to_owned);
    assert_eq!(ringlift(&send).status().unwrap().code(), Some(1));
    let mut said = String::new();
    recv.words.read_to_string(&mut said).unwrap();
    assert_eq!(recv.child.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.contains("EFBIG"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_serving_receiver_replaces_its_file_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut recv = Recv::start(&file_of("a", &path));
    let address = recv.address().unwrap();
    for size in [1, 2, 3] {
        let device = format!("a=null:{size}");
        let send = ["send", "--to", &address, "--device", &device].map(str::to_owned);
        assert_eq!(ringlift(&send).status().unwrap().code(), Some(0));
        assert_eq!(fs::metadata(&path).unwrap().len(), size);
    }
}

#[test]
fn a_file_whose_owner_cannot_be_kept_is_refused_before_anything_listens() {
    const SOMEBODY: u32 = 65534;
    let folder = tempfile::tempdir().unwrap();
    let (copy, inner) = (folder.path().join("ringlift"), folder.path().join("inner"));
    fs::copy(program(), &copy).unwrap();
    fs::create_dir(&inner).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if chown(&inner, Some(SOMEBODY), Some(SOMEBODY)).is_err() {
        println!("SKIPPED: only root can play two users");
        return;
    }
    let path = inner.join("state");
    fs::write(&path, b"old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&copy);
    command.args(["recv", "--listen", "127.0.0.1:0"]).args(file_of("a", &path));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let said = Recv::running(command).address().expect_err("it listens");
    assert!(said.contains("keep owner and group of") && said.contains("EPERM"), "{said}");
    assert_eq!(fs::read_dir(&inner).unwrap().count(), 1);
}

//! One side lacks something: threads, memory, descriptors, locked memory, room for a file. The limit is raised step by
//! step until the transfer succeeds. At every step both sides end in time, with a status of the command and one error,
//! and no device is lost.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ringlift::limits::{
    FINAL_MESSAGE_MAX, GATHER_TIMEOUT, HELLO_TIMEOUT, LINGER_MAX, PAGE_SIZE, SILENCE_MAX,
};

use crate::arena::{Arena, program, ringlift};
use crate::dice::Dice;
use crate::outcome::Outcome;
use crate::runs::{self, Ran};
use crate::side::{Fate, START_MAX, Side};

/// For a host that is busy with other runs.
const SLACK: Duration = Duration::from_secs(20);
/// The longest that a side takes while the other lacks something.
const BOUND: Duration = HELLO_TIMEOUT
    .saturating_add(GATHER_TIMEOUT)
    .saturating_add(SILENCE_MAX)
    .saturating_add(FINAL_MESSAGE_MAX)
    .saturating_add(LINGER_MAX)
    .saturating_add(SLACK);

const DEVICES: usize = 3;
const SIZE_MAX: usize = 100 << 10;

/// The side that lacks something. The other has everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Sender,
    Receiver,
}

/// A limit of a process, by its option of `prlimit`.
#[derive(Debug, Clone, Copy)]
struct Limit {
    option: &'static str,
    who: Who,
}

/// The user that a limited process runs as, and a copy of the command that this user can reach.
struct User {
    folder: tempfile::TempDir,
}

impl User {
    fn new() -> User {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let user = User { folder };
        fs::copy(program(), user.program()).unwrap();
        user
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("ringlift")
    }

    /// A number that no other run uses: the kernel counts the threads of a user, not those of a process.
    fn number() -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        20_000 + std::process::id() % 400 * 100 + NEXT.fetch_add(1, Ordering::Relaxed) % 100
    }
}

fn arena() -> Arena {
    Arena::new(&mut Dice(7), DEVICES, SIZE_MAX)
}

impl Limit {
    /// The command under the limit.
    fn of(&self, value: u64, program: &Path, args: &[String]) -> Command {
        let mut command = Command::new("prlimit");
        command.arg(format!("--{}={value}", self.option)).arg("--").arg(program).args(args);
        command
    }

    /// One transfer under the limit.
    fn run(&self, value: u64, user: Option<&User>) -> Ran {
        let arena = arena();
        let uid = user.map(|_| User::number());
        uid.into_iter().for_each(|uid| give(arena.folder(), uid));
        let path = user.map_or(program().to_owned(), User::program);
        let limited = |args: &[String]| {
            let mut command = self.of(value, &path, args);
            if let Some(uid) = uid {
                command.uid(uid).gid(uid);
            }
            command
        };
        let mut version = limited(&["--version".to_owned()]);
        if !version.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success() {
            return Ok("the command does not even start".to_owned());
        }
        let json = |name: &str| ["--json".to_owned(), arena.folder().join(name).to_str().unwrap().to_owned()];
        let recv = [&arena.recv()[..], &json("receiver.json")].concat();
        let receiver = Side::start(if self.who == Who::Receiver { limited(&recv) } else { ringlift(&recv) });
        let send = |to| [&arena.send(to, &[])[..], &json("sender.json")].concat();
        let sender = |to| match self.who {
            Who::Sender => limited(&send(to)),
            Who::Receiver => ringlift(&send(to)),
        };
        transfer(
            &arena,
            receiver,
            sender,
            &format!("prlimit --{}={value} for the {:?}", self.option, self.who),
        )
    }

    /// Transfers under each of `values`, from too little to enough.
    fn steps(&self, values: &[u64], user: Option<&User>) {
        let enough = Mutex::new(None);
        let again = |value| format!("prlimit --{}={value} for the {:?}", self.option, self.who);
        runs::each(&format!("{} of the {:?}", self.option, self.who), values, again, |value| {
            let ended = self.run(value, user)?;
            if ended == COMPLETE {
                let mut enough = enough.lock().unwrap();
                *enough = Some(enough.map_or(value, |least: u64| least.min(value)));
            }
            Ok(ended)
        });
        let enough = enough.into_inner().unwrap().expect("the largest limit is enough");
        println!("enough: {enough}");
    }
}

/// What [`Outcome::summary`] says when it went well.
const COMPLETE: &str = "sender Status(0), receiver Status(0), files new";

fn transfer(
    arena: &Arena,
    receiver: Side,
    sender: impl FnOnce(std::net::SocketAddr) -> Command,
    done: &str,
) -> Ran {
    // a receiver that does not come up is not there for its sender either
    let nowhere = ([127, 0, 0, 1], 1).into();
    let sender = Side::start(sender(receiver.address(START_MAX).unwrap_or(nowhere)));
    let sender = Fate::new(sender.end(BOUND), None);
    let receiver = receiver.end_or_stop(BOUND);
    let outcome = Outcome::of(arena, sender, receiver);
    outcome.verdict(&outcome.faults(), done)
}

/// Gives a folder and everything in it to a user.
fn give(folder: &Path, uid: u32) {
    chown(folder, Some(uid), Some(uid)).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => give(&entry.path(), uid),
            false => chown(entry.path(), Some(uid), Some(uid)).unwrap(),
        }
    }
}

/// Every `fine` of a range when many runs are asked for, else every `coarse`.
fn range(from: u64, to: u64, coarse: u64, fine: u64) -> Vec<u64> {
    let step = if runs::asked().is_some() { fine } else { coarse };
    (from..=to).step_by(usize::try_from(step).unwrap()).collect()
}

fn descriptors(who: Who) {
    Limit { option: "nofile", who }.steps(&range(3, 40, 1, 1), None);
}

#[test]
fn a_sender_without_descriptors_ends_well_at_every_step() {
    descriptors(Who::Sender);
}

#[test]
fn a_receiver_without_descriptors_ends_well_at_every_step() {
    descriptors(Who::Receiver);
}

fn memory(who: Who) {
    let values = range(4, 512, 12, 1).into_iter().map(|mib| mib << 20);
    Limit { option: "as", who }.steps(&values.collect::<Vec<_>>(), None);
}

#[test]
fn a_sender_without_memory_ends_well_at_every_step() {
    memory(Who::Sender);
}

#[test]
fn a_receiver_without_memory_ends_well_at_every_step() {
    memory(Who::Receiver);
}

#[test]
fn a_side_without_locked_memory_ends_well_at_every_step() {
    for who in [Who::Sender, Who::Receiver] {
        Limit { option: "memlock", who }.steps(&[0, 4096, 64 << 10, 1 << 20, 8 << 20], None);
    }
}

#[test]
fn a_side_whose_files_must_be_short_ends_well_at_every_step() {
    for who in [Who::Sender, Who::Receiver] {
        let values = [0, 1, 100, 4095, 4096, 16 << 10, 50_000, 80_000, SIZE_MAX as u64, 1 << 20];
        Limit { option: "fsize", who }.steps(&values, None);
    }
}

#[test]
fn a_side_without_threads_ends_well_at_every_step() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        println!("SKIPPED the limit of threads: only root can run a side as a user of its own");
        return;
    }
    let user = User::new();
    for who in [Who::Sender, Who::Receiver] {
        Limit { option: "nproc", who }.steps(&range(1, 24, 1, 1), Some(&user));
    }
}

/// A file system of a given size. Dropping it unmounts it.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf, size: u64) -> Option<Disk> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&at);
        let is_there = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        is_there.then_some(Disk(at))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // the kernel may close the files of a ring somewhat after its process has ended
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_receiver_whose_disk_is_full_ends_well_at_every_step() {
    let folder = tempfile::tempdir().unwrap();
    if Disk::mount(folder.path().to_owned(), 4096).is_none() {
        println!("SKIPPED the full disk: a small tmpfs cannot be mounted here");
        return;
    }
    let again = |size| format!("a disk of {size} bytes");
    // the old files fit, and at the end all of the new ones beside them
    let (least, page) = (arena().old_space(), PAGE_SIZE as u64);
    let room = (DEVICES * (SIZE_MAX + 2 * PAGE_SIZE)) as u64;
    let sizes = range(least + page, least + room, 4 * page, page);
    runs::each("disk", &sizes, again, |size| {
        let arena = arena();
        let disk = Disk::mount(arena.sinks(), size).ok_or("it could be mounted before")?;
        arena.put_old();
        let receiver = Side::start(ringlift(&arena.recv()));
        let ended = transfer(&arena, receiver, |to| ringlift(&arena.send(to, &[])), &again(size));
        drop(disk);
        ended
    });
}

#[test]
fn a_receiver_one_of_whose_devices_is_full_takes_nothing_from_the_sender() {
    let arena = arena();
    let mut recv = arena.recv();
    let device = recv.iter_mut().find(|arg| arg.starts_with("d1=")).unwrap();
    *device = "d1=fd:3".to_owned();
    let mut receiver = Command::new("sh");
    receiver.args(["-c", "exec \"$@\" 3> /dev/full", "sh"]).arg(program()).args(&recv);
    let ended = transfer(&arena, Side::start(receiver), |to| ringlift(&arena.send(to, &[])), "/dev/full");
    assert_eq!(ended.unwrap(), "sender Status(1), receiver Status(1), files old");
}

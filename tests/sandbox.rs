//! Sandboxes that an embedder may close around a transfer: the system calls that docs/EMBEDDING.md lists, and no
//! others; or no files at all. The list is read from the document, so the two cannot differ.
//!
//! A process whose list lacks a call is killed by the kernel, so each case runs in a process of its own: this program
//! again, with what it may do in its environment.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};

use common::POOL;
use landlock::{ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetStatus};
use nix::libc;
use ringlift::error::DeviceError;
use ringlift::sink::{FileSink, Sink, Verify};
use ringlift::source::{Flow, Source, Synthetic};
use ringlift::{Finished, Outcome, Receiver, Sender};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};
use tempfile::TempDir;

const DOCUMENT: &str = include_str!("../docs/EMBEDDING.md");

/// The heading above the list.
const HEADING: &str = "### The list";

/// The size of the device's state.
const STATE: u64 = 2 << 20;

/// How a side uses a call, in the words of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// In every transfer, which fails without it.
    Always,
    /// In every transfer, which goes on where it fails with `EPERM`.
    Optional,
    /// Only in some transfers.
    Sometimes,
}

/// The columns of the list.
const SIDES: [&str; 3] = ["sender", "receiver", "file sinks"];
const SENDER: usize = 0;
const RECEIVER: usize = 1;
const FILES: usize = 2;

/// A call and how each of [`SIDES`] uses it.
#[derive(Debug)]
struct Row {
    call: &'static str,
    uses: [Option<Use>; SIDES.len()],
}

/// The rows of the list.
fn list() -> Vec<Row> {
    let (_, below) = DOCUMENT.split_once(&format!("\n{HEADING}\n")).unwrap();
    let mut lines = below.lines().skip_while(|line| !line.starts_with('|'));
    let head: Vec<&str> = cells(lines.next().unwrap());
    assert_eq!(head[..4], ["call", SIDES[SENDER], SIDES[RECEIVER], SIDES[FILES]]);
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|line| {
        let cells = cells(line);
        let uses = [1, 2, 3].map(|column| match cells[column] {
            "always" => Some(Use::Always),
            "optional" => Some(Use::Optional),
            "sometimes" => Some(Use::Sometimes),
            "" => None,
            other => panic!("{other:?} in {line}"),
        });
        Row { call: cells[0].trim_matches('`'), uses }
    })
    .collect()
}

fn cells(line: &'static str) -> Vec<&'static str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

/// What the given columns of the list need together, by call.
fn needed(columns: &[usize]) -> BTreeMap<&'static str, Use> {
    let strongest = |row: &Row| {
        let uses = columns.iter().filter_map(|&column| row.uses[column]);
        uses.min_by_key(|used| {
            [Use::Always, Use::Optional, Use::Sometimes].iter().position(|one| one == used)
        })
    };
    list().iter().filter_map(|row| Some((row.call, strongest(row)?))).collect()
}

/// The numbers of system calls by name. Some exist on x86_64 alone: elsewhere another call of the list does the same.
macro_rules! numbers {
    ($($name:ident $number:ident,)* ; on x86_64: $($old_name:ident $old_number:ident,)*) => {
        fn number(name: &str) -> Option<libc::c_long> {
            match name {
                $(stringify!($name) => Some(libc::$number),)*
                $(
                    #[cfg(target_arch = "x86_64")]
                    stringify!($old_name) => Some(libc::$old_number),
                    #[cfg(not(target_arch = "x86_64"))]
                    stringify!($old_name) => None,
                )*
                _ => panic!("the test does not know the call {name}"),
            }
        }
    };
}
numbers! {
    brk SYS_brk, clock_gettime SYS_clock_gettime, clone SYS_clone, clone3 SYS_clone3, close SYS_close, eventfd2 SYS_eventfd2,
    exit SYS_exit, faccessat2 SYS_faccessat2, fchmod SYS_fchmod, fchown SYS_fchown, fcntl SYS_fcntl, fdatasync SYS_fdatasync, flock SYS_flock,
    fstat SYS_fstat, fstatfs SYS_fstatfs, fsync SYS_fsync, ftruncate SYS_ftruncate, futex SYS_futex,
    getdents64 SYS_getdents64, geteuid SYS_geteuid, getrandom SYS_getrandom,
    getsockname SYS_getsockname, getpeername SYS_getpeername, getsockopt SYS_getsockopt, getrusage SYS_getrusage, gettid SYS_gettid,
    io_uring_enter SYS_io_uring_enter, io_uring_register SYS_io_uring_register, io_uring_setup SYS_io_uring_setup,
    ioctl SYS_ioctl, linkat SYS_linkat, lseek SYS_lseek, madvise SYS_madvise, mmap SYS_mmap, mprotect SYS_mprotect,
    mremap SYS_mremap, munmap SYS_munmap, newfstatat SYS_newfstatat, openat SYS_openat, ppoll SYS_ppoll,
    prctl SYS_prctl, pread64 SYS_pread64, pwrite64 SYS_pwrite64, read SYS_read, recvfrom SYS_recvfrom,
    readlinkat SYS_readlinkat, renameat SYS_renameat, renameat2 SYS_renameat2, restart_syscall SYS_restart_syscall,
    rseq SYS_rseq, rt_sigprocmask SYS_rt_sigprocmask, rt_sigreturn SYS_rt_sigreturn,
    sched_getaffinity SYS_sched_getaffinity, sched_yield SYS_sched_yield,
    sendto SYS_sendto, set_robust_list SYS_set_robust_list, setsockopt SYS_setsockopt, shutdown SYS_shutdown,
    sigaltstack SYS_sigaltstack, signalfd4 SYS_signalfd4, statx SYS_statx, uname SYS_uname, unlinkat SYS_unlinkat,
    write SYS_write,
    ; on x86_64:
    poll SYS_poll, readlink SYS_readlink, rename SYS_rename, stat SYS_stat, unlink SYS_unlink,
}

/// A filter: `calls` do what `these` says, others what `others` says.
fn filter<'a>(
    calls: impl IntoIterator<Item = &'a str>,
    these: SeccompAction,
    others: SeccompAction,
) -> BpfProgram {
    // of prctl's many uses, only that of the list
    let is_name =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, libc::PR_SET_NAME as u64)
            .unwrap();
    let name = SeccompRule::new(vec![is_name]).unwrap();
    let rules = calls.into_iter().filter_map(number);
    let rules =
        rules.map(|number| (number, Vec::from_iter((number == libc::SYS_prctl).then(|| name.clone()))));
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    SeccompFilter::new(rules.collect(), others, these, arch).unwrap().try_into().unwrap()
}

/// What a side may do: calls that work, and those of them that fail with `EPERM`. Any other kills the process.
#[derive(Debug, Clone, Default)]
struct Rules {
    allowed: Vec<String>,
    failing: Vec<String>,
}

impl Rules {
    fn of(needed: &BTreeMap<&str, Use>) -> Rules {
        Rules { allowed: needed.keys().map(|&call| call.to_owned()).collect(), failing: Vec::new() }
    }

    fn without(mut self, call: &str) -> Rules {
        self.allowed.retain(|allowed| allowed != call);
        self
    }

    fn failing_optional(mut self, needed: &BTreeMap<&str, Use>) -> Rules {
        let optional = needed.iter().filter(|&(_, &used)| used == Use::Optional);
        self.failing = optional.map(|(&call, _)| call.to_owned()).collect();
        self
    }

    /// As a value in the environment, and back.
    fn to_text(&self) -> String {
        format!("{}/{}", self.allowed.join(" "), self.failing.join(" "))
    }

    fn from_text(text: &str) -> Rules {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let (allowed, failing) = text.split_once('/').unwrap();
        Rules { allowed: words(allowed), failing: words(failing) }
    }

    /// Holds this thread, and those that it starts, to them.
    fn apply(&self) {
        if self.allowed.is_empty() {
            return;
        }
        let names = |calls: &'static [String]| calls.iter().map(String::as_str);
        let rules: &'static Rules = Box::leak(Box::new(self.clone()));
        let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let others = filter(names(&rules.allowed), SeccompAction::Allow, SeccompAction::KillProcess);
        if !rules.failing.is_empty() {
            apply_filter(&filter(names(&rules.failing), denied, SeccompAction::Allow)).unwrap();
        }
        apply_filter(&others).unwrap();
    }
}

/// Runs a transfer in a process, both sides by their rules; the receiver's device is a file in a folder, or in memory.
fn transfer_in_a_process(sender: &Rules, receiver: &Rules, folder: Option<&Path>) -> ExitStatus {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", "20"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "transfer_of_this_process", "--nocapture"]);
    command.env("RINGLIFT_TEST_SENDER", sender.to_text()).env("RINGLIFT_TEST_RECEIVER", receiver.to_text());
    command.env("RINGLIFT_TEST_FOLDER", folder.unwrap_or(Path::new("")));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap()
}

#[test]
fn transfer_of_this_process() {
    let rules = |side| std::env::var(format!("RINGLIFT_TEST_{side}")).map(|text| Rules::from_text(&text));
    let (Ok(sender), Ok(receiver)) = (rules("SENDER"), rules("RECEIVER")) else { return };
    let folder = std::env::var_os("RINGLIFT_TEST_FOLDER").filter(|folder| !folder.is_empty());
    let (sent, received) =
        transfer(move || sender.apply(), move || receiver.apply(), folder.map(PathBuf::from).as_deref());
    assert_complete(&sent, &received);
}

/// A folder with a file that a sink replaces.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("old"), "old").unwrap();
    folder
}

/// The columns of a process whose receiver has file sinks.
const WITH_FILES: [usize; 2] = [RECEIVER, FILES];

#[test]
fn the_calls_of_the_list_are_enough() {
    let sender = Rules::of(&needed(&[SENDER]));
    let ended = transfer_in_a_process(&sender, &Rules::of(&needed(&[RECEIVER])), None);
    assert!(ended.success(), "{ended}");
    let folder = folder();
    let ended = transfer_in_a_process(&sender, &Rules::of(&needed(&WITH_FILES)), Some(folder.path()));
    assert!(ended.success(), "{ended}");
    for name in ["old", "new"] {
        assert_eq!(std::fs::metadata(folder.path().join(name)).unwrap().len(), STATE, "{name}");
    }
}

#[test]
fn a_transfer_goes_on_without_the_optional_calls() {
    for columns in [&[RECEIVER][..], &WITH_FILES] {
        let folder = folder();
        let sender = Rules::of(&needed(&[SENDER])).failing_optional(&needed(&[SENDER]));
        let receiver = Rules::of(&needed(columns)).failing_optional(&needed(columns));
        assert!(sender.failing.len() > 4 && receiver.failing.len() > 2, "{sender:?} {receiver:?}");
        let is_with_files = columns.contains(&FILES);
        let ended = transfer_in_a_process(&sender, &receiver, is_with_files.then(|| folder.path()));
        assert!(ended.success(), "{columns:?} {ended}");
    }
}

#[test]
fn every_call_of_the_list_is_made_unless_it_says_otherwise() {
    let (sender, receiver) = (needed(&[SENDER]), needed(&[RECEIVER]));
    let mut idle = Vec::new();
    for call in made(&sender, &[SENDER]) {
        let rules = Rules::of(&sender).without(call);
        let ended = transfer_in_a_process(&rules, &Rules::of(&receiver), None);
        idle.extend(ended.success().then(|| format!("sender: {call}")));
    }
    for call in made(&receiver, &[RECEIVER]) {
        let rules = Rules::of(&receiver).without(call);
        let ended = transfer_in_a_process(&Rules::of(&sender), &rules, None);
        idle.extend(ended.success().then(|| format!("receiver: {call}")));
    }
    let with_files = needed(&WITH_FILES);
    for call in made(&with_files, &[FILES]) {
        let folder = folder();
        let rules = Rules::of(&with_files).without(call);
        let ended = transfer_in_a_process(&Rules::of(&sender), &rules, Some(folder.path()));
        idle.extend(ended.success().then(|| format!("file sinks: {call}")));
    }
    assert!(idle.is_empty(), "listed, and not made: {idle:#?}");
}

/// The calls that every transfer makes, of those that one of the columns names. Other architectures have others.
fn made(needed: &BTreeMap<&'static str, Use>, columns: &[usize]) -> Vec<&'static str> {
    let named = |call: &str| {
        list().iter().any(|row| row.call == call && columns.iter().any(|&column| row.uses[column].is_some()))
    };
    let made = needed.iter().filter(|&(&call, &used)| used != Use::Sometimes && named(call));
    made.map(|(&call, _)| call).filter(|call| number(call).is_some()).collect()
}

#[test]
fn a_transfer_over_given_sockets_needs_no_file() {
    if !Landlock::is_here() {
        println!("SKIPPED this kernel has no Landlock");
        return;
    }
    let (sent, received) = transfer(Landlock::close, Landlock::close, None);
    assert_complete(&sent, &received);
}

/// A domain that allows no access to any file.
struct Landlock;

impl Landlock {
    fn restrict() -> RulesetStatus {
        let ruleset = Ruleset::default().handle_access(AccessFs::from_all(ABI::V1)).unwrap();
        ruleset.create().unwrap().restrict_self().unwrap().ruleset
    }

    fn is_here() -> bool {
        thread::spawn(Landlock::restrict).join().unwrap() == RulesetStatus::FullyEnforced
    }

    /// Holds this thread, and those that it starts, to it.
    fn close() {
        Landlock::restrict();
        assert!(File::open("/proc/self/status").is_err() && File::open("/proc/cpuinfo").is_err());
    }
}

fn assert_complete(sent: &Finished, received: &Finished) {
    assert!(sent.error.is_none() && received.error.is_none(), "{:?} {:?}", sent.error, received.error);
    assert_eq!((sent.outcome, received.outcome), (Outcome::Complete, Outcome::Complete));
}

/// A transfer over TCP sockets that are connected already, each side in a thread that is confined before it runs.
fn transfer(
    confine_sender: impl FnOnce() + Send + 'static,
    confine_receiver: impl FnOnce() + Send + 'static,
    folder: Option<&Path>,
) -> (Finished, Finished) {
    let (mut near, mut far) = connections(3);
    let agreed = || Ok::<(), io::Error>(());
    let mut sender = Sender::builder().sockets(near.remove(0), near).pool_size(POOL);
    sender = sender.before_switchover(agreed).before_commit(agreed).on_event(|_| {});
    let mut receiver = Receiver::builder().sockets(far.remove(0), far).before_run(agreed).on_event(|_| {});
    for name in ["old", "new"] {
        let sink: Box<dyn Sink> = match folder {
            Some(folder) => Box::new(FileSink::create(folder.join(name)).unwrap()),
            None => Box::new(Verify::new()),
        };
        sender = sender.device(name, Running { state: Synthetic::new(STATE), early: 1 << 20 });
        receiver = receiver.boxed_device(name, sink);
    }
    let (sender, receiver) = (sender.build().unwrap(), receiver.build().unwrap());
    let receiving = confined(confine_receiver, move || receiver.run());
    let sending = confined(confine_sender, move || sender.run());
    (sending.join().unwrap(), receiving.join().unwrap())
}

fn confined<T: Send + 'static>(
    confine: impl FnOnce() + Send + 'static,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    thread::spawn(move || {
        confine();
        work()
    })
}

fn connections(count: usize) -> (Vec<OwnedFd>, Vec<OwnedFd>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = |_| {
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (OwnedFd::from(near), OwnedFd::from(listener.accept().unwrap().0))
    };
    (0..count).map(connect).unzip()
}

/// An embedder's device, half of whose state moves while it runs.
struct Running {
    state: Synthetic,
    early: usize,
}

impl Source for Running {
    fn estimate(&self) -> Option<u64> {
        self.state.estimate()
    }

    fn start(&mut self) -> Result<Flow, DeviceError> {
        Ok(Flow::PreCopy)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        let len = buffer.len().min(self.early);
        let filled = self.state.fill(&mut buffer[..len])?;
        self.early -= filled;
        Ok(filled)
    }

    fn stop(&mut self) -> Result<(), DeviceError> {
        self.early = usize::MAX;
        Ok(())
    }

    fn config(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        self.state.config(buffer)
    }

    fn release(&mut self) -> Result<(), DeviceError> {
        self.state.release()
    }

    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.state.rollback()
    }
}

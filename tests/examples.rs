//! The examples of `docs/examples`, as an embedder would run them: two processes, one transfer.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// Where cargo puts examples: beside the folder of the tests.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let path: PathBuf = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is not there: `cargo build --examples` makes it", path.display());
    Command::new(path)
}

struct Receiving {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Receiving {
    fn start() -> Receiving {
        let mut command = example("receive_device");
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address =
            line.trim_end().strip_prefix("listening on ").expect("it prints where it listens").to_owned();
        Receiving { child, stdout, address }
    }

    /// What it printed after its address, and its exit status.
    fn finish(mut self) -> (String, Option<i32>) {
        let mut said = String::new();
        self.stdout.read_to_string(&mut said).unwrap();
        (said, self.child.wait().unwrap().code())
    }
}

fn send(address: &str, more: &[&str]) -> (String, Output) {
    let output = example("send_device").arg(address).args(more).output().unwrap();
    (String::from_utf8(output.stdout.clone()).unwrap(), output)
}

#[test]
fn a_device_of_an_embedder_moves_from_one_process_to_another() {
    let receiving = Receiving::start();
    let (sent, output) = send(&receiving.address, &[]);
    let (received, status) = receiving.finish();

    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(status, Some(0), "{received}");
    let mut lines = sent.lines();
    assert_eq!(lines.next(), received.lines().next(), "both sides have the same device");
    assert!(received.starts_with("complete: "), "{received}");
    let early = lines.next().and_then(|line| line.split(' ').next()?.parse::<u64>().ok());
    assert!(early.is_some_and(|early| early >= 16 << 20), "pre-copy moved the whole memory once: {sent}");
}

#[test]
fn a_caller_that_cancels_keeps_the_device_and_the_destination_is_empty() {
    let receiving = Receiving::start();
    let (sent, output) = send(&receiving.address, &["--cancel"]);
    let (received, status) = receiving.finish();

    assert_eq!((output.status.code(), status), (Some(1), Some(1)), "{output:?}");
    assert_eq!(sent, "aborted: cancelled; the guest runs on\n");
    assert_eq!(received, "aborted: the peer cancelled; the device is empty\n");
}

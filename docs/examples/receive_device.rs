//! Embeds a receiver: takes in the device that the example `send_device` sends.
//!
//! ```text
//! cargo run --example receive_device                    # prints where it listens
//! cargo run --example send_device -- 127.0.0.1:PORT
//! ```
//!
//! It shows a [`Sink`] that takes a stream of records cut into arbitrary pieces, config state that is checked before
//! *loaded* is sent, a listener, events, and a cancel from another thread, which gives up waiting for a sender after a
//! while. Of ringlift's features it needs `listener`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example is a command")]

use std::error::Error;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use ringlift::error::DeviceError;
use ringlift::sink::Sink;
use ringlift::wire::crc32c;
use ringlift::{Cancel, Event, Finished, Listener, Outcome, Receiver};

/// The device's memory.
const PAGES: usize = 16 << 10;
const PAGE_SIZE: usize = 1024;
/// One record of the stream: a page's number and its bytes. A page that arrives again replaces the earlier one.
const RECORD_SIZE: usize = 4 + PAGE_SIZE;
/// How long to wait for the end of a transfer.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    take_in().unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn take_in() -> Result<ExitCode, Box<dyn Error>> {
    let pad = Arc::new(Mutex::new(Scratchpad::default()));
    let cancel = Cancel::new();
    let over = cancel_after(PATIENCE, &cancel);
    let listener = Listener::bind("127.0.0.1:0".parse()?)?;
    println!("listening on {}", listener.local_addr());
    let finished = Receiver::builder()
        .device("scratchpad", Incoming { pad: Arc::clone(&pad), partial: Vec::new(), expected: None })
        .listener(&listener)
        .on_event(show)
        .cancel(&cancel)
        .build()?
        .run();
    drop(over);
    Ok(conclude(&lock(&pad), &finished))
}

/// Cancels from another thread, unless the returned sender is dropped first.
fn cancel_after(patience: Duration, cancel: &Cancel) -> mpsc::Sender<()> {
    let (over, is_over) = mpsc::channel();
    let cancel = cancel.clone();
    thread::spawn(move || {
        if is_over.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
            cancel.cancel();
        }
    });
    over
}

fn show(event: &Event) {
    match event {
        Event::Connected { peer: Some(peer), channels, .. } => {
            eprintln!("{peer} connected, {channels} channels")
        }
        Event::Phase(phase) => eprintln!("{phase}"),
        Event::Rejected { error, .. } => eprintln!("another connection was rejected: {error}"),
        _ => {}
    }
}

fn conclude(pad: &Scratchpad, finished: &Finished) -> ExitCode {
    match finished.outcome {
        Outcome::Complete => {
            assert!(pad.running, "a device runs when a transfer is complete");
            println!("complete: {} writes, crc32c {:08x}", pad.writes, crc32c(0, &pad.memory));
            ExitCode::SUCCESS
        }
        // a receiver is never in doubt: without a commit the device does not run
        Outcome::Aborted | Outcome::InDoubt => {
            assert!(!pad.running && pad.memory.iter().all(|&byte| byte == 0), "the device is reset");
            let error = finished.error.as_ref().map_or("no reason".into(), ToString::to_string);
            println!("aborted: {error}; the device is empty");
            ExitCode::FAILURE
        }
    }
}

/// The device.
struct Scratchpad {
    memory: Vec<u8>,
    writes: u64,
    running: bool,
}

impl Default for Scratchpad {
    fn default() -> Scratchpad {
        Scratchpad { memory: vec![0; PAGES * PAGE_SIZE], writes: 0, running: false }
    }
}

/// The device as a sink.
struct Incoming {
    pad: Arc<Mutex<Scratchpad>>,
    /// The start of a record whose rest has not arrived yet.
    partial: Vec<u8>,
    /// The memory's checksum at the source.
    expected: Option<u32>,
}

impl Incoming {
    fn apply(&self, record: &[u8]) -> Result<(), DeviceError> {
        let (number, page) = record.split_at(4);
        let number = number.iter().fold(0, |number, &byte| number << 8 | usize::from(byte));
        let mut pad = lock(&self.pad);
        let place = pad.memory.chunks_exact_mut(PAGE_SIZE).nth(number);
        place.ok_or(DeviceError::Unsupported { what: "a page of that number" })?.copy_from_slice(page);
        Ok(())
    }
}

impl Sink for Incoming {
    fn prepare(&mut self) -> Result<(), DeviceError> {
        self.rollback()
    }

    /// The engine passes on whatever it has: the points at which it cuts the stream mean nothing.
    fn drain(&mut self, bytes: &[u8]) -> Result<usize, DeviceError> {
        if self.partial.is_empty() && bytes.len() >= RECORD_SIZE {
            self.apply(&bytes[..RECORD_SIZE])?;
            return Ok(RECORD_SIZE);
        }
        let taken = bytes.len().min(RECORD_SIZE - self.partial.len());
        self.partial.extend_from_slice(&bytes[..taken]);
        if self.partial.len() == RECORD_SIZE {
            let record = std::mem::take(&mut self.partial);
            self.apply(&record)?;
        }
        Ok(taken)
    }

    fn config(&mut self, blob: &[u8]) -> Result<(), DeviceError> {
        let Some((writes, checksum)) = blob.split_first_chunk::<8>() else {
            return Err(DeviceError::BadConfig { what: "it is too short" });
        };
        let checksum =
            checksum.try_into().map_err(|_| DeviceError::BadConfig { what: "its length is wrong" })?;
        lock(&self.pad).writes = u64::from_be_bytes(*writes);
        self.expected = Some(u32::from_be_bytes(checksum));
        Ok(())
    }

    /// The last moment at which the source can still go on: anything that is wrong must be found here.
    fn seal(&mut self) -> Result<(), DeviceError> {
        let found = crc32c(0, &lock(&self.pad).memory);
        if !self.partial.is_empty() || self.expected != Some(found) {
            return Err(DeviceError::BadConfig { what: "the memory is not that of the source" });
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), DeviceError> {
        lock(&self.pad).running = true;
        Ok(())
    }

    fn rollback(&mut self) -> Result<(), DeviceError> {
        *lock(&self.pad) = Scratchpad::default();
        self.partial.clear();
        self.expected = None;
        Ok(())
    }
}

fn lock(pad: &Mutex<Scratchpad>) -> MutexGuard<'_, Scratchpad> {
    pad.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Embeds a sender: moves the embedder's own device, whose guest keeps writing to it until the last moment.
//!
//! ```text
//! cargo run --example receive_device                    # prints where it listens
//! cargo run --example send_device -- 127.0.0.1:PORT
//! ```
//!
//! It shows a [`Source`] with pre-copy and config state, sockets that the embedder has connected itself (so they may be
//! tunnelled, secured or tuned as it likes), progress from events, a pause before the switchover, and a cancel from
//! another thread: with `--cancel` the caller cancels while the guest is paused, and the guest continues to run.
//! Needs none of ringlift's features.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example is a command")]

use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use ringlift::error::DeviceError;
use ringlift::source::{Flow, PreCopyInfo, Source};
use ringlift::wire::crc32c;
use ringlift::{Cancel, Event, Finished, Outcome, Sender};

/// The device's memory.
const PAGES: usize = 16 << 10;
const PAGE_SIZE: usize = 1024;
/// One record of the stream: a page's number and its bytes. A page that was written again is sent again.
const RECORD_SIZE: usize = 4 + PAGE_SIZE;
const CHANNELS: usize = 2;

fn main() -> ExitCode {
    let typed: Vec<String> = std::env::args().skip(1).collect();
    let address = typed.first().and_then(|typed| typed.parse().ok());
    let Some(address) = address else {
        eprintln!("usage: send_device ADDRESS [--cancel]");
        return ExitCode::from(2);
    };
    let cancels = typed.iter().any(|typed| typed == "--cancel");
    move_away(address, cancels).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn move_away(address: SocketAddr, cancels: bool) -> Result<ExitCode, Box<dyn Error>> {
    let machine = Machine::start();
    let cancel = Cancel::new();
    let pause = pauser(&machine, &cancel, cancels);
    let connect = |_| TcpStream::connect(address).map(OwnedFd::from);
    let control = connect(0)?;
    let data = (0..CHANNELS).map(connect).collect::<io::Result<Vec<_>>>()?;
    let finished = Sender::builder()
        .device("scratchpad", Outgoing { machine: Arc::clone(&machine) })
        .sockets(control, data)
        .packet_size(64 << 10)
        .before_switchover(pause)
        .on_event(show)
        .cancel(&cancel)
        .build()?
        .run();
    Ok(conclude(&machine, &finished))
}

/// Pauses the guest, or fails: then the transfer is aborted.
type Pause = Box<dyn FnOnce() -> Result<(), mpsc::RecvError> + Send>;

/// The caller's side, on a thread of its own: pauses the guest when asked to, and may cancel from there.
fn pauser(machine: &Arc<Machine>, cancel: &Cancel, cancels: bool) -> Pause {
    let (ask, asked) = mpsc::channel::<mpsc::Sender<()>>();
    let (machine, cancel) = (Arc::clone(machine), cancel.clone());
    thread::spawn(move || {
        for paused in asked {
            machine.set_running(false);
            if cancels {
                cancel.cancel();
            }
            // the worker that asked may be gone
            let _ = paused.send(());
        }
    });
    Box::new(move || {
        let (paused, is_paused) = mpsc::channel();
        // a monitor that is gone drops what is sent to it
        let _ = ask.send(paused);
        is_paused.recv()
    })
}

fn show(event: &Event) {
    match event {
        Event::Connected { channels, .. } => eprintln!("connected, {channels} channels"),
        Event::Phase(phase) => eprintln!("{phase}"),
        Event::Progress { bytes, estimate: Some(estimate), .. } => {
            eprintln!("{bytes} of about {estimate} bytes")
        }
        Event::Progress { bytes, .. } => eprintln!("{bytes} bytes"),
        _ => {}
    }
}

fn conclude(machine: &Machine, finished: &Finished) -> ExitCode {
    match (finished.outcome, &finished.error) {
        (Outcome::Complete, _) => {
            let pad = machine.lock();
            println!("complete: {} writes, crc32c {:08x}", pad.writes, crc32c(0, &pad.memory));
            let early: u64 = finished.report.devices.iter().map(|device| device.precopy_bytes).sum();
            println!("{early} of {} bytes while the guest ran", finished.report.bytes);
            ExitCode::SUCCESS
        }
        (Outcome::Aborted, error) => {
            // the device is back where it was; the guest is ours to resume
            let before = machine.lock().writes;
            machine.set_running(true);
            machine.wait_until(|pad| pad.writes > before);
            println!(
                "aborted: {}; the guest runs on",
                error.as_ref().map_or("no reason".into(), ToString::to_string)
            );
            ExitCode::FAILURE
        }
        (Outcome::InDoubt, error) => {
            // check the destination before anything is resumed or discarded: `finished.parked` holds the device until
            // it is taken back or released
            println!("in doubt: {}", error.as_ref().map_or("no reason".into(), ToString::to_string));
            ExitCode::from(3)
        }
    }
}

/// A virtual machine with one device and a guest that writes to it.
struct Machine {
    pad: Mutex<Scratchpad>,
    changed: Condvar,
}

/// The device: memory, and which of its pages have been written since they were last sent.
struct Scratchpad {
    memory: Vec<u8>,
    dirty: Vec<bool>,
    writes: u64,
    running: bool,
}

impl Machine {
    fn start() -> Arc<Machine> {
        let pad = Scratchpad {
            memory: vec![0; PAGES * PAGE_SIZE],
            dirty: vec![false; PAGES],
            writes: 0,
            running: true,
        };
        let machine = Arc::new(Machine { pad: Mutex::new(pad), changed: Condvar::new() });
        thread::spawn({
            let machine = Arc::clone(&machine);
            move || machine.run_guest()
        });
        machine
    }

    fn run_guest(&self) {
        let mut pad = self.lock();
        loop {
            if pad.running {
                pad.write();
                self.changed.notify_all();
            }
            let waited = self.changed.wait_timeout(pad, Duration::from_micros(100));
            pad = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn set_running(&self, running: bool) {
        self.lock().running = running;
    }

    fn wait_until(&self, is_so: impl Fn(&Scratchpad) -> bool) {
        let waited = self.changed.wait_while(self.lock(), |pad| !is_so(pad));
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, Scratchpad> {
        self.pad.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scratchpad {
    /// What the guest does: it writes a few bytes somewhere.
    fn write(&mut self) {
        self.writes += 1;
        let at = usize::try_from(self.writes.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40).unwrap_or(0);
        let at = at % (PAGES * PAGE_SIZE - 8);
        self.memory[at..at + 8].copy_from_slice(&self.writes.to_be_bytes());
        self.dirty[at / PAGE_SIZE] = true;
        self.dirty[(at + 7) / PAGE_SIZE] = true;
    }

    /// Puts a written page into `record`; false when there is none.
    fn take_dirty(&mut self, record: &mut [u8]) -> bool {
        let Some(page) = self.dirty.iter().position(|&dirty| dirty) else { return false };
        self.dirty[page] = false;
        let number = u32::try_from(page).unwrap_or(u32::MAX);
        record[..4].copy_from_slice(&number.to_be_bytes());
        record[4..].copy_from_slice(&self.memory[page * PAGE_SIZE..][..PAGE_SIZE]);
        true
    }
}

/// The device as a source.
struct Outgoing {
    machine: Arc<Machine>,
}

impl Source for Outgoing {
    fn estimate(&self) -> Option<u64> {
        Some((PAGES * RECORD_SIZE) as u64)
    }

    /// Marks every page as written, so that each is sent at least once.
    fn start(&mut self) -> Result<Flow, DeviceError> {
        self.machine.lock().dirty.fill(true);
        Ok(Flow::PreCopy)
    }

    /// Returns whole records, as many as fit. Before the stop, none means "nothing new"; after it, "the end".
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        let mut pad = self.machine.lock();
        let mut filled = 0;
        for record in buffer.chunks_exact_mut(RECORD_SIZE) {
            if !pad.take_dirty(record) {
                break;
            }
            filled += RECORD_SIZE;
        }
        Ok(filled)
    }

    /// Pages that were written since they were read. There is nothing that has to come first.
    fn precopy_info(&mut self) -> Result<Option<PreCopyInfo>, DeviceError> {
        let dirty = self.machine.lock().dirty.iter().filter(|&&dirty| dirty).count();
        Ok(Some(PreCopyInfo { initial: 0, dirty: (dirty * RECORD_SIZE) as u64 }))
    }

    /// The hook before the switchover has already paused the guest.
    fn stop(&mut self) -> Result<(), DeviceError> {
        match self.machine.lock().running {
            false => Ok(()),
            true => Err(DeviceError::Unsupported { what: "being stopped while its guest runs" }),
        }
    }

    /// Registers, and the memory's checksum, with which the destination verifies that it has all of it.
    fn config(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        let pad = self.machine.lock();
        buffer[..8].copy_from_slice(&pad.writes.to_be_bytes());
        buffer[8..12].copy_from_slice(&crc32c(0, &pad.memory).to_be_bytes());
        Ok(12)
    }

    /// The destination runs the guest: it never runs here again.
    fn release(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Nothing was taken out of the device, so there is nothing to put back.
    fn rollback(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

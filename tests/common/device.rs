//! Devices that keep a journal: what was done to them, in which order, and with which bytes. They can be made to fail,
//! to panic or to wait in a step.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use ringlift::DeviceStep;
use ringlift::error::{DeviceError, DeviceOperation, Errno};
use ringlift::sink::Sink;
use ringlift::source::{Flow, PreCopyInfo, Source};

use super::PATIENCE;

/// What a device does in a step besides recording it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    Fail,
    Panic,
    /// Waits until the test lets it go on.
    Wait,
}

/// What a device records. Clones share one journal.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal(Arc<(Mutex<Notes>, Condvar)>);

#[derive(Debug, Default)]
struct Notes {
    steps: Vec<&'static str>,
    trouble: HashMap<&'static str, Trouble>,
    bytes: Vec<u8>,
    blob: Option<Vec<u8>>,
    slices: Vec<(usize, usize)>,
}

/// The error of a device that was made to fail.
pub(crate) fn failure() -> DeviceError {
    DeviceError::Io {
        operation: DeviceOperation::Custom("failing as told"),
        errno: Errno::from_raw(nix::libc::EIO),
    }
}

impl Journal {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.0.lock().expect("a device that panics holds no lock")
    }

    pub(crate) fn expect(&self, step: &'static str, trouble: Trouble) {
        self.notes().trouble.insert(step, trouble);
    }

    /// Lets a device that waits in a step go on.
    pub(crate) fn let_go(&self, step: &'static str) {
        self.notes().trouble.remove(step);
        self.0.1.notify_all();
    }

    pub(crate) fn steps(&self) -> Vec<&'static str> {
        self.notes().steps.clone()
    }

    pub(crate) fn did(&self, step: &'static str) -> bool {
        self.notes().steps.contains(&step)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.notes().bytes.clone()
    }

    pub(crate) fn blob(&self) -> Option<Vec<u8>> {
        self.notes().blob.clone()
    }

    /// Address and length of every buffer that it received.
    pub(crate) fn slices(&self) -> Vec<(usize, usize)> {
        self.notes().slices.clone()
    }

    /// Waits until a step was begun.
    pub(crate) fn await_step(&self, step: &'static str) {
        let missing = |notes: &mut Notes| !notes.steps.contains(&step);
        let (notes, waited) = self
            .0
            .1
            .wait_timeout_while(self.notes(), PATIENCE, missing)
            .expect("no thread panics while holding it");
        assert!(!waited.timed_out(), "{step} never came, only {:?}", notes.steps);
    }

    fn step(&self, step: &'static str) -> Result<(), DeviceError> {
        let mut notes = self.notes();
        notes.steps.push(step);
        self.0.1.notify_all();
        match notes.trouble.get(step) {
            None => Ok(()),
            Some(Trouble::Fail) => Err(failure()),
            Some(Trouble::Panic) => {
                drop(notes);
                std::panic::resume_unwind(Box::new("as told"))
            }
            Some(Trouble::Wait) => {
                let held = |notes: &mut Notes| notes.trouble.contains_key(step);
                drop(
                    self.0
                        .1
                        .wait_timeout_while(notes, PATIENCE, held)
                        .expect("no thread panics while holding it"),
                );
                Ok(())
            }
        }
    }
}

/// A device at the source that holds `content`, returns it in pieces of at most `piece` bytes and, before it stops,
/// returns `early` bytes of it.
pub(crate) struct TestSource {
    pub(crate) journal: Journal,
    pub(crate) content: Vec<u8>,
    pub(crate) early: usize,
    pub(crate) piece: usize,
    pub(crate) config: Vec<u8>,
    pub(crate) at: usize,
    /// A read from here on counts as the step `fill`, which can be made to fail.
    pub(crate) trouble_at: usize,
    /// Its steps are instant.
    pub(crate) is_instant: bool,
    stopped: bool,
}

impl TestSource {
    pub(crate) fn new(content: Vec<u8>) -> (TestSource, Journal) {
        let journal = Journal::default();
        let source = TestSource {
            journal: journal.clone(),
            content,
            early: 0,
            piece: usize::MAX,
            config: Vec::new(),
            at: 0,
            trouble_at: 0,
            is_instant: false,
            stopped: false,
        };
        (source, journal)
    }
}

impl Source for TestSource {
    fn estimate(&self) -> Option<u64> {
        Some(self.content.len() as u64)
    }

    fn start(&mut self) -> Result<Flow, DeviceError> {
        self.journal.step("start")?;
        Ok(if self.early > 0 { Flow::PreCopy } else { Flow::StopCopyOnly })
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        if self.at >= self.trouble_at {
            self.journal.step("fill")?;
        }
        let end = if self.stopped { self.content.len() } else { self.early };
        let n = buffer.len().min(self.piece).min(end - self.at);
        self.journal.notes().slices.push((buffer.as_ptr().addr(), n));
        buffer[..n].copy_from_slice(&self.content[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }

    fn precopy_info(&mut self) -> Result<Option<PreCopyInfo>, DeviceError> {
        let initial = self.early.saturating_sub(self.at) as u64;
        Ok(Some(PreCopyInfo { initial, dirty: 0 }))
    }

    fn quiesce(&mut self) -> Result<(), DeviceError> {
        self.journal.step("quiesce")
    }

    fn stop(&mut self) -> Result<(), DeviceError> {
        self.journal.step("stop")?;
        self.stopped = true;
        Ok(())
    }

    fn config(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        self.journal.step("config")?;
        buffer[..self.config.len()].copy_from_slice(&self.config);
        Ok(self.config.len())
    }

    fn release(&mut self) -> Result<(), DeviceError> {
        self.journal.step("release")
    }

    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.journal.step("rollback")
    }

    fn park(&mut self) -> Result<(), DeviceError> {
        self.journal.step("park")
    }

    fn is_instant(&self, _: DeviceStep) -> bool {
        self.is_instant
    }
}

/// A device at the destination that accepts at most `piece` bytes at a time and `room` in all.
pub(crate) struct TestSink {
    pub(crate) journal: Journal,
    pub(crate) piece: usize,
    pub(crate) room: usize,
    /// Whether it keeps the bytes, and not only their addresses.
    pub(crate) keeps: bool,
    /// Its steps are instant.
    pub(crate) is_instant: bool,
}

impl TestSink {
    pub(crate) fn new() -> (TestSink, Journal) {
        let journal = Journal::default();
        let sink = TestSink {
            journal: journal.clone(),
            piece: usize::MAX,
            room: usize::MAX,
            keeps: true,
            is_instant: false,
        };
        (sink, journal)
    }
}

impl Sink for TestSink {
    fn prepare(&mut self) -> Result<(), DeviceError> {
        self.journal.step("prepare")
    }

    fn drain(&mut self, bytes: &[u8]) -> Result<usize, DeviceError> {
        self.journal.step("drain")?;
        let n = bytes.len().min(self.piece).min(self.room);
        self.room -= n;
        let mut notes = self.journal.notes();
        notes.slices.push((bytes.as_ptr().addr(), n));
        if self.keeps {
            notes.bytes.extend_from_slice(&bytes[..n]);
        }
        Ok(n)
    }

    fn config(&mut self, blob: &[u8]) -> Result<(), DeviceError> {
        self.journal.step("config")?;
        self.journal.notes().blob = Some(blob.to_vec());
        Ok(())
    }

    fn seal(&mut self) -> Result<(), DeviceError> {
        self.journal.step("seal")
    }

    fn pre_run(&mut self) -> Result<(), DeviceError> {
        self.journal.step("pre_run")
    }

    fn run(&mut self) -> Result<(), DeviceError> {
        self.journal.step("run")
    }

    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.journal.step("rollback")
    }

    fn is_instant(&self, _: DeviceStep) -> bool {
        self.is_instant
    }
}

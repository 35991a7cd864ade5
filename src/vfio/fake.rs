//! A model of the kernel for tests: its table of states, data files, and any operation failing on demand.
//!
//! The table is transcribed from the kernel's own (`vfio_mig_get_next_state` in `drivers/vfio/vfio_main.c`), so it is
//! an oracle for `state`, which is written from the documentation instead.

use std::collections::BTreeMap;
use std::io::{Seek, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use nix::errno::Errno as Raw;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::kernel::{Kernel, PrecopyInfo, Region};
use super::state::{Features, State};
use crate::error::Errno;
use crate::time::Nanos;
use State::{Error as E, PreCopy, PreCopyP2p, Resuming, Running, RunningP2p, Stop, StopCopy};

/// The kernel's table: the next step, by where a device is (rows) and where it goes (columns), both by number.
#[rustfmt::skip]
const NEXT: [[State; 8]; 8] = [
    // to:        ERROR STOP        RUNNING     STOP_COPY   RESUMING    RUNNING_P2P PRE_COPY    PRE_COPY_P2P
    /* ERROR */   [E, E,          E,          E,          E,          E,          E,          E],
    /* STOP */    [E, Stop,       RunningP2p, StopCopy,   Resuming,   RunningP2p, RunningP2p, RunningP2p],
    /* RUNNING */ [E, RunningP2p, Running,    RunningP2p, RunningP2p, RunningP2p, PreCopy,    RunningP2p],
    /* S_COPY */  [E, Stop,       Stop,       StopCopy,   Stop,       Stop,       E,          E],
    /* RESUME */  [E, Stop,       Stop,       Stop,       Resuming,   Stop,       Stop,       Stop],
    /* R_P2P */   [E, Stop,       Running,    Stop,       Stop,       RunningP2p, Running,    PreCopyP2p],
    /* PRE_C */   [E, Running,    Running,    PreCopyP2p, Running,    Running,    PreCopy,    PreCopyP2p],
    /* PRE_P2P */ [E, RunningP2p, RunningP2p, StopCopy,   RunningP2p, RunningP2p, PreCopy,    PreCopyP2p],
];

fn row(state: State) -> usize {
    state.to_kernel() as usize
}

/// The kernel's `vfio_mig_get_next_state`.
fn next(from: State, to: State, features: Features) -> Option<State> {
    let mut next = NEXT[row(from)][row(to)];
    while next != State::Error && !next.exists(features) {
        next = NEXT[row(next)][row(to)];
    }
    (next != State::Error).then_some(next)
}

/// The single steps by which the kernel brings a device from `from` to `to`.
pub(crate) fn walk(from: State, to: State, features: Features) -> Option<Vec<State>> {
    if !from.exists(features) || !to.exists(features) {
        return None;
    }
    let mut steps = Vec::new();
    let mut at = from;
    while at != to || at == State::Error {
        at = next(at, to, features)?;
        steps.push(at);
    }
    Some(steps)
}

/// What can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Info,
    Features,
    State,
    SetState,
    StopCopySize,
    Precopy,
    OptIn,
    Reset,
    Read,
    Write,
}

/// The device, seen from outside: tests keep one, the `Device` under test has the other.
#[derive(Debug, Clone)]
pub(crate) struct FakeKernel(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    features: Features,
    state: State,
    config: Vec<u8>,
    /// Bits of the config space that keep what is written; writes to the others are ignored.
    writable: Vec<u8>,
    /// Every change that was asked for and every reset, in order.
    log: Vec<Call>,
    done: BTreeMap<Operation, usize>,
    failures: Vec<Failure>,
    gives_files: bool,
    /// The clock of this kernel: it stands still but for what an arc takes.
    clock: Arc<AtomicU64>,
    slow: Vec<(State, State, Nanos)>,
    /// What a new data file contains.
    data: Vec<u8>,
    precopy_info: PrecopyInfo,
    /// The state in which the kernel was asked to report initial bytes that begin anew.
    opted_in: Option<State>,
}

/// One entry of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Set(State),
    Reset,
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    operation: Operation,
    /// Number of this operation's call, counted from 0.
    number: usize,
    errno: Raw,
    /// The state that the device is left in.
    leaves: Option<State>,
}

impl FakeKernel {
    /// A running device; `flags` are the kernel's `VFIO_MIGRATION_*`.
    pub(crate) fn new(flags: u64) -> FakeKernel {
        let (config, writable) = config_space();
        FakeKernel(Arc::new(Mutex::new(Inner {
            features: Features::from_kernel(flags),
            state: Running,
            config,
            writable,
            log: Vec::new(),
            done: BTreeMap::new(),
            failures: Vec::new(),
            gives_files: true,
            clock: Arc::default(),
            slow: Vec::new(),
            data: Vec::new(),
            precopy_info: PrecopyInfo { initial_bytes: 24, dirty_bytes: 3, reinitialised: false },
            opted_in: None,
        })))
    }

    /// As `new`, but in another state.
    pub(crate) fn in_state(flags: u64, state: State) -> FakeKernel {
        let kernel = FakeKernel::new(flags);
        kernel.inner().state = state;
        kernel
    }

    /// After `skip` more operations of this kind, the next one fails and leaves the device where it is.
    pub(crate) fn fail(&self, operation: Operation, skip: usize, errno: Raw) {
        self.fail_leaving(operation, skip, errno, None);
    }

    /// After `skip` more changes of state, the next one fails and leaves the device in `state`.
    pub(crate) fn fail_change(&self, skip: usize, errno: Raw, state: State) {
        self.fail_leaving(Operation::SetState, skip, errno, Some(state));
    }

    fn fail_leaving(&self, operation: Operation, skip: usize, errno: Raw, leaves: Option<State>) {
        let mut inner = self.inner();
        let number = inner.done.get(&operation).copied().unwrap_or(0) + skip;
        inner.failures.push(Failure { operation, number, errno, leaves });
    }

    /// From now on no session comes with a file, as if the kernel had forgotten it.
    pub(crate) fn stop_giving_files(&self) {
        self.inner().gives_files = false;
    }

    /// With another clock, which what an arc takes moves on as well.
    pub(crate) fn with_clock(self, clock: Arc<AtomicU64>) -> FakeKernel {
        self.inner().clock = clock;
        self
    }

    /// From now on this single arc takes so many nanoseconds, and no longer none.
    pub(crate) fn slow_down(&self, from: State, to: State, by: Nanos) {
        self.inner().slow.push((from, to, by));
    }

    /// From now on a data file contains this.
    pub(crate) fn set_data(&self, bytes: &[u8]) {
        self.inner().data = bytes.to_vec();
    }

    pub(crate) fn set_initial_bytes(&self, bytes: u64) {
        self.inner().precopy_info.initial_bytes = bytes;
    }

    pub(crate) fn device_state(&self) -> State {
        self.inner().state
    }

    pub(crate) fn config(&self) -> Vec<u8> {
        self.inner().config.clone()
    }

    pub(crate) fn set_config(&self, offset: usize, bytes: &[u8]) {
        self.inner().config[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn set_writable(&self, offset: usize, bits: u8) {
        self.inner().writable[offset] = bits;
    }

    /// What pre-copy could still read from now on.
    pub(crate) fn set_precopy_info(&self, info: PrecopyInfo) {
        self.inner().precopy_info = info;
    }

    /// The state in which the kernel was asked to report initial bytes that begin anew.
    pub(crate) fn opted_in(&self) -> Option<State> {
        self.inner().opted_in
    }

    /// A device that is not a PCI device.
    pub(crate) fn without_config(self) -> FakeKernel {
        self.inner().config.clear();
        self
    }

    /// The requests since the last time.
    pub(crate) fn take_log(&self) -> Vec<Call> {
        std::mem::take(&mut self.inner().log)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no test panics while it holds this")
    }
}

impl Inner {
    fn count(&mut self, operation: Operation) -> Result<(), Errno> {
        let done = self.done.entry(operation).or_default();
        let number = *done;
        *done += 1;
        let failure = self.failures.iter().find(|f| f.operation == operation && f.number == number).copied();
        match failure {
            None => Ok(()),
            Some(failure) => {
                self.state = failure.leaves.unwrap_or(self.state);
                Err(failure.errno.into())
            }
        }
    }
}

impl Kernel for FakeKernel {
    fn now(&self) -> Nanos {
        self.inner().clock.load(Ordering::Relaxed)
    }

    fn is_device(&self) -> bool {
        self.inner().count(Operation::Info).is_ok()
    }

    fn migration_flags(&self) -> Result<u64, Errno> {
        let mut inner = self.inner();
        inner.count(Operation::Features)?;
        let features = inner.features;
        Ok(u64::from(features.stop_copy())
            | u64::from(features.p2p()) << 1
            | u64::from(features.pre_copy()) << 2)
    }

    fn state(&self) -> Result<u32, Errno> {
        let mut inner = self.inner();
        inner.count(Operation::State)?;
        Ok(inner.state.to_kernel())
    }

    fn set_state(&self, number: u32) -> Result<Option<OwnedFd>, Errno> {
        let mut inner = self.inner();
        let to = State::from_kernel(number).ok_or(Raw::EINVAL)?;
        inner.log.push(Call::Set(to));
        inner.count(Operation::SetState)?;
        let mut file = None;
        for step in walk(inner.state, to, inner.features).ok_or(Raw::EINVAL)? {
            if step.has_session() && !(inner.state.saves() && step.saves()) {
                file = Some(data_file(&inner.data));
            } else if !step.has_session() {
                file = None;
            }
            let from = std::mem::replace(&mut inner.state, step);
            let slow = inner.slow.iter().find(|(begin, end, _)| (*begin, *end) == (from, step));
            inner.clock.fetch_add(slow.map_or(0, |(_, _, by)| *by), Ordering::Relaxed);
        }
        Ok(file.filter(|_| inner.gives_files))
    }

    fn stop_copy_size(&self) -> Result<u64, Errno> {
        self.inner().count(Operation::StopCopySize)?;
        Ok(96)
    }

    fn precopy_info(&self, _data: BorrowedFd<'_>) -> Result<PrecopyInfo, Errno> {
        let mut inner = self.inner();
        inner.count(Operation::Precopy)?;
        if !matches!(inner.state, PreCopy | PreCopyP2p) {
            return Err(Raw::EINVAL.into());
        }
        Ok(inner.precopy_info)
    }

    fn opt_in_to_reinit(&self) -> Result<(), Errno> {
        let mut inner = self.inner();
        inner.count(Operation::OptIn)?;
        inner.opted_in = Some(inner.state);
        Ok(())
    }

    fn reset(&self) -> Result<(), Errno> {
        let mut inner = self.inner();
        inner.log.push(Call::Reset);
        inner.count(Operation::Reset)?;
        inner.state = Running;
        Ok(())
    }

    fn config_region(&self) -> Result<Option<Region>, Errno> {
        let size = self.inner().config.len() as u64;
        Ok((size > 0).then_some(Region { size, offset: CONFIG_OFFSET }))
    }

    fn region(&self, idx: u32) -> Result<Region, Errno> {
        let config = self.config_region()?.filter(|_| idx == CONFIG_REGION);
        config.ok_or(Errno::from(Raw::EINVAL))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Errno> {
        let mut inner = self.inner();
        inner.count(Operation::Read)?;
        let at = config_offset(offset);
        buffer.copy_from_slice(inner.config.get(at..at + buffer.len()).ok_or(Raw::EINVAL)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), Errno> {
        let mut inner = self.inner();
        inner.count(Operation::Write)?;
        let at = config_offset(offset);
        for (idx, byte) in bytes.iter().enumerate() {
            let bits = inner.writable[at + idx];
            inner.config[at + idx] = (inner.config[at + idx] & !bits) | (byte & bits);
        }
        Ok(())
    }
}

fn data_file(content: &[u8]) -> OwnedFd {
    let file = memfd_create("fake-vfio-data", MFdFlags::MFD_CLOEXEC).expect("a memfd");
    let mut file = std::fs::File::from(file);
    file.write_all(content).and_then(|()| file.rewind()).expect("memory for a test's data");
    file.into()
}

const CONFIG_REGION: u32 = 7;
const CONFIG_OFFSET: u64 = 7 << 40;

fn config_offset(offset: u64) -> usize {
    usize::try_from(offset - CONFIG_OFFSET).expect("an offset in the config region")
}

/// 256 bytes of a network card, and which of their bits can be written.
fn config_space() -> (Vec<u8>, Vec<u8>) {
    let mut config = vec![0; 256];
    config[0..2].copy_from_slice(&[0xb3, 0x15]);
    config[2..4].copy_from_slice(&[0x1e, 0x10]);
    config[8..12].copy_from_slice(&[0x02, 0x00, 0x00, 0x02]);
    config[0x10..0x14].copy_from_slice(&[0x0c, 0x00, 0x00, 0xe0]);
    config[0x2c..0x30].copy_from_slice(&[0xb3, 0x15, 0x58, 0x00]);
    let mut writable = vec![0; 256];
    for (offset, bits) in [(4, 0x47), (5, 0x05), (0x0c, 0xff), (0x0d, 0xff), (0x3c, 0xff)] {
        writable[offset] = bits;
    }
    (config, writable)
}

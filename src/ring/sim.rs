//! The seeded, faulty twin of the kernel, for tests.
//!
//! Two rings share one [`World`]: connections between them, files, and time. Each side runs the real worker on its own
//! thread, but only one of them runs at a time: a side that waits hands over to the world, which carries out operations
//! in an order of its own choosing (short reads and writes, late notifications, any order of completions) and then lets
//! a side continue. Everything follows from the seed, which therefore reproduces a failure. When nothing can happen any
//! more, time jumps to the next deadline; when there is none, the world reports a deadlock.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nix::libc::{EAGAIN, ECANCELED, ECONNRESET, EIO, EPIPE};

use super::{Completion, Directions, IoMode, Job, Ring, Tag};
use crate::buffer::{Lease, Pool, Slot};
use crate::error::{Errno, KernelError, KernelOperation};
use crate::time::Nanos;

/// Bytes that a connection holds in one direction.
const SOCKET_BUFFER: usize = 20_000;
/// Steps after which a run counts as hanging.
const STEPS_MAX: u64 = 3_000_000;

/// A small random number generator (splitmix64): the same on every machine.
#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..count`.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % count as u64).unwrap()
    }

    /// True `percent` times in a hundred.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// Everything that was ever sent, if a test asked for it.
    tape: Option<Vec<u8>>,
    /// Nothing more is sent.
    ended: bool,
    /// Nanoseconds for each byte, if it has a rate, and when it brings the next ones.
    pace: Option<(Nanos, Nanos)>,
}

/// A connection: `pipes[side]` carries what that side sends.
#[derive(Debug, Default)]
struct Connection {
    pipes: [Pipe; 2],
    /// Nothing gets through any more, in either direction.
    cut: bool,
}

/// A file that a side reads or writes.
#[derive(Debug, Default, Clone)]
pub(crate) struct SimFile {
    pub(crate) content: Vec<u8>,
    /// The current position.
    pub(crate) at: usize,
    /// Operations past this many bytes fail with EIO.
    pub(crate) fails_at: Option<usize>,
}

/// A device that a test plays: gets the time and a buffer, and gives what a read does.
pub(crate) type SimDevice = Box<dyn FnMut(Nanos, &mut [u8]) -> Result<usize, Errno> + Send>;

enum Operation {
    Read {
        fd: RawFd,
        slot: Slot,
        range: Range<usize>,
    },
    Write {
        fd: RawFd,
        slot: Slot,
        range: Range<usize>,
    },
    Receive {
        fd: RawFd,
        slot: Slot,
        range: Range<usize>,
    },
    Send {
        fd: RawFd,
        lease: Lease,
        range: Range<usize>,
        zero_copy: bool,
    },
    /// Bytes that the kernel still reads after a zero-copy send.
    Notify {
        lease: Lease,
    },
    /// It ends at this time at the earliest.
    Job(Job, Nanos),
}

#[derive(Default)]
struct Side {
    operations: Vec<(Tag, Operation)>,
    ready: VecDeque<Completion>,
    /// How many more jobs run; later ones never end. All of them run unless set.
    jobs_left: Option<u32>,
    /// The host refuses it any thread.
    no_threads: bool,
    /// Threads that it asked for, and jobs that it gave to them.
    threads: usize,
    jobs: usize,
    /// Jobs with this tag, but for so many that come first, take at least so long.
    slow: Option<(Tag, u32, Nanos)>,
    /// Waiting, at most until this time.
    waiting: Option<Nanos>,
    gone: bool,
}

/// How reads and writes behave on a file whose device does not respond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hang {
    /// They end when they are cancelled.
    UntilCancelled,
    /// They never end.
    ForEver,
}

/// When all connections between the two sides are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The connection whose bytes are counted, by its sockets.
    pub(crate) socket: RawFd,
    /// The side that sends the counted bytes.
    pub(crate) side: usize,
    /// The cut comes after this many bytes: exactly these arrive.
    pub(crate) after: usize,
}

struct State {
    dice: Dice,
    /// What a job does may take time, too: it gets at this without the world.
    clock: Arc<AtomicU64>,
    steps: u64,
    /// The side that runs now.
    turn: usize,
    sides: [Side; 2],
    /// Socket to connection and side.
    sockets: HashMap<RawFd, (usize, usize)>,
    connections: Vec<Connection>,
    files: HashMap<RawFd, SimFile>,
    devices: HashMap<RawFd, SimDevice>,
    hanging: HashMap<RawFd, Hang>,
    cut: Option<Cut>,
    deadlocked: bool,
}

/// Everything outside the two workers.
pub(crate) struct World {
    state: Mutex<State>,
    changed: Condvar,
}

impl World {
    pub(crate) fn new(seed: u64) -> Arc<World> {
        let state = State {
            dice: Dice(seed),
            clock: Arc::new(AtomicU64::new(1_000_000_000)),
            steps: 0,
            turn: 0,
            // the sender begins, and the receiver waits until it may run
            sides: [Side::default(), Side { waiting: Some(0), ..Side::default() }],
            sockets: HashMap::new(),
            connections: Vec::new(),
            files: HashMap::new(),
            devices: HashMap::new(),
            hanging: HashMap::new(),
            cut: None,
            deadlocked: false,
        };
        Arc::new(World { state: Mutex::new(state), changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ring of one side: 0 is the sender's.
    pub(crate) fn ring(self: &Arc<World>, side: usize) -> SimRing {
        SimRing { world: Arc::clone(self), side }
    }

    pub(crate) fn now(&self) -> Nanos {
        self.lock().now()
    }

    /// The time itself. A job that takes time moves it on.
    pub(crate) fn clock(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lock().clock)
    }

    /// Connects two sockets, that of side 0 first.
    pub(crate) fn connect(&self, sockets: [RawFd; 2]) {
        let mut state = self.lock();
        let number = state.connections.len();
        let mut connection = Connection::default();
        connection.pipes.iter_mut().for_each(|pipe| pipe.tape = Some(Vec::new()));
        state.connections.push(connection);
        for (side, socket) in sockets.into_iter().enumerate() {
            state.sockets.insert(socket, (number, side));
        }
    }

    pub(crate) fn add_file(&self, fd: RawFd, file: SimFile) {
        self.lock().files.insert(fd, file);
    }

    /// Reads of this descriptor are those of a device.
    pub(crate) fn add_device(&self, fd: RawFd, device: SimDevice) {
        self.lock().devices.insert(fd, device);
    }

    pub(crate) fn file(&self, fd: RawFd) -> SimFile {
        self.lock().files[&fd].clone()
    }

    /// From now on reads and writes of a file do not end on their own.
    pub(crate) fn hang(&self, fd: RawFd, how: Hang) {
        self.lock().hanging.insert(fd, how);
    }

    /// From now on this side's host has no threads to spare.
    pub(crate) fn refuse_threads(&self, side: usize) {
        self.lock().sides[side].no_threads = true;
    }

    /// How many threads a side asked for, and how many jobs it gave to them.
    pub(crate) fn threads_and_jobs(&self, side: usize) -> (usize, usize) {
        let side = &self.lock().sides[side];
        (side.threads, side.jobs)
    }

    /// Lets time pass in which neither side does anything.
    pub(crate) fn advance(&self, time: Nanos) {
        self.lock().advance(time);
    }

    /// Jobs of a side after the next `count` never end.
    pub(crate) fn hang_jobs_after(&self, side: usize, count: u32) {
        self.lock().sides[side].jobs_left = Some(count);
    }

    /// Jobs of a side with this tag take at least so long.
    pub(crate) fn slow_down(&self, side: usize, tag: Tag, time: Nanos) {
        self.slow_down_after(side, tag, 0, time);
    }

    /// The same of those jobs that come after so many.
    pub(crate) fn slow_down_after(&self, side: usize, tag: Tag, count: u32, time: Nanos) {
        self.lock().sides[side].slow = Some((tag, count, time));
    }

    /// What side 0 sends on a connection takes so long for each byte.
    pub(crate) fn pace(&self, socket: RawFd, ns_per_byte: Nanos) {
        let mut state = self.lock();
        let (connection, _) = state.sockets[&socket];
        state.connections[connection].pipes[0].pace = Some((ns_per_byte, 0));
    }

    pub(crate) fn cut(&self, cut: Cut) {
        self.lock().cut = Some(cut);
    }

    /// Everything that a side sent on a connection.
    pub(crate) fn tape(&self, socket: RawFd, side: usize) -> Vec<u8> {
        let state = self.lock();
        let (connection, _) = state.sockets[&socket];
        state.connections[connection].pipes[side].tape.clone().unwrap_or_default()
    }

    /// Waits until this side may run.
    fn await_turn<'a>(&'a self, side: usize, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while state.turn != side && !state.deadlocked {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }
}

impl State {
    /// Advances the world until a side can run, and lets that side run.
    fn go_on(&mut self) {
        loop {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                self.deadlocked = true;
                return;
            }
            let now = self.now();
            let can_run = |side: &Side| {
                !side.gone && side.waiting.is_some_and(|until| !side.ready.is_empty() || until <= now)
            };
            let able: Vec<usize> = (0..2).filter(|&side| can_run(&self.sides[side])).collect();
            if !able.is_empty() && (self.dice.chance(40) || self.candidates().is_empty()) {
                let chosen = self.dice.below(able.len());
                self.turn = able[chosen];
                self.sides[self.turn].waiting = None;
                return;
            }
            if self.step() {
                continue;
            }
            let waiting = self.sides.iter().filter(|side| !side.gone);
            let deadlines = waiting.clone().filter_map(|side| side.waiting);
            let jobs =
                waiting.flat_map(|side| &side.operations).filter_map(|(_, operation)| match operation {
                    Operation::Job(_, earliest) if *earliest > now => Some(*earliest),
                    _ => None,
                });
            let arrivals = self.arrivals().filter(|at| *at > now);
            match deadlines.chain(jobs).chain(arrivals).min() {
                Some(deadline) => self.advance(deadline.saturating_sub(now)),
                None if self.sides.iter().all(|side| side.gone) => return,
                None => {
                    self.deadlocked = true;
                    return;
                }
            }
        }
    }

    /// Operations that could proceed, as side and index in its list.
    fn candidates(&self) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (side, state) in self.sides.iter().enumerate() {
            let able = |operation: &Operation| match operation {
                Operation::Send { fd, .. } => self.can_send(*fd),
                Operation::Receive { fd, .. } => self.can_receive(*fd),
                Operation::Read { fd, .. } | Operation::Write { fd, .. } => !self.hanging.contains_key(fd),
                Operation::Job(_, earliest) => state.jobs_left != Some(0) && *earliest <= self.now(),
                Operation::Notify { .. } => true,
            };
            found.extend(
                (0..state.operations.len()).filter(|&at| able(&state.operations[at].1)).map(|at| (side, at)),
            );
        }
        found
    }

    fn can_send(&self, socket: RawFd) -> bool {
        let (connection, side) = self.sockets[&socket];
        let connection = &self.connections[connection];
        let pipe = &connection.pipes[side];
        connection.cut || pipe.ended || pipe.bytes.len() < SOCKET_BUFFER
    }

    /// When paced connections bring what waits in them.
    fn arrivals(&self) -> impl Iterator<Item = Nanos> {
        let pipes = self.connections.iter().flat_map(|connection| &connection.pipes);
        pipes.filter(|pipe| !pipe.bytes.is_empty()).filter_map(|pipe| pipe.pace.map(|(_, at)| at))
    }

    fn can_receive(&self, socket: RawFd) -> bool {
        let (connection, side) = self.sockets[&socket];
        let connection = &self.connections[connection];
        let pipe = &connection.pipes[1 - side];
        let comes = pipe.pace.is_none_or(|(_, at)| at <= self.now());
        connection.cut || pipe.ended || (!pipe.bytes.is_empty() && comes)
    }

    /// Advances one operation. False when there is none.
    fn step(&mut self) -> bool {
        let candidates = self.candidates();
        if candidates.is_empty() {
            return false;
        }
        let (side, at) = candidates[self.dice.below(candidates.len())];
        let time = 1 + self.dice.next() % 50_000;
        self.advance(time);
        let (tag, operation) = self.sides[side].operations.swap_remove(at);
        let completion = match operation {
            Operation::Read { fd, mut slot, range } => {
                let result = self.read(fd, slot.bytes_mut(range));
                Completion::Moved { tag, slot, result }
            }
            Operation::Write { fd, slot, range } => {
                let result = self.write(fd, slot.bytes(range));
                Completion::Moved { tag, slot, result }
            }
            Operation::Receive { fd, mut slot, range } => {
                let result = self.receive(fd, slot.bytes_mut(range));
                Completion::Moved { tag, slot, result }
            }
            Operation::Send { fd, lease, range, zero_copy } => {
                let result = self.send(fd, lease.bytes(range));
                if zero_copy && result.is_ok() {
                    self.sides[side].operations.push((tag, Operation::Notify { lease }));
                    Completion::Sent { tag, lease: None, result }
                } else {
                    Completion::Sent { tag, lease: Some(lease), result }
                }
            }
            Operation::Notify { lease } => Completion::Released { tag, lease, copied: self.dice.chance(50) },
            Operation::Job(job, _) => {
                job();
                let left = &mut self.sides[side].jobs_left;
                *left = left.map(|left| left - 1);
                Completion::Done { tag }
            }
        };
        self.sides[side].ready.push_back(completion);
        true
    }

    fn now(&self) -> Nanos {
        self.clock.load(Ordering::Relaxed)
    }

    fn advance(&self, time: Nanos) {
        self.clock.fetch_add(time, Ordering::Relaxed);
    }

    /// How many of `possible` bytes move: often all, sometimes few.
    fn portion(&mut self, possible: usize) -> usize {
        if possible > 1 && self.dice.chance(30) { 1 + self.dice.below(possible) } else { possible }
    }

    fn read(&mut self, fd: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
        if self.devices.contains_key(&fd) {
            let (now, room) = (self.now(), self.portion(buffer.len()));
            let device = self.devices.get_mut(&fd).expect("a device of this world");
            return device(now, &mut buffer[..room]);
        }
        let left = self.files[&fd].content.len() - self.files[&fd].at;
        let count = self.portion(left.min(buffer.len()));
        let file = self.files.get_mut(&fd).expect("a file of this world");
        if file.fails_at.is_some_and(|limit| file.at + count > limit) {
            return Err(Errno::from_raw(EIO));
        }
        buffer[..count].copy_from_slice(&file.content[file.at..file.at + count]);
        file.at += count;
        Ok(count)
    }

    fn write(&mut self, fd: RawFd, bytes: &[u8]) -> Result<usize, Errno> {
        let count = self.portion(bytes.len());
        let file = self.files.get_mut(&fd).expect("a file of this world");
        if file.fails_at.is_some_and(|limit| file.content.len() + count > limit) {
            return Err(Errno::from_raw(EIO));
        }
        file.content.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn send(&mut self, socket: RawFd, bytes: &[u8]) -> Result<usize, Errno> {
        let (number, side) = self.sockets[&socket];
        let connection = &self.connections[number];
        if connection.cut || connection.pipes[side].ended {
            return Err(Errno::from_raw(if connection.cut { ECONNRESET } else { EPIPE }));
        }
        let room = SOCKET_BUFFER - connection.pipes[side].bytes.len();
        let count = self.portion(room.min(bytes.len()));
        let pipe = &mut self.connections[number].pipes[side];
        pipe.bytes.extend(&bytes[..count]);
        if let Some(tape) = &mut pipe.tape {
            tape.extend_from_slice(&bytes[..count]);
        }
        Ok(count)
    }

    fn receive(&mut self, socket: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
        let (number, side) = self.sockets[&socket];
        let sender = 1 - side;
        let waiting = self.connections[number].pipes[sender].bytes.len();
        let mut count = self.portion(waiting.min(buffer.len()));
        if self.connections[number].cut {
            let end = if self.dice.chance(50) { Ok(0) } else { Err(Errno::from_raw(ECONNRESET)) };
            return end;
        }
        // exactly the counted bytes arrive, never more and never fewer
        let watched = |cut: Cut| self.sockets.get(&cut.socket).is_some_and(|&(watched, _)| watched == number);
        let limit = self.cut.filter(|&cut| watched(cut) && cut.side == sender);
        let arrived = {
            let pipe = &self.connections[number].pipes[sender];
            pipe.tape.as_ref().map_or(0, Vec::len) - pipe.bytes.len()
        };
        if let Some(cut) = limit {
            count = count.min(cut.after - arrived);
        }
        let now = self.now();
        let pipe = &mut self.connections[number].pipes[sender];
        if let Some((ns_per_byte, at)) = &mut pipe.pace {
            *at = now.max(*at) + *ns_per_byte * count as Nanos;
        }
        for (to, from) in buffer.iter_mut().zip(pipe.bytes.drain(..count)) {
            *to = from;
        }
        if limit.is_some_and(|cut| arrived + count >= cut.after) {
            self.connections.iter_mut().for_each(|connection| connection.cut = true);
        }
        if count == 0 && limit.is_some() && !self.connections[number].pipes[sender].ended {
            return Err(Errno::from_raw(ECONNRESET));
        }
        Ok(count)
    }
}

/// One side's ring.
pub(crate) struct SimRing {
    world: Arc<World>,
    side: usize,
}

impl SimRing {
    fn begin(&mut self, tag: Tag, operation: Operation) {
        self.world.lock().sides[self.side].operations.push((tag, operation));
    }

    /// Waits until this side may run for the first time.
    pub(crate) fn arrive(&self) {
        drop(self.world.await_turn(self.side, self.world.lock()));
    }
}

impl Ring for SimRing {
    fn now(&self) -> Nanos {
        self.world.lock().now()
    }

    fn tcp_info(&self, _: RawFd, _: &mut [u8]) -> Option<usize> {
        None
    }

    fn enters(&self) -> u64 {
        0
    }

    fn read(&mut self, tag: Tag, fd: RawFd, slot: Slot, range: Range<usize>, _: IoMode) {
        self.begin(tag, Operation::Read { fd, slot, range });
    }

    fn write(&mut self, tag: Tag, fd: RawFd, slot: Slot, range: Range<usize>, _: IoMode) {
        self.begin(tag, Operation::Write { fd, slot, range });
    }

    fn receive(&mut self, tag: Tag, fd: RawFd, slot: Slot, range: Range<usize>) {
        self.begin(tag, Operation::Receive { fd, slot, range });
    }

    fn send(&mut self, tag: Tag, fd: RawFd, lease: Lease, range: Range<usize>, zero_copy: bool) {
        self.begin(tag, Operation::Send { fd, lease, range, zero_copy });
    }

    fn register(&mut self, _: &Pool) -> Result<(), KernelError> {
        Ok(())
    }

    fn can_zero_copy(&self) -> bool {
        true
    }

    fn unconfirmed(&self, fd: RawFd) -> Result<usize, KernelError> {
        let state = self.world.lock();
        let (connection, side) = state.sockets[&fd];
        Ok(state.connections[connection].pipes[side].bytes.len())
    }

    fn shut_down(&mut self, fd: RawFd, directions: Directions) {
        let mut state = self.world.lock();
        let (connection, side) = state.sockets[&fd];
        state.connections[connection].pipes[side].ended = true;
        if directions == Directions::Both {
            state.connections[connection].pipes[1 - side].ended = true;
        }
    }

    fn reserve_threads(&mut self, count: usize) -> Result<(), KernelError> {
        let side = &mut self.world.lock().sides[self.side];
        side.threads = side.threads.max(count);
        match side.no_threads {
            true => Err(KernelError::new(KernelOperation::StartThread, Errno::from_raw(EAGAIN))),
            false => Ok(()),
        }
    }

    fn spawn(&mut self, tag: Tag, job: Job) {
        let mut state = self.world.lock();
        let now = state.now();
        let side = &mut state.sides[self.side];
        let time = match &mut side.slow {
            Some((slow, left, time)) if *slow == tag && *left == 0 => *time,
            Some((slow, left, _)) if *slow == tag => {
                *left -= 1;
                0
            }
            _ => 0,
        };
        side.jobs += 1;
        side.operations.push((tag, Operation::Job(job, now + time)));
    }

    fn complete(&mut self, tag: Tag) {
        self.world.lock().sides[self.side].ready.push_back(Completion::Done { tag });
    }

    fn cancel(&mut self, meant: Tag) {
        let state = &mut *self.world.lock();
        let (side, hanging) = (&mut state.sides[self.side], &state.hanging);
        for (tag, operation) in std::mem::take(&mut side.operations) {
            let errno = Errno::from_raw(ECANCELED);
            if tag != meant {
                side.operations.push((tag, operation));
                continue;
            }
            let completion = match operation {
                kept @ (Operation::Read { fd, .. } | Operation::Write { fd, .. })
                    if hanging.get(&fd) == Some(&Hang::ForEver) =>
                {
                    side.operations.push((tag, kept));
                    continue;
                }
                Operation::Read { slot, .. }
                | Operation::Write { slot, .. }
                | Operation::Receive { slot, .. } => Completion::Moved { tag, slot, result: Err(errno) },
                Operation::Send { lease, .. } => {
                    Completion::Sent { tag, lease: Some(lease), result: Err(errno) }
                }
                kept @ (Operation::Notify { .. } | Operation::Job(..)) => {
                    side.operations.push((tag, kept));
                    continue;
                }
            };
            side.ready.push_back(completion);
        }
    }

    fn wait(&mut self, deadline: Option<Nanos>) -> Result<(), KernelError> {
        let mut state = self.world.lock();
        state.sides[self.side].waiting = Some(deadline.unwrap_or(Nanos::MAX));
        state.go_on();
        self.world.changed.notify_all();
        let state = self.world.await_turn(self.side, state);
        assert!(!state.deadlocked, "deadlock: nothing can happen any more, and somebody waits");
        Ok(())
    }

    fn next(&mut self) -> Option<Completion> {
        self.world.lock().sides[self.side].ready.pop_front()
    }
}

impl Drop for SimRing {
    fn drop(&mut self) {
        let mut state = self.world.lock();
        state.sides[self.side].gone = true;
        state.sides[self.side].operations.clear();
        state.go_on();
        self.world.changed.notify_all();
    }
}

//! Replays a capture to a QEMU that waits for a migration.
//!
//! The bytes of every connection are sent as they were captured; the ring reads and sends them, through a few slots for
//! each connection. [`barriers`] decides how far each connection may go; [`worker`] carries it out.

mod barriers;
mod connection;
mod milestones;
mod pace;
mod progress;
mod reporting;
mod return_path;
mod worker;

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::net::SocketAddr;
use std::time::Duration;

pub use self::pace::Pace;

use self::barriers::Barriers;
use self::connection::{ConnectionReplay, SLOTS};
use self::pace::Recording;
use self::progress::Progress;
use self::reporting::ReportBuilder;
use self::return_path::{BUFFER_LEN, ReturnPathReader};
use self::worker::ReplayWorker;
use super::capture::{Connection, Inspection};
use super::gather::{Gathered, connect};
use crate::buffer::Pool;
use crate::cancel::Cancel;
use crate::error::{CaptureError, CaptureOperation, CaptureProblem, Error, KernelError, Place};
use crate::limits::{PAGE_SIZE, POOL_SIZE_DEFAULT, QEMU_PIECE_MAX, QEMU_PIECE_MIN, STANDSTILL_MAX};
use crate::net;
use crate::numbers::ConnectionIdx;
use crate::report::ReplayReport;
use crate::ring;
use crate::ring::{HostRing, Ring};
use crate::time::deadlines::{Deadline, Deadlines};
use crate::time::{nanos, now};
use crate::wire::qemu::{INIT_LEN, Init, Reply};
use crate::worker::caller::{Caller, Event};
use crate::worker::guard::Guarded;
use crate::worker::hook::HookPanic;
use crate::worker::settings::Settings;

/// Replays a capture to a QEMU destination.
///
/// ```no_run
/// let capture = ringlift::qemu::capture::inspect(&["captured".into()]);
/// let replayed = ringlift::qemu::Replay::builder(capture, "192.0.2.1:4444".parse().unwrap()).build().run();
/// assert!(replayed.error.is_none());
/// ```
pub struct Replay {
    capture: Inspection,
    to: SocketAddr,
    pace: Pace,
    settings: Settings,
    on_answer: Option<OnAnswer>,
}

/// An answer from the destination of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The message.
    pub reply: Reply,
    /// The time since all connections were established.
    pub since: Duration,
}

/// Called with each answer.
type OnAnswer = Guarded<Box<dyn FnMut(&Answer) + Send>>;

/// Builds a [`Replay`]. Each method documents the default of its setting.
pub struct ReplayBuilder(Replay);

/// What to send, and when.
struct Script {
    barriers: Barriers,
    recording: Option<Recording>,
    files: Vec<File>,
}

/// How a replay ended.
#[derive(Debug)]
pub struct Replayed {
    /// Why the destination did not accept the migration; none when it did.
    pub error: Option<Error>,
    /// The figures.
    pub report: ReplayReport,
    /// The first panic of the caller's own code, which ends the replay.
    pub panic: Option<HookPanic>,
}

impl Replay {
    /// Starts building a replay of a capture, which must be complete, to a QEMU that waits at `to`.
    pub fn builder(capture: Inspection, to: SocketAddr) -> ReplayBuilder {
        ReplayBuilder(Replay {
            capture,
            to,
            pace: Pace::default(),
            settings: Settings::default(),
            on_answer: None,
        })
    }

    /// Runs it on this thread until it completes or fails.
    pub fn run(mut self) -> Replayed {
        let caller = self.settings.connecting_caller(now());
        let mut builder = ReportBuilder::new(&self.capture, self.to, self.pace);
        let error = match self.prepare(caller, &mut builder) {
            Err(error) => Some(error),
            Ok(mut worker) => {
                worker.on_answer = self.on_answer.take();
                let error = worker.run().err();
                builder.see(&worker, now());
                error
            }
        };
        Replayed { report: builder.finish(error.as_ref()), error, panic: self.settings.panics().take() }
    }

    /// Checks everything that can be checked without the destination, and then connects.
    fn prepare(
        &self,
        mut caller: Caller,
        builder: &mut ReportBuilder,
    ) -> Result<ReplayWorker<HostRing>, Error> {
        let script = self.script()?;
        let mut ring = ring::open(&caller.cancel)?;
        let pool = make_pool(self.capture.connections.len())?;
        builder.pool(&pool, ring.register(&pool).err());
        let gathered = self.connect(&caller)?;
        builder.connected(&gathered);
        caller.tell(&Event::Connected {
            peer: gathered.peer(),
            channels: gathered.channels(),
            session: None,
        });
        let sockets = std::iter::once(gathered.main).chain(gathered.multifd);
        Ok(self.worker(ring, pool, script, sockets, caller)?)
    }

    /// Prepares what to send, and when.
    fn script(&self) -> Result<Script, CaptureError> {
        if let Some(error) = self.capture.errors.first() {
            return Err(error.clone());
        }
        let barriers = milestones::barriers(&self.capture)?;
        let recording = match self.pace {
            Pace::Full => None,
            Pace::Recorded => Some(Recording::open(&self.capture)?),
        };
        let files = self.capture.connections.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Script { barriers, recording, files })
    }

    /// Creates the worker for these connections.
    fn worker<R: Ring>(
        &self,
        ring: R,
        pool: Pool,
        script: Script,
        sockets: impl Iterator<Item = net::Connection>,
        caller: Caller,
    ) -> Result<ReplayWorker<R>, KernelError> {
        let captured = &self.capture.connections;
        let len = u32::try_from(BUFFER_LEN).expect("a buffer is short");
        let mut buffers = Pool::new(u32::try_from(captured.len()).expect("connections are bounded"), len)?;
        let connections = captured.iter().zip(sockets).zip(script.files).enumerate();
        let both = connections.map(|(number, ((connection, socket), file))| {
            let number = ConnectionIdx::from_index(number);
            let return_path = ReturnPathReader::new(
                number,
                socket.fd(),
                buffers.take().expect("there is one buffer per connection"),
            );
            let place = connection.id.map_or(Place::Main, Place::Multifd);
            (
                ConnectionReplay::new(place, number, file, connection.bytes - begin(connection), socket),
                return_path,
            )
        });
        let (connections, return_paths) = both.unzip();
        let now = ring.now();
        let mut deadlines = Deadlines::NONE;
        deadlines.set(Deadline::Standstill, now + nanos(STANDSTILL_MAX));
        let begins: Vec<_> = captured.iter().map(begin).collect();
        Ok(ReplayWorker {
            ring,
            connections,
            return_paths,
            pool,
            files: captured.iter().map(|connection| connection.file.clone()).collect(),
            barriers: script.barriers,
            recording: script.recording,
            caller,
            on_answer: None,
            progress: Progress::new(&self.capture, &begins, now),
            expects_answer: self.capture.stream.return_path_at.is_some(),
            total: captured.iter().map(|connection| connection.bytes).sum(),
            deadlines,
            unacknowledged: false,
        })
    }

    fn connect(&self, caller: &Caller) -> Result<Gathered, Error> {
        let init = |connection: &Connection| Some(Init { id: connection.id?, uuid: connection.uuid?.0 });
        let inits: Vec<_> = self.capture.connections.iter().filter_map(init).collect();
        let wants_end = || caller.check(now()).is_err();
        let connected = connect(self.to, &inits, self.settings.congestion(), &wants_end);
        connected.map_err(|error| caller.reason(error))
    }
}

/// How many bytes of a connection are sent when it is made: a multifd connection's init.
fn begin(connection: &Connection) -> u64 {
    if connection.id.is_some() { INIT_LEN as u64 } else { 0 }
}

/// Opens a connection's file, at the first byte that the worker sends.
fn open(connection: &Connection) -> Result<File, CaptureError> {
    let failed = |operation| {
        move |error: std::io::Error| {
            let problem = CaptureProblem::Io { operation, errno: error.into() };
            CaptureError { file: connection.file.clone(), offset: 0, problem }
        }
    };
    let mut file = File::open(&connection.path).map_err(failed(CaptureOperation::Open))?;
    file.seek(SeekFrom::Start(begin(connection))).map_err(failed(CaptureOperation::Seek))?;
    Ok(file)
}

/// Slots for this many connections: of the fastest size, or smaller if there are many connections.
fn make_pool(connections: usize) -> Result<Pool, KernelError> {
    let slots = u32::try_from(connections * SLOTS).expect("connections are bounded");
    let share = POOL_SIZE_DEFAULT / u64::from(slots.max(1)) / PAGE_SIZE as u64 * PAGE_SIZE as u64;
    let size = share.clamp(QEMU_PIECE_MIN.into(), QEMU_PIECE_MAX.into());
    Pool::new(slots, u32::try_from(size).expect("it is at most QEMU_PIECE_MAX"))
}

impl ReplayBuilder {
    /// How fast to replay. At full speed unless set.
    pub fn pace(mut self, pace: Pace) -> ReplayBuilder {
        self.0.pace = pace;
        self
    }

    /// The TCP congestion control. The host's default unless set.
    pub fn congestion(mut self, name: impl AsRef<str>) -> ReplayBuilder {
        self.0.settings.set_congestion(name.as_ref());
        self
    }

    /// Is called with every event, on the thread that runs the replay, so it must return quickly.
    pub fn on_event(mut self, on_event: impl FnMut(&Event) + Send + 'static) -> ReplayBuilder {
        self.0.settings.set_on_event(on_event);
        self
    }

    /// Is called with every answer of the destination, on the thread that runs the replay, so it must return quickly.
    pub fn on_answer(mut self, on_answer: impl FnMut(&Answer) + Send + 'static) -> ReplayBuilder {
        self.0.on_answer = Some(Guarded::new(Box::new(on_answer)));
        self
    }

    /// Cancels the replay when `cancel` is used.
    pub fn cancel(mut self, cancel: &Cancel) -> ReplayBuilder {
        self.0.settings.set_cancel(cancel);
        self
    }

    /// Finishes building. No combination of settings is wrong.
    pub fn build(self) -> Replay {
        self.0
    }
}

#[cfg(test)]
mod tests;

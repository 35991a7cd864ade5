//! Plays a capture into a QEMU that waits for a migration.
//!
//! The bytes of every connection are sent as they were captured, read by the ring and sent by the ring, a few slots for
//! each. In which order the connections take turns is [`barriers`]' business; [`worker`] does what they allow.

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
use self::reporting::Account;
use self::return_path::{BUFFER_LEN, ReturnPathReader};
use self::worker::ReplayWorker;
use super::capture::{Connection, Inspection};
use super::gather::{Gathered, connect};
use crate::buffer::Pool;
use crate::cancel::Cancel;
use crate::error::{CaptureError, CaptureProblem, Error, KernelError, Place};
use crate::limits::{PAGE_SIZE, POOL_SIZE_DEFAULT, QEMU_PIECE_MAX, QEMU_PIECE_MIN, STANDSTILL_MAX};
use crate::net;
use crate::report::ReplayReport;
use crate::ring;
use crate::ring::{HostRing, Ring};
use crate::time::deadlines::{Deadline, Deadlines};
use crate::time::{nanos, now};
use crate::wire::qemu::{INIT_LEN, Init, Reply};
use crate::worker::caller::{Caller, Event};
use crate::worker::settings::Settings;

/// Plays a capture into a QEMU destination.
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

/// Something that the destination of a replay answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// What.
    pub reply: Reply,
    /// Since the connections were there.
    pub since: Duration,
}

/// Hears of answers.
type OnAnswer = Box<dyn FnMut(&Answer) + Send>;

/// Builds a [`Replay`]. What is not set has the value that its method names.
pub struct ReplayBuilder(Replay);

/// What is to be sent, and when.
struct Script {
    barriers: Barriers,
    recording: Option<Recording>,
    files: Vec<File>,
}

/// How a replay ended.
#[derive(Debug)]
pub struct Replayed {
    /// Why the destination did not take it; none when it did.
    pub error: Option<Error>,
    /// The figures.
    pub report: ReplayReport,
}

impl Replay {
    /// Begins to describe a replay of a capture that is whole to a QEMU that waits there.
    pub fn builder(capture: Inspection, to: SocketAddr) -> ReplayBuilder {
        ReplayBuilder(Replay {
            capture,
            to,
            pace: Pace::default(),
            settings: Settings::default(),
            on_answer: None,
        })
    }

    /// Runs it on this thread, to whatever end.
    pub fn run(mut self) -> Replayed {
        let owner = self.settings.connecting_owner(now());
        let mut account = Account::new(&self.capture, self.to, self.pace);
        let error = match self.prepare(owner, &mut account) {
            Err(error) => Some(error),
            Ok(mut worker) => {
                worker.on_answer = self.on_answer.take();
                let error = worker.run().err();
                account.see(&worker, now());
                error
            }
        };
        Replayed { report: account.finish(error.as_ref()), error }
    }

    /// Everything that can be found out before anybody is disturbed, and then the connections.
    fn prepare(&self, mut owner: Caller, account: &mut Account) -> Result<ReplayWorker<HostRing>, Error> {
        let script = self.script()?;
        let mut ring = ring::open(&owner.cancel)?;
        let pool = make_pool(self.capture.connections.len())?;
        account.pool(&pool, ring.register(&pool).err());
        let gathered = self.connect(&owner)?;
        account.connected(&gathered);
        owner.tell(&Event::Connected { peer: gathered.peer(), channels: gathered.channels() });
        let sockets = std::iter::once(gathered.main).chain(gathered.multifd);
        Ok(self.worker(ring, pool, script, sockets, owner)?)
    }

    /// What is to be sent, and when.
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

    /// The worker, whose connections are there.
    fn worker<R: Ring>(
        &self,
        ring: R,
        pool: Pool,
        script: Script,
        sockets: impl Iterator<Item = net::Connection>,
        owner: Caller,
    ) -> Result<ReplayWorker<R>, KernelError> {
        let captured = &self.capture.connections;
        let len = u32::try_from(BUFFER_LEN).expect("a buffer is short");
        let mut buffers = Pool::new(u32::try_from(captured.len()).expect("connections are bounded"), len)?;
        let connections = captured.iter().zip(sockets).zip(script.files).enumerate();
        let both = connections.map(|(number, ((connection, socket), file))| {
            let return_path = ReturnPathReader::new(
                number,
                socket.fd(),
                buffers.take().expect("there is a buffer for each"),
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
            caller: owner,
            on_answer: None,
            progress: Progress::new(&self.capture, &begins, now),
            expects_answer: self.capture.stream.return_path_at.is_some(),
            total: captured.iter().map(|connection| connection.bytes).sum(),
            deadlines,
            unacknowledged: false,
        })
    }

    fn connect(&self, owner: &Caller) -> Result<Gathered, Error> {
        let init = |connection: &Connection| Some(Init { id: connection.id?, uuid: connection.uuid?.0 });
        let inits: Vec<_> = self.capture.connections.iter().filter_map(init).collect();
        let wants_end = || owner.check(now()).is_err();
        connect(self.to, &inits, self.settings.congestion(), &wants_end)
    }
}

/// What of a connection is sent when it is made: a multifd connection's init.
fn begin(connection: &Connection) -> u64 {
    if connection.id.is_some() { INIT_LEN as u64 } else { 0 }
}

/// A connection's file, where the first byte is that the worker sends.
fn open(connection: &Connection) -> Result<File, CaptureError> {
    let failed = |operation| {
        move |error: std::io::Error| {
            let problem = CaptureProblem::Io { operation, errno: error.into() };
            CaptureError { file: connection.file.clone(), offset: 0, problem }
        }
    };
    let mut file = File::open(&connection.path).map_err(failed("open"))?;
    file.seek(SeekFrom::Start(begin(connection))).map_err(failed("seek"))?;
    Ok(file)
}

/// Slots for so many connections: the size that is fastest, or less where they are many.
fn make_pool(connections: usize) -> Result<Pool, KernelError> {
    let slots = u32::try_from(connections * SLOTS).expect("connections are bounded");
    let share = POOL_SIZE_DEFAULT / u64::from(slots.max(1)) / PAGE_SIZE as u64 * PAGE_SIZE as u64;
    let size = share.clamp(QEMU_PIECE_MIN.into(), QEMU_PIECE_MAX.into());
    Pool::new(slots, u32::try_from(size).expect("it is at most QEMU_PIECE_MAX"))
}

impl ReplayBuilder {
    /// How fast it is played. At full speed unless set.
    pub fn pace(mut self, pace: Pace) -> ReplayBuilder {
        self.0.pace = pace;
        self
    }

    /// The TCP congestion control. The host's own unless set.
    pub fn congestion(mut self, name: impl AsRef<str>) -> ReplayBuilder {
        self.0.settings.set_congestion(name.as_ref());
        self
    }

    /// Hears of what happens, on the thread that runs the replay: be quick.
    pub fn on_event(mut self, on_event: impl FnMut(&Event) + Send + 'static) -> ReplayBuilder {
        self.0.settings.set_on_event(on_event);
        self
    }

    /// Hears of what the destination answers, on the thread that runs the replay: be quick.
    pub fn on_answer(mut self, on_answer: impl FnMut(&Answer) + Send + 'static) -> ReplayBuilder {
        self.0.on_answer = Some(Box::new(on_answer));
        self
    }

    /// Cancels the replay when `cancel` is used.
    pub fn cancel(mut self, cancel: &Cancel) -> ReplayBuilder {
        self.0.settings.set_cancel(cancel);
        self
    }

    /// All of it can be done.
    pub fn build(self) -> Replay {
        self.0
    }
}

#[cfg(test)]
mod tests;

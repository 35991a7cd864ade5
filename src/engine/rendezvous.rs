//! Before station 1: listen, connect and the hello on each connection, until a session has all its connections.
//!
//! The only file that uses tokio-uring and tokio, and neither is in any signature. It must not know settings, devices
//! or packets: what comes after the hello is not read here. It keeps these: no wait without a bound or a cancel; a
//! socket that is handed on has nothing in flight, is blocking and has one owner; one that is not handed on is shut
//! down, so that its peer sees the end at once.
//!
//! Sockets are accepted and connected by readiness, because tokio-uring's accept loses a connection when it is
//! cancelled and gives none back to std. Hellos are read and written through the ring, on a second descriptor.

mod hall;
mod host;
mod socket;

use std::cell::RefCell;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use nix::sys::signal::SigSet;
use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;

use crate::error::{Error, KernelError, Misuse, PeerError, Place, Refusal, Side};
use crate::limits;
use crate::wire::{HELLO_LEN, Hello, Malformed, Role, SessionId, WELCOME_LEN, Welcome};

use hall::{Busy, Complete, Hall};
use socket::Congestion;

/// How often a waiting thread looks whether it was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(50);
/// Connections that a sender sets up at once: half of what a listener answers at once, so that there is room for two.
const WAVE: u16 = 32;
const _: () = assert!(2 * WAVE as usize <= limits::PENDING_HELLOS_MAX);
/// Bytes that are taken, and forgotten, from somebody who is turned away, so that the answer is not lost in a reset.
const DRAIN_MAX: usize = 16 << 10;
const DRAIN_STEP: usize = 1 << 10;

/// A listening address. It is open from [`bind`](Listener::bind) until the last clone is dropped; one session at a time
/// can gather or run, and others are told that it is busy.
#[derive(Debug, Clone)]
pub struct Listener {
    door: Arc<Door>,
}

#[derive(Debug)]
struct Door {
    addr: SocketAddr,
    hall: Arc<Hall>,
    host: Host,
    /// Dropped, it ends the doorkeeper.
    stop: Option<oneshot::Sender<()>>,
    doorkeeper: Option<thread::JoinHandle<()>>,
}

/// Every connection of a session, greeted. All sockets are blocking.
#[derive(Debug)]
pub(crate) struct Connections {
    /// The control connection.
    pub(crate) control: OwnedFd,
    /// The data connections, by channel number.
    pub(crate) data: Vec<OwnedFd>,
    /// The other end, if it has an address.
    pub(crate) peer: Option<SocketAddr>,
    /// Which session it is.
    pub(crate) session: SessionId,
    /// Both sides read one monotonic clock, so that their timestamps can be compared.
    pub(crate) same_clock: bool,
    /// While it lives, a listener turns others away. None on the sender's side and with an embedder's sockets.
    pub(crate) busy: Option<Busy>,
}

/// This side, in every hello: the name of its clock, and its patience.
#[derive(Debug, Clone, Copy)]
struct Host {
    clock: [u8; 16],
    hello_timeout: Duration,
    gather_timeout: Duration,
}

impl Listener {
    /// Opens `addr`; with port 0 the kernel chooses one, see [`local_addr`](Listener::local_addr).
    pub fn bind(addr: SocketAddr) -> Result<Listener, Error> {
        Listener::bind_as(addr, Host::here()?)
    }

    fn bind_as(addr: SocketAddr, host: Host) -> Result<Listener, Error> {
        let listening = socket::listen(addr)?;
        let addr = listening.local_addr().map_err(|error| KernelError::new("getsockname", error))?;
        let hall = Hall::new(1..=limits::CHANNELS_MAX);
        let (stop, stopped) = oneshot::channel();
        let (tell_ready, ready) = mpsc::sync_channel(1);
        let doorkeeper = thread::Builder::new()
            .name("ringlift-door".into())
            .spawn({
                let hall = Arc::clone(&hall);
                move || keep_door(listening, hall, host, stopped, &tell_ready)
            })
            .map_err(|error| KernelError::new("start a thread", error))?;
        let door = Door { addr, hall, host, stop: Some(stop), doorkeeper: Some(doorkeeper) };
        ready.recv().unwrap_or_else(|_| Err(thread_gone()))?;
        Ok(Listener { door: Arc::new(door) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.door.addr
    }

    /// Waits for the next session whose connections are all there. Whoever is turned away meanwhile, or was since the
    /// last call, goes to `stray`.
    pub(crate) fn next(
        &self,
        cancel: &dyn Fn() -> bool,
        stray: &mut dyn FnMut(Option<SocketAddr>, Error),
    ) -> Result<Connections, Error> {
        while !cancel() {
            let (strays, complete) = self.door.hall.wait(CANCEL_POLL);
            for (peer, error) in strays {
                stray(peer, error);
            }
            if let Some(complete) = complete {
                return Ok(Connections::listened(complete, self.door.host));
            }
            if self.door.doorkeeper.as_ref().is_none_or(thread::JoinHandle::is_finished) {
                return Err(thread_gone().into());
            }
        }
        Err(Error::Cancelled)
    }
}

impl Drop for Door {
    /// The port is free when this returns.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(doorkeeper) = self.doorkeeper.take() {
            let _ = doorkeeper.join();
        }
    }
}

impl Connections {
    fn listened(complete: Complete, host: Host) -> Connections {
        Connections {
            control: complete.control,
            data: complete.data,
            peer: complete.peer,
            session: complete.session,
            same_clock: complete.clock == host.clock,
            busy: Some(complete.busy),
        }
    }

    /// The congestion control in effect; none unless the data connections are TCP.
    pub(crate) fn congestion(&self) -> Option<Congestion> {
        self.data.first().and_then(Congestion::of)
    }

    /// Sets the congestion control of every TCP connection.
    pub(crate) fn set_congestion(&self, name: &str) -> Result<(), KernelError> {
        socket::set_congestion(std::iter::once(&self.control).chain(&self.data), name)
    }
}

impl Host {
    fn here() -> Result<Host, KernelError> {
        Ok(Host {
            clock: host::clock_name()?,
            hello_timeout: limits::HELLO_TIMEOUT,
            gather_timeout: limits::GATHER_TIMEOUT,
        })
    }
}

/// The sender's side: connects to a listener, first for control, then for `channels` data connections.
pub(crate) fn connect(
    addr: SocketAddr,
    channels: u16,
    congestion: Option<&str>,
    cancel: &dyn Fn() -> bool,
) -> Result<Connections, Error> {
    connect_as(Host::here()?, addr, channels, congestion, cancel)
}

fn connect_as(
    host: Host,
    addr: SocketAddr,
    channels: u16,
    congestion: Option<&str>,
    cancel: &dyn Fn() -> bool,
) -> Result<Connections, Error> {
    let session = host::random_session()?;
    unless_cancelled(cancel, move || async move {
        let dial = async |_: Place| Line::dial(addr, congestion).await;
        let introduced = introduce(host, session, channels, &dial).await?;
        Ok(Connections { peer: Some(addr), ..introduced })
    })
}

/// The sender's side over sockets that are already connected.
pub(crate) fn greet(
    control: OwnedFd,
    data: Vec<OwnedFd>,
    cancel: &dyn Fn() -> bool,
) -> Result<Connections, Error> {
    greet_as(Host::here()?, control, data, cancel)
}

fn greet_as(
    host: Host,
    control: OwnedFd,
    data: Vec<OwnedFd>,
    cancel: &dyn Fn() -> bool,
) -> Result<Connections, Error> {
    let session = host::random_session()?;
    let channels = count(&data)?;
    unless_cancelled(cancel, move || async move {
        let control = Socket::from(control);
        let peer = socket::peer_of(&control);
        // Each is taken once, by its number: the control connection behind the data connections.
        let lines = RefCell::new(lines(data.into_iter().map(Socket::from).chain([control]))?);
        let pick = async |place: Place| {
            let number = if let Place::Channel(number) = place { number } else { channels };
            let line = lines.borrow_mut().get_mut(usize::from(number)).and_then(Option::take);
            line.ok_or_else(|| KernelError::new("find a socket", nix::errno::Errno::EBADF).into())
        };
        let introduced = introduce(host, session, channels, &pick).await?;
        Ok(Connections { peer, ..introduced })
    })
}

/// The receiver's side over sockets that are already connected. The data sockets may come in any order: their hellos
/// say which is which.
pub(crate) fn welcome(
    control: OwnedFd,
    data: Vec<OwnedFd>,
    cancel: &dyn Fn() -> bool,
) -> Result<Connections, Error> {
    welcome_as(Host::here()?, control, data, cancel)
}

fn welcome_as(
    host: Host,
    control: OwnedFd,
    data: Vec<OwnedFd>,
    cancel: &dyn Fn() -> bool,
) -> Result<Connections, Error> {
    let channels = usize::from(count(&data)?);
    unless_cancelled(cancel, move || async move {
        let hall = Hall::new(channels..=channels);
        let control = Socket::from(control);
        let peer = socket::peer_of(&control);
        answer(Line::new(control)?, &hall, peer, host, Place::Control).await?;
        let mut answers = Vec::with_capacity(channels);
        for line in lines(data.into_iter().map(Socket::from))?.into_iter().flatten() {
            answers.push(answer(line, &hall, peer, host, Place::New));
        }
        all(answers).await?;
        let complete = hall.take().ok_or(PeerError::Closed { place: Place::Control, phase: IN_HELLO })?;
        Ok(Connections { busy: None, ..Connections::listened(complete, host) })
    })
}

const IN_HELLO: &str = "before its hello was done";

fn count(data: &[OwnedFd]) -> Result<u16, Error> {
    let given = data.len();
    let fits = (1..=limits::CHANNELS_MAX).contains(&given);
    u16::try_from(given).ok().filter(|_| fits).ok_or(Misuse::BadChannels { given }.into())
}

fn lines(sockets: impl Iterator<Item = Socket>) -> Result<Vec<Option<Line>>, Error> {
    sockets.map(|socket| Line::new(socket).map(Some).map_err(Error::from)).collect()
}

/// Says hello on every connection of a session, control first, and checks the answers.
async fn introduce(
    host: Host,
    session: SessionId,
    channels: u16,
    open: &impl AsyncFn(Place) -> Result<Line, Error>,
) -> Result<Connections, Error> {
    let hello = async |role: Role| {
        let place = match role {
            Role::Control { .. } => Place::Control,
            Role::Data { channel } => Place::Channel(channel),
        };
        let hello = Hello { session, role, boot_id: host.clock };
        within(host.hello_timeout, place, async { open(place).await?.greet(hello, place).await }).await
    };
    let (control, clock) = hello(Role::Control { channels }).await?;
    let mut data = Vec::with_capacity(usize::from(channels));
    for first in (0..channels).step_by(usize::from(WAVE)) {
        let wave = first..channels.min(first.saturating_add(WAVE));
        let greeted = all(wave.map(|channel| hello(Role::Data { channel })).collect()).await?;
        data.extend(greeted.into_iter().map(|(connection, _)| connection));
    }
    Ok(Connections { control, data, peer: None, session, same_clock: clock == host.clock, busy: None })
}

/// The doorkeeper's thread.
fn keep_door(
    listening: TcpListener,
    hall: Arc<Hall>,
    host: Host,
    stopped: oneshot::Receiver<()>,
    ready: &mpsc::SyncSender<Result<(), KernelError>>,
) {
    let kept = run(async {
        let listening =
            readiness(listening, Interest::READABLE).map_err(|error| socket::advise("epoll_ctl", &error))?;
        // Whoever binds waits for this; if it is gone, so is the need for it.
        let _ = ready.send(Ok(()));
        race(stopped, accept_all(&listening, &hall, host)).await;
        Ok::<(), KernelError>(())
    });
    if let Err(error) = kept.flatten() {
        let _ = ready.send(Err(error));
    }
}

async fn accept_all(listening: &AsyncFd<TcpListener>, hall: &Arc<Hall>, host: Host) {
    let pending = Arc::new(Semaphore::new(limits::PENDING_HELLOS_MAX));
    // Nobody closes the semaphore.
    while let Ok(permit) = Arc::clone(&pending).acquire_owned().await {
        match accept(listening).await {
            Ok((socket, peer)) => {
                tokio_uring::spawn(let_in(socket, peer, Arc::clone(hall), host, permit));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Out of descriptors or memory: it may get better, and must not spin until then.
                hall.report(None, socket::advise("accept", &error).into());
                time::sleep(limits::HEARTBEAT_INTERVAL).await;
            }
        }
    }
}

async fn accept(listening: &AsyncFd<TcpListener>) -> io::Result<(Socket, SocketAddr)> {
    loop {
        let mut guard = listening.readable().await?;
        if let Ok(accepted) = guard.try_io(|listening| listening.get_ref().accept()) {
            return accepted.map(|(socket, peer)| (socket.into(), peer));
        }
    }
}

/// One newcomer: a seat, or a reason and the door. If it is a control connection, it is looked after until its session
/// begins.
async fn let_in(socket: Socket, peer: SocketAddr, hall: Arc<Hall>, host: Host, permit: OwnedSemaphorePermit) {
    let answered = match Line::new(socket) {
        Ok(line) => answer(line, &hall, Some(peer), host, Place::New).await,
        Err(error) => Err(error.into()),
    };
    drop(permit);
    match answered {
        Ok((Hello { session, role: Role::Control { .. }, .. }, second)) => {
            watch(&hall, session, second, host).await;
        }
        Ok(_) => {}
        Err(error) => hall.report(Some(peer), error),
    }
}

/// Drops a session that does not become complete in time, or whose control connection ends before it begins.
async fn watch(hall: &Hall, session: SessionId, second: Socket, host: Host) {
    let watched = async {
        let mut closed = pin!(closed(second));
        if time::timeout(host.gather_timeout, &mut closed).await.is_err() {
            hall.expire(session);
            closed.await;
        }
        hall.abandon(session);
    };
    race(poll_fn(|context| hall.poll_left(session, context)), watched).await;
}

/// Ends when the other side has closed. What it sent stays unread.
async fn closed(second: Socket) {
    if let Ok(second) = readiness(second, Interest::READABLE) {
        while let Ok(mut guard) = second.readable().await {
            if guard.ready().is_read_closed() {
                return;
            }
            guard.clear_ready();
        }
    }
    // It cannot be watched: then its session has its time, and the one who runs it finds out.
    pending().await
}

/// Reads a hello and answers it: with a seat in `hall`, or with the reason why not. Gives back a second descriptor of
/// the connection that sits in the hall.
async fn answer(
    line: Line,
    hall: &Hall,
    peer: Option<SocketAddr>,
    host: Host,
    place: Place,
) -> Result<(Hello, Socket), Error> {
    let mut session = SessionId([0; 16]);
    let seated = async {
        let bytes = line.read::<HELLO_LEN>(place, IN_HELLO).await?;
        session = SessionId::of_hello(&bytes);
        let hello = Hello::decode(&bytes).map_err(|what| not_fitting(Side::Receiver, place, what))?;
        let admission =
            hall.admit(&hello, peer).map_err(|reason| Error::Refused { by: Side::Receiver, reason })?;
        let second = socket::duplicate(&line.socket)?;
        line.write(&welcome_of(session, host, 0), place).await?;
        Ok((hello, second, admission))
    };
    let seated = within(host.hello_timeout, place, seated).await;
    match seated {
        Ok((hello, second, admission)) => {
            admission.sit(line.hand_on());
            Ok((hello, second))
        }
        Err(error) => {
            if let Error::Refused { reason, .. } = &error {
                let answer = welcome_of(session, host, reason.to_wire().0);
                // What is wrong with a stranger's connection is no news any more.
                let _ = time::timeout(host.hello_timeout, line.turn_away(&answer, place)).await;
            }
            Err(error)
        }
    }
}

fn welcome_of(session: SessionId, host: Host, refusal: u16) -> [u8; WELCOME_LEN] {
    let mut bytes = [0; WELCOME_LEN];
    Welcome { session, boot_id: host.clock, refusal }.encode(&mut bytes);
    bytes
}

fn not_fitting(by: Side, place: Place, what: Malformed) -> Error {
    match what {
        Malformed::Version { .. } => Error::Refused { by, reason: Refusal::Version },
        _ => PeerError::Malformed { place, what }.into(),
    }
}

/// One connection during its hello. Dropped, it is shut down, which also ends what the ring still does with it.
struct Line {
    socket: Socket,
    ring: RingEnd,
}

/// The same connection, for the ring. Dropped, it shuts the connection down, unless that was handed on.
struct RingEnd {
    stream: TcpStream,
    handed_on: bool,
}

impl Line {
    fn new(socket: Socket) -> Result<Line, KernelError> {
        socket::prepare(&socket)?;
        let second = socket::duplicate(&socket)?;
        Ok(Line { socket, ring: RingEnd { stream: TcpStream::from_std(second.into()), handed_on: false } })
    }

    async fn dial(addr: SocketAddr, congestion: Option<&str>) -> Result<Line, Error> {
        let socket = socket::unconnected(addr, congestion)?;
        let connected = async {
            match socket.connect(&addr.into()) {
                Err(error) if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => {}
                other => return other,
            }
            let waiting = readiness(socket.as_fd(), Interest::WRITABLE)?;
            let _ready = waiting.writable().await?;
            socket.take_error()?.map_or(Ok(()), Err)
        };
        connected.await.map_err(|error| socket::advise("connect", &error))?;
        Ok(Line::new(socket)?)
    }

    /// The sender's half of a hello: the socket, and the name of the other side's clock.
    async fn greet(self, hello: Hello, place: Place) -> Result<(OwnedFd, [u8; 16]), Error> {
        let mut bytes = [0; HELLO_LEN];
        hello.encode(&mut bytes);
        self.write(&bytes, place).await?;
        let bytes = self.read::<WELCOME_LEN>(place, "before it answered the hello").await?;
        let welcome = Welcome::decode(&bytes).map_err(|what| not_fitting(Side::Sender, place, what))?;
        if welcome.refusal != 0 {
            return Err(Error::Refused {
                by: Side::Receiver,
                reason: Refusal::from_wire(welcome.refusal, ""),
            });
        }
        if welcome.session != hello.session {
            let message = "a welcome to another session";
            return Err(PeerError::Unexpected { message, phase: "the session was set up" }.into());
        }
        Ok((self.hand_on(), welcome.boot_id))
    }

    async fn read<const LEN: usize>(
        &self,
        place: Place,
        phase: &'static str,
    ) -> Result<[u8; LEN], PeerError> {
        let mut bytes = vec![0; LEN];
        let mut filled = 0;
        while filled < LEN {
            let (result, slice) = self.ring.stream.read(bytes.slice(filled..LEN)).await;
            bytes = slice.into_inner();
            match result {
                Ok(0) => return Err(PeerError::Closed { place, phase }),
                Ok(count) => filled += count,
                Err(error) => return Err(PeerError::Lost { place, phase, errno: error.into() }),
            }
        }
        let mut whole = [0; LEN];
        whole.copy_from_slice(&bytes);
        Ok(whole)
    }

    async fn write(&self, bytes: &[u8], place: Place) -> Result<(), PeerError> {
        let (result, _) = self.ring.stream.write_all(bytes.to_vec()).await;
        result.map_err(|error| PeerError::Lost { place, phase: "during the hello", errno: error.into() })
    }

    /// Says why not, and waits until the other side has read it and closed, within the caller's bound.
    async fn turn_away(&self, answer: &[u8], place: Place) -> Result<(), PeerError> {
        self.write(answer, place).await?;
        // The end of what this side says; that it fails means that the connection has ended already.
        let _ = self.socket.shutdown(Shutdown::Write);
        for _ in 0..DRAIN_MAX / DRAIN_STEP {
            self.read::<DRAIN_STEP>(place, IN_HELLO).await?;
        }
        Ok(())
    }

    /// Nothing is in flight on it: every read and write was waited for by the one who owns the line.
    fn hand_on(mut self) -> OwnedFd {
        self.ring.handed_on = true;
        self.socket.into()
    }
}

impl Drop for RingEnd {
    fn drop(&mut self) {
        if !self.handed_on {
            // That it fails means that the connection has ended already.
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

async fn within<T>(
    limit: Duration,
    place: Place,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let in_time = time::timeout(limit, work).await;
    in_time.unwrap_or_else(|_| Err(PeerError::HelloTimeout { place }.into()))
}

/// What comes first: nothing if `stop` does.
async fn race<T>(stop: impl Future, work: impl Future<Output = T>) -> Option<T> {
    let (mut stop, mut work) = (pin!(stop), pin!(work));
    poll_fn(|context| match stop.as_mut().poll(context) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => work.as_mut().poll(context).map(Some),
    })
    .await
}

/// All results in order, or the first error.
async fn all<T>(work: Vec<impl Future<Output = Result<T, Error>>>) -> Result<Vec<T>, Error> {
    let mut work: Vec<_> = work.into_iter().map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        for (future, result) in work.iter_mut().filter(|(_, result)| result.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(Ok(value)) => *result = Some(value),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        let done = work.iter().all(|(_, result)| result.is_some());
        if done { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await?;
    Ok(work.into_iter().filter_map(|(_, result)| result).collect())
}

/// Runs `work` on a thread of its own, because the caller's may belong to another runtime, and looks for a cancel.
fn unless_cancelled<T, F>(cancel: &dyn Fn() -> bool, work: impl FnOnce() -> F + Send) -> Result<T, Error>
where
    T: Send,
    F: Future<Output = Result<T, Error>>,
{
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell_result, result) = mpsc::sync_channel(1);
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .name("ringlift-hello".into())
            .spawn_scoped(scope, move || {
                // None if it was stopped: then nobody waits for a result.
                if let Some(done) = run(async { race(stopped, work()).await }).transpose() {
                    let _ = tell_result.send(done.map_err(Error::from).flatten());
                }
            })
            .map_err(|error| KernelError::new("start a thread", error))?;
        let outcome = loop {
            match result.recv_timeout(CANCEL_POLL) {
                Ok(done) => break done,
                Err(mpsc::RecvTimeoutError::Timeout) if !cancel() => {}
                Err(mpsc::RecvTimeoutError::Timeout) => break Err(Error::Cancelled),
                Err(mpsc::RecvTimeoutError::Disconnected) => break Err(thread_gone().into()),
            }
        };
        drop(stop);
        // A panic has been reported by then, and has become an error above.
        let _ = worker.join();
        outcome
    })
}

/// Waits for what `owner`'s descriptor is ready for, on this thread's runtime.
#[expect(
    deprecated,
    reason = "its successor is unsafe, for types that change their descriptor: these never do"
)]
fn readiness<T: AsFd + AsRawFd>(owner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(owner, interest)
}

/// Runs `work` on a runtime of this thread, which is ours: a ring that ends interrupts its thread's system calls.
fn run<T>(work: impl Future<Output = T>) -> Result<T, KernelError> {
    // Signals are for the threads of the program, and a peer that went away must not kill it with SIGPIPE.
    SigSet::all().thread_block().map_err(|errno| KernelError::new("pthread_sigmask", errno))?;
    // A ring first, because a runtime without one is left behind half built.
    let runtime = io_uring::IoUring::new(2)
        .and_then(|_ring| tokio_uring::Runtime::new(&tokio_uring::builder()))
        .map_err(|error| socket::advise("io_uring_setup", &error))?;
    Ok(runtime.block_on(work))
}

fn thread_gone() -> KernelError {
    KernelError::new("keep a thread", nix::errno::Errno::EOWNERDEAD)
}

#[cfg(test)]
mod tests;

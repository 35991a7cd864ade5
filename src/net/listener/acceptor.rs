//! The accept thread: accepts connections on a listening socket, reads their hellos concurrently, and enters them in
//! the registry. It decides nothing; the registry does.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};

use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{self, Instant};

use super::opening;
use super::pending::{PendingConnection, answer};
use super::registry::SessionRegistry;
use super::runtime::{race, readiness, run};
use crate::error::{KernelError, KernelOperation, PeerError, Place};
use crate::limits;
use crate::net::host::Host;
use crate::wire::{Hello, Role};

/// The accept thread: runs until `stopped`.
pub(super) fn accept_connections(
    listening: TcpListener,
    registry: Arc<SessionRegistry>,
    host: Host,
    stopped: oneshot::Receiver<()>,
    ready: &mpsc::SyncSender<Result<(), KernelError>>,
) {
    let kept = run(async {
        let listening = readiness(listening, Interest::READABLE)
            .map_err(|error| KernelError::new(KernelOperation::EpollControl, &error))?;
        // `bind` waits for this; if it is gone, nothing needs it.
        let _ = ready.send(Ok(()));
        race(stopped, accept_all(&listening, &registry, host)).await;
        Ok::<(), KernelError>(())
    });
    if let Err(error) = kept.flatten() {
        let _ = ready.send(Err(error));
    }
}

async fn accept_all(listening: &AsyncFd<TcpListener>, registry: &Arc<SessionRegistry>, host: Host) {
    let mut newcomers = Newcomers::new();
    loop {
        match accept(listening).await {
            Ok((socket, peer)) => {
                let (permit, displaced) = newcomers.make_room().await;
                tokio_uring::spawn(serve(socket, peer, Arc::clone(registry), host, permit, displaced));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Out of descriptors or memory: this may pass, and must not spin until then.
                registry.displace_one();
                registry.report(None, KernelError::new(KernelOperation::Accept, &error).into());
                time::sleep(limits::HEARTBEAT_INTERVAL).await;
            }
        }
    }
}

/// The connections in their hello, oldest first.
struct Newcomers {
    room: Arc<Semaphore>,
    /// When each was accepted, and how to close it. Closed channels are of connections that are through.
    oldest_first: VecDeque<(Instant, oneshot::Sender<()>)>,
}

impl Newcomers {
    fn new() -> Newcomers {
        Newcomers {
            room: Arc::new(Semaphore::new(limits::PENDING_HELLOS_MAX)),
            oldest_first: VecDeque::with_capacity(limits::PENDING_HELLOS_MAX),
        }
    }

    /// Room for one more. If there is none, the oldest is closed as soon as it has had its time.
    async fn make_room(&mut self) -> (OwnedSemaphorePermit, oneshot::Receiver<()>) {
        let permit = loop {
            self.oldest_first.retain(|(_, through)| !through.is_closed());
            let grace = self.oldest_first.front().map(|&(since, _)| since + limits::HELLO_GRACE);
            let room = Arc::clone(&self.room).acquire_owned();
            let until = grace.unwrap_or_else(|| Instant::now() + limits::HELLO_GRACE);
            if let Ok(permit) = time::timeout_at(until, room).await {
                break permit.expect("the semaphore is never closed");
            }
            if let Some((_, oldest)) = self.oldest_first.pop_front() {
                // One that is through meanwhile has made room by itself.
                let _ = oldest.send(());
            }
        };
        let (displace, displaced) = oneshot::channel();
        self.oldest_first.push_back((Instant::now(), displace));
        (permit, displaced)
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

/// One connection: it joins a session, or it is sent the reason why not and closed. A control connection is watched
/// until its session begins.
async fn serve(
    socket: Socket,
    peer: SocketAddr,
    registry: Arc<SessionRegistry>,
    host: Host,
    permit: OwnedSemaphorePermit,
    displaced: oneshot::Receiver<()>,
) {
    let answered = match PendingConnection::new(socket, Some(peer)) {
        Ok(pending) => race(displaced, answer(pending, &registry, host, Place::New)).await,
        Err(error) => Some(Err(error.into())),
    };
    drop(permit);
    match answered {
        Some(Ok((Hello { session, role: Role::Control { .. }, .. }, second))) => {
            opening::watch(&registry, session, second, host).await;
        }
        Some(Ok(_)) => {}
        Some(Err(error)) => registry.report(Some(peer), error),
        None => registry.report(Some(peer), PeerError::Displaced { place: Place::New }.into()),
    }
}

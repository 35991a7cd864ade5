//! The accept thread: accepts connections on a listening socket, reads their hellos concurrently, and enters them in
//! the registry. It decides nothing; the registry does.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::{Arc, mpsc};

use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{self, Instant};

use super::opening;
use super::pending::{PendingConnection, admit};
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
        let permit = match Arc::clone(&self.room).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.displace_oldest().await,
        };
        let (displace, displaced) = oneshot::channel();
        self.oldest_first.retain(|(_, through)| !through.is_closed());
        self.oldest_first.push_back((Instant::now(), displace));
        (permit, displaced)
    }

    /// The room of the oldest, or of one that is through before that has had its time.
    async fn displace_oldest(&mut self) -> OwnedSemaphorePermit {
        let mut room = pin!(Arc::clone(&self.room).acquire_owned());
        self.oldest_first.retain(|(_, through)| !through.is_closed());
        if let Some((since, oldest)) = self.oldest_first.pop_front() {
            match time::timeout_at(since + limits::HELLO_GRACE, &mut room).await {
                Ok(permit) => {
                    self.oldest_first.push_front((since, oldest));
                    return permit.expect(NEVER_CLOSED);
                }
                // It makes room: now, or by itself if it is through meanwhile.
                Err(_) => drop(oldest.send(())),
            }
        }
        room.await.expect(NEVER_CLOSED)
    }
}

const NEVER_CLOSED: &str = "the semaphore is never closed";

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
    let admitted = match PendingConnection::new(socket, Some(peer)) {
        Ok(pending) => race(displaced, admit(pending, &registry, host, Place::New)).await,
        Err(error) => Some(Err(error.into())),
    };
    // From here on the registry's bounds count it: its peer may have been told that it is welcome.
    drop(permit);
    let joined = match admitted {
        Some(Ok(admitted)) => admitted.welcome(host, Place::New).await,
        Some(Err(error)) => Err(error),
        None => Err(PeerError::Displaced { place: Place::New }.into()),
    };
    match joined {
        Ok((Hello { session, role: Role::Control { .. }, .. }, second)) => {
            opening::watch(&registry, session, second, host).await;
        }
        Ok(_) => {}
        Err(error) => registry.report(Some(peer), error),
    }
}

//! The accept thread: accepts connections on a listening socket, reads their hellos concurrently, and enters them in
//! the registry. It decides nothing; the registry does.

use std::future::{pending, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::{Arc, mpsc};

use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time;

use super::pending::{PendingConnection, answer};
use super::registry::SessionRegistry;
use super::runtime::{race, readiness, run};
use crate::error::{KernelError, KernelOperation, Place};
use crate::limits;
use crate::net::host::Host;
use crate::wire::{Hello, Role, SessionId};

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
    let pending = Arc::new(Semaphore::new(limits::PENDING_HELLOS_MAX));
    // The semaphore is never closed.
    while let Ok(permit) = Arc::clone(&pending).acquire_owned().await {
        match accept(listening).await {
            Ok((socket, peer)) => {
                tokio_uring::spawn(serve(socket, peer, Arc::clone(registry), host, permit));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Out of descriptors or memory: this may pass, and must not spin until then.
                registry.report(None, KernelError::new(KernelOperation::Accept, &error).into());
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

/// One connection: it joins a session, or it is sent the reason why not and closed. A control connection is watched
/// until its session begins.
async fn serve(
    socket: Socket,
    peer: SocketAddr,
    registry: Arc<SessionRegistry>,
    host: Host,
    permit: OwnedSemaphorePermit,
) {
    let answered = match PendingConnection::new(socket, Some(peer)) {
        Ok(pending) => answer(pending, &registry, host, Place::New).await,
        Err(error) => Err(error.into()),
    };
    drop(permit);
    match answered {
        Ok((Hello { session, role: Role::Control { .. }, .. }, second)) => {
            watch(&registry, session, second, host).await;
        }
        Ok(_) => {}
        Err(error) => registry.report(Some(peer), error),
    }
}

/// Drops a session that is not complete in time, or whose control connection ends before the session begins.
async fn watch(registry: &SessionRegistry, session: SessionId, second: Socket, host: Host) {
    let watched = async {
        let mut closed = pin!(closed(second));
        if time::timeout(host.gather_timeout, &mut closed).await.is_err() {
            registry.expire(session);
            closed.await;
        }
        registry.abandon(session);
    };
    race(poll_fn(|context| registry.poll_left(session, context)), watched).await;
}

/// Ends when the other side has closed. Anything it sent stays unread.
async fn closed(second: Socket) {
    if let Ok(second) = readiness(second, Interest::READABLE) {
        while let Ok(mut guard) = second.readable().await {
            if guard.ready().is_read_closed() {
                return;
            }
            guard.clear_ready();
        }
    }
    // It cannot be watched: its session then has until its time limit, and the caller that runs it finds out.
    pending().await
}

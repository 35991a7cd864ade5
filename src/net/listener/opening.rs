//! A control connection from its hello until a caller takes its session: its first message is awaited here, so that a
//! session without settings takes nothing but its place in the registry.
//!
//! It must not know what the settings mean, nor judge anything that came: whatever can be no heartbeat is for the caller
//! that takes the session. Its invariant: from the hello to the settings there is a time limit that nothing extends.

use std::future::{Future, poll_fn};
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{self, Instant};

use super::registry::{Left, SessionRegistry};
use super::runtime::readiness;
use crate::error::Refusal;
use crate::limits;
use crate::net::host::Host;
use crate::wire::{CONTROL_HEADER_LEN, Control, ControlHeader, SessionId};

/// Most bytes that are read from a connection that is turned away, so that the answer is not lost in a reset.
const DRAIN_MAX: usize = limits::CONTROL_BUFFER_SIZE;

/// Bytes that are received at a time.
const PIECE: usize = 4 << 10;
const _: () = assert!(
    CONTROL_HEADER_LEN + limits::CONTROL_BODY_MAX + PIECE <= limits::CONTROL_BUFFER_SIZE,
    "what is read before a whole message is there fits into the buffer of the caller that takes the session"
);

/// Watches a session's control connection until the session leaves: reads its first message, sends heartbeats, and drops
/// a session that is not complete or not agreed in time, or whose control connection ends.
pub(super) async fn watch(registry: &SessionRegistry, session: SessionId, second: Socket, host: Host) {
    let Ok(second) = readiness(second, Interest::READABLE) else {
        // It cannot be watched, nor its settings awaited.
        return registry.abandon(session);
    };
    let left = {
        let mut left = pin!(poll_fn(|context| registry.poll_left(session, context)));
        let mut duties: [Option<Duty<'_>>; 3] = [
            Some(Box::pin(await_opening(registry, session, &second))),
            Some(Box::pin(send_heartbeats(registry, session, &second))),
            Some(Box::pin(keep_time(registry, session, host))),
        ];
        poll_fn(|context| {
            for duty in &mut duties {
                if duty.as_mut().is_some_and(|duty| duty.as_mut().poll(context).is_ready()) {
                    *duty = None;
                }
            }
            left.as_mut().poll(context)
        })
        .await
    };
    if left == Left::TooLate {
        // It is rejected anyway; further errors on it do not matter.
        let _ = time::timeout(host.hello_timeout, turn_away(&second)).await;
    }
}

type Duty<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Reads until there is a message to act on, and then watches for the end of the connection.
async fn await_opening(registry: &SessionRegistry, session: SessionId, second: &AsyncFd<Socket>) {
    let (mut received, mut piece) = (Vec::new(), [0; PIECE]);
    while !is_opened(&mut received) {
        match receive(second, &mut piece).await {
            Ok(count @ 1..) => received.extend_from_slice(&piece[..count]),
            Ok(0) | Err(_) => return registry.abandon(session),
        }
    }
    registry.open(session, received);
    // Anything that comes now stays unread.
    while let Ok(mut guard) = second.readable().await {
        if guard.ready().is_read_closed() {
            return registry.abandon(session);
        }
        guard.clear_ready();
    }
}

/// Whether these bytes begin with a message to act on, or with none at all. Heartbeats are taken away.
fn is_opened(received: &mut Vec<u8>) -> bool {
    while let Some(head) = received.first_chunk::<CONTROL_HEADER_LEN>() {
        let Ok(header) = ControlHeader::decode(head) else { return true };
        let end = CONTROL_HEADER_LEN + header.len as usize;
        let Some(body) = received.get(CONTROL_HEADER_LEN..end) else { return false };
        if Control::decode(&header, body) != Ok(Control::Heartbeat) {
            return true;
        }
        received.drain(..end);
    }
    false
}

/// The peer counts on them from the moment when all connections are there.
async fn send_heartbeats(registry: &SessionRegistry, session: SessionId, second: &AsyncFd<Socket>) {
    let mut bytes = [0; CONTROL_HEADER_LEN];
    Control::Heartbeat.encode(&mut bytes);
    loop {
        time::sleep(limits::HEARTBEAT_INTERVAL).await;
        // A peer that takes no heartbeat gets no more: a part of one would spoil what follows.
        if registry.is_complete(session) && send_now(second, &bytes) != bytes.len() {
            return;
        }
    }
}

async fn keep_time(registry: &SessionRegistry, session: SessionId, host: Host) {
    let since = Instant::now();
    time::sleep_until(since + host.gather_timeout).await;
    registry.expire(session);
    time::sleep_until(since + host.agreement_max).await;
    registry.give_up(session);
}

/// Tells the peer that another session runs, and waits until it has closed.
async fn turn_away(second: &AsyncFd<Socket>) {
    let (code, text) = Refusal::Busy.to_wire();
    let mut bytes = vec![0; limits::CONTROL_BUFFER_SIZE];
    let len = Control::Refuse { code, text: text.into() }.encode(&mut bytes);
    send_now(second, &bytes[..len]);
    // Nothing more is sent from this side. A failure means that the connection has ended already.
    let _ = second.get_ref().shutdown(Shutdown::Write);
    let (mut drained, mut piece) = (0, [0; PIECE]);
    while drained < DRAIN_MAX
        && let Ok(count @ 1..) = receive(second, &mut piece).await
    {
        drained += count;
    }
}

/// How many bytes the socket takes without waiting.
fn send_now(second: &AsyncFd<Socket>, bytes: &[u8]) -> usize {
    send(second.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL).unwrap_or(0)
}

async fn receive(second: &AsyncFd<Socket>, piece: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut guard = second.readable().await?;
        match recv(second.as_raw_fd(), piece, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN) => guard.clear_ready(),
            Err(Errno::EINTR) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(message: &Control) -> Vec<u8> {
        let mut bytes = vec![0; limits::CONTROL_BUFFER_SIZE];
        let len = message.encode(&mut bytes);
        bytes.truncate(len);
        bytes
    }

    #[test]
    fn a_session_is_opened_by_a_whole_message_that_is_no_heartbeat() {
        let text = "given up".into();
        let (beat, abort) = (encoded(&Control::Heartbeat), encoded(&Control::Abort { code: 1, text }));
        let mut received = [&beat[..], &beat[..9]].concat();
        assert!(!is_opened(&mut received));
        assert_eq!(received, beat[..9]);
        received.extend_from_slice(&[&beat[9..], &abort[..abort.len() - 1]].concat());
        assert!(!is_opened(&mut received));
        received.extend_from_slice(&[&abort[abort.len() - 1..], b"more"].concat());
        assert!(is_opened(&mut received));
        assert_eq!(received, [&abort[..], b"more"].concat());
    }

    #[test]
    fn what_is_no_message_opens_a_session_for_the_caller_to_judge() {
        assert!(is_opened(&mut b"garbage, and more of it".to_vec()));
        let mut damaged = encoded(&Control::Heartbeat);
        damaged[15] ^= 1;
        assert!(is_opened(&mut damaged));
    }
}

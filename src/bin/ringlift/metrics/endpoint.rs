//! Answers `GET /metrics` on a thread of its own. It must not know what the page says.
//!
//! Invariant: whatever comes, it holds at most [`CONNECTIONS_MAX`] connections for at most [`PATIENCE`] each, and waits in `poll`. When
//! all places are taken, the oldest connection makes room: a scrape takes less time than that needs.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::connection::{Connection, Next};

/// Connections at the same time: Prometheus scrapes with one.
pub(super) const CONNECTIONS_MAX: usize = 4;
/// From accepting a connection to the end of it.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// After a connection could not be accepted, as when there are no descriptors left: trying again immediately would fail again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A port that nothing answers yet.
pub(super) struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
}

impl Endpoint {
    pub(super) fn bind(address: SocketAddr) -> io::Result<Endpoint> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Endpoint { listener, address })
    }

    /// With the port that was chosen for port 0.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers with what `page` gives, until the process ends.
    pub(super) fn serve(self, page: impl Fn() -> String + Send + 'static) -> io::Result<()> {
        let mut serving =
            Serving { listener: self.listener, connections: VecDeque::new(), accepts_at: None, page };
        let run = move || {
            loop {
                serving.turn();
            }
        };
        thread::Builder::new().name("metrics".to_owned()).spawn(run).map(drop)
    }
}

struct Serving<P> {
    listener: TcpListener,
    /// The oldest first.
    connections: VecDeque<Connection>,
    /// Not before: the last one could not be accepted.
    accepts_at: Option<Instant>,
    page: P,
}

impl<P: Fn() -> String> Serving<P> {
    /// Waits until something can be done, and does it.
    fn turn(&mut self) {
        if self.wait().is_err() {
            // there is no memory for it: the transfer goes first
            thread::park_timeout(ACCEPT_PAUSE);
        }
        let (now, page) = (now(), &self.page);
        self.connections.retain_mut(|one| one.go_on(page) != Next::Close && now < one.deadline);
        if self.accepts_at.is_none_or(|at| at <= now) {
            self.accept(now);
        }
    }

    fn wait(&self) -> nix::Result<()> {
        let now = now();
        let accepts_at = self.accepts_at.filter(|at| *at > now);
        let until = self.connections.iter().map(|one| one.deadline).chain(accepts_at).min();
        let mut waited: Vec<PollFd> = self.connections.iter().map(waited_for).collect();
        if accepts_at.is_none() {
            waited.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        }
        // a millisecond more than is left, of which a part may be lost in rounding
        let patience = until.map(|until| until.saturating_duration_since(now) + Duration::from_millis(1));
        let patience = patience.map_or(PollTimeout::NONE, |left| left.try_into().unwrap_or(PollTimeout::MAX));
        match poll(&mut waited, patience) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn accept(&mut self, now: Instant) {
        self.accepts_at = None;
        match self.listener.accept() {
            Ok((stream, _)) => {
                if stream.set_nonblocking(true).is_err() {
                    return;
                }
                if self.connections.len() == CONNECTIONS_MAX {
                    self.connections.pop_front();
                }
                let mut one = Connection::new(stream, now + PATIENCE);
                if one.go_on(&self.page) != Next::Close {
                    self.connections.push_back(one);
                }
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                _ => self.accepts_at = Some(now + ACCEPT_PAUSE),
            },
        }
    }
}

fn waited_for(one: &Connection) -> PollFd<'_> {
    let flags = if one.writes() { PollFlags::POLLOUT } else { PollFlags::POLLIN };
    PollFd::new(one.stream.as_fd(), flags)
}

#[expect(clippy::disallowed_methods, reason = "the command has no ring that has the clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn serve(page: impl Fn() -> String + Send + 'static) -> SocketAddr {
        let endpoint = Endpoint::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = endpoint.address();
        endpoint.serve(page).unwrap();
        address
    }

    fn connect(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// What is answered to a request, until the connection is closed.
    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = connect(address);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    const SCRAPE: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

    #[test]
    fn a_page_larger_than_a_sockets_buffer_comes_whole() {
        let address = serve(|| "x".repeat(20 << 20));
        let answer = ask(address, SCRAPE);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("Content-Length: 20971520\r\n"), "{head}");
        assert_eq!(body.len(), 20 << 20);
        assert!(ask(address, "HEAD /metrics HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
    }

    #[test]
    fn peers_that_send_nothing_or_garbage_or_never_end_keep_no_one_out() {
        let address = serve(|| "up 1\n".to_owned());
        let silent: Vec<_> = (0..1000).map(|_| connect(address)).collect();
        for (idx, mut stream) in silent.iter().enumerate() {
            // some are closed already
            let _ = match idx % 3 {
                0 => Ok(()),
                1 => stream.write_all(b"\x16\x03\x01\x02\x00"),
                _ => stream.write_all(b"GET /metr"),
            };
        }
        assert!(ask(address, SCRAPE).ends_with("\r\n\r\nup 1\n"));
        let endless = ask(address, &format!("GET / HTTP/1.1\r\nCookie: {}\r\n\r\n", "x".repeat(100_000)));
        assert!(endless.starts_with("HTTP/1.1 431 "), "{endless}");
        assert!(ask(address, "\u{1}\u{2}\r\n\r\n").starts_with("HTTP/1.1 400 "));
        assert!(ask(address, SCRAPE).ends_with("\r\n\r\nup 1\n"));
    }

    #[test]
    fn a_peer_that_sends_its_request_byte_by_byte_is_closed_in_time() {
        let address = serve(String::new);
        let begun = now();
        let mut slow = connect(address);
        slow.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let is_open = |stream: &mut TcpStream| {
            let written = stream.write_all(b"x").is_ok();
            written && matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
        };
        while is_open(&mut slow) {
            assert!(now() - begun < 3 * PATIENCE, "it is still open");
        }
        assert!(now() - begun >= PATIENCE - Duration::from_millis(200));
    }

    #[test]
    fn a_peer_that_does_not_read_is_closed_in_time() {
        let address = serve(|| "x".repeat(20 << 20));
        let mut greedy = connect(address);
        greedy.write_all(SCRAPE.as_bytes()).unwrap();
        assert!(ask(address, SCRAPE).starts_with("HTTP/1.1 200 "));
        thread::park_timeout(PATIENCE + Duration::from_millis(500));
        let mut answer = Vec::new();
        // an error if the kernel has thrown away what was not read
        let _ = greedy.read_to_end(&mut answer);
        assert!(answer.len() < 20 << 20, "{}", answer.len());
    }

    #[test]
    fn a_panic_while_the_page_is_made_is_an_error_for_its_reader_alone() {
        let broken = std::sync::atomic::AtomicBool::new(true);
        let address = serve(move || {
            assert!(!broken.swap(false, std::sync::atomic::Ordering::Relaxed), "the first page is broken");
            "up 1\n".to_owned()
        });
        assert!(ask(address, SCRAPE).starts_with("HTTP/1.1 500 "));
        assert!(ask(address, SCRAPE).ends_with("up 1\n"));
    }

    #[test]
    fn a_port_in_use_is_an_error() {
        let endpoint = Endpoint::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = Endpoint::bind(endpoint.address()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }
}

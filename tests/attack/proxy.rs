//! A proxy between a sender and a receiver. It forwards bytes through a tap for each direction of each connection; what
//! a tap does to them is not its business. Invariant: whatever a tap does, both sides see each other close, unless the
//! tap became a black hole.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ringlift::limits::HELLO_TIMEOUT;
use ringlift::wire::{HELLO_LEN, Hello, Role};
use socket2::SockRef;

/// How often a blocked write looks whether its connection has been cut.
const WRITE_POLL: Duration = Duration::from_millis(50);

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    ToReceiver,
    ToSender,
}

/// How connections are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Close,
    Reset,
}

/// What is done to the bytes of one direction of a connection.
pub(crate) trait Tap: Send {
    /// Some bytes came. An error ends the direction.
    fn pass(&mut self, bytes: &[u8], pipe: &mut Pipe) -> io::Result<()>;
}

/// Makes the tap of one direction of a connection.
pub(crate) type Taps = Box<dyn Fn(Role, Direction) -> Box<dyn Tap> + Send + Sync>;

/// The direction of a connection that a tap writes to.
pub(crate) struct Pipe {
    link: Arc<Link>,
    direction: Direction,
    is_hole: bool,
}

/// All connections of a proxy.
#[derive(Clone, Default)]
pub(crate) struct Links(Arc<Mutex<Vec<Weak<Link>>>>);

/// One connection: two sockets.
struct Link {
    sender: TcpStream,
    receiver: TcpStream,
    is_cut: AtomicBool,
}

/// A listening proxy. Dropping it closes every connection.
pub(crate) struct Proxy {
    addr: SocketAddr,
    is_over: Arc<AtomicBool>,
    links: Links,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(crate) fn start(receiver: SocketAddr, links: &Links, taps: Taps) -> Proxy {
        let listening = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (addr, is_over) = (listening.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let (over, known, taps) = (Arc::clone(&is_over), links.clone(), Arc::new(taps));
        let accepting = thread::spawn(move || {
            while let Ok((sender, _)) = listening.accept() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let (links, taps) = (known.clone(), Arc::clone(&taps));
                thread::spawn(move || forward(sender, receiver, &links, &taps));
            }
        });
        Proxy { addr, is_over, links: links.clone(), accepting: Some(accepting) }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let woken = TcpStream::connect(self.addr).is_ok();
        if let Some(accepting) = self.accepting.take().filter(|_| woken) {
            let _ = accepting.join();
        }
        self.links.cut(Cut::Close);
    }
}

/// One connection, until both of its directions have ended. A connection that fails on the way is what an attack wants.
fn forward(sender: TcpStream, receiver: SocketAddr, links: &Links, taps: &Taps) {
    let mut hello = [0; HELLO_LEN];
    let _ = sender.set_read_timeout(Some(HELLO_TIMEOUT));
    if (&sender).read_exact(&mut hello).is_err() {
        return;
    }
    let Ok(Hello { role, .. }) = Hello::decode(&hello) else { return };
    let Ok(receiver) = TcpStream::connect(receiver) else { return };
    for socket in [&sender, &receiver] {
        let _ = socket.set_nodelay(true);
        let _ = socket.set_read_timeout(None);
        let _ = socket.set_write_timeout(Some(WRITE_POLL));
    }
    let link = Arc::new(Link { sender, receiver, is_cut: AtomicBool::new(false) });
    links.0.lock().unwrap().push(Arc::downgrade(&link));
    let (mut there, mut back) = (taps(role, Direction::ToReceiver), taps(role, Direction::ToSender));
    let opposite = Arc::clone(&link);
    thread::spawn(move || pump(opposite, Direction::ToSender, &[], &mut *back));
    pump(link, Direction::ToReceiver, &hello, &mut *there);
}

fn pump(link: Arc<Link>, direction: Direction, first: &[u8], tap: &mut dyn Tap) {
    let mut pipe = Pipe { link, direction, is_hole: false };
    if pipe.pump(first, tap).is_ok() && !pipe.link.is_cut() {
        let _ = pipe.to().shutdown(Shutdown::Write);
    }
}

impl Pipe {
    fn pump(&mut self, first: &[u8], tap: &mut dyn Tap) -> io::Result<()> {
        if !first.is_empty() {
            tap.pass(first, self)?;
        }
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = self.from().read(&mut buffer)?;
            if self.is_hole {
                // nothing comes out of it, not even the end
                if read == 0 {
                    self.link.await_cut();
                }
            } else if read > 0 {
                tap.pass(&buffer[..read], self)?;
            }
            if read == 0 {
                return Ok(());
            }
        }
    }

    fn from(&self) -> &TcpStream {
        match self.direction {
            Direction::ToReceiver => &self.link.sender,
            Direction::ToSender => &self.link.receiver,
        }
    }

    fn to(&self) -> &TcpStream {
        match self.direction {
            Direction::ToReceiver => &self.link.receiver,
            Direction::ToSender => &self.link.sender,
        }
    }

    /// Forwards bytes.
    pub(crate) fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() && !self.is_hole {
            match self.to().write(bytes) {
                Ok(len) => bytes = &bytes[len..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.link.is_cut() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// From now on this direction forwards nothing, and stays open.
    pub(crate) fn swallow(&mut self) {
        self.is_hole = true;
    }

    /// Cuts this connection.
    pub(crate) fn cut(&self, how: Cut) -> io::Error {
        self.link.cut(how);
        io::ErrorKind::ConnectionAborted.into()
    }
}

impl Links {
    /// Cuts every connection.
    pub(crate) fn cut(&self, how: Cut) {
        let links = self.0.lock().unwrap();
        links.iter().filter_map(Weak::upgrade).for_each(|link| link.cut(how));
    }
}

impl Link {
    fn cut(&self, how: Cut) {
        self.is_cut.store(true, Ordering::SeqCst);
        for socket in [&self.sender, &self.receiver] {
            let _ = match how {
                Cut::Close => socket.shutdown(Shutdown::Both),
                // the last owner of the link closes it, and that sends the reset; until then nothing is sent
                Cut::Reset => SockRef::from(socket)
                    .set_linger(Some(Duration::ZERO))
                    .and_then(|()| socket.shutdown(Shutdown::Read)),
            };
        }
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::SeqCst)
    }

    fn await_cut(&self) {
        while !self.is_cut() {
            thread::sleep(WRITE_POLL);
        }
    }
}

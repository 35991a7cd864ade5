//! A hand-written QEMU source: it connects as one, and sends what a real one sent, as it was or modified by the test.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::thread;

use ringlift::wire::qemu::{Deframer, Frame, INIT_LEN, Packet, PageSize};

use super::PATIENCE;

/// What travels on each connection of a migration, from the source to the destination.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    pub(crate) main: Vec<u8>,
    /// By number, inits included.
    pub(crate) multifd: Vec<Vec<u8>>,
}

impl Streams {
    /// A capture of `tests/fixtures/qemu`.
    pub(crate) fn of(name: &str) -> Streams {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qemu").join(name);
        let read = |name: &str| std::fs::read(folder.join(name)).ok();
        let multifd = (0..).map_while(|id| read(&format!("multifd-{id}.bin"))).collect();
        Streams { main: read("main.bin").expect("a capture"), multifd }
    }

    /// Where each packet of a channel begins, with what it is.
    pub(crate) fn packets(&self, channel: usize) -> Vec<(usize, Packet)> {
        let (mut found, mut deframer) = (Vec::new(), Deframer::new(PageSize::default()));
        let mut rest = &self.multifd[channel][..];
        while let (taken, Some(frame)) = deframer.next(rest).expect("a good stream") {
            rest = &rest[taken..];
            if let Frame::Begin { packet, offset } = frame {
                found.push((usize::try_from(offset).expect("small"), packet));
            }
        }
        found
    }

    /// The first device packet: its channel and where it begins.
    pub(crate) fn device_packet(&self) -> (usize, usize) {
        let is_device = |packet: &Packet| matches!(packet, Packet::Device(_));
        let find =
            |channel| Some((channel, self.packets(channel).iter().find(|(_, packet)| is_device(packet))?.0));
        (0..self.multifd.len()).find_map(find).expect("state travels on the channels")
    }

    /// Writes over some bytes of a channel.
    pub(crate) fn overwrite(&mut self, channel: usize, at: usize, bytes: &[u8]) {
        self.multifd[channel][at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// The connections of a source.
pub(crate) struct Source {
    pub(crate) main: TcpStream,
    pub(crate) multifd: Vec<TcpStream>,
}

impl Source {
    /// Opens all connections, and sends the inits of the multifd connections, the last first.
    pub(crate) fn connect(addr: SocketAddr, streams: &Streams) -> Source {
        let main = dial(addr);
        let mut multifd: Vec<_> = streams.multifd.iter().map(|_| dial(addr)).collect();
        for (stream, bytes) in multifd.iter_mut().zip(&streams.multifd).rev() {
            stream.write_all(&bytes[..INIT_LEN]).expect("sent");
        }
        Source { main, multifd }
    }

    /// Sends everything, on all connections in parallel. The destination may have given up already.
    pub(crate) fn send(&mut self, streams: &Streams) {
        thread::scope(|scope| {
            for (stream, bytes) in self.multifd.iter_mut().zip(&streams.multifd) {
                scope.spawn(move || stream.write_all(&bytes[INIT_LEN..]));
            }
            let _ = self.main.write_all(&streams.main);
        });
    }

    /// Reads what the destination sends, up to SHUT or until it closes.
    pub(crate) fn read_replies(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        let mut header = [0; 4];
        while self.main.read_exact(&mut header).is_ok() {
            let mut body = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]]))];
            self.main.read_exact(&mut body).expect("a whole answer");
            heard.extend([&header[..], &body].concat());
            if header[1] == 1 {
                break;
            }
        }
        heard
    }

    /// Closes the sending direction of all connections.
    pub(crate) fn close_all(&self) {
        for stream in self.multifd.iter().chain([&self.main]) {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    /// Closes one of the multifd connections.
    pub(crate) fn close(&self, channel: usize) {
        let _ = self.multifd[channel].shutdown(Shutdown::Write);
    }
}

/// Runs a whole migration, until the destination has ended it; returns what the destination sent.
pub(crate) fn migrate(addr: SocketAddr, streams: &Streams, return_path: bool) -> Vec<u8> {
    let mut source = Source::connect(addr, streams);
    source.send(streams);
    if return_path { source.read_replies() } else { Vec::new() }
}

pub(crate) fn dial(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("a destination listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
    stream.set_write_timeout(Some(PATIENCE)).expect("a bound");
    stream
}

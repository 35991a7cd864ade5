//! A hand-written QEMU destination: it reads as a real one does, and stops where a real one stops.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use ringlift::wire::qemu::{
    Command, Event, INIT_LEN, Init, MainStream, PREFIX_LEN, Packet, PageSize, REPLY_LEN_MAX, Reply,
    TailScanner,
};
use socket2::SockRef;

use super::PATIENCE;

/// How a destination behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manners {
    /// State travels on the channels: the migration ends when all of it has arrived.
    pub(crate) awaits_packets: bool,
    /// It acknowledges the switchover.
    pub(crate) acks: bool,
    /// It gives up after reading this many bytes of one connection: main is 0, channels follow.
    pub(crate) leaves: Option<(usize, usize)>,
    /// The value of its SHUT, sent when the source opened the return path.
    pub(crate) shut: Option<u32>,
}

impl Default for Manners {
    fn default() -> Manners {
        Manners { awaits_packets: true, acks: true, leaves: None, shut: Some(0) }
    }
}

/// What arrived: the bytes of main and of every channel, and when.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) main: Vec<u8>,
    pub(crate) multifd: Vec<Vec<u8>>,
    /// For main: numbers of bytes, and when they had arrived.
    pub(crate) times: Vec<(usize, Instant)>,
}

/// Where the threads of a destination wait for each other.
#[derive(Default)]
struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// SYNC packets that each channel has read, and flush flags that main has.
    synced: Vec<usize>,
    flushed: usize,
    /// Packets of device state that arrived, and the number of the last one.
    packets: usize,
    last: Option<usize>,
    gone: bool,
}

impl Progress {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().expect("no panic"));
        self.changed.notify_all();
    }

    /// False when the destination has given up.
    fn wait(&self, until: impl Fn(&State) -> bool) -> bool {
        let state = self.state.lock().expect("no panic");
        let wait = self.changed.wait_timeout_while(state, PATIENCE, |state| !state.gone && !until(state));
        let (state, timeout) = wait.expect("no panic");
        assert!(!timeout.timed_out(), "the destination waits for ever");
        !state.gone
    }
}

/// A destination that listens.
pub(crate) struct Destination {
    listener: TcpListener,
    channels: usize,
}

impl Destination {
    pub(crate) fn listen(channels: usize) -> Destination {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        // small windows: a source that sends out of order fills them
        SockRef::from(&listener).set_recv_buffer_size(8 << 10).expect("a size");
        Destination { listener, channels }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }

    /// Accepts one migration.
    pub(crate) fn take(self, manners: Manners) -> Taken {
        let (main, multifd) = self.gather();
        let progress = Arc::new(Progress::default());
        progress.change(|state| state.synced = vec![0; multifd.len()]);
        let everyone: Vec<_> = std::iter::once(&main)
            .chain(&multifd)
            .map(|stream| stream.try_clone().expect("a handle"))
            .collect();
        let threads: Vec<_> = (0..)
            .zip(multifd)
            .map(|(id, stream)| {
                let (progress, limit) = (Arc::clone(&progress), manners.limit(id + 1));
                thread::spawn(move || Reading { stream, taken: Vec::new(), limit, progress }.channel(id))
            })
            .collect();
        let reading = Reading { stream: main, taken: Vec::new(), limit: manners.limit(0), progress };
        let (taken, times) = reading.main(manners);
        // of one that gives up only main is closed beside the connection that it gave up: whoever looks at the source's error
        // knows which of the two it can name
        let closed = if manners.leaves.is_some() { 1 } else { everyone.len() };
        for stream in &everyone[..closed] {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let multifd = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        Taken { main: taken, multifd, times }
    }

    /// Accepts every connection and identifies it by its first bytes; they may come in any order.
    fn gather(&self) -> (TcpStream, Vec<TcpStream>) {
        let mut streams: Vec<_> =
            (0..=self.channels).map(|_| self.listener.accept().expect("comes").0).collect();
        for stream in &streams {
            stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
        }
        let is_multifd = |stream: &TcpStream| {
            let mut first = [0; 1];
            stream.peek(&mut first).expect("it sends something") == 1 && first[0] == 0x11
        };
        let at = streams.iter().position(|stream| !is_multifd(stream)).expect("main came");
        let main = streams.remove(at);
        let id = |stream: &TcpStream| {
            let mut bytes = [0; INIT_LEN];
            while stream.peek(&mut bytes).expect("an init") < INIT_LEN {}
            Init::decode(&bytes).expect("an init").id
        };
        streams.sort_by_key(id);
        (main, streams)
    }
}

impl Manners {
    fn limit(&self, connection: usize) -> usize {
        self.leaves.filter(|(leaves, _)| *leaves == connection).map_or(usize::MAX, |(_, after)| after)
    }
}

/// One connection.
struct Reading {
    stream: TcpStream,
    taken: Vec<u8>,
    /// It gives up after this many bytes.
    limit: usize,
    progress: Arc<Progress>,
}

impl Reading {
    /// Reads exactly `count` bytes; false at the end.
    fn read(&mut self, count: usize) -> bool {
        let begin = self.taken.len();
        let wanted = count.min(self.limit - begin);
        self.taken.resize(begin + wanted, 0);
        let came = match self.stream.read_exact(&mut self.taken[begin..]) {
            Ok(()) => wanted == count,
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::WouldBlock, "nothing arrived for too long");
                self.taken.truncate(begin);
                false
            }
        };
        if self.taken.len() >= self.limit {
            self.progress.change(|state| state.gone = true);
        }
        came
    }

    /// Reads packets, and stops after a SYNC until all channels have got that far.
    fn channel(mut self, id: usize) -> Vec<u8> {
        let mut synced = 0;
        self.read(INIT_LEN);
        while self.read(PREFIX_LEN) {
            let prefix = self.taken.last_chunk().expect("it was read");
            let packet = Packet::decode(prefix, PageSize::default()).expect("a packet");
            if !self.read(packet.rest() as usize) {
                break;
            }
            match packet {
                Packet::Sync(_) => {
                    synced += 1;
                    self.progress.change(|state| state.synced[id] = synced);
                    if !self.progress.wait(|state| state.flushed >= synced) {
                        break;
                    }
                }
                Packet::Device(packet) => self.progress.change(|state| {
                    state.packets += 1;
                    state.last = state.last.or(packet.config.then_some(packet.idx as usize));
                }),
                Packet::Ram(_) => {}
            }
        }
        if self.taken.len() >= self.limit {
            let _ = self.stream.shutdown(Shutdown::Both);
        }
        self.taken
    }

    /// Reads main, and stops at a flush until every channel is at its SYNC.
    #[expect(clippy::disallowed_methods, reason = "records when bytes arrived")]
    fn main(mut self, manners: Manners) -> (Vec<u8>, Vec<(usize, Instant)>) {
        let (mut stream, mut tail, mut times) = (MainStream::new(), None::<TailScanner>, Vec::new());
        let mut answers = false;
        let mut flushed = 0;
        while tail.as_ref().is_none_or(|tail| tail.ended().is_none()) && self.read(1) {
            times.push((self.taken.len(), Instant::now()));
            let byte = *self.taken.last_chunk::<1>().expect("it was read");
            if let Some(tail) = &mut tail {
                tail.take(&byte).expect("a tail");
                continue;
            }
            let (_, event) = stream.next(&byte).expect("a main connection");
            match event {
                Some(Event::Command(Command::OpenReturnPath)) => answers = true,
                Some(Event::Command(Command::Ping(value))) => self.send(Reply::Pong(value)),
                Some(Event::VfioInitDataSent) if answers && manners.acks => self.send(Reply::SwitchoverAck),
                Some(Event::RamFlush) => {
                    flushed += 1;
                    if !self.progress.wait(|state| state.synced.iter().all(|synced| *synced >= flushed)) {
                        break;
                    }
                    self.progress.change(|state| state.flushed = flushed);
                }
                Some(Event::Tail) => tail.get_or_insert_with(TailScanner::new).take(&byte).expect("a tail"),
                _ => {}
            }
        }
        if manners.leaves.is_none() && manners.awaits_packets {
            self.progress.wait(|state| state.last.is_some_and(|last| state.packets > last));
        }
        if let Some(word) = manners.shut.filter(|_| answers) {
            self.send(Reply::Shut(word));
        }
        (self.taken, times)
    }

    fn send(&mut self, reply: Reply) {
        let mut bytes = [0; REPLY_LEN_MAX];
        let len = reply.encode(&mut bytes);
        self.stream.write_all(&bytes[..len]).expect("the source listens");
    }
}
